"""The model as a small drawing: vision tower, merger, language model, and where latents are taken."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from foresight.points import STAGES, ExtractionPoint

WIDTH, LEFT, RIGHT = 360, 6, 354  # user units, about one pixel each
CELL = 20  # height of a layer's cell
_ROWS = {"pre-merge": ("Vision tower", 34), "post-merge": ("Language model", 116)}  # title, top of the cells


def diagram(points: Sequence[ExtractionPoint], served: Collection[ExtractionPoint], here: ExtractionPoint) -> str:
    """An SVG of every layer in `points`, a dot under those that adapters serve, a pointer at `here`.

    Each cell carries data-point, so that a click on it can choose the point.
    """
    told = f"The model: vision tower, merger, language model. Latents are taken at {here}."
    rows = "".join(_row(stage, [p for p in points if p.stage == stage], served, here) for stage in STAGES)
    return (
        f'<svg class="fs-diagram" viewBox="0 0 {WIDTH} 172" role="img" aria-label="{told}">'
        f"{rows}"
        f'<text class="part" x="{WIDTH / 2}" y="86" text-anchor="middle">↓ 2 × 2 merger ↓</text>'
        f'<text class="key" x="{LEFT}" y="168">▼ latents are taken here'
        '<tspan dx="18">● adapters at hand</tspan></text></svg>'
    )


def _row(stage: str, points: list[ExtractionPoint], served: Collection[ExtractionPoint], here: ExtractionPoint) -> str:
    title, top = _ROWS[stage]
    step = (RIGHT - LEFT) / len(points)
    gap = 3 if step > 12 else 1
    parts = [
        f'<text class="title" x="{LEFT}" y="{top - 16}">{title}</text>',
        f'<text class="stage" x="{RIGHT}" y="{top - 16}" text-anchor="end">{stage}</text>',
    ]
    for i, point in enumerate(points):
        x, middle = LEFT + i * step, LEFT + (i + 0.5) * step
        chosen = " here" if point == here else ""
        mark = " (adapters at hand)" if point in served else ""
        parts.append(
            f'<g data-point="{point}"><title>{point}{mark}</title>'
            f'<rect class="cell{chosen}" x="{x + gap / 2:.1f}" y="{top}" rx="2" '
            f'width="{step - gap:.1f}" height="{CELL}"/>'
            f"{_number(point, middle, top, step, chosen)}</g>"
        )
        if point in served:
            parts.append(f'<circle class="dot" cx="{middle:.1f}" cy="{top + CELL + 7}" r="{min(2.6, step / 3):.1f}"/>')
        if chosen:
            parts.append(f'<path class="pointer" d="M{middle:.1f} {top - 2}l-5 -8h10z"/>')
    return "".join(parts)


def _number(point: ExtractionPoint, x: float, top: int, step: float, chosen: str) -> str:
    """A layer's number, where there is room for it."""
    if step < 16:
        return ""
    return f'<text class="number{chosen}" x="{x:.1f}" y="{top + 14}" text-anchor="middle">{point.layer}</text>'
