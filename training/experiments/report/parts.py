"""What answers are built of: intervals as text, tables, charts and key results from tables of scores."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foresight.metrics.baselines import SEED_TARGETS
from foresight.models.points import ExtractionPoint
from foresight.study import Cell, Chart, ChartKind, Interval, KeyResult, Series, Table, Verdict
from training.experiments.experiment import Measurement, Samples, ScoreTable, StudyPoints
from training.experiments.statistics import converged, finite, paired, skill_interval

SCORE_NAMES = {
    "lpips": "LPIPS",
    "haarpsi": "HaarPSI",
    "ssim": "SSIM",
    "psnr": "PSNR, dB",
    "mask_iou": "mask IoU",
    "object_lpips": "LPIPS on objects",
    "object_error": "error on objects",
    "no_object": "no object found",
}
MAIN_SCORES = ("lpips", "haarpsi", "ssim", "mask_iou")
TARGETS = SEED_TARGETS | {"box_iou": 0.60}  # the seed study's
REFERENCES = ("blank", "mean", "nearest", "oracle")
MEASURED = "mask IoU measured in"
LATENTS_ALONE = "learned from VAE latents alone"
RIDGE = "solved by ridge regression, whose penalty an eighth of the training scenes chooses"


@dataclass(frozen=True)
class Run:
    """A finished experiment as the report sees it."""

    measurement: Measurement
    points: StudyPoints
    settings: Mapping[str, Any]

    @property
    def at(self) -> str:
        """The recommended point."""
        return self.points.recommended

    @property
    def scores(self) -> ScoreTable:
        return self.measurement.tables["scores"]

    @property
    def trials(self) -> dict[str, Samples]:
        """The scores without the references."""
        return {name: samples for name, samples in self.scores.items() if name not in REFERENCES}

    @property
    def steps(self) -> int:
        return self.measurement.steps["scores"]


@dataclass(frozen=True)
class Difference:
    """The paired difference in LPIPS of two conditions with fewer steps and with the most, and whether it is told."""

    shorter: Interval
    longest: Interval
    stands: bool

    def __str__(self) -> str:
        return text(self.longest, 4) + " (open: not converged)" * (not self.stands)


def difference(shorter: ScoreTable, longest: ScoreTable, a: str, b: str, linear: Sequence[Samples]) -> Difference:
    """a - b at the two highest rungs of a ladder. linear: the scores of solved probes on the same latents as each."""
    gaps = [paired(table[a]["lpips"], table[b]["lpips"]) for table in (shorter, longest)]
    to_linear = [paired(longest[n]["lpips"], own["lpips"]) for n, own in zip((a, b), linear, strict=True)]
    return Difference(gaps[0], gaps[1], converged(gaps[0], gaps[1], to_linear))


def budget(steps: int, batch: int) -> str:
    """What stands beside a score of trained adapters."""
    return f"{steps:,} steps of {batch} pictures"


TOLD = (
    "A difference is told only where the last rung of the ladder, four times the steps of the one before it, moves it "
    "by less than 0.001 or a tenth of itself, and where the adapters beat the solved linear probes of their points; "
    "else it is open"
)


@dataclass(frozen=True)
class Answer:
    """What the report says of an experiment. advice: for a next phase."""

    verdict: Verdict | None
    verdict_reason: str
    paragraph: str
    tables: list[Table]
    charts: list[Chart]
    key: list[KeyResult] = field(default_factory=list)
    seed: Mapping[str, float] = field(default_factory=dict)
    advice: Sequence[str] = ()


def text(value: np.ndarray | Interval | None, digits: int = 3) -> str:
    """``0.041 [0.038, 0.045]``, of an interval or of samples; "unknown" where there is none."""
    interval = finite(value) if isinstance(value, np.ndarray) else value
    if interval is None:
        return "unknown"
    mean, low, high = (f"{v:.{digits}f}" for v in interval)
    return f"{mean} [{low}, {high}]"


def sure(samples: np.ndarray) -> Interval:
    """The interval of samples that every image has."""
    interval = finite(samples)
    assert interval is not None
    return interval


def mean(samples: np.ndarray) -> float | None:
    """The mean over the images that have the score with every seed."""
    interval = finite(samples)
    return interval[0] if interval else None


def measured(samples: np.ndarray) -> str:
    """How many images have a score (S, N) with every seed: "97 of 128"."""
    known = np.isfinite(samples).all(0)
    return f"{known.sum()} of {len(known)}"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table; samples in a cell become their interval."""
    return Table(title=title, columns=list(columns), rows=[[_cell(value) for value in row] for row in rows])


def _cell(value: Any) -> Cell:
    if isinstance(value, np.ndarray):
        value = finite(value)
    if isinstance(value, list):
        return [float(f"{v:.6g}") for v in value]
    return rounded(value) if isinstance(value, float) else value


def rounded(value: float) -> float | None:
    """To six digits, as results are kept; None where it is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def score_table(
    title: str,
    scores: ScoreTable,
    names: Sequence[str] = tuple(SCORE_NAMES),
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> Table:
    """A row for each condition: its scores, behind further columns given as {name: {condition: value}}."""
    more = dict(more or {})
    if "mask_iou" in names and any(not np.isfinite(samples["mask_iou"]).all() for samples in scores.values()):
        more[MEASURED] = {name: measured(samples["mask_iou"]) for name, samples in scores.items()}
    rows = [
        [name, *(column.get(name) for column in more.values()), *(samples[s] for s in names)]
        for name, samples in scores.items()
    ]
    return table(title, ["what", *more, *(SCORE_NAMES.get(s, s) for s in names)], rows)


def skill(scores: ScoreTable, name: str, score: str = "lpips") -> Interval | None:
    """The skill of a condition, against "blank" and "oracle" of the same table."""
    return skill_interval(score, *(scores[n][score] for n in (name, "blank", "oracle")))


def series(
    name: str, x: Sequence[Any], values: Iterable[np.ndarray | Interval | None], points: Sequence[str] = ()
) -> Series:
    """One line or group of bars of a chart, of samples or intervals."""
    intervals = [(finite(v) if isinstance(v, np.ndarray) else v) or [math.nan] * 3 for v in values]
    y, low, high = ([rounded(i[k]) for i in intervals] for k in range(3))
    return Series(name=name, x=list(x), y=y, low=low, high=high, points=list(points))


def chart(
    title: str, kind: ChartKind, labels: tuple[str, str], lines: Sequence[Series], score: str = "", **marks: Any
) -> Chart:
    """marks: baseline, oracle, target: samples or numbers. score: its name, which gives the seed's target."""
    values = {k: mean(v) if isinstance(v, np.ndarray) else v for k, v in marks.items()}
    target = {"target": TARGETS[score]} if score in TARGETS else {}
    return Chart(title=title, kind=kind, x=labels[0], y=labels[1], series=list(lines), **target, **values)


def depth_chart(title: str, adapters: Mapping[str, ScoreTable], score: str, blank: Samples, oracle: Samples) -> Chart:
    """A score at each extraction point, a line for each kind of adapter."""
    label = SCORE_NAMES[score]
    lines = [
        series(kind, list(scores), [samples[score] for samples in scores.values()], list(scores))
        for kind, scores in adapters.items()
    ]
    marks = {"baseline": blank[score], "oracle": oracle[score]}
    return chart(title, "line", ("extraction point", label), lines, score, **marks)


def bar_chart(title: str, x: str, scores: ScoreTable, score: str, **marks: Any) -> Chart:
    """A score of each condition."""
    label = SCORE_NAMES.get(score, score)
    lines = [series(label, list(scores), [samples[score] for samples in scores.values()])]
    return chart(title, "bar", (x, label), lines, **marks)


def key(
    what: str,
    ours: np.ndarray,
    seed: float | None = None,
    baseline: tuple[str, np.ndarray] | None = None,
    oracle: np.ndarray | None = None,
    target: str | None = None,
) -> KeyResult:
    """One line of the key results. seed: the seed study's number. baseline: what needs no latents, and its score."""
    name, score = baseline or (None, None)
    values = {"ours": _cell(ours), "baseline": _cell(score), "oracle": _cell(oracle)}
    return KeyResult.model_validate(values | {"what": what, "seed": seed, "target": target, "baseline_name": name})


def score_key(what: str, score: str, own: Samples, blank: Samples, oracle: Samples, **more: Any) -> KeyResult:
    """A key result of a score of images, beside the blank page's and the oracle's."""
    return key(
        f"{SCORE_NAMES[score]}, {what}", own[score], baseline=("blank page", blank[score]), oracle=oracle[score], **more
    )


def is_point(name: str) -> bool:
    """Whether a condition is an extraction point."""
    stage, _, layer = name.partition("/")
    return layer.isdecimal() and str(ExtractionPoint.parse(name)) == f"{stage}/{layer}"
