"""Photos without known objects: where in a picture a reconstruction is worst, and what can be computed of the picture.

Shapes: an image (3, H, W), sRGB in [0, 1]; a map (H, W).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PART = 4  # a patch's side is the picture's shorter one over this
# The thirds of 850 photographs (ImageNet, BSDS500) at 224²: mean slope of grey per pixel, and mean grey.
_DETAIL, _BRIGHTNESS = (0.045, 0.071), (0.39, 0.47)
_ASPECT = (0.8, 1.25)  # width over height
TRAITS: dict[str, tuple[str, str, str]] = {
    "detail": ("plain", "middling", "busy"),
    "brightness": ("dark", "mid-tone", "bright"),
    "aspect": ("tall", "square", "wide"),
}


@dataclass(frozen=True)
class Patch:
    """A square of a picture, in pixels, and the mean of the LPIPS map in it."""

    left: int
    top: int
    side: int
    lpips: float


@dataclass(frozen=True)
class PhotoScores:
    """What is reported of a photo in place of a scene's objects.

    traits: by the names in TRAITS. patches: where it is read worst.
    """

    traits: dict[str, str]
    patches: tuple[Patch, ...]

    def flat(self) -> dict[str, str]:
        """As columns; a patch is "left,top,side: LPIPS"."""
        texts = [f"{p.left},{p.top},{p.side}: {p.lpips:.4f}" for p in self.patches]
        return {**self.traits, "worst_patches": "; ".join(texts)}


def score_photo(image: Tensor, lpips_map: Tensor) -> PhotoScores:
    """Of an image (3, H, W) and the LPIPS map (H, W) of its reconstruction."""
    return PhotoScores(traits(image), worst_patches(lpips_map))


def worst_patches(lpips_map: Tensor, count: int = 3) -> tuple[Patch, ...]:
    """The `count` squares of largest mean in a map (H, W) that do not overlap, the worst first."""
    side = max(1, min(lpips_map.shape) // PART)
    across = F.avg_pool2d(lpips_map[None].float(), (1, side), 1)  # a square's mean in two steps of `side` values each
    means = F.avg_pool2d(across, (side, 1), 1)[0]  # (H - side + 1, W - side + 1)
    patches = []
    for _ in range(count):
        top, left = divmod(int(means.argmax()), means.shape[1])
        if means[top, left] == -torch.inf:
            break
        patches.append(Patch(left, top, side, float(means[top, left])))
        means[max(0, top - side + 1) : top + side, max(0, left - side + 1) : left + side] = -torch.inf
    return tuple(patches)


def traits(image: Tensor) -> dict[str, str]:
    """What an image (3, H, W) is like: plain to busy, dark to bright, tall to wide; by the names in TRAITS."""
    grey = torch.einsum("c,chw->hw", image.new_tensor([0.2126, 0.7152, 0.0722]), image)
    across, down = grey[:-1, 1:] - grey[:-1, :-1], grey[1:, :-1] - grey[:-1, :-1]
    values = {
        "detail": (float(torch.hypot(across, down).mean()), _DETAIL),
        "brightness": (float(grey.mean()), _BRIGHTNESS),
        "aspect": (image.shape[2] / image.shape[1], _ASPECT),
    }
    return {name: TRAITS[name][sum(value > end for end in ends)] for name, (value, ends) in values.items()}
