"""The Video tab's controls: what clip, at which extraction point, read by which adapter."""

from typing import Any

import gradio as gr

from foresight.adapters.registry import AdapterRecord, pick_adapter
from foresight.data.clips import DEFAULT_FPS, DEFAULT_FRAMES
from foresight.data.factors import ANY
from foresight.data.motion import MOTIONS
from foresight.errors import InputError
from foresight.inspection.clip_readout import clip_records, gives_each_frame
from foresight.inspection.inspector import Inspector
from foresight.models.points import STAGE_NAMES, STAGES, ExtractionPoint, Stage
from foresight.ui.error_handling import error_place
from foresight.ui.inputs import FreeNumber, FreeRadio, FreeSlider
from foresight.ui.navigation import updated_choices
from foresight.ui.pixels import pixels_dropdown
from foresight.ui.video.source import MOST_FRAMES, MOST_OBJECTS, MovingScene, UploadedClip

NO_ADAPTER = "No adapter reads clips at any point of this model with this VAE: train one first."


class ClipForm:
    """A moving scene to generate, or a file to upload.

    Attributes:
        scene: The components of a MovingScene, in its fields' order.
        stretch: Those of an UploadedClip but its path, in its fields' order.
        outputs: What `values` gives values for.
    """

    def __init__(self) -> None:
        """Adds the form to the current layout."""
        first = MovingScene()
        with gr.Tabs() as self.tabs:
            with gr.Tab("Moving scene", id="scene"):
                with gr.Row():
                    motion = gr.Dropdown(
                        [ANY, *MOTIONS], value=first.motion, label="Motion", min_width=110, elem_id="video-motion"
                    )
                    self.seed = FreeNumber(first.seed, label="Seed", min_width=90, elem_id="video-seed")
                objects = FreeSlider(1, MOST_OBJECTS, value=first.objects, step=1, label="Objects")
                frames = FreeSlider(
                    8, MOST_FRAMES, value=first.frames, step=1, label="Frames", elem_id="video-frames-drawn"
                )
                with gr.Row():
                    self.generate = gr.Button("Generate", variant="primary", min_width=100, elem_id="video-generate")
                    self.dice = gr.Button("Another seed", min_width=100, elem_id="video-dice")
                self.scene_error = error_place("video-scene-error")
            with gr.Tab("Upload", id="upload", elem_id="video-upload"):
                self.file = gr.File(
                    label="Clip: mp4, mov, webm, mkv or gif", type="filepath", height=150, elem_id="video-file"
                )
                with gr.Row():
                    fps = FreeNumber(DEFAULT_FPS, label="Frames a second", min_width=90, elem_id="video-fps")
                    count = FreeNumber(DEFAULT_FRAMES, label="Frames", min_width=70, elem_id="video-frames")
                    start = FreeNumber(0, label="From second", min_width=90, elem_id="video-start")
                self.again = gr.Button("Read the clip", variant="primary", elem_id="video-again")
                self.file_error = error_place("video-file-error")
        self.uploaded = gr.State()  # the path of the last file that is a clip
        self.scene: list[Any] = [self.seed, motion, objects, frames]
        self.stretch: list[Any] = [fps, count, start]
        self.outputs = [self.tabs, *self.scene, self.file, self.uploaded, *self.stretch]

    def values(self, source: MovingScene | UploadedClip) -> list[Any]:
        """The values of `outputs` that a clip was made from; the other kind's stay as they are."""
        if isinstance(source, MovingScene):
            skipped = [gr.skip()] * (2 + len(self.stretch))
            return [gr.Tabs(selected="scene"), source.seed, source.motion, source.objects, source.frames, *skipped]
        skipped = [gr.skip()] * len(self.scene)
        stretch = [source.fps, source.frames, source.start]
        return [gr.Tabs(selected="upload"), *skipped, source.path, source.path, *stretch]


class ClipPoint:
    """Stage, layer and adapter, of those that read clips alone.

    Attributes:
        chosen: The components, which say where latents are taken and by what they are read; `values` gives theirs.
    """

    def __init__(self, inspector: Inspector) -> None:
        """Adds the controls to the current layout, at the inspector's default point or the first that is served."""
        self.inspector = inspector
        stage, layer, adapter = self._choices(None, None, None)
        with gr.Group():
            self.stage = FreeRadio(**stage, label="Extraction point", elem_id="video-stage")
            self.layer = FreeRadio(**layer, label="Layer: those that an adapter reads clips at", elem_id="video-layer")
            self.adapter = FreeRadio(**adapter, label="Adapter", elem_id="video-adapter")
            self.pixels = pixels_dropdown(inspector.vlm, "video-pixels")
        self.chosen: list[Any] = [self.stage, self.layer, self.adapter]

    def values(self, stage: Stage | None, layer: int | None, adapter: str | None) -> list[Any]:
        """The choices there are now, and what is chosen: what is asked for where it is there, else the nearest."""
        return [gr.Radio(**choices) for choices in self._choices(stage, layer, adapter)]

    def offer(self, *chosen: Any) -> list[Any]:
        """As `values`, where training may have added adapters: what is chosen is left alone where it is there."""
        offered = self._choices(*chosen)
        return [
            updated_choices(gr.Radio, choice["choices"], value, choice["value"])
            for choice, value in zip(offered, chosen, strict=True)
        ]

    def _choices(self, stage: Stage | None, layer: int | None, adapter: str | None) -> list[dict[str, Any]]:
        records, default = clip_records(self.inspector), self.inspector.default_point
        if not records:
            none: dict[str, Any] = {"choices": [], "value": None}
            return [none | {"info": NO_ADAPTER}, none, none]
        stages = [name for name in STAGES if any(record.point.stage == name for record in records)]
        at_stage = stage if stage in stages else default.stage if default.stage in stages else stages[0]
        layers = list(dict.fromkeys(record.point.layer for record in records if record.point.stage == at_stage))
        target = default.layer if layer is None else layer
        at_layer = min(layers, key=lambda number: abs(number - target))
        at_point = [record for record in records if record.point == ExtractionPoint(at_stage, at_layer)]
        names = [record.name for record in at_point]
        return [
            {"choices": [(STAGE_NAMES[name], name) for name in stages], "value": at_stage, "info": ""},
            {"choices": [(str(number), number) for number in layers], "value": at_layer},
            {
                "choices": [(f"{record.name}: {_reads(record)}", record.name) for record in at_point],
                "value": adapter if adapter in names else names[0],
            },
        ]

    def record(self, stage: Stage | None, layer: int | None, adapter: str | None) -> AdapterRecord:
        """The adapter that is chosen. Raises InputError where none reads clips there."""
        records = clip_records(self.inspector)
        if not records or stage is None or layer is None:
            raise InputError(NO_ADAPTER)
        return pick_adapter(records, ExtractionPoint(stage, layer), adapter)


def _reads(record: AdapterRecord) -> str:
    return "an image for each frame" if gives_each_frame(record) else "one image for both frames of a step"
