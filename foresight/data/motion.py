"""Scenes in motion: clips with exact masks, tracks, flow and occlusion, drawn by seed.

Shapes: B clips of F frames, N object slots in z-order (the last is in front), H × W pixels. Positions are fractions
of width and height, radii fractions of the shorter side, as in `scenes`. Flow is in pixels, x then y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from foresight.data.batch import SampledBatch, take_split
from foresight.data.render import Rendered, coverage, pixel_centres, render
from foresight.data.scenes import (
    COLOR_NAMES,
    MARGIN,
    PLACE,
    SHAPES,
    Scenes,
    SceneSpec,
    mix_hash,
    sample,
    split_names,
    uniform,
)
from foresight.errors import InputError

MOTIONS = ("still", "translation", "rotation", "growth", "bounce", "occlusion", "appear", "vanish")
HEADINGS = ("right", "down right", "down", "down left", "left", "up left", "up", "up right")  # by 45°, clockwise
MAX_FRAMES = 64
_ABSENT = -4.0  # where an object is put that is not there: no shape reaches back into the image
_SALT = 0x6D6F74696F6E  # tells the motion's draws from those of the scene, whose seed is the same
_ROUND = (SHAPES.index("circle"), SHAPES.index("ring"))  # whose rotation nobody sees
_LEAST_RADIUS, _MOST_RADIUS = 12 / 224, 64 / 224


@dataclass(frozen=True)
class MotionSpec:
    """What clips may hold. Each object draws one of `motions`, and no two objects of a clip have one colour.

    scene: objects, shapes, colours, backgrounds and size, as for stills; `radius` is an object's at the start.
    Objects may pass over each other whatever `overlap` says. frames: 1 to 64. fps: frames a second, which decides
    the VLM's temporal positions and nothing else. speed: pixels a frame at a shorter side of 224; a path that is
    too long for the image is shortened. spin: radians a frame, either way. growth: of the radius, from first to last
    frame, or its inverse.
    """

    scene: SceneSpec = field(default_factory=lambda: SceneSpec(objects=(1, 3), radius=(12.0, 40.0)))
    frames: int = 16
    fps: float = 8.0
    motions: tuple[str, ...] = MOTIONS
    speed: tuple[float, float] = (2.0, 8.0)
    spin: tuple[float, float] = (0.05, 0.25)
    growth: tuple[float, float] = (1.3, 2.0)

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= MAX_FRAMES:
            raise InputError(f"a clip of scenes has 1 to {MAX_FRAMES} frames, not {self.frames}.")
        if not 0.1 <= self.fps <= 240:
            raise InputError(f"the frame rate must be within 0.1 to 240 a second, not {self.fps}.")
        if not self.motions or not set(self.motions) <= set(MOTIONS):
            raise InputError(f"unknown motion in {list(self.motions)}: choose from {', '.join(MOTIONS)}.")
        for noun, (low, high), least in (("speed", self.speed, 0), ("spin", self.spin, 0), ("growth", self.growth, 1)):
            if not least <= low <= high < math.inf:
                raise InputError(f"{noun} must be a range from {least} up, not {low} to {high}.")
        if len(self.scene.colors) < self.scene.objects[1]:
            raise InputError(
                f"{self.scene.objects[1]} objects need as many colours to be told apart, not {len(self.scene.colors)}."
            )


@dataclass(frozen=True)
class MovingScenes(SampledBatch):
    """A batch of clips' descriptions, as tensors on one device.

    first: the scenes whose shapes, colours and backgrounds the clips have (its places are not the clips').
    motion: (B, N) index into MOTIONS. tracks: (B, F, N, 4) x, y, radius (fractions), rotation (radians) at each
    frame. present: (B, F, N) bool, whether the object is there.
    """

    first: Scenes
    motion: Tensor
    tracks: Tensor
    present: Tensor
    fps: float

    @property
    def frames(self) -> int:
        return self.tracks.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.first.size

    def resized(self, size: tuple[int, int]) -> MovingScenes:
        """The same clips for images of another (H, W)."""
        return replace(self, first=self.first.resized(size))

    def reversed(self) -> MovingScenes:
        """The same clips from the last frame to the first: what differs is the direction of time alone."""
        appear, vanish = MOTIONS.index("appear"), MOTIONS.index("vanish")
        motion = torch.where(self.motion == appear, vanish, torch.where(self.motion == vanish, appear, self.motion))
        return replace(self, motion=motion, tracks=self.tracks.flip(1), present=self.present.flip(1))

    def scenes(self, frames: slice = slice(None)) -> Scenes:
        """Every frame as a still scene, clip after clip: B · F of them. frames: only some of each clip."""
        tracks, present = self.tracks[:, frames], self.present[:, frames]
        rows = torch.arange(len(self), device=tracks.device).repeat_interleave(tracks.shape[1])
        place = torch.cat([torch.where(present[..., None], tracks[..., :2], _ABSENT), tracks[..., 2:]], -1)
        return replace(self.first[rows], place=place.flatten(0, 1))

    def centres(self) -> Tensor:
        """(B, F, N, 2) of the whole objects, hidden parts included, in pixels; NaN where one is not there.

        A pixel's centre is at a half: the first pixel's is (0.5, 0.5). Each shape's centroid is its centre.
        """
        height, width = self.size
        centre = self.tracks[..., :2] * torch.tensor([width, height], device=self.tracks.device)
        used = torch.arange(self.motion.shape[1], device=self.motion.device) < self.first.count[:, None]
        return centre.where((self.present & used[:, None])[..., None], torch.nan)

    def heading(self, i: int, j: int) -> str | None:
        """The direction, one of HEADINGS, from an object's first place to its last; None where it stays in place."""
        height, width = self.size
        dx, dy = (self.tracks[i, -1, j, :2] - self.tracks[i, 0, j, :2]).tolist()
        dx, dy = dx * width, dy * height  # pixels; y is downwards
        return HEADINGS[round(math.atan2(dy, dx) / (math.pi / 4)) % 8] if math.hypot(dx, dy) >= 1 else None

    def describe(self, i: int) -> dict[str, Any]:
        """Clip i as plain JSON values; each object has its track: x, y, radius, rotation by frame, None if absent."""
        tracks, present = self.tracks[i].tolist(), self.present[i].tolist()
        objects = [
            {
                "shape": SHAPES[int(self.first.shape[i, j])],
                "color": COLOR_NAMES[int(self.first.color[i, j])],
                "motion": MOTIONS[int(self.motion[i, j])],
                "heading": self.heading(i, j),
                "track": [
                    dict(zip(PLACE, tracks[t][j], strict=True)) if present[t][j] else None for t in range(self.frames)
                ],
            }
            for j in range(int(self.first.count[i]))
        ]
        still = self.first.describe(i)
        return {k: still[k] for k in ("size", "background")} | {
            "frames": self.frames,
            "fps": self.fps,
            "objects": objects,
        }

    def hashes(self) -> Tensor:
        """(B,) int64, a hash of what each clip shows, frame by frame, whatever its size and frame rate."""
        return self._by_frame(self.scenes().hashes())

    def _by_frame(self, frames: Tensor) -> Tensor:
        """Hashes of all frames (B · F,) → one for each clip (B,)."""
        state = torch.zeros_like(self.motion[:, 0])
        for frame in frames.view(len(self), -1).unbind(1):
            state = mix_hash(state + frame + 1)
        return state

    def split(self) -> list[str]:
        """The split each clip belongs to, as a scene's; a clip and its reverse are always of one split."""
        ways = self, self.reversed()
        hashes = mix_hash(torch.stack([way.hashes() for way in ways]).sum(0))
        drawn = mix_hash(torch.stack([way._by_frame(way.scenes()._drawn_hashes()) for way in ways]).sum(0))
        return split_names(hashes, drawn)


@dataclass(frozen=True)
class Flow:
    """Where each pixel goes from one frame to the next.

    forward: (B, F - 1, 2, H, W), pixels to the right and down that the point shown by a pixel of frame t moves until
    frame t + 1; 0 where it is gone. occluded: (B, F - 1, H, W) bool, pixels of frame t whose point is hidden, gone
    or out of the image in frame t + 1.
    """

    forward: Tensor
    occluded: Tensor


def sample_motion(
    index: Tensor | range, seed: int, spec: MotionSpec, device: torch.device | str = "cpu"
) -> MovingScenes:
    """Clips number `index` of `seed`. Each depends on (seed, its own number, spec) and nothing else.

    index: (B,) int64 or a range. Returns MovingScenes of B, with as many slots as `spec` allows objects.
    """
    numbers = torch.as_tensor(list(index) if isinstance(index, range) else index, device=device)
    first = sample(numbers, seed, replace(spec.scene, overlap=True), device)
    slots, names = spec.scene.objects[1], spec.scene.colors
    u = uniform(numbers, seed ^ _SALT, 1 + len(names) + 8 * slots)
    order = u[:, 1 : 1 + len(names)].argsort(1)[:, :slots]  # (B, N) no colour twice
    table = torch.tensor([COLOR_NAMES.index(name) for name in names], device=device)
    first = replace(first, color=table[order])
    body = u[:, 1 + len(names) :].view(len(numbers), slots, 8)
    allowed = torch.tensor([MOTIONS.index(name) for name in spec.motions], device=device)
    motion = allowed[(body[..., 0] * len(allowed)).long()]
    turns = motion == MOTIONS.index("rotation")
    round_shape = (first.shape[..., None] == torch.tensor(_ROUND, device=device)).any(-1)
    motion = torch.where(turns & round_shape, MOTIONS.index("growth"), motion)
    tracks, present = _tracks(body[..., 1:], motion, first, spec)
    # A mover aims at the slot behind it: half of the clips are turned over, so that it also passes behind others.
    slot = torch.arange(slots, device=device).expand(len(numbers), -1)
    turned = (u[:, :1] < 0.5) & (slot < first.count[:, None])
    slot = torch.where(turned, first.count[:, None] - 1 - slot, slot)

    def reorder(x: Tensor, dim: int) -> Tensor:
        shape = [len(numbers), *[1] * (x.ndim - 1)]
        shape[dim] = slots
        return x.gather(dim, slot.view(shape).expand_as(x))

    first = replace(first, shape=reorder(first.shape, 1), color=reorder(first.color, 1), place=reorder(first.place, 1))
    return MovingScenes(first, reorder(motion, 1), reorder(tracks, 2), reorder(present, 2), spec.fps)


def take_motion(
    count: int, seed: int, spec: MotionSpec, split: str | None = None, device: torch.device | str = "cpu"
) -> MovingScenes:
    """The first `count` clips of `seed` that belong to `split` (None: any)."""
    return take_split(lambda numbers: sample_motion(numbers, seed, spec, device), count, split)


def _tracks(u: Tensor, motion: Tensor, first: Scenes, spec: MotionSpec) -> tuple[Tensor, Tensor]:
    """Tracks (B, F, N, 4) and presence (B, F, N) from uniform draws (B, N, 7)."""
    height, width = first.size
    steps, device = max(1, spec.frames - 1), u.device
    aspect = torch.tensor([width, height], device=device) / min(width, height)  # fractions → short sides
    time = (torch.arange(spec.frames, device=device) / steps)[:, None]  # (F, 1), 0 to 1
    tracks, present = list[Tensor](), list[Tensor]()
    middle = None  # (B, 2) of the slot before, half-way through
    for j in range(u.shape[1]):
        draw, radius, kind = u[:, j], first.place[:, j, 2:3], motion[:, j, None]  # (B, 7), (B, 1), (B, 1)

        def is_kind(name: str, kind: Tensor = kind) -> Tensor:  # (B, 1)
            return kind == MOTIONS.index(name)

        edge = radius + MARGIN
        room = aspect - 2 * edge  # (B, 2) within which the centre stays, in short sides
        length = (spec.speed[0] + (spec.speed[1] - spec.speed[0]) * draw[:, :1]) / 224 * steps
        angle = draw[:, 1:2] * 2 * math.pi
        path = length * torch.cat([angle.cos(), angle.sin()], 1)  # (B, 2) from first to last frame
        fits = (room / path.abs().clamp_min(1e-6)).amin(1, keepdim=True).clamp(max=1)

        still = first.place[:, j, :2] * aspect
        line = path * fits
        start = edge + (-line).clamp_min(0) + (room - line.abs()) * draw[:, 2:4]

        # The longer part of a bouncing path meets a wall between 0.3 and 0.7 of the time, and is folded back there.
        wall = torch.where(path > 0, edge + room, edge)
        meets = path.abs() == path.abs().amax(1, keepdim=True)
        bounce = torch.where(meets, wall - path * (0.3 + 0.4 * draw[:, 4:5]), edge + room * draw[:, 2:4])
        bounced = bounce[:, None] + path[:, None] * time  # (B, F, 2)
        span = room[:, None]
        bounced = edge[:, None] + span - ((bounced - edge[:, None]) % (2 * span) - span).abs()

        # A path of occlusion has its middle on the slot before, as far as the image allows.
        through, aim = path, start + line / 2
        if middle is not None:
            aim = torch.maximum(middle, edge).minimum(edge + room)
            near = 2 * torch.minimum(aim - edge, edge + room - aim)
            through = path * (near / path.abs().clamp_min(1e-6)).amin(1, keepdim=True).clamp(max=1)
        else:
            through = line
        straight = is_kind("translation")[:, None], start[:, None] + line[:, None] * time
        crossing = is_kind("occlusion")[:, None], (aim - through / 2)[:, None] + through[:, None] * time
        place = still[:, None].expand(-1, spec.frames, -1)
        for chosen, moved in (straight, crossing, (is_kind("bounce")[:, None], bounced)):
            place = torch.where(chosen, moved, place)

        most = ((torch.minimum(still, aspect - still)).amin(1, keepdim=True) - MARGIN).clamp(max=_MOST_RADIUS)
        factor = spec.growth[0] + (spec.growth[1] - spec.growth[0]) * draw[:, 5:6]
        larger, smaller = (radius * factor).minimum(most), (radius / factor).clamp_min(_LEAST_RADIUS)
        # Either way by chance, but the other way where there is little room for it.
        grows = torch.where(draw[:, 4:5] < 0.5, larger / radius >= 1.15, radius / smaller < 1.15)
        last = torch.where(is_kind("growth"), torch.where(grows, larger, smaller), radius)
        size = radius * (last / radius) ** time[:, 0]  # (B, F)

        spin = (spec.spin[0] + (spec.spin[1] - spec.spin[0]) * draw[:, 5:6]) * torch.where(draw[:, 4:5] < 0.5, 1, -1)
        turn = first.place[:, j, 3:4] + is_kind("rotation") * spin * steps * time[:, 0]

        switch = 0.25 + 0.5 * draw[:, 6:7]  # of the time
        exists = torch.where(is_kind("appear"), time[:, 0] >= switch, ~is_kind("vanish") | (time[:, 0] < switch))
        tracks.append(torch.cat([place / aspect, size[..., None], turn[..., None]], -1))
        present.append(exists)
        middle = place[:, [(spec.frames - 1) // 2, spec.frames // 2]].mean(1)
    return torch.stack(tracks, 2), torch.stack(present, 2)


def render_motion(clips: MovingScenes, chunk: int = 64) -> Rendered:
    """Draws every frame, on the device the clips lie on, `chunk` frames at a time.

    Returns Rendered with images (B, F, 3, H, W) uint8, full and visible (B, F, N, H, W) bool, boxes (B, F, N, 4).
    """
    rendered = render(clips.scenes(), chunk)
    shape = (len(clips), clips.frames)
    return Rendered(*(getattr(rendered, k).unflatten(0, shape) for k in ("images", "full", "visible", "boxes")))


def motion_flow(clips: MovingScenes, chunk: int = 64) -> Flow:
    """The exact flow and occlusion of every pair of neighbouring frames, `chunk` pairs at a time.

    The points of a rotating or growing object move with it; a background stays. Raises InputError on one frame.
    """
    if clips.frames < 2:
        raise InputError("flow needs at least two frames.")
    now, then = clips.scenes(slice(0, -1)), clips.scenes(slice(1, None))
    present = clips.present[:, 1:].flatten(0, 1)
    parts = [_flow(now[i : i + chunk], then[i : i + chunk], present[i : i + chunk]) for i in range(0, len(now), chunk)]
    forward, occluded = (torch.cat(part).unflatten(0, (len(clips), -1)) for part in zip(*parts, strict=True))
    return Flow(forward, occluded)


def _flow(now: Scenes, then: Scenes, present: Tensor) -> tuple[Tensor, Tensor]:
    """Flow (P, 2, H, W) and occlusion (P, H, W) of P pairs of frames. present: (P, N) bool, objects in the second."""
    (height, width), short = now.size, min(now.size)
    aspect = torch.tensor([width, height], device=present.device) / short
    grid_x, grid_y = pixel_centres(now)
    x, y = (g.expand(len(now), height, width) for g in (grid_x, grid_y))
    owner = torch.full((len(now), height, width), -1, device=present.device)  # the slot that a pixel shows
    to_x, to_y = x, y  # where its point lies in the second frame, in short sides
    unseen_later = torch.zeros_like(owner, dtype=torch.bool)
    for j in range(present.shape[1]):
        covered = coverage(now, j, grid_x, grid_y) >= 0.5
        (cx, cy), (ex, ey) = ((s.place[:, j, :2] * aspect).unbind(-1) for s in (now, then))
        turn, scale = then.place[:, j, 3] - now.place[:, j, 3], then.place[:, j, 2] / now.place[:, j, 2]
        cos, sin = ((scale * f(turn))[:, None, None] for f in (torch.cos, torch.sin))
        dx, dy = x - cx[:, None, None], y - cy[:, None, None]
        leaves = ~present[:, j, None, None]
        moved_x, moved_y = ex[:, None, None] + cos * dx - sin * dy, ey[:, None, None] + sin * dx + cos * dy
        to_x = torch.where(covered, torch.where(leaves, x, moved_x), to_x)
        to_y = torch.where(covered, torch.where(leaves, y, moved_y), to_y)
        owner, unseen_later = torch.where(covered, j, owner), torch.where(covered, leaves, unseen_later)
    hidden = unseen_later
    for j in range(present.shape[1]):
        hidden = hidden | ((coverage(then, j, to_x, to_y) >= 0.5) & (j > owner))
    inside = (to_x >= 0) & (to_x <= width / short) & (to_y >= 0) & (to_y <= height / short)
    return torch.stack([to_x - x, to_y - y], 1) * short, hidden | ~inside
