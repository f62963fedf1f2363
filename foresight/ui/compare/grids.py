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
from foresight.ui.cards import HINTS, NAMES, number, shown_scores
from foresight.ui.pictures import wiper
from foresight.ui.services import ImageSource
from foresight.ui.uploads import address

TOWERS: dict[Stage, str] = {"pre-merge": "Vision tower", "post-merge": "Language model"}
REMOVED = '<p class="fs-stale" role="status">The last comparison: the picture was removed.</p>'
# While tiles are made, the two side by side are of the last comparison.
PAIR_STALE = '<span class="fs-pair-stale"></span>'
ACTIONS = (("left", "◧", "Show left"), ("right", "◨", "Show right"), ("inspect", "⤢", "Inspect"))
EMPTY = '<p class="fs-compare-empty">No comparison yet: choose a picture and adapters, then press Compare.</p>'


@dataclass(frozen=True)
class GridTile:
    """A reconstruction in the grid; its image lies in the file at `path`."""

    reconstruction: Reconstruction
    path: str

    @property
    def title(self) -> str:
        """ "post-merge/6 · tokens"; "oracle" and "blank" by their name."""
        record = self.reconstruction.record
        return self.reconstruction.name if record is None else title(record)


@dataclass(eq=False)
class Comparison:
    """One image at many points, as far as it has come.

    Attributes:
        source: Of the image.
        original: The path of the image's file, at the size at which the VLM sees it.
        records: The adapters asked for, in order of depth.
        tiles: Those made so far: oracle, blank page, then one a record.
        start: On the clock of `time.perf_counter`.
        seconds: How long it took; None while it runs.
        left: The title of the tile that was chosen to be on the left; None where nobody chose.
        right: The same of the right.
        pixels: How large the model sees the image, as it was chosen; None as the first adapter was fitted.
        points: Those that were chosen; none for all that the adapters serve.
    """

    source: ImageSource
    original: str
    records: list[AdapterRecord]
    tiles: list[GridTile] = field(default_factory=list)
    start: float = field(default_factory=time.perf_counter)
    seconds: float | None = None
    left: str | None = None
    right: str | None = None
    pixels: str | None = None
    points: Sequence[str] = ()

    def end(self) -> None:
        """Stops the clock; a second time it does nothing."""
        self.seconds = self.seconds or time.perf_counter() - self.start

    @property
    def adapter_tiles(self) -> list[GridTile]:
        """The tiles of adapters, in the order of `records`."""
        return [tile for tile in self.tiles if tile.reconstruction.record is not None]

    @property
    def by_title(self) -> dict[str, GridTile]:
        """The tiles made so far, by their titles."""
        return {tile.title: tile for tile in self.tiles}

    @property
    def sides(self) -> tuple[str, str]:
        """Titles of the tiles that are side by side: the chosen ones where they were made, else first and last."""
        left, right = (side if side in self.by_title else None for side in (self.left, self.right))
        return left or self.adapter_tiles[0].title, right or self.adapter_tiles[-1].title


def title(record: AdapterRecord) -> str:
    """An adapter at its point, in words."""
    return f"{record.point} · {record.name}"


def head(comparison: Comparison) -> str:
    """How far it has come, as a bar and in words, and the link to it."""
    tiles, total = comparison.adapter_tiles, len(comparison.records)
    progress = f"{len(tiles)} of {total} tiles"
    if comparison.seconds is not None:
        progress = f"{'All' if len(tiles) == total else 'Stopped:'} {progress} in {comparison.seconds:.1f} s"
    reasons = [tile.reconstruction.mask_reason for tile in comparison.tiles]
    of_original = next((reason for reason in reasons if reason not in (None, NOT_MEASURABLE)), None)
    note = f" No mask IoU: {escape(of_original)}." if of_original else ""
    if missing := [tile.reconstruction.mask_reason for tile in tiles].count(NOT_MEASURABLE):
        note += f" Mask IoU not measurable in {missing} of {len(tiles)} tiles: {NOT_MEASURABLE}."
    far = sum(tile.reconstruction.unfamiliar for tile in tiles)
    note += f" ⚠ {far} of them unlike what their adapter was trained on." if far else ""
    if notices := [tile.reconstruction.notice for tile in tiles if tile.reconstruction.notice]:
        note += f" ⚠ {len(notices)} of their adapters were {escape(notices[0])}."
    names = list(dict.fromkeys(record.name for record in comparison.records))
    sides = comparison.left, comparison.right
    address = link.compare_query(comparison.source, names, *sides, comparison.pixels, comparison.points)
    return (
        f'<div class="fs-compare-head" data-link="{escape(address)}">'
        f'<progress max="{total}" value="{len(tiles)}" aria-label="tiles made"></progress>'
        f'<p role="status">{progress}.{note} View: {link.link_html(address, comparison.source)}.</p></div>'
    )


def grid(comparison: Comparison) -> str:
    """Original, oracle and blank page; then a table, rows by stage and adapter, columns by layer."""
    records, tiles = comparison.records, comparison.by_title
    ends = [_figure("original", comparison.original, "as the model sees it")]
    ends += [_figure(n, tiles[n].path, _scores(tiles[n].reconstruction)) for n in ("oracle", "blank") if n in tiles]
    layers = sorted({record.point.layer for record in records})
    heads = "".join(f'<th scope="col">layer {layer}</th>' for layer in layers)
    row_keys = list(dict.fromkeys((record.point.stage, record.name) for record in records))
    rows = "".join(_row(stage, name, layers, comparison) for stage in STAGES for s, name in row_keys if s == stage)
    return (
        f'<div class="fs-compare-ends">{"".join(ends)}</div><div class="fs-compare-scroll" tabindex="0">'
        f'<table class="fs-compare-grid" aria-label="What each adapter reads at each layer">'
        f'<thead><tr><th scope="col">stage, adapter</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        '<p class="fs-compare-note">◧ shows a tile left below, ◨ right, ⤢ opens it in Inspect.</p>'
    )


def _row(stage: Stage, name: str, layers: list[int], comparison: Comparison) -> str:
    records = {r.point.layer: r for r in comparison.records if (r.point.stage, r.name) == (stage, name)}
    tiles = comparison.by_title
    cells = "".join(f"<td>{_cell(title(r), tiles.get(title(r))) if (r := records.get(k)) else ''}</td>" for k in layers)
    heading = f"<b>{TOWERS[stage]}</b><span>{stage}</span><span>{escape(name)}</span>"
    return f'<tr><th scope="row">{heading}</th>{cells}</tr>'


def _cell(title: str, tile: GridTile | None) -> str:
    """A tile, or the very room that it will take."""
    if tile is None:
        frame = '<div class="frame" role="img" aria-label="not made yet">…</div>'
        return (
            f'<figure class="waiting">{frame}{_scores(None)}<div class="do"><button disabled>◧</button></div></figure>'
        )
    reconstruction, label = tile.reconstruction, escape(title, quote=True)
    far = '<span class="far">⚠ unlike its training</span>' if reconstruction.unfamiliar else ""
    buttons = "".join(
        f'<button type="button" data-do="{action}" data-tile="{label}" aria-label="{words} {label}" title="{words}">'
        f"{sign}</button>"
        for action, sign, words in ACTIONS
    )
    return (
        f'<figure><img class="frame" src="{address(tile.path)}" alt="{label}">{far}'
        f'{_scores(reconstruction)}<div class="do">{buttons}</div></figure>'
    )


def _figure(name: str, path: str, caption: str) -> str:
    return (
        f'<figure><img class="frame" src="{address(path)}" alt="{name}"><figcaption><b>{name}</b>{caption}'
        "</figcaption></figure>"
    )


def _scores(reconstruction: Reconstruction | None) -> str:
    items = "".join(
        f'<div title="{HINTS[name]}"><dt>{NAMES[name].replace("Mask ", "")}</dt>'
        f"<dd>{_score(reconstruction, name)}</dd></div>"
        for name in shown_scores(None if reconstruction is None else reconstruction.scores)
    )
    return f"<dl>{items}</dl>"


def _score(reconstruction: Reconstruction | None, name: str) -> str:
    if reconstruction is None:
        return "–"
    value = reconstruction.scores[name]
    return (
        f'<abbr title="{escape(reconstruction.mask_reason or "")}">–</abbr>' if value is None else number(name, value)
    )


def pair(comparison: Comparison) -> str:
    """Two tiles, each over the original, under one slider that moves both; empty before any adapter's is made."""
    if not comparison.adapter_tiles:
        return ""
    sides = "".join(
        f'<figure><div class="fs-wipe"><img src="{address(comparison.original)}" alt="original" draggable="false">'
        f'<img class="over" src="{address(tile.path)}" alt="{escape(tile.title)}" draggable="false"><i></i></div>'
        f"<figcaption><b>{escape(tile.title)}</b>{_scores(tile.reconstruction)}</figcaption></figure>"
        for tile in (comparison.by_title[title] for title in comparison.sides)
    )
    return f'<div class="fs-compare-pair">{sides}</div>{wiper("Between original and reconstruction, both sides")}'


# A button in the grid tells what is to be done with which tile.
PICK = """element.addEventListener('click', event => {
  const button = event.target.closest('[data-do]');
  if (button) trigger('click', {do: button.dataset.do, tile: button.dataset.tile});
});"""
