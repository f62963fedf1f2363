"""The curves of a run as SVG: drawn anew each second, they neither flicker nor wait for a library."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from foresight.adapters.checkpoint import measured_share, score_tables
from foresight.ui.plots import COLORS

Line = list[tuple[float, float]]  # (step, value)

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 320, 190, 44, 312, 10, 166  # of a chart, and of the frame within
MARKS = ("●", "■", "◆", "▲", "✚", "★")
AXIS_ENDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
MAX_POINTS = 300  # of a line


def curves(run: dict[str, Any]) -> str:
    """Losses on a logarithmic scale, and held-out LPIPS and mask IoU, against steps; a line for each adapter."""
    log, held_out, steps = run["log"], run["held_out"], run["settings"].get("steps", 1)
    names = list(log[-1]["losses"]) if log else []
    thin = [*log[:: max(1, len(log) // MAX_POINTS)], *log[-1:]]
    losses = [_finite((e["step"], e["losses"].get(name)) for e in thin) for name in names]
    charts = [_chart("Loss", losses, steps, _decades(losses), logarithmic=True)]
    for title, score, top in (("Held-out LPIPS ↓", "lpips", None), ("Held-out mask IoU ↑", "mask_iou", 1.0)):
        lines = [_finite((e["step"], first_mean(e["scores"].get(name), score)) for e in held_out) for name in names]
        if held_out and not any(lines):  # no held-out image has it
            continue
        title += _share(held_out[-1]["scores"], names, score) if held_out else ""
        highest = top or max((v for line in lines for _, v in line), default=1.0)
        highest = next((end for end in AXIS_ENDS if end >= highest), highest)
        charts.append(_chart(title, lines, steps, [0, highest / 2, highest]))
    keys = "".join(
        f'<li><span style="color:{COLORS[i % len(COLORS)]}">{MARKS[i % len(MARKS)]}</span> {escape(name)}</li>'
        for i, name in enumerate(names)
    )
    return f'<div class="fs-train-charts">{"".join(charts)}</div><ul class="fs-train-key">{keys}</ul>'


def _share(scores: dict[str, Any], names: Iterable[str], score: str) -> str:
    """ ", 97 of 128" for each adapter whose mean is not of all held-out images; scores: the last ones, by adapter."""
    shares = (measured_share(scores.get(name), next(iter(score_tables(scores.get(name))), ""), score) for name in names)
    text = ", ".join(share for share in shares if share)
    return f", of {text}" if text else ""


def first_mean(scores: Any, score: str) -> float | None:
    """The score's mean on the first set of held-out images, where it has one. scores: as a card has them."""
    first = next(iter(score_tables(scores).values()), {})
    return first[score][0] if score in first else None


def _finite(points: Iterable[tuple[float, float | None]]) -> Line:
    """Those that can be drawn: the losses of a training that goes wrong are infinite in the end."""
    return [(step, value) for step, value in points if value is not None and math.isfinite(value)]


def _decades(lines: Sequence[Line]) -> list[float]:
    """Powers of ten around all positive values."""
    values = [v for line in lines for _, v in line if v > 0] or [1.0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**k for k in range(low, max(high, low + 1) + 1)]


def _chart(title: str, lines: Sequence[Line], steps: int, ticks: Sequence[float], logarithmic: bool = False) -> str:
    """One chart, its y axis from the first tick to the last."""

    def scale(v: float) -> float:
        return math.log10(max(v, ticks[0])) if logarithmic else v

    low, high = scale(ticks[0]), scale(ticks[-1])

    def x(step: float) -> float:
        return LEFT + (RIGHT - LEFT) * step / steps

    def y(v: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (scale(v) - low) / (high - low)

    parts = [
        f'<path class="rule" d="M{LEFT} {y(t):.1f}H{RIGHT}"/><text x="{LEFT - 5}" y="{y(t) + 4:.1f}">{t:.3g}</text>'
        for t in ticks
    ]
    parts += [f'<text x="{x(s):.0f}" y="{HEIGHT - 8}">{s:,.0f}</text>' for s in (steps / 2, steps)]
    last_values = []
    for i, line in enumerate(lines):
        if not line:
            continue
        color = COLORS[i % len(COLORS)]
        points = " ".join(f"{x(step):.1f},{y(v):.1f}" for step, v in line)
        parts.append(f'<polyline points="{points}" stroke="{color}"/>')
        marked = line if not logarithmic else line[-1:]
        parts += [
            f'<text class="mark" style="fill:{color}" x="{x(step):.1f}" y="{y(v) + 4:.1f}">{MARKS[i % len(MARKS)]}'
            f"<title>step {step:,}: {v:.4f}</title></text>"
            for step, v in marked
        ]
        last_values.append(f"{line[-1][1]:.3g}")
    now = f" <b>{' · '.join(last_values)}</b>" if last_values else ""
    return (
        f'<figure><figcaption>{title}{now}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{title} against steps; last {", ".join(last_values) or "nothing yet"}">'
        f"{''.join(parts)}</svg></figure>"
    )
