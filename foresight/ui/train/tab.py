"""The Train tab: fit adapters on this machine, and watch them learn. Never built where strangers may come.

What the page shows is read from the run's files, so that any page, at any time, sees the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from foresight.errors import InputError
from foresight.schemas import Choice
from foresight.settings import Settings
from foresight.ui import view_link as link
from foresight.ui.error_handling import show_errors, show_errors_in
from foresight.ui.inputs import FreeDropdown
from foresight.ui.navigation import Navigation, open_view
from foresight.ui.services import QUIET
from foresight.ui.train import views
from foresight.ui.train.charts import curves
from foresight.ui.train.form import TrainForm
from foresight.ui.train.services import Run, TrainingService, Values
from foresight.ui.train.table import AdapterTable

TICK = 1.0  # seconds between readings of the run's files
WAITING_CLIENTS = 16  # clients of the endpoint that may wait for runs at once
LATEST = QUIET | {"trigger_mode": "always_last"}  # a choice made during another's answer counts

# A click on anything in an HTML block that carries data-run chooses that run.
_CHOOSE = """element.addEventListener('click', event => {
  const record = event.target.closest('[data-run]');
  if (record) trigger('click', {run: record.dataset.run});
});"""

# On a phone the run lies below all controls.
_SCROLL_TO_RUN = (
    "() => document.querySelector('#train-progress').scrollIntoView({behavior: 'smooth', block: 'nearest'})"
)


class TrainTab:
    """The form of a run, the runs and how they go, and the adapters that they make."""

    name = "train"
    title = "Train"

    def __init__(self, service: TrainingService, navigation: Navigation, settings: Settings) -> None:
        """Takes what the tab asks.

        Args:
            service: Starts, watches and stops runs.
            navigation: Opens a run that an address names, and shows an adapter in Inspect.
            settings: Whether whoever comes sits at this machine.
        """
        self.service, self.navigation, self.local = service, navigation, settings.local

    def build(self) -> None:
        """Adds the tab to the current layout."""
        self.run_name, self.on_page = gr.State(), gr.State()  # on_page: what `watch` sent last; None sends it all
        self.to_remove = gr.State()  # the run that the page asks about; it alone can be removed
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320, elem_classes="fs-train-form"):
                self.form = TrainForm(self.service)
                self.broken_files = _html("train-broken")
            with gr.Column(scale=7, min_width=320):
                self.runs = _html("train-runs", js_on_load=_CHOOSE + link.ADDRESS)
                with gr.Row():
                    self.stop_button = _button("■ Stop", "train-stop", interactive=False)
                    self.resume_button = _button("▶ Resume", "train-resume", interactive=False)
                    self.remove_button = _button("Remove run", "train-remove", interactive=False)
                    self.confirm_button = _button("", "train-really", variant="stop", visible=False)
                    self.keep_button = _button("Keep it", "train-keep", visible=False)
                    self.open_button = _button("Open in Inspect", "train-open", interactive=False)
                self.progress = _html("train-progress")
                self.curves = _html("train-curves")
                self.samples = _html("train-samples")
        self.table = AdapterTable(self.service, self.local)
        self._connect_form()
        self._connect_runs()

    def _connect_form(self) -> None:
        form = self.form
        groups = [form.factors, form.upload]
        form.preset.input(self.fill_form, form.preset, [*form.inputs, *groups], **LATEST)
        form.data.input(self.show_groups, form.data, groups, **LATEST)
        # Without triggers it runs when the page loads, and whenever an input changes.
        gr.on(fn=self.estimate_cost, inputs=[form.device, *form.inputs], outputs=form.cost, **LATEST)
        inputs = [form.preset, form.name, form.archive, form.device, *form.inputs]
        outputs = [self.run_name, self.on_page, form.name, self.broken_files, form.error]
        started = form.start.click(show_errors_in(form.error)(self.start_run), inputs, outputs, **QUIET)
        started.success(**self._watching()).then(None, js=_SCROLL_TO_RUN, **QUIET)

    def _connect_runs(self) -> None:
        run_view = [self.run_name, self.on_page]
        question = [self.to_remove, self.confirm_button, self.keep_button, self.remove_button]
        watching = self._watching()
        gr.Timer(TICK).tick(**watching, trigger_mode="once")
        self.runs.click(self.choose_run, None, [*run_view, *question], **QUIET).then(**watching)
        self.navigation.train.change(self.show_run, self.navigation.train, run_view, **QUIET).then(**watching)
        self.stop_button.click(self.stop_run, self.run_name, None, **QUIET)
        self.resume_button.click(self.resume_run, self.run_name, None, **QUIET)
        self.remove_button.click(self.ask_to_remove, self.run_name, question, **QUIET)
        self.keep_button.click(self.ask_to_remove, None, question, **QUIET)
        self.confirm_button.click(self.remove_run, self.to_remove, [*run_view, *question], **QUIET).success(**watching)
        self.open_button.click(self.open_adapter, self.run_name, self.navigation.inspect, **QUIET)

    def _watching(self) -> dict[str, Any]:
        """The event that shows what has changed."""
        buttons = [self.stop_button, self.resume_button, self.remove_button, self.open_button]
        panels = [self.runs, self.progress, self.curves, self.samples]
        outputs = [self.run_name, self.on_page, *panels, *buttons, *self.table.outputs]
        return {
            "fn": self.watch,
            "inputs": [self.run_name, self.on_page, self.table.chosen],
            "outputs": outputs,
        } | QUIET

    def watch(self, name: str | None, on_page: Any, adapter: str | None) -> Any:
        """What changed since this page was updated last; nothing is sent where nothing did.

        Args:
            name: The run that is shown; None is the foremost.
            on_page: [name, runs, points] as they were; None sends everything.
            adapter: That is chosen below the list of adapters.
        """
        runs, points = self.service.runs(), {a["name"]: a.get("point") for a in self.service.adapters()}
        if name not in [run["name"] for run in runs]:
            name = _foremost(runs)
        now = [name, runs, points]
        if now == on_page:
            return gr.skip()
        run = None if name is None else self.service.run_details(name)
        before = points if on_page is None else on_page[2]
        same_adapters = on_page is not None and points == before
        preferred = [*(name for name in points if name not in before), adapter, *(run or {}).get("adapters", ())]
        return (
            name,
            now,
            views.run_list(runs, name),
            views.progress(run, points),
            "" if run is None else curves(run),
            views.samples(run),
            *_buttons(run, points),
            *((gr.skip(), gr.skip()) if same_adapters else self.table.listed(preferred)),
        )

    def choose_run(self, event: gr.EventData) -> Any:
        return *self.show_run(str(event.run)), *self.ask_to_remove()

    def show_run(self, name: str | None) -> tuple[str | None, None]:
        return name, None

    def fill_form(self, preset: str) -> Any:
        return *self.form.preset_values(preset), *self.show_groups(self.service.presets[preset]["data"])

    def show_groups(self, data: str) -> Any:
        return gr.Group(visible=data == "factors"), gr.Group(visible="pictures" in data)

    def estimate_cost(self, device: str, *inputs: Any) -> str:
        try:
            return views.cost_note(self.service.cost(self.form.settings(inputs), device))
        except InputError as error:
            return views.problem_note(error)

    def start_run(self, preset: str, name: str, archive: str | None, device: str, *inputs: Any) -> Any:
        started = self.service.start(name.strip() or preset, self.form.settings(inputs), archive, device)
        return *self.show_run(started["name"]), "", views.broken_note(started["broken"]), ""

    @show_errors
    def stop_run(self, name: str) -> None:
        self.service.stop(name)

    @show_errors
    def resume_run(self, name: str) -> None:
        self.service.resume(name)

    def ask_to_remove(self, name: str | None = None) -> Any:
        """Shows the question whether to remove the run; None takes it back."""
        asking = name is not None
        text = f"Really remove {name} and its curves"
        return name, gr.Button(text, visible=asking), gr.Button(visible=asking), gr.Button(visible=not asking)

    @show_errors
    def remove_run(self, name: str) -> Any:
        self.service.remove(name)
        return *self.show_run(None), *self.ask_to_remove()

    @show_errors
    def open_adapter(self, name: str) -> Any:
        """A view of the first adapter of a run."""
        names = self.service.run_details(name)["adapters"]
        for adapter in self.service.adapters():
            if adapter["name"] in names and "point" in adapter:
                return open_view(None, adapter["point"], adapter["name"])
        raise InputError(f"what {name} made was renamed or deleted, or does not fit the models at hand.")

    def add_endpoints(self) -> None:
        """Adds `/train` to the current Blocks; nothing of it is seen on the page."""
        presets = list(self.service.presets)
        with gr.Row(visible=False):
            trigger = gr.Button()
            inputs = [
                FreeDropdown(presets, value=presets[0], label="recipe"),
                gr.JSON({}, label="settings that differ from the recipe's"),
                gr.Textbox("", label="name of the run and its adapter; empty: the recipe's"),
                gr.File(label="zip of pictures (optional)", file_types=[".zip"]),
                gr.Checkbox(True, label="wait until it ends"),
            ]
            run = gr.JSON(label="run")
        trigger.click(self.train, inputs, run, api_name="train", concurrency_limit=WAITING_CLIENTS)

    @show_errors
    def train(
        self,
        recipe: str = "quick look",
        settings: Values | None = None,
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
        presets = self.service.presets
        Choice("recipe", tuple(presets)).check(recipe)
        if not isinstance(settings or {}, dict):
            raise InputError('settings must be a JSON object, such as {"steps": 200}.')
        started = self.service.start((name or "").strip() or recipe, {**presets[recipe], **(settings or {})}, archive)
        while True:
            run = self.service.run_details(started["name"])
            yield {k: v for k, v in run.items() if k not in ("log", "samples")} | {"broken": started["broken"]}
            if run["ended"] or not wait:
                return
            time.sleep(TICK)


def _html(elem_id: str, **options: Any) -> gr.HTML:
    return gr.HTML(elem_id=elem_id, apply_default_css=False, **options)


def _button(label: str, elem_id: str, **options: Any) -> gr.Button:
    return gr.Button(label, size="sm", min_width=80, elem_id=elem_id, **options)


def _foremost(runs: list[Run]) -> str | None:
    """The run to show a newcomer: the one at work, else the latest."""
    working = [run for run in runs if run["state"] not in views.SIGNS]
    return next((run["name"] for run in [*working, *runs]), None)


def _buttons(run: Run | None, points: dict[str, str | None]) -> list[gr.Button]:
    """Stop, resume, remove and open, each enabled where it would do something. points: as for `views.progress`."""
    state = run["state"] if run else None
    alive = run is not None and not run["ended"]
    readable = any(points.get(name) for name in (run or {}).get("adapters", ()))
    enabled = (alive, state in ("stopped", "failed", "cut off"), run is not None and not alive)
    open_button = gr.Button(interactive=readable, variant="primary" if readable else "secondary")
    return [*(gr.Button(interactive=yes) for yes in enabled), open_button]
