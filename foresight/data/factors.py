"""What people choose of generated scenes, in words: the form, the API and links all make a SceneSpec of these."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from foresight.data.scenes import BACKGROUNDS, COLOR_NAMES, MAX_OBJECTS, SHAPES, SceneSpec
from foresight.errors import InputError
from foresight.schemas import MAX_SEED, Choice, Flag, Names, Pair, Whole, schema

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


@schema
class SceneFactors:
    """What scenes may hold; of shapes, colours and backgrounds none chosen means any. Raises InputError."""

    objects: Annotated[tuple[int, int], Pair("objects", 1, MAX_OBJECTS, "The fewest and the most.")] = (1, MAX_OBJECTS)
    shapes: Annotated[tuple[str, ...], Names("shapes")] = ()
    colors: Annotated[tuple[str, ...], Names("colors")] = ()
    size: Annotated[str, Choice("size", tuple(RADII))] = ANY
    position: Annotated[str, Choice("position", tuple(POSITIONS))] = ANY
    backgrounds: Annotated[tuple[str, ...], Names("backgrounds")] = ()
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
