"""The Failures tab: many images at one point with one adapter; the worst first, and what they have in common."""

import functools
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from foresight.adapters.registry import AdapterRecord
from foresight.data.archive import Broken
from foresight.data.factors import EvaluationSettings, SceneFactors
from foresight.data.resolution import DEFAULT, Resolution
from foresight.errors import InputError
from foresight.inspection.evaluation import ImageScores, evaluate, summarise
from foresight.inspection.inspector import Inspector
from foresight.inspection.tables import LEVELS, OBJECT_SCORES, by_factor, iou_plane, own_score
from foresight.metrics.scores import SCORES
from foresight.paths import RUNS
from foresight.schemas import default_of, whole
from foresight.settings import Settings
from foresight.ui import plots, stopping
from foresight.ui import view_link as link
from foresight.ui.cards import NAMES
from foresight.ui.error_handling import error_place, show_errors, show_errors_in
from foresight.ui.failures import filters, form, galleries, runs
from foresight.ui.failures.filters import SCORE_CHOICES, FilterForm
from foresight.ui.failures.form import FOLDER, SCENES, SOURCES, UPLOAD, AdapterForm, ImageForm
from foresight.ui.failures.runs import ImageSet, KeptRuns, Row, Run
from foresight.ui.inputs import FreeDropdown, FreeNumber
from foresight.ui.navigation import Navigation, Selection, on_open, open_view
from foresight.ui.notes import Notes
from foresight.ui.pixels import API_LABEL, FITTED, chosen_pixels
from foresight.ui.series import Series
from foresight.ui.services import BATCH_QUEUE, QUIET, plain_html

STATUS_SECONDS, GALLERY_SECONDS = 0.3, 2.0  # between two updates of the status, and of the worst so far
DOWNLOADS = {"csv": "CSV", "json": "JSON", "zip": "zip with pictures"}
PAGE = 24  # images shown at first, and added by "more"
_OBJECT_CHOICES = [("IoU of each object", "object_iou"), ("LPIPS on each object", "object_lpips")]
_PICTURE_CHOICES = [(f"{label} of the picture", name) for label, name in SCORE_CHOICES]
_OBJECT_TITLES = dict(zip(OBJECT_SCORES, ("IoU", "LPIPS"), strict=True))
# Hands a file to the browser's downloads as soon as it is written.
_SAVE = """file => {
  const link = document.createElement('a');
  link.href = file.url;
  link.download = file.orig_name;
  link.click();
}"""
Updates = dict[Any, Any]


class FailuresTab:
    """A form of images and adapter, and what the evaluation gives: means, images in order, charts and files."""

    name = "failures"
    title = "Failures"

    def __init__(self, inspector: Inspector, navigation: Navigation, settings: Settings) -> None:
        """Takes what the tab asks.

        Args:
            inspector: The models, and the adapters to choose from.
            navigation: Opens this tab on a link's evaluation, and Inspect on an image.
            settings: Whether folders of this machine may be named; whether strangers come, whose evaluations are
                short, and start on a click alone.
        """
        self.inspector, self.navigation, self.settings = inspector, navigation, settings
        self.most = runs.most_images(settings)
        self.kept = KeptRuns()
        self.notes = None if settings.public else Notes(RUNS / "notes.json")  # strangers share none

    def build(self) -> None:
        """Adds the tab to the current layout."""
        self.run, self.limit, self.charted, self.chosen = gr.State(), gr.State(PAGE), gr.State(), gr.State()
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=300):
                self.images = ImageForm(self.settings.local, self.most)
                self.adapter = AdapterForm(self.inspector)
                with gr.Row(elem_classes="fs-go"):
                    self.start = gr.Button("Evaluate", variant="primary", min_width=100, elem_id="failures-go")
                    self.stop = gr.Button("Stop", min_width=100, interactive=False, elem_id="failures-stop")
                self.error = error_place("failures-error")
            with gr.Column(scale=8, min_width=320, elem_classes="fs-failed"):
                self.status = plain_html(galleries.EMPTY, "failures-status")
                self.means = plain_html("", "failures-means")
                self.link = plain_html("", "failures-link", js_on_load=link.ADDRESS)
                self.filters = FilterForm()
                self.filter_error = error_place("failures-filter-error")
                self._build_views()
                with gr.Row():
                    self.downloads = {
                        kind: gr.Button(f"Download {what}", size="sm", interactive=False, elem_id=f"failures-{kind}")
                        for kind, what in DOWNLOADS.items()
                    }
                    self.file = gr.DownloadButton(visible="hidden")
        self._connect_evaluation()
        self._connect_results()

    def _build_views(self) -> None:
        with gr.Tabs() as self.views:
            with gr.Tab("Gallery", id="gallery"):
                self.gallery = plain_html("", "failures-gallery", js_on_load=galleries.PICK)
            with gr.Tab("Table"):
                self.table = gr.Dataframe(
                    [],
                    headers=galleries.SCENE_HEADERS,
                    column_widths=galleries.SCENE_WIDTHS,
                    wrap=True,
                    interactive=False,
                    max_height=560,
                    elem_id="failures-table",
                )
            with gr.Tab("What fails", elem_id="failures-of-factors"):
                self.factor_score = FreeDropdown(
                    _OBJECT_CHOICES + _PICTURE_CHOICES,
                    value="object_iou",
                    label="Score",
                    info="Means with 95 % intervals over pictures; a click keeps a level alone. Photos, which have no "
                    "known objects, are grouped by what they are like.",
                    elem_id="failures-factor-score",
                )
                self.factor_chart = _plot("Scores by factor", "failures-factors")
            with gr.Tab("Where", elem_id="failures-of-places"):
                self.place_chart = _plot("IoU of objects at each place of the picture", "failures-where")
            with gr.Tab("Histograms"):
                self.histograms = _plot(
                    "Scores of all pictures shown; a bar keeps its own alone", "failures-histograms"
                )
        self.charts = plain_html("", "failures-charts", js_on_load=galleries.PICK_CHARTED, visible="hidden")

    # The evaluation

    def _connect_evaluation(self) -> None:
        arrival = self.navigation.failures
        inputs = [self.run, self.chosen, *self.images.inputs, *self.adapter.inputs, *self.filters.inputs]
        waiting = [self.limit, self.status, self.start, self.stop]
        outputs = [self.run, self.status, self.means, self.link, self.gallery, self.start, self.stop, self.error]
        outputs += [*self.filters.inputs[2:], self.filters.chips, self.views]
        arrived = arrival.change(
            self.arrive,
            [arrival, self.run],
            [
                *(self.run, self.chosen, self.images.source, self.filters.more),
                *self.images.scenes,
                *self.adapter.inputs,
                *self.filters.inputs,
            ],
            **QUIET,
        )
        clicked = self.start.click(self.wait, None, waiting, **QUIET)
        linked = arrived.success(self.wait_for_link, self.run, waiting, **QUIET)
        evaluations = [
            event(show_errors_in(self.error)(handler), inputs, outputs, **BATCH_QUEUE, **QUIET)
            for event, handler in ((clicked.then, self.evaluate), (linked.then, self.evaluate_link))
        ]
        ended = [self.status, self.start, self.stop, self.filters.score, self.factor_score]
        ended += [self.filters.more, self.filters.beside, self.filters.tags]
        for evaluation in evaluations:
            evaluation.then(**self._showing).then(self.finish, self.run, ended, **QUIET)
            evaluation.failure(self.finish, self.run, ended, **QUIET)  # then, too, does not follow a failure
        self.stop.click(stopping.stopping, None, self.stop, cancels=evaluations, **QUIET)

    def wait(self) -> Updates:
        """While others use the model."""
        return {self.limit: PAGE, self.status: galleries.WAITING, **self._buttons(stopping.going())}

    def wait_for_link(self, run: Run | None) -> Updates:
        """`wait`, where `evaluate_link` will evaluate."""
        return self.wait() if self._link_starts(run) else {self.limit: gr.skip()}

    def evaluate(
        self,
        last: Run | None,
        selection: Selection | None,
        source: str,
        files: list[str] | None,
        folder: str,
        *values: Any,
    ) -> Iterator[Updates]:
        """Evaluates the form's images, and shows how far it is and the worst so far.

        Filters stay where the images are those of the last run; else they would leave out what nobody saw.

        Args:
            last: The run that is shown.
            selection: What was chosen on the map.
            source: One of SOURCES, or CHOSEN.
            files: Uploaded ones.
            folder: Of this machine.
            values: Of the scenes' form, the adapter's and the filters'.
        """
        scenes = dict(zip(form.DEFAULTS, values, strict=False))
        point, name, pixels, *chosen = values[len(scenes) :]
        record = self.find(point, name)
        resolution = self.inspector.resolution(chosen_pixels(pixels), record)
        images = self.image_set(source, files, folder, scenes, resolution, selection)
        if last is not None and last.images.data != images.data:
            chosen[2:] = filters.cleared()
        run = Run(record, images, filters.within(images.settings, chosen), pixels=pixels or FITTED)
        run.notes = self.notes or run.notes
        self.kept.add(run)
        yield {
            self.run: run,
            self.status: galleries.status(run),
            **dict.fromkeys((self.means, self.link, self.gallery), ""),
            **self._buttons(stopping.going()),
            **dict(zip(self.filters.range, run.filters[2:4], strict=True)),
            **self.filters.offer(run.settings, run.filters),
            self.filters.like: run.filters[-1],
            self.filters.chips: galleries.chips(run, run.filters),
            # Where no place is known, a tab that is not offered may be open.
            **({} if run.settings else {self.views: gr.Tabs(selected="gallery")}),
        }
        status_time = gallery_time = time.perf_counter()
        for item in evaluate(self.inspector, record, images.samples):
            if run.replaced:
                break
            run.add(item, self.gallery)
            now = time.perf_counter()
            if now - status_time > STATUS_SECONDS:
                updates: Updates = {self.status: galleries.status(run)}
                if now - gallery_time > GALLERY_SECONDS:
                    updates[self.gallery] = self._gallery(run, run.filters, PAGE)
                    gallery_time = now
                yield updates
                status_time = now
        run.end()
        if not run.replaced:
            yield {self.status: galleries.status(run)}

    def evaluate_link(self, last: Run | None, *values: Any) -> Iterator[Updates]:
        """Evaluates what a link asks for, unless it is there already, or strangers come, who have to click."""
        if self._link_starts(last):
            yield from self.evaluate(last, *values)

    def _link_starts(self, run: Run | None) -> bool:
        return run is None and not self.settings.public

    def finish(self, run: Run | None) -> Updates:
        """Ends the clock of a run, also of one that was stopped, and offers the scores that it has to sort by."""
        if run is None:
            return {self.status: galleries.EMPTY, **self._buttons(stopping.idle())}
        run.end()
        known = {n for n in SCORES if any(own_score(scores, n) is not None for scores in run.scores)} | {run.filters[0]}
        grouped = [(label, name) for label, name in _PICTURE_CHOICES if name in known]
        of_photos = gr.update(choices=grouped, value="lpips") if run.settings is None else None
        run.others = self.kept.of_same_pictures(run)
        return {
            **self._offer_more(run, run.filters),
            self.status: galleries.status(run),
            **self._buttons(stopping.idle()),
            self.factor_score: of_photos or gr.update(choices=_OBJECT_CHOICES + grouped),
            self.filters.score: gr.update(choices=[(label, name) for label, name in SCORE_CHOICES if name in known]),
        }

    def _offer_more(self, run: Run, values: filters.Values) -> Updates:
        others = [(other.title, other.token) for other in run.others]
        return self.filters.offer_more(others, run.notes.tags(row.key for row in run.rows), values)

    @show_errors
    def reopen(self, run: Run | None, *values: Any) -> Updates:
        """What there is to filter by once the tab is opened again: pictures may have tags now."""
        return {self.filters.more: gr.skip()} if run is None else self._offer_more(run, values)

    def _gallery(self, run: Run, values: filters.Values, limit: int) -> str:
        rows = run.select(values)
        return galleries.gallery(rows, values[0], limit, run.notes, run.beside(values), run.alike(values))

    def _buttons(self, updates: stopping.Updates) -> Updates:
        return dict(zip((self.start, self.stop), updates, strict=True))

    @show_errors
    def arrive(self, view: dict[str, Any], last: Run | None) -> Updates:
        """A link's evaluation where it is still kept, else its scenes and adapter, and its filters; or a Selection."""
        if "selection" in view:
            if last is not None:
                last.replaced = True
            names = form.names_at(self.inspector.adapters(), view["point"])
            return {
                self.run: None,
                self.chosen: view["selection"],
                self.images.source: gr.Radio([*self.images.sources, form.CHOSEN], value=form.CHOSEN),
                self.adapter.point: view["point"],
                self.adapter.name: gr.Dropdown(names, value=self.find(view["point"], view["adapter"]).name),
            }
        run = self.kept.find(view.get(galleries.UPLOADED, view.get(galleries.EVALUATION)))
        if run is None and galleries.UPLOADED in view:
            raise InputError("that evaluation is no longer kept: upload its pictures again.")
        if run is not None:
            point, name = str(run.record.point), run.record.name
        else:
            point = view.get("point", str(self.inspector.default_point))
            name = self.find(point, view.get("adapter")).name
        names = form.names_at(self.inspector.adapters(), point)
        pixels = view.get("pixels", FITTED) if run is None else run.pixels
        self.inspector.vlm.resolution(chosen_pixels(pixels))  # refused here, before it is shown
        scenes = link.fields_of(view, form.DEFAULTS, form.WORDS)
        whole(scenes["scenes"], "scenes", 1, self.most)
        if last is not None and last is not run:
            last.replaced = True
        settings = form.settings_of(scenes) if run is None else run.settings
        chosen = filters.within(settings, [*link.fields_of(view, filters.FILTERS, filters.WORDS).values()])
        if run is not None:
            run.filters = chosen
        updates: Updates = {
            self.run: run,
            self.adapter.point: point,
            self.adapter.pixels: pixels,
            self.adapter.name: gr.Dropdown(names if name in names else [name, *names], value=name),
            **dict(zip(self.filters.inputs[:4], chosen[:4], strict=True)),
            **self.filters.offer(settings, chosen),
            **({} if run is None else self._offer_more(run, chosen)),
            self.filters.like: chosen[-1],
        }
        if settings is not None and (
            run is None or run.images.again
        ):  # which files were uploaded, only the browser knew
            updates |= {self.images.source: SCENES, **dict(zip(self.images.scenes, scenes.values(), strict=True))}
        return updates

    def find(self, point: str | None, name: str | None) -> AdapterRecord:
        """The adapter of that name at a point. Raises InputError. Folders and hub ids are not taken from strangers."""
        return self.inspector.registry.find_listed(name, point or self.inspector.default_point)

    def image_set(
        self,
        source: str,
        files: list[str] | None,
        folder: str,
        scenes: dict[str, Any],
        resolution: Resolution = DEFAULT,
        selection: Selection | None = None,
    ) -> ImageSet:
        """The form's images; scenes: as `form.values_of` writes them. Raises InputError."""
        if source == SCENES:
            return runs.scene_set(self.settings, form.settings_of(scenes), resolution)
        if source == UPLOAD:
            return runs.uploaded_set(self.settings, files, self.gallery, resolution)
        if source == FOLDER and self.settings.local:
            return runs.folder_set(folder, resolution)
        if source == form.CHOSEN:
            return runs.chosen_set(self.settings, selection, resolution)
        raise InputError(f"pictures come from: {', '.join(SOURCES[: 2 + self.settings.local])}.")

    # The results

    @functools.cached_property
    def _showing(self) -> dict[str, Any]:
        """The event that shows the results; one function for all, so that no two make the same charts side by side."""
        outputs = [self.charted, self.means, self.link, self.gallery, self.table, self.filter_error, self.filters.chips]
        outputs += [self.factor_chart, self.place_chart, self.histograms, *self.downloads.values()]
        return {
            "fn": show_errors_in(self.filter_error)(self.show),
            "inputs": [self.run, self.charted, self.limit, self.factor_score, *self.filters.inputs],
            "outputs": outputs,
            **QUIET,
        }

    def _connect_results(self) -> None:
        showing, inputs = self._showing, self.filters
        controls: list[Any] = [inputs.score, inputs.order, *inputs.factors, self.factor_score]
        controls += [inputs.tags, inputs.beside]
        changes = [control.change for control in controls]
        for end in inputs.range:  # while it is typed, a number may be none yet
            changes += [end.blur, end.submit]
        for changed in changes:
            changed(**showing, trigger_mode="always_last")
        picked = self.charts.click(self.pick, inputs.inputs, inputs.inputs, **QUIET)
        picked.success(**showing)
        inputs.chips.click(self.remove, inputs.inputs, inputs.inputs[2:], **QUIET).then(**showing)
        self.gallery.select(self.extend, self.limit, self.limit, **QUIET).then(**showing)
        self.gallery.input(self.find_alike, None, inputs.like, **QUIET).then(**showing)
        on_open(self.reopen, [self.run, *inputs.inputs], [inputs.more, inputs.beside, inputs.tags]).then(**showing)
        self.gallery.click(self.open_tile, self.run, self.navigation.inspect, **QUIET)
        self.table.select(self.open_row, self.run, self.navigation.inspect, **QUIET)
        for kind, button in self.downloads.items():
            written = button.click(functools.partial(self.export, kind), [self.run, *inputs.inputs], self.file, **QUIET)
            written.success(None, self.file, None, js=_SAVE)

    def show(self, run: Run | None, charted: Any, limit: int, factor_score: str, *values: Any) -> Updates:
        """Shows what the filters keep: while images are still evaluated, in gallery and table alone.

        Args:
            run: What is shown.
            charted: Of which images and score the means and charts are that are there; making them takes seconds.
            limit: Images in the gallery.
            factor_score: What the chart by factor has.
            values: Of the filters.
        """
        if run is None:
            return {self.filter_error: ""}
        rows = run.select(values)
        run.filters = values
        part = "" if len(rows) == len(run.rows) else f": {len(rows)} of {len(run.rows)}"
        scenes = run.settings is not None
        headers = galleries.SCENE_HEADERS if scenes else galleries.IMAGE_HEADERS
        widths = galleries.SCENE_WIDTHS if scenes else galleries.IMAGE_WIDTHS
        updates: Updates = {
            self.gallery: self._gallery(run, values, limit) if run.rows else "",
            self.link: galleries.view_link(run, values) if rows else "",
            self.filters.chips: galleries.chips(run, values),
            self.table: gr.Dataframe(galleries.table(rows, scenes), headers=headers, column_widths=widths),
        }
        for kind, button in self.downloads.items():
            updates[button] = gr.Button(f"Download {DOWNLOADS[kind]}{part}", interactive=bool(rows))
        if run.seconds is None:
            return updates
        scores = [row.scores for row in rows]
        if not scenes and factor_score in OBJECT_SCORES:  # no object is known
            factor_score = "lpips"
        current = run, {row.number for row in rows}, factor_score
        if charted is None or charted[:2] != current[:2]:
            updates[self.means] = galleries.summary(scores, len(run.rows)) if run.rows else ""
            updates[self.place_chart] = plots.plane_chart(*iou_plane(scores)) if scores else None
            updates[self.histograms] = plots.histograms(scores) if scores else None
        if charted != current:
            levels = {factor: by_factor(scores, factor, factor_score) for factor in LEVELS}
            title = (_OBJECT_TITLES | NAMES)[factor_score]
            updates[self.factor_chart] = plots.factor_chart(levels, title) if any(levels.values()) else None
        return updates | {self.charted: current}

    @show_errors
    def pick(self, event: gr.EventData, *values: Any) -> list[Any]:
        """The filters, with those of a chart's bar or point in place of their own."""
        picked = link.fields_of(event.filters, filters.as_address(values), filters.WORDS)
        return list(picked.values())

    def remove(self, event: gr.EventData, *values: Any) -> list[Any]:
        """The filters without the one whose chip was clicked."""
        return filters.without(values, str(event.name), str(event.level))[2:]

    def extend(self, limit: int) -> int:
        """Images in the gallery once more are asked for."""
        return limit + PAGE

    def find_alike(self, event: gr.EventData) -> str:
        """The picture whose like come first."""
        return str(event.number)

    @show_errors
    def export(self, kind: str, run: Run | None, *values: Any) -> str:
        """The file of a kind in DOWNLOADS of what the filters keep."""
        if run is None:
            raise InputError("there is nothing to download yet: press Evaluate.")
        return runs.export(run, kind, values, self.gallery)

    @show_errors
    def open_tile(self, run: Run | None, event: gr.EventData) -> dict[str, Any]:
        """The view in Inspect of an image of the gallery."""
        return self._open(run, event.number)

    @show_errors
    def open_row(self, run: Run | None, event: gr.SelectData) -> dict[str, Any]:
        """The view in Inspect of an image of the table."""
        return self._open(run, int(event.row_value[0]))

    def _open(self, run: Run | None, number: int) -> dict[str, Any]:
        if run is None or not 0 <= number < len(run.rows):
            raise InputError("that picture is no longer here: evaluate again.")
        rows = run.selected
        place = next((i for i, row in enumerate(rows) if row.number == number), None)
        if place is None:  # the filters have changed meanwhile
            rows, place = [run.rows[number]], 0
        titles = [galleries.title(row.scores, run.filters[0]) for row in rows]
        series = Series(lambda i: self._view(run, rows[i]), titles, [row.key for row in rows], run.notes)
        return series.open(place)

    def _view(self, run: Run, row: Row) -> dict[str, Any]:
        source = runs.image_source(row, self.gallery)
        return open_view(source, str(run.record.point), run.record.name, chosen_pixels(run.pixels))

    # The API

    def add_endpoints(self) -> None:
        """Adds /evaluate to the current Blocks; nothing of it is seen on the page."""
        with gr.Row(visible=False):
            trigger, self.keeper = gr.Button(), gr.HTML()
            scenes, seed = (default_of(EvaluationSettings, name) for name in ("scenes", "seed"))
            inputs: list[Any] = [
                gr.Textbox(str(self.inspector.default_point), label="point, such as post-merge/6"),
                gr.Textbox("tokens", label="adapter: linear, pooled, tokens or a trained one's name"),
                gr.File(file_count="multiple", label="files: pictures or zip archives (optional)"),
                FreeNumber(scenes, precision=0, label=f"scenes, 1 to {self.most}, where there are no files"),
                FreeNumber(seed, precision=0, label="seed"),
                gr.JSON(label="factors of the scenes (optional)"),
                gr.Textbox(label=API_LABEL),
            ]
            results = gr.JSON(label="results")
        trigger.click(self.evaluate_api, inputs, results, api_name="evaluate", **BATCH_QUEUE)

    @show_errors
    def evaluate_api(
        self,
        point: str,
        adapter: str = "tokens",
        files: list[str] | None = None,
        scenes: int = default_of(EvaluationSettings, "scenes"),
        seed: int = default_of(EvaluationSettings, "seed"),
        factors: dict[str, Any] | None = None,
        pixels: str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Evaluates an adapter on uploaded files or, without any, on generated scenes of the test split.

        files: pictures or zip archives. factors: {"objects": [1, 5], "shapes", "colors", "backgrounds": names,
        "size", "position": a name, "overlap"}. pixels: how large the model sees them, such as 448² or native; without
        it, as the adapter was fitted. Yields {"done", "of"} after each picture, so that it ends soon after the client
        cancels or goes away; then means with intervals, every picture's scores, and the files that were left out with
        the reason.
        """
        record = self.find(point, adapter)
        resolution = self.inspector.resolution(chosen_pixels(pixels), record)
        if files:
            images = runs.uploaded_set(self.settings, files, self.keeper, resolution)
        else:
            settings = EvaluationSettings(scenes, seed, SceneFactors.from_json(factors or {}))
            images = runs.scene_set(self.settings, settings, resolution)
        rows, broken = list[ImageScores](), list[Broken]()
        for done, item in enumerate(evaluate(self.inspector, record, images.samples), 1):
            if isinstance(item, Broken):
                broken.append(item)
            else:
                rows.append(item.without_pixels())
            yield {"done": done, "of": images.total}
        if not rows:
            raise InputError(f"none of the {images.total} files is a picture: {broken[0].reason}")
        flat = [row.flat() for row in rows]
        facts = {"point": str(record.point), "adapter": record.name, "data": images.data, "summary": summarise(flat)}
        yield facts | {"pictures": flat, "broken": [b.as_json() for b in broken]}


def _plot(label: str, elem_id: str) -> gr.Plot:
    return gr.Plot(label=label, elem_id=elem_id, elem_classes="fs-plot")
