"""A study's results.yaml, read with suspicion: it may be the bundled one, or anybody's own."""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foresight.errors import InputError
from foresight.models.points import ExtractionPoint
from foresight.paths import ASSETS, RUNS

BUNDLED = ASSETS / "results.yaml"
MAX_BYTES = 8_000_000
CHART_KINDS = ("line", "bar", "waterfall", "scatter")
VERDICTS = ("holds", "does not hold", "open")
_TEXTS = ("title", "question", "verdict", "verdict_reason", "paragraph")


@dataclass(frozen=True)
class Series:
    """One line or group of bars. x: places or names. y, low, high: values and their 95 % intervals; NaN for none.

    places: the extraction point and the adapter behind each value, None where it has none.
    """

    name: str
    x: list[Any]
    y: list[float]
    low: list[float]
    high: list[float]
    places: list[tuple[ExtractionPoint, str | None] | None]


@dataclass(frozen=True)
class Chart:
    """kind: one of CHART_KINDS. x, y: axes' labels. floor: a blank page. ceiling: the oracle. target: the seed's."""

    title: str
    kind: str
    x: str
    y: str
    series: list[Series]
    floor: float | None
    ceiling: float | None
    target: float | None


@dataclass(frozen=True)
class Experiment:
    """One question and its answer. seed: the seed study's numbers. tables: title, columns, rows of plain values.

    pictures: title, file.
    """

    name: str
    title: str
    question: str
    verdict: str
    verdict_reason: str
    paragraph: str
    seed: dict[str, Any]
    tables: list[tuple[str, list[str], list[list[Any]]]]
    charts: list[Chart]
    pictures: list[tuple[str, Path]]


@dataclass(frozen=True)
class Study:
    """A whole file. facts: model, vae, created, device, seconds and commands, as they stand there."""

    path: Path
    facts: dict[str, Any]
    experiments: list[Experiment]
    surprises: list[str]
    caveats: list[str]
    recommendations: list[str]


def studies(bundled: Path = BUNDLED, runs: Path = RUNS) -> list[Path]:
    """The bundled study, if there is one, then those under `runs`, the newest first."""
    dated: list[tuple[float, Path]] = []
    for place, _, files in os.walk(runs):  # unlike glob, it passes over folders that go while it looks
        if "results.yaml" in files:
            path = Path(place, "results.yaml")
            with suppress(FileNotFoundError):
                dated.append((path.stat().st_mtime, path))
    own = [path for _, path in sorted(dated, reverse=True)]
    return [*([bundled] if bundled.is_file() else []), *own]


def load_study(path: Path) -> Study:
    """Reads results.yaml. Raises InputError, in one sentence, where it is not of the form that this file describes."""
    try:
        about = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read as YAML.") from error
    return _load(path, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=4)
def _load(path: Path, changed: int, size: int) -> Study:
    """changed: when, in ns, so that a file that was written since is read again. size: in bytes."""
    import yaml

    try:
        if size > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES // 1_000_000} MB: this is no study's results.yaml.")
        found = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        artifacts = path.parent / "artifacts"
        return Study(
            path=path,
            facts={k: found.get(k) for k in ("study", "model", "vae", "created", "device", "seconds", "commands")},
            experiments=[_experiment(name, each, artifacts) for name, each in found["experiments"].items()],
            **{key: _texts(found.get(key)) for key in ("surprises", "caveats", "recommendations")},
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML.") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not of a study's form: {type(error).__name__} at {error}.") from error


def _experiment(name: str, found: dict[str, Any], artifacts: Path) -> Experiment:
    if found["verdict"] not in VERDICTS:
        raise ValueError(f"{name}'s verdict, which is one of: {', '.join(VERDICTS)}")
    return Experiment(
        name=str(name),
        **{key: str(found[key]) for key in _TEXTS},
        seed=dict(found.get("seed") or {}),
        tables=[(str(t["title"]), _texts(t["columns"]), [list(row) for row in t["rows"]]) for t in found["tables"]],
        charts=[_chart(each) for each in found["charts"]],
        pictures=[(str(p["title"]), _inside(artifacts, str(p["file"]))) for p in found.get("pictures") or ()],
    )


def _chart(found: dict[str, Any]) -> Chart:
    if found["kind"] not in CHART_KINDS:
        raise ValueError(f"a chart's kind, which is one of: {', '.join(CHART_KINDS)}")
    title, kind, x, y = (str(found[key]) for key in ("title", "kind", "x", "y"))
    marks = [None if found.get(key) is None else float(found[key]) for key in ("floor", "ceiling", "target")]
    return Chart(title, kind, x, y, [_series(each, title) for each in found["series"]], *marks)


def _series(found: dict[str, Any], title: str) -> Series:
    name, x, y = str(found["name"]), list(found["x"]), _numbers(found["y"])
    low, high = (_numbers(found.get(key) or [None] * len(y)) for key in ("low", "high"))
    told = found.get("points") or x
    if not len(x) == len(y) == len(low) == len(high) == len(told):
        raise ValueError(f"series {name}: its lists differ in length")
    places = [place_of(f"{where} {at} {name} {title}") for where, at in zip(told, x, strict=True)]
    return Series(name, x, y, low, high, places)


def place_of(text: str) -> tuple[ExtractionPoint, str | None] | None:
    """The first extraction point in a text and the first adapter: "post-merge/6 tokens, size 64"; None without one."""
    point = re.search(r"\b(?:pre|post)-merge/\d{1,3}\b", text)
    adapter = re.search(r"\b(linear|pooled|tokens)\b", text)
    return None if point is None else (ExtractionPoint.parse(point[0]), adapter[1] if adapter else None)


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"picture {name}: it is not in the folder artifacts")
    return path


def _numbers(values: Iterable[Any]) -> list[float]:
    return [math.nan if v is None else float(v) for v in values]


def _texts(values: Iterable[Any] | None) -> list[str]:
    return [str(v) for v in values or ()]
