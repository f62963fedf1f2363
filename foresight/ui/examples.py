"""The pictures that a visitor finds on the page: drawn scenes, and photos that scikit-image comes with."""

from importlib.util import find_spec
from pathlib import Path

from foresight.data.scenes import SceneSpec, sample
from foresight.errors import InputError
from foresight.ui.services import ImageSource

FIRST = "cup of coffee"  # what Inspect begins with: much of a photo is lost at once, and one sees what stays
SCENES: dict[str, tuple[int, SceneSpec]] = {  # by name: seed, and what they hold
    "one on white": (7, SceneSpec(objects=(1, 1), radius=(36, 64), backgrounds=("white",))),
    "three, overlapping": (3, SceneSpec(objects=(3, 3), radius=(28, 64), backgrounds=("gradient",))),
    "five on texture": (5, SceneSpec(objects=(5, 5), backgrounds=("texture",))),
    "four apart": (2, SceneSpec(objects=(4, 4), backgrounds=("plain",), overlap=False)),
    "wide": (4, SceneSpec(objects=(3, 3), backgrounds=("texture",), size=(168, 308))),
}
# In the public domain (NASA, SpaceX) or CC0 (Rachel Michetti, Stéfan van der Walt). No bundled weights learn from them.
PHOTOS = {"cup of coffee": "coffee.png", "cat": "chelsea.png", "astronaut": "astronaut.png", "rocket": "rocket.jpg"}


def examples() -> dict[str, ImageSource]:
    """The examples by their names: scenes, then photos."""
    return {name: example(_slug(name)) for name in (*SCENES, *PHOTOS)}


def example(slug: str) -> ImageSource:
    """The example of that name, as links write it: "one-on-white". Raises InputError where there is none."""
    for name, (seed, spec) in SCENES.items():
        if _slug(name) == slug:
            return sample(range(1), seed, spec).describe(0) | {"recipe": {"example": slug}}
    for name, file in PHOTOS.items():
        if _slug(name) == slug:
            return str(_photo_folder() / file)
    raise InputError(f"there is no example {slug!r}: choose from {', '.join(map(_slug, (*SCENES, *PHOTOS)))}.")


def photo_slug(source: ImageSource) -> str | None:
    """The name of an example's photo, as links write it; None of anything else."""
    for name, file in PHOTOS.items():
        if source == str(_photo_folder() / file):
            return _slug(name)
    return None


def _photo_folder() -> Path:
    """Where they lie in the installed package, whose own functions would download what is missing."""
    (package,) = find_spec("skimage").submodule_search_locations  # type: ignore[union-attr, misc]
    return Path(package) / "data"


def _slug(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")
