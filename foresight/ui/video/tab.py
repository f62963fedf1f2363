"""The Video tab: a clip, an extraction point → original, oracle and reconstruction in step, and how well it moves."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from torch import Tensor

from foresight.adapters.registry import pick_adapter
from foresight.inspection.clip_readout import ClipReport, add_oracle, clip_records, decode_clip, score_clip
from foresight.inspection.inspector import Inspector
from foresight.models.points import Stage
from foresight.schemas import default_of
from foresight.settings import Settings
from foresight.ui import generate
from foresight.ui import view_link as link
from foresight.ui.error_handling import error_place, show_errors, show_errors_in
from foresight.ui.gradio_internals import current_tab
from foresight.ui.image_maps import png
from foresight.ui.inputs import FreeNumber
from foresight.ui.navigation import Navigation, on_open
from foresight.ui.pixels import API_LABEL, FITTED, chosen_pixels
from foresight.ui.services import BATCH_QUEUE, QUIET, plain_html
from foresight.ui.uploads import address as file_address
from foresight.ui.uploads import keep
from foresight.ui.video import address, export, player
from foresight.ui.video.form import ClipForm, ClipPoint
from foresight.ui.video.source import MOST_FRAMES, ClipSource, MovingScene, UploadedClip, sample_of

_HERE = Path(__file__).parent
FIRST = MovingScene()
_BUSY = '<div class="fs-video-head fs-video-busy"><p role="status">Reading the clip…</p></div>'


class VideoTab:
    """A clip and a point to choose; the player, the scores beside their controls, and files to take away."""

    name = "video"
    title = "Video"

    def __init__(self, inspector: Inspector, navigation: Navigation, settings: Settings) -> None:
        """Takes what the tab asks.

        Args:
            inspector: Has the models that read clips.
            navigation: Brings addresses here.
            settings: In public a clip is read on a click alone, and not by a link.
        """
        self.inspector, self.navigation, self.settings = inspector, navigation, settings
        self._first: dict[tuple[Any, ...], ClipReport] = {}  # of FIRST, by what it was read by: the last one alone

    def add_endpoints(self) -> None:
        """Adds /reconstruct_clip to the current Blocks; nothing of it is seen on the page."""
        first = UploadedClip("any")
        with gr.Row(visible=False):
            trigger = gr.Button()
            inputs: list[Any] = [
                gr.File(label="clip: mp4, mov, webm, mkv or gif"),
                gr.Textbox(str(self.inspector.default_point), label="point, such as post-merge/6"),
                gr.Textbox("", label="adapter: linear, pooled, tokens or a trained one's name; none: the first"),
                FreeNumber(first.fps, label="fps: frames a second"),
                FreeNumber(first.frames, precision=0, label=f"frames, 1 to {MOST_FRAMES}"),
                FreeNumber(first.start, label="start, in seconds"),
                gr.Textbox(label=API_LABEL),
            ]
            self.clip_file, scores = gr.File(label="reconstruction"), gr.JSON(label="scores")
        outputs = [self.clip_file, scores]
        trigger.click(self.answer, inputs, outputs, api_name="reconstruct_clip", **BATCH_QUEUE)

    @show_errors
    def answer(
        self,
        clip: str,
        point: str,
        adapter: str = "",
        fps: float = default_of(UploadedClip, "fps"),
        frames: int = default_of(UploadedClip, "frames"),
        start: float = default_of(UploadedClip, "start"),
        pixels: str | None = None,
    ) -> Iterator[tuple[str | None, dict[str, Any]]]:
        """Reads a clip back from its latents at an extraction point, and scores it.

        pixels: how large the model sees frames, such as 448² or native; without it, as the adapter was fitted.
        Yields {"done", "of"} after each step, so that it ends soon after the client cancels or goes away; then the
        reconstruction as mp4; and the means of its scores, every frame's, the worst frame, and the same means of the
        controls: the VAE alone, a still copy, one frame a step, shuffled frames, a lag of one frame.
        """
        source = UploadedClip(clip or "", fps, frames, start)
        record = pick_adapter(clip_records(self.inspector), self.inspector.vlm.point(point), adapter or None)
        resolution = self.inspector.resolution(chosen_pixels(pixels), record)
        sample = sample_of(source, resolution, self.inspector)
        yield None, {"done": 1, "of": 4}
        decoded = decode_clip(self.inspector, record, sample)
        yield None, {"done": 2, "of": 4}
        compared = add_oracle(self.inspector, decoded)
        yield None, {"done": 3, "of": 4}
        report = score_clip(self.inspector, compared)
        name = f"{source.title}-{record.point.stage}-{record.point.layer}-{record.name}.mp4".replace("/", "-")
        yield keep(export.mp4(report.reconstruction, report.sample.fps), name, self.clip_file), report.as_json()

    def build(self) -> None:
        """Adds the tab to the current layout; its first clip is read when somebody opens it, but by a large model."""
        self.source = gr.State()  # the `ClipSource` that is shown, or is to be
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=300):
                self.form = ClipForm()
                self.point = ClipPoint(self.inspector)
                self.error = error_place("video-error")
            with gr.Column(scale=8, min_width=320, elem_classes="fs-video"):
                self.head = plain_html("", "video-head", js_on_load=link.ADDRESS)
                self.player = plain_html(
                    "",
                    "video-player",
                    html_template=(_HERE / "player.html").read_text(encoding="utf-8"),
                    js_on_load=(_HERE / "player.js").read_text(encoding="utf-8"),
                )
                self.scores = plain_html("", "video-scores")
                with gr.Row():
                    self.mp4 = gr.DownloadButton(
                        "Download side by side (mp4)", size="sm", interactive=False, elem_id="video-mp4"
                    )
                    self.csv = gr.DownloadButton(
                        "Download scores (CSV)", size="sm", interactive=False, elem_id="video-csv"
                    )
        self._connect()

    def _connect(self) -> None:
        form, point, latest = self.form, self.point, QUIET | {"trigger_mode": "always_last"}
        in_scene, in_file = show_errors_in(form.scene_error), show_errors_in(form.file_error)
        uploading = [form.file, *form.stretch]
        running: dict[str, Any] = {
            "fn": show_errors_in(self.error)(self.read),
            "inputs": [self.source, *point.chosen, point.pixels],
            "outputs": [self.head, self.player, self.scores, self.mp4, self.csv, self.error],
            **BATCH_QUEUE,
            **QUIET,
        }
        drawing: dict[str, Any] = {
            "fn": in_scene(self.draw),
            "inputs": form.scene,
            "outputs": [self.source, form.scene_error],
            **QUIET,
        }
        rolling = drawing | {"fn": in_scene(self.draw_another), "outputs": [form.seed, *drawing["outputs"]]}
        accepting: dict[str, Any] = {
            "fn": in_file(self.accept),
            "inputs": uploading,
            "outputs": [self.source, form.uploaded, form.file_error],
            **latest,
        }
        arrival = self.navigation.video
        upload = form.file.upload(**accepting)
        upload.failure(lambda path: path, form.uploaded, form.file, **QUIET)
        arrive = arrival.change(
            show_errors_in(self.error)(self.arrive),
            [arrival, *point.chosen],
            [self.source, *form.outputs, *point.chosen, point.pixels, self.error],
            **QUIET,
        )
        for change in (
            form.generate.click(**drawing),
            form.dice.click(**rolling),
            upload,
            form.again.click(**accepting),
            *([] if self.settings.public else [arrive]),
        ):
            change.success(**running)
        for change in (  # no handler writes into the control that caused it, which may have been used again
            point.stage.input(lambda *chosen: point.values(*chosen)[1:], point.chosen, point.chosen[1:], **latest),
            point.layer.input(lambda *chosen: point.values(*chosen)[2:], point.chosen, point.chosen[2:], **latest),
        ):
            change.success(**running, trigger_mode="always_last")
        point.adapter.input(**running, trigger_mode="always_last")
        point.pixels.input(**running, trigger_mode="always_last")
        on_open(point.offer, point.chosen, point.chosen)
        if not self.inspector.vlm.waits and (tab := current_tab()):
            tab.select(
                **running
                | {
                    "fn": show_errors_in(self.error)(self.begin),
                    "inputs": [self.source, arrival, *point.chosen, point.pixels],
                    "outputs": [self.source, *running["outputs"]],
                }
            )

    def draw(self, *fields: Any) -> list[Any]:
        """The moving scene of the form."""
        return [MovingScene(*fields), ""]

    def draw_another(self, _: int, *fields: Any) -> list[Any]:
        """Another seed, and its moving scene."""
        seed = generate.roll()
        return [seed, *self.draw(seed, *fields)]

    def accept(self, path: str | None, *stretch: Any) -> list[Any]:
        """The uploaded clip of the form, which is decoded here, so that what is wrong with it is said beside it."""
        source = UploadedClip(path or "", *stretch)
        sample_of(source)
        return [source, path, ""]

    def arrive(self, view: dict[str, str], *chosen: Any) -> list[Any]:
        """A link's clip, point and adapter; what it does not name stays as it is."""
        source = address.source_of(view) or MovingScene()
        stage, layer, adapter = chosen
        if "point" in view:
            at = self.inspector.vlm.point(view["point"])
            stage, layer = at.stage, at.layer
        adapter = view.get("adapter", adapter)
        self.point.record(stage, layer, adapter)
        self.inspector.vlm.resolution(pixels := view.get("pixels"))  # refused here, before it is shown
        point = self.point.values(stage, layer, adapter)
        return [source, *self.form.values(source), *point, pixels or FITTED, ""]

    def begin(
        self, source: ClipSource | None, view: dict[str, str] | None, *chosen: Any
    ) -> Iterator[dict[Component, Any]]:
        """The first clip, where neither a person nor a link has asked for another."""
        if source is not None or view is not None:
            yield {self.head: gr.skip()}
            return
        yield {self.source: FIRST}
        yield from self.read(FIRST, *chosen)

    def read(
        self,
        source: ClipSource | None,
        stage: Stage | None,
        layer: int | None,
        adapter: str | None,
        pixels: str | None,
    ) -> Iterator[dict[Component, Any]]:
        """Reads the clip: first what can be played, then the VAE alone, then scores. Nothing where none was chosen."""
        if source is None:
            yield {self.head: gr.skip()}
            return
        record, chosen = self.point.record(stage, layer, adapter), chosen_pixels(pixels)
        sample = sample_of(source, self.inspector.resolution(chosen, record), self.inspector)
        yield {self.head: _BUSY}
        key = record.folder, self.inspector.registry.written(record), sample.frames.shape
        known = self._first.get(key) if source == FIRST else None
        decoded = known or decode_clip(self.inspector, record, sample)
        sheets = {"original": self._sheet("original", sample.frames)}
        sheets["reconstruction"] = self._sheet("reconstruction", decoded.reconstruction)
        token = secrets.token_urlsafe(6)
        query = address.query(source, str(record.point), record.name, chosen)
        words = link.link_html(query, source.path if isinstance(source, UploadedClip) else None)
        yield {
            self.head: player.headline(decoded, source.title, query, words),
            self.player: player.payload(decoded, sheets, token),
            self.scores: "",
            self.mp4: gr.DownloadButton(interactive=False),
            self.csv: gr.DownloadButton(interactive=False),
        }
        compared = known or add_oracle(self.inspector, decoded)
        sheets["oracle"] = self._sheet("oracle", compared.oracle)
        yield {self.player: player.payload(compared, sheets, token)}
        report = known or score_clip(self.inspector, compared)
        if source == FIRST:
            self._first = {key: report}
        name = f"foresight-{source.title}-{record.point.stage}-{record.point.layer}-{record.name}".replace("/", "-")
        mp4 = keep(export.side_by_side(report), f"{name}.mp4", self.mp4)
        table = keep(export.frame_table(report).encode(), f"{name}.csv", self.csv)
        yield {
            self.head: player.headline(decoded, source.title, query, words, report),
            self.player: player.payload(decoded, sheets, token, report),
            self.scores: player.score_table(report),
            self.mp4: gr.DownloadButton(value=mp4, interactive=True),
            self.csv: gr.DownloadButton(value=table, interactive=True),
        }

    def _sheet(self, role: str, frames: Tensor) -> str:
        """The address of a clip's frames as one picture."""
        return file_address(keep(png(player.sheet(frames)), f"{role}.png", self.player))
