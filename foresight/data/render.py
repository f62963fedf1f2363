"""Draws scenes: pictures, exact masks and boxes.

Shapes: B scenes, N object slots in z-order (the last is in front), H × W pixels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from foresight.data.scenes import BACKGROUNDS, COLORS, SHAPES, Scenes


def _outline(folds: int, inner: float) -> tuple[float, float, float, float, float]:
    """(folds, normal x, normal y, offset, cap) of a star with `folds` tips at radius 1 and valleys at `inner`."""
    tip, valley = complex(1, 0), inner * complex(math.cos(math.pi / folds), math.sin(math.pi / folds))
    normal = (valley - tip) * -1j / abs(valley - tip)
    return folds, normal.real, normal.imag, (normal * tip.conjugate()).real, 1.0


def _bar(folds: int, half_width: float) -> tuple[float, float, float, float, float]:
    """The same numbers for `folds` arms of that half width, their corners at radius 1."""
    return folds, 0.0, 1.0, half_width, math.sqrt(1 - half_width**2)


# Every shape is one line and one cap in a sector that is folded onto all others (by mirror symmetry).
# The last number is the radius of a hole, -1 for none: 0 would let the background through at the very centre.
_GEOMETRY: dict[str, tuple[float, ...]] = {
    "circle": (*_outline(180, math.cos(math.pi / 180)), -1.0),
    "square": (*_outline(4, math.cos(math.pi / 4)), -1.0),
    "triangle": (*_outline(3, math.cos(math.pi / 3)), -1.0),
    "star": (*_outline(5, 0.5), -1.0),
    "diamond": (*_outline(2, 0.65), -1.0),
    "cross": (*_bar(4, 0.36), -1.0),
    "bar": (*_bar(2, 0.45), -1.0),
    "ring": (*_outline(180, math.cos(math.pi / 180)), 0.45),
}


@dataclass(frozen=True)
class Rendered:
    """Pictures of scenes and what is where in them.

    images: (B, 3, H, W) uint8 sRGB. full, visible: (B, N, H, W) bool, pixels at least half covered, without
    and with occlusion. boxes: (B, N, 4) int64, left, top, right, bottom of the visible part in pixels, right
    and bottom exclusive; zeros for empty slots. Of clips (`motion.render_motion`), all begin with (B, F, …).
    """

    images: Tensor
    full: Tensor
    visible: Tensor
    boxes: Tensor

    @property
    def mask(self) -> Tensor:
        """(B, H, W) bool: pixels that show an object."""
        return self.visible.any(-3)


def render(scenes: Scenes, chunk: int = 64, backgrounds: Tensor | None = None) -> Rendered:
    """Draws scenes, anti-aliased, on the device they lie on; `chunk` scenes at a time to bound memory.

    backgrounds: (B, 3, H, W) uint8 images to draw upon, in place of the scenes' own backgrounds.
    """
    starts = range(0, len(scenes), chunk)
    images = [None if backgrounds is None else backgrounds[i : i + chunk] for i in starts]
    parts = [_render(part, image) for part, image in zip(scenes.chunks(chunk), images, strict=True)]
    return Rendered(*(torch.cat([getattr(p, k) for p in parts]) for k in ("images", "full", "visible", "boxes")))


def _render(scenes: Scenes, background: Tensor | None) -> Rendered:
    x, y = pixel_centres(scenes)
    image = _paint_background(scenes, x, y) if background is None else background.float() / 255
    palette = torch.tensor(list(COLORS.values()), device=x.device) / 255
    full = []
    for j in range(scenes.shape.shape[1]):
        cover = coverage(scenes, j, x, y)
        image = torch.lerp(image, palette[scenes.color[:, j], :, None, None], cover[:, None])
        full.append(cover >= 0.5)
    masks = torch.stack(full, 1)  # (B, N, H, W)
    covered = torch.zeros_like(masks[:, 0])
    visible: list[Tensor] = []
    for j in reversed(range(masks.shape[1])):
        visible.insert(0, masks[:, j] & ~covered)
        covered = covered | masks[:, j]
    stacked = torch.stack(visible, 1)
    return Rendered((image * 255).round().to(torch.uint8), masks, stacked, mask_boxes(stacked))


def pixel_centres(scenes: Scenes) -> tuple[Tensor, Tensor]:
    """x (1, W) and y (H, 1) of the pixels' centres, in short sides, on the scenes' device."""
    (height, width), device = scenes.size, scenes.count.device
    short = min(height, width)
    y = ((torch.arange(height, device=device) + 0.5) / short)[:, None]
    x = ((torch.arange(width, device=device) + 0.5) / short)[None, :]
    return x, y


def coverage(scenes: Scenes, slot: int, x: Tensor, y: Tensor) -> Tensor:
    """(B, H, W) in [0, 1]: how much of a pixel around each point the object of a slot covers, were it alone.

    x, y: points in short sides, (1, W) and (H, 1), or (B, H, W) where each scene has its own.
    """
    (height, width), device = scenes.size, scenes.count.device
    short, used = min(height, width), slot < scenes.count
    geometry = torch.tensor([_GEOMETRY[name] for name in SHAPES], device=device)
    px, py, radius, rotation = (v[:, None, None] for v in scenes.place[:, slot].unbind(-1))
    folds, nx, ny, offset, cap, hole = (v[:, None, None] for v in geometry[scenes.shape[:, slot]].unbind(-1))
    dx, dy = (x - px * width / short) / radius, (y - py * height / short) / radius  # (B, H, W)
    reach, sector = torch.hypot(dx, dy), 2 * math.pi / folds
    angle = torch.atan2(dy, dx) - rotation
    angle = angle - sector * (angle / sector).round()
    along, across = reach * angle.cos(), reach * angle.sin().abs()
    outside = torch.maximum(nx * along + ny * across - offset, along - cap).maximum(hole - reach)
    return (0.5 - outside * radius * short).clamp(0, 1) * used[:, None, None]


def _paint_background(scenes: Scenes, x: Tensor, y: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1]: a mix of the two tones, by a ramp across the picture or by crossed waves."""
    angle, fu, fv, pu, pv, sharpness = (v[:, None, None] for v in scenes.pattern.unbind(-1))
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    low, high = along.amin((1, 2), True), along.amax((1, 2), True)
    waves = (2 * math.pi * fu * along + pu).sin() * (2 * math.pi * fv * across + pv).sin()
    waves = (0.5 + 0.5 * (sharpness * waves).tanh() / sharpness.tanh()).clamp(0, 1)
    mix = torch.where(
        (scenes.background == BACKGROUNDS.index("texture"))[:, None, None], waves, (along - low) / (high - low)
    )
    first, second = (t[..., None, None] for t in scenes.tones.unbind(1))  # (B, 3, 1, 1)
    return torch.lerp(first, second, mix[:, None])


def mask_boxes(masks: Tensor) -> Tensor:
    """Left, top, right, bottom (exclusive) of the true pixels: (…, H, W) bool → (…, 4) int64; zeros if none."""
    columns, rows = masks.any(-2).int(), masks.any(-1).int()
    left, top = columns.argmax(-1), rows.argmax(-1)
    right, bottom = columns.shape[-1] - columns.flip(-1).argmax(-1), rows.shape[-1] - rows.flip(-1).argmax(-1)
    return torch.stack([left, top, right, bottom], -1) * masks.any(-1).any(-1)[..., None]
