"""What a study's results.yaml holds: written by training.experiments.report, read as untrusted input by Findings."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

Verdict = Literal["holds", "does not hold", "open"]
VERDICT_WORDS: dict[Verdict, str] = {"holds": "holds here", "does not hold": "not here", "open": "open"}
ChartKind = Literal["line", "bar", "waterfall", "scatter"]
Interval = Annotated[list[FiniteFloat], Field(min_length=3, max_length=3)]  # mean, low, high
Cell = str | int | FiniteFloat | Interval | None


class _Part(BaseModel):
    """A part of the file. What it holds beyond these fields is left aside."""

    model_config = ConfigDict(frozen=True)


class Table(_Part):
    """Rows of cells under columns; a cell is text, a number, or an interval."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]


class Series(_Part):
    """One line, one group of bars, or the dots of one class."""

    name: str
    x: list[int | FiniteFloat | str]
    """Numbers or names."""
    y: list[FiniteFloat | None]
    low: list[FiniteFloat | None] = []
    """Lower ends of the 95 % intervals; empty: no intervals."""
    high: list[FiniteFloat | None] = []
    points: list[str] = []
    """What names the extraction point behind each value; empty: x does."""

    @model_validator(mode="after")
    def _equally_long(self) -> Series:
        n = len(self.x)
        if len(self.y) != n or any(len(values) not in (0, n) for values in (self.low, self.high, self.points)):
            raise ValueError("its lists differ in length")
        return self


class Chart(_Part):
    """Lines or bars, and horizontal marks for comparison."""

    title: str
    kind: ChartKind
    x: str
    """The axis's label."""
    y: str
    series: list[Series]
    baseline: FiniteFloat | None = None
    """A blank page's score."""
    oracle: FiniteFloat | None = None
    target: FiniteFloat | None = None
    """The seed study's."""


class KeyResult(_Part):
    """One line of the key results."""

    what: str
    ours: Interval | None
    seed: FiniteFloat | None = None
    """The seed study's number."""
    target: str | None = None
    """The seed study's target, such as "< 0.35"."""
    baseline: Interval | None = None
    """The score of what needs no latents."""
    baseline_name: str | None = None
    oracle: Interval | None = None


class Picture(_Part):
    """An image in the folder artifacts/ beside the file."""

    title: str
    file: str

    @field_validator("file")
    @classmethod
    def _inside_artifacts(cls, file: str) -> str:
        if (path := PurePosixPath(file)).is_absolute() or ".." in path.parts or "\\" in file:
            raise ValueError("it is not in the folder artifacts")
        return file


class Figure(_Part):
    """A chart as files in artifacts/."""

    title: str
    png: str
    html: str


class Experiment(_Part):
    """One question and its answer."""

    title: str
    question: str
    verdict: Verdict | None
    """On a claim of the seed study, for this model alone; None for a question that is no claim of it."""
    verdict_reason: str
    """The claim, the rule, and the numbers that decide."""
    paragraph: str
    seed: dict[str, int | FiniteFloat] = {}
    """The seed study's numbers."""
    key: list[KeyResult] = []
    tables: list[Table]
    charts: list[Chart]
    pictures: list[Picture] = []
    figures: list[Figure] = []
    seconds: FiniteFloat | None = None


class Study(_Part):
    """A whole results.yaml."""

    study: str | None = None
    model: str | None = None
    vae: str | None = None
    created: str | None = None
    """The date of the latest experiment."""
    device: str | None = None
    seconds: FiniteFloat | None = None
    commands: list[str] = []
    settings: dict[str, Any] = {}
    """What all results depend on: models, seed, sizes."""
    experiments: dict[str, Experiment]
    surprises: list[str] = []
    caveats: list[str] = []
    recommendations: list[str] = []
