"""The Compare tab's pictures as HTML: the grid of tiles, and two of them side by side under one slider."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape

from foresight.adapters.registry import AdapterRecord
from foresight.inspection.familiarity import READ_WRONG
from foresight.inspection.readout import Reconstruction
from foresight.metrics.masks import NOT_MEASURABLE
from foresight.models.points import STAGES, Stage
from foresight.ui import view_link as link
from foresight.ui.cards import HINTS, NAMES, number, shown_scores
from foresight.ui.pictures import wiper
from foresight.ui.services import ImageSource
from foresight.ui.uploads import address

TOWERS: dict[Stage, str] = {"pre-merge": "Vision tower", "post-merge": "Language model"}
SECOND = " · second"  # behind the title of a tile of the second picture
REMOVED = '<p class="fs-stale" role="status">The last comparison: the picture was removed.</p>'
FROM_INSPECT = '<p class="fs-compare-note" role="status">This is the picture of Inspect; choose another one above.</p>'
# While tiles are made, the two side by side are of the last comparison.
PAIR_STALE = '<span class="fs-pair-stale"></span>'
Actions = Sequence[tuple[str, str, str]]
ACTIONS: Actions = (("left", "◧", "Show left"), ("right", "◨", "Show right"), ("inspect", "⤢", "Inspect"))
ACTIONS_OF_TWO: Actions = (("both", "◫", "Show both pictures at"), ("inspect", "⤢", "Inspect"))
EMPTY = '<p class="fs-compare-empty">No comparison yet: choose a picture and adapters, then press Compare.</p>'


@dataclass(frozen=True)
class GridTile:
    """A reconstruction in the grid; its image lies in the file at `path`, what it is of in that at `original`."""

    reconstruction: Reconstruction
    path: str
    original: str
    second: bool = False

    @property
    def title(self) -> str:
        """ "post-merge/6 · tokens"; "oracle" and "blank" by their name."""
        record = self.reconstruction.record
        if record is None:
            return self.named.name
        return title(record, self.second)

    @property
    def named(self) -> Reconstruction:
        """The reconstruction by a name that tells of which image it is."""
        return replace(self.reconstruction, name=self.reconstruction.name + SECOND * self.second)


@dataclass(eq=False)
class ComparedImage:
    """One of the compared images, as far as it has come.

    Attributes:
        source: Its own.
        original: The path of its file, at the size at which the VLM sees it.
        second: Whether it is the second one.
        tiles: Those made so far: oracle, blank page, then one a record.
    """

    source: ImageSource
    original: str
    second: bool = False
    tiles: list[GridTile] = field(default_factory=list)

    @property
    def place(self) -> str:
        """In words."""
        return "second" if self.second else "first"

    def add(self, reconstruction: Reconstruction, path: str) -> None:
        """Adds a tile, whose image lies in the file at `path`."""
        self.tiles.append(GridTile(reconstruction, path, self.original, self.second))


@dataclass(eq=False)
class Comparison:
    """One image at many points, or two images, as far as they have come.

    Attributes:
        images: The one, or the two.
        records: The adapters asked for, in order of depth.
        start: On the clock of `time.perf_counter`.
        seconds: How long it took; None while it runs.
        left: The title of the tile that was chosen to be on the left; None where nobody chose.
        right: The same of the right.
        pixels: How large the model sees the images, as it was chosen; None as the first adapter was fitted.
        points: Those that were chosen; none for all that the adapters serve.
    """

    images: list[ComparedImage]
    records: list[AdapterRecord]
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
    def sources(self) -> list[ImageSource]:
        """Of the image, or of both."""
        return [image.source for image in self.images]

    @property
    def tiles(self) -> list[GridTile]:
        """All that are made so far."""
        return [tile for image in self.images for tile in image.tiles]

    @property
    def adapter_tiles(self) -> list[GridTile]:
        """The tiles of adapters, in the order of `records`, those of the first image first."""
        return [tile for tile in self.tiles if tile.reconstruction.record is not None]

    @property
    def by_title(self) -> dict[str, GridTile]:
        """The tiles made so far, by their titles."""
        return {tile.title: tile for tile in self.tiles}

    @property
    def sides(self) -> tuple[str, str]:
        """Titles of the tiles that are side by side: the chosen ones where they were made.

        Else first and last, and of two images both by the adapter at which they differ most.
        """
        usual = self.adapter_tiles[0].title, self.adapter_tiles[-1].title
        if pairs := self._pairs():
            first, second = max(pairs, key=lambda pair: abs(_lpips(pair[0]) - _lpips(pair[1])))
            usual = first.title, second.title
        chosen = (side if side in self.by_title else None for side in (self.left, self.right))
        left, right = (side or other for side, other in zip(chosen, usual, strict=True))
        return left, right

    def _pairs(self) -> list[tuple[GridTile, GridTile]]:
        """Of two images, the tiles of the same adapter at the same point."""
        by_title = self.by_title
        pairs = ((tile, by_title.get(tile.title + SECOND)) for tile in self.adapter_tiles)
        return [(tile, other) for tile, other in pairs if other]


def title(record: AdapterRecord, second: bool = False) -> str:
    """An adapter at its point, in words."""
    return f"{record.point} · {record.name}" + SECOND * second


def _lpips(tile: GridTile) -> float:
    value = tile.reconstruction.scores["lpips"]
    assert value is not None  # every image has one
    return value


def head(comparison: Comparison) -> str:
    """How far it has come, as a bar and in words, and the link to it."""
    tiles, total = comparison.adapter_tiles, len(comparison.records) * len(comparison.images)
    progress = f"{len(tiles)} of {total} tiles"
    if comparison.seconds is not None:
        progress = f"{'All' if len(tiles) == total else 'Stopped:'} {progress} in {comparison.seconds:.1f} s"
    note = ""
    for image in comparison.images:
        reasons = [tile.reconstruction.mask_reason for tile in image.tiles]
        of_original = next((reason for reason in reasons if reason not in (None, NOT_MEASURABLE)), None)
        which = f" of the {image.place} picture" if len(comparison.images) > 1 else ""
        note += f" No mask IoU{which}: {escape(of_original)}." if of_original else ""
    if missing := [tile.reconstruction.mask_reason for tile in tiles].count(NOT_MEASURABLE):
        note += f" Mask IoU not measurable in {missing} of {len(tiles)} tiles: {NOT_MEASURABLE}."
    far = sum(tile.reconstruction.unfamiliar for tile in tiles)
    note += f" ⚠ {far} of them unlike what their adapter was trained on." if far else ""
    if notices := [tile.reconstruction.notice for tile in tiles if tile.reconstruction.notice]:
        note += f" ⚠ {len(notices)} of their adapters were {escape(notices[0])}."
    names = list(dict.fromkeys(record.name for record in comparison.records))
    sides = comparison.left, comparison.right
    source, *second = comparison.sources
    address = link.compare_query(source, names, *sides, comparison.pixels, comparison.points, *second)
    return (
        f'<div class="fs-compare-head" data-link="{escape(address)}">'
        f'<progress max="{total}" value="{len(tiles)}" aria-label="tiles made"></progress>'
        f'<p role="status">{progress}.{note} View: {link.link_html(address, *comparison.sources)}.</p></div>'
    )


def grid(comparison: Comparison) -> str:
    """Original, oracle and blank page; then a table, rows by stage, adapter and image, columns by layer."""
    records = comparison.records
    layers = sorted({record.point.layer for record in records})
    heads = "".join(f'<th scope="col">layer {layer}</th>' for layer in layers)
    row_keys = list(dict.fromkeys((record.point.stage, record.name) for record in records))
    rows = "".join(
        _row(stage, name, layers, image, comparison)
        for stage in STAGES
        for s, name in row_keys
        if s == stage
        for image in comparison.images
    )
    note = "◧ shows a tile left below, ◨ right, ⤢ opens it in Inspect."
    if len(comparison.images) > 1:
        note = "◫ shows both pictures below as this adapter reads them, ⤢ opens one in Inspect."
    return (
        f'<div class="fs-compare-ends">{"".join(map(_ends, comparison.images))}</div>{verdict(comparison)}'
        '<div class="fs-compare-scroll" tabindex="0">'
        f'<table class="fs-compare-grid" aria-label="What each adapter reads at each layer">'
        f'<thead><tr><th scope="col">stage, adapter</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="fs-compare-note">{note}</p>'
    )


def verdict(comparison: Comparison) -> str:
    """Of two images, once all tiles are made: where each adapter does not read them wrong, by `familiarity`'s bar."""
    images, records = comparison.images, comparison.records
    if len(images) == 1 or len(comparison.adapter_tiles) < len(images) * len(records):
        return ""
    lines = []
    for name in dict.fromkeys(record.name for record in records):
        by_image = [
            [tile.reconstruction for tile in image.tiles if tile.reconstruction.name == name] for image in images
        ]
        first, second = map(_where, by_image)
        lines.append(f"<b>{escape(name)}</b>: the first picture {first}, the second {second}.")
    rule = f"Beyond {READ_WRONG} a picture counts as read wrong; within it, details may still be lost."
    return f'<p class="fs-compare-verdict">LPIPS of at most {READ_WRONG}, by {" ".join(lines)} <span>{rule}</span></p>'


def _where(depths: Sequence[Reconstruction]) -> str:
    """At which points of a growing depth an image is not read wrong."""
    right = [str(one.record.point) for one in depths if one.record and one.is_right]
    if len(right) in (0, len(depths)):
        return "at every layer" if right else "at none"
    if all(one.is_right for one in depths[: len(right)]):
        return f"up to {right[-1]} and no deeper"
    return f"at {len(right)} of {len(depths)} layers: {', '.join(right)}"


def _ends(image: ComparedImage) -> str:
    which = " (second)" if image.second else ""
    figures = [_figure(f"original{which}", image.original, "as the model sees it")]
    for tile in image.tiles:
        if tile.reconstruction.record is None:
            figures.append(_figure(tile.reconstruction.name + which, tile.path, _scores(tile.reconstruction)))
    return f"<div>{''.join(figures)}</div>"


def _row(stage: Stage, name: str, layers: list[int], image: ComparedImage, comparison: Comparison) -> str:
    records = {r.point.layer: r for r in comparison.records if (r.point.stage, r.name) == (stage, name)}
    tiles, two = {tile.title: tile for tile in image.tiles}, len(comparison.images) > 1

    def cell(record: AdapterRecord) -> str:
        name = title(record, image.second)
        return _cell(name, tiles.get(name), ACTIONS_OF_TWO if two else ACTIONS)

    cells = "".join(f"<td>{cell(r) if (r := records.get(layer)) else ''}</td>" for layer in layers)
    which = f"<i>{image.place} picture</i>" if two else ""
    heading = f"<b>{TOWERS[stage]}</b><span>{stage}</span><span>{escape(name)}</span>{which}"
    return f'<tr><th scope="row">{heading}</th>{cells}</tr>'


def _cell(title: str, tile: GridTile | None, actions: Actions) -> str:
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
        for action, sign, words in actions
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
    """Two tiles, each over its original, under one slider that moves both; empty before any adapter's is made."""
    if not comparison.adapter_tiles:
        return ""
    sides = "".join(
        f'<figure><div class="fs-wipe"><img src="{address(tile.original)}" alt="original" draggable="false">'
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
