"""The Latent map tab's form: the settings of a map, as components."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from foresight.data.factors import ANY
from foresight.data.scenes import BACKGROUNDS, MAX_OBJECTS
from foresight.maps.data import MapSpec
from foresight.models.points import ExtractionPoint
from foresight.models.vlm import VLM
from foresight.schemas import default_of, limits_of, whole
from foresight.ui.inputs import FreeNumber, FreeSlider
from foresight.ui.pixels import pixels_dropdown
from foresight.ui.services import QUIET

SCENES, TOKENS = "scenes", "tokens"  # what a point of the map is
DRAWN, UPLOAD, FOLDER = SOURCES = ("Generated scenes", "Upload", "Folder")

# The settings with one field of the form each; the points come before them, with the unit and its number of tokens.
_OF_SCENES = ("scenes", "dimensions", "objects", "background", "seed")
_FIELDS = (*_OF_SCENES, "neighbours", "min_dist", "clusters", "method", "pixels")


def presets(points: Sequence[ExtractionPoint], default: ExtractionPoint) -> dict[str, MapSpec]:
    """Examples by name."""
    language = [str(p) for p in points if p.stage == default.stage]
    single = (str(default),)
    return {
        "One object: what comes together?": MapSpec(single),
        "Tokens: object or background?": MapSpec(single, scenes=150, tokens=16),
        "Through the layers: what moves?": MapSpec(tuple(language[:: max(1, len(language) // 4)]), scenes=300),
    }


def spec_of(points: list[str] | None, unit: str, tokens: int, *others: Any) -> MapSpec:
    """The spec that the form's values, in the order of `MapForm.inputs`, give. Raises InputError."""
    limits = limits_of(MapSpec, "tokens")
    tokens = whole(tokens, limits.noun, 1, limits.most) if unit == TOKENS else 0
    return MapSpec(points=tuple(points or ()), tokens=tokens, **dict(zip(_FIELDS, others, strict=True)))


def values_of(spec: MapSpec) -> list[Any]:
    """The form's values that give a spec."""
    unit = [TOKENS, spec.tokens] if spec.tokens else [SCENES, 8]
    return [list(spec.points), *unit, *(getattr(spec, name) for name in _FIELDS)]


class MapForm:
    """The form, inside the current layout."""

    def __init__(
        self,
        vlm: VLM,
        default: ExtractionPoint,
        examples: dict[str, MapSpec],
        most_scenes: int,
        local: bool,
    ) -> None:
        """Creates the components.

        Args:
            vlm: Whose points there are to choose from.
            default: The one at first.
            examples: As from `presets`; each has a button.
            most_scenes: Where the slider of scenes ends.
            local: Whether a folder of this machine may be named.
        """
        with gr.Row(elem_classes="fs-map-presets"):
            self.presets = [gr.Button(name, size="sm", min_width=90) for name in examples]
        with gr.Group():
            self.points = gr.Dropdown(
                [str(p) for p in vlm.points],
                value=[str(default)],
                multiselect=True,
                label="Extraction points: the map's layers",
                info="Several: each has its map, turned onto the one before; a slider moves between them.",
                elem_id="map-points",
            )
            with gr.Row():
                self.unit = gr.Radio(
                    [("a picture: mean of its tokens", SCENES), ("a token", TOKENS)],
                    value=SCENES,
                    label="A point of the map is",
                    elem_id="map-unit",
                )
                self.dimensions = _choice("dimensions", [("2-D", 2), ("3-D", 3)], "Map", elem_id="map-dimensions")
            self.method = gr.Radio(
                [("UMAP", "umap"), ("PCA", "pca"), ("t-SNE", "t-sne")],
                value=default_of(MapSpec, "method"),
                label="Drawn by",
                info="UMAP and t-SNE keep neighbours together, PCA distances along the widest directions. The first "
                "UMAP since the app was started takes 10 to 40 s more.",
                elem_id="map-method",
            )
            self.source = gr.Radio(
                [*SOURCES[: 2 + local]], value=DRAWN, label="Pictures", elem_id="map-source", min_width=200
            )
            self.files = gr.File(
                file_count="multiple",
                label="Pictures or zips; their folders are classes",
                visible=False,
                height=110,
                elem_id="map-files",
            )
            self.folder = gr.Textbox(
                label="A folder of pictures on this machine",
                info="Folders inside it are classes.",
                visible=False,
                max_lines=1,
                elem_id="map-folder",
            )
            self.scenes = _slider("scenes", "Scenes", step=10, most=most_scenes, elem_id="map-scenes")
            self.tokens = _slider("tokens", "Tokens of each picture", least=1, value=8, visible=False)
        with gr.Accordion("More: scenes and drawing", open=False):
            with gr.Row():
                counts = [("one", 1), (f"1 to {MAX_OBJECTS}", MAX_OBJECTS)]
                self.objects = _choice("objects", counts, "Objects in a scene")
                background = default_of(MapSpec, "background")
                self.background = gr.Dropdown([ANY, *BACKGROUNDS], value=background, label="Background", min_width=120)
                self.seed = FreeNumber(default_of(MapSpec, "seed"), label="Seed", min_width=90)
            self.neighbours = _slider("neighbours", "Neighbours, of t-SNE the perplexity", most=100)
            self.min_dist = _slider("min_dist", "Least distance, of UMAP", step=0.01, most=0.99)
            self.clusters = _slider("clusters", "Clusters")
            self.pixels = pixels_dropdown(vlm, "map-pixels", default_of(MapSpec, "pixels"))
        with gr.Row(elem_classes="fs-go"):
            self.draw = gr.Button("Draw the map", variant="primary", min_width=140, elem_id="map-draw")
            self.stop = gr.Button("Stop", min_width=80, interactive=False, elem_id="map-stop")
        self.own = [self.source, self.files, self.folder]
        source_fields = [self.files, self.folder, self.scenes]
        self.source.change(self.show_source, self.source, source_fields, **QUIET)
        self.unit.change(self.show_tokens, self.unit, self.tokens, **QUIET)

    @property
    def inputs(self) -> list[gr.components.Component]:
        """In the order of `values_of`."""
        return [self.points, self.unit, self.tokens, *(getattr(self, name) for name in _FIELDS)]

    def show_source(self, source: str) -> list[Any]:
        """The fields of one source of pictures alone."""
        return [
            gr.File(visible=source == UPLOAD),
            gr.Textbox(visible=source == FOLDER),
            gr.Slider(visible=source == DRAWN),
        ]

    def show_tokens(self, unit: str) -> gr.Slider:
        """The number of tokens is there only where a point of the map is one."""
        return gr.Slider(visible=unit == TOKENS)


def _choice(field: str, choices: list[tuple[str, int]], label: str, **options: Any) -> gr.Radio:
    return gr.Radio(choices, value=default_of(MapSpec, field), label=label, min_width=90, **options)


def _slider(
    field: str,
    label: str,
    step: float = 1,
    least: float = 0,
    most: float = 10**9,
    value: float | None = None,
    **options: Any,
) -> gr.Slider:
    """A slider for a number of MapSpec, within its limits and these; at its default unless a value is given."""
    limits = limits_of(MapSpec, field)
    value = default_of(MapSpec, field) if value is None else value
    low, high = max(least, limits.least), min(most, limits.most)
    return FreeSlider(low, high, value=value, step=step, label=label, info=limits.help or None, **options)
