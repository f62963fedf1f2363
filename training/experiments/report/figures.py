"""Draws a chart twice: as PNG by matplotlib, and as a page to explore by plotly."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foresight.study import Chart, Figure, Series

MARKS = {"baseline": ("blank page", ":"), "oracle": ("oracle", "--"), "target": ("seed's target", "-.")}
DASHES = {":": "dot", "--": "dash", "-.": "dashdot"}  # matplotlib's names for lines, and plotly's
COLOURS = ["#2563a8", "#c2571a", "#3b8a4e", "#8b4fa0", "#a3263f", "#5f6b7a"]
COLOURS += ["#b08a00", "#1b9aaa", "#d0679b", "#333333", "#7aa2d6", "#9bbf6b"]
SYMBOLS = "osD^vP*X<>hd"


def write(folder: Path, name: str, charts: Sequence[Chart]) -> list[Figure]:
    """Draws an experiment's charts into `folder`; the files' names are relative to it."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = []
    for number, chart in enumerate(charts, 1):
        figure = Figure(title=chart.title, png=f"{name}-{number}.png", html=f"{name}-{number}.html")
        _png(folder / figure.png, chart)
        _html(folder / figure.html, chart)
        figures.append(figure)
    return figures


def _numeric(chart: Chart) -> bool:
    return not any(isinstance(x, str) for line in chart.series for x in line.x)


def _logarithmic(chart: Chart) -> bool:
    """Whether x spans so much that it wants a logarithmic axis."""
    values = [x for line in chart.series for x in line.x if not isinstance(x, str)]
    return chart.kind == "line" and _numeric(chart) and min(values) > 0 and max(values) / min(values) > 20


def _errors(line: Series) -> list[list[float]] | None:
    """How far each value's interval reaches below and above it: two lists."""
    if not line.low:
        return None
    known = [(v, low, high) for v, low, high in zip(line.y, line.low, line.high, strict=True)]
    pairs = [(0.0, 0.0) if v is None or a is None or b is None else (v - a, b - v) for v, a, b in known]
    return [[max(0.0, reach) for reach in side] for side in zip(*pairs, strict=True)]


def _bar_starts(kind: str, y: Sequence[float | None]) -> list[float]:
    """Where each bar begins: in a waterfall where the one before it ended, else at 0."""
    return [0.0, *(v or 0.0 for v in y[:-1])] if kind == "waterfall" else [0.0] * len(y)


def _marks(chart: Chart) -> list[tuple[float, str, str]]:
    return [(v, *MARKS[name]) for name in MARKS if (v := getattr(chart, name)) is not None]


def _png(path: Path, chart: Chart) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.8), dpi=120, layout="constrained")
    for k, line in enumerate(chart.series):
        style: dict[str, Any] = {"color": COLOURS[k % len(COLOURS)], "label": line.name}
        symbol, y = SYMBOLS[k % len(SYMBOLS)], [math.nan if v is None else v for v in line.y]
        if chart.kind == "scatter":
            axes.scatter(line.x, y, s=14, marker=symbol, **style)
        elif chart.kind == "line":
            axes.errorbar(line.x, y, _errors(line), marker=symbol, capsize=3, lw=1.5, **style)
        else:
            width = 0.8 / len(chart.series)
            at = [i + (k - (len(chart.series) - 1) / 2) * width for i in range(len(y))]
            starts = _bar_starts(chart.kind, line.y)
            heights = [top - start for top, start in zip(y, starts, strict=True)]
            style |= {"hatch": ("", "//", "..", "xx")[k % 4], "edgecolor": "white"}
            axes.bar(at, heights, width, starts, yerr=_errors(line), capsize=3, **style)
            axes.set_xticks(range(len(y)), list(map(str, line.x)))
    for value, label, style_ in _marks(chart):
        axes.axhline(value, ls=style_, lw=1, color="#555555", label=f"{label} ({value:.3g})")
    if _logarithmic(chart):
        axes.set_xscale("log")
    if not _numeric(chart):
        longest = max(len(str(x)) for x in chart.series[0].x)
        axes.tick_params(axis="x", rotation=30 if longest < 16 else 60, labelsize=8)
        pyplot.setp(axes.get_xticklabels(), ha="right")
    axes.set(title=chart.title, xlabel=chart.x, ylabel=chart.y)
    axes.grid(alpha=0.25)
    figure.legend(fontsize=8, loc="outside right upper")
    figure.savefig(path)
    pyplot.close(figure)


def _html(path: Path, chart: Chart) -> None:
    from plotly import graph_objects

    figure = graph_objects.Figure()
    for k, line in enumerate(chart.series):
        errors = _errors(line)
        bars = {"type": "data", "symmetric": False, "array": errors[1], "arrayminus": errors[0]} if errors else None
        common: dict[str, Any] = {
            "name": line.name,
            "x": line.x,
            "error_y": bars,
            "marker_color": COLOURS[k % len(COLOURS)],
        }
        if chart.kind in ("bar", "waterfall"):
            starts = _bar_starts(chart.kind, line.y)
            heights = [None if v is None else v - start for v, start in zip(line.y, starts, strict=True)]
            figure.add_bar(y=heights, base=starts, **common)
        else:
            mode = "markers" if chart.kind == "scatter" else "lines+markers"
            figure.add_scatter(y=line.y, mode=mode, marker_symbol=k, **common)
    for value, label, style in _marks(chart):
        figure.add_hline(value, line_dash=DASHES[style], annotation_text=label)
    if _logarithmic(chart):
        figure.update_xaxes(type="log")
    figure.update_layout(title=chart.title, xaxis_title=chart.x, yaxis_title=chart.y, template="plotly_white")
    figure.write_html(path, include_plotlyjs="directory")
