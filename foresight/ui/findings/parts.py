"""The Findings tab's words, tables and charts. What stands in a study may be anybody's, and is escaped here."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from torch import Tensor

from foresight.data.images import to_pil
from foresight.data.scenes import COLORS as OBJECT_COLORS
from foresight.errors import InputError
from foresight.inspection.inspector import Report
from foresight.study import VERDICT_WORDS, Chart, Experiment, Series, Study, Table
from foresight.ui.cards import number
from foresight.ui.findings.study import Pair, Place, picture_path, places
from foresight.ui.image_maps import png
from foresight.ui.plots import COLORS, INK, MARKS, RULE

Openable = Mapping[Place, str]  # the adapter by its point and kind; None is any kind

SIGNS = {"holds": "✓", "does not hold": "✗", "open": "?"}
OBJECT_MARKS = {  # as plotly names them
    "circle": "circle",
    "square": "square",
    "triangle": "triangle-up",
    "star": "star",
    "diamond": "diamond",
    "cross": "cross",
    "bar": "line-ew-open",
    "ring": "circle-open",
}
HATCHES = ("", "/", ".", "x", "\\", "+")
MAX_PICTURE = 3_000_000  # bytes
NONE = (
    '<div class="fs-findings-empty"><p><b>No study yet.</b> Run one, then come back:</p>'
    "<pre>.venv/bin/python -m training experiments c1 --quick --out runs/c1</pre></div>"
)
EXPLAINED = """<div class="fs-findings-why"><h3>Why the kind of adapter decides</h3>
<p>The seed study, which this work starts from, read the <b>mean of all tokens</b>. From that mean the box of a lone
object can still be told, but no picture be painted: the pooled adapter gives the average of much that could be there.
The token adapter reads the <b>same latents at the same point</b> but keeps their grid, and the objects are back, sharp
and in their places: what is missing was in the latents, and was lost in taking the mean. These pictures are made now,
from the same scenes for both.</p>
</div>"""

OTHER_WEIGHTS = (
    "This study was made with other weights than those that are loaded: its numbers are not theirs. "
    "<code>python -m training experiments c1</code> makes one anew."
)
_WORDS = {
    "lpips": "LPIPS",
    "ssim": "SSIM",
    "mask_iou": "mask IoU",
    "box_iou": "box IoU",
    "lpips_pre": "LPIPS before the merger",
    "ssim_pre": "SSIM before it",
    "lpips_post": "LPIPS after it",
    "ssim_post": "SSIM after it",
    "above_0.5": "above 0.5 in",
    "above_0.75": "above 0.75 in",
}


def overview(study: Study, other_weights: bool = False) -> str:
    """What the study is of, and a line for each experiment: the seed's number, what was found, the verdict.

    other_weights: whether it was made with other weights than those that are loaded, which is said then.
    """
    warning = f'<p class="other-weights">{OTHER_WEIGHTS}</p>' if other_weights else ""
    facts = [f"model {study.model}", f"VAE {study.vae}", f"on {study.device}", f"made {study.created}"]
    rows = "".join(
        f'<tr><th scope=row><button type="button" data-experiment="{escape(key)}">{escape(e.title)}</button></th>'
        f"<td>{_seed(e)}</td><td>{escape(e.verdict_reason)}</td><td>{_verdict(e)}</td></tr>"
        for key, e in study.experiments.items()
    )
    return (
        f'<div class="fs-findings-text"><p class="facts">{escape(" · ".join(facts))}</p>{warning}'
        f'<table class="overview"><thead><tr><th scope=col>Experiment</th><th scope=col>Seed study</th>'
        f"<th scope=col>Found here, with 95 % intervals</th><th scope=col>Claim</th></tr></thead><tbody>{rows}</tbody>"
        f"</table>{_list('What to do with it', study.recommendations, opened=True)}"
        f"{_list('Surprises', study.surprises)}{_list('What to bear in mind', study.caveats)}</div>"
    )


def experiment_text(experiment: Experiment, address: str = "") -> str:
    """Question, verdict, the one paragraph, the seed's numbers. address: of this view, for the link to it."""
    return (
        f'<div class="fs-findings-text" data-link="{escape(address)}"><h3>{escape(experiment.title)}</h3>'
        f"<p><i>{escape(experiment.question)}</i></p>"
        f"<p>{_verdict(experiment)} {escape(experiment.verdict_reason)}</p><p>{escape(experiment.paragraph)}</p>"
        f'<p class="facts">The seed study: {_seed(experiment)}. In the charts: dotted, the baseline; '
        "dashed, the oracle; dash-dotted, the seed's target. A click on a point opens it in Inspect, "
        f'where an adapter of its kind is at hand. <a href="{escape(address)}">Link to this view</a>.</p></div>'
    )


def experiment_tables(experiment: Experiment, study: Path) -> str:
    """The images that lie beside the study's file, then the tables, of which the first is open."""
    html = ""
    for picture in experiment.pictures:
        path, title = picture_path(study, picture), escape(picture.title)
        if path and path.stat().st_size <= MAX_PICTURE:
            data = base64.b64encode(path.read_bytes()).decode()
            caption = f"<figcaption>{title}</figcaption>"
            html += f'<figure><img src="data:image/{path.suffix[1:]};base64,{data}" alt="{title}">{caption}</figure>'
    html += "".join(_table(table, opened=k == 0) for k, table in enumerate(experiment.tables))
    return f'<div class="fs-findings-text fs-findings-tables">{html}</div>'


def _table(table: Table, opened: bool) -> str:
    heads = "".join(f"<th scope=col>{escape(c)}</th>" for c in table.columns)
    html = f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(map(_row, table.rows))}</tbody></table>"
    return _folded(table.title, f'<div class="scroll">{html}</div>', opened)


def _folded(title: str, content: str, opened: bool) -> str:
    return f"<details{' open' * opened}><summary>{escape(title)}</summary>{content}</details>"


def _row(row: list[Any]) -> str:
    head, *rest = row or [""]
    return f"<tr><th scope=row>{_cell(head)}</th>{''.join(f'<td>{_cell(value)}</td>' for value in rest)}</tr>"


def _cell(value: Any) -> str:
    """Text, a number, or [mean, low, high]."""
    if isinstance(value, list) and len(value) == 3 and all(isinstance(v, int | float) for v in value):
        mean, low, high = value
        return f"{mean:.3f}<small>{low:.3f} to {high:.3f}</small>"
    if isinstance(value, float):
        return f"{value:.3f}"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else escape(str(value))


def _seed(experiment: Experiment) -> str:
    scores = [f"{_WORDS.get(k, k.replace('_', ' '))} {_cell(v)}" for k, v in experiment.seed.items()]
    return ", ".join(escape(text) for text in scores) or "no number"


def _verdict(experiment: Experiment) -> str:
    verdict = experiment.verdict
    if verdict is None:
        return ""
    return f'<b class="verdict {verdict.replace(" ", "-")}">{SIGNS[verdict]} {VERDICT_WORDS[verdict]}</b>'


def _list(title: str, texts: Iterable[str], opened: bool = False) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return _folded(title, f"<ul>{items}</ul>", opened) if items else ""


def charts_json(experiment: Experiment, openable: Openable) -> str:
    """The charts for charts.js: title, plotly's figure, and what each point of each series opens in Inspect.

    Args:
        experiment: Whose charts.
        openable: The names of the adapters at hand; a point that none of them reads opens nothing.

    Returns:
        JSON [{"title", "figure", "places": for each series [[extraction point, adapter's name] or None, …]}].
    """
    return json.dumps([_chart(chart, openable) for chart in experiment.charts])


def _chart(chart: Chart, openable: Openable) -> dict[str, Any]:
    lines = {"baseline": (chart.baseline, "dot"), "oracle": (chart.oracle, "dash"), "target": (chart.target, "dashdot")}
    marks = [(name, value, dash) for name, (value, dash) in lines.items() if value is not None]
    axis: dict[str, Any] = {"gridcolor": RULE, "linecolor": RULE, "zeroline": False, "automargin": True}
    layout: dict[str, Any] = {
        "height": 400,
        "margin": {"l": 56, "r": 12, "t": 12, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK, "size": 12, "family": "system-ui, sans-serif"},
        "xaxis": {"title": {"text": chart.x}, "type": _kind(chart), **axis},
        "yaxis": {"title": {"text": chart.y}, **axis},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "showlegend": len(chart.series) > 1,
        "dragmode": False,
        "hovermode": "closest",
        "shapes": [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": v, "y1": v, "line": {"color": INK, "dash": dash}}
            for _, v, dash in marks
        ],
        "annotations": [
            {"xref": "paper", "x": 1, "y": v, "text": f"{name} {v:.3g}", "showarrow": False, "yanchor": "bottom"}
            for name, v, _ in marks
        ],
    }
    openings = [[_opened(place, openable) for place in places(chart, series)] for series in chart.series]
    data = [_trace(chart.kind, series, i) for i, series in enumerate(chart.series)]
    return {"title": chart.title, "figure": {"data": data, "layout": layout}, "places": openings}


def _opened(place: Place | None, openable: Openable) -> tuple[str, str] | None:
    return (str(place[0]), openable[place]) if place is not None and place in openable else None


def _kind(chart: Chart) -> str:
    """A logarithmic axis for sizes that grow by factors, such as training scenes; names as they come."""
    every = [x for series in chart.series for x in series.x]
    values = [x for x in every if not isinstance(x, str)]
    if len(values) < len(every):
        return "category"
    return "log" if chart.kind == "line" and values and min(values) > 0 and max(values) > 20 * min(values) else "linear"


def _trace(kind: str, series: Series, i: int) -> dict[str, Any]:
    color, text = COLORS[i % len(COLORS)], "%{x}: %{y:.3f}<extra>" + escape(series.name) + "</extra>"
    trace: dict[str, Any] = {
        "name": escape(series.name).replace(", ", ",<br>"),
        "x": [_safe(x) for x in series.x],
        "y": list(series.y),
    }
    trace["hovertemplate"] = text
    if any(v is not None for v in series.low):
        bars = {"type": "data", "symmetric": False}
        bars |= {"array": _minus(series.high, series.y), "arrayminus": _minus(series.y, series.low)}
        trace["error_y"] = bars | {"color": INK, "thickness": 1.5, "width": 4}
    if kind in ("bar", "waterfall"):
        marker: dict[str, Any] = {"color": color, "pattern": {"shape": HATCHES[i % len(HATCHES)]}}
        return trace | {"type": "bar", "marker": marker}
    if kind == "scatter":
        return trace | {"type": "scatter", "mode": "markers", "marker": {"size": 7, **_dot(series.name, i)}}
    marker = {"color": color, "symbol": MARKS[i % len(MARKS)], "size": 9}
    return trace | {"type": "scatter", "mode": "lines+markers", "marker": marker, "line": {"color": color}}


def _dot(name: str, i: int) -> dict[str, Any]:
    """Objects look like themselves: a "red circle" is one. Other series have a colour and a mark by their number."""
    color, _, shape = name.partition(" ")
    if color in OBJECT_COLORS and shape in OBJECT_MARKS:
        return {"color": "rgb" + str(OBJECT_COLORS[color]), "symbol": OBJECT_MARKS[shape]}
    return {"color": COLORS[i % len(COLORS)], "symbol": MARKS[i % len(MARKS)]}


def _minus(a: list[float | None], b: list[float | None]) -> list[float | None]:
    return [None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)]


def _safe(x: Any) -> Any:
    return x if isinstance(x, int | float) else escape(str(x))


def pair_grid(pair: Pair | None, reports: list[Report], waiting: int) -> str:
    """Original, pooled and tokens of each scene in a row.

    Args:
        pair: Whose reconstructions are taken from the reports; None before there are any.
        reports: Of the scenes so far.
        waiting: Scenes still to come.

    Raises:
        InputError: A report lacks one of the pair.
    """
    rows = "".join(_pair(pair, report) for report in reports) if pair else ""
    rows += '<div class="waiting" aria-hidden="true"></div>' * (3 * waiting)
    heads = "<b>original</b><b>pooled: the mean of all tokens</b><b>tokens: the grid kept</b>"
    where = f"<p>Latents at {reports[0].point}.</p>" if reports else ""
    return f'{where}<div class="fs-findings-pairs">{heads}{rows}</div>'


def _pair(pair: Pair, report: Report) -> str:
    reconstructions = {r.record.folder: r for r in report.reconstructions if r.record}
    figures = [_figure("original", report.original, "")]
    for record in pair:
        if record.folder not in reconstructions:
            raise InputError(f"the adapter {record.name!r} was deleted or renamed meanwhile: show the scenes anew.")
        reconstruction = reconstructions[record.folder]
        scores = [(name, reconstruction.scores[name]) for name in ("lpips", "mask_iou")]
        caption = " · ".join(f"{_WORDS[name]} {number(name, value)}" for name, value in scores if value is not None)
        figures.append(_figure(record.kind, reconstruction.image, caption))
    return "".join(figures)


def _figure(title: str, image: Tensor, caption: str) -> str:
    data = base64.b64encode(png(to_pil(image))).decode()
    tag = f'<img src="data:image/png;base64,{data}" alt="{title} {caption}">'
    return f"<figure>{tag}<figcaption>{caption}&nbsp;</figcaption></figure>"
