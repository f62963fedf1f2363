"""What the commands write and print alike of images and of clips."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from foresight.adapters.registry import AdapterRecord
from foresight.data.archive import Broken
from foresight.errors import InputError
from foresight.inspection.inspector import Inspector
from foresight.inspection.tables import rows_as_csv

SUMMARY = "summary.json"
Row = dict[str, Any]


class OutputPaths:
    """Names for the reconstructions of several files; two folders may have a file of one name."""

    def __init__(self, folder: Path, record: AdapterRecord) -> None:
        self.folder, self.record, self.names = folder, record, Counter[str]()

    def path(self, source: Path, suffix: str) -> Path:
        """Where the reconstruction of a file goes."""
        point = self.record.point
        name = f"{_shortened(source.stem)}-{point.stage}-{point.layer}-{self.record.name}".replace("/", "-")
        self.names[name] += 1
        return self.folder / (name + (f"-{self.names[name]}" if self.names[name] > 1 else "") + suffix)


def _shortened(stem: str) -> str:
    """A file's name that leaves room, in the 255 bytes of a name, for what stands behind it."""
    while len(os.fsencode(stem)) > 120:
        stem = stem[:-1]
    return stem


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, and what is made of it.

    Attributes:
        kind: "picture" or "clip"; each file's scores go to pictures.csv or clips.csv.
        key: What a table calls the file.
        data: Where the files come from, for the summary.
        total: How many there are.
        rows: Evaluates them one by one; a file that cannot be used is passed on.
        summarise: The rows' means, for the summary.
        text: The summary in words.
    """

    kind: str
    key: str
    data: dict[str, Any]
    total: int
    rows: Callable[[Inspector, AdapterRecord], Iterator[Row | Broken]]
    summarise: Callable[[list[Row]], dict[str, Any]]
    text: Callable[[dict[str, Any]], list[str]]

    def run(self, inspector: Inspector, record: AdapterRecord, out: Path, as_json: bool) -> Iterator[str]:
        """Writes the table and the summary; yields the latter or, as JSON, every row and, last, the summary."""
        rows, broken = list[Row](), list[Broken]()
        interrupted = False
        try:
            for item in tqdm(self.rows(inspector, record), total=self.total, unit=self.key, disable=None):
                line = {self.key: item.name, "error": item.reason} if isinstance(item, Broken) else item
                if isinstance(item, Broken):
                    broken.append(item)
                else:
                    rows.append(item)
                if as_json:
                    yield json.dumps(line)
        except KeyboardInterrupt:  # what was done by then is written
            if not rows:
                raise
            interrupted = True
        if not rows:
            raise InputError(f"none of the {len(broken)} files is a {self.kind}: {broken[0].reason}")
        summary = {
            "point": str(record.point),
            "adapter": record.name,
            "model": inspector.vlm.name,
            "vae": inspector.vae.name,
            "data": self.data,
            **self.summarise(rows),
            **({"interrupted_of": self.total} if interrupted else {}),
            "broken": [{self.key: file.name, "error": file.reason} for file in broken],
        }
        table = out / f"{self.kind}s.csv"
        # A file's name need not be text: its own bytes are written.
        table.write_text(rows_as_csv(rows, broken, self.key), "utf-8", "surrogateescape", newline="")
        (out / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        text = [
            f"{record.name} at {record.point}: {len(rows)} {self.kind}s, 95 % intervals",
            *self.text(summary),
            *(f"  left out: {file.reason}" for file in broken),
            f"  every {self.kind}'s scores are in {table}, this summary in {out / SUMMARY}",
        ]
        yield json.dumps({"summary": summary}) if as_json else "\n".join(text)
        if interrupted:
            raise KeyboardInterrupt


def number(value: float | None) -> str:
    """ "0.123", or a dash."""
    return "–" if value is None else f"{value:.3f}"


def interval(ends: Sequence[float | None] | None) -> str:
    """A mean with its interval, or a dash."""
    if ends is None:
        return "–"
    mean, low, high = ends
    return f"{mean:.3f} (n = 1)" if low is None else f"{mean:.3f} ({low:.3f} to {high:.3f})"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
