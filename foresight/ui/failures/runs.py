"""One evaluation in the app: which pictures, what has been found of them so far, and the files it leaves."""

from __future__ import annotations

import io
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradio.components import Component

from foresight.adapters.registry import AdapterRecord, pick_adapter
from foresight.data.archive import Broken
from foresight.data.images import to_pil
from foresight.data.scenes import SceneSpec
from foresight.errors import InputError
from foresight.inspection.evaluation import (
    Evaluated,
    ImageScores,
    Sample,
    evaluate,
    file_samples,
    folder_files,
    scene_samples,
    summarise,
)
from foresight.inspection.inspector import Inspector
from foresight.inspection.tables import Filter, as_csv, as_json, ordered, write_zip
from foresight.models.points import ExtractionPoint
from foresight.schemas import MAX_SEED, whole
from foresight.ui.cards import NAMES
from foresight.ui.failures import choices
from foresight.ui.failures.choices import MAX_SCENES, SOURCES, bound
from foresight.ui.image_maps import png
from foresight.ui.uploads import handed_in, keep

PUBLIC_MOST = 64  # pictures; about eight seconds of two CPU cores, for which all others wait
FILTERS = ("shape", "colour", "size", "objects", "background")  # `select`'s last arguments

Found = Iterator[Evaluated | Broken]


@dataclass(frozen=True)
class FailuresCalls:
    """The library as callables, so that the tab holds no model code and runs alone.

    adapters: all that fit. default: the extraction point to begin with. evaluate: adapter, samples → rows.
    local: folders of this machine may be named. public: strangers come, so that a run is short, and starts on a
    click alone.
    """

    adapters: Callable[[], list[AdapterRecord]]
    default: ExtractionPoint
    evaluate: Callable[[AdapterRecord, Iterable[Sample | Broken]], Found]
    local: bool = False
    public: bool = False

    @classmethod
    def of(cls, inspector: Inspector, local: bool = False, public: bool = False) -> FailuresCalls:
        """The calls of one inspector and its models."""
        return cls(
            adapters=inspector.adapters,
            default=inspector.default_point,
            evaluate=lambda record, samples: evaluate(inspector, record, samples),
            local=local,
            public=public,
        )

    @property
    def most(self) -> int:
        """Scenes that one run may take; strangers' other pictures too."""
        return PUBLIC_MOST if self.public else MAX_SCENES

    def find(self, point: str | None, name: str | None) -> AdapterRecord:
        """The adapter of that name at a point. Raises InputError."""
        return pick_adapter(self.adapters(), str(point), name)


@dataclass(frozen=True)
class Shot:
    """A picture evaluated: its number, its line, and the files of original and reconstruction."""

    number: int
    line: ImageScores
    original: str
    made: str


@dataclass(eq=False)
class Run:
    """One evaluation as far as it has come; what is done stays, also after a stop."""

    record: AdapterRecord
    total: int
    data: dict[str, Any]
    fields: dict[str, Any] = field(default_factory=dict)  # of choices.FACTORS; empty where these are no scenes
    shots: list[Shot] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    start: float = field(default_factory=time.perf_counter)
    seconds: float | None = None  # None while it runs
    chosen: Sequence[Any] = tuple(choices.FILTERS.values())  # of `select`, as they are on the page now
    left: bool = False  # another evaluation is shown in its place: it ends with the picture that is being made
    token: str = field(default_factory=lambda: secrets.token_urlsafe(9))  # names it in its link

    @property
    def selected(self) -> list[Shot]:
        """The shots that the filters on the page keep, in order."""
        return select(self.shots, *self.chosen)

    @property
    def done(self) -> int:
        return len(self.shots) + len(self.broken)

    @property
    def lines(self) -> list[ImageScores]:
        return [shot.line for shot in self.shots]

    def end(self) -> None:
        """Stops the clock; a second time it does nothing."""
        self.seconds = self.seconds or time.perf_counter() - self.start

    def remaining(self) -> float | None:
        """Seconds to go at the pace so far; None before the first picture."""
        return None if not self.done else (time.perf_counter() - self.start) / self.done * (self.total - self.done)

    def facts(self) -> dict[str, Any]:
        """What was evaluated and how far, as JSON values."""
        return {
            "point": str(self.record.point),
            "adapter": self.record.name,
            "data": self.data,
            "asked": self.total,
            "evaluated": len(self.shots),
        }


class KeptRuns:
    """The last evaluations, by the tokens in their links: Back, and a link, show one again without making it anew."""

    def __init__(self, most: int = 64) -> None:
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._most, self._lock = most, threading.Lock()

    def add(self, run: Run) -> None:
        """Keeps a run; the one that was not asked for the longest is forgotten."""
        with self._lock:
            self._runs[run.token] = run
            while len(self._runs) > self._most:
                self._runs.popitem(last=False)

    def find(self, token: str | None) -> Run | None:
        """The run of that token, or None where it is no longer kept."""
        with self._lock:
            if token is None or token not in self._runs:
                return None
            self._runs.move_to_end(token)
            return self._runs[token]


def select(
    shots: Sequence[Shot],
    score: str,
    order: str,
    low: str,
    high: str,
    shapes: Sequence[str],
    colors: Sequence[str],
    sizes: Sequence[str],
    counts: Sequence[str],
    backgrounds: Sequence[str],
) -> list[Shot]:
    """The shots that the filters keep, in order. Raises InputError where a range is upside down."""
    wanted = Filter(shapes, colors, sizes, [int(n) for n in counts], backgrounds, score, bound(low), bound(high))
    kept = [shot for shot in shots if wanted.keeps(shot.line)]
    place = {id(line): i for i, line in enumerate(ordered([s.line for s in kept], score, order == "worst first"))}
    return sorted(kept, key=lambda shot: place[id(shot.line)])


def filtered_by(score: str, order: str, low: str, high: str, *factors: Sequence[str]) -> str:
    """`select`'s filters in words: "shape star or circle; LPIPS from 0.1"; empty where nothing is filtered."""
    told = [f"{name} {' or '.join(values)}" for name, values in zip(FILTERS, factors, strict=True) if values]
    ends = [f"{word} {text.strip()}" for word, text in (("from", low), ("to", high)) if text.strip()]
    return "; ".join([*told, *([f"{NAMES[score]} {' '.join(ends)}"] if ends else [])])


def samples(
    calls: FailuresCalls, kind: str, files: list[str] | None, folder: str, factors: Sequence[Any], keeper: Component
) -> tuple[Iterable[Sample | Broken], int, dict[str, Any]]:
    """The pictures, how many there are, and where they come from, as JSON values."""
    if kind == SOURCES[0]:
        count, seed = whole(factors[0], "scenes", 1, MAX_SCENES), whole(factors[1], "the seed", 0, MAX_SEED)
        _check_length(calls, count)
        spec = choices.scene_spec(*factors[2:])
        return scene_samples(count, seed, spec), count, _recipe(count, seed, spec)
    if kind == SOURCES[1]:
        found = handed_in(files, keeper, lambda count: _check_length(calls, count))
        return file_samples(found), len(found), {"files": [Path(path).name for path in files or ()]}
    if kind != SOURCES[2] or not calls.local:
        raise InputError(f"pictures come from: {', '.join(SOURCES[: 2 + calls.local])}.")
    inside = folder_files(folder.strip())
    return file_samples(inside), len(inside), {"folder": folder.strip()}


def _check_length(calls: FailuresCalls, count: int) -> None:
    if calls.public and count > calls.most:
        raise InputError(f"this app is open to everybody: it takes {calls.most} pictures at a time, and no more.")


def _recipe(count: int, seed: int, spec: SceneSpec) -> dict[str, Any]:
    return {"scenes": count, "seed": seed, "split": "test", **vars(spec)}


def take(run: Run, item: Evaluated | Broken, keeper: Component) -> None:
    if isinstance(item, Broken):
        run.broken.append(item)
        return
    paths = [
        keep(png(to_pil(picture)), f"{name}.png", keeper)
        for name, picture in (("original", item.original), ("reconstruction", item.reconstruction))
    ]
    run.shots.append(Shot(len(run.shots), item.without_pixels(), *paths))


def opened(shot: Shot, keeper: Component) -> dict[str, Any] | str | None:
    """What makes a shot's picture again elsewhere. Raises InputError where its file is gone."""
    case = shot.line.case
    if not isinstance(case, str):
        return case
    path = Path(case)
    try:  # Inspect shows nothing from outside the cache
        return keep(path.read_bytes(), path.name, keeper)
    except OSError as error:
        raise InputError(f"“{path.name[:80]}” can no longer be read: {error.strerror}.") from error


def export(run: Run, kind: str, chosen: Sequence[Any], keeper: Component) -> str:
    """The file of what the filters keep: "csv", "json", or "zip" of both and the pictures.

    chosen: of `select`. The name of a part says how much it is of the whole, and JSON what it was filtered by;
    files that were left out stand in the whole alone.
    """
    shots, total = select(run.shots, *chosen), len(run.shots)
    lines, whole_run = [shot.line for shot in shots], len(shots) == total
    facts = run.facts() | {"selected": len(shots), "filtered_by": filtered_by(*chosen) or None}
    facts |= {"summary": summarise([line.flat() for line in lines])} if lines else {}
    broken = run.broken if whole_run else []
    name = "foresight-failures" + ("" if whole_run else f"-{len(shots)}-of-{total}")
    if kind == "csv":
        return keep(as_csv(lines, broken).encode(), f"{name}.csv", keeper)
    if kind == "json":
        return keep(as_json(facts, lines, broken).encode(), f"{name}.json", keeper)
    packed = io.BytesIO()
    pictures = (
        (f"{shot.number:05d}-{name}.png", Path(path).read_bytes())
        for shot in shots
        for name, path in (("original", shot.original), ("reconstruction", shot.made))
    )
    texts = {"table.csv": as_csv(lines, broken), "table.json": as_json(facts, lines, broken)}
    write_zip(packed, texts, pictures)
    return keep(packed.getvalue(), f"{name}.zip", keeper)
