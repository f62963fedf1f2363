"""The Findings tab: what the experiments found, beside the seed study; every point of every chart opens in Inspect."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from foresight.data.factors import ANY
from foresight.errors import InputError
from foresight.inspection.inspector import Inspector, Report
from foresight.models.digests import revision
from foresight.models.points import ExtractionPoint
from foresight.paths import RUNS
from foresight.study import Study
from foresight.ui import generate
from foresight.ui import view_link as link
from foresight.ui.error_handling import error_place, show_errors, show_errors_in
from foresight.ui.findings import parts
from foresight.ui.findings.study import BUNDLED, adapter_pairs, load_study, openable_adapters, studies
from foresight.ui.gradio_internals import cached_file, plotly_file
from foresight.ui.inputs import FreeDropdown
from foresight.ui.navigation import Navigation, open_view, updated_choices
from foresight.ui.services import BATCH_QUEUE, QUIET, plain_html

PAIR_SCENES = 3  # scenes reconstructed by a pooled and a token adapter
_DRAW = Path(__file__).with_name("charts.js").read_text(encoding="utf-8")
# A click on an experiment's name shows it, where it is seen.
_CHOOSE = """trigger('opened');
element.addEventListener('click', event => {
  const button = event.target.closest('[data-experiment]');
  if (!button) return;
  trigger('click', {experiment: button.dataset.experiment});
  document.querySelector('#findings-text').scrollIntoView({behavior: 'smooth'});
});"""


class FindingsTab:
    """Studies with their charts and tables; and what a pooled and a token adapter make of the same latents."""

    name = "findings"
    title = "Findings"

    def __init__(
        self, inspector: Inspector, navigation: Navigation, bundled: Path = BUNDLED, runs: Path = RUNS
    ) -> None:
        """Takes what the tab reads.

        Args:
            inspector: Its adapters are those that charts open.
            navigation: Where a point of a chart opens.
            bundled: The results.yaml that is shown first.
            runs: The folder under which others are looked for.
        """
        self.inspector, self.navigation = inspector, navigation
        self.bundled, self.runs = bundled, runs

    def build(self) -> None:
        """Adds the tab to the current layout; a study is read when it is shown."""
        self.chosen = gr.State()  # {"study", "experiment", "at"}: what is to be shown
        self.unasked = gr.State(False)  # whether the tab was opened, and by no request of another tab or an address
        with gr.Row():
            self.study = FreeDropdown([], label="Study", info="Your own runs/**/results.yaml are listed too.", scale=1)
            self.experiment = FreeDropdown([], label="Experiment", info="Question, tables and charts of one.", scale=2)
        self.error = error_place("findings-error")
        self.summary = plain_html("", "findings-summary", js_on_load=_CHOOSE)
        self.file = gr.DownloadButton("Download the study (YAML)", size="sm", elem_id="findings-file")
        self.text = plain_html("", "findings-text", js_on_load=link.ADDRESS)
        self.charts = plain_html(
            "",
            "findings-charts",
            html_template='<div class="fs-findings-charts"></div>',
            js_on_load=_DRAW,
            library=plotly_file(),
        )
        self.tables = plain_html("", "findings-tables")
        plain_html(parts.EXPLAINED, "findings-why")
        self.compare = gr.Button("Show three scenes, read by both", size="sm", elem_id="findings-compare")
        self.pairs = plain_html("", "findings-pairs")
        self._connect()

    def _connect(self) -> None:
        requested, in_place = self.navigation.findings, show_errors_in(self.error)
        # What is asked for goes into one state, in the order in which it was asked, and one event shows what stands
        # there: an answer that comes late can overwrite nothing that was asked after it.
        in_order = QUIET | {"concurrency_id": "findings", "concurrency_limit": 1, "trigger_mode": "multiple"}
        asked = [self.chosen, self.error]
        # A tab that is opened by a request lists the studies for that alone.
        self.summary.opened(lambda request: request is None, requested, self.unasked, **QUIET)
        listed = gr.on(
            [self.unasked.change, requested.change],
            in_place(self.list_studies),
            [self.study, requested],
            [self.study, *asked],
            **in_order,
        )
        listed.failure(lambda: gr.Dropdown(list(self._files()), value=None), None, self.study, **QUIET)
        self.study.input(in_place(self.choose_study), self.study, asked, **in_order)
        self.summary.click(in_place(self.choose_clicked), self.study, asked, **in_order)
        self.experiment.input(in_place(self.choose_experiment), [self.study, self.experiment], asked, **in_order)
        outputs = [self.study, self.experiment, self.summary, self.file, self.text, self.charts, self.tables]
        self.chosen.change(
            self.show, [self.chosen, self.study, self.experiment], outputs, **QUIET, trigger_mode="always_last"
        )
        self.charts.click(self.open_point, None, self.navigation.inspect, **QUIET)
        self.compare.click(lambda: parts.pair_grid(None, [], PAIR_SCENES), None, self.pairs, **QUIET).then(
            self.compare_adapters, None, self.pairs, **BATCH_QUEUE, api_visibility="private", show_progress="minimal"
        )

    def add_endpoints(self) -> None:
        """Adds /findings to the current Blocks; nothing of it is seen on the page."""
        with gr.Row(visible=False):
            name, answer, ask = gr.Textbox("bundled", label="study"), gr.JSON(label="findings"), gr.Button()
        ask.click(self.findings, name, answer, api_name="findings")

    @show_errors
    def findings(self, study: str = "bundled") -> dict[str, Any]:
        """Tells what a study found: for each experiment its question, verdict, reason and the seed study's numbers."""
        left_out = dict.fromkeys(("key", "tables", "charts", "pictures", "figures", "seconds"), True)
        return self.load(study).model_dump(exclude={"settings": True, "experiments": {"__all__": left_out}})

    def list_studies(self, name: str | None, request: dict[str, str] | None) -> dict[Component, Any]:
        """The studies to choose from; the one of a link, or else that is chosen, stays so while it is there.

        Raises InputError for a link to a study or an experiment that is not there; the choice is open then.
        """
        names, request = list(self._files()), request or {}
        name = request.get("study", name)
        if "study" in request:
            self._file(name)
        name = name if name in names else names[0] if names else None
        key = request.get("experiment")
        if name and key and key not in (known := self.load(name).experiments):
            raise InputError(f"the study has no experiment {key!r}: choose from {', '.join(known)}.")
        return {self.study: gr.Dropdown(names, value=name), **self.choose_experiment(name, key)}

    def choose_study(self, name: str | None) -> dict[Component, Any]:
        """A study, at its first experiment."""
        return self.choose_experiment(name, None)

    def choose_clicked(self, name: str | None, event: gr.EventData) -> dict[Component, Any]:
        """The experiment whose name was clicked in the overview."""
        return self.choose_experiment(name, str(event.experiment))

    def choose_experiment(self, name: str | None, key: str | None) -> dict[Component, Any]:
        """What is to be shown; a study that cannot be read is refused here, and what was shown before stays."""
        if name is not None:
            self.load(name)
        return {self.chosen: {"study": name, "experiment": key, "at": time.time()}}  # new, also when it is the same

    @show_errors
    def show(self, chosen: dict[str, Any] | None, name: str | None, key: str | None) -> list[Any]:
        """The chosen study and one experiment of it, the first where none is named.

        Args:
            chosen: What is to be shown; None, of which Gradio tells too, while nothing was chosen.
            name: What the study's control holds; it is left alone where that is the chosen one already.
            key: What the experiment's control holds, which is left alone likewise.
        """
        if chosen is None:
            return [gr.skip()] * 7
        study_control = gr.skip() if name == chosen["study"] else gr.Dropdown(value=chosen["study"])
        if chosen["study"] is None:
            nothing = [parts.NONE, gr.DownloadButton(visible=False), "", "", ""]
            return [study_control, gr.Dropdown([], value=None), *nothing]
        path, study = self._file(chosen["study"]), self.load(chosen["study"])
        chosen_key = chosen["experiment"]
        if chosen_key not in study.experiments:  # none is named, or one of the study before
            chosen_key = next(iter(study.experiments), None)
        choices = [(experiment.title, key) for key, experiment in study.experiments.items()]
        fitted_to = study.settings.get("model_revision")
        other_weights = fitted_to is not None and fitted_to != revision(self.inspector.vlm.folder)
        return [
            study_control,
            updated_choices(gr.Dropdown, choices, key, chosen_key),
            parts.overview(study, other_weights),
            gr.DownloadButton(value=cached_file(path.read_bytes(), "results.yaml"), visible=True),
            *self._experiment(chosen["study"], chosen_key),
        ]

    def _experiment(self, name: str, key: str | None) -> tuple[str, str, str]:
        """Text, charts and tables of one experiment of a study; empty where it has none of that key."""
        experiment = self.load(name).experiments.get(key or "")
        if experiment is None:
            return "", "", ""
        charts = parts.charts_json(experiment, openable_adapters(self.inspector.adapters()))
        address = link.written({link.TAB: "findings", "study": name, "experiment": str(key)})
        return parts.experiment_text(experiment, address), charts, parts.experiment_tables(experiment, self._file(name))

    @show_errors
    def open_point(self, event: gr.EventData) -> Any:
        """The view in Inspect of a chart's point that was clicked."""
        return open_view(None, str(ExtractionPoint.parse(str(event.point))), str(event.adapter))

    @show_errors
    def compare_adapters(self) -> Iterator[str]:
        """Reconstructs new scenes by a pooled and a token adapter of one point, in the middle of those that have both.

        Yields:
            The grid, after each scene.
        """
        pairs, reports = adapter_pairs(self.inspector.adapters()), list[Report]()
        if not pairs:
            raise InputError("no point has both a pooled and a token adapter: train one with kind pooled.")
        pair = pairs[len(pairs) // 2]
        for i in range(PAIR_SCENES):
            scene = generate.make_scene(ANY, ANY, 1 + i, ANY, ANY, "white", False, generate.roll())
            image, mask = generate.draw(scene)
            reports.append(self.inspector.inspect(image, None, pair[1].folder, mask, pair[:1]))
            yield parts.pair_grid(pair, reports, PAIR_SCENES - 1 - i)

    def load(self, name: str | None) -> Study:
        """Reads the study of that name. Raises InputError."""
        return load_study(self._file(name))

    def _file(self, name: str | None) -> Path:
        files = self._files()
        if name not in files:
            raise InputError(f"there is no study {name!r}: choose from {', '.join(files) or 'none yet'}.")
        return files[name]

    def _files(self) -> dict[str, Path]:
        """By the name that a study goes by, "bundled" or the folder that it lies in."""
        files = studies(self.bundled, self.runs)
        return {"bundled" if file == self.bundled else str(file.parent): file for file in files}
