"""What can be said of any image from its pixels alone: lessons about photographs that need no labels.

Shapes: B images of H × W pixels, uint8 sRGB. Regions are the nine fields of a 3 × 3 grid, in raster order.
"""

import random
import re
from collections import Counter
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

COLORS = ("black", "dark gray", "gray", "white", "red", "orange", "brown", "yellow", "green", "cyan", "blue", "purple",
          "pink")  # fmt: skip
REGIONS = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")
EDGES = ("across", "up and down", "in all directions")
_HUES = ((15, "red"), (45, "orange"), (70, "yellow"), (165, "green"), (195, "cyan"), (255, "blue"), (300, "purple"),
         (340, "pink"), (361, "red"))  # fmt: skip  # each up to so many degrees
_PLACES = ("near the top", "in the middle", "near the bottom")
_CELLS = 8  # a side, of the grid in which the main colours are counted
_CLEAR = 0.03  # least difference of two means, of 1, that counts as one

REGION_COLORS = ("What color is each part of the image?", "Name the color of each of the nine parts.")


def color_names(rgb: Tensor) -> Tensor:
    """The index in COLORS of each colour (…, 3) in [0, 1]: by hue, or by value where there is little chroma."""
    value, least = rgb.amax(-1), rgb.amin(-1)
    chroma = value - least
    red, green, blue = rgb.unbind(-1)
    safe = chroma.clamp(min=1e-6)
    from_green, from_blue = (blue - red) / safe + 2, (red - green) / safe + 4
    sector = torch.where(value == red, (green - blue) / safe % 6, torch.where(value == green, from_green, from_blue))
    hue = sector * 60  # degrees
    name = torch.full_like(value, COLORS.index("red"), dtype=torch.long)
    for limit, color in reversed(_HUES):
        name = torch.where(hue < limit, COLORS.index(color), name)
    brown = (hue >= 10) & (hue < 50) & (value < 0.62)
    pale_red = ((hue < 15) | (hue >= 340)) & (chroma < 0.35) & (value > 0.75)
    name = torch.where(brown, COLORS.index("brown"), torch.where(pale_red, COLORS.index("pink"), name))
    grey = torch.bucketize(value, torch.tensor([0.18, 0.42, 0.78], device=rgb.device))  # black, dark gray, gray, white
    return torch.where((chroma < 0.08) | (value < 0.18), grey, name)


@dataclass(frozen=True)
class Observation:
    """What one image looks like.

    regions: names in COLORS of the nine mean colours. main: the most frequent names, each with its share of the
    image. light, detail: mean lightness and mean step between neighbouring pixels, of the nine regions, in [0, 1].
    edges: index into EDGES. horizon: the third of the image, 0 to 2, in which the upper part gives way to a lower
    part of quite another lightness, None where there is no such line.
    """

    regions: list[str]
    main: list[tuple[str, float]]
    light: list[float]
    detail: list[float]
    edges: int
    horizon: int | None

    @property
    def brightness(self) -> str:
        mean = sum(self.light) / 9
        return "dark" if mean < 0.38 else "light" if mean > 0.62 else "of medium brightness"

    @property
    def texture(self) -> str:
        mean = sum(self.detail) / 9
        return "plain" if mean < 0.02 else "busy" if mean > 0.05 else "of moderate detail"


@torch.inference_mode()
def observe(images: Tensor) -> list[Observation]:
    """Observations of images (B, 3, H, W) uint8, on whichever device they lie."""
    x = images.float() / 255
    regions = color_names(F.adaptive_avg_pool2d(x, 3).flatten(2).transpose(1, 2))  # (B, 9)
    cells = color_names(F.adaptive_avg_pool2d(x, _CELLS).flatten(2).transpose(1, 2))  # (B, 64)
    weights = torch.tensor([0.299, 0.587, 0.114], device=x.device).view(3, 1, 1)
    luma = (x * weights).sum(1, keepdim=True)
    across, down = luma.diff(dim=3).abs(), luma.diff(dim=2).abs()
    light = F.adaptive_avg_pool2d(luma, 3).flatten(1)
    detail = (F.adaptive_avg_pool2d(across, 3) + F.adaptive_avg_pool2d(down, 3)).flatten(1) / 2
    vertical, level = across.square().mean((1, 2, 3)), down.square().mean((1, 2, 3))
    ratio = vertical / level.clamp(min=1e-9)
    edges = torch.where(ratio > 1.6, 1, torch.where(ratio < 1 / 1.6, 0, 2))
    horizon = _horizon(luma[:, 0])
    columns = (regions, cells, light, detail, edges, horizon)
    return [
        Observation(
            [COLORS[k] for k in names],
            [(COLORS[k], n / _CELLS**2) for k, n in Counter(grid).most_common(3)],
            lights,
            details,
            edge,
            third if third >= 0 else None,
        )
        for names, grid, lights, details, edge, third in zip(*(c.tolist() for c in columns), strict=True)
    ]


def _horizon(luma: Tensor) -> Tensor:
    """(B, H, W) → (B,) the third in which the best cut into an upper and a lower part lies, -1 where none is clear."""
    height = luma.shape[1]
    rows = luma.mean(2)  # (B, H)
    total = rows.cumsum(1)
    above = torch.arange(1, height, device=luma.device)
    upper = total[:, :-1] / above
    lower = (total[:, -1:] - total[:, :-1]) / (height - above)
    between = above * (height - above) / height**2 * (upper - lower).square()  # Otsu's criterion over rows
    spread = rows.var(1, correction=0).clamp(min=1e-9)
    best, cut = between[:, height // 8 : -height // 8].max(1)
    clear = (best / spread > 0.75) & (best > 0.004)
    return torch.where(clear, (cut + height // 8 + 1) * 3 // height, -1)


def region_colors(observation: Observation) -> str:
    return ", ".join(f"{region}: {color}" for region, color in zip(REGIONS, observation.regions, strict=True)) + "."


def read_region_colors(answer: str) -> dict[str, str]:
    """{region: colour} of all that an answer to one of REGION_COLORS names."""
    pairs = re.findall(r"(?:^|[ ,])([a-z]+(?: [a-z]+)?): ([a-z]+(?: gray)?)", answer)
    return {region: color for region, color in pairs if region in REGIONS}


def describe(observation: Observation) -> str:
    """One or two sentences on what the whole image looks like."""
    (first, _), *others = observation.main
    second = [name for name, share in others if share >= 0.15]
    colors = f"mostly {first}" + (f", with {' and '.join(second)}" if second else "")
    words = f"The image is {observation.brightness} and {observation.texture}, {colors}."
    if observation.horizon is not None:
        words += f" It has a horizon {_PLACES[observation.horizon]}."
    return words


def short_question(observation: Observation, draw: random.Random) -> tuple[str, str]:
    """A question about the pixels, with a short answer."""
    kind = draw.choice(("region", "region", "region", "light", "detail", "brightest", "busiest", "halves", "edges",
                        "main", "horizon"))  # fmt: skip
    if kind == "light":
        return "Is the image light or dark?", f"It is {observation.brightness}."
    if kind == "detail":
        return "Is the image plain or busy?", f"It is {observation.texture}."
    if kind in ("brightest", "busiest"):
        values = observation.light if kind == "brightest" else observation.detail
        ranked = sorted(values)
        if ranked[-1] - ranked[-2] > (_CLEAR if kind == "brightest" else _CLEAR / 4):
            return f"Which part is the {kind}?", f"The {REGIONS[values.index(ranked[-1])]}."
    if kind == "halves":
        upper, lower = sum(observation.light[:3]) / 3, sum(observation.light[6:]) / 3
        order = "lighter than" if upper > lower else "darker than"
        answer = "about as light as" if abs(upper - lower) < _CLEAR else order
        return "Is the top lighter or darker than the bottom?", f"The top is {answer} the bottom."
    if kind == "edges":
        return "Which way do most edges run?", f"Most edges run {EDGES[observation.edges]}."
    if kind == "main":
        return "What is the main color?", f"The main color is {observation.main[0][0]}."
    if kind == "horizon":
        return "Is there a horizon?", "No." if observation.horizon is None else f"Yes, {_PLACES[observation.horizon]}."
    number = draw.randrange(9)
    return f"What color is the {REGIONS[number]}?", f"The {REGIONS[number]} is mostly {observation.regions[number]}."
