"""Charts of the tabs Compare and Failures, as plotly figures. Text takes the page's colour by way of CSS."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from torch import Tensor

from foresight.inspection.evaluation import ImageScores
from foresight.inspection.readout import Reconstruction
from foresight.inspection.tables import Level, own_score
from foresight.metrics.baselines import LOWER_IS_BETTER
from foresight.metrics.matching import CELLS
from foresight.models.points import STAGES, ExtractionPoint
from foresight.ui.cards import NAMES

if TYPE_CHECKING:  # plotly takes a second to import
    from plotly.graph_objects import Figure

# Okabe and Ito's colours, which any kind of colour vision tells apart; each line has a mark of its own besides.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = ("circle", "square", "diamond", "triangle-up", "x", "star")
_ENDS = {"blank": ("floor: blank page", "dot"), "oracle": ("ceiling: oracle", "dash")}
INK, RULE = "#737d89", "rgba(128, 138, 150, 0.25)"
_MOST_BARS = 24  # of a histogram
_CHARTS = ("lpips", "haarpsi", "ssim", "mask_iou", "edge_f1", "psnr")  # scores that have a chart each, in two columns


def depth_chart(tiles: Sequence[Reconstruction]) -> Figure:
    """Each score against depth, a line for each adapter at each stage, between blank page and oracle.

    Of a second image, names end in " · second".
    """
    places = _places({score for tile in tiles for score, value in tile.scores.items() if value is not None})
    figure = _charts(places)
    readings = [(tile.name, tile.record.point, tile.scores) for tile in tiles if tile.record]
    depths = [_short(p) for p in sorted({point for _, point, _ in readings}, key=lambda p: p.depth)]
    names = list(dict.fromkeys(name for name, _, _ in readings))
    in_legend = set()
    for score, (row, column) in places.items():
        for (i, name), stage in product(enumerate(names), STAGES):
            line = [(p, scores[score]) for n, p, scores in readings if (n, p.stage) == (name, stage)]
            if not line:
                continue
            figure.add_scatter(
                x=[_short(point) for point, _ in line],
                y=[value for _, value in line],
                name=name,
                legendgroup=name,
                showlegend=name not in in_legend,
                mode="lines+markers",
                line={"color": COLORS[i % len(COLORS)], "width": 2},
                marker={"symbol": MARKS[i % len(MARKS)], "size": 8},
                hovertemplate=f"%{{x}}, {name}: %{{y:.3f}}<extra></extra>",
                row=row,
                col=column,
            )
            in_legend.add(name)
        for tile in tiles:
            if tile.record is None and (value := tile.scores[score]) is not None:
                end, _, second = tile.name.partition(" · ")
                figure.add_scatter(
                    x=depths,
                    y=[value] * len(depths),
                    name=_ENDS[end][0] + (f", {second}" if second else ""),
                    opacity=0.5 if second else 1,
                    legendgroup=tile.name,
                    showlegend=score == "lpips",
                    mode="lines",
                    line={"color": INK, "width": 1.5, "dash": _ENDS[end][1]},
                    hovertemplate=f"{tile.name}: %{{y:.3f}}<extra></extra>",
                    row=row,
                    col=column,
                )
    figure.update_xaxes(categoryorder="array", categoryarray=depths)
    return _dressed(figure, 260 * _rows(places), legend=True)


def histograms(lines: Sequence[ImageScores]) -> Figure:
    """How often each score occurs, with lines at the means of blank page and oracle.

    A bar's data are the filters that keep its pictures alone, by the names that an address uses.
    """
    places = _places({score for line in lines for score in _CHARTS if own_score(line, score) is not None})
    figure = _charts(places)
    for score, (row, column) in places.items():
        values = [v for line in lines if (v := own_score(line, score)) is not None]
        means: dict[str, float] = {}
        for name in _ENDS:
            known = [v for line in lines if (v := line.scores[name][score]) is not None]
            means |= {name: sum(known) / len(known)} if known else {}
        heights = [*values, *means.values()]
        bars = [bar for bar in _bars(values, least=(max(heights) - min(heights)) / 100) if bar[2]]
        figure.add_bar(
            x=[(low + high) / 2 for low, high, _ in bars],
            y=[count for _, _, count in bars],
            width=[high - low for low, high, _ in bars],
            customdata=[[{"sort": score, "from": f"{low:g}", "to": f"{high:g}"}] for low, high, _ in bars],
            marker={"color": COLORS[0]},
            showlegend=False,
            hovertemplate="%{customdata[0].from} to %{customdata[0].to}: %{y} pictures<extra></extra>",
            row=row,
            col=column,
        )
        ends = [*means.values(), bars[0][0], bars[-1][1]]
        margin = (max(ends) - min(ends)) / 25
        # Of a single bar Plotly would show a range of 1 around it.
        figure.update_xaxes(range=[min(ends) - margin, max(ends) + margin], row=row, col=column)
        for name, mean in means.items():
            figure.add_vline(mean, line={"color": INK, "width": 1.5, "dash": _ENDS[name][1]}, row=row, col=column)
            figure.add_annotation(
                x=mean, y=1, yref="y domain", text=name, showarrow=False, yanchor="bottom", row=row, col=column
            )
    figure.update_yaxes(title="pictures", col=1)
    return _dressed(figure, 230 * _rows(places))


def _bars(values: Sequence[float], least: float) -> list[tuple[float, float, int]]:
    """Ends and number of values of at most _MOST_BARS, between multiples of 1, 2 or 5 times a power of ten.

    least: how wide a bar must be, to be seen.
    """
    low, high = min(values), max(values)
    rough = max((high - low) / (_MOST_BARS - 1), least, 1e-4)  # a bar more, for the ends are rounded outwards
    power = 10 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.floor(low / step)
    counts = Counter(math.floor(value / step) for value in values)
    return [(n * step, (n + 1) * step, counts[n]) for n in range(first, max(counts) + 1)]


def factor_chart(levels: dict[str, list[Level]], title: str) -> Figure:
    """A score's mean at each level of each factor, with 95 % intervals; a point's data are as a bar's of histograms."""
    from plotly.subplots import make_subplots

    present = {factor: known for factor, known in levels.items() if known}
    rows, columns = max(1, -(-len(present) // 3)), min(3, max(1, len(present)))
    titles = [factor.replace("color", "colour") for factor in present]
    figure = make_subplots(rows, columns, subplot_titles=titles, vertical_spacing=0.34 / rows, shared_yaxes="all")
    for i, (factor, known) in enumerate(present.items()):
        figure.add_scatter(
            x=[level.name for level in known],
            y=[level.mean for level in known],
            error_y={
                "array": [0 if level.high is None else level.high - level.mean for level in known],
                "arrayminus": [0 if level.low is None else level.mean - level.low for level in known],
                "color": INK,
                "thickness": 1.5,
                "width": 4,
            },
            customdata=[[{f"only-{factor}": level.name}, _interval_text(level)] for level in known],
            mode="markers",
            marker={"color": COLORS[0], "size": 9},
            showlegend=False,
            hovertemplate="%{x}: %{y:.3f}%{customdata[1]}<extra></extra>",
            row=i // columns + 1,
            col=i % columns + 1,
        )
    figure.update_xaxes(type="category")  # a number of objects is none in between
    figure.update_yaxes(title=title, col=1)
    return _dressed(figure, 280 * rows)


def _interval_text(level: Level) -> str:
    """A level's interval and number of pictures, as text."""
    if level.low is None or level.high is None:
        return ", 1 picture"
    return f" ({level.low:.3f} to {level.high:.3f}), {level.pictures} pictures"


def plane_chart(plane: Tensor, counts: Tensor) -> Figure:
    """The IoU at each place of the picture (CELLS, CELLS) as a heat map: yellow is well, dark is badly read.

    counts: of how many pictures each is.
    """
    from plotly.graph_objects import Figure

    figure = Figure()
    figure.add_heatmap(
        z=[[None if v != v else v for v in row] for row in plane.tolist()],
        customdata=counts.tolist(),
        zmin=0,
        zmax=1,
        colorscale="Cividis",
        colorbar={"title": "IoU", "thickness": 12},
        hovertemplate="IoU %{z:.2f}, n = %{customdata}<extra></extra>",
    )
    _dressed(figure, 420)
    edges = {"constrain": "domain", "showgrid": False, "showticklabels": False, "mirror": True, "linecolor": INK}
    figure.update_xaxes(**edges, range=[-0.5, CELLS - 0.5])
    figure.update_yaxes(**edges, range=[CELLS - 0.5, -0.5], scaleanchor="x")
    return figure


def _places(scores: Collection[str]) -> dict[str, tuple[int, int]]:
    """Row and column of each score's chart; what nothing has gets none, for it would be an empty frame."""
    return {score: (i // 2 + 1, i % 2 + 1) for i, score in enumerate(s for s in _CHARTS if s in scores)}


def _rows(places: dict[str, tuple[int, int]]) -> int:
    return max((row for row, _ in places.values()), default=1)


def _charts(places: dict[str, tuple[int, int]]) -> Figure:
    from plotly.subplots import make_subplots

    units = {"psnr": ", dB"}
    titles = [f"{NAMES[score]}{units.get(score, '')} {'↓' if score in LOWER_IS_BETTER else '↑'}" for score in places]
    rows = _rows(places)
    cells: list[list[dict[str, str] | None]] = [
        [{} if (row, column) in places.values() else None for column in (1, 2)] for row in range(1, rows + 1)
    ]
    spacing = {"vertical_spacing": 0.4 / rows, "horizontal_spacing": 0.1}
    return make_subplots(rows, 2, specs=cells, subplot_titles=titles, **spacing)


def _short(point: ExtractionPoint) -> str:
    """ "pre 6": fits under an axis."""
    return f"{point.stage.removesuffix('-merge')} {point.layer}"


def _dressed(figure: Figure, height: int, legend: bool = False) -> Figure:
    clear: Any = "rgba(0, 0, 0, 0)"
    figure.update_layout(
        template=None,
        height=height,
        margin={"l": 52, "r": 12, "t": 50, "b": 44},
        paper_bgcolor=clear,
        plot_bgcolor=clear,
        font={"color": INK, "size": 12, "family": "system-ui, sans-serif"},
        showlegend=legend,
        legend={"orientation": "h", "y": -0.12, "x": 0},
        bargap=0.05,
        dragmode=False,
    )
    figure.update_annotations(font={"size": 12})
    figure.update_xaxes(gridcolor=RULE, linecolor=RULE, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=RULE, linecolor=RULE, zeroline=False, automargin=True)
    return figure
