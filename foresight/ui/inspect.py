"""The Inspect tab: one picture, one extraction point → what can be read back, and how good it is."""

from __future__ import annotations

import functools
import json
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from PIL import Image
from torch import Tensor

from foresight.inspector import Report
from foresight.points import STAGES, ExtractionPoint, Stage
from foresight.ui import cards, generate
from foresight.ui.calls import MODEL_QUEUE, Calls, keep_raw, open_picture, telling
from foresight.ui.diagram import diagram
from foresight.ui.pictures import png, strip, tile_grid, tiles

Case = dict[str, Any] | str | None  # the picture in hand: a scene's description, an uploaded file, or none

QUESTION = "Describe the image."
PICTURE_HEIGHT = 380
STAGE_NAMES = {"pre-merge": "Vision tower", "post-merge": "Language model"}

_SIDES = '<p class="fs-sides"><span>◀ original</span><span>drag the line</span><span>reconstruction ▶</span></p>'

# A click on anything in an HTML block that carries data-point chooses that point.
_CHOOSE = """element.addEventListener('click', event => {
  const cell = event.target.closest('[data-point]');
  if (cell) trigger('click', {point: cell.dataset.point});
});"""


def build(calls: Calls) -> None:
    """Builds the tab inside the current layout, with the first example already inspected."""
    gallery = generate.examples()
    first = gallery[0][1]
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            source, chosen, picks, controls = _build_source(gallery)
            stage, layer, adapter, drawing, note = _build_point(calls)
            go = gr.Button("Reconstruct", variant="primary", elem_id="reconstruct")
        with gr.Column(scale=7, min_width=320):
            results = _build_results(_show(calls, first) if calls.adapters(calls.default) else None)
            answer, question = _build_answer()

    @functools.cache
    def first_answer() -> str:
        """For the first visitor; the later ones find it ready."""
        return calls.describe(generate.draw(first)[0], QUESTION)

    @telling
    def run(case: Case, stage: Stage, layer: int, name: str | None) -> Any:
        point = ExtractionPoint(stage, int(layer))
        picture, mask = _look(case)
        return _present(calls.inspect(picture, point, calls.entry(point, name).folder, mask))

    def follow(case: Case, stage: Stage, layer: int, name: str | None) -> Any:
        """`run` after a change of the point: without a picture, or an adapter there, the results stay."""
        return [gr.skip()] * len(results) if case is None or name is None else run(case, stage, layer, name)

    def move(stage: Stage, layer: int, name: str | None) -> Any:
        last = max(p.layer for p in calls.points if p.stage == stage)
        point = ExtractionPoint(stage, min(int(layer), last))
        return gr.Slider(value=point.layer, maximum=last), *_at(calls, point, name), _drawing(calls, point)

    def jump(name: str | None, event: gr.EventData) -> Any:
        point = ExtractionPoint.parse(str(event.point))
        return point.stage, *move(point.stage, point.layer, name)

    def describe_adapter(stage: Stage, layer: int, name: str | None) -> str:
        return _note(calls, ExtractionPoint(stage, int(layer)), name)

    @telling
    def accept(path: str | None) -> Any:
        return open_picture(path), path

    def put_back(case: Case) -> Image.Image | None:
        return None if case is None else _look(case)[0]

    def pick(event: gr.SelectData) -> Any:
        scene = gallery[event.index][1]
        return generate.draw(scene)[0], scene

    @telling
    def make(*values: Any) -> Any:
        scene = generate.make_scene(*values)
        return generate.draw(scene)[0], scene

    @telling
    def ask(case: Case, question: str) -> str:
        return calls.describe(_look(case)[0], question.strip()[:500] or QUESTION)

    place, here = [layer, adapter, note, drawing], [stage, layer, adapter]
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    model: dict[str, Any] = {**MODEL_QUEUE, "api_visibility": "private", "show_progress": "minimal"}
    asking: dict[str, Any] = {"fn": ask, "inputs": [chosen, question], "outputs": answer, **model}
    running: dict[str, Any] = {"inputs": [chosen, *here], "outputs": results, **model, "show_progress_on": results[0]}

    gr.on(fn=first_answer, inputs=None, outputs=answer, **model)
    controls.dice.click(generate.roll, None, controls.seed, **quiet).then(
        make, controls.inputs, [source, chosen], **quiet
    ).success(run, **running).success(**asking)
    upload = source.upload(accept, source, [source, chosen], **quiet)
    upload.failure(put_back, chosen, source, **quiet)
    for event in (
        upload,
        picks.select(pick, None, [source, chosen], **quiet),
        controls.make.click(make, controls.inputs, [source, chosen], **quiet),
    ):
        event.success(run, **running).success(**asking)
    source.clear(lambda: None, None, chosen, **quiet)
    go.click(run, **running)
    question.submit(**asking)

    for event in (
        stage.input(move, here, place, **quiet),
        layer.input(move, here, place, **quiet, trigger_mode="always_last"),
        drawing.click(jump, adapter, [stage, *place], **quiet),
        note.click(jump, adapter, [stage, *place], **quiet),
    ):
        event.then(follow, **running, trigger_mode="always_last")
    adapter.input(describe_adapter, here, note, **quiet).then(follow, **running, trigger_mode="always_last")


def _look(case: Case) -> tuple[Image.Image, Tensor | None]:
    """The picture, and its mask where it is known exactly."""
    return generate.draw(case) if isinstance(case, dict) else (open_picture(case), None)


def _show(calls: Calls, scene: dict[str, Any]) -> Report:
    picture, mask = generate.draw(scene)
    return calls.inspect(picture, calls.default, calls.adapters(calls.default)[0].folder, mask)


def _build_source(
    gallery: list[tuple[str, dict[str, Any]]],
) -> tuple[gr.Image, gr.State, gr.Gallery, generate.Controls]:
    """The picture and where it comes from; the state holds its case."""
    pictures: list[tuple[Image.Image, str]] = [(generate.draw(scene)[0], name) for name, scene in gallery]
    source = keep_raw(
        gr.Image(
            pictures[0][0],
            label="Picture: drop, click or paste one",
            type="filepath",
            image_mode=None,
            format="png",
            sources=["upload", "clipboard"],
            height=250,
            buttons=[],
            elem_id="source",
            alt_text="The picture to inspect",
        )
    )
    chosen = gr.State(gallery[0][1])
    with gr.Tabs(elem_classes="fs-sources"):
        with gr.Tab("Examples"):
            picks = gr.Gallery(
                pictures,  # type: ignore[arg-type]
                show_label=False,
                columns=5,
                height=94,
                allow_preview=False,
                object_fit="contain",
                format="png",
                buttons=[],
                interactive=False,
                elem_id="examples",
            )
        with gr.Tab("Generate"):
            controls = generate.build()
    return source, chosen, picks, controls


def _build_point(calls: Calls) -> tuple[gr.Radio, gr.Slider, gr.Radio, gr.HTML, gr.HTML]:
    """Stage, layer, adapter, the drawing of the model, and the note on the adapter."""
    point = calls.default
    last = max(p.layer for p in calls.points if p.stage == point.stage)
    with gr.Group(elem_classes="fs-point"):
        stage = gr.Radio(
            [(STAGE_NAMES[s], s) for s in STAGES], value=point.stage, label="Extraction point", elem_id="stage"
        )
        layer = gr.Slider(0, last, value=point.layer, step=1, label="Layer", elem_id="layer")
        drawing = _html(_drawing(calls, point), "diagram", js_on_load=_CHOOSE, container=True)
        adapter, told = _at(calls, point, None)
        note = _html(told, "adapter-note", js_on_load=_CHOOSE, container=True)
    return stage, layer, adapter, drawing, note


def _html(value: str, name: str, **more: Any) -> gr.HTML:
    plain = None if more else "fs-plain"
    return gr.HTML(value, elem_id=name, elem_classes=plain, apply_default_css=False, **more)


def _at(calls: Calls, point: ExtractionPoint, name: str | None) -> tuple[gr.Radio, str]:
    """The adapters to choose from at a point, and the note on the chosen one."""
    names = [entry.name for entry in calls.adapters(point)]
    kept = name if name in names else names[0] if names else None
    return gr.Radio(names, value=kept, label="Adapter", elem_id="adapter"), _note(calls, point, kept)


def _drawing(calls: Calls, point: ExtractionPoint) -> str:
    return diagram(calls.points, calls.served(), point)


def _note(calls: Calls, point: ExtractionPoint, name: str | None) -> str:
    return cards.missing_note(point, calls.served()) if name is None else cards.adapter_note(calls.entry(point, name))


def _present(report: Report, cold: bool = False) -> tuple[Any, ...]:
    """A report as the values of `_build_results`' components. cold: it was the first one, and not worth a time."""
    shown = tiles(report)
    original, made = shown[0], next(tile for tile in shown if tile.marked)
    heading = f"{report.point}, {made.title} adapter"

    def file(data: bytes, name: str) -> str:
        return save_bytes_to_cache(data, name, get_upload_folder())

    return (
        (file(original.png, "original.png"), file(made.png, "reconstruction.png")),
        cards.headline(report, cold),
        cards.metric_cards(report),
        tile_grid(shown),
        file(png(strip(shown, heading)), "foresight.png"),
        file(json.dumps(report.as_json(), indent=2).encode(), "foresight.json"),
    )


def _build_results(first: Report | None) -> list[Any]:
    values = (
        _present(first, cold=True) if first else (None, f'<p class="fs-head">{cards.NO_RESULT}</p>', "", "", None, None)
    )
    headline = _html(values[1], "headline")
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300, elem_classes="fs-view"):
            slider = gr.ImageSlider(
                values[0],
                show_label=False,
                format="png",
                max_height=PICTURE_HEIGHT,
                buttons=["fullscreen"],
                interactive=False,
                elem_id="slider",
            )
            _html(_SIDES, "sides")
        with gr.Column(scale=1, min_width=300):
            metrics = _html(values[2], "metrics")
    grid = _html(values[3], "tiles")
    with gr.Row():
        picture = gr.DownloadButton("Download pictures (PNG)", values[4], size="sm", elem_id="download-png")
        data = gr.DownloadButton("Download scores (JSON)", values[5], size="sm", elem_id="download-json")
    return [slider, headline, metrics, grid, picture, data]


def _build_answer() -> tuple[gr.Textbox, gr.Textbox]:
    answer = gr.Textbox(
        label="What the model says of the picture",
        placeholder="Ask below. The answer comes after the picture, since words take longer.",
        lines=4,
        max_lines=4,
        interactive=False,
        elem_id="answer",
    )
    question = gr.Textbox(QUESTION, label="Ask the model", submit_btn="Ask", max_length=500, elem_id="question")
    return answer, question
