"""The Latent map tab's form: what a map is to be of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from foresight.data.factors import ANY
from foresight.data.scenes import BACKGROUNDS
from foresight.maps.data import MapSpec
from foresight.models.points import ExtractionPoint
from foresight.schemas import limits_of, whole
from foresight.ui.inputs import FreeNumber, FreeSlider

SCENES, TOKENS = "scenes", "tokens"
FLAT, SOLID = "2-D", "3-D"
ONE, MANY = "one", "1 to 5"


@dataclass(frozen=True)
class Form:
    """The components, in the order of `spec_of`'s arguments, and the presets that set them all."""

    inputs: Sequence[gr.components.Component]
    presets: Sequence[gr.Button]
    draw: gr.Button
    stop: gr.Button


def defaults(point: str) -> list[Any]:
    """What the form begins with."""
    return values_of(MapSpec((point,)))


def presets(points: Sequence[ExtractionPoint], default: ExtractionPoint) -> dict[str, list[Any]]:
    """Examples by name: the form's values."""
    first = defaults(str(default))
    language = [p for p in points if p.stage == default.stage]
    walk = [str(p) for p in language[:: max(1, len(language) // 4)]]
    return {
        "One object: what comes together?": first,
        "Tokens: object or background?": [[str(default)], TOKENS, 150, 16, *first[4:]],
        "Through the layers: what moves?": [walk, SCENES, 300, *first[3:]],
    }


def spec_of(
    points: list[str],
    unit: str,
    scenes: int,
    tokens: int,
    shape: str,
    objects: str,
    background: str,
    seed: int,
    neighbours: int,
    min_dist: float,
    clusters: int,
) -> MapSpec:
    """The form's values as a spec. Raises InputError."""
    return MapSpec(
        points=tuple(points or ()),
        scenes=scenes,
        seed=seed,
        objects=(1, 5) if objects == MANY else (1, 1),
        backgrounds=BACKGROUNDS if background == ANY else (background,),
        tokens=whole(tokens, "tokens a scene", 1, 64) if unit == TOKENS else 0,
        dimensions=3 if shape == SOLID else 2,
        neighbours=neighbours,
        min_dist=min_dist,
        clusters=clusters,
    )


def values_of(spec: MapSpec) -> list[Any]:
    """The form's values that give a spec."""
    unit, tokens = (TOKENS, spec.tokens) if spec.tokens else (SCENES, 8)
    background = ANY if spec.backgrounds == BACKGROUNDS else spec.backgrounds[0]
    shape, objects = SOLID if spec.dimensions == 3 else FLAT, ONE if spec.objects[1] == 1 else MANY
    chosen = [list(spec.points), unit, spec.scenes, tokens, shape, objects, background]
    return [*chosen, spec.seed, spec.neighbours, spec.min_dist, spec.clusters]


def build_form(
    points: Sequence[ExtractionPoint], default: ExtractionPoint, examples: dict[str, list[Any]], most: int
) -> Form:
    """The form inside the current layout. examples: as from `presets`. most: points that a map may have."""
    first = defaults(str(default))
    with gr.Row(elem_classes="fs-map-presets"):
        buttons = [gr.Button(name, size="sm", min_width=90) for name in examples]
    with gr.Group():
        where = gr.Dropdown(
            [str(p) for p in points],
            value=first[0],
            multiselect=True,
            label="Extraction points: the map's layers",
            info="Several: each has its map, turned onto the one before; a slider moves between them.",
            elem_id="map-points",
        )
        with gr.Row():
            unit = gr.Radio(
                [("a scene: mean of its tokens", SCENES), ("a token", TOKENS)],
                value=first[1],
                label="A point of the map is",
                elem_id="map-unit",
            )
            shape = gr.Radio([FLAT, SOLID], value=first[4], label="Map", min_width=90, elem_id="map-dimensions")
        scenes = _slider("scenes", "Scenes", first[2], step=10, most=most, elem_id="map-scenes")
        tokens = _slider("tokens", "Tokens of each scene", first[3], least=1, visible=False)
    with gr.Accordion("More: scenes and UMAP", open=False):
        with gr.Row():
            objects = gr.Radio([ONE, MANY], value=first[5], label="Objects in a scene", min_width=120)
            background = gr.Dropdown([ANY, *BACKGROUNDS], value=first[6], label="Background", min_width=120)
            seed = FreeNumber(first[7], label="Seed", min_width=90)
        neighbours = _slider("neighbours", "Neighbours", first[8], most=100)
        min_dist = _slider("min_dist", "Least distance", first[9], step=0.01, most=0.99)
        clusters = _slider("clusters", "Clusters", first[10])
    with gr.Row():
        draw = gr.Button("Draw the map", variant="primary", min_width=140, elem_id="map-draw")
        stop = gr.Button("Stop", min_width=80, interactive=False, elem_id="map-stop")
    unit.change(
        lambda chosen: gr.Slider(visible=chosen == TOKENS),
        unit,
        tokens,
        api_visibility="private",
        show_progress="hidden",
    )
    inputs = [where, unit, scenes, tokens, shape, objects, background, seed, neighbours, min_dist, clusters]
    return Form(inputs, buttons, draw, stop)


def _slider(
    field: str, label: str, value: float, step: float = 1, least: float = 0, most: float = 10**9, **more: Any
) -> gr.Slider:
    """A slider for a number of MapSpec, within its limits and these."""
    limits = limits_of(MapSpec, field)
    low, high = max(least, limits.least), min(most, limits.most)
    return FreeSlider(low, high, value=value, step=step, label=label, info=limits.help or None, **more)
