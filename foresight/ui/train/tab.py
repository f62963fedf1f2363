"""The Train tab: fit adapters on this machine, and watch them learn. Never built where strangers may come.

What the page shows is read from the run's files, so that any page, at any time, sees the same.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from foresight.errors import InputError
from foresight.schemas import Choice
from foresight.settings import Settings
from foresight.ui import view_link as link
from foresight.ui.error_handling import error_place, show_errors, show_errors_in
from foresight.ui.gradio_internals import plotly_file
from foresight.ui.inputs import FreeDropdown
from foresight.ui.navigation import Navigation, open_view, opening
from foresight.ui.services import CLICKS, QUIET
from foresight.ui.train import views
from foresight.ui.train.adapters import AdapterActions
from foresight.ui.train.charts import MOST_RUNS, curves
from foresight.ui.train.form import TrainForm
from foresight.ui.train.services import Run, TrainingService, Values
from foresight.ui.train.table import SIGNS, rows, seed_spread, table_html
from foresight.ui.turns import MODELS
from foresight.ui.uploads import keep

TICK = 1.0  # seconds between readings of the run's files
PACE_QUEUE: dict[str, Any] = {"concurrency_id": "pace", "concurrency_limit": 1}  # of its own: nothing waits for its end
WAITING_CLIENTS = 16  # clients of the endpoint that may wait for runs at once
LATEST = QUIET | {"trigger_mode": "always_last"}  # a choice made during another's answer counts

_HERE = Path(__file__).parent

# On a phone the run lies below all controls.
_SCROLL_TO_RUN = (
    "() => document.querySelector('#train-progress').scrollIntoView({behavior: 'smooth', block: 'nearest'})"
)


_SCROLL_TO_FORM = "() => document.querySelector('#train-preset').scrollIntoView({behavior: 'smooth', block: 'nearest'})"


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
        # "" as the run's name: none, but an adapter of no run. on_page: what `watch` sent last; None sends it all.
        self.run_name, self.compared, self.on_page = gr.State(), gr.State([]), gr.State()
        self.to_remove = gr.State()  # the run that the page asks about; it alone can be removed
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320, elem_classes="fs-train-form"):
                self.form = TrainForm(self.service)
                self.broken_files = _html("train-broken")
            with gr.Column(scale=7, min_width=320):
                self.runs = _html(
                    "train-runs",
                    html_template='<div class="fs-train-table"></div>',
                    js_on_load=(_HERE / "table.js").read_text(encoding="utf-8") + link.ADDRESS,
                )
                with gr.Row():
                    self.stop_button = _button("■ Stop", "train-stop", interactive=False)
                    self.resume_button = _button("▶ Resume", "train-resume", interactive=False)
                    self.remove_button = _button("Remove run", "train-remove", interactive=False)
                    self.confirm_button = _button("", "train-really", variant="stop", visible=False)
                    self.keep_button = _button("Keep it", "train-keep", visible=False)
                    self.copy_button = _button("Copy settings", "train-copy", interactive=False)
                    self.open_button = _button("Open in Inspect", "train-open", interactive=False)
                self.progress = _html("train-progress")
                self.curves = _html(
                    "train-curves",
                    html_template=(_HERE / "charts.html").read_text(encoding="utf-8"),
                    js_on_load=(_HERE / "charts.js").read_text(encoding="utf-8"),
                    library=plotly_file(),
                )
                self.samples = _html("train-samples")
                self.note = gr.Textbox(
                    label="Note on this run", max_lines=1, placeholder="what it was for", elem_id="train-note"
                )
                self.note_error = error_place("train-note-error")
        self.adapters = AdapterActions(self.service, self.local)
        self._connect_form()
        self._connect_runs()

    def _connect_form(self) -> None:
        form = self.form
        groups = [form.factors, form.upload]
        costs: dict[str, Any] = {"fn": self.estimate_cost, "inputs": [form.device, *form.inputs], "outputs": form.cost}
        times = {"fn": self.estimate_time, "inputs": form.inputs, "outputs": form.time} | LATEST | PACE_QUEUE
        # Fields that are folded away tell of no change, so what fills them asks for the estimates itself.
        filled = [*form.inputs, *groups]
        form.preset.input(self.fill_form, form.preset, filled, **LATEST).then(**costs, **LATEST).then(**times)
        copied = self.copy_button.click(self.copy_settings, self.run_name, filled, **QUIET)
        copied.then(**costs, **LATEST).then(None, js=_SCROLL_TO_FORM, **QUIET).then(**times)
        form.data.input(self.show_groups, form.data, groups, **LATEST)
        opened, changes = opening(), [field.change for field in form.inputs]  # type: ignore[attr-defined]
        gr.on([opened, form.device.change, *changes], **costs, **LATEST)
        gr.on([opened, *changes], **times)  # measuring takes a second of the models' time
        inputs = [form.preset, form.name, form.archive, form.device, form.seeds, *form.inputs]
        outputs = [self.run_name, self.on_page, self.compared, form.name, self.broken_files, form.error]
        started = form.start.click(show_errors_in(form.error)(self.start_run), inputs, outputs, **QUIET)
        started.success(**self._watching()).then(None, js=_SCROLL_TO_RUN, **QUIET)

    def _connect_runs(self) -> None:
        run_view = [self.run_name, self.on_page]
        question = [self.to_remove, self.confirm_button, self.keep_button, self.remove_button]
        watching = self._watching()
        gr.Timer(TICK).tick(**watching, trigger_mode="once")
        self.runs.click(self.choose_row, None, [*run_view, self.adapters.chosen, *question], **CLICKS).then(**watching)
        self.runs.select(self.compare_run, self.compared, self.compared, **QUIET).then(**watching)
        gr.on(
            [self.note.submit, self.note.blur],
            show_errors_in(self.note_error)(self.write_note),
            [self.run_name, self.note],
            self.note_error,
            **QUIET,
        )
        self.navigation.train.change(self.show_run, self.navigation.train, run_view, **QUIET).then(**watching)
        self.stop_button.click(self.stop_run, self.run_name, None, **QUIET)
        self.resume_button.click(self.resume_run, self.run_name, None, **QUIET)
        self.remove_button.click(self.ask_to_remove, self.run_name, question, **QUIET)
        self.keep_button.click(self.ask_to_remove, None, question, **QUIET)
        self.confirm_button.click(self.remove_run, self.to_remove, [*run_view, *question], **QUIET).success(**watching)
        run_outputs = [self.run_name, self.adapters.chosen]
        self.open_button.click(self.open_adapter, run_outputs, self.navigation.inspect, **QUIET)

    def _watching(self) -> dict[str, Any]:
        """The event that shows what has changed."""
        buttons = [self.stop_button, self.resume_button, self.remove_button, self.copy_button, self.open_button]
        panels = [self.runs, self.progress, self.curves, self.samples, self.note]
        state = [self.run_name, self.on_page, self.compared, self.adapters.chosen]
        outputs = [self.run_name, self.on_page, *panels, *buttons, self.adapters.chosen, self.form.fields["start"]]
        return {"fn": self.watch, "inputs": state, "outputs": outputs} | QUIET

    def watch(self, name: str | None, on_page: Any, compared: list[str], chosen: str | None) -> Any:
        """What changed since this page was updated last; nothing is sent where nothing did.

        Args:
            name: The run that is shown; None is the foremost, "" none.
            on_page: [name, compared runs, chosen adapter, runs, points] as they were; None sends everything.
            compared: Runs whose curves are drawn too.
            chosen: The adapter that is chosen.
        """
        runs, adapters = self.service.runs(), {a["name"]: a for a in self.service.adapters()}
        points = {name: adapter.get("point") for name, adapter in adapters.items()}
        names = [run["name"] for run in runs]
        if name not in names and (name != "" or chosen not in adapters):
            name = _foremost(runs)
        now = [name, compared, chosen, runs, points]
        if now == on_page:
            return gr.skip()
        run = self.service.run_details(name) if name else None
        others = [self.service.run_details(n) for n in compared if n in names and n != name]
        before = points if on_page is None else on_page[-1]
        fresh = [name for name in points if name not in before]
        same_adapters = on_page is not None and points == before
        listed = (
            gr.skip() if same_adapters else self.adapters.listed([*fresh, chosen, *(run or {}).get("adapters", ())])
        )
        table = rows(runs, adapters)
        return (
            name,
            now,
            table_html(table, name, chosen, compared),
            views.progress(run, adapters, seed_spread(name, runs, table))
            if name
            else views.adapter_details(adapters.get(chosen or "")),
            curves(drawn) if (drawn := [*([run] if run else []), *others]) else "",
            views.samples(run),
            gr.skip() if on_page and on_page[0] == name else gr.Textbox((run or {}).get("note", ""), visible=bool(run)),
            *_buttons(run, points, chosen),
            listed,
            gr.skip() if same_adapters else gr.Dropdown(self.service.startable()),
        )

    def choose_row(self, event: gr.EventData) -> Any:
        """Shows a run, and chooses its adapter; of an adapter whose run is not here, that alone."""
        adapter = gr.skip() if event.adapter is None else gr.Dropdown(value=str(event.adapter))
        return *self.show_run("" if event.run is None else str(event.run)), adapter, *self.ask_to_remove()

    def compare_run(self, compared: list[str], event: gr.EventData) -> list[str]:
        """Draws the curves of one more run, or of one less; of too many the last ones."""
        rest = [name for name in compared if name != event.run]
        return [*rest, str(event.run)][-MOST_RUNS:] if event.on else rest

    def show_run(self, name: str | None) -> tuple[str | None, None]:
        return name, None

    def write_note(self, name: str | None, text: str) -> str:
        if name:
            self.service.write_note(name, text)
        return ""

    def copy_settings(self, name: str) -> Any:
        """A run's settings, in the form."""
        settings = self.service.run_details(name)["settings"]
        return *self.form.values_of(settings), *self.show_groups(settings["data"])

    def fill_form(self, preset: str) -> Any:
        settings = self.service.presets[preset]
        return *self.form.values_of(settings), *self.show_groups(settings["data"])

    def show_groups(self, data: str) -> Any:
        return gr.Group(visible=data == "factors"), gr.Group(visible="pictures" in data)

    def estimate_cost(self, device: str, *inputs: Any) -> str:
        try:
            return views.cost_note(self.service.cost(self.form.settings(inputs), device))
        except InputError as error:
            return views.problem_note(error)

    def estimate_time(self, *inputs: Any) -> Iterator[Any]:
        """How long the run would take; it is measured in steps, which give way to whatever somebody waits for."""
        seconds = None
        try:
            for seconds in MODELS.steps(self.service.seconds(self.form.settings(inputs))):
                if seconds is None:
                    yield gr.skip()
        except InputError:  # told beside the cost
            yield ""
            return
        yield views.time_note(seconds)

    def start_run(self, preset: str, name: str, archive: str | None, device: str, seeds: Any, *inputs: Any) -> Any:
        started = self.service.start(name.strip() or preset, self.form.settings(inputs), archive, device, seeds)
        beside = started["names"][1:]  # their curves are drawn with the first one's
        return *self.show_run(started["name"]), beside, "", views.broken_note(started["broken"]), ""

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
    def open_adapter(self, name: str, chosen: str | None) -> Any:
        """A view of the chosen adapter, or of the first one of a run that did not make that, on a held-out picture."""
        adapters = {a["name"]: a for a in self.service.adapters() if "point" in a}
        names = self.service.run_details(name)["adapters"] if name else [chosen]
        for adapter in sorted(names, key=lambda n: n != chosen):
            if adapter in adapters:
                picture: Any = self.service.held_out_picture(name) if name else None
                if isinstance(picture, Path):  # a photo of the run, to where the page may show it
                    picture = keep(picture.read_bytes(), picture.name, self.open_button)
                return open_view(picture, adapters[adapter]["point"], adapter)
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
    working = [run for run in runs if run["state"] not in SIGNS]
    return next((run["name"] for run in [*working, *runs]), None)


def _buttons(run: Run | None, points: dict[str, str | None], chosen: str | None) -> list[gr.Button]:
    """Stop, resume, remove, copy and open, each enabled where it would do something. points: by the adapters' names."""
    state = run["state"] if run else None
    alive = run is not None and not run["ended"]
    readable = any(points.get(name) for name in (run.get("adapters", ()) if run else [chosen or ""]))
    enabled = (alive, state in ("stopped", "failed", "cut off"), run is not None and not alive, run is not None)
    open_button = gr.Button(interactive=readable, variant="primary" if readable else "secondary")
    return [*(gr.Button(interactive=yes) for yes in enabled), open_button]
