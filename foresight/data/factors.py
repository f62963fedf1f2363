"""What people choose of generated scenes, in words: the form, the API and links all make a SceneSpec of these."""

from __future__ import annotations

from typing import Annotated

from foresight.data.scenes import BACKGROUNDS, COLOR_NAMES, MAX_OBJECTS, SHAPES, SceneSpec
from foresight.schemas import Choice, Flag, Names, Pair, schema

ANY = "any"
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
