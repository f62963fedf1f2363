"""The scene controls: what a person chooses → a scene, its picture and its mask."""

import functools
import json
import random
from typing import Any

import gradio as gr
from PIL import Image
from torch import Tensor

from foresight.data.factors import ANY, POSITIONS, RADII, SceneFactors
from foresight.data.images import to_pil
from foresight.data.render import render
from foresight.data.resolution import Resolution
from foresight.data.scenes import BACKGROUNDS, COLOR_NAMES, MAX_OBJECTS, SHAPES, Scenes, sample
from foresight.schemas import MAX_SEED, whole
from foresight.ui.error_handling import error_place
from foresight.ui.inputs import FreeNumber, FreeSlider
from foresight.ui.services import ImageSource, open_picture

# What a scene is made from, as `make_scene` takes it; a link names those that are not so.
FACTORS: dict[str, Any] = {
    "seed": 0,
    "shape": ANY,
    "color": ANY,
    "objects": 1,
    "size": ANY,
    "position": ANY,
    "background": "white",
    "overlap": True,
}


def make_scene(
    shape: str, color: str, objects: float, size: str, position: str, background: str, overlap: bool, seed: float
) -> dict[str, Any]:
    """A scene's description, from which `draw` makes its picture, and under "recipe" what it was made from.

    Raises InputError on unknown choices.
    """
    count, number = whole(objects, "objects", 1, MAX_OBJECTS), whole(seed, "seed", 0, MAX_SEED)
    shapes, colors, backgrounds = (() if name == ANY else (name,) for name in (shape, color, background))
    spec = SceneFactors((count, count), shapes, colors, size, position, backgrounds, overlap).spec()
    values = (number, shape, color, count, size, position, background, overlap)
    recipe = {k: v for k, v in zip(FACTORS, values, strict=True) if k == "seed" or v != FACTORS[k]}
    return sample(range(1), number, spec).describe(0) | {"recipe": recipe}


def fields(source: ImageSource) -> list[Any]:
    """The values of `SceneControls.inputs` that a source was made from; those that are there, where nothing tells."""
    recipe = source.get("recipe", {}) if isinstance(source, dict) else {}
    seed, *rest = (FACTORS | recipe).values()
    return [*rest, seed] if "seed" in recipe else [gr.skip()] * len(FACTORS)


def image_and_mask(source: ImageSource) -> tuple[Image.Image, Tensor | None]:
    """A source's picture, and its mask where it is known exactly. Raises InputError where there is none."""
    return draw(source) if isinstance(source, dict) else (open_picture(source), None)


def at_size(source: ImageSource, resolution: Resolution) -> ImageSource:
    """A scene's source drawn as large as the model sees it; any other as it is."""
    if not isinstance(source, dict):
        return source
    return source | {"size": [*resolution.size(*Scenes.from_description(source).size)]}


def draw(scene: dict[str, Any]) -> tuple[Image.Image, Tensor]:
    """A described scene's picture, and the mask (H, W) of its objects; neither is to be changed."""
    return _draw(json.dumps(scene))


@functools.lru_cache(maxsize=64)
def _draw(scene: str) -> tuple[Image.Image, Tensor]:
    rendered = render(Scenes.from_description(json.loads(scene)))
    return to_pil(rendered.images[0].float() / 255), rendered.mask[0]


def visible(scene: dict[str, Any]) -> Tensor:
    """What is seen of each object of a described scene: (N, H, W) bool."""
    return render(Scenes.from_description(scene)).visible[0]


def roll() -> int:
    """A seed that nobody chose."""
    return random.randint(0, MAX_SEED)


class SceneControls:
    """What a scene is drawn from.

    Attributes:
        inputs: The components, in the order of `make_scene`'s arguments.
        error: Where it is said why there is no such scene.
    """

    def __init__(self) -> None:
        """Adds the controls to the current layout."""
        with gr.Row():
            shape = gr.Dropdown([ANY, *SHAPES], value=ANY, label="Shape", min_width=90)
            color = gr.Dropdown([ANY, *COLOR_NAMES], value=ANY, label="Colour", min_width=90)
            size = gr.Dropdown(list(RADII), value=ANY, label="Size", min_width=90)
        with gr.Row():
            position = gr.Dropdown(list(POSITIONS), value=ANY, label="Position", min_width=90)
            background = gr.Dropdown([ANY, *BACKGROUNDS], value="white", label="Background", min_width=90)
            self.seed = FreeNumber(value=7, label="Seed", min_width=90)  # make_scene says what is allowed
        objects = FreeSlider(1, MAX_OBJECTS, value=1, step=1, label="Objects")
        overlap = gr.Checkbox(value=True, label="Objects may overlap")
        with gr.Row():
            self.draw = gr.Button("Generate", min_width=100, elem_id="generate")
            self.dice = gr.Button("Another seed", min_width=100, elem_id="dice")
        self.inputs = [shape, color, objects, size, position, background, overlap, self.seed]
        self.error = error_place("generate-refused")
