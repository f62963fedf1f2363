"""What generated scenes may hold: for the sampler, and in words for the form, the API, links and the command line.

It imports no torch, so that the command line can say what there is at once.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

from foresight.errors import InputError
from foresight.schemas import MAX_SEED, Choice, Flag, Names, Pair, Whole, schema

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "orange": (255, 140, 0),
    "yellow": (250, 220, 20),
    "green": (30, 150, 50),
    "cyan": (30, 200, 220),
    "blue": (30, 60, 220),
    "purple": (120, 40, 160),
    "pink": (255, 110, 180),
    "brown": (130, 75, 30),
    "black": (20, 20, 20),
}
COLOR_NAMES = tuple(COLORS)
SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross", "bar", "ring")
BACKGROUNDS = ("white", "plain", "gradient", "texture")
MAX_OBJECTS = 5
ANY = "any"
MAX_SCENES = 1024  # in one evaluation on the page or over the API
SIZES = {"small": (12.0, 24.0), "medium": (24.0, 40.0), "large": (40.0, 64.0)}  # radius in pixels at 224²
RADII = {ANY: (12.0, 64.0)} | SIZES
POSITIONS = {  # where centres may lie; wider than the thirds that reports name, so that several objects have room
    ANY: (0.0, 0.0, 1.0, 1.0),
    "top left": (0.0, 0.0, 0.5, 0.5),
    "top right": (0.5, 0.0, 1.0, 0.5),
    "centre": (0.3, 0.3, 0.7, 0.7),
    "bottom left": (0.0, 0.5, 0.5, 1.0),
    "bottom right": (0.5, 0.5, 1.0, 1.0),
}


@dataclass(frozen=True)
class SceneSpec:
    """What scenes may hold; every factor is drawn independently of the others.

    objects: least and most objects (1 to 5). radius: pixels at a shorter side of 224 (12 to 64).
    region: where centres may lie, as fractions (left, top, right, bottom). overlap: objects may cover each
    other, though never another's centre; without it they keep apart, and shrink where there is no room.
    size: (H, W) in pixels.
    """

    objects: tuple[int, int] = (1, 5)
    shapes: tuple[str, ...] = SHAPES
    colors: tuple[str, ...] = COLOR_NAMES
    radius: tuple[float, float] = (12.0, 64.0)
    region: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    backgrounds: tuple[str, ...] = BACKGROUNDS
    overlap: bool = True
    size: tuple[int, int] = (224, 224)

    def __post_init__(self) -> None:
        low, high = self.objects
        if not 1 <= low <= high <= MAX_OBJECTS:
            raise InputError(f"objects must be a range within 1 to {MAX_OBJECTS}, not {low} to {high}.")
        if not 12 <= self.radius[0] <= self.radius[1] <= 64:
            raise InputError(f"radius must be a range within 12 to 64 px, not {self.radius[0]} to {self.radius[1]}.")
        x0, y0, x1, y1 = self.region
        if not (0 <= x0 <= x1 <= 1 and 0 <= y0 <= y1 <= 1):
            raise InputError(f"region must be fractions left ≤ right and top ≤ bottom in 0 to 1, not {self.region}.")
        if min(self.size) < 56:
            raise InputError(f"scenes need at least 56 px a side, not {self.size[0]} × {self.size[1]}.")
        for noun, names, known in (
            ("shape", self.shapes, SHAPES),
            ("colour", self.colors, COLOR_NAMES),
            ("background", self.backgrounds, BACKGROUNDS),
        ):
            if not names or not set(names) <= set(known):
                raise InputError(f"unknown {noun} in {list(names)}: choose from {', '.join(known)}.")


Objects = Annotated[tuple[int, int], Pair("objects", 1, MAX_OBJECTS, "The fewest and the most.")]
Shapes = Annotated[tuple[str, ...], Names("shapes", SHAPES)]
Colors = Annotated[tuple[str, ...], Names("colors", COLOR_NAMES)]
Backgrounds = Annotated[tuple[str, ...], Names("backgrounds", BACKGROUNDS)]


@schema
class SceneFactors:
    """What scenes may hold; of shapes, colours and backgrounds none chosen means any. Raises InputError."""

    objects: Objects = (1, MAX_OBJECTS)
    shapes: Shapes = ()
    colors: Colors = ()
    size: Annotated[str, Choice("size", tuple(RADII))] = ANY
    position: Annotated[str, Choice("position", tuple(POSITIONS))] = ANY
    backgrounds: Backgrounds = ()
    overlap: Annotated[bool, Flag("overlap")] = True
    """Objects may cover each other."""

    def spec(self) -> SceneSpec:
        """The same for the sampler of scenes. Raises InputError on unknown names."""
        return SceneSpec(
            objects=self.objects,
            shapes=self.shapes or SHAPES,
            colors=self.colors or COLOR_NAMES,
            radius=RADII[self.size],
            region=POSITIONS[self.position],
            backgrounds=self.backgrounds or BACKGROUNDS,
            overlap=self.overlap,
        )

    @classmethod
    def from_json(cls, values: Any) -> SceneFactors:
        """Factors from an object of JSON, by their names; what is absent is not restricted.

        Raises:
            InputError: It is no object, or has an unknown name or value.
        """
        if not isinstance(values, dict):
            raise InputError(f'factors must be such as {{"shapes": ["star"]}}, not {values!r}.')
        known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        if unknown := set(values) - set(known):
            raise InputError(f"unknown factor {min(unknown)!r}: choose from {', '.join(known)}.")
        return cls(**values)


@schema
class EvaluationSettings:
    """Which scenes of the test split are evaluated. Raises InputError."""

    scenes: Annotated[int, Whole("scenes", 1, MAX_SCENES, "How many, drawn by the seed.")] = 48
    seed: Annotated[int, Whole("the seed", 0, MAX_SEED, "Others give other scenes.")] = 0
    factors: SceneFactors = SceneFactors()
    """What they may hold."""
