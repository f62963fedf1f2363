"""The Failures tab: many pictures at one point with one adapter; the worst first, and what they have in common."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.components import Component

from foresight.data.archive import Broken
from foresight.errors import InputError
from foresight.inspection.evaluation import ImageScores, summarise
from foresight.inspection.tables import LEVELS, by_factor, iou_plane, own_score
from foresight.metrics.scores import SCORES
from foresight.schemas import whole
from foresight.ui import plots, stopping
from foresight.ui import view_link as link
from foresight.ui.cards import NAMES
from foresight.ui.error_handling import error_place, show_errors, show_errors_in
from foresight.ui.failures import choices, galleries, runs
from foresight.ui.failures.choices import SOURCES
from foresight.ui.failures.runs import FailuresCalls, KeptRuns, Run
from foresight.ui.inputs import FreeNumber, RawFile
from foresight.ui.navigation import Navigation, open_view
from foresight.ui.services import MODEL_QUEUE

EVERY, GALLERY_EVERY = 0.3, 2.0  # seconds between two tellings of how far it is, and of the worst so far
DOWNLOADS = {"csv": "CSV", "json": "JSON", "zip": "zip with pictures"}
PAGE = 24  # pictures shown at first, and added by "more"
# Hands a file to the browser's downloads as soon as it is written.
SAVE = """file => {
  const link = document.createElement('a');
  link.href = file.url;
  link.download = file.orig_name;
  link.click();
}"""


def build(calls: FailuresCalls, navigation: Navigation) -> None:
    """Builds the tab inside the current layout."""
    kept = KeptRuns()
    run, limit, told_of = gr.State(), gr.State(PAGE), gr.State()
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            source = choices.build_source(calls.local, calls.most)
            point, adapter = choices.build_adapter(calls.adapters, str(calls.default))
            with gr.Row():
                go = gr.Button("Evaluate", variant="primary", min_width=100, elem_id="failures-go")
                stop = gr.Button("Stop", min_width=100, interactive=False, elem_id="failures-stop")
            refused = error_place("failures-refused")
        with gr.Column(scale=8, min_width=320):
            status = _html(galleries.EMPTY, "failures-status")
            means = _html("", "failures-means")
            seen = _html("", "failures-link", js_on_load=link.ADDRESS)
            filters, clear = choices.build_filters()
            misfiltered = error_place("failures-misfiltered")
            with gr.Tabs() as views:
                with gr.Tab("Gallery", id="gallery"):
                    gallery = _html("", "failures-gallery", js_on_load=galleries.PICK)
                with gr.Tab("Table"):
                    table = gr.Dataframe(
                        [], headers=galleries.HEADERS, interactive=False, max_height=560, elem_id="failures-table"
                    )
                with gr.Tab("What fails", elem_id="failures-of-factors"):
                    of = gr.Dropdown(
                        [("IoU of each object", "object_iou"), ("LPIPS on each object", "object_lpips")]
                        + [(f"{label} of the picture", name) for label, name in choices.SCORE_CHOICES],
                        value="object_iou",
                        label="Score",
                        info="Means with 95 % intervals over pictures. Only generated scenes have factors.",
                        elem_id="failures-factor-score",
                    )
                    factors = _plot("Scores by factor", "failures-factors")
                with gr.Tab("Where", elem_id="failures-of-places"):
                    where = _plot("IoU of objects at each place of the picture", "failures-where")
                with gr.Tab("Histograms"):
                    histograms = _plot("Scores of all pictures shown", "failures-histograms")
            with gr.Row():
                downloads = [
                    gr.Button(f"Download {what}", size="sm", interactive=False, elem_id=f"failures-{kind}")
                    for kind, what in DOWNLOADS.items()
                ]
                file = gr.DownloadButton(visible="hidden")

    def evaluation(
        last: Run | None, kind: str, files: list[str] | None, folder: str, *rest: Any
    ) -> Iterator[list[Any] | dict[Component, Any]]:
        """Filters stay where the pictures are the last ones again; else they would leave out what nobody saw."""
        count = len(choices.FACTORS)
        factors, (at, name, *chosen) = rest[:count], rest[count:]
        record = calls.find(at, name)
        samples, total, data = runs.samples(calls, kind, files, folder, factors, gallery)
        fields = dict(zip(choices.FACTORS, factors, strict=True)) if kind == SOURCES[0] else {}
        if last is not None and last.data != data:
            chosen[2:] = list(choices.FILTERS.values())[2:]
        going = Run(record, total, data, fields, chosen=choices.within(fields, chosen))
        kept.add(going)
        offered = choices.offer_filters(fields, going.chosen)
        turned = gr.skip() if fields else gr.Tabs(selected="gallery")  # a tab that is not offered may be open
        yield [going, galleries.status(going), "", "", "", *stopping.going(), "", *going.chosen[2:4], *offered, turned]
        told = shown = time.perf_counter()
        for item in calls.evaluate(record, samples):
            if going.left:
                break
            runs.take(going, item, gallery)
            now = time.perf_counter()
            if now - told > EVERY:
                worst: Any = gr.skip()
                if now - shown > GALLERY_EVERY:
                    worst, shown = galleries.gallery(going.selected, going.chosen[0], PAGE), now
                yield {status: galleries.status(going), gallery: worst}
                told = now
        going.end()
        if not going.left:
            yield {status: galleries.status(going)}

    evaluate_all = show_errors_in(refused)(evaluation)

    @show_errors_in(refused)
    def evaluate_link(last: Run | None, *asked: Any) -> Iterator[Any]:
        """What a link asks for, unless it is there already, or strangers come, for whom only a click starts."""
        if last is None and not calls.public:
            yield from evaluation(last, *asked)

    def finish(going: Run | None) -> Any:
        """Ends the clock of a run that was stopped; the last one's words come back where none began."""
        if going is None:
            return [galleries.EMPTY, *stopping.idle(), gr.skip()]
        going.end()
        known = {n for n in SCORES if any(own_score(line, n) is not None for line in going.lines)} | {going.chosen[0]}
        sort = gr.update(choices=[(label, name) for label, name in choices.SCORE_CHOICES if name in known])
        return [galleries.status(going), *stopping.idle(), sort]

    @show_errors_in(misfiltered)
    def show(going: Run | None, told: Any, limit: int, of: str, *chosen: Any) -> Any:
        """told: of which pictures and score the means and charts are that are there; making them takes seconds.

        While pictures are still evaluated, the gallery and the table alone.
        """
        if going is None:
            return [gr.skip()] * 12
        shots = runs.select(going.shots, *chosen)
        going.chosen = chosen
        lines = [shot.line for shot in shots]
        now = going, {shot.number for shot in shots}, of
        summary, *charts = [gr.skip()] * 4
        if going.seconds is None:
            now = gr.skip()
        elif told is None or told[:2] != now[:2]:
            summary = galleries.summary(lines, len(going.shots)) if going.shots else ""
            charts[1:] = [plots.plane_chart(iou_plane(lines)), plots.histograms(lines)] if lines else [None, None]
        if going.seconds is not None and told != now:
            title = dict([("object_iou", "IoU"), ("object_lpips", "LPIPS"), *NAMES.items()])[of]
            levels = {factor: by_factor(lines, factor, of) for factor in LEVELS}
            charts[0] = plots.factor_chart(levels, title) if any(levels.values()) else None
        pictures = galleries.gallery(shots, chosen[0], limit) if going.shots else ""
        view = galleries.view(going, chosen) if shots else ""
        part = "" if len(shots) == len(going.shots) else f": {len(shots)} of {len(going.shots)}"
        buttons = [gr.Button(f"Download {what}{part}", interactive=bool(shots)) for what in DOWNLOADS.values()]
        scenes = bool(going.fields)
        rows = gr.Dataframe(galleries.table(shots, scenes), headers=galleries.HEADERS if scenes else galleries.OF_ALL)
        return now, summary, view, pictures, rows, *charts, *buttons, ""

    def wait() -> Any:
        return PAGE, galleries.WAITING, *stopping.going()

    def wait_for_link(going: Run | None) -> Any:
        return wait() if going is None and not calls.public else [gr.skip()] * 4

    @show_errors
    def export(kind: str, going: Run | None, *chosen: Any) -> str:
        if going is None:
            raise InputError("there is nothing to download yet: press Evaluate.")
        return runs.export(going, kind, chosen, gallery)

    @show_errors
    def arrive(asked: dict[str, str], last: Run | None) -> Any:
        """A link's evaluation where it is still kept; else its scenes and adapter. And its filters."""
        found = kept.find(asked.get(choices.UPLOADED, asked.get(choices.EVALUATION)))
        if found is None and choices.UPLOADED in asked:
            raise InputError("that evaluation is no longer kept: upload its pictures again.")
        at = asked.get("point", str(calls.default)) if found is None else str(found.record.point)
        names = choices.names_at(calls.adapters(), at)
        if found is None:
            name = calls.find(at, asked.get("adapter", names[0] if names else None)).name
        else:
            name = found.record.name
            names = names if name in names else [name, *names]
        fields = link.fields_of(asked, choices.FACTORS | choices.FILTERS, choices.KNOWN)
        whole(fields["scenes"], "scenes", 1, calls.most)
        values = list(fields.values())
        scenes, chosen = values[: len(choices.FACTORS)], values[len(choices.FACTORS) :]
        if last is not None and last is not found:
            last.left = True
        made_from = dict(zip(choices.FACTORS, scenes, strict=True)) if found is None else found.fields
        chosen, kind = choices.within(made_from, chosen), SOURCES[0]
        offered = choices.offer_filters(made_from, chosen)
        if found is not None:
            found.chosen = chosen
        if not made_from:  # of uploads; which files they were, only the browser knew
            kind, scenes = gr.skip(), [gr.skip()] * len(scenes)
        return [found, kind, *scenes, at, gr.Dropdown(names, value=name), *chosen[:4], *offered]

    def open_number(going: Run | None, number: int) -> Any:
        if going is None or not 0 <= number < len(going.shots):
            raise InputError("that picture is no longer here: evaluate again.")
        return open_view(runs.opened(going.shots[number], gallery), str(going.record.point), going.record.name)

    @show_errors
    def open_shot(going: Run | None, event: gr.EventData) -> Any:
        return open_number(going, event.number)

    @show_errors
    def open_row(going: Run | None, event: gr.SelectData) -> Any:
        return open_number(going, int(event.row_value[0]))

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    showing: dict[str, Any] = {
        "fn": show,
        "inputs": [run, told_of, limit, of, *filters],
        "outputs": [told_of, means, seen, gallery, table, factors, where, histograms, *downloads, misfiltered],
        **quiet,
    }
    inputs = [run, *source.inputs, point, adapter, *filters]
    outputs = [run, status, means, seen, gallery, go, stop, refused, *filters[2:], views]
    waiting = [limit, status, go, stop]
    arrived = navigation.failures.change(
        arrive, [navigation.failures, run], [run, source.kind, *source.scenes, point, adapter, *filters], **quiet
    )
    evaluations = [
        go.click(wait, None, waiting, **quiet).then(evaluate_all, inputs, outputs, **MODEL_QUEUE, **quiet),
        arrived.success(wait_for_link, run, waiting, **quiet).then(
            evaluate_link, inputs, outputs, **MODEL_QUEUE, **quiet
        ),
    ]
    ended = [status, go, stop, filters[0]]
    for each in evaluations:
        each.then(**showing).then(finish, run, ended, **quiet)
        each.failure(finish, run, ended, **quiet)  # then, too, does not follow a failure
    stop.click(stopping.stopping, None, stop, cancels=evaluations, **quiet)
    score, order, low, high, *kinds = filters
    changes = [control.change for control in (score, order, *kinds, of)]
    for end in (low, high):  # while it is typed, a number may be none yet
        changes += [end.blur, end.submit]
    for changed in changes:
        changed(**showing, trigger_mode="always_last")
    clear.click(lambda: list(choices.FILTERS.values())[2:], None, filters[2:], **quiet).then(**showing)
    gallery.select(lambda n: n + PAGE, limit, limit, **quiet).then(**showing)
    gallery.click(open_shot, run, navigation.inspect, **quiet)
    table.select(open_row, run, navigation.inspect, **quiet)
    for button, kind in zip(downloads, DOWNLOADS, strict=True):
        made = button.click(functools.partial(export, kind), [run, *filters], file, **quiet)
        made.success(None, file, None, js=SAVE)
    for button, (_, values) in zip(source.presets, choices.PRESETS, strict=True):
        button.click(lambda values=values: list(values), None, list(source.scenes), **quiet)


def _plot(label: str, name: str) -> gr.Plot:
    return gr.Plot(label=label, elem_id=name, elem_classes="fs-plot")


def _html(value: str, name: str, **more: Any) -> gr.HTML:
    return gr.HTML(value, elem_id=name, elem_classes="fs-plain", apply_default_css=False, **more)


def endpoint(calls: FailuresCalls) -> None:
    """Adds /evaluate to the current Blocks; nothing of it is seen on the page."""

    @show_errors
    def evaluate(
        point: str,
        adapter: str = "tokens",
        files: list[str] | None = None,
        scenes: int = 32,
        seed: int = 0,
        factors: dict[str, Any] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Evaluates an adapter on uploaded files or, without any, on generated scenes of the test split.

        files: pictures or zip archives. factors: {"objects": [1, 5], "shapes", "colors", "backgrounds": names,
        "size", "position": a name, "overlap"}. Yields {"done", "of"} after each picture, so that it ends soon after
        the client cancels or goes away; then means with intervals, every picture's scores, and the files that
        were left out with the reason.
        """
        record = calls.find(point, adapter)
        kind = SOURCES[1] if files else SOURCES[0]
        samples, total, data = runs.samples(
            calls, kind, files, "", [scenes, seed, *choices.factors_of(factors or {})], keeper
        )
        lines, broken = list[ImageScores](), list[Broken]()
        for done, item in enumerate(calls.evaluate(record, samples), 1):
            if isinstance(item, Broken):
                broken.append(item)
            else:
                lines.append(item.without_pixels())
            yield {"done": done, "of": total}
        if not lines:
            raise InputError(f"none of the {total} files is a picture: {broken[0].reason}")
        flat = [line.flat() for line in lines]
        facts = {"point": str(record.point), "adapter": record.name, "data": data, "summary": summarise(flat)}
        yield facts | {"pictures": flat, "broken": [b.as_json() for b in broken]}

    with gr.Row(visible=False):
        trigger, keeper = gr.Button(), gr.HTML()
        inputs: list[Any] = [
            gr.Textbox(str(calls.default), label="point, such as post-merge/6"),
            gr.Textbox("tokens", label="adapter: linear, pooled, tokens or a trained one's name"),
            RawFile(file_count="multiple", label="files: pictures or zip archives (optional)"),
            FreeNumber(32, precision=0, label=f"scenes, 1 to {calls.most}, where there are no files"),
            FreeNumber(0, precision=0, label="seed"),
            gr.JSON(label="factors of the scenes (optional)"),
        ]
        told = gr.JSON(label="results")
    trigger.click(evaluate, inputs, told, api_name="evaluate", **MODEL_QUEUE)
