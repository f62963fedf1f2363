"""The Failures tab's controls: which pictures, which adapter, and which of the results to show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr
from gradio.components import Component

from foresight.adapters.registry import AdapterRecord
from foresight.data.factors import ANY, POSITIONS, RADII, SceneFactors
from foresight.data.scenes import BACKGROUNDS, COLOR_NAMES, MAX_OBJECTS, SHAPES, SceneSpec
from foresight.errors import InputError
from foresight.metrics.matching import SIZES
from foresight.metrics.scores import SCORES
from foresight.ui.cards import NAMES
from foresight.ui.inputs import FreeNumber, FreeSlider, RawFile
from foresight.ui.navigation import on_open, updated_choices

SOURCES = ("Generated scenes", "Upload", "Folder")
MAX_SCENES = 1024
SCORE_CHOICES = [(NAMES[name], name) for name in SCORES]
ORDERS = ("worst first", "best first")
COUNTS = tuple(str(n) for n in range(1, MAX_OBJECTS + 1))
# What the tab begins with, by the names that an address uses: what scenes are made from, in the order of
# `Source.scenes`; and which results are shown, in the order of `runs.select`'s arguments.
FACTORS: dict[str, Any] = {
    "scenes": 48,
    "seed": 0,
    "least": 1,
    "most": MAX_OBJECTS,
    "shapes": [],
    "colors": [],
    "size": ANY,
    "position": ANY,
    "backgrounds": [],
    "overlap": True,
}
FILTERS: dict[str, Any] = {
    "sort": "lpips",
    "order": ORDERS[0],
    "from": "",
    "to": "",
    "only-shape": [],
    "only-color": [],
    "only-size": [],
    "only-objects": [],
    "only-background": [],
}
OF_FACTORS = tuple(name for name in FILTERS if name.startswith("only-"))
# What an address calls the token of an evaluation that is kept: of scenes, which can be made again, and of uploads.
EVALUATION, UPLOADED = "evaluation", "uploaded"
KNOWN: dict[str, tuple[str, ...]] = {  # the words that these may hold
    "shapes": SHAPES,
    "colors": COLOR_NAMES,
    "size": tuple(RADII),
    "position": tuple(POSITIONS),
    "backgrounds": BACKGROUNDS,
    "sort": SCORES,
    "order": ORDERS,
    "only-shape": SHAPES,
    "only-color": COLOR_NAMES,
    "only-size": tuple(SIZES),
    "only-objects": COUNTS,
    "only-background": BACKGROUNDS,
}
PRESETS: tuple[tuple[str, tuple[Any, ...]], ...] = (  # name, values of FACTORS
    ("One on white", (48, 0, 1, 1, [], [], ANY, ANY, ["white"], True)),
    ("Five on texture", (48, 0, 5, 5, [], [], ANY, ANY, ["texture"], True)),
    ("Small things", (48, 0, 1, 3, [], [], "small", ANY, [], False)),
)


def scene_spec(
    low: float,
    high: float,
    shapes: Sequence[str],
    colors: Sequence[str],
    size: str,
    position: str,
    backgrounds: Sequence[str],
    overlap: bool,
) -> SceneSpec:
    """What scenes may hold; nothing chosen means anything. Raises InputError on unknown choices."""
    return SceneFactors((low, high), shapes, colors, size, position, backgrounds, overlap).spec()  # type: ignore[arg-type]


def factors_of(given: Any) -> list[Any]:
    """`scene_spec`'s arguments from JSON values. Raises InputError on what is none of them."""
    if not isinstance(given, dict):
        raise InputError(f'factors must be such as {{"shapes": ["star"]}}, not {given!r}.')
    known = [part.name for part in fields(SceneFactors)]
    if strange := set(given) - set(known):
        raise InputError(f"unknown factor {min(strange)!r}: choose from {', '.join(known)}.")
    factors = SceneFactors(**given)
    names = [factors.shapes, factors.colors, factors.size, factors.position, factors.backgrounds]
    return [*factors.objects, *names, factors.overlap]


def bound(text: str) -> float | None:
    """An end of a range of scores; empty is none. Raises InputError on what is no number."""
    try:
        value = float(text.strip().replace(",", ".")) if text.strip() else None
    except ValueError:
        raise InputError(f"a score's range takes numbers such as 0.35, not {text.strip()[:40]!r}.") from None
    if value is not None and not math.isfinite(value):
        raise InputError(f"a score's range takes numbers such as 0.35, not {text.strip()[:40]!r}.")
    return value


def levels_of(fields: dict[str, Any]) -> dict[str, list[str]]:
    """What scenes made from these fields may show, by the names of the filters of factors; of no scenes nothing.

    fields: of FACTORS; empty where these are other pictures.
    """
    if not fields:
        return {name: [] for name in OF_FACTORS}
    low, high = RADII[fields["size"]]
    return {
        "only-shape": fields["shapes"] or list(SHAPES),
        "only-color": fields["colors"] or list(COLOR_NAMES),
        "only-size": [name for name, (least, most) in SIZES.items() if least < high and low < most],
        "only-objects": [str(n) for n in range(int(fields["least"]), int(fields["most"]) + 1)],
        "only-background": fields["backgrounds"] or list(BACKGROUNDS),
    }


def within(fields: dict[str, Any], chosen: Sequence[Any]) -> list[Any]:
    """The filters' values, in the order of FILTERS, without the levels that pictures made from `fields` do not have."""
    levels = levels_of(fields)
    values = zip(FILTERS, chosen, strict=True)
    return [[v for v in value if v in levels[name]] if name in levels else value for name, value in values]


def offer_filters(fields: dict[str, Any], chosen: Sequence[Any]) -> list[Any]:
    """Updates of the filters of factors for pictures made from `fields`: what these do not have is not offered.

    chosen: of `within`. A filter with a single level is hidden: it would keep everything.
    """
    values = dict(zip(FILTERS, chosen, strict=True))
    return [
        gr.update(choices=levels, value=values[name], visible=len(levels) > 1)
        for name, levels in levels_of(fields).items()
    ]


@dataclass(frozen=True)
class Source:
    """Where the pictures come from: the kind, the scenes' factors, uploaded files, a folder."""

    kind: gr.Radio
    scenes: Sequence[Component]
    files: gr.File
    folder: gr.Textbox
    presets: Sequence[gr.Button]

    @property
    def inputs(self) -> list[Any]:
        return [self.kind, self.files, self.folder, *self.scenes]


def build_source(local: bool, most: int) -> Source:
    """The pictures to evaluate. local: a folder of this machine may be named. most: scenes at a time."""
    kind = gr.Radio(
        [s for s in SOURCES if local or s != "Folder"], value=SOURCES[0], label="Pictures", elem_id="failures-source"
    )
    with gr.Column(elem_classes="fs-failures-fields") as scenes:
        with gr.Row():
            presets = [gr.Button(name, size="sm", min_width=80) for name, _ in PRESETS]
        with gr.Row():
            count = FreeSlider(
                8,
                min(512, most),
                value=FACTORS["scenes"],
                step=8,
                label="Scenes",
                min_width=140,
                elem_id="failures-count",
            )
            seed = FreeNumber(0, label="Seed", min_width=80)
        with gr.Row():
            low = FreeSlider(1, MAX_OBJECTS, value=1, step=1, label="Objects, least", min_width=120)
            high = FreeSlider(1, MAX_OBJECTS, value=MAX_OBJECTS, step=1, label="Objects, most", min_width=120)
        shapes = _several(SHAPES, "Shapes")
        colors = _several(COLOR_NAMES, "Colours")
        with gr.Row():
            size = gr.Dropdown(list(RADII), value=ANY, label="Size", min_width=90)
            position = gr.Dropdown(list(POSITIONS), value=ANY, label="Position", min_width=90)
        backgrounds = _several(BACKGROUNDS, "Backgrounds")
        overlap = gr.Checkbox(True, label="Objects may overlap")
    with gr.Column(visible=False, elem_classes="fs-failures-fields") as upload:
        files = RawFile(file_count="multiple", label="Pictures, or zip archives of them", elem_id="failures-files")
    with gr.Column(visible=False, elem_classes="fs-failures-fields") as here:
        folder = gr.Textbox(label="A folder of pictures on this machine", elem_id="failures-folder")

    def turn(kind: str) -> list[gr.Column]:
        return [gr.Column(visible=kind == name) for name in SOURCES]

    kind.change(turn, kind, [scenes, upload, here], api_visibility="private", show_progress="hidden")
    factors = [count, seed, low, high, shapes, colors, size, position, backgrounds, overlap]
    return Source(kind, factors, files, folder, presets)


def build_adapter(adapters: Callable[[], list[AdapterRecord]], default: str) -> tuple[gr.Dropdown, gr.Dropdown]:
    """Extraction point and adapter; what training has added since is found when the tab is opened."""
    points = _points(adapters())
    at = default if default in points else points[0] if points else None
    names = names_at(adapters(), at)
    with gr.Row():
        point = gr.Dropdown(points, value=at, label="Extraction point", min_width=120, elem_id="failures-point")
        adapter = gr.Dropdown(
            names, value=names[0] if names else None, label="Adapter", min_width=120, elem_id="failures-adapter"
        )

    def offer(at: str | None, name: str | None) -> tuple[gr.Dropdown, gr.Dropdown]:
        known = adapters()
        points = _points(known)
        kept = at if at in points else points[0] if points else None
        names = names_at(known, kept)
        chosen = name if name in names else names[0] if names else None
        return updated_choices(gr.Dropdown, points, at, kept), updated_choices(gr.Dropdown, names, name, chosen)

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    # Never into the point's own field, which may have been used again meanwhile.
    point.input(lambda *now: offer(*now)[1], [point, adapter], adapter, **quiet, trigger_mode="always_last")
    on_open(offer, [point, adapter], [point, adapter])
    return point, adapter


def _points(records: Sequence[AdapterRecord]) -> list[str]:
    return list(dict.fromkeys(str(record.point) for record in records))


def names_at(records: Sequence[AdapterRecord], at: str | None) -> list[str]:
    """The names of the adapters at a point."""
    return [record.name for record in records if str(record.point) == at]


def build_filters() -> tuple[list[Any], gr.Button]:
    """Order and filters, in the order of `runs.select`'s arguments; and the button that clears the latter."""
    with gr.Row():
        score = gr.Dropdown(
            SCORE_CHOICES, value=FILTERS["sort"], label="Sort by", min_width=110, elem_id="failures-sort"
        )
        order = gr.Radio(list(ORDERS), value=ORDERS[0], label="Order", min_width=200)
        ends = range_names(FILTERS["sort"])
        low = gr.Textbox(label=ends[0], placeholder="lowest", max_lines=1, min_width=90, elem_id="failures-low")
        high = gr.Textbox(label=ends[1], placeholder="highest", max_lines=1, min_width=90, elem_id="failures-high")
        clear = gr.Button("Clear filters", size="sm", min_width=90, elem_id="failures-clear")
    score.change(
        lambda name: [gr.Textbox(label=end) for end in range_names(name)],
        score,
        [low, high],
        api_visibility="private",
        show_progress="hidden",
    )
    with gr.Row():
        shapes = _several(SHAPES, "Shape", "failures-shape")
        colors = _several(COLOR_NAMES, "Colour", "failures-color")
        sizes = _several(tuple(SIZES), "Size", "failures-size")
        counts = _several(COUNTS, "Objects", "failures-objects")
        backgrounds = _several(BACKGROUNDS, "Background", "failures-background")
    return [score, order, low, high, shapes, colors, sizes, counts, backgrounds], clear


def range_names(score: str) -> tuple[str, str]:
    """The labels of the range of the score that the pictures are sorted by."""
    return f"{NAMES[score]} from", f"{NAMES[score]} to"


def _several(values: Sequence[str], label: str, name: str | None = None) -> gr.Dropdown:
    """A choice of several values, or of none, which means any: style.css says so in the empty field."""
    return gr.Dropdown(
        list(values), value=[], multiselect=True, label=label, min_width=130, elem_id=name, elem_classes="fs-several"
    )
