"""Inspect's floors: beside the reading, what somebody who only remembers training pictures could answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from foresight.data.images import to_pil
from foresight.inspection.baselines import Recalled
from foresight.inspection.inspector import Report
from foresight.inspection.readout import prepare
from foresight.metrics.scores import SCORES, Scores
from foresight.models.points import ExtractionPoint
from foresight.ui import generate
from foresight.ui.cards import NAMES, number
from foresight.ui.error_handling import show_errors
from foresight.ui.image_maps import Tile, tile_grid
from foresight.ui.navigation import ImageSource
from foresight.ui.services import MODEL_QUEUE, Calls


@dataclass(frozen=True, eq=False)
class Asked:
    """A result to set floors beside: its case, its point, its adapter's name, and the scores known of it."""

    case: ImageSource
    point: ExtractionPoint
    adapter: str
    known: dict[str, Scores]

    @classmethod
    def of(cls, report: Report, case: ImageSource) -> Asked:
        chosen = report.reconstructions[0]
        known = {"blank page": report.blank.scores, chosen.name: chosen.scores, "oracle": report.oracle.scores}
        return cls(case, report.point, chosen.name, known)


def build(calls: Calls, asked: gr.State) -> None:
    """The floors inside the current layout, made while they are open; asked: an `Asked`, of the result above."""
    opened = gr.State(False)
    with gr.Accordion(
        "Floors: the mean and the nearest of the training scenes", open=False, elem_id="floors-open"
    ) as box:
        shown = gr.HTML(elem_id="floors", elem_classes="fs-plain", apply_default_css=False)

    @show_errors
    def show(opened: bool, asked: Asked | None) -> Iterator[str]:
        if not opened or asked is None:
            yield ""
            return
        for done in calls.memory.gather():
            yield _progress(done, calls.memory.count)
        original, mask = prepare(*generate.look(asked.case))
        yield panel(asked, calls.memory.recall(original, asked.point, mask))

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    showing: dict[str, Any] = {"fn": show, "inputs": [opened, asked], "outputs": shown, **MODEL_QUEUE, **quiet}
    box.expand(lambda: True, None, opened, **quiet).then(**showing)
    box.collapse(lambda: False, None, opened, **quiet)
    asked.change(**showing, trigger_mode="always_last")


def _progress(done: int, count: int) -> str:
    return (
        f'<p role="status">Remembering {count} training scenes, once for all points: {done} are done.</p>'
        f'<progress max="{count}" value="{done}" aria-label="training scenes remembered"></progress>'
    )


def panel(asked: Asked, found: Recalled) -> str:
    """Both floors as pictures, and their scores between those of the blank page and of the adapter."""
    blank, *rest = asked.known.items()
    rows = [blank, ("mean", found.mean.scores), ("nearest scene", found.nearest.scores), *rest]
    heads = "".join(f'<th scope="col">{NAMES[name]}</th>' for name in SCORES)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{_told(n, scores[n])}</td>" for n in SCORES)}</tr>'
        for name, scores in rows
    )
    shown = [
        Tile("mean", f"of {found.count} training scenes", to_pil(found.mean.image)),
        Tile("nearest scene", f"of {found.count} by its latents at {asked.point}", to_pil(found.nearest.image)),
    ]
    return (
        f'<p class="fs-floors-told">{_verdict(asked, found)}</p><div class="fs-floors">{tile_grid(shown)}'
        f"<table><thead><tr><td></td>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _verdict(asked: Asked, found: Recalled) -> str:
    mine, floor = asked.known[asked.adapter]["lpips"], found.nearest.scores["lpips"]
    assert mine is not None and floor is not None  # LPIPS is of every picture
    name = escape(asked.adapter)
    told = f"LPIPS {mine:.3f}, and {floor:.3f} for the nearest of {found.count} training scenes"
    if mine < floor:
        return f"<strong>{name} reads this picture:</strong> {told}."
    return f"<strong>⚠ {name} is no better than a memory here:</strong> {told}."


def _told(name: str, value: float | None) -> str:
    return "–" if value is None else number(name, value)
