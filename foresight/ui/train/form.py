"""The Train tab's controls: what to fit, on what, and how; and their way to and from plain settings."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from foresight.data.scenes import BACKGROUNDS, COLOR_NAMES, SHAPES
from foresight.schemas import limits_of
from foresight.ui.error_handling import error_place
from foresight.ui.inputs import FreeDropdown, FreeNumber, FreeSlider
from foresight.ui.pixels import SIZES
from foresight.ui.train.services import TrainingService, Values

DATA_LABELS = {
    "mixture": "The usual mixture of scenes",
    "factors": "Scenes of chosen factors",
    "pictures": "My pictures",
    "mixture and pictures": "Both: the usual mixture and a zip",
}
PAIRS = {"objects": ("objects_low", "objects_high"), "radius": ("radius_low", "radius_high")}
FACTORS = ("objects", "shapes", "colors", "radius", "backgrounds")  # settings of `data` "factors" alone


class TrainForm:
    """The components, `fields` by the names of settings; a pair's two go by PAIRS."""

    def __init__(self, service: TrainingService) -> None:
        """Adds the controls to the current layout, set to the first preset."""
        self.startable = service.startable()
        self.schema, self.presets, self.devices = service.settings, service.presets, service.devices
        first, self.initial = next(iter(self.presets.items()))
        self.fields: dict[str, Component] = {}
        self.preset = gr.Radio(list(self.presets), value=first, label="Recipe", elem_id="train-preset")
        self.name = gr.Textbox(
            label="Name of the run and its adapter",
            placeholder="such as my-stars; empty: the recipe's",
            max_lines=1,
            elem_id="train-name",
        )
        self.start = gr.Button("Start", variant="primary", elem_id="train-start")
        self.error = error_place("train-error")
        with gr.Group(elem_classes="fs-train-group"):
            self.cost = gr.HTML(elem_id="train-cost", apply_default_css=False, padding=False)
            self.time = gr.HTML(elem_id="train-time", apply_default_css=False, padding=False)
        data = self.initial["data"]
        choices = [(DATA_LABELS[name], name) for name in limits_of(self.schema, "data").known]
        self.fields["data"] = self.data = gr.Radio(choices, value=data, label="Learn from", elem_id="train-data")
        with gr.Group(visible="pictures" in data) as self.upload:
            self.archive = gr.File(
                label="A zip of pictures; at most a quarter is held out",
                file_types=[".zip"],
                height=110,
                elem_id="train-archive",
            )
        with gr.Accordion("Extraction points and adapters", open=False, elem_id="train-adapters-more"):
            self._add_adapter_fields(list(map(str, service.points)))
        with gr.Accordion("Scenes and pictures: how many, which", open=False, elem_id="train-data-more"):
            self._add_data_fields(data)
        with gr.Accordion("Loss, steps, rate, seed, device", open=False, elem_id="train-learning-more"):
            self._add_learning_fields()

    @property
    def inputs(self) -> list[Component]:
        """The components whose values `settings` takes."""
        return list(self.fields.values())

    def settings(self, inputs: Sequence[Any]) -> Values:
        """The values of `inputs` as settings, without those of fields that are hidden."""
        values = dict(zip(self.fields, inputs, strict=True))
        for pair, (low, high) in PAIRS.items():
            values[pair] = [values.pop(low), values.pop(high)]
        hidden: tuple[str, ...] = () if values["data"] == "factors" else FACTORS
        hidden += () if "pictures" in values["data"] else ("photos_weight",)
        return {name: value for name, value in values.items() if name not in hidden}

    def values_of(self, settings: Values) -> list[Any]:
        """Settings as values of `inputs`."""
        values = dict(settings)
        for pair, ends in PAIRS.items():
            values.update(zip(ends, values.pop(pair), strict=True))
        return [values[name] for name in self.fields]

    def _add_number(self, name: str, label: str, **options: Any) -> None:
        """A number without bounds: Gradio's sentence would not say which of them is meant."""
        self.fields[name] = FreeNumber(self.initial[name], label=label, elem_id=f"train-{name}", **options)

    def _add_adapter_fields(self, points: list[str]) -> None:
        self.fields["points"] = gr.Dropdown(
            points,
            value=self.initial["points"],
            multiselect=True,
            label="Extraction points",
            info=limits_of(self.schema, "points").help,
            elem_id="train-points",
        )
        self.fields["start"] = FreeDropdown(
            self.startable,
            value=[],
            multiselect=True,
            label="Begin from",
            info=limits_of(self.schema, "start").help,
            elem_id="train-begin",
        )
        self.fields["kinds"] = gr.CheckboxGroup(
            list(limits_of(self.schema, "kinds").known),
            value=self.initial["kinds"],
            label="Adapters, at each point",
            elem_id="train-kinds",
        )
        width = limits_of(self.schema, "hidden")
        self.fields["hidden"] = FreeSlider(
            width.least,
            width.most,
            value=self.initial["hidden"],
            step=8,
            label="Hidden width",
            info=width.help,
            elem_id="train-hidden",
        )

    def _add_data_fields(self, data: str) -> None:
        self._add_number("scenes", "Scenes")
        self._add_number("photos_weight", "Pictures for each scene, where both are learned from")
        with gr.Group(visible=data == "factors") as self.factors:
            self._add_factor_fields()

    def _add_learning_fields(self) -> None:
        losses = list(limits_of(self.schema, "loss").known)
        self.fields["loss"] = gr.Radio(losses, value=self.initial["loss"], label="Loss on", elem_id="train-loss")
        states = list(limits_of(self.schema, "keep").known)
        self.fields["keep"] = gr.Radio(
            states,
            value=self.initial["keep"],
            label="Keep of its states",
            info="Four are tried on validation pictures; held-out scores are of others.",
            elem_id="train-keep-state",
        )
        with gr.Row():
            self._add_number("steps", "Steps", min_width=90)
            self._add_number("batch", "Batch", min_width=90)
            self._add_number("lr", "Learning rate", min_width=90)
        self.fields["pixels"] = FreeDropdown(
            list(SIZES),
            value=self.initial["pixels"],
            multiselect=True,
            allow_custom_value=True,
            label="Sizes to the model",
            info=limits_of(self.schema, "pixels").help,
            elem_id="train-pixels",
        )
        with gr.Row():
            self._add_number("seed", "Seed", min_width=90)
            self.seeds = FreeNumber(1, label="Runs, a seed each", min_width=90, elem_id="train-seeds")
        with gr.Row():
            self._add_number("held_out", "Held out", min_width=90)
            devices = [(name, name) for name in self.devices]
            devices = [("a free one", ""), *devices] if len(devices) > 1 else devices
            first = devices[0][1]
            self.device = gr.Dropdown(devices, value=first, label="Device", min_width=90, elem_id="train-device")

    def _add_factor_fields(self) -> None:
        for name, label, known in (
            ("shapes", "Shapes", SHAPES),
            ("colors", "Colours", COLOR_NAMES),
            ("backgrounds", "Backgrounds", BACKGROUNDS),
        ):
            self.fields[name] = gr.Dropdown(
                list(known),
                value=self.initial[name],
                multiselect=True,
                label=f"{label}: none chosen is any",
                elem_id=f"train-{name}",
            )
        for pair, noun in (("objects", "Objects"), ("radius", "Radius in px")):
            with gr.Row():
                for name, end, value in zip(PAIRS[pair], ("least", "most"), self.initial[pair], strict=True):
                    self.fields[name] = FreeNumber(value, label=f"{noun}, {end}", min_width=120)
