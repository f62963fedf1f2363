"""Finished experiments on disk: each is kept with the settings it was made with, and never reused under others."""

import csv
import lzma
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from foresight.errors import InputError
from foresight.paths import replacing
from training.experiments.experiment import ImageGrid, Measurement, Samples, ScoreTable, StudyPoints

FOLDER, ARTIFACTS, UNFINISHED = "experiments", "artifacts", "unfinished"


class Record(BaseModel):
    """A finished experiment: what it measured, under which settings, how and when."""

    settings: dict[str, Any]
    """All that the numbers depend on."""
    points: StudyPoints
    tables: list[str]
    """Names of its score tables, each a compressed CSV in artifacts/."""
    steps: dict[str, int]
    parameters: dict[str, int]
    values: dict[str, Any]
    grids: list[ImageGrid]
    seconds: float
    device: str
    created: str
    command: str


def open_folder(out: Path) -> None:
    """Makes sure that results can be written under `out`. Raises InputError where they cannot."""
    try:
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
        (out / ARTIFACTS).mkdir(exist_ok=True)
        probe = out / FOLDER / ".writable"
        probe.write_text("", encoding="utf-8")
        probe.unlink(missing_ok=True)  # another process of the same study may have probed too
    except OSError as error:
        raise InputError(f"results cannot be written to {out} ({error.strerror}): choose another folder.") from error


def load(out: Path, name: str, settings: Mapping[str, Any]) -> Record | None:
    """A kept experiment, or None. Raises InputError where it was made with other settings."""
    path = out / FOLDER / f"{name}.json"
    if not path.is_file():
        return None
    record = Record.model_validate_json(path.read_text(encoding="utf-8"))
    for key in sorted(record.settings.keys() | settings):
        was, now = record.settings.get(key), settings.get(key)
        if was != now:
            raise InputError(f"{out} holds {name} made with {key} {was}, not {now}: choose another folder.")
    return record


def save(out: Path, name: str, measurement: Measurement, about: Mapping[str, Any]) -> Record:
    """Keeps a finished experiment, whole or not at all. about: the other fields of its Record."""
    for title, table in measurement.tables.items():
        _write_table(out / ARTIFACTS / table_file(name, title), table)
    m = measurement
    values = {"steps": m.steps, "parameters": m.parameters, "values": m.values, "grids": m.grids}
    record = Record.model_validate(plain({"tables": list(m.tables), **values, **about}))
    with replacing(out / FOLDER / f"{name}.json", durable=True) as partial:
        partial.write_text(record.model_dump_json(indent=1), encoding="utf-8")
    return record


def measured(out: Path, name: str, record: Record) -> Measurement:
    """What a kept experiment measured, its tables read from their files."""
    tables = {title: _read_table(out / ARTIFACTS / table_file(name, title)) for title in record.tables}
    return Measurement(tables, record.steps, record.parameters, record.values, record.grids)


def table_file(name: str, title: str) -> str:
    """The file in artifacts/ of an experiment's table: CSV under xz, which pandas.read_csv opens."""
    return f"{name}.csv.xz" if title == "scores" else f"{name}-{title.replace(' ', '-')}.csv.xz"


def _write_table(path: Path, table: ScoreTable) -> None:
    """A line for each condition, score and seed: its value of every image, to four digits and four decimals."""
    with lzma.open(path, "wt", newline="", encoding="utf-8", preset=9) as file:
        writer = csv.writer(file)
        images = range(max(values.shape[1] for samples in table.values() for values in samples.values()))
        writer.writerow(["condition", "score", "seed", *images])
        for condition, samples in table.items():
            for score, values in samples.items():
                for seed, row in enumerate(values):
                    writer.writerow([condition, score, seed, *(f"{round(float(v), 4):.4g}" for v in row)])


def _read_table(path: Path) -> dict[str, Samples]:
    table: dict[str, dict[str, list[list[float]]]] = {}
    with lzma.open(path, "rt", newline="", encoding="utf-8") as file:
        next(reader := csv.reader(file))
        for condition, score, _, *values in reader:
            table.setdefault(condition, {}).setdefault(score, []).append([float(v) for v in values])
    return {condition: {n: np.array(seeds) for n, seeds in samples.items()} for condition, samples in table.items()}


def plain(value: Any) -> Any:
    """Plain JSON values, numbers to six digits; what is not finite becomes None."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item"):  # NumPy's numbers
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
