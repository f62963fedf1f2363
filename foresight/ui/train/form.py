"""The Train tab's controls: what to fit, on what, and how; and their way to and from plain settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from foresight.adapters.modules import KINDS
from foresight.data.scenes import BACKGROUNDS, COLOR_NAMES, SHAPES
from foresight.models.points import ExtractionPoint
from foresight.ui.error_handling import error_place
from foresight.ui.inputs import FreeNumber, FreeSlider, RawFile

DATA = [
    ("The usual mixture of scenes", "mixture"),
    ("Scenes of chosen factors", "factors"),
    ("My pictures", "pictures"),
    ("Both: the usual mixture and a zip", "mixture and pictures"),
]
PAIRS = {"objects": ("objects_low", "objects_high"), "radius": ("radius_low", "radius_high")}

Settings = dict[str, Any]


@dataclass(frozen=True)
class Form:
    """The components by the names of settings; a pair's two go by PAIRS."""

    preset: gr.Radio
    name: gr.Textbox
    fields: dict[str, Component]
    archive: gr.File
    device: gr.Dropdown
    factors: gr.Group
    upload: gr.Group
    cost: gr.HTML
    start: gr.Button
    refused: gr.HTML

    @property
    def inputs(self) -> list[Component]:
        return list(self.fields.values())

    def settings(self, values: Sequence[Any]) -> Settings:
        """The values of `inputs` as settings."""
        found = dict(zip(self.fields, values, strict=True))
        for pair, (low, high) in PAIRS.items():
            found[pair] = [found.pop(low), found.pop(high)]
        return found

    def values(self, settings: Settings) -> list[Any]:
        """Settings as values of `inputs`."""
        flat = dict(settings)
        for pair, ends in PAIRS.items():
            flat.update(zip(ends, flat.pop(pair), strict=True))
        return [flat[name] for name in self.fields]


def build_form(
    points: Sequence[ExtractionPoint], losses: Sequence[str], devices: Sequence[str], presets: dict[str, Settings]
) -> Form:
    """The controls inside the current layout, set to the first preset."""
    first = next(iter(presets))
    given = presets[first]
    preset = gr.Radio(list(presets), value=first, label="Recipe", elem_id="train-preset")
    name = gr.Textbox(
        label="Name of the run and its adapter",
        placeholder="such as my-stars; empty: the recipe's",
        max_lines=1,
        elem_id="train-name",
    )
    start = gr.Button("Start", variant="primary", elem_id="train-start")
    refused = error_place("train-refused")
    fields: dict[str, Component] = {}
    with gr.Group(elem_classes="fs-train-group"):
        fields["points"] = gr.Dropdown(
            list(map(str, points)),
            value=given["points"],
            multiselect=True,
            label="Extraction points",
            info="Several share one pass through the model and train side by side.",
            elem_id="train-points",
        )
        fields["kinds"] = gr.CheckboxGroup(
            list(KINDS), value=given["kinds"], label="Adapters, at each point", elem_id="train-kinds"
        )
        fields["hidden"] = FreeSlider(
            0,
            4096,
            value=given["hidden"],
            step=8,
            label="Hidden width",
            info="Of pooled and tokens. 0 is a quarter of the latents' width, at least 128.",
            elem_id="train-hidden",
        )
        cost = gr.HTML(elem_id="train-cost", apply_default_css=False)
    with gr.Group(elem_classes="fs-train-group"):
        fields["data"] = gr.Radio(DATA, value=given["data"], label="Learn from", elem_id="train-data")
        fields["scenes"] = FreeNumber(given["scenes"], label="Scenes", elem_id="train-scenes")
        with gr.Group(visible=given["data"] == "factors") as factors:
            _factor_fields(fields, given)
        with gr.Group(visible="pictures" in given["data"]) as upload:
            archive = RawFile(
                label="A zip of pictures: random squares are learned from; at most a quarter is held out",
                file_types=[".zip"],
                height=110,
                elem_id="train-archive",
            )
            fields["photos_weight"] = FreeNumber(
                given["photos_weight"], label="Pictures for each scene, where both are learned from"
            )
    with gr.Group(elem_classes="fs-train-group"):
        fields["loss"] = gr.Radio(list(losses), value=given["loss"], label="Loss on", elem_id="train-loss")
        with gr.Row():
            fields["steps"] = FreeNumber(given["steps"], label="Steps", min_width=90, elem_id="train-steps")
            fields["batch"] = FreeNumber(given["batch"], label="Batch", min_width=90, elem_id="train-batch")
            fields["lr"] = FreeNumber(given["lr"], label="Learning rate", min_width=90, elem_id="train-lr")
        with gr.Row():
            fields["seed"] = FreeNumber(given["seed"], label="Seed", min_width=90, elem_id="train-seed")
            fields["held_out"] = FreeNumber(given["held_out"], label="Held out", min_width=90)
            device = gr.Dropdown(list(devices), value=devices[0], label="Device", min_width=90, elem_id="train-device")
    return Form(preset, name, fields, archive, device, factors, upload, cost, start, refused)


def _factor_fields(fields: dict[str, Component], given: Settings) -> None:
    for name, label, known in (
        ("shapes", "Shapes", SHAPES),
        ("colors", "Colours", COLOR_NAMES),
        ("backgrounds", "Backgrounds", BACKGROUNDS),
    ):
        fields[name] = gr.Dropdown(
            list(known),
            value=given[name],
            multiselect=True,
            label=f"{label}: none chosen is any",
            elem_id=f"train-{name}",
        )
    # No bounds on numbers: Gradio's sentence would not say which of them is meant.
    for pair, noun in (("objects", "Objects"), ("radius", "Radius in px")):
        with gr.Row():
            for name, end, value in zip(PAIRS[pair], ("least", "most"), given[pair], strict=True):
                fields[name] = FreeNumber(value, label=f"{noun}, {end}", min_width=120)
