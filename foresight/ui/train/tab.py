"""The Train tab: fit adapters on this machine, and watch them learn. Never built where strangers may come.

What the page shows is read from the run's files, so that any page, at any time, sees the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from foresight.errors import InputError
from foresight.ui import view_link as link
from foresight.ui.error_handling import show_errors, show_errors_in
from foresight.ui.inputs import RawFile
from foresight.ui.navigation import Navigation, open_view
from foresight.ui.train import views
from foresight.ui.train.charts import curves
from foresight.ui.train.form import build_form
from foresight.ui.train.services import Run, Settings, TrainCalls
from foresight.ui.train.table import build_table, listed

TICK = 1.0  # seconds between looks at the run
PAGES = 16  # clients of the endpoint that may wait for runs at once

# A click on anything in an HTML block that carries data-run chooses that run.
_CHOOSE = """element.addEventListener('click', event => {
  const record = event.target.closest('[data-run]');
  if (record) trigger('click', {run: record.dataset.run});
});"""

# On a phone the run lies below all controls.
_SHOW = "() => document.querySelector('#train-progress').scrollIntoView({behavior: 'smooth', block: 'nearest'})"


def build(calls: TrainCalls, navigation: Navigation) -> None:
    """Builds the tab inside the current layout."""
    chosen, seen = gr.State(), gr.State()
    asked = gr.State()  # the run that the page asks about; it alone can be removed
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320, elem_classes="fs-train-form"):
            form = build_form(calls.points, calls.losses, calls.devices, calls.presets)
            broken = gr.HTML(elem_id="train-broken", apply_default_css=False)
        with gr.Column(scale=7, min_width=320):
            runs = gr.HTML(elem_id="train-runs", apply_default_css=False, js_on_load=_CHOOSE + link.ADDRESS)
            with gr.Row():
                stop = gr.Button("■ Stop", size="sm", min_width=80, interactive=False, elem_id="train-stop")
                resume = gr.Button("▶ Resume", size="sm", min_width=80, interactive=False, elem_id="train-resume")
                remove = gr.Button("Remove run", size="sm", min_width=80, interactive=False, elem_id="train-remove")
                really = gr.Button(size="sm", variant="stop", min_width=80, visible=False, elem_id="train-really")
                keep = gr.Button("Keep it", size="sm", min_width=80, visible=False, elem_id="train-keep")
                inspect = gr.Button("Open in Inspect", size="sm", min_width=80, interactive=False, elem_id="train-open")
            progress = gr.HTML(elem_id="train-progress", apply_default_css=False)
            plot = gr.HTML(elem_id="train-curves", apply_default_css=False)
            samples = gr.HTML(elem_id="train-samples", apply_default_css=False)
    table, adapters = build_table(calls)
    timer = gr.Timer(TICK)
    buttons = [stop, resume, remove, inspect]
    watched = [chosen, seen, runs, progress, plot, samples, *buttons, table, adapters]

    def watch(name: str | None, before: Any, adapter: str | None) -> Any:
        """What changed since this page looked last; nothing is sent where nothing did."""
        found, points = calls.runs(), {a["name"]: a.get("point") for a in calls.adapters()}
        if name not in [run["name"] for run in found]:
            name = _foremost(found)
        now = [name, found, points]
        if now == before:
            return [gr.skip()] * len(watched)
        run = None if name is None else calls.look(name)
        known = points if before is None else before[2]
        same = before is not None and points == known
        wished = [*(name for name in points if name not in known), adapter, *(run or {}).get("adapters", ())]
        return (
            name,
            now,
            views.run_list(found, name),
            views.progress(run, points),
            "" if run is None else curves(run),
            views.samples(run),
            *_buttons(run, points),
            *((gr.skip(), gr.skip()) if same else listed(calls, wished)),
        )

    def choose(event: gr.EventData) -> Any:
        return str(event.run), None, *ask(None)

    def fill(preset: str) -> Any:
        settings = calls.presets[preset]
        return *form.values(settings), *show(settings["data"])

    def show(data: str) -> Any:
        return gr.Group(visible=data == "factors"), gr.Group(visible="pictures" in data)

    def estimate(device: str, *values: Any) -> str:
        try:
            return views.cost_note(calls.cost(form.settings(values), device))
        except InputError as error:
            return views.problem_note(error)

    @show_errors_in(form.refused)
    def begin(preset: str, name: str, archive: str | None, device: str, *values: Any) -> Any:
        made = calls.start(name.strip() or preset, form.settings(values), archive, device)
        return made["name"], None, "", views.broken_note(made["broken"]), ""

    @show_errors
    def halt(name: str) -> None:
        calls.stop(name)

    @show_errors
    def go_on(name: str) -> None:
        calls.resume(name)

    def ask(name: str | None) -> Any:
        asking = name is not None
        words = f"Really remove {name} and its curves"
        return name, gr.Button(words, visible=asking), gr.Button(visible=asking), gr.Button(visible=not asking)

    @show_errors
    def forget(name: str) -> Any:
        calls.remove(name)
        return None, None, *ask(None)

    @show_errors
    def open_result(name: str) -> Any:
        made = calls.look(name)["adapters"]
        for adapter in calls.adapters():
            if adapter["name"] in made and "point" in adapter:
                return open_view(None, adapter["point"], adapter["name"])
        raise InputError(f"what {name} made was renamed or deleted, or does not fit the models at hand.")

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    looking: dict[str, Any] = {"fn": watch, "inputs": [chosen, seen, adapters], "outputs": watched, **quiet}
    timer.tick(**looking, trigger_mode="once")
    question = [asked, really, keep, remove]
    runs.click(choose, None, [chosen, seen, *question], **quiet).then(**looking)
    navigation.train.change(lambda name: (name, None), navigation.train, [chosen, seen], **quiet).then(**looking)
    shown = [form.factors, form.upload]
    latest: dict[str, Any] = {**quiet, "trigger_mode": "always_last"}  # a choice made during another's answer counts
    form.preset.input(fill, form.preset, [*form.inputs, *shown], **latest)
    form.fields["data"].input(show, form.fields["data"], shown, **latest)  # type: ignore[attr-defined]
    # Without triggers it runs when the page loads, and whenever an input changes.
    gr.on(fn=estimate, inputs=[form.device, *form.inputs], outputs=form.cost, trigger_mode="always_last", **quiet)
    given = [form.preset, form.name, form.archive, form.device, *form.inputs]
    begun = form.start.click(begin, given, [chosen, seen, form.name, broken, form.refused], **quiet).success(**looking)
    begun.then(None, js=_SHOW, **quiet)
    stop.click(halt, chosen, None, **quiet)
    resume.click(go_on, chosen, None, **quiet)
    remove.click(ask, chosen, question, **quiet)
    keep.click(lambda: ask(None), None, question, **quiet)
    really.click(forget, asked, [chosen, seen, *question], **quiet).success(**looking)
    inspect.click(open_result, chosen, navigation.inspect, **quiet)


def _foremost(runs: list[Run]) -> str | None:
    """The run to show a newcomer: the one at work, else the latest."""
    working = [run for run in runs if run["state"] not in (*views.SIGNS,)]
    return next((run["name"] for run in [*working, *runs]), None)


def _buttons(run: Run | None, points: dict[str, str | None]) -> list[gr.Button]:
    """Stop, resume, remove and open, each alive where it would do something. points: as for `views.progress`."""
    state = run["state"] if run else None
    alive = run is not None and not run["ended"]
    made = any(points.get(name) for name in (run or {}).get("adapters", ()))
    able = (alive, state in ("stopped", "failed", "cut off"), run is not None and not alive)
    opened = gr.Button(interactive=made, variant="primary" if made else "secondary")
    return [*(gr.Button(interactive=yes) for yes in able), opened]


def endpoint(calls: TrainCalls) -> None:
    """Adds `/train` to the current Blocks; nothing of it is seen on the page."""

    @show_errors
    def train(
        recipe: str = "quick look",
        settings: Settings | None = None,
        name: str = "",
        archive: str | None = None,
        wait: bool = True,
    ) -> Iterator[Run]:
        """Starts a run, and tells how far it is until it ends; it goes on when the client leaves.

        recipe: a preset's name. settings: what differs from it, such as {"points": ["post-merge/0"], "steps": 200}.
        name: of the run and its adapter; empty: the recipe's. archive: a zip of pictures, for {"data":
        "pictures"} or {"data": "mixture and pictures"}.
        wait: False tells the run's name and place at once.
        """
        if recipe not in calls.presets:
            raise InputError(f"unknown recipe {recipe!r}: choose from {'; '.join(calls.presets)}.")
        if not isinstance(settings or {}, dict):
            raise InputError('settings must be a JSON object, such as {"steps": 200}.')
        made = calls.start(name.strip() or recipe, calls.presets[recipe] | (settings or {}), archive, None)
        while True:
            run = calls.look(made["name"])
            yield {k: v for k, v in run.items() if k not in ("log", "samples")} | {"broken": made["broken"]}
            if run["ended"] or not wait:
                return
            time.sleep(TICK)

    with gr.Row(visible=False):
        trigger = gr.Button()
        recipe = gr.Dropdown(list(calls.presets), value=next(iter(calls.presets)), label="recipe")
        settings = gr.JSON({}, label="settings that differ from the recipe's")
        name = gr.Textbox("", label="name of the run and its adapter; empty: the recipe's")
        archive = RawFile(label="zip of pictures (optional)", file_types=[".zip"])
        wait = gr.Checkbox(True, label="wait until it ends")
        told = gr.JSON(label="run")
    trigger.click(train, [recipe, settings, name, archive, wait], told, api_name="train", concurrency_limit=PAGES)
