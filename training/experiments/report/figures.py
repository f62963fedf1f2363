"""Draws a chart twice: as PNG by matplotlib, and as a page to explore by plotly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

MARKS = {"floor": ("blank page", "dotted"), "ceiling": ("oracle", "dashed"), "target": ("seed's target", "dashdot")}
_COLOURS = (
    "#2563a8",
    "#c2571a",
    "#3b8a4e",
    "#8b4fa0",
    "#a3263f",
    "#5f6b7a",
    "#b08a00",
    "#1b9aaa",
    "#d0679b",
    "#333333",
    "#7aa2d6",
    "#9bbf6b",
)
_SYMBOLS = "osD^vP*X<>hd"


def write(folder: Path, name: str, charts: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Draws an experiment's charts into `folder`: [{"title", "png", "html"}], files relative to it."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for number, chart in enumerate(charts, 1):
        stem = f"{name}-{number}"
        _png(folder / f"{stem}.png", chart)
        _html(folder / f"{stem}.html", chart)
        drawn.append({"title": chart["title"], "png": f"{stem}.png", "html": f"{stem}.html"})
    return drawn


def _numeric(line: dict[str, Any]) -> bool:
    return all(isinstance(x, int | float) for x in line["x"])


def _logarithmic(chart: dict[str, Any]) -> bool:
    """Whether x spans so much that it wants a logarithmic axis."""
    values = [x for line in chart["series"] for x in line["x"]]
    return all(map(_numeric, chart["series"])) and min(values) > 0 and max(values) / min(values) > 20


def _errors(line: dict[str, Any]) -> list[list[float]] | None:
    if "low" not in line:
        return None
    pairs = [(y, low, high) for y, low, high in zip(line["y"], line["low"], line["high"], strict=True)]
    if any(v is None for pair in pairs for v in pair):
        return None
    return [[max(0.0, y - low) for y, low, _ in pairs], [max(0.0, high - y) for y, _, high in pairs]]


def _before(chart: dict[str, Any], y: Sequence[float | None]) -> list[float]:
    """Where each bar begins: in a waterfall where the one before it ended, else at 0."""
    return [0.0, *(v or 0.0 for v in y[:-1])] if chart["kind"] == "waterfall" else [0.0] * len(y)


def _marks(chart: dict[str, Any]) -> list[tuple[float, str, str]]:
    return [(chart[key], label, style) for key, (label, style) in MARKS.items() if chart.get(key) is not None]


def _png(path: Path, chart: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.8), dpi=120, layout="constrained")
    lines, kind = chart["series"], chart["kind"]
    for k, line in enumerate(lines):
        look: dict[str, Any] = {"color": _COLOURS[k % len(_COLOURS)], "label": line["name"]}
        y = [float("nan") if v is None else v for v in line["y"]]
        if kind == "scatter":
            axes.scatter(line["x"], y, s=14, marker=_SYMBOLS[k % len(_SYMBOLS)], **look)
        elif kind == "line":
            axes.errorbar(line["x"], y, _errors(line), marker=_SYMBOLS[k % len(_SYMBOLS)], capsize=3, lw=1.5, **look)
        else:
            width = 0.8 / len(lines)
            at = [i + (k - (len(lines) - 1) / 2) * width for i in range(len(y))]
            below = _before(chart, y)
            axes.bar(
                at,
                [top - bottom for top, bottom in zip(y, below, strict=True)],
                width,
                below,
                yerr=_errors(line),
                capsize=3,
                hatch=("", "//", "..", "xx")[k % 4],
                edgecolor="white",
                **look,
            )
            axes.set_xticks(range(len(y)), [str(x) for x in line["x"]])
    for value, label, style in _marks(chart):
        axes.axhline(value, ls=style, lw=1, color="#555555", label=f"{label} ({value:.3g})")
    if kind == "line" and _logarithmic(chart):
        axes.set_xscale("log")
    if not all(map(_numeric, lines)):
        axes.tick_params(axis="x", rotation=30 if max(len(str(x)) for x in lines[0]["x"]) < 16 else 60, labelsize=8)
        pyplot.setp(axes.get_xticklabels(), ha="right")
    axes.set(title=chart["title"], xlabel=chart["x"], ylabel=chart["y"])
    axes.grid(alpha=0.25)
    figure.legend(fontsize=8, loc="outside right upper")
    figure.savefig(path)
    pyplot.close(figure)


def _html(path: Path, chart: dict[str, Any]) -> None:
    from plotly import graph_objects

    figure = graph_objects.Figure()
    for k, line in enumerate(chart["series"]):
        found = _errors(line)
        error = {"type": "data", "symmetric": False, "array": found[1], "arrayminus": found[0]} if found else None
        look: dict[str, Any] = {
            "name": line["name"],
            "x": line["x"],
            "y": line["y"],
            "marker_color": _COLOURS[k % len(_COLOURS)],
        }
        if chart["kind"] in ("bar", "waterfall"):
            base = _before(chart, line["y"])
            look["y"] = [None if v is None else v - b for v, b in zip(line["y"], base, strict=True)]
            figure.add_bar(error_y=error, base=base, **look)
        else:
            mode = "markers" if chart["kind"] == "scatter" else "lines+markers"
            figure.add_scatter(mode=mode, error_y=error, marker_symbol=k, **look)
    for value, label, style in _marks(chart):
        figure.add_hline(
            value, line_dash={"dotted": "dot", "dashed": "dash", "dashdot": "dashdot"}[style], annotation_text=label
        )
    if chart["kind"] == "line" and _logarithmic(chart):
        figure.update_xaxes(type="log")
    figure.update_layout(title=chart["title"], xaxis_title=chart["x"], yaxis_title=chart["y"], template="plotly_white")
    figure.write_html(path, include_plotlyjs="directory")
