"""The Latent map tab: many latents as a map that can be hovered, clicked and lassoed."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from torch import Tensor

from foresight.data.factors import ANY, MAX_SCENES, EvaluationSettings, SceneFactors
from foresight.data.images import to_pil
from foresight.data.names import shortened
from foresight.data.resolution import FORMS, Resolution
from foresight.errors import InputError
from foresight.inspection.inspector import Inspector
from foresight.inspection.readout import Reconstruction, prepare
from foresight.maps.data import MapSpec, in_depth_order
from foresight.maps.fit import KEPT_SETS, LatentMap, Maps, Projected
from foresight.maps.pictures import FilePictures, in_folder
from foresight.maps.scores import MapScores
from foresight.maps.worker import warm
from foresight.models.points import ExtractionPoint
from foresight.recent import Recent
from foresight.schemas import Choice, default_of, limits_of
from foresight.settings import Settings
from foresight.ui import generate
from foresight.ui import view_link as link
from foresight.ui.error_handling import show_errors
from foresight.ui.gradio_internals import cached_file, current_page, plotly_file
from foresight.ui.inputs import FreeDropdown, FreeNumber, FreeRadio
from foresight.ui.latent_map import address, panels, tiles
from foresight.ui.latent_map.form import DRAWN, FOLDER, SOURCES, UPLOAD, MapForm, presets, spec_of, values_of
from foresight.ui.latent_map.limits import MapLimits
from foresight.ui.latent_map.tasks import MapTask, OwnImage, Tasks, Updates, describe, noun, status_line
from foresight.ui.navigation import Navigation, Selection, on_open, open_view
from foresight.ui.services import BATCH_QUEUE, CLICKS, MODEL_QUEUE, QUIET, ImageSource, plain_html
from foresight.ui.turns import MODELS
from foresight.ui.uploads import handed_in, keep_picture

PAGE = 60  # tiles of a selection shown at a time
MODEL = QUIET | MODEL_QUEUE
FIT_QUEUE: dict[str, Any] = {"concurrency_id": "umap", "concurrency_limit": 1}  # the model is free meanwhile
EMPTY = "No map yet: press “Draw the map”, or one of the three examples. Or bring pictures of your own."
HINT = (
    '<p class="fs-map-note">Hover over a point to see its picture. Click it for its reconstruction and its nearest '
    "neighbours in the latents.</p>"
)
_HERE = Path(__file__).parent
_DOWNLOAD = "() => setTimeout(() => document.querySelector('#map-file').click(), 100)"


@dataclass(frozen=True)
class Selected:
    """What is looked at: a point of a map, or (None) the image brought in; and at which extraction point."""

    spec: MapSpec
    index: int | None
    point: str


class LatentMapTab:
    """The map's form, the map, what is looked at on it, and a gallery of what is selected on it.

    A map is drawn in steps, an event each, so that Stop and other pages come between them.
    """

    name = "map"
    title = "Latent map"

    def __init__(self, inspector: Inspector, navigation: Navigation, settings: Settings) -> None:
        """Takes what the tab asks.

        Args:
            inspector: Its VLM gives the latents, its adapters read them.
            navigation: Brings images and addresses here, and opens Inspect.
            settings: Whether strangers use the app, who may ask for less.
        """
        self.inspector, self.navigation = inspector, navigation
        self.limits, self.local = MapLimits.of(settings), settings.local
        self.maps, self.scores = Maps(inspector.vlm), MapScores(inspector)
        self.uploads = Recent[tuple[str, ...], FilePictures](KEPT_SETS)

    def build(self) -> None:
        """Adds the tab to the current layout; nothing is drawn until somebody asks."""
        point, points = self.inspector.default_point, self.inspector.vlm.points
        self.examples = presets(points, point)
        self.spec, self.asked, self.image, self.selected = gr.State(), gr.State(), gr.State(), gr.State()
        self.layer, self.selection, self.tile_count = gr.State(str(point)), gr.State([]), gr.State(PAGE)
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320):
                self.form = MapForm(self.inspector.vlm, point, self.examples, self.limits.points, self.local)
                with gr.Group():
                    self.adapter = FreeRadio(**self._adapter_choice(str(point), None), elem_id="map-reader")
                    self.score_button = gr.Button("Score the pictures at this layer", size="sm", elem_id="map-score")
            with gr.Column(scale=7, min_width=320):
                self.status = plain_html(status_line(EMPTY), "map-status", js_on_load=link.ADDRESS)
                self.board = self._board()
                with gr.Row(equal_height=False):
                    with gr.Column(scale=4, min_width=320):
                        self.detail = plain_html(HINT, "map-detail")
                        self.inspect_button = gr.Button(
                            "Open in Inspect", size="sm", visible=False, elem_id="map-inspect"
                        )
                    with gr.Column(scale=3, min_width=320):
                        self.silhouettes = plain_html(panels.silhouette_panel(None), "map-silhouettes")
                self.gallery = plain_html(tiles.gallery(None, [], 0), "map-gallery")
                with gr.Row():
                    self.more_button = gr.Button("Show more", size="sm", visible=False, elem_id="map-more")
                    self.evaluate_button = gr.Button(
                        "Evaluate in Failures", size="sm", interactive=False, elem_id="map-evaluate"
                    )
                    self.save_button = gr.Button("Export", size="sm", interactive=False, elem_id="map-save")
                    self.file = gr.DownloadButton("Download", elem_id="map-file", elem_classes="fs-map-file")
        self.tasks = Tasks(self.status, [self.form.draw, *self.form.presets, self.score_button], self.form.stop)
        self._connect_drawing()
        self._connect_scoring()
        self._connect_looking()
        current_page().unload(self.tasks.leave)

    def _board(self) -> gr.HTML:
        def thumbnail(request: list[Any]) -> str:  # a function, for Gradio marks it; a method cannot be
            return self.thumbnail(*request)

        return plain_html(
            "",
            "map",
            html_template=(_HERE / "tab.html").read_text(encoding="utf-8"),
            js_on_load=(_HERE / "tab.js").read_text(encoding="utf-8"),
            server_functions=[thumbnail],
            library=plotly_file(),
        )

    # Drawing: start → extract → fit → show

    def _connect_drawing(self) -> None:
        inputs, form = self.form.inputs, [*self.form.own, *self.form.inputs]
        starts = [self._start(self.form.draw.click, self.draw, form)]
        for button, spec in zip(self.form.presets, self.examples.values(), strict=True):
            filled = button.click(lambda spec=spec: [DRAWN, *values_of(spec)], None, [form[0], *inputs], **QUIET)
            starts.append(self._start(filled.then, self.draw, form))
        arrival = self.navigation.latent_map
        starts.append(self._start(arrival.change, self.arrive, [arrival, self.spec, *inputs]))
        starts[-1].success(self.fill, self.asked, [form[0], *inputs], **QUIET)
        looked_at = [self.spec, self.selected, self.image]
        outputs = [self.board, self.silhouettes, self.layer, self.adapter, *looked_at, self.detail, self.inspect_button]
        outputs += self._selection_outputs()
        for started in starts:
            extracted = self.tasks.connect(started, self.extract, [], [], **BATCH_QUEUE)
            fitted = self.tasks.connect(extracted, self.fit, [], [], **FIT_QUEUE)
            drawn = self.tasks.connect(fitted, self.show, [self.spec, self.adapter], outputs, **MODEL_QUEUE)
            drawn.success(self.reconstruct, [*looked_at, self.adapter], self.detail, **MODEL)
        self.form.stop.click(self.tasks.stop, None, self.form.stop, **QUIET)

    def _start(self, trigger: Any, handler: Any, inputs: Sequence[Any]) -> Any:
        return trigger(self.tasks.starting(handler), inputs, [self.status, self.asked, *self.tasks.buttons], **QUIET)

    def draw(self, source: str, files: list[str] | None, folder: str, *form: Any) -> MapTask:
        """A map of the form's values.

        Args:
            source: One of SOURCES.
            files: Uploaded ones.
            folder: Of this machine.
            form: As for `spec_of`.
        """
        spec = spec_of(*form)
        if source == DRAWN:
            return self._drawing(spec)
        if source == FOLDER and self.local:
            own = FilePictures.of(in_folder(folder.strip()))
        elif source == UPLOAD:
            own = self._uploaded(files)
        else:
            raise InputError(f"pictures come from: {', '.join(SOURCES[: 2 + self.local])}.")
        self.limits.check_files(len(own))
        return self._drawing(replace(spec, scenes=len(own), pictures=self.maps.bring(own)))

    def _uploaded(self, files: list[str] | None) -> FilePictures:
        """Those of an upload, whose archives are unpacked once, as long as the page's cache keeps the files."""
        key = tuple(files or ())
        if key not in self.uploads or not self.uploads[key].there:
            self.uploads[key] = FilePictures.of(handed_in(files, self.detail, self.limits.check_files))
        return self.uploads[key]

    def arrive(self, view: dict[str, Any] | None, spec: MapSpec | None, *form: Any) -> MapTask:
        """The map of an address, or one with an image of another tab: on the map that is there, if it suits."""
        if view and link.TAB in view:
            linked = address.spec_of(view, str(self.inspector.default_point))
            return self._drawing(linked) if self.limits.links else MapTask(self._checked(linked))
        if view is None or view["source"] is None:
            raise InputError("choose a picture first.")
        image = OwnImage(view["source"], str(view["point"]))
        if spec is None or image.point not in spec.points:
            spec = spec_of([image.point], *form[1:])
        return self._drawing(spec, image)

    def _drawing(self, spec: MapSpec, image: OwnImage | None = None) -> MapTask:
        return MapTask(self._checked(spec), (self.extract, self.fit, self.show), image)

    def _checked(self, spec: MapSpec) -> MapSpec:
        resolution, most = self.inspector.resolution(spec.pixels, None), self.inspector.most_pixels
        if most and resolution.most > most:
            choice = Resolution.area(most)
            raise InputError(f"{spec.pixels} is too large here, where others wait for it: choose {choice}.")
        return self.limits.check(replace(spec, points=in_depth_order(self.inspector.vlm, spec.points)))

    def fill(self, spec: MapSpec) -> list[Any]:
        """The form of the map that was asked for."""
        return [gr.skip() if spec.pictures else DRAWN, *values_of(spec)]

    def extract(self, task: MapTask) -> Generator[Updates, None, None]:
        """Takes the latents of a task's map."""
        yield from self.tasks.progress(task, self.maps.extract(task.spec))

    def fit(self, task: MapTask) -> Generator[Updates, None, None]:
        """Fits a task's map."""
        start = time.perf_counter()
        yield from self.tasks.progress(task, self.maps.fit(task.spec))
        task.seconds = time.perf_counter() - start

    def show(self, task: MapTask, before: MapSpec | None, adapter: str | None) -> Generator[Updates, None, None]:
        """Shows a task's map; the selection stays where it is the map that was there before."""
        spec, image, selected = task.spec, task.image, None
        latent_map, point = self.maps.find(spec), spec.points[0]
        if image is not None:
            point = image.point
            pixels, _ = prepared(image.source, self.inspector.vlm.resolution(spec.pixels))
            image = replace(image, projected=self.maps.project(spec, pixels))
            selected = Selected(spec, None, point)
        if task.stopped:
            return
        status = describe(spec) + (f": fitted in {task.seconds:.1f} s." if task.seconds > 0.5 else ".")
        if isinstance(own := latent_map.data.pictures, FilePictures) and own.broken:
            first = own.broken[0]
            status += f" {len(own.broken)} left out, such as “{shortened(first.name, 60)}”: {first.reason}"
        projected = image.projected if image else None
        yield {
            self.status: status_line(status, link=address.query(spec)),
            self.board: panels.payload(latent_map, self.scores.known(latent_map), projected, point),
            self.silhouettes: panels.silhouette_panel(latent_map),
            self.spec: spec,
            self.image: image,
            self.selected: selected,
            **self.turn_to(point, adapter),
            **self.explain(spec, selected, image),
            **({} if spec == before else self._select(latent_map, [], PAGE)),
        }

    # Scores

    def _connect_scoring(self) -> None:
        adapter = [self.layer, self.adapter]
        started = self._start(self.score_button.click, self.start_scores, [self.spec, *adapter])
        self.tasks.connect(started, self.score, [self.image, *adapter], [self.board], **BATCH_QUEUE)

    def start_scores(self, spec: MapSpec | None, layer: str, adapter: str | None) -> MapTask:
        """The map that is shown, to be scored."""
        latent_map = self.maps.find(spec)
        self.inspector.registry.find_listed(adapter, layer)
        return MapTask(latent_map.spec, (self.score,))

    def score(
        self, task: MapTask, image: OwnImage | None, layer: str, adapter: str | None
    ) -> Generator[Updates, None, None]:
        """Scores a task's map: reads its scenes with an adapter, and shows what was scored, also after a stop."""
        latent_map, record = self.maps.find(task.spec), self.inspector.registry.find_listed(adapter, layer)
        yield from self.tasks.progress(task, self.scores.score(latent_map, record, self.limits.scored))
        scores, reader = self.scores.known(latent_map), f"{adapter} at {layer}"
        colour, projected = f"lpips {reader}" if reader in scores else None, image.projected if image else None
        status = f"Scored by {adapter} at {layer}. “Colour by” has the scores now."
        yield {
            self.status: status_line(status, link=address.query(task.spec)),
            self.board: panels.payload(latent_map, scores, projected, None, colour),
        }

    # Looking at points and selecting them

    def _connect_looking(self) -> None:
        looked_at = [self.spec, self.selected, self.image]
        reconstructed, detail = [*looked_at, self.adapter], [self.detail, self.inspect_button]
        turned, selection = [self.layer, self.adapter], self._selection_outputs()
        on_open(self.turn_to, turned, turned)
        on_open(warm, None, None)  # UMAP takes seconds to compile: beside the choice of what to draw
        self.board.input(self.turn, self.adapter, turned, **CLICKS)
        clicked = self.board.click(self.click, self.spec, self.selected, **CLICKS)
        explained = clicked.success(show_errors(self.explain), looked_at, detail, **QUIET, trigger_mode="always_last")
        explained.success(self.reconstruct, reconstructed, self.detail, **MODEL, trigger_mode="always_last")
        self.adapter.input(self.reconstruct, reconstructed, self.detail, **MODEL, trigger_mode="always_last")
        self.inspect_button.click(self.open_inspect, reconstructed, self.navigation.inspect, **QUIET)
        self.board.select(self.select, self.spec, selection, **CLICKS)
        self.more_button.click(self.extend, [self.spec, self.selection, self.tile_count], selection, **QUIET)
        chosen = [self.spec, self.selection, *turned]
        self.evaluate_button.click(self.open_failures, chosen, self.navigation.failures, **QUIET)
        saved = self.save_button.click(self.export, [self.spec, self.selection], self.file, api_visibility="private")
        saved.success(None, None, None, js=_DOWNLOAD)

    def turn(self, adapter: str | None, event: gr.EventData) -> Updates:
        """The layer that the slider has moved to, and the adapters there."""
        return self.turn_to(str(event.point), adapter)

    def turn_to(self, point: str, adapter: str | None) -> Updates:
        """A layer, and the choice of the adapters that read it."""
        return {self.layer: point, self.adapter: gr.Radio(**self._adapter_choice(point, adapter))}

    def _adapter_choice(self, point: str, requested: str | None) -> dict[str, Any]:
        """The choice of the adapters at a point: the one that is asked for, or the first."""
        names = [record.name for record in self.inspector.adapters(ExtractionPoint.parse(point))]
        use = "For the reconstruction of a point, and for scores to colour by."
        return {
            "choices": names,
            "value": requested if requested in names else names[0] if names else None,
            "label": f"Read latents of {point} with",
            "info": use if names else f"No adapter reads {point} yet.",
        }

    @show_errors
    def click(self, spec: MapSpec | None, event: gr.EventData) -> Selected:
        """A point that was clicked on the map, in the gallery, or among neighbours."""
        latent_map = self.maps.find(spec)
        index, point = int(event.index), str(event.point)
        if event.id != latent_map.spec.id or not 0 <= index < latent_map.spec.size or point not in latent_map.layers:
            raise InputError("this point is not on the map that is kept: draw it again.")
        return Selected(latent_map.spec, index, point)

    def explain(self, spec: MapSpec | None, selected: Selected | None, image: OwnImage | None) -> Updates:
        """The image and its neighbours, at once, for the model is not needed; and the button to Inspect."""
        if selected is None or selected.spec != spec:  # another map has come meanwhile
            return {self.detail: HINT, self.inspect_button: gr.Button(visible=False)}
        latent_map = self.maps.find(spec)
        of, pixels, _, note = self._look_up(latent_map, selected, image)
        detail = tiles.detail(latent_map, selected.point, of, to_pil(pixels), None, note)
        return {self.detail: detail, self.inspect_button: gr.Button(visible=True)}

    @show_errors
    def reconstruct(
        self, spec: MapSpec | None, selected: Selected | None, image: OwnImage | None, adapter: str | None
    ) -> Any:
        """The image and its neighbours, with what an adapter reads out of its latents, or why none does."""
        if selected is None or selected.spec != spec:
            return gr.skip()
        latent_map = self.maps.find(spec)
        of, pixels, mask, note = self._look_up(latent_map, selected, image)
        reconstruction: Reconstruction | str
        try:
            record = self.inspector.registry.find_listed(adapter, selected.point)
            report = self.inspector.inspect(pixels, record.point, record.folder, mask, (), spec.pixels)
            reconstruction = report.chosen
        except InputError as error:
            reconstruction = str(error)
        return tiles.detail(latent_map, selected.point, of, to_pil(pixels), reconstruction, note)

    @show_errors
    def open_inspect(
        self, spec: MapSpec | None, selected: Selected | None, image: OwnImage | None, adapter: str | None
    ) -> dict[str, Any]:
        """The view in Inspect of what is looked at."""
        data = self.maps.find(spec).data
        if selected is None or selected.spec != spec:
            raise InputError("click a point of the map first.")
        if selected.index is None:
            return open_view(image.source if image else None, selected.point, adapter, _other_pixels(spec))
        number = int(data.rows[selected.index])
        source = data.pictures.source(number)
        if isinstance(source, str):  # Inspect shows nothing from outside the cache
            data.pictures.pixels(number)  # it is there still, and is a picture
            source = keep_picture(Path(source), data.pictures.name(number), self.detail)
        return open_view(source, selected.point, adapter, _other_pixels(spec))

    def thumbnail(self, spec_id: str, index: int) -> str:
        """The image of a map's point for a hover; "" where there is no such map or point."""
        latent_map = self.maps.by_id(str(spec_id))
        if latent_map is None or not isinstance(index, int) or not 0 <= index < latent_map.spec.size:
            return ""
        return tiles.data_url(tiles.images(latent_map, [index], tiles.THUMBNAIL)[0])

    @show_errors
    def select(self, spec: MapSpec | None, event: gr.EventData) -> Updates:
        """Points that were lassoed."""
        latent_map, indices = self.maps.find(spec), [int(i) for i in event.indices]
        if event.id != latent_map.spec.id or not all(0 <= i < latent_map.spec.size for i in indices):
            raise InputError("these points are not on the map that is kept: draw it again.")
        return self._select(latent_map, indices, PAGE)

    @show_errors
    def extend(self, spec: MapSpec | None, indices: list[int], count: int) -> Updates:
        """More tiles of the selection."""
        return self._select(self.maps.find(spec), indices, count + PAGE)

    def _select(self, latent_map: LatentMap, indices: list[int], count: int) -> Updates:
        chosen, hidden, size = len(indices), len(indices) - count, latent_map.spec.size
        exported = f"{chosen:,}" if chosen else f"all {size:,}"
        updates = [
            indices,
            count,
            tiles.gallery(latent_map, indices, count),
            gr.Button(f"Show {min(hidden, PAGE)} more of {chosen:,}", visible=hidden > 0),
            gr.Button("Evaluate in Failures", interactive=True),
            gr.Button(f"Export {exported} {noun(latent_map.spec, chosen or size)} (zip)", interactive=True),
        ]
        return dict(zip(self._selection_outputs(), updates, strict=True))

    def _selection_outputs(self) -> list[Any]:
        buttons = [self.more_button, self.evaluate_button, self.save_button]
        return [self.selection, self.tile_count, self.gallery, *buttons]

    @show_errors
    def open_failures(
        self, spec: MapSpec | None, indices: list[int], layer: str, adapter: str | None
    ) -> dict[str, Any]:
        """The view in Failures of the pictures of the selection; without one, of the whole map."""
        latent_map = self.maps.find(spec)
        record = self.inspector.registry.find_listed(adapter, layer)
        data, spec = latent_map.data, latent_map.spec
        numbers = sorted({int(data.rows[i]) for i in indices or range(spec.size)})
        if len(numbers) > MAX_SCENES:
            raise InputError(f"Failures takes {MAX_SCENES:,} pictures at a time, not {len(numbers):,}: select fewer.")
        backgrounds = () if spec.background == ANY else (spec.background,)
        factors = SceneFactors(objects=(1, spec.objects), backgrounds=backgrounds)
        selection = Selection(
            lambda resolution: data.pictures.samples(numbers, resolution),
            len(numbers),
            {"map": asdict(spec), "pictures": numbers},
            None if spec.pictures else EvaluationSettings(len(numbers), spec.seed, factors),
        )
        size = {"pixels": pixels} if (pixels := _other_pixels(spec)) else {}
        return {"selection": selection, "point": layer, "adapter": record.name, "at": time.time(), **size}

    @show_errors
    def export(self, spec: MapSpec | None, indices: list[int]) -> str:
        """The selection as a file; without one, the whole map."""
        latent_map = self.maps.find(spec)
        exported = indices or range(latent_map.spec.size)
        with_image = min(len(exported), self.limits.images)
        data = panels.export(latent_map, self.scores.known(latent_map), exported, with_image)
        return cached_file(data, f"foresight-map-{latent_map.spec.id}.zip")

    def _look_up(
        self, latent_map: LatentMap, selected: Selected, image: OwnImage | None
    ) -> tuple[int | Projected, Tensor, Tensor | None, str]:
        """What is looked at.

        Returns:
            The point or the projected image; its pixels (3, H, W) and mask (H, W), where that is known; and a warning.

        Raises:
            InputError: The image that was brought in is no longer there.
        """
        data, spec = latent_map.data, latent_map.spec
        if selected.index is None:
            if image is None or image.projected is None:
                raise InputError("this picture is no longer on the map: bring it in again.")
            pixels, mask = prepared(image.source, self.inspector.vlm.resolution(spec.pixels))
            return image.projected, pixels, mask, tiles.mismatch(spec, image.source)
        return selected.index, *data.pictures.pixels(int(data.rows[selected.index])), ""

    # The API

    def add_endpoints(self) -> None:
        """Adds `/latent_map` to the current Blocks; nothing of it is seen on the page."""
        with gr.Row(visible=False):
            trigger = gr.Button()
            inputs = [_api_input(field, str(self.inspector.default_point)) for field in _API]
            answer = gr.JSON(label="map")
        # One event has one queue. In the models', batches would wait for the fit, which needs no model.
        trigger.click(self.latent_map, inputs, answer, api_name="latent_map", **FIT_QUEUE)

    @show_errors
    def latent_map(
        self,
        points: str | None,
        scenes: int,
        seed: int,
        tokens: int,
        dimensions: int,
        objects: int,
        background: str,
        neighbours: int,
        min_dist: float,
        clusters: int,
        method: str = default_of(MapSpec, "method"),
        pixels: str = default_of(MapSpec, "pixels"),
    ) -> Iterator[dict[str, Any]]:
        """Maps the latents of scenes by UMAP, PCA or t-SNE, at one extraction point or several.

        points: separated by commas, such as "post-merge/0, post-merge/6"; each map is turned onto the one before.
        tokens: 0 takes the mean of a scene's tokens, more takes so many of them. objects: 1, or up to that many.
        pixels: how large the model sees them, such as 448² or native.
        Yields {"stage", "done", "of"} after each step, so that it ends soon after the client cancels or goes away;
        then coordinates, clusters, silhouettes with their shuffled-label floor, and what each point shows.
        """
        names = tuple(name.strip() for name in (points or "").split(",") if name.strip())
        settings: Any = (scenes, seed, tokens, dimensions, objects, background, neighbours, min_dist, clusters)
        settings += (method, pixels)
        spec = self._checked(MapSpec(names, *settings))
        for part in (MODELS.steps(self.maps.extract(spec)), self.maps.fit(spec)):
            with closing(part) as steps:
                for step in steps:
                    yield {"stage": step.stage, "done": step.done, "of": step.total}
        yield panels.as_json(self.maps.find(spec))


def prepared(source: ImageSource, resolution: Resolution) -> tuple[Tensor, Tensor | None]:
    """An image's pixels (3, H, W) and mask (H, W), where that is known, as the model sees them."""
    return prepare(*generate.image_and_mask(source), resolution)


def _other_pixels(spec: MapSpec) -> str | None:
    """A map's pixels, for another tab; None where they are the usual ones."""
    return None if spec.pixels == default_of(MapSpec, "pixels") else spec.pixels


_API = [name for name in MapSpec.__dataclass_fields__ if name != "pictures"]  # a program has no form to bring them by


def _api_input(field: str, point: str) -> Any:
    """A setting of MapSpec as an input of the API; point: the default one."""
    if field == "points":
        return gr.Textbox(point, label="points, separated by commas")
    if field == "pixels":
        return gr.Textbox(default_of(MapSpec, field), label=f"pixels: {FORMS}")
    default, limits = default_of(MapSpec, field), limits_of(MapSpec, field)
    if isinstance(limits, Choice):
        return FreeDropdown([*limits.known], value=default, label=limits.noun)
    return FreeNumber(default, precision=0 if isinstance(default, int) else None, label=limits.noun)
