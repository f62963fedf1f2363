"""The Compare tab's pictures as HTML: the grid of tiles, and two of them side by side under one slider."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from foresight.adapters.registry import AdapterRecord
from foresight.inspection.readout import Reconstruction
from foresight.metrics.masks import NOT_MEASURABLE
from foresight.models.points import STAGES, Stage
from foresight.ui import view_link as link
from foresight.ui.cards import HINTS, NAMES, number
from foresight.ui.navigation import ImageSource
from foresight.ui.uploads import address

TOWERS: dict[Stage, str] = {"pre-merge": "Vision tower", "post-merge": "Language model"}
REMOVED = '<p class="fs-stale" role="status">The last comparison: the picture was removed.</p>'
# While tiles are made, the two side by side are of the last comparison.
PAIR_STALE = '<span class="fs-pair-stale"></span>'
EMPTY = '<p class="fs-compare-empty">No comparison yet: choose a picture and adapters, then press Compare.</p>'


@dataclass(frozen=True)
class Shown:
    """A tile on the page: its picture lies in a file."""

    tile: Reconstruction
    path: str

    @property
    def title(self) -> str:
        """ "post-merge/6 · tokens"; "oracle" and "blank" by their name."""
        return self.tile.name if self.tile.record is None else title(self.tile.record)


@dataclass(eq=False)
class Sheet:
    """One comparison as far as it has come: a case, its picture's file, the adapters asked for, the tiles made.

    left, right: titles of the tiles that were chosen to be side by side; None where nobody chose.
    """

    case: ImageSource
    original: str
    records: list[AdapterRecord]
    shown: list[Shown] = field(default_factory=list)
    start: float = field(default_factory=time.perf_counter)
    seconds: float | None = None  # None while it runs
    left: str | None = None
    right: str | None = None

    def end(self) -> None:
        """Stops the clock; a second time it does nothing."""
        self.seconds = self.seconds or time.perf_counter() - self.start

    @property
    def read(self) -> list[Shown]:
        """The tiles that adapters made, in the order of `records`."""
        return [shown for shown in self.shown if shown.tile.record is not None]

    @property
    def sides(self) -> tuple[str, str]:
        """Titles of the tiles that are side by side: the chosen ones where they were made, else first and last."""
        titles = {shown.title for shown in self.shown}
        left = self.left if self.left in titles else None
        right = self.right if self.right in titles else None
        return left or self.read[0].title, right or self.read[-1].title


def title(record: AdapterRecord) -> str:
    """An adapter at its point, in words."""
    return f"{record.point} · {record.name}"


def head(sheet: Sheet) -> str:
    """How far it has come, as a bar and in words."""
    done, total = len(sheet.read), len(sheet.records)
    told = f"{done} of {total} tiles"
    if sheet.seconds is not None:
        told = f"{'All' if done == total else 'Stopped:'} {told} in {sheet.seconds:.1f} s"
    reasons = [shown.tile.mask_reason for shown in sheet.shown]
    of_original = next((reason for reason in reasons if reason not in (None, NOT_MEASURABLE)), None)
    note = f" No mask IoU: {escape(of_original)}." if of_original else ""
    if missing := [shown.tile.mask_reason for shown in sheet.read].count(NOT_MEASURABLE):
        note += f" Mask IoU not measurable in {missing} of {done} tiles: {NOT_MEASURABLE}."
    far = sum(shown.tile.distance > shown.tile.far for shown in sheet.read)
    note += f" ⚠ {far} of them unlike what their adapter was trained on." if far else ""
    names = list(dict.fromkeys(record.name for record in sheet.records))
    view = link.compare_query(sheet.case, names, sheet.left, sheet.right)
    shared = link.link_html(view, sheet.case)
    return (
        f'<div class="fs-compare-head" data-link="{escape(view)}">'
        f'<progress max="{total}" value="{done}" aria-label="tiles made"></progress>'
        f'<p role="status">{told}.{note} View: {shared}.</p></div>'
    )


def grid(sheet: Sheet) -> str:
    """Original, oracle and blank page; then a table, rows by stage and adapter, columns by layer."""
    made = {shown.title: shown for shown in sheet.shown}
    ends = [_figure("original", sheet.original, "as the model sees it")]
    ends += [_figure(n, made[n].path, _scores(made[n].tile)) for n in ("oracle", "blank") if n in made]
    layers = sorted({record.point.layer for record in sheet.records})
    heads = "".join(f'<th scope="col">layer {layer}</th>' for layer in layers)
    wanted = {(e.point.stage, e.name): e for e in sheet.records}
    rows = "".join(
        _row(stage, name, layers, sheet.records, made) for stage in STAGES for s, name in wanted if s == stage
    )
    return (
        f'<div class="fs-compare-ends">{"".join(ends)}</div><div class="fs-compare-scroll" tabindex="0">'
        f'<table class="fs-compare-grid" aria-label="What each adapter reads at each layer">'
        f'<thead><tr><th scope="col">stage, adapter</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        '<p class="fs-compare-note">◧ shows a tile left below, ◨ right, ⤢ opens it in Inspect.</p>'
    )


def _row(stage: Stage, name: str, layers: list[int], records: Sequence[AdapterRecord], made: dict[str, Shown]) -> str:
    here = {e.point.layer: e for e in records if (e.point.stage, e.name) == (stage, name)}
    cells = "".join(f"<td>{_cell(here[k], made) if k in here else ''}</td>" for k in layers)
    told = f"<b>{TOWERS[stage]}</b><span>{stage}</span><span>{escape(name)}</span>"
    return f'<tr><th scope="row">{told}</th>{cells}</tr>'


def _cell(record: AdapterRecord, made: dict[str, Shown]) -> str:
    """A tile, or the very room that it will take."""
    name = title(record)
    if name not in made:
        frame = '<div class="frame" role="img" aria-label="not made yet">…</div>'
        return (
            f'<figure class="waiting">{frame}{_scores(None)}<div class="do"><button disabled>◧</button></div></figure>'
        )
    shown, label = made[name], escape(name, quote=True)
    far = '<span class="far">⚠ unlike its training</span>' if shown.tile.distance > shown.tile.far else ""
    buttons = "".join(
        f'<button type="button" data-do="{do}" data-tile="{label}" aria-label="{told} {label}" title="{told}">{sign}'
        "</button>"
        for do, sign, told in (("left", "◧", "Show left"), ("right", "◨", "Show right"), ("inspect", "⤢", "Inspect"))
    )
    return (
        f'<figure><img class="frame" src="{address(shown.path)}" alt="{label}">{far}'
        f'{_scores(shown.tile)}<div class="do">{buttons}</div></figure>'
    )


def _figure(name: str, path: str, told: str) -> str:
    return (
        f'<figure><img class="frame" src="{address(path)}" alt="{name}"><figcaption><b>{name}</b>{told}'
        "</figcaption></figure>"
    )


def _scores(tile: Reconstruction | None) -> str:
    items = "".join(
        f'<div title="{HINTS[name]}"><dt>{NAMES[name].replace("Mask ", "")}</dt><dd>{_score(tile, name)}</dd></div>'
        for name in NAMES
    )
    return f"<dl>{items}</dl>"


def _score(tile: Reconstruction | None, name: str) -> str:
    if tile is None:
        return "–"
    value = tile.scores[name]
    return f'<abbr title="{escape(tile.mask_reason or "")}">–</abbr>' if value is None else number(name, value)


def pair(sheet: Sheet) -> str:
    """Two tiles, each over the original, under one slider that moves both; empty before any adapter's is made."""
    if not sheet.read:
        return ""
    made = {shown.title: shown for shown in sheet.shown}
    sides = "".join(
        f'<figure><div class="frame"><img src="{address(sheet.original)}" alt="original" draggable="false">'
        f'<img class="over" src="{address(shown.path)}" alt="{escape(shown.title)}" draggable="false"><i></i></div>'
        f"<figcaption><b>{escape(shown.title)}</b>{_scores(shown.tile)}</figcaption></figure>"
        for shown in (made[title] for title in sheet.sides)
    )
    return (
        f'<div class="fs-compare-pair">{sides}</div><label class="fs-compare-slide"><span>◀ original</span>'
        '<input type="range" min="0" max="100" value="50" aria-label="Between original and reconstruction, both sides">'
        "<span>reconstruction ▶</span></label>"
    )


# One line stands in both pictures, where the slider is: dragged there, in a picture, or moved by the keyboard.
SLIDE = """
const place = value => {
  element.style.setProperty('--at', value + '%');
  const slider = element.querySelector('input[type=range]');
  if (slider) slider.value = value;
};
const drag = event => {
  const frame = event.target.closest('.fs-compare-pair .frame');
  if (!frame || !(event.buttons & 1)) return;
  const box = frame.getBoundingClientRect();
  place(Math.round(100 * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width))));
};
let at = 50;
element.addEventListener('input', event => { at = event.target.value; place(at); });
element.addEventListener('pointerdown', drag);
element.addEventListener('pointermove', drag);
watch('value', () => place(parseInt(element.style.getPropertyValue('--at')) || 50));
place(at);
"""

# A button in the grid tells what is to be done with which tile.
PICK = """element.addEventListener('click', event => {
  const button = event.target.closest('[data-do]');
  if (button) trigger('click', {do: button.dataset.do, tile: button.dataset.tile});
});"""
