"""The Findings tab: what the experiments found, beside the seed study; every point of every chart opens in Inspect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image
from torch import Tensor

from foresight.adapters.registry import AdapterRecord
from foresight.errors import InputError
from foresight.inspection.inspector import Inspector, Report
from foresight.models.points import ExtractionPoint
from foresight.study import Study
from foresight.ui import generate
from foresight.ui.error_handling import error_place, show_errors, show_errors_in
from foresight.ui.findings import parts
from foresight.ui.findings.study import BUNDLED, Place, load_study, studies
from foresight.ui.navigation import Navigation, open_view
from foresight.ui.plotly_file import plotly_file
from foresight.ui.services import MODEL_QUEUE

PAIRS = 3  # scenes shown as pooled and tokens
_DRAW = Path(__file__).with_name("charts.js").read_text()


@dataclass(frozen=True)
class FindingsCalls:
    """studies: the files at hand, the first shown at first. load: a file → its study. adapters: all that fit.

    inspect: picture, adapter's folder, mask → report with every adapter of that point.
    """

    studies: Callable[[], list[Path]]
    load: Callable[[Path], Study]
    adapters: Callable[[], list[AdapterRecord]]
    inspect: Callable[[Image.Image, Path, Tensor], Report]

    @classmethod
    def of(cls, inspector: Inspector) -> FindingsCalls:
        """The calls of one inspector and its models."""
        return cls(
            studies,
            load_study,
            inspector.adapters,
            lambda picture, folder, mask: inspector.inspect(picture, None, folder, mask),
        )

    def file(self, name: str | None) -> Path:
        """The file of the study of that name, one of those at hand. Raises InputError."""
        known = {study_name(path): path for path in self.studies()}
        if name not in known:
            raise InputError(f"there is no study {name!r}: choose from {', '.join(known) or 'none yet'}.")
        return known[name]

    def read(self, name: str | None) -> Study:
        """The study of that name. Raises InputError."""
        return self.load(self.file(name))

    def experiment(self, name: str | None, chosen: str | None) -> tuple[str, str, str]:
        """Text, charts and tables of one experiment of a study; empty where it has none of that name."""
        file = self.file(name)
        one = self.load(file).experiments.get(chosen or "")
        if one is None:
            return "", "", ""
        return parts.experiment_text(one), parts.charts_json(one, self.openable()), parts.experiment_tables(one, file)

    def openable(self) -> dict[Place, str]:
        """What Inspect can open: the first adapter at each point, and the first of each kind there, by their names."""
        first: dict[Place, str] = {}
        for record in self.adapters():
            first.setdefault((record.point, record.kind), record.name)
            first.setdefault((record.point, None), record.name)
        return first

    def both(self) -> list[parts.Pair]:
        """The first pooled and the first token adapter of each point that has both, in order of depth."""
        first: dict[tuple[ExtractionPoint, str], AdapterRecord] = {}
        for record in self.adapters():
            first.setdefault((record.point, record.kind), record)
        tokens = [record for (_, kind), record in first.items() if kind == "tokens"]
        return [(first[e.point, "pooled"], e) for e in tokens if (e.point, "pooled") in first]


def study_name(path: Path) -> str:
    """What a study goes by: "bundled", or the folder that it lies in."""
    return "bundled" if path == BUNDLED else str(path.parent)


def build(calls: FindingsCalls, navigation: Navigation) -> None:
    """Builds the tab inside the current layout; a study is read when it is shown."""
    with gr.Row():
        study = gr.Dropdown([], label="Study", info="Your own runs/**/results.yaml are listed too.", scale=1)
        which = gr.Dropdown([], label="Experiment", info="Question, tables and charts of one.", scale=2)
    refused = error_place("findings-refused")
    summary = _html("", "findings-summary", js_on_load="trigger('load')")
    text = _html("", "findings-text")
    charts = gr.HTML(
        "",
        html_template='<div class="fs-findings-charts"></div>',
        js_on_load=_DRAW,
        library=plotly_file(),
        apply_default_css=False,
        elem_id="findings-charts",
        elem_classes="fs-plain",
    )
    tables = _html("", "findings-tables")
    _html(parts.EXPLAINED, "findings-why")
    make = gr.Button("Show three scenes, read by both", size="sm", elem_id="findings-make")
    pairs = _html(parts.pair_grid(None, [], PAIRS), "findings-pairs")

    def list_studies(name: str | None) -> Any:
        names = [study_name(path) for path in calls.studies()]
        return gr.Dropdown(names, value=name if name in names else names[0] if names else None)

    @show_errors_in(
        refused
    )  # apart from what shows: an output that is left as it is may lose `library` while it is made
    def check(name: str | None) -> str:
        if name is not None:
            calls.read(name)
        return ""

    @show_errors
    def show_study(name: str | None) -> Any:
        if name is None:
            return parts.NONE, gr.Dropdown([], value=None), "", "", ""
        found = calls.read(name)
        choices = [(e.title, key) for key, e in found.experiments.items()]
        first = next(iter(found.experiments), None)
        return parts.overview(found), gr.Dropdown(choices, value=first), *calls.experiment(name, first)

    @show_errors
    def show_experiment(name: str | None, chosen: str | None) -> Any:
        return calls.experiment(name, chosen)

    @show_errors
    def open_point(event: gr.EventData) -> Any:
        return open_view(None, str(ExtractionPoint.parse(str(event.point))), str(event.adapter))

    @show_errors
    def make_pairs() -> Iterator[str]:
        at_hand, reports = calls.both(), list[Report]()
        if not at_hand:
            raise InputError("no point has both a pooled and a token adapter: train one with kind pooled.")
        pair = at_hand[len(at_hand) // 2]
        for i in range(PAIRS):
            scene = generate.make_scene("any", "any", 1 + i, "any", "any", "white", False, generate.roll())
            picture, mask = generate.draw(scene)
            reports.append(calls.inspect(picture, pair[1].folder, mask))
            yield parts.pair_grid(pair, reports, PAIRS - 1 - i)

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    shown = [text, charts, tables]
    for asked in (summary.load(list_studies, study, study, **quiet).then, study.input):
        asked(check, study, refused, **quiet).success(show_study, study, [summary, which, *shown], **quiet)
    which.input(show_experiment, [study, which], shown, **quiet, trigger_mode="always_last")
    charts.click(open_point, None, navigation.inspect, **quiet)
    make.click(make_pairs, None, pairs, **MODEL_QUEUE, api_visibility="private", show_progress="minimal")


def _html(value: str, name: str, **more: Any) -> gr.HTML:
    return gr.HTML(value, elem_id=name, elem_classes="fs-plain", apply_default_css=False, **more)


def endpoint(calls: FindingsCalls) -> None:
    """Adds /findings to the current Blocks; nothing of it is seen on the page."""

    @show_errors
    def findings(study: str = "bundled") -> dict[str, Any]:
        """Tells what a study found: for each experiment its question, verdict, reason and the seed study's numbers."""
        left_out = dict.fromkeys(("key", "tables", "charts", "pictures", "figures", "seconds"), True)
        return calls.read(study).model_dump(exclude={"settings": True, "experiments": {"__all__": left_out}})

    with gr.Row(visible=False):
        name, answer, ask = gr.Textbox("bundled", label="study"), gr.JSON(label="findings"), gr.Button()
    ask.click(findings, name, answer, api_name="findings")
