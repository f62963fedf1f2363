"""Finds and reads studies: the bundled results.yaml, and anybody's own, which is untrusted input.

And says which adapters at hand open the points that a study names.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from foresight.adapters.registry import AdapterRecord
from foresight.errors import InputError
from foresight.models.points import ExtractionPoint
from foresight.paths import ASSETS, RUNS
from foresight.study import Chart, Picture, Series, Study

BUNDLED = ASSETS / "results.yaml"
MAX_BYTES = 8_000_000

Place = tuple[ExtractionPoint, str | None]  # an extraction point and, where one is named, a kind of adapter
Pair = tuple[AdapterRecord, AdapterRecord]  # a pooled and a token adapter of one point


def studies(bundled: Path = BUNDLED, runs: Path = RUNS) -> list[Path]:
    """The bundled study, if there is one, then those under `runs`, the newest first."""
    dated: list[tuple[float, Path]] = []
    for folder, _, files in os.walk(runs):  # unlike glob, it passes over folders that go while it looks
        if "results.yaml" in files:
            path = Path(folder, "results.yaml")
            with suppress(FileNotFoundError):
                dated.append((path.stat().st_mtime, path))
    own = [path for _, path in sorted(dated, reverse=True)]
    return [*([bundled] if bundled.is_file() else []), *own]


def load_study(path: Path) -> Study:
    """Reads results.yaml. Raises InputError, in one sentence, where it is not of the form of `foresight.study`."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read as YAML.") from error
    return _load(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4)
def _load(path: Path, changed: int, size: int) -> Study:
    """changed: when, in ns, so that a file that was written since is read again. size: in bytes."""
    import yaml

    if size > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES // 1_000_000} MB: this is no study's results.yaml.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return Study.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise InputError(f"{path} is not of a study's form: {first['msg']} ({where}).") from error
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: text that is no UTF-8, a date that is none
        raise InputError(f"{path} cannot be read as YAML.") from error


def picture_path(study: Path, picture: Picture) -> Path | None:
    """The image's file in artifacts/ beside a study's file; None where it is missing or a link leads elsewhere."""
    folder = study.parent / "artifacts"
    path = (folder / picture.file).resolve()
    return path if path.is_file() and path.is_relative_to(folder.resolve()) else None


def places(chart: Chart, series: Series) -> list[Place | None]:
    """What lies behind each value of a series: where it names an extraction point, that and the adapter."""
    names = series.points or series.x
    return [place_of(f"{name} {x} {series.name} {chart.title}") for name, x in zip(names, series.x, strict=True)]


def place_of(text: str) -> Place | None:
    """The first extraction point in a text and the first adapter: "post-merge/6 tokens, size 64"; None without one."""
    point = re.search(r"\b(?:pre|post)-merge/\d{1,3}\b", text)
    adapter = re.search(r"\b(linear|pooled|tokens)\b", text)
    return None if point is None else (ExtractionPoint.parse(point[0]), adapter[1] if adapter else None)


def openable_adapters(records: Sequence[AdapterRecord]) -> dict[Place, str]:
    """What Inspect can open: the names of the first adapter at each point, and of the first of each kind there."""
    names: dict[Place, str] = {}
    for record in records:
        names.setdefault((record.point, record.kind), record.name)
        names.setdefault((record.point, None), record.name)
    return names


def adapter_pairs(records: Sequence[AdapterRecord]) -> list[Pair]:
    """The first pooled and the first token adapter of each point that has both, in order of depth."""
    first: dict[Place, AdapterRecord] = {}
    for record in records:
        first.setdefault((record.point, record.kind), record)
    pooled = {point: record for (point, kind), record in first.items() if kind == "pooled"}
    return [(pooled[point], record) for (point, kind), record in first.items() if kind == "tokens" and point in pooled]
