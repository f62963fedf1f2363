"""SSIM and PSNR: how close two images are in structure and pixel by pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from foresight.errors import InputError

MAX_PSNR = 100.0  # dB; what identical images score, since JSON has no infinity
LEAST_SIDE = 11  # pixels: SSIM's window


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of images, at most 1: Gaussian window of 11 pixels, mean over channels.

    Equals scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    channel_axis=…, data_range=1)`, which takes one image at a time, on the CPU alone.
    Source: Wang et al., "Image quality assessment", 2004.

    Args:
        x, y: images (B or 1, 3, H, W) in [0, 1].

    Returns:
        (B,) float32.

    Raises:
        InputError: a side is under 11 pixels.
    """
    if min(x.shape[-2:]) < LEAST_SIDE:
        raise InputError(f"SSIM needs at least {LEAST_SIDE} pixels on each side, not {size_text(x)}.")
    x, y = x.float(), y.float()
    shift_x, shift_y = (p.mean((2, 3), keepdim=True) for p in (x, y))
    x, y = x - shift_x, y - shift_y  # variances stay the same, with less rounding
    window = torch.arange(-5, 6, device=x.device, dtype=torch.float64).square().div(-2 * 1.5**2).exp()
    window = window.div(window.sum()).float()

    def local_mean(p: Tensor) -> Tensor:
        flat = p.reshape(1, -1, *p.shape[-2:])  # every channel of every image a channel: depthwise passes
        channels = flat.shape[1]
        for line in (window[:, None], window[None, :]):
            flat = F.conv2d(flat, line.expand(channels, 1, -1, -1), groups=channels)
        return flat.view(*p.shape[:2], *flat.shape[-2:])

    mean_x, mean_y = local_mean(x), local_mean(y)  # (B, 3, H - 10, W - 10)
    variances = local_mean(x * x + y * y) - mean_x.square() - mean_y.square()
    covariance = local_mean(x * y) - mean_x * mean_y
    mean_x, mean_y = mean_x + shift_x, mean_y + shift_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return (luminance * (2 * covariance + c2) / (variances + c2)).mean((1, 2, 3))


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) of images (B, 3, H, W) in dB, at most 100, which identical images get."""
    error = (x.float() - y.float()).square().mean((1, 2, 3))
    return (-10 * error.log10()).clamp(max=MAX_PSNR)


def size_text(x: Tensor) -> str:
    """The size of images (…, H, W) for people: ``"224 × 168"``, the width first."""
    return f"{x.shape[-1]} × {x.shape[-2]}"
