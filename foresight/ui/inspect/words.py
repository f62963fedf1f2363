"""A result in one plain line: what of the picture survives, from scores that anybody may look up below it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from foresight.inspection.inspector import Report
from foresight.ui.cards import explained

GRID = 8  # cells a side, in which colours are compared
# From where on something survives, and from where on it is worse but there: set by eye on the page's examples, read
# at every depth. Colours: mean absolute difference of the cells, of 1.
COLOURS, SHAPES, OUTLINES, TEXTURE = (0.025, 0.06), (0.95, 0.8), (0.85, 0.5), (0.8, 0.6)
_RULE = f"""Colours: mean difference over {GRID} × {GRID} cells, {COLOURS[0]} and {COLOURS[1]}. Shapes: mask IoU,
{SHAPES[0]} and {SHAPES[1]}. Outlines: edge F1, {OUTLINES[0]} and {OUTLINES[1]}. Fine texture: HaarPSI, {TEXTURE[0]}
and {TEXTURE[1]}."""


def in_words(report: Report) -> str:
    """The line as HTML, which opens the rule."""
    scores = report.chosen.scores
    parts = [
        _grade("Colours", -colour_difference(report.original, report.chosen.image), -COLOURS[0], -COLOURS[1], "drift")
    ]
    if (shapes := scores["mask_iou"]) is not None:
        parts.append(_grade("shapes", shapes, *SHAPES, "are rough"))
    elif (outlines := scores["edge_f1"]) is not None:
        parts.append(_grade("outlines", outlines, *OUTLINES, "are soft"))
    if (texture := scores["haarpsi"]) is not None:
        parts.append(_grade("fine texture", texture, *TEXTURE, "is blurred", "survives", "is lost"))
    line = "; ".join(parts) + "."
    return f'<p class="fs-words">{explained("hint-words", line, _RULE)}</p>'


def colour_difference(original: Tensor, image: Tensor) -> float:
    """Mean absolute difference of two pictures' (3, H, W) colours, each averaged over the cells of a grid."""
    cells = F.adaptive_avg_pool2d(original, GRID) - F.adaptive_avg_pool2d(image, GRID)  # (3, GRID, GRID)
    return float(cells.abs().mean())


def _grade(
    what: str, value: float, good: float, fair: float, worse: str, kept: str = "survive", lost: str = "are lost"
) -> str:
    return f"{what} {kept if value >= good else worse if value >= fair else lost}"
