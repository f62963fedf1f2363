"""Inspect's baselines: beside the result, what somebody who only remembers training images could answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from foresight.data.images import to_pil
from foresight.data.resolution import DEFAULT, Resolution
from foresight.inspection.baselines import Baselines, Recalled
from foresight.inspection.inspector import Inspector, Report
from foresight.inspection.readout import prepare
from foresight.metrics.scores import Scores
from foresight.models.points import ExtractionPoint
from foresight.ui import generate
from foresight.ui.cards import NAMES, number, shown_scores
from foresight.ui.error_handling import show_errors
from foresight.ui.image_maps import Place, Tile, tile_grid
from foresight.ui.pictures import ENLARGE
from foresight.ui.services import BATCH_QUEUE, QUIET, ImageSource, plain_html
from foresight.ui.uploads import picture_address


@dataclass(frozen=True, eq=False)
class ResultSummary:
    """A result to set baselines beside: its image's source, its point, its adapter's name, and the scores it has."""

    source: ImageSource
    point: ExtractionPoint
    adapter: str
    scores: dict[str, Scores]
    resolution: Resolution = DEFAULT

    @classmethod
    def of(cls, report: Report, source: ImageSource) -> ResultSummary:
        """The summary of a report on the image of that source."""
        chosen = report.chosen
        scores = {"blank page": report.blank.scores, chosen.name: chosen.scores, "oracle": report.oracle.scores}
        return cls(source, report.point, chosen.name, scores, report.resolution)


class BaselinePanel:
    """The mean and the nearest of training scenes, made while the panel is open."""

    def __init__(self, inspector: Inspector, summary: gr.State) -> None:
        """Adds the panel to the current layout.

        Args:
            inspector: Its latents tell which scene is nearest.
            summary: A State, the `ResultSummary` of the result above.
        """
        self.baselines = Baselines(inspector)
        opened = gr.State(False)
        with gr.Accordion(
            "Baselines: the mean and the nearest of the training scenes", open=False, elem_id="baselines-open"
        ) as box:
            self.panel = plain_html("", "baselines", js_on_load=ENLARGE)
        showing: dict[str, Any] = {"fn": self.show, "inputs": [opened, summary], "outputs": self.panel}
        showing |= BATCH_QUEUE | QUIET
        box.expand(lambda: True, None, opened, **QUIET).then(**showing)
        box.collapse(lambda: False, None, opened, **QUIET)
        summary.change(**showing, trigger_mode="always_last")

    @show_errors
    def show(self, opened: bool, summary: ResultSummary | None) -> Iterator[str]:
        """How far the scenes' latents are, then both baselines."""
        if not opened or summary is None:
            yield ""
            return
        for done in self.baselines.gather():
            yield _progress(done, self.baselines.count)
        source = generate.at_size(summary.source, summary.resolution)
        original, mask = prepare(*generate.image_and_mask(source), summary.resolution)
        recalled = self.baselines.recall(original, summary.point, mask)
        yield baselines_html(summary, recalled, partial(picture_address, keeper=self.panel))


def _progress(done: int, count: int) -> str:
    return (
        f'<p role="status">Remembering {count} training scenes, once for all points: {done} are done.</p>'
        f'<progress max="{count}" value="{done}" aria-label="training scenes remembered"></progress>'
    )


def baselines_html(summary: ResultSummary, recalled: Recalled, place: Place) -> str:
    """Both baselines as images, and their scores between those of the blank page and of the adapter."""
    blank, *rest = summary.scores.items()
    rows = [blank, ("mean", recalled.mean.scores), ("nearest scene", recalled.nearest.scores), *rest]
    names = shown_scores(summary.scores[summary.adapter])
    heads = "".join(f'<th scope="col">{NAMES[name]}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{_score(n, scores[n])}</td>" for n in names)}</tr>'
        for name, scores in rows
    )
    tiles = [
        Tile("mean", f"of {recalled.count} training scenes", to_pil(recalled.mean.image)),
        Tile("nearest scene", f"of {recalled.count} by its latents at {summary.point}", to_pil(recalled.nearest.image)),
    ]
    return (
        f'<p class="fs-baselines-verdict">{_verdict(summary, recalled)}</p>'
        f'<div class="fs-baselines">{tile_grid(tiles, place)}'
        f"<table><thead><tr><td></td>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _verdict(summary: ResultSummary, recalled: Recalled) -> str:
    own, nearest = summary.scores[summary.adapter]["lpips"], recalled.nearest.scores["lpips"]
    assert own is not None and nearest is not None  # every image has an LPIPS
    name = escape(summary.adapter)
    scores = f"LPIPS {own:.3f}, and {nearest:.3f} for the nearest of {recalled.count} training scenes"
    if own < nearest:
        return f"<strong>{name} reads this picture:</strong> {scores}."
    return f"<strong>⚠ {name} is no better than a memory here:</strong> {scores}."


def _score(name: str, value: float | None) -> str:
    return "–" if value is None else number(name, value)
