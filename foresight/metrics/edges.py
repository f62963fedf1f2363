"""Edge F1: how much of the outlines that two images show is in the same place; for photos, which have no object masks.

Shapes: B images (B, 3, H, W), sRGB in [0, 1]; edges (B, H, W) bool.
"""

import numpy as np
import torch
import torch.nn.functional as F
from skimage.color import rgb2gray
from skimage.feature import canny
from torch import Tensor

BLUR = 3.0  # pixels: outlines stay, texture goes; another photo then agrees by 0.21, the VAE's round trip by 0.97
TOLERANCE = 2  # pixels across and down; benchmarks of boundaries allow 0.75 % of the diagonal, 2.4 at 224²


def edges(images: Tensor) -> Tensor:
    """The edges of images (B, 3, H, W), on their device: scikit-image's Canny detector on grey, one image at a time.

    Source: Canny, "A computational approach to edge detection", 1986.
    """
    grey = rgb2gray(images.float().cpu().numpy(), channel_axis=1)  # (B, H, W)
    return torch.from_numpy(np.stack([canny(image, sigma=BLUR) for image in grey])).to(images.device)


def edge_f1(a: Tensor, b: Tensor) -> Tensor:
    """The boundary F-measure of edges, from 0 to 1: higher is better, 1 where each lies near one of the other image.

    Of two images without edges it is 1, of one without 0.
    Source: Martin et al., "Learning to detect natural image boundaries", 2004; matched as in Perazzi et al., "A
    benchmark dataset and evaluation methodology for video object segmentation", 2016, by a neighbourhood.

    Args:
        a, b: edges (B or 1, H, W) bool.

    Returns:
        (B,) float32.
    """
    precision, recall = _share_near(b, a), _share_near(a, b)
    return (2 * precision * recall / (precision + recall)).nan_to_num(0)


def _share_near(a: Tensor, b: Tensor) -> Tensor:
    """The share (B,) of the pixels of `a` that have one of `b` within TOLERANCE; 1 where `a` is empty."""
    near = F.max_pool2d(b[:, None].float(), 2 * TOLERANCE + 1, 1, TOLERANCE)[:, 0] > 0
    count = a.flatten(1).sum(1)
    return torch.where(count > 0, (a & near).flatten(1).sum(1) / count, 1.0)
