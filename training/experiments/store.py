"""Finished experiments on disk: each is kept with the settings it was made with, and never taken for another's."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foresight.errors import InputError

FOLDER = "experiments"


def open_folder(out: Path) -> None:
    """Makes sure that results can be written under `out`. Raises InputError where they cannot."""
    try:
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
        (out / "artifacts").mkdir(exist_ok=True)
        probe = out / FOLDER / ".writable"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise InputError(f"results cannot be written to {out} ({error.strerror}): choose another folder.") from error


def load(out: Path, name: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """A kept experiment, or None. Raises InputError where it was made with other settings."""
    path = out / FOLDER / f"{name}.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    if differing := _differing(found["settings"], settings):
        was, now = (s.get(differing) for s in (found["settings"], settings))
        raise InputError(f"{out} holds {name} made with {differing} {was}, not {now}: choose another folder.")
    return found


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> str | None:
    return next((key for key in {**a, **b} if a.get(key) != b.get(key)), None)


def save(out: Path, name: str, record: Mapping[str, Any]) -> None:
    """Writes a finished experiment, whole or not at all."""
    path = out / FOLDER / f"{name}.json"
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(plain(record), file, indent=1, ensure_ascii=False, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def names(out: Path) -> list[str]:
    """The experiments that lie in a folder."""
    return sorted(path.stem for path in (out / FOLDER).glob("*.json"))


def read(out: Path, name: str) -> dict[str, Any]:
    """A kept experiment, whatever its settings."""
    return json.loads((out / FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def plain(value: Any) -> Any:
    """Plain JSON values, numbers to six digits; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item"):  # NumPy's numbers
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
