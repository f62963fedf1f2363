"""The model as a small drawing: vision tower, merger, language model, and where latents are taken."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from foresight.models.points import STAGES, ExtractionPoint

WIDTH, LEFT, RIGHT = 360, 6, 354  # user units, about one pixel each
HEIGHT = 174
CELL = 22  # height of a layer's cell
FINGER = 54  # of what takes a click on it, cell in the middle: 44 px on a phone
_ROWS = {"pre-merge": ("Vision tower", 28), "post-merge": ("Language model", 114)}  # title, top of the cells


def diagram(points: Sequence[ExtractionPoint], served: Collection[ExtractionPoint], here: ExtractionPoint) -> str:
    """An SVG of every layer in `points`, a dot under those that adapters serve, a pointer at `here`.

    Each cell is a button that carries data-point, so that a click or a key can choose the point; Tab reaches the
    chosen one.
    """
    label = f"The model: vision tower, merger, language model. Latents are taken at {here}."
    rows = "".join(_row(stage, [p for p in points if p.stage == stage], served, here) for stage in STAGES)
    return (
        f'<svg class="fs-diagram" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="{label}">'
        f'<path class="road" d="M{LEFT} 76h{RIGHT - LEFT}"/>'
        f'<text class="part" x="{WIDTH / 2}" y="80" text-anchor="middle">2 × 2 merger</text>{rows}'
        f'<text class="key" x="{LEFT}" y="{HEIGHT - 6}">▼ latents are taken here'
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
            f'<g data-point="{point}" role="button" aria-pressed="{"true" if chosen else "false"}" '
            f'tabindex="{0 if chosen else -1}" aria-label="{point}{mark}"><title>{point}{mark}</title>'
            f'<rect class="finger" x="{x:.1f}" y="{top - (FINGER - CELL) / 2}" width="{step:.1f}" height="{FINGER}"/>'
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
    return f'<text class="number{chosen}" x="{x:.1f}" y="{top + 15}" text-anchor="middle">{point.layer}</text>'
