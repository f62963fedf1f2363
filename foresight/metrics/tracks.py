"""Where things are in each frame of a clip, and how far it moves: read off the pixels alone.

Shapes: F frames of H × W pixels, N objects. Positions and velocities are in pixels, x then y; a pixel's centre is at
a half.
"""

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from skimage.registration import phase_cross_correlation
from torch import Tensor

from foresight.metrics.masks import foreground

LEAST_PIXELS = 20  # of an object, that its centroid may count
_EDGE = 2  # pixels over which colours at an edge are mixed
_UPSAMPLE = 20  # parts of a pixel to which the shift of whole frames is found


def find_objects(frames: Tensor, colors: Tensor, mask: Tensor | None = None) -> Tensor:
    """Each object's pixels, told apart by colour and by nothing else: (F, N, H, W) bool.

    frames: (F, 3, H, W) in [0, 1]. colors: (N, 3) in [0, 1], all different. What stands out from the background goes to
    the object of the nearest colour; mixed pixels at an edge go with their nearest neighbour inside; what is a pixel
    wide belongs to none, since two colours' mixture may be a third object's. mask: (F, H, W) bool, what stands out, as
    `foreground` finds it.
    """
    mask = foreground(frames)[0] if mask is None else mask
    if len(colors) == 1:
        return mask[:, None]
    colors = colors.to(frames.device)
    nearest = torch.zeros(mask.shape, dtype=torch.long, device=frames.device)  # (F, H, W)
    closest = torch.full(mask.shape, torch.inf, device=frames.device)
    for j, color in enumerate(colors):  # one by one: argmin along so short a dimension takes ten times as long
        distance = (frames - color[:, None, None]).square().sum(1)
        nearest[distance < closest] = j
        closest = torch.minimum(closest, distance)
    inside = -F.max_pool2d(-mask[:, None].float(), 2 * _EDGE + 1, 1, _EDGE)[:, 0] > 0
    nearest, inside, mask = nearest.cpu(), inside.cpu(), mask.cpu()
    for frame in range(len(frames)):
        if inside[frame].any():
            rows, columns = distance_transform_edt(~inside[frame].numpy(), return_distances=False, return_indices=True)
            nearest[frame] = nearest[frame][rows, columns]
    nearest_masks = torch.stack([mask & (nearest == j) for j in range(len(colors))], 1).float()
    opened = F.max_pool2d(-F.max_pool2d(-nearest_masks, 3, 1, 1), 3, 1, 1)
    return ((nearest_masks * opened) > 0).to(frames.device)


def centroids(masks: Tensor) -> Tensor:
    """Centres of mass (F, N, 2) of masks (F, N, H, W) bool; NaN where fewer than LEAST_PIXELS are set."""
    height, width = masks.shape[-2:]
    x = torch.arange(width, device=masks.device) + 0.5
    y = torch.arange(height, device=masks.device) + 0.5
    count = masks.sum((-2, -1))
    weights = masks.float()
    centre = torch.stack([(weights.sum(-2) * x).sum(-1), (weights.sum(-1) * y).sum(-1)], -1) / count[..., None]
    return centre.where((count >= LEAST_PIXELS)[..., None], torch.nan)


def shifts(frames: Tensor) -> Tensor:
    """How far each frame's content lies from the former one's: (F - 1, 2), by phase correlation of grey frames.

    For a camera that pans; where several things move it is the motion of what has most texture. NaN for a frame
    without any texture. frames: (F, 3, H, W) in [0, 1].
    """
    grey = frames.mean(1).double().cpu().numpy()
    window = np.hanning(grey.shape[1])[:, None] * np.hanning(grey.shape[2])
    moves = []
    for before, after in pairwise(grey):
        a, b = ((frame - frame.mean()) * window for frame in (before, after))
        if a.std() < 1e-4 or b.std() < 1e-4:
            moves.append((np.nan, np.nan))
            continue
        (down, across), *_ = phase_cross_correlation(b, a, upsample_factor=_UPSAMPLE, normalization="phase")
        moves.append((across, down))
    return torch.tensor(moves, dtype=torch.float32).reshape(-1, 2)
