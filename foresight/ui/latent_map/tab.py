"""The Latent map tab: many latents as a map that can be hovered, clicked and lassoed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import Context

from foresight.data.factors import ANY
from foresight.data.scenes import BACKGROUNDS, MAX_OBJECTS
from foresight.maps.data import MapSpec
from foresight.schemas import whole
from foresight.ui.error_handling import show_errors
from foresight.ui.inputs import FreeNumber
from foresight.ui.latent_map import panels
from foresight.ui.latent_map.events import HINT, PAGE, MapEvents
from foresight.ui.latent_map.form import build_form, presets
from foresight.ui.latent_map.runs import told
from foresight.ui.latent_map.services import MapCalls as MapCalls
from foresight.ui.latent_map.tiles import gallery
from foresight.ui.navigation import Navigation, on_open
from foresight.ui.plotly_file import plotly_file
from foresight.ui.services import MODEL_QUEUE
from foresight.ui.view_link import ADDRESS

FIT_QUEUE: dict[str, Any] = {"concurrency_id": "umap", "concurrency_limit": 1}  # the model is free meanwhile
EMPTY = "No map yet: press “Draw the map”, or one of the three examples."
_HERE = Path(__file__).parent


def build(calls: MapCalls, navigation: Navigation) -> None:
    """Builds the tab inside the current layout; nothing is drawn until somebody asks."""
    examples = presets(calls.points, calls.default)
    events = MapEvents(calls, starts=len(examples) + 2)

    def thumbnail(asked: list[Any]) -> str:  # a function, for Gradio marks it; a method cannot be
        return events.thumbnail(asked)

    spec, mark, seen = gr.State(), gr.State(), gr.State()
    layer, chosen, shown = gr.State(str(calls.default)), gr.State([]), gr.State(PAGE)
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            form = build_form(calls.points, calls.default, examples, calls.limits.points)
            status = _html(told(EMPTY), "map-status", js_on_load=ADDRESS)
            with gr.Group():
                reader = gr.Radio(**events.readers(str(calls.default), None), elem_id="map-reader")
                score = gr.Button("Score the scenes at this layer", size="sm", elem_id="map-score")
        with gr.Column(scale=7, min_width=320):
            board = gr.HTML(
                "",
                html_template=(_HERE / "tab.html").read_text(),
                js_on_load=(_HERE / "tab.js").read_text(),
                server_functions=[thumbnail],
                library=plotly_file(),
                apply_default_css=False,
                elem_id="map",
                elem_classes="fs-plain",
            )
            with gr.Row(equal_height=False):
                with gr.Column(scale=4, min_width=320):
                    detail = _html(HINT, "map-detail")
                    go = gr.Button("Open in Inspect", size="sm", visible=False, elem_id="map-inspect")
                with gr.Column(scale=3, min_width=320):
                    silhouettes = _html(panels.silhouette_panel(None), "map-silhouettes")
            tiles = _html(gallery(None, [], 0), "map-gallery")
            with gr.Row():
                more = gr.Button("Show more", size="sm", visible=False, elem_id="map-more")
                save = gr.Button("Export", size="sm", interactive=False, elem_id="map-save")
                file = gr.DownloadButton("Download", elem_id="map-file", elem_classes="fs-map-file")

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    model, fitting = quiet | MODEL_QUEUE, quiet | FIT_QUEUE
    selection, look, turned = [chosen, shown, tiles, more, save], [spec, seen, mark], [layer, reader]
    buttons = [form.draw, *form.presets, score, form.stop]
    picture = [*look, reader]

    def start(trigger: Any, reading: Any, inputs: Sequence[Any]) -> tuple[gr.State, Any]:
        run = gr.State()  # of each trigger, so that no chain of events takes another one's
        return run, trigger(show_errors(reading), inputs, [status, run, *buttons], **quiet)

    starts = [start(form.draw.click, events.read, form.inputs)]
    for button, values in zip(form.presets, examples.values(), strict=True):
        filled = button.click(lambda values=values: values, None, form.inputs, **quiet)
        starts.append(start(filled.then, events.read, form.inputs))
    arrival = start(navigation.latent_map.change, events.arrive, [navigation.latent_map, spec, *form.inputs])
    arrival[1].success(events.fill, arrival[0], form.inputs, **quiet)
    for run, started in [*starts, arrival]:
        gathered = started.success(show_errors(events.gather), run, [status, *buttons], **model)
        fitted = gathered.then(show_errors(events.fit), run, [status, *buttons], **fitting)
        drawn = fitted.then(
            show_errors(events.present),
            [run, spec, reader],
            [status, board, silhouettes, spec, *turned, mark, seen, detail, go, *selection, *buttons],
            **model,
        )
        drawn.failure(events.runs.give_up, run, buttons, **quiet)
        drawn.success(show_errors(events.reconstruct), picture, detail, **model)

    run, started = start(score.click, events.ask_scores, [spec, layer, reader])
    scoring = started.success(show_errors(events.score), [run, layer, reader], [status, *buttons], **model)
    scoring.failure(events.runs.give_up, run, buttons, **quiet)
    scoring.then(show_errors(events.show_scores), [spec, mark, layer, reader], board, **quiet)
    form.stop.click(events.runs.stop, None, form.stop, **quiet)
    Context.root_block.unload(events.runs.leave)  # type: ignore[union-attr]

    on_open(events.turn_to, turned, turned)
    board.input(events.turn, reader, turned, **quiet, trigger_mode="always_last")
    clicked = board.click(show_errors(events.click), spec, seen, **quiet, trigger_mode="always_last")
    explained = clicked.success(show_errors(events.explain), look, [detail, go], **quiet)
    explained.success(show_errors(events.reconstruct), picture, detail, **model, trigger_mode="always_last")
    reader.input(show_errors(events.reconstruct), picture, detail, **model, trigger_mode="always_last")
    go.click(show_errors(events.leave), picture, navigation.inspect, **quiet)
    board.select(show_errors(events.select), spec, selection, **quiet, trigger_mode="always_last")
    more.click(show_errors(events.extend), [spec, chosen, shown], selection, **quiet)
    exported = save.click(show_errors(events.export), [spec, chosen], file, api_visibility="private")
    exported.success(None, None, None, js="() => setTimeout(() => document.querySelector('#map-file').click(), 100)")


def _html(value: str, name: str, **more: Any) -> gr.HTML:
    return gr.HTML(value, elem_id=name, elem_classes="fs-plain", apply_default_css=False, **more)


def endpoint(calls: MapCalls) -> None:
    """Adds `/latent_map` to the current Blocks; nothing of it is seen on the page."""

    @show_errors
    def latent_map(
        points: str = str(calls.default),
        scenes: int = 200,
        seed: int = 0,
        tokens: int = 0,
        dimensions: int = 2,
        objects: int = 1,
        background: str = "white",
        neighbours: int = 15,
        min_dist: float = 0.1,
        clusters: int = 8,
    ) -> Iterator[dict[str, Any]]:
        """Maps the latents of scenes by UMAP, at one extraction point or several.

        points: separated by commas, such as "post-merge/0, post-merge/6"; each map is turned onto the one before.
        tokens: 0 takes the mean of a scene's tokens, more takes so many of them. objects: 1, or up to that many.
        Yields {"stage", "done", "of"} after each step, so that it ends soon after the client cancels or goes away;
        then coordinates, clusters, silhouettes with their shuffled-label floor, and what each point shows.
        """
        spec = MapSpec(
            points=calls.in_order(tuple(p.strip() for p in points.split(",") if p.strip())),
            scenes=scenes,
            seed=seed,
            objects=(1, whole(objects, "objects", 1, MAX_OBJECTS)),
            backgrounds=BACKGROUNDS if background == ANY else (background,),
            tokens=tokens,
            dimensions=dimensions,
            neighbours=neighbours,
            min_dist=min_dist,
            clusters=clusters,
        )
        for steps in (calls.gather, calls.fit):
            with closing(steps(calls.limits.check(spec))) as going:
                for step in going:
                    yield {"stage": step.stage, "done": step.done, "of": step.total}
        yield panels.as_json(calls.find(spec))

    with gr.Row(visible=False):
        trigger = gr.Button()
        inputs: list[Any] = [
            gr.Textbox(str(calls.default), label="points, separated by commas"),
            FreeNumber(200, precision=0, label="scenes"),
            FreeNumber(0, precision=0, label="seed"),
            FreeNumber(0, precision=0, label="tokens of each scene; 0: their mean"),
            FreeNumber(2, precision=0, label="dimensions, 2 or 3"),
            FreeNumber(1, precision=0, label="objects in a scene, up to"),
            gr.Dropdown([ANY, *BACKGROUNDS], value="white", label="background"),
            FreeNumber(15, precision=0, label="neighbours"),
            FreeNumber(0.1, label="least distance on the map"),
            FreeNumber(8, precision=0, label="clusters"),
        ]
        made = gr.JSON(label="map")
    # One event has one queue. In the model's, everybody would wait for the fit, which needs no model; from here, a
    # batch of the latents runs beside at most one other event of the model.
    trigger.click(latent_map, inputs, made, api_name="latent_map", **FIT_QUEUE)
