"""Synthetic scenes with exact masks, boxes and labels.

Shapes: B scenes, N object slots in z-order (the last is in front), H × W pixels. Positions are fractions
of width and height, radii fractions of the shorter side, so that one scene renders at any size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from foresight.data.batch import SampledBatch, take_split
from foresight.data.factors import BACKGROUNDS, COLOR_NAMES, SHAPES, SceneSpec
from foresight.data.factors import COLORS as COLORS
from foresight.data.factors import MAX_OBJECTS as MAX_OBJECTS
from foresight.errors import InputError

SPLITS = ("train", "val", "test")  # about 40, 4 and 6 % of all scenes; the others are in none
NO_SPLIT = "none"
MARGIN = 3 / 224  # least distance of an object to the border, and between objects that may not overlap
PLACE = ("x", "y", "radius", "rotation")
_CANDIDATES = 128  # places tried for an object
_FOLDS = {"square": 4, "triangle": 3, "star": 5, "diamond": 2, "cross": 4, "bar": 2}  # a round shape has none
_R2_STEP = (0.7548776662466927, 0.5698402909980532)  # 1 / p and 1 / p², p the real root of p³ = p + 1


@dataclass(frozen=True)
class Scenes(SampledBatch):
    """A batch of scene descriptions, as tensors on one device."""

    size: tuple[int, int]
    count: Tensor  # (B,) objects in the scene; slots from there on are empty
    shape: Tensor  # (B, N) index into SHAPES
    color: Tensor  # (B, N) index into COLOR_NAMES
    place: Tensor  # (B, N, 4) x, y, radius (fractions), rotation (radians)
    background: Tensor  # (B,) index into BACKGROUNDS
    tones: Tensor  # (B, 2, 3) the background's two colours, sRGB in [0, 1]
    pattern: Tensor  # (B, 6) angle, two frequencies (cycles a short side), two phases, sharpness

    def resized(self, size: tuple[int, int]) -> Scenes:
        """The same scenes for pictures of another (H, W)."""
        return replace(self, size=size)

    def label(self, i: int, j: int) -> str:
        """``"red circle"``"""
        return f"{COLOR_NAMES[int(self.color[i, j])]} {SHAPES[int(self.shape[i, j])]}"

    def describe(self, i: int) -> dict[str, Any]:
        """Scene i as plain JSON values, from which `from_description` makes the very same scene again."""
        objects = [
            dict(zip(PLACE, self.place[i, j].tolist(), strict=True))
            | {"shape": SHAPES[int(self.shape[i, j])], "color": COLOR_NAMES[int(self.color[i, j])]}
            for j in range(int(self.count[i]))
        ]
        background = {
            "kind": BACKGROUNDS[int(self.background[i])],
            "tones": self.tones[i].tolist(),
            "pattern": self.pattern[i].tolist(),
        }
        return {"size": list(self.size), "background": background, "objects": objects}

    @staticmethod
    def from_description(scene: dict[str, Any]) -> Scenes:
        """A batch of one scene from `describe`'s JSON values. Raises InputError where they are not of that form."""
        try:
            objects, background = scene["objects"], scene["background"]
            scenes = Scenes(
                size=(int(scene["size"][0]), int(scene["size"][1])),
                count=torch.tensor([len(objects)]),
                shape=torch.tensor([[SHAPES.index(o["shape"]) for o in objects]]),
                color=torch.tensor([[COLOR_NAMES.index(o["color"]) for o in objects]]),
                place=torch.tensor([[o[k] for k in PLACE] for o in objects]).float().view(1, len(objects), 4),
                background=torch.tensor([BACKGROUNDS.index(background["kind"])]),
                tones=torch.tensor(background["tones"]).float().view(1, 2, 3),
                pattern=torch.tensor(background["pattern"]).float().view(1, 6),
            )
        except (KeyError, IndexError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise InputError(f"this is not a scene's description: {error}.") from error
        return scenes._checked()

    def _checked(self) -> Scenes:
        """Itself; raises InputError where its numbers are outside of what `sample` draws from."""
        what = "this is not a scene's description"
        if not all(x.isfinite().all() for x in (self.place, self.tones, self.pattern)):
            raise InputError(f"{what}: it has a number that is not finite.")
        shares = torch.cat([self.place[..., :2].flatten(), self.tones.flatten()])
        if not ((shares >= 0) & (shares <= 1)).all() or not (self.place[..., 2] > 0).all():
            raise InputError(f"{what}: x, y and tones lie within 0 to 1, and a radius is above 0.")
        return self

    def hashes(self) -> Tensor:
        """(B,) int64, a hash of what each scene shows, whatever its size; numbers count to a 4096th.

        What does not show is left out: the second tone and the pattern of an even background, all of a gradient's
        pattern but its angle, turns that bring a shape onto itself, and objects outside of the picture.
        """
        tones, flat = self._whole(self.tones.flatten(1)), (self.tones[:, 0] == self.tones[:, 1]).all(1)
        texture = self.background == BACKGROUNDS.index("texture")
        pattern = self._whole(self.pattern) * texture[:, None]
        pattern[:, 0] = torch.where(texture, pattern[:, 0], self._whole(self.pattern[:, 0]))  # a gradient's angle
        ground = torch.cat([tones, torch.where(flat[:, None], 0, pattern), (texture & ~flat)[:, None].long()], 1)
        sectors = torch.tensor([2 * math.pi / _FOLDS.get(name, math.inf) for name in SHAPES], device=texture.device)
        sector = sectors[self.shape]  # 0 of a round shape
        turn = torch.remainder(self.place[..., 3], sector.where(sector > 0, 1.0))
        turn = turn.where((sector > 0) & (sector - turn > 1 / 8192), 0.0)  # what rounds up to a whole sector is none
        place = torch.cat([self.place[..., :3], turn[..., None]], -1)
        return self._fold(ground, place, inside=(self.place[..., :2] >= -1).all(-1))

    def _drawn_hashes(self) -> Tensor:
        """(B,) int64, the hash of every number drawn, seen or not: it told the bundled weights' training scenes."""
        ground = self._whole(torch.cat([self.tones.flatten(1), self.pattern], 1))
        ground = torch.cat([ground, self.background[:, None]], 1)
        return self._fold(ground, self.place, inside=torch.ones_like(self.shape, dtype=torch.bool))

    @staticmethod
    def _whole(x: Tensor) -> Tensor:
        return (x * 4096).round().long()

    def _fold(self, ground: Tensor, place: Tensor, inside: Tensor) -> Tensor:
        """Folds whole numbers of the ground (B, n) and the objects inside (B, N) into one (B,)."""

        def fold(columns: Tensor) -> Tensor:
            state = torch.zeros_like(columns[..., 0])
            for column in columns.unbind(-1):
                state = mix_hash(state + column + 1)
            return state

        objects = torch.cat([self._whole(place), self.shape[..., None], self.color[..., None]], -1)
        slots = torch.arange(objects.shape[1], device=objects.device).expand(objects.shape[:2])
        object_hashes = fold(torch.cat([slots[..., None], objects], -1)) * ((slots < self.count[:, None]) & inside)
        return fold(torch.cat([ground, object_hashes.sum(1)[:, None]], 1))

    def split(self) -> list[str]:
        """The split each scene belongs to, so that no two splits share what is shown; NO_SPLIT for most."""
        return split_names(self.hashes(), self._drawn_hashes())


def split_names(visible: Tensor, drawn: Tensor) -> list[str]:
    """The splits of what has these hashes (B,): of what is shown, and of every number that was drawn.

    The first alone keeps splits apart: what looks alike is of one split, or of none. By the second the bundled weights'
    training scenes were told (their last digit below 8), when it also counted numbers that do not show. Until weights
    are bundled that know the first alone, no scene that they may have learned from is for validation or test.
    """
    names = []
    for a, b in zip((visible % 10).tolist(), (drawn % 10).tolist(), strict=True):
        name = "train" if a < 5 else "val" if a < 7 else "test"
        names.append(name if (name == "train") == (b < 8) else NO_SPLIT)
    return names


def mix_hash(x: Tensor) -> Tensor:
    """splitmix64's finaliser (Steele et al. 2014) on int64, whose products wrap; >> is made logical by masks."""
    x = (x ^ ((x >> 30) & 0x3_FFFF_FFFF)) * -0x40A7B892E31B1A47
    x = (x ^ ((x >> 27) & 0x1F_FFFF_FFFF)) * -0x6B2FB644ECCEEE15
    return x ^ ((x >> 31) & 0x1_FFFF_FFFF)


def uniform(numbers: Tensor, seed: int, draws: int) -> Tensor:
    """(B, draws) in [0, 1), of a counter-based generator: a row depends on (seed, its own number) alone."""
    key = mix_hash(mix_hash(torch.tensor(seed, device=numbers.device)) + numbers)[:, None]  # (B, 1)
    bits = mix_hash(key + torch.arange(1, draws + 1, device=numbers.device) * -0x61C8864680B583EB)
    return ((bits >> 40) & 0xFF_FFFF).float() / 2**24


def sample(index: Tensor | range, seed: int, spec: SceneSpec, device: torch.device | str = "cpu") -> Scenes:
    """Scenes number `index` of `seed`. Each depends on (seed, its own number, spec) and nothing else.

    index: (B,) int64 or a range. Returns Scenes of B, with as many slots as `spec` allows objects.
    """
    numbers = torch.as_tensor(list(index) if isinstance(index, range) else index, device=device)
    slots = spec.objects[1]
    draws = 16 + slots * 6
    u = uniform(numbers, seed, draws)

    def pick(values: Tensor, known: tuple[str, ...], allowed: tuple[str, ...]) -> Tensor:
        table = torch.tensor([known.index(a) for a in allowed], device=device)
        return table[(values * len(allowed)).long()]

    head, body = u[:, :16], u[:, 16:].view(len(numbers), slots, -1)
    low, high = spec.objects
    count = low + (head[:, 0] * (high - low + 1)).long()
    background = pick(head[:, 1], BACKGROUNDS, spec.backgrounds)
    tones, pattern = _background(head[:, 2:], background)
    return Scenes(
        size=spec.size,
        count=count,
        shape=pick(body[..., 0], SHAPES, spec.shapes),
        color=pick(body[..., 1], COLOR_NAMES, spec.colors),
        place=_place(body[..., 2:], spec, count),
        background=background,
        tones=tones,
        pattern=pattern,
    )


def take(
    count: int, seed: int, spec: SceneSpec, split: str | None = None, device: torch.device | str = "cpu"
) -> Scenes:
    """The first `count` scenes of `seed` that belong to `split` (None: any)."""
    return take_split(lambda numbers: sample(numbers, seed, spec, device), count, split)


def _background(u: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
    """Two light tones of low saturation and a pattern's numbers from uniform draws (B, ≥ 12)."""
    hue, saturation, value = u[:, 0:2], u[:, 2:4] * 0.2, 0.75 + 0.25 * u[:, 4:6]
    wheel = torch.tensor([0.0, 2 / 3, 1 / 3], device=u.device)
    ramp = ((hue[..., None] + wheel) % 1 * 6 - 3).abs().sub(1).clamp(0, 1)  # (B, 2, 3) pure hues
    tones = value[..., None] * (1 - saturation[..., None] * (1 - ramp))
    first = torch.where((kind == BACKGROUNDS.index("white"))[:, None], 1.0, tones[:, 0])
    darker = first * (0.92 + 0.04 * u[:, 6:7])  # a texture's second tone: 4 to 8 % darker than its first
    second = torch.where((kind == BACKGROUNDS.index("texture"))[:, None], darker, first)
    second = torch.where((kind == BACKGROUNDS.index("gradient"))[:, None], tones[:, 1], second)
    angle, phases = u[:, 7:8] * 2 * math.pi, u[:, 8:10] * 2 * math.pi
    waves = 2.25 + 4 * u[:, 10:12]  # cycles a short side: 36 to 100 px at 224
    return torch.stack([first, second], 1), torch.cat([angle, waves, phases, 0.5 + 2.5 * u[:, 12:13]], 1)


def _place(u: Tensor, spec: SceneSpec, count: Tensor) -> Tensor:
    """Positions, radii and rotations (B, N, 4) from uniform draws (B, N, 4).

    An object takes the first place with room for it among a few; where there is none, the roomiest place
    among many, at the radius for which there is room.
    """
    height, width = spec.size
    aspect = torch.tensor([width, height], device=u.device) / min(width, height)  # fractions → short sides
    low, high = (r / 224 for r in spec.radius)
    # Four or five objects that keep apart are drawn smaller, so that the last one always finds room.
    crowded = 64 / 224 * (3 / count[:, None, None]).clamp(max=1).sqrt() if not spec.overlap else math.inf
    radii = low + (torch.full_like(u[..., 0:1], high).clamp(max=crowded) - low) * u[..., 0:1]  # (B, N, 1)
    first_tries = torch.arange(_CANDIDATES, device=u.device) < _CANDIDATES // 4
    edge = (torch.where(first_tries, radii, low)[..., None] + MARGIN) / aspect  # (B, N, C, 2)
    region = torch.tensor(spec.region, device=u.device)
    start = torch.maximum(edge, region[:2]).minimum(1 - edge)
    stop = torch.minimum(1 - edge, region[2:]).maximum(start)
    # From a random start, each try is a step of the R2 sequence (Roberts 2018), which covers the plane evenly.
    steps = torch.arange(_CANDIDATES, device=u.device)[:, None] * torch.tensor(_R2_STEP, device=u.device)
    spots = start + (stop - start) * ((u[..., None, 2:4] + steps) % 1)
    chosen: list[Tensor] = []  # (B, 3) x, y, radius
    for j in range(u.shape[1]):
        spot, radius = spots[:, j], radii[:, j]  # (B, C, 2), (B, 1)
        room = (torch.minimum(spot, 1 - spot) * aspect).amin(-1) - MARGIN  # (B, C) the largest radius that fits
        for other in chosen:
            distance = ((spot - other[:, None, :2]) * aspect).norm(dim=-1) - MARGIN
            if spec.overlap:
                room = torch.where(distance >= other[:, 2:], room.minimum(distance), -1.0)
            else:
                room = room.minimum(distance - other[:, 2:])
        fits = room >= radius - 1e-6
        best = torch.where(fits.any(1), fits.int().argmax(1), room.argmax(1))[:, None]
        spot = spot.gather(1, best[..., None].expand(-1, -1, 2))[:, 0]
        chosen.append(torch.cat([spot, torch.minimum(radius, room.gather(1, best))], 1))
    placed = torch.stack(chosen, 1)
    used = torch.arange(u.shape[1], device=u.device) < count[:, None]
    if ((placed[..., 2] < low - 1e-6) & used).any():
        raise InputError(f"there is no room for {u.shape[1]} objects of radius {spec.radius[0]:g} px or more there.")
    return torch.cat([placed, u[..., 1:2] * 2 * math.pi], -1)
