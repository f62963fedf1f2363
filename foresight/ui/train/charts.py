"""The curves of runs as JSON, which charts.js draws: losses, and held-out scores with their intervals."""

import json
import math
from collections.abc import Sequence
from typing import Any

from foresight.adapters.checkpoint import measured, reference_mean, score_tables
from foresight.metrics.intervals import Interval
from foresight.ui.cards import NAMES
from foresight.ui.plots import COLORS, MARKS
from foresight.ui.train.services import Run

ARROWS = {"lpips": "↓", "mask_iou": "↑"}  # the scores that have a chart
MOST_RUNS = len(COLORS)


def curves(runs: Sequence[Run]) -> str:
    """Losses and held-out scores against steps, a line for each adapter of each run; the first run is the one shown.

    {"lines": [{"name", "color", "mark", "loss": [[step, value], …], "lpips": [[step, mean, low, high, n], …], …}],
    "charts": [{"key", "title", "blank", "oracle"}]}: the last two are means over the shown run's held-out pictures.
    """
    lines = [_line(run, name, len(runs) > 1) for run in runs for name in _names(run)]
    for k, line in enumerate(lines):
        line |= {"color": COLORS[k % len(COLORS)], "mark": MARKS[k % len(MARKS)]}
    charts: list[dict[str, Any]] = [{"key": "loss", "title": "Loss"}]
    for score, arrow in ARROWS.items():
        if any(run["held_out"] for run in runs) and not any(line[score] for line in lines):  # no held-out image has it
            continue
        scores = next(iter(runs[0]["held_out"][-1]["scores"].values()), None) if runs and runs[0]["held_out"] else None
        title = next(iter(score_tables(scores)), "")
        ends = {which: reference_mean(scores, title, which, score) for which in ("blank", "oracle")}
        charts.append({"key": score, "title": f"Held-out {NAMES[score]} {arrow}", "on": title} | ends)
    return json.dumps({"lines": lines, "charts": charts}, allow_nan=False)


def _names(run: Run) -> list[str]:
    """The run's adapters, such as "pre-merge/6-tokens"."""
    return list(run["log"][-1]["losses"]) if run["log"] else []


def _line(run: Run, name: str, several: bool) -> dict[str, Any]:
    alone = len(_names(run)) == 1
    title = name if not several else run["name"] if alone else f"{run['name']} · {name}"
    loss = [[e["step"], _short(v)] for e in run["log"] if _is_finite(v := e["losses"].get(name))]
    line: dict[str, Any] = {"name": title, "run": run["name"], "adapter": name, "loss": loss}
    for score in ARROWS:
        line[score] = [point for e in run["held_out"] if (point := _point(e["step"], e["scores"].get(name), score))]
    return line


def _point(step: int, scores: Any, score: str) -> list[float | None] | None:
    """[step, mean, low, high, n] of the first set of held-out images, where it has the score."""
    title = next(iter(score_tables(scores)), "")
    interval = first_interval(scores, score)
    return None if interval is None else [step, *interval, measured(scores, title, score)]


def first_interval(scores: Any, score: str) -> Interval | None:
    """The score's interval on the first set of held-out images, where it has one. scores: as a card has them."""
    return next(iter(score_tables(scores).values()), {}).get(score)


def _is_finite(value: float | None) -> bool:
    """The losses of a training that goes wrong are infinite in the end."""
    return value is not None and math.isfinite(value)


def _short(value: Any) -> float:
    return float(f"{value:.5g}")
