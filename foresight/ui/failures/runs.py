"""One evaluation in the app: its images, their scores so far, and the files that it gives."""

from __future__ import annotations

import functools
import io
import secrets
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gradio.components import Component

from foresight.adapters.registry import AdapterRecord
from foresight.data.archive import Broken
from foresight.data.factors import MAX_SCENES, EvaluationSettings
from foresight.data.images import to_pil
from foresight.data.names import shortened
from foresight.data.resolution import DEFAULT, Resolution
from foresight.data.sources import folder_files
from foresight.errors import InputError
from foresight.inspection.evaluation import (
    Evaluated,
    ImageScores,
    Sample,
    file_samples,
    scene_samples,
    scenes_as_json,
    summarise,
)
from foresight.inspection.tables import as_csv, as_json, ordered, own_score, write_zip
from foresight.metrics.scores import SCORES
from foresight.recent import Recent
from foresight.settings import Settings
from foresight.ui.failures import filters
from foresight.ui.failures.filters import Values
from foresight.ui.image_maps import png
from foresight.ui.navigation import Selection
from foresight.ui.notes import Notes, key_of
from foresight.ui.pixels import FITTED
from foresight.ui.services import ImageSource
from foresight.ui.uploads import handed_in, keep, keep_picture

PUBLIC_MOST = 64  # images; about eight seconds of two CPU cores, for which other batches wait


@dataclass(frozen=True)
class ImageSet:
    """The images of one evaluation.

    Attributes:
        samples: They, or why a file is none.
        total: How many.
        data: Where they come from, as JSON values.
        settings: Of scenes; None for other images.
        again: Whether the settings alone make these very images again.
    """

    samples: Iterable[Sample | Broken]
    total: int
    data: dict[str, Any]
    settings: EvaluationSettings | None = None
    again: bool = True


def most_images(app: Settings) -> int:
    """How many scenes one evaluation may take, and in a public app how many other images."""
    return PUBLIC_MOST if app.public else MAX_SCENES


def check_count(app: Settings, count: int) -> None:
    """Raises InputError for more images than strangers may evaluate at a time."""
    if app.public and count > PUBLIC_MOST:
        raise InputError(f"this app is open to everybody: it takes {PUBLIC_MOST} pictures at a time, and no more.")


def scene_set(app: Settings, settings: EvaluationSettings, resolution: Resolution = DEFAULT) -> ImageSet:
    """Generated scenes of the test split. Raises InputError."""
    check_count(app, settings.scenes)
    drawn_from = settings.scenes, settings.seed, settings.factors.spec()
    data = scenes_as_json(*drawn_from) | {"pixels": str(resolution)}
    return ImageSet(scene_samples(*drawn_from, resolution), settings.scenes, data, settings)


def uploaded_set(
    app: Settings, paths: Sequence[str] | None, keeper: Component, resolution: Resolution = DEFAULT
) -> ImageSet:
    """Uploaded files, and those in uploaded archives. Raises InputError."""
    files = handed_in(paths, keeper, functools.partial(check_count, app))
    data = {"files": [Path(path).name for path in paths or ()], "pixels": str(resolution)}
    return ImageSet(file_samples(files, resolution), len(files), data)


def chosen_set(app: Settings, selection: Selection | None, resolution: Resolution = DEFAULT) -> ImageSet:
    """Pictures that were chosen on the latent map. Raises InputError."""
    if selection is None:
        raise InputError("choose points on the latent map first.")
    check_count(app, selection.total)
    data = selection.data | {"pixels": str(resolution)}
    return ImageSet(selection.samples(resolution), selection.total, data, selection.settings, again=False)


def folder_set(folder: str, resolution: Resolution = DEFAULT) -> ImageSet:
    """The images in a folder of this machine. Raises InputError."""
    files = folder_files(folder.strip())
    data = {"folder": folder.strip(), "pixels": str(resolution)}
    return ImageSet(file_samples(files, resolution), len(files), data)


@dataclass(frozen=True)
class Row:
    """An evaluated image: its number, its scores, the files of original and reconstruction, and its note's key."""

    number: int
    scores: ImageScores
    original: str
    reconstruction: str
    key: str = ""


@dataclass(frozen=True)
class Beside:
    """Another adapter's evaluation of some of the same pictures: its title, and its rows by their keys."""

    title: str
    rows: Mapping[str, Row]

    def gain(self, row: Row, score: str) -> float | None:
        """How far a score is above the other adapter's; None where one of them is not known."""
        other, own_value = self.rows.get(row.key), own_score(row.scores, score)
        other_score = None if other is None else own_score(other.scores, score)
        return None if own_value is None or other_score is None else own_value - other_score


@dataclass(eq=False)
class Run:
    """One evaluation so far; what is evaluated stays, also after a stop."""

    record: AdapterRecord
    images: ImageSet
    filters: Values = tuple(filters.FILTERS.values())
    """As they are on the page now."""
    rows: list[Row] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    start: float = field(default_factory=time.perf_counter)
    seconds: float | None = None
    """How long it took; None while it runs."""
    pixels: str = FITTED
    """How large the model sees images, as it was chosen."""
    replaced: bool = False
    """Another evaluation is shown in its place: it ends after the image that is being evaluated."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    """Names it in its link."""
    notes: Notes = field(default_factory=Notes)
    """Of its pictures, and of others."""
    others: list[Run] = field(default_factory=list)
    """Evaluations of the same pictures by other adapters."""

    @property
    def settings(self) -> EvaluationSettings | None:
        """Of generated scenes; None for other images."""
        return self.images.settings

    @property
    def total(self) -> int:
        """The images that it was asked for."""
        return self.images.total

    @property
    def done(self) -> int:
        """The images that are evaluated or broken by now."""
        return len(self.rows) + len(self.broken)

    @property
    def scores(self) -> list[ImageScores]:
        """Those of all images that are evaluated by now."""
        return [row.scores for row in self.rows]

    @property
    def title(self) -> str:
        """By what it was made."""
        size = "" if self.pixels == FITTED else f", {self.pixels}"
        return f"{self.record.name} at {self.record.point}{size}"

    def select(self, values: Values) -> list[Row]:
        """The rows that the filters keep, in order. Raises InputError where a range of scores is none."""
        chosen = filters.as_address(values)
        rows = self.rows
        if chosen["tags"]:
            rows = [row for row in rows if set(chosen["tags"]) & {*self.notes.get(row.key).tags}]
        return select(rows, values, self.beside(values), self.alike(values))

    @property
    def selected(self) -> list[Row]:
        """The rows that the filters on the page keep, in order."""
        return self.select(self.filters)

    def beside(self, values: Values) -> Beside | None:
        """The other evaluation that is chosen to be compared with; None where none is."""
        token = filters.as_address(values)["beside"]
        other = next((run for run in self.others if run.token == token), None)
        return None if other is None else Beside(other.title, {row.key: row for row in other.rows})

    def alike(self, values: Values) -> Row | None:
        """The picture whose like come first; None where none is chosen."""
        number = filters.as_address(values)["like"]
        return self.rows[int(number)] if number.isdecimal() and int(number) < len(self.rows) else None

    def columns(self, row: Row, values: Values) -> dict[str, Any]:
        """What a table says of a row besides its scores: tags, note, and the other adapter's scores."""
        note, beside = self.notes.get(row.key), self.beside(values)
        columns: dict[str, Any] = {"tags": "; ".join(note.tags) or None, "note": note.text or None}
        if beside is not None:
            other = beside.rows.get(row.key)
            columns["beside"] = beside.title
            columns |= {f"beside_{name}": other and own_score(other.scores, name) for name in SCORES}
        return columns

    def add(self, item: Evaluated | Broken, keeper: Component) -> None:
        """Adds an image and writes its files; `keeper` sees to it that they are deleted in time."""
        if isinstance(item, Broken):
            self.broken.append(item)
            return
        original, reconstruction = (
            keep(png(to_pil(image)), f"{name}.png", keeper)
            for name, image in (("original", item.original), ("reconstruction", item.reconstruction))
        )
        row = Row(len(self.rows), item.without_pixels(), original, reconstruction, key_of(item.source))
        self.rows.append(row)

    def end(self) -> None:
        """Stops the clock; a second time it does nothing."""
        self.seconds = self.seconds or time.perf_counter() - self.start

    def remaining(self) -> float | None:
        """Seconds to go at the pace so far; None before the first image."""
        return None if not self.done else (time.perf_counter() - self.start) / self.done * (self.total - self.done)

    def facts(self) -> dict[str, Any]:
        """What was evaluated and how far, as JSON values."""
        return {
            "point": str(self.record.point),
            "adapter": self.record.name,
            "data": self.images.data,
            "asked": self.total,
            "evaluated": len(self.rows),
        }


class KeptRuns:
    """The last evaluations, by the tokens in their links, so that Back or a link shows one again."""

    def __init__(self, most: int = 64) -> None:
        self._runs, self._lock = Recent[str, Run](most), threading.Lock()

    def add(self, run: Run) -> None:
        """Keeps a run; the one that was not asked for the longest is forgotten."""
        with self._lock:
            self._runs[run.token] = run

    def of_same_pictures(self, run: Run) -> list[Run]:
        """The newest run of each other adapter that has read some of a run's pictures."""
        keys, matches = {row.key for row in run.rows}, dict[str, Run]()
        with self._lock:
            runs = [*reversed(self._runs.values())]
        for other in runs:
            if other.title not in (run.title, *matches) and any(row.key in keys for row in other.rows):
                matches[other.title] = other
        return [*matches.values()]

    def find(self, token: str | None) -> Run | None:
        """The run of that token, or None where it is no longer kept."""
        with self._lock:
            return None if token is None or token not in self._runs else self._runs[token]


def select(rows: Sequence[Row], values: Values, beside: Beside | None = None, like: Row | None = None) -> list[Row]:
    """The rows that the filters keep, in order. Raises InputError where a range of scores is none.

    Args:
        rows: All.
        values: Of the filters.
        beside: Rows come by how much worse they are than there.
        like: Rows come by the cosine of their latents to its own, whatever their scores.
    """
    score, order, *_ = values
    chosen = filters.as_filter(values)
    chosen_rows = {id(row.scores): row for row in rows if chosen.keeps(row.scores)}
    if like is not None:
        return sorted(chosen_rows.values(), key=lambda row: -cosine(row, like))
    value = (lambda scores: beside.gain(chosen_rows[id(scores)], score)) if beside else None
    in_order = ordered([row.scores for row in chosen_rows.values()], score, order == filters.ORDERS[0], value)
    return [chosen_rows[id(scores)] for scores in in_order]


def cosine(first: Row, second: Row) -> float:
    """Of the latents of two images of one run, averaged over their tokens."""
    a, b = (row.scores.latents for row in (first, second))
    assert a is not None and b is not None
    return float(torch.nn.functional.cosine_similarity(a.float(), b.float(), dim=0))


def image_source(row: Row, keeper: Component) -> ImageSource:
    """What gives a row's image to another tab. Raises InputError where its file is gone."""
    source = row.scores.source
    if not isinstance(source, str):
        return source
    path = Path(source)
    try:  # Inspect shows nothing from outside the cache
        return keep_picture(path, row.scores.name, keeper)
    except OSError as error:
        raise InputError(f"“{shortened(row.scores.name)}” can no longer be read: {error.strerror}.") from error


def export(run: Run, kind: str, values: Values, keeper: Component) -> str:
    """Writes what the filters keep.

    The name of a part says how much it is of the whole, and its JSON what it was filtered by. Files that were left out
    are listed in the whole alone.

    Args:
        run: Its rows are written.
        kind: "csv", "json", or "zip" of both and the images.
        values: Of the filters.
        keeper: Sees to it that the file is deleted in time.

    Returns:
        The file's path.
    """
    rows, total = run.select(values), len(run.rows)
    more = [run.columns(row, values) for row in rows]
    scores, complete = [row.scores for row in rows], len(rows) == total
    facts = run.facts() | {"selected": len(rows), "filtered_by": filters.in_words(values) or None}
    facts |= {"summary": summarise([line.flat() for line in scores])} if scores else {}
    broken = run.broken if complete else []
    name = "foresight-failures" + ("" if complete else f"-{len(rows)}-of-{total}")
    if kind == "csv":
        return keep(as_csv(scores, broken, more).encode(), f"{name}.csv", keeper)
    if kind == "json":
        return keep(as_json(facts, scores, broken, more).encode(), f"{name}.json", keeper)
    archive = io.BytesIO()
    images = (
        (f"{row.number:05d}-{role}.png", Path(path).read_bytes())
        for row in rows
        for role, path in (("original", row.original), ("reconstruction", row.reconstruction))
    )
    tables = {"table.csv": as_csv(scores, broken, more), "table.json": as_json(facts, scores, broken, more)}
    write_zip(archive, tables, images)
    return keep(archive.getvalue(), f"{name}.zip", keeper)
