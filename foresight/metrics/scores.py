"""How alike two pictures are, and how sure one can be of a mean.

Pictures are (B, 3, H, W) sRGB in [0, 1]; scores are taken at that size. One original may stand against many
reconstructions: wherever two batches meet, the first may have B = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from foresight.data.images import load_image, to_tensor
from foresight.errors import InputError
from foresight.metrics.masks import EMPTY_MASK, foreground, mask_iou, why_no_iou
from foresight.paths import ASSETS

TRUNK = ASSETS / "lpips/alexnet_features.fp16.safetensors"

SEED_TARGETS = {"lpips": 0.35, "ssim": 0.75, "mask_iou": 0.60}  # the seed study's: LPIPS below, others above
MAX_PSNR = 100.0  # dB; what identical pictures score, since JSON has no infinity
LEAST_SIDE = 11  # pixels: SSIM's window
RESAMPLES = 10_000

_CONVOLUTIONS = {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}  # AlexNet's: stride and padding

Interval = tuple[float, float | None, float | None]  # mean, low, high; no ends where it is of one value
Features = list[Tensor]  # five layers of AlexNet, each (B, C, h, w), of unit length over C
Picture = Image.Image | Tensor


class LPIPS(nn.Module):
    """The perceptual distance of the `lpips` package (AlexNet, version 0.1) on the bundled trunk, frozen.

    `features` are computed once for a picture and compared with any number of others. Pictures under 31
    pixels on a side, which AlexNet's pooling cannot take, are continued with their last row or column.
    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        trunk = load_file(TRUNK)
        self.trunk = nn.ModuleList()
        for layer, (stride, padding) in _CONVOLUTIONS.items():
            weight, bias = (trunk[f"features.{layer}.{kind}"].float() for kind in ("weight", "bias"))
            made = nn.Conv2d(weight.shape[1], len(weight), weight.shape[-1], stride, padding)
            made.load_state_dict({"weight": weight, "bias": bias})
            self.trunk.append(made)
        # The package's own heads, read where it lies: importing it would import all of torchvision, 2 s.
        (package,) = find_spec("lpips").submodule_search_locations  # type: ignore[union-attr, misc]
        heads = torch.load(Path(package) / "weights/v0.1/alex.pth", map_location="cpu", weights_only=True)
        self.heads = nn.ParameterList(heads[f"lin{k}.model.1.weight"] for k in range(5))  # (1, C, 1, 1) each
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))
        self.to(memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (B,) of pictures; differentiable."""
        return self.distance(self.features(a), self.features(b))

    def features(self, x: Tensor) -> Features:
        """What AlexNet sees in pictures (B, 3, H, W)."""
        least = 31
        right, below = (max(0, least - side) for side in (x.shape[-1], x.shape[-2]))
        x = F.pad(x, (0, right, 0, below), mode="replicate")
        x = x.contiguous(memory_format=torch.channels_last)
        x, layers = (2 * x - 1 - self.shift) / self.scale, []
        for k, convolution in enumerate(self.trunk):
            x = F.relu(convolution(F.max_pool2d(x, 3, 2) if k in (1, 2) else x))
            layers.append(x)
        # 1e-10 keeps places where no channel is active, and their gradients, at 0 rather than NaN.
        return [f * (f.square().sum(1, keepdim=True) + 1e-10).rsqrt() for f in layers]

    def distance(self, a: Features, b: Features) -> Tensor:
        """Distances (B,) between features: 0 for the same picture, around 1 for unrelated ones."""
        return torch.stack([layer.mean((1, 2)) for layer in self._layers(a, b)]).sum(0)

    def spatial(self, a: Features, b: Features, size: tuple[int, int]) -> Tensor:
        """Where they differ: (B, H, W), the layers' maps enlarged to `size`, as lpips' spatial=True."""
        maps = [F.interpolate(layer[:, None], size, mode="bilinear") for layer in self._layers(a, b)]
        return torch.stack(maps).sum(0)[:, 0]

    def _layers(self, a: Features, b: Features) -> list[Tensor]:
        pairs = zip(a, b, self.heads, strict=True)
        return [F.conv2d((p - q).square(), head)[:, 0] for p, q, head in pairs]  # (B, h, w) each


@cache
def lpips_model(device: torch.device | str = "cpu") -> LPIPS:
    """The one LPIPS of this process on that device."""
    with torch.inference_mode(False):  # or training could not use what scoring has built first
        return LPIPS().to(device)


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity (B,) of pictures, at most 1: Gaussian window of 11 pixels, mean over channels.

    Equals scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, channel_axis=…, data_range=1)`. Source: Wang et al., "Image quality
    assessment", 2004. Raises InputError under 11 pixels on a side.
    """
    if min(x.shape[-2:]) < LEAST_SIDE:
        raise InputError(f"SSIM needs at least {LEAST_SIDE} pixels on each side, not {_size(x)}.")
    x, y = x.float(), y.float()
    shift_x, shift_y = (p.mean((2, 3), keepdim=True) for p in (x, y))
    x, y = x - shift_x, y - shift_y  # variances stay the same, with less rounding
    near = torch.arange(-5, 6, device=x.device, dtype=torch.float64).square().div(-2 * 1.5**2).exp()
    near = near.div(near.sum()).float()

    def local_mean(p: Tensor) -> Tensor:
        flat = p.reshape(1, -1, *p.shape[-2:])  # every channel of every picture a channel: depthwise passes
        channels = flat.shape[1]
        for window in (near[:, None], near[None, :]):
            flat = F.conv2d(flat, window.expand(channels, 1, -1, -1), groups=channels)
        return flat.view(*p.shape[:2], *flat.shape[-2:])

    mean_x, mean_y = local_mean(x), local_mean(y)  # (B, 3, H - 10, W - 10)
    variances = local_mean(x * x + y * y) - mean_x.square() - mean_y.square()
    covariance = local_mean(x * y) - mean_x * mean_y
    mean_x, mean_y = mean_x + shift_x, mean_y + shift_y
    c1, c2 = 0.01**2, 0.03**2
    light = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return (light * (2 * covariance + c2) / (variances + c2)).mean((1, 2, 3))


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) of pictures in dB, at most 100, which identical pictures get."""
    error = (x.float() - y.float()).square().mean((1, 2, 3))
    return (-10 * error.log10()).clamp(max=MAX_PSNR)


@dataclass(frozen=True)
class Comparison:
    """What sets B reconstructions apart from their originals.

    scores: "lpips", "ssim", "psnr", "mask_iou", each (B,) float32; mask_iou is NaN where there is a reason.
    lpips_map: (B, H, W), the spatial LPIPS. original_masks: (B or 1, H, W) bool, given or found.
    masks: (B, H, W) bool, found in the reconstructions. original_reasons: None, or why the original has no mask,
    for each of the originals. reasons: None, or why there is no mask IoU, for each of the B reconstructions: that of
    its original, or `masks.NOT_MEASURABLE`.
    """

    scores: dict[str, Tensor]
    lpips_map: Tensor
    original_masks: Tensor
    masks: Tensor
    original_reasons: list[str | None]
    reasons: list[str | None]


@torch.no_grad()
def compare(originals: Tensor, reconstructions: Tensor, masks: Tensor | None = None) -> Comparison:
    """All scores of reconstructions (B, 3, H, W) against originals (B or 1, 3, H, W), in one batch.

    masks: (B or 1, H, W) bool, the renderer's, of what the originals show; without it, what `foreground`
    finds in them. The objects of a reconstruction are always those that `foreground` finds: none on an even background,
    where the original has some, is an IoU of 0; without such a background it cannot be measured. Raises InputError
    where sizes differ, a side is under 11 pixels, or values are outside [0, 1].
    """
    _check(originals, reconstructions, masks)
    count, one = len(reconstructions), len(originals)
    everything = torch.cat([originals, reconstructions]).float()
    height, width = everything.shape[-2:]
    with torch.autocast(everything.device.type, enabled=False):  # bfloat16 is too coarse for SSIM's variances
        model = lpips_model(everything.device)
        features = model.features(everything)
        ours, theirs = [f[:one] for f in features], [f[one:] for f in features]
        if masks is None:
            found, reasons = foreground(everything)
            masks, found = found[:one], found[one:]
            of_originals, of_reconstructions = reasons[:one], reasons[one:]
        else:
            found, of_reconstructions = foreground(everything[one:])
            of_originals = [None if some else EMPTY_MASK for some in masks.flatten(1).any(1).tolist()]
        reasons = [why_no_iou(*pair) for pair in zip(of_originals * (count // one), of_reconstructions, strict=True)]
        missing = torch.tensor([reason is not None for reason in reasons], device=masks.device)
        scores = {
            "lpips": model.distance(ours, theirs),
            "ssim": ssim(originals, reconstructions),
            "psnr": psnr(originals, reconstructions),
            "mask_iou": mask_iou(masks, found).masked_fill(missing, torch.nan),
        }
        lpips_map = model.spatial(ours, theirs, (height, width))
    return Comparison(scores, lpips_map, masks, found, of_originals, reasons)


def score_batch(originals: Tensor, reconstructions: Tensor, masks: Tensor | None = None) -> dict[str, Tensor]:
    """`compare`'s scores alone: "lpips", "ssim", "psnr", "mask_iou", each (B,) float32, NaN for null."""
    return compare(originals, reconstructions, masks).scores


def score(original: Picture, reconstruction: Picture, mask: Tensor | None = None) -> dict[str, float | None]:
    """One picture's "lpips", "ssim", "psnr" and "mask_iou", the last None where it cannot be measured.

    original, reconstruction: PIL images or tensors (3, H, W) in [0, 1], of one size. mask: (H, W) bool, what
    the original shows; without it the objects found there. Raises InputError as `compare` does.
    """
    a, b = (to_tensor(load_image(p)) if isinstance(p, Image.Image) else p for p in (original, reconstruction))
    scores = score_batch(a[None], b[None], None if mask is None else mask[None])
    return {name: None if value.isnan() else float(value) for name, value in scores.items()}


def skill(name: str, score: float | None, blank: float | None, oracle: float | None) -> float | None:
    """(score - blank) / (oracle - blank): 0 is a blank page, 1 all that the VAE could give.

    name: the score's; of LPIPS less is better, of all others more. None where one of them is None, or where the
    oracle is no better than the blank page, so that nothing could be gained.
    """
    if score is None or blank is None or oracle is None:
        return None
    gain = blank - oracle if name == "lpips" else oracle - blank
    return (score - blank) / (oracle - blank) if gain > 0 else None


def bootstrap(values: Sequence[float] | np.ndarray, seed: int = 0) -> Interval:
    """The mean of values (N,), and the lower and upper end of its 95 % interval; None for both where N is 1.

    The interval is the percentile bootstrap's, over 10,000 resamples. Raises InputError on no values or NaN:
    leave out the pictures without a score first.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise InputError("an interval needs a list of at least one finite value.")
    if len(x) == 1:
        return float(x[0]), None, None  # one value tells nothing of how far others lie from it
    rng = np.random.default_rng(seed)
    rows = min(RESAMPLES, max(1, 4_000_000 // len(x)))  # at a time: 32 MB of indices
    means = [
        x[rng.integers(len(x), size=(min(rows, RESAMPLES - start), len(x)))].mean(1)
        for start in range(0, RESAMPLES, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(x.mean()), float(low), float(high)


def paired_bootstrap(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, seed: int = 0) -> Interval:
    """`bootstrap` of a - b, where a[i] and b[i] are scores of the same picture."""
    if len(a) != len(b):
        raise InputError(f"paired scores must be as many on both sides, not {len(a)} and {len(b)}.")
    return bootstrap(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64), seed)


def meets_target(name: str, value: float) -> bool:
    """Whether a score reaches the seed study's target: LPIPS below it, the others above."""
    return value < SEED_TARGETS[name] if name == "lpips" else value > SEED_TARGETS[name]


def _size(x: Tensor) -> str:
    return f"{x.shape[-1]} × {x.shape[-2]}"


def _check(originals: Tensor, reconstructions: Tensor, masks: Tensor | None) -> None:
    for pictures in (originals, reconstructions):
        if pictures.ndim != 4 or pictures.shape[1] != 3:
            raise InputError(f"pictures must be (B, 3, H, W), not {tuple(pictures.shape)}.")
        if not (pictures.min() >= 0 and pictures.max() <= 1):  # NaN fails both
            raise InputError("a picture's values must all lie within 0 to 1.")
    if originals.shape[-2:] != reconstructions.shape[-2:]:
        raise InputError(f"the pictures differ in size: {_size(originals)} and {_size(reconstructions)}.")
    if len(originals) not in (1, len(reconstructions)):
        many = len(reconstructions)
        raise InputError(f"{many} reconstructions need 1 or {many} originals, not {len(originals)}.")
    due = originals[:, 0].shape
    if masks is not None and (masks.dtype != torch.bool or masks.shape != due):
        raise InputError(f"masks must be bool {tuple(due)}, not {masks.dtype} {tuple(masks.shape)}.")
