"""The Failures tab's form: which images are evaluated, and by which adapter."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from foresight.adapters.registry import AdapterRecord
from foresight.data.factors import ANY, MAX_SCENES, POSITIONS, RADII, EvaluationSettings, SceneFactors
from foresight.data.scenes import BACKGROUNDS, COLOR_NAMES, MAX_OBJECTS, SHAPES
from foresight.inspection.inspector import Inspector
from foresight.ui.failures.filters import several
from foresight.ui.inputs import FreeDropdown, FreeNumber, FreeSlider
from foresight.ui.navigation import on_open, updated_choices
from foresight.ui.pixels import pixels_dropdown
from foresight.ui.services import QUIET

SCENES, UPLOAD, FOLDER = SOURCES = ("Generated scenes", "Upload", "Folder")
CHOSEN = "Chosen on the map"  # a source once some were
PRESETS = {
    "One on white": EvaluationSettings(factors=SceneFactors(objects=(1, 1), backgrounds=("white",))),
    "Five on texture": EvaluationSettings(factors=SceneFactors(objects=(5, 5), backgrounds=("texture",))),
    "Small things": EvaluationSettings(factors=SceneFactors(objects=(1, 3), size="small", overlap=False)),
}


def values_of(settings: EvaluationSettings) -> dict[str, Any]:
    """What form and address hold of the settings, by the names that an address uses, in the form's order."""
    factors = dataclasses.asdict(settings.factors)  # type: ignore[call-overload]
    least, most = factors.pop("objects")
    values = {"scenes": settings.scenes, "seed": settings.seed, "least": least, "most": most, **factors}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def settings_of(values: Mapping[str, Any]) -> EvaluationSettings:
    """The settings that `values_of` wrote. Raises InputError."""
    factors = {name: value for name, value in values.items() if name not in ("scenes", "seed", "least", "most")}
    objects = (values["least"], values["most"])
    return EvaluationSettings(values["scenes"], values["seed"], SceneFactors(objects=objects, **factors))


DEFAULTS = values_of(EvaluationSettings())
WORDS: dict[str, tuple[str, ...]] = {  # that an address may name
    "shapes": SHAPES,
    "colors": COLOR_NAMES,
    "size": tuple(RADII),
    "position": tuple(POSITIONS),
    "backgrounds": BACKGROUNDS,
}


class ImageForm:
    """Where the images come from: generated scenes, uploaded files, or a folder.

    Attributes:
        scenes: The settings of generated scenes, in the order of `values_of`.
        inputs: All components, the scenes' last.
    """

    def __init__(self, local: bool, most: int) -> None:
        """Adds the form to the current layout.

        Args:
            local: Whether a folder of this machine may be named.
            most: Scenes that one run may take.
        """
        self.sources = [source for source in SOURCES if local or source != FOLDER]
        self.source = gr.Radio(self.sources, value=SCENES, label="Pictures", elem_id="failures-source")
        with gr.Column(elem_classes="fs-failures-fields") as scenes:
            self.scenes = self._scene_inputs(most)
        with gr.Column(visible=False, elem_classes="fs-failures-fields") as upload:
            self.files = gr.File(
                file_count="multiple", label="Pictures, or zip archives of them", elem_id="failures-files"
            )
        with gr.Column(visible=False, elem_classes="fs-failures-fields") as folder:
            self.folder = gr.Textbox(label="A folder of pictures on this machine", elem_id="failures-folder")
        self.inputs: list[Any] = [self.source, self.files, self.folder, *self.scenes]
        self.source.change(self.turn, self.source, [scenes, upload, folder], **QUIET)

    def _scene_inputs(self, most: int) -> Sequence[Component]:
        with gr.Row():
            presets = {name: gr.Button(name, size="sm", min_width=80) for name in PRESETS}
        objects = functools.partial(FreeSlider, 1, MAX_OBJECTS, step=1, min_width=120)
        with gr.Row():
            count = FreeSlider(
                8,
                min(MAX_SCENES // 2, most),
                value=DEFAULTS["scenes"],
                step=8,
                label="Scenes",
                min_width=140,
                elem_id="failures-count",
            )
            seed = FreeNumber(DEFAULTS["seed"], label="Seed", min_width=80)
        with gr.Row():
            low = objects(value=DEFAULTS["least"], label="Objects, least")
            high = objects(value=DEFAULTS["most"], label="Objects, most")
        shapes, colors = several(SHAPES, "Shapes"), several(COLOR_NAMES, "Colours")
        with gr.Row():
            size = gr.Dropdown(list(RADII), value=ANY, label="Size", min_width=90)
            position = gr.Dropdown(list(POSITIONS), value=ANY, label="Position", min_width=90)
        backgrounds = several(BACKGROUNDS, "Backgrounds")
        overlap = gr.Checkbox(DEFAULTS["overlap"], label="Objects may overlap")
        inputs = [count, seed, low, high, shapes, colors, size, position, backgrounds, overlap]
        for name, button in presets.items():
            button.click(functools.partial(self.fill, name), None, inputs, **QUIET)
        return inputs

    def turn(self, source: str) -> list[Any]:
        """Shows the fields of one source alone."""
        return [gr.Column(visible=source == name) for name in SOURCES]

    def fill(self, preset: str) -> list[Any]:
        """The form's values of a preset."""
        return list(values_of(PRESETS[preset]).values())


class AdapterForm:
    """Extraction point, adapter, and how large the model sees images.

    What training has added since is offered when the tab is opened.
    """

    def __init__(self, inspector: Inspector) -> None:
        """Adds the form to the current layout."""
        self.inspector = inspector
        points, point, names, name = self._offer(str(inspector.default_point), None)
        with gr.Row():
            self.point = FreeDropdown(
                points, value=point, label="Extraction point", min_width=120, elem_id="failures-point"
            )
            self.name = FreeDropdown(names, value=name, label="Adapter", min_width=120, elem_id="failures-adapter")
        self.pixels = pixels_dropdown(inspector.vlm, "failures-pixels")
        offered: list[Any] = [self.point, self.name]
        self.inputs: list[Any] = [*offered, self.pixels]
        # Never into the point's own field, which may have been used again meanwhile.
        self.point.input(self.offer_names, offered, self.name, **QUIET, trigger_mode="always_last")
        on_open(self.offer, offered, offered)

    def offer(self, point: str | None, name: str | None) -> tuple[Any, Any]:
        """The points and adapters that there are; what is chosen stays so, while it is there."""
        points, point_kept, names, name_kept = self._offer(point, name)
        return (
            updated_choices(gr.Dropdown, points, point, point_kept),
            updated_choices(gr.Dropdown, names, name, name_kept),
        )

    def offer_names(self, point: str | None, name: str | None) -> Any:
        """The adapters of a point alone."""
        return self.offer(point, name)[1]

    def _offer(self, point: str | None, name: str | None) -> tuple[list[str], str | None, list[str], str | None]:
        """Points, the one to show, its adapters, and the one to show."""
        records = self.inspector.adapters()
        points = list(dict.fromkeys(str(record.point) for record in records))
        point = point if point in points else next(iter(points), None)
        names = names_at(records, point)
        return points, point, names, name if name in names else next(iter(names), None)


def names_at(records: Sequence[AdapterRecord], point: str | None) -> list[str]:
    """The names of the adapters at a point."""
    return [record.name for record in records if str(record.point) == point]
