"""The Inspect tab: one image, one extraction point → what can be read back, and how good it is."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import gradio as gr

from foresight.errors import InputError
from foresight.inspection.inspector import Inspector
from foresight.models.points import ExtractionPoint, Stage
from foresight.ui import api, cards, examples, generate
from foresight.ui.error_handling import show_errors, show_errors_in
from foresight.ui.generate import SceneControls
from foresight.ui.gradio_internals import current_page
from foresight.ui.image_input import ImagePicker
from foresight.ui.inspect.baselines import BaselinePanel
from foresight.ui.inspect.description import QUESTIONS, Conversations
from foresight.ui.inspect.point import PointControls
from foresight.ui.inspect.results import ResultView, build_answer
from foresight.ui.navigation import Navigation, open_view
from foresight.ui.pixels import FITTED, chosen_pixels, pixels_dropdown
from foresight.ui.series import SeriesBar
from foresight.ui.services import CLICKS, MODEL_QUEUE, QUIET, ImageSource

AWAITED = cards.awaiting("The last result, of another picture")


class InspectTab:
    """An image and a point to choose; the result, the baselines beside it, and what the model says of the image.

    An answer may come when its control has been used again. So no handler writes into the control that caused it, nor
    into another one what that holds already.
    """

    name = "inspect"
    title = "Inspect"

    def __init__(self, inspector: Inspector, navigation: Navigation, trains: bool = False) -> None:
        """Takes what the tab asks.

        Args:
            inspector: Reads images, and has the model that describes them.
            navigation: Brings views here, and opens Compare and the latent map.
            trains: Whether the page has a Train tab.
        """
        self.inspector, self.navigation, self.trains = inspector, navigation, trains
        self.conversations = Conversations(inspector.vlm)

    def add_endpoints(self) -> None:
        """Adds /generate, /reconstruct and /info to the current Blocks."""
        api.add_endpoints(self.inspector)

    def build(self) -> None:
        """Adds the tab to the current layout, with the first example inspected already, but by a large model."""
        self.series = SeriesBar(self.navigation)
        with gr.Row(equal_height=False, elem_classes="fs-inspect"):
            with gr.Column(scale=4, min_width=320, elem_classes="fs-asked"):
                self.picker = ImagePicker(examples.FIRST, 130, "to inspect", "source", "refused")
                self.navigation.inspected.value = self.picker.source.value
                with gr.Tabs(elem_classes="fs-sources"):
                    with gr.Tab("Examples"):
                        self.picker.build_examples("examples")
                    with gr.Tab("Generate"):
                        self.scene = SceneControls()
                self.point = PointControls(self.inspector)
                self.go = gr.Button("Reconstruct", variant="primary", elem_id="reconstruct")
                with gr.Row(elem_id="to-others"):
                    self.to_compare = gr.Button("Compare all layers", size="sm", min_width=120, elem_id="to-compare")
                    self.beside = gr.Button("Beside Compare's picture", size="sm", min_width=120, elem_id="to-beside")
                    self.to_map = gr.Button("Show on the map", size="sm", min_width=120, elem_id="to-map")
                self.point.build_details()
                self.pixels = pixels_dropdown(self.inspector.vlm, "pixels")
            with gr.Column(scale=7, min_width=320, elem_classes="fs-results"):
                self.result = ResultView(self.inspector, self.trains)
                BaselinePanel(self.inspector, self.result.summary)
                self.answer, self.question, self.samples = build_answer(self.inspector.vlm)
        self._connect()

    def _connect(self) -> None:
        picker, scene, point, stale = self.picker, self.scene, self.point, self.result.stale
        latest = QUIET | {"trigger_mode": "always_last"}
        model: dict[str, Any] = {**MODEL_QUEUE, "api_visibility": "private", "show_progress": "minimal"}
        running: dict[str, Any] = {
            "fn": self.reconstruct,
            "inputs": [picker.source, *point.chosen, self.pixels],
            "outputs": [*self.result.outputs, stale, self.go, self.navigation.inspected],
            "show_progress_on": self.result.pictures,
            **model,
        }
        asking: dict[str, Any] = {
            "fn": self.ask,
            "inputs": [picker.source, *point.chosen, self.pixels, self.question],
            "outputs": self.answer,
            **model,
        }
        # An answer needs a large model whole, or a GPU once more: it is asked for by its own button alone.
        on_change = {"fn": lambda: "", "outputs": self.answer, **QUIET} if self.inspector.vlm.waits else asking
        picked = [*picker.outputs, scene.error, stale]
        drawing: dict[str, Any] = {
            "fn": show_errors_in(scene.error)(self.draw_scene),
            "inputs": scene.inputs,
            "outputs": picked,
            **QUIET,
        }
        view = self.navigation.inspect
        entered = [*picked, *point.outputs, point.preferred, *scene.inputs, self.pixels]
        hush = self.conversations.hush
        rolling = drawing | {"fn": show_errors_in(scene.error)(self.draw_another), "outputs": [scene.seed, *picked]}

        if not self.inspector.vlm.waits:
            gr.on(fn=lambda: self.first_answer, inputs=None, outputs=self.answer, **model)
        current_page().unload(hush)
        upload = picker.image.upload(show_errors_in(picker.error)(self.accept), picker.image, picked, **latest)
        upload.failure(picker.put_back, picker.source, picker.image, **QUIET)
        for change in (
            upload,
            picker.examples.click(self.pick, None, picked, **CLICKS),
            scene.draw.click(**drawing),
            scene.dice.click(**rolling),
            view.change(self.enter, [view, picker.source, point.preferred], entered, **QUIET),
        ):
            change.success(**running, trigger_mode="always_last").success(**on_change)
        own = [picker.image.upload, picker.image.clear, picker.examples.click, scene.draw.click, scene.dice.click]
        gr.on(own, self.series.leave, None, self.series.bar, **QUIET)
        picker.image.clear(lambda: (None, ""), None, [picker.source, picker.error], **QUIET).then(**running)
        self.go.click(**running)
        resized = self.pixels.input(hush, None, None, **QUIET)
        resized.success(**running, trigger_mode="always_last").success(**on_change)
        for button, state in ((self.to_map, self.navigation.latent_map), (self.to_compare, self.navigation.compare)):
            button.click(self.leave, [picker.source, *point.chosen, self.pixels], state, **QUIET)
        self.beside.click(
            self.leave_beside, [picker.source, *point.chosen, self.pixels], self.navigation.compare, **QUIET
        )
        self.question.submit(hush, None, None, **QUIET).then(**asking)
        for sample in self.samples:
            sample.click(hush, None, None, **QUIET).then(lambda text: text, sample, self.question, **QUIET).then(
                **asking
            )

        moved = [*point.chosen, point.preferred]
        marks = [point.drawing, point.note, self.result.headline, self.result.tiles]
        jumped = [*point.outputs, point.preferred]
        for change in (
            point.stage.input(self.switch_stage, moved, point.after_stage, **latest),
            point.layer.input(self.change_layer, moved, point.after_layer, **latest),
            gr.on([mark.click for mark in marks], self.jump, point.preferred, jumped, **CLICKS),
            point.adapter.input(self.choose_adapter, point.chosen, [point.note, point.preferred], **latest),
        ):
            change.success(**running, trigger_mode="always_last")

    @cached_property
    def first_answer(self) -> str:
        """What the model says of the first example: made for the first visitor, ready for later ones."""
        first = examples.examples()[examples.FIRST]
        return str(self.inspector.vlm.describe(generate.image_and_mask(first)[0], QUESTIONS[0]))

    # The result

    @show_errors
    def reconstruct(
        self, source: ImageSource, stage: Stage, layer: float | None, adapter: str | None, pixels: str | None
    ) -> list[Any]:
        """The result, or, without an image or an adapter, the last one dimmed; and whether one may try again."""
        if layer is None:  # the box is empty, since its layer is being typed
            return [gr.skip()] * (len(self.result.outputs) + 3)
        point = self.point.nearest(stage, layer)
        # The adapter may be still that of another layer, where the layer has moved on meanwhile.
        if source is None or adapter is None or not self.inspector.adapters(point):
            stale = cards.stale(None if source is None else point)
            return [*[gr.skip()] * len(self.result.outputs), stale, gr.Button(interactive=False), source or gr.skip()]
        record, chosen = self.inspector.registry.find_listed(adapter, point), chosen_pixels(pixels)
        resolution = self.inspector.resolution(chosen, record)
        image, mask = generate.image_and_mask(generate.at_size(source, resolution))
        report = self.inspector.inspect(image, point, record.folder, mask, pixels=resolution)
        return [*self.result.values(report, source, pixels=chosen), "", gr.Button(interactive=True), source]

    @show_errors
    def ask(
        self,
        source: ImageSource,
        stage: Stage,
        layer: float | None,
        adapter: str | None,
        pixels: str | None,
        question: str,
        request: gr.Request,
    ) -> Any:
        """The model's answer to a question on the image, which it sees as large as its latents are taken of it."""
        if source is None:
            return gr.skip()
        records = self.inspector.adapters(self.point.nearest(stage, layer))
        record = next((record for record in records if record.name == adapter), None)
        resolution = self.inspector.resolution(chosen_pixels(pixels), record)
        image, _ = generate.image_and_mask(generate.at_size(source, resolution))
        self.inspector.check_size(resolution.size(image.height, image.width))
        return self.conversations.say(image, question, request, resolution)

    # The image

    def accept(self, path: str | None, request: gr.Request) -> list[Any]:
        """An uploaded image."""
        self.conversations.hush(request)
        return [*self.picker.upload(path), "", AWAITED]

    def pick(self, event: gr.EventData, request: gr.Request) -> list[Any]:
        """An example."""
        self.conversations.hush(request)
        return [*self.picker.example(event), "", AWAITED]

    def draw_scene(self, request: gr.Request, *factors: Any) -> list[Any]:
        """The scene of the controls' values."""
        self.conversations.hush(request)
        return [*self.picker.values(generate.make_scene(*factors)), "", AWAITED]

    def draw_another(self, request: gr.Request, *factors: Any) -> list[Any]:
        """Another seed, and its scene: the controls' last value is the seed."""
        seed = generate.roll()
        return [seed, *self.draw_scene(request, *factors[:-1], seed)]

    # The point

    def switch_stage(
        self, stage: Stage, layer: float | None, adapter: str | None, preferred: str | None, request: gr.Request
    ) -> list[Any]:
        """Another stage, at the same layer or its last."""
        self.conversations.hush(request)
        return self.point.values(self.point.nearest(stage, layer), preferred, layer, adapter)[1:]

    def change_layer(
        self, stage: Stage, layer: float | None, adapter: str | None, preferred: str | None, request: gr.Request
    ) -> list[Any]:
        """The layer that is typed or slid to."""
        if layer is None:  # an empty box: an error here would drop the digit that is typed meanwhile
            return [gr.skip()] * len(self.point.after_layer)
        self.conversations.hush(request)
        return self.point.values(self.point.typed(stage, layer), preferred, layer, adapter)[2:]

    def jump(self, preferred: str | None, event: gr.EventData, request: gr.Request) -> list[Any]:
        """The point that was clicked, in the drawing or in the note, and its adapter where one is offered.

        Whatever the controls hold: of clicks in quick succession they have not heard.
        """
        self.conversations.hush(request)
        point, offered = ExtractionPoint.parse(str(event.point)), getattr(event, "adapter", None)
        return [*self.point.values(point, offered or preferred), offered or gr.skip()]

    @show_errors
    def choose_adapter(self, stage: Stage, layer: float, adapter: str, request: gr.Request) -> list[str]:
        """Another adapter."""
        self.conversations.hush(request)
        return [self.point.note_on(self.point.nearest(stage, layer), adapter, None), adapter]

    # Views

    @show_errors
    def enter(self, view: dict[str, Any], source: ImageSource, preferred: str | None, request: gr.Request) -> list[Any]:
        """A view of `open_view`; where it has no image, the one there stays."""
        self.conversations.hush(request)
        point, preferred = self.inspector.vlm.point(view["point"]), view["adapter"] or preferred
        source = source if view["source"] is None else view["source"]
        picked = [*self.picker.values(source), "", AWAITED]
        self.inspector.vlm.resolution(view["pixels"])  # refused here, before it is shown
        pixels = view["pixels"] or FITTED
        return [*picked, *self.point.values(point, preferred), preferred, *generate.fields(source), pixels]

    @show_errors
    def leave(
        self, source: ImageSource, stage: Stage, layer: float, adapter: str | None, pixels: str | None
    ) -> dict[str, Any]:
        """The view to open in another tab."""
        if source is None:
            raise InputError("there is no picture to take there: choose one first.")
        return open_view(source, str(self.point.nearest(stage, layer)), adapter, chosen_pixels(pixels))

    @show_errors
    def leave_beside(self, *choice: Any) -> dict[str, Any]:
        """The view to open in Compare, beside the picture that stands there."""
        return self.leave(*choice) | {"second": True}
