"""Tables of evaluated images: the worst first, means by factor and by place, and the table as files."""

import csv
import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from foresight.data.archive import Broken
from foresight.data.scenes import BACKGROUNDS, COLOR_NAMES, MAX_OBJECTS, SHAPES
from foresight.errors import InputError
from foresight.inspection.evaluation import ImageScores
from foresight.metrics.baselines import LOWER_IS_BETTER
from foresight.metrics.intervals import bootstrap
from foresight.metrics.matching import COLUMNS, ROWS, SIZES, ObjectScore
from foresight.metrics.patches import TRAITS
from foresight.metrics.scores import SCORES

OBJECT_SCORES = {"object_iou": "iou", "object_lpips": "lpips"}  # attributes of ObjectScore
LEVELS: dict[str, tuple[str, ...]] = {  # of a factor, in the order of charts
    "shape": SHAPES,
    "color": COLOR_NAMES,
    "size": tuple(SIZES),
    "position": tuple(f"{row} {column}" for row in ROWS for column in COLUMNS),
    "objects": tuple(str(n) for n in range(1, MAX_OBJECTS + 1)),
    "background": BACKGROUNDS,
    **TRAITS,
}
_IMAGE_LEVELS: dict[str, Callable[[ImageScores], str]] = {  # of the factors that all objects of an image share
    "objects": lambda scores: str(len(scores.objects)),
    "background": lambda scores: str(scores.background),
}
MIN_COVERED = 0.5  # of a cell, summed over images: what objects cover less of has no IoU

L = TypeVar("L", bound=ImageScores)


@dataclass(frozen=True)
class Level:
    """A factor's level, such as shape "star": in how many images, the mean score and its 95 % interval.

    low, high: None where it is of one image.
    """

    name: str
    pictures: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Filter:
    """Which images to keep; what is empty or None keeps all.

    shapes, colors, sizes: one and the same object must meet all three. objects: how many, backgrounds: which.
    score: the name in SCORES that `low` and `high` bound, both inclusive.
    """

    shapes: Sequence[str] = ()
    colors: Sequence[str] = ()
    sizes: Sequence[str] = ()
    objects: Sequence[int] = ()
    backgrounds: Sequence[str] = ()
    score: str = "lpips"
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise InputError(f"the range of scores must go from low to high, not from {self.low:g} to {self.high:g}.")

    def keeps(self, line: ImageScores) -> bool:
        """Whether to keep an image. One without scene has no factors, one without the score is in no range of it."""
        factors = ((self.shapes, "shape"), (self.colors, "color"), (self.sizes, "size"))
        chosen = [(values, name) for values, name in factors if values]
        if chosen and not any(all(getattr(o, name) in values for values, name in chosen) for o in line.objects):
            return False
        if self.objects and len(line.objects) not in self.objects:
            return False
        if self.backgrounds and line.background not in self.backgrounds:
            return False
        if self.low is None and self.high is None:
            return True
        value = own_score(line, self.score)
        return (
            value is not None
            and (self.low is None or value >= self.low)
            and not (self.high is not None and value > self.high)
        )


def own_score(line: ImageScores, name: str) -> float | None:
    """The adapter's score by a name in SCORES."""
    if name not in SCORES:
        raise InputError(f"there is no score {name!r}: choose from {', '.join(SCORES)}.")
    return line.scores["adapter"][name]


def ordered(
    lines: Iterable[L],
    name: str,
    worst_first: bool = True,
    value: Callable[[L], float | None] | None = None,
) -> list[L]:
    """Lines by a score, those without one last.

    value: what stands for the score, such as how far it is above another adapter's; None: the adapter's own.
    """
    pairs = [(value(line) if value else own_score(line, name), line) for line in lines]
    scored = [(value, line) for value, line in pairs if value is not None]
    scored.sort(key=lambda pair: pair[0], reverse=worst_first == (name in LOWER_IS_BETTER))
    return [line for _, line in scored] + [line for value, line in pairs if value is None]


def by_factor(lines: Iterable[ImageScores], factor: str, name: str) -> list[Level]:
    """The mean of a score at each level of a factor that occurs, with its 95 % interval over images.

    Args:
        lines: Of images; those without scene have traits in place of factors.
        factor: A key of LEVELS.
        name: In SCORES, the score of every image that has the level; or in OBJECT_SCORES, that of the objects at the
            level alone, averaged over an image first.

    Raises:
        InputError: There is no such factor or score.
    """
    if factor not in LEVELS:
        raise InputError(f"there is no factor {factor!r}: choose from {', '.join(LEVELS)}.")
    means: dict[str, list[float]] = defaultdict(list)  # by level, one an image
    for line in lines:
        for level, values in _levels(line, factor, name):
            if known := [v for v in values if v is not None]:
                means[level].append(sum(known) / len(known))
    return [Level(level, len(means[level]), *bootstrap(means[level])) for level in LEVELS[factor] if level in means]


def _levels(line: ImageScores, factor: str, name: str) -> Iterator[tuple[str, list[float | None]]]:
    """The levels that an image has, with the scores at that level."""
    if factor in TRAITS:
        if line.photo is not None and name in SCORES:
            yield line.photo.traits[factor], [own_score(line, name)]
        return
    groups: dict[str, list[ObjectScore]] = defaultdict(list)
    for item in line.objects:
        groups[_IMAGE_LEVELS[factor](line) if factor in _IMAGE_LEVELS else getattr(item, factor)].append(item)
    attribute = OBJECT_SCORES.get(name)
    for level, objects in groups.items():
        yield level, [getattr(item, attribute) for item in objects] if attribute else [own_score(line, name)]


def iou_plane(lines: Iterable[ImageScores]) -> tuple[Tensor, Tensor]:
    """The IoU of objects at each place of the image (CELLS, CELLS), over all lines; NaN where none ever was.

    Returns:
        It, and of how many images each place is.
    """
    planes = torch.stack([line.plane for line in lines])  # (N, 2, CELLS, CELLS)
    intersection, union = planes.sum(0)
    return (intersection / union).where(union >= MIN_COVERED, torch.nan), (planes[:, 1] > 0).sum(0)


def as_csv(
    lines: Sequence[ImageScores], broken: Sequence[Broken] = (), more: Sequence[Mapping[str, Any]] | None = None
) -> str:
    """The table as CSV, one line an image; broken files at the end, with the reason in "error".

    more: further columns of each line.
    """
    return rows_as_csv([line.flat() | {**extra} for line, extra in _with(lines, more)], broken)


def _with(
    lines: Sequence[ImageScores], more: Sequence[Mapping[str, Any]] | None
) -> Iterator[tuple[ImageScores, Mapping[str, Any]]]:
    return zip(lines, [{}] * len(lines) if more is None else more, strict=True)


def rows_as_csv(rows: Sequence[dict[str, Any]], broken: Sequence[Broken] = (), key: str = "image") -> str:
    """`as_csv` of rows; key: the column of the files' names."""
    columns = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, [*(columns or [key]), "error"])
    writer.writeheader()
    writer.writerows([*({k: _safe(v) for k, v in row.items()} for row in rows)])
    writer.writerows({key: _safe(b.name), "error": _safe(b.reason)} for b in broken)
    return text.getvalue()


def _safe(value: Any) -> Any:
    """A text that no spreadsheet takes for a formula; file names come from anybody."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")) else value


def as_json(
    facts: dict[str, Any],
    lines: Sequence[ImageScores],
    broken: Sequence[Broken] = (),
    more: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Facts, every line with its scene, and the broken files, as one JSON object; more: as of `as_csv`."""
    rows = [
        line.flat() | {**extra, "scene": line.source if isinstance(line.source, dict) else None}
        for line, extra in _with(lines, more)
    ]
    return json.dumps({**facts, "pictures": rows, "broken": [b.as_json() for b in broken]}, indent=2)


def write_zip(target: Any, texts: dict[str, str], images: Iterable[tuple[str, bytes]]) -> None:
    """Writes an archive of texts and image files, by their names, to a path or an open file."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:  # images are compressed already
        for name, text in texts.items():
            archive.writestr(name, text, zipfile.ZIP_DEFLATED)
        for name, data in images:
            archive.writestr(name, data)
