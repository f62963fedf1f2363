"""The Inspect tab: one picture, one extraction point → what can be read back, and how good it is."""

from __future__ import annotations

import functools
from typing import Any

import gradio as gr
from gradio.context import Context
from PIL import Image

from foresight.errors import InputError
from foresight.models.points import ExtractionPoint, Stage
from foresight.ui import cards, generate
from foresight.ui.api import endpoint as endpoint  # this tab's: /generate, /reconstruct, /info
from foresight.ui.error_handling import show_errors, show_errors_in, silent_error
from foresight.ui.image_input import ImagePicker
from foresight.ui.inspect import baselines as floors
from foresight.ui.inspect import point, results
from foresight.ui.inspect.description import QUESTION, Conversations
from foresight.ui.navigation import ImageSource, Navigation, open_view
from foresight.ui.services import MODEL_QUEUE, Calls, open_picture


def build(calls: Calls, navigation: Navigation) -> None:
    """Builds the tab inside the current layout, with the first example already inspected."""
    gallery = generate.examples()
    first = gallery[0][1]
    with gr.Row(equal_height=False, elem_classes="fs-inspect"):
        with gr.Column(scale=4, min_width=320, elem_classes="fs-asked"):
            source, refused, chosen, picks, scene = _build_source()
            at = point.build(calls)
            go = gr.Button("Reconstruct", variant="primary", elem_id="reconstruct")
            with gr.Row(elem_id="to-others"):
                to_compare = gr.Button("Compare all layers", size="sm", min_width=120, elem_id="to-compare")
                to_map = gr.Button("Show on the latent map", size="sm", min_width=120, elem_id="to-map")
        with gr.Column(scale=7, min_width=320, elem_classes="fs-results"):
            shown = results.build(_first(calls, first))
            floors.build(calls, shown[-2])
            answer, question = results.build_answer(calls.facts()["model"] == "bundled")
    speech = Conversations(calls)
    awaited = cards.awaiting("The last result, of another picture")

    @functools.cache
    def first_answer() -> str:
        """For the first visitor; the later ones find it ready."""
        return calls.describe(generate.draw(first)[0], QUESTION, None)

    @show_errors
    def run(case: ImageSource, stage: Stage, layer: float, name: str | None) -> Any:
        """The results, or, without a picture or an adapter, the last ones dimmed; and whether to try again."""
        place = point.within(calls, stage, layer)
        # The name may be still that of another layer's adapter, where the layer has moved on meanwhile.
        if case is None or name is None or not calls.adapters(place):
            stay = [gr.skip()] * (len(shown) - 1)
            return *stay, cards.stale(None if case is None else place), gr.Button(interactive=False)
        picture, mask = generate.look(case)
        report = calls.inspect(picture, place, calls.find(place, name).folder, mask)
        return *results.present(calls, report, case), gr.Button(interactive=True)

    # An answer may come when its control has been used again. So none of these writes into the control that caused
    # it, nor into another one what that holds already.
    def switch(stage: Stage, layer: float | None, name: str | None, wish: str | None, request: gr.Request) -> Any:
        speech.hush(request)
        return point.settle(calls, point.within(calls, stage, layer), wish, layer, name)[1:]

    def slide(stage: Stage, layer: float | None, name: str | None, wish: str | None, request: gr.Request) -> Any:
        if layer is None:
            raise silent_error(InputError("no layer is typed yet."))
        speech.hush(request)
        return point.settle(calls, point.typed(calls, stage, layer), wish, layer, name)[2:]

    def jump(layer: float | None, name: str | None, wish: str | None, event: gr.EventData, request: gr.Request) -> Any:
        speech.hush(request)
        return point.settle(calls, ExtractionPoint.parse(str(event.point)), wish, layer, name)

    def choose(stage: Stage, layer: float, name: str, request: gr.Request) -> Any:
        speech.hush(request)
        return point.told(calls, point.within(calls, stage, layer), name, None), name

    @show_errors_in(refused)
    def accept(path: str | None, request: gr.Request) -> Any:
        speech.hush(request)
        return open_picture(path), path, "", "", awaited

    def put_back(case: ImageSource) -> Image.Image | None:
        return None if case is None else generate.look(case)[0]

    def pick(event: gr.SelectData, request: gr.Request) -> Any:
        speech.hush(request)
        return generate.draw(gallery[event.index][1])[0], gallery[event.index][1], "", "", awaited

    def roll(request: gr.Request) -> int:
        speech.hush(request)
        return generate.roll()

    @show_errors_in(scene.refused)
    def make(*values: Any) -> Any:
        made = generate.make_scene(*values)
        return generate.draw(made)[0], made, "", "", awaited

    @show_errors
    def enter(asked: dict[str, Any], case: ImageSource, wish: str | None, request: gr.Request) -> Any:
        speech.hush(request)
        place, case = calls.point(asked["point"]), case if asked["case"] is None else asked["case"]
        wish = asked["adapter"] or wish
        return put_back(case), case, *point.settle(calls, place, wish), wish, *generate.fields(case), "", "", awaited

    @show_errors
    def leave(case: ImageSource, stage: Stage, layer: float, name: str | None) -> dict[str, Any]:
        if case is None:
            raise InputError("there is no picture to take there: choose one first.")
        return open_view(case, str(point.within(calls, stage, layer)), name)

    @show_errors
    def ask(case: ImageSource, words: str, request: gr.Request) -> Any:
        return gr.skip() if case is None else speech.say(generate.look(case)[0], words, request)

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    latest: dict[str, Any] = {**quiet, "trigger_mode": "always_last"}
    model: dict[str, Any] = {**MODEL_QUEUE, "api_visibility": "private", "show_progress": "minimal"}
    asking: dict[str, Any] = {"fn": ask, "inputs": [chosen, question], "outputs": answer, **model}
    running: dict[str, Any] = {
        "fn": run,
        "inputs": [chosen, *at.here],
        "outputs": [*shown, go],
        **model,
        "show_progress_on": shown[0],
    }
    moved = [*at.here, at.wish]
    stale = shown[-1]
    entered = [source, chosen, *at.all, at.wish, *scene.inputs, refused, scene.refused, stale]

    gr.on(fn=first_answer, inputs=None, outputs=answer, **model)
    Context.root_block.unload(speech.hush)  # type: ignore[union-attr]
    given = [source, chosen, refused, scene.refused, stale]
    scene.dice.click(roll, None, scene.seed, **quiet).then(make, scene.inputs, given, **quiet).success(
        **running
    ).success(**asking)
    upload = source.upload(accept, source, given, **quiet, trigger_mode="always_last")
    upload.failure(put_back, chosen, source, **quiet)
    for event in (
        upload,
        picks.select(pick, None, given, **latest),
        scene.make.click(speech.hush, None, None, **quiet).then(make, scene.inputs, given, **quiet),
        navigation.inspect.change(enter, [navigation.inspect, chosen, at.wish], entered, **quiet),
    ):
        event.success(**running).success(**asking)
    source.clear(lambda: (None, ""), None, [chosen, refused], **quiet).then(**running)
    go.click(**running)
    to_map.click(leave, [chosen, *at.here], navigation.latent_map, **quiet)
    to_compare.click(leave, [chosen, *at.here], navigation.compare, **quiet)
    gr.on([question.submit], speech.hush, None, None, **quiet).then(**asking)

    for event in (
        at.stage.input(switch, moved, at.after_stage, **latest),
        at.layer.input(slide, moved, at.after_layer, **latest),
        at.drawing.click(jump, moved[1:], at.all, **latest),
        at.note.click(jump, moved[1:], at.all, **latest),
        at.adapter.input(choose, at.here, [at.note, at.wish], **latest),
    ):
        event.success(**running, trigger_mode="always_last")


def _first(calls: Calls, scene: dict[str, Any]) -> tuple[Any, ...] | None:
    """The first page's results; None where no adapter reads the default point."""
    if not (records := calls.adapters(calls.default)):
        return None
    picture, mask = generate.draw(scene)
    report = calls.inspect(picture, calls.default, records[0].folder, mask)
    return results.present(calls, report, scene, cold=True)


def _build_source() -> tuple[gr.Image, gr.HTML, gr.State, gr.Gallery, generate.Controls]:
    """The picture, where it is told why one is none, and where it comes from; the state holds its case."""
    picker = ImagePicker(0, 250, "to inspect", "source", "refused")
    with gr.Tabs(elem_classes="fs-sources"):
        with gr.Tab("Examples"):
            picker.build_examples("examples")
        with gr.Tab("Generate"):
            controls = generate.build()
    return picker.image, picker.error, picker.source, picker.examples, controls
