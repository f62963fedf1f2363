"""LPIPS and HaarPSI: how different two images look, to a neural network and by their wavelets.

Shapes: B images (B, 3, H, W), sRGB in [0, 1]. Where two batches are compared, one may have B = 1.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from foresight.errors import InputError
from foresight.paths import ASSETS

TRUNK = ASSETS / "lpips/alexnet_features.fp16.safetensors"

_CONVOLUTIONS = {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}  # AlexNet's: stride and padding

Features = list[Tensor]  # five layers of AlexNet, each (B, C, h, w), of unit length over C


class LPIPS(nn.Module):
    """The perceptual distance of the `lpips` package (AlexNet, version 0.1) on the bundled trunk, frozen.

    By hand rather than by the package, so that `features` of an image are computed once and compared with any number
    of others, and torchvision need not be imported. Images under 31 pixels on a side, which AlexNet's pooling cannot
    take, are continued with their last row or column.
    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        trunk = _read_trunk(TRUNK)
        self.trunk = nn.ModuleList()
        for layer, (stride, padding) in _CONVOLUTIONS.items():
            weight, bias = (trunk[f"features.{layer}.{kind}"].float() for kind in ("weight", "bias"))
            convolution = nn.Conv2d(weight.shape[1], len(weight), weight.shape[-1], stride, padding)
            convolution.load_state_dict({"weight": weight, "bias": bias})
            self.trunk.append(convolution)
        # The package's own heads, read where it lies: importing it would import all of torchvision, 2 s.
        (package,) = find_spec("lpips").submodule_search_locations  # type: ignore[union-attr, misc]
        heads = torch.load(Path(package) / "weights/v0.1/alex.pth", map_location="cpu", weights_only=True)
        self.heads = nn.ParameterList(heads[f"lin{k}.model.1.weight"] for k in range(5))  # (1, C, 1, 1) each
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))
        self.to(memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (B,) between images (B, 3, H, W) in [0, 1]; differentiable."""
        return self.distance(self.features(a), self.features(b))

    def features(self, x: Tensor) -> Features:
        """The activations of AlexNet for images (B, 3, H, W) in [0, 1], of unit length over channels."""
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
        """Distances (B,) between features: 0 for the same image, around 1 for unrelated ones."""
        return torch.stack([layer.mean((1, 2)) for layer in self._layers(a, b)]).sum(0)

    def spatial(self, a: Features, b: Features, size: tuple[int, int]) -> Tensor:
        """Where they differ: (B, H, W), the layers' maps enlarged to `size`, as lpips' spatial=True."""
        maps = [F.interpolate(layer[:, None], size, mode="bilinear") for layer in self._layers(a, b)]
        return torch.stack(maps).sum(0)[:, 0]

    def _layers(self, a: Features, b: Features) -> list[Tensor]:
        pairs = zip(a, b, self.heads, strict=True)
        return [F.conv2d((p - q).square(), head)[:, 0] for p, q, head in pairs]  # (B, h, w) each


def _read_trunk(path: Path) -> dict[str, Tensor]:
    """Raises InputError where the file is missing or cut short, as one that Git LFS has yet to fetch."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"the weights of LPIPS, {path}, are missing or cut short: get them again.") from error


@cache
def lpips_model(device: torch.device | str = "cpu") -> LPIPS:
    """The one LPIPS of this process on that device."""
    with torch.inference_mode(False):  # or training could not use what scoring has built first
        return LPIPS().to(device)


def haarpsi(x: Tensor, y: Tensor) -> Tensor:
    """Haar wavelet-based perceptual similarity of images, from 0 to 1; higher is better, 1 is the same image.

    The second opinion beside LPIPS: no adapter is trained on it, it has no weights, and on its authors' four databases
    it agrees with people better than SSIM, FSIM and VSI. Equals `piq.haarpsi`, whose import takes torchvision's 2 s.
    Source: Reisenhofer et al., "A Haar wavelet-based perceptual similarity index for image quality assessment", 2018.

    Args:
        x, y: images (B or 1, 3, H, W) in [0, 1].

    Returns:
        (B,) float32.
    """
    (weight_x, detail_x, chroma_x), (weight_y, detail_y, chroma_y) = _wavelets(x), _wavelets(y)
    # Similarity by orientation, mean of two scales; then of the two chroma channels.
    parts = _alike(detail_x, detail_y).mean(1), _alike(chroma_x, chroma_y).mean(1, keepdim=True)
    alike = torch.cat(parts, 1)  # (B, 3, h, w)
    weight = torch.maximum(weight_x, weight_y)
    weight = torch.cat([weight, weight.mean(1, keepdim=True)], 1) + 1e-6  # two black images have no coefficient
    steepness = 4.2
    score = ((steepness * alike).sigmoid() * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))
    return (score.logit() / steepness).square().clamp(max=1)  # but for rounding it is no more


def _alike(a: Tensor, b: Tensor) -> Tensor:
    """The similarity of magnitudes, elementwise, from 0 to 1."""
    constant = 30.0
    return (2 * a * b + constant) / (a.square() + b.square() + constant)


def _wavelets(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Magnitudes of the Haar coefficients of images (B, 3, H, W) at half their size, h × w.

    Returns:
        Of luma, along both axes: of the coarsest scale (B, 2 axes, h, w), and of two finer ones (B, 2 scales, 2 axes,
        h, w); of chroma, the local means (B, 2, h, w).
    """
    yiq = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], device=x.device)
    x = torch.einsum("kc,bchw->bkhw", yiq, 255 * x.float())
    x = F.avg_pool2d(F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)), 2)
    scales = []
    for side in (2, 4, 8):
        step = torch.full((side, side), 1 / side, device=x.device)
        step[side // 2 :] *= -1
        padded = F.pad(x[:, :1], (side // 2 - 1, side // 2) * 2)
        scales.append(F.conv2d(padded, torch.stack([step, step.T])[:, None]).abs())  # (B, 2, h, w)
    chroma = F.avg_pool2d(F.pad(x[:, 1:], (0, 1, 0, 1)), 2, stride=1).abs()
    return scales[2], torch.stack(scales[:2], 1), chroma
