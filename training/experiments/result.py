"""What an experiment hands back: plain values that results.yaml, FINDINGS.md, the figures and the app read."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foresight.data.images import to_pil
from foresight.metrics.baselines import SEED_TARGETS, skill_of_means
from training.experiments.bank import SCORES, Samples
from training.experiments.statistics import Interval, interval

NAMES = {
    "lpips": "LPIPS",
    "ssim": "SSIM",
    "psnr": "PSNR, dB",
    "mask_iou": "mask IoU",
    "object_lpips": "LPIPS on objects",
    "object_error": "error on objects",
}
TARGETS = SEED_TARGETS | {"box_iou": 0.60}  # the seed study's
MEASURED = "mask IoU measured in"
ALONE = "learned from VAE latents alone"

Result = dict[str, Any]


def shown(values: Interval, digits: int = 3) -> str:
    """``0.041 [0.038, 0.045]``"""
    mean, low, high = (f"{v:.{digits}f}" for v in values)
    return f"{mean} [{low}, {high}]"


def said(samples: np.ndarray) -> str:
    """The interval of samples as text."""
    found = finite(samples)
    return shown(found) if found else "unknown"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """A table; a record is text, a number, or an interval [mean, low, high]."""
    return {"title": title, "columns": list(columns), "rows": [list(row) for row in rows]}


def score_table(
    title: str,
    samples: Mapping[str, Samples],
    scores: Sequence[str] = SCORES,
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """A row for each name: its scores with intervals, behind further columns given as {name: value}."""
    further = more or {}
    partly = "mask_iou" in scores and any(not np.isfinite(found["mask_iou"]).all() for found in samples.values())
    if partly:  # so a mean is told with its share
        further = dict(further) | {MEASURED: {n: measured(found["mask_iou"]) for n, found in samples.items()}}
    columns = ["what", *further, *(NAMES[s] for s in scores)]
    rows = [
        [n, *(column[n] for column in further.values()), *(finite(found[s]) for s in scores)]
        for n, found in samples.items()
    ]
    return table(title, columns, rows)


def finite(samples: np.ndarray) -> Interval | None:
    """The interval over pictures that have this score by every seed; None where fewer than two have."""
    x = np.atleast_2d(samples)
    x = x[:, np.isfinite(x).all(0)]
    return interval(x) if x.shape[1] > 1 else None


def measured(samples: np.ndarray) -> str:
    """Of how many pictures `finite` is: "97 of 128". samples: (S, N)."""
    known = np.isfinite(np.atleast_2d(samples)).all(0)
    return f"{known.sum()} of {len(known)}"


def mean(samples: np.ndarray) -> float | None:
    """The mean of `finite`."""
    found = finite(samples)
    return found[0] if found else None


def skills(found: Samples, blank: Samples, ceiling: Samples) -> dict[str, float]:
    """The skill of the means by score, of those that have one."""
    values = {name: skill_of_means(name, found[name], blank[name], ceiling[name]) for name in SCORES}
    return {name: value for name, value in values.items() if value is not None}


def verdict_of(difference: Interval) -> str:
    """The verdict on "the first is better", from the paired difference of a score that is to be low."""
    return "holds" if difference[2] < 0 else "does not hold" if difference[1] > 0 else "open"


def key(
    what: str,
    ours: Interval | None,
    seed: float | None = None,
    floor: tuple[str, Interval | None] | None = None,
    oracle: Interval | None = None,
    target: str | None = None,
) -> dict[str, Any]:
    """One line of the key results. seed: the seed study's number. floor: what needs no latents, and its score."""
    name, score = floor or (None, None)
    return {
        "what": what,
        "target": target,
        "seed": seed,
        "ours": ours,
        "floor": score,
        "floor_is": name,
        "oracle": oracle,
    }


def series(name: str, x: Sequence[Any], samples: Sequence[np.ndarray], points: Sequence[str] | None = None) -> dict:
    """One line or group of bars of a chart, with intervals."""
    found = [finite(s) or [float("nan")] * 3 for s in samples]
    each = {key: [f[k] for f in found] for k, key in enumerate(("y", "low", "high"))}
    return {"name": name, "x": list(x), **each} | ({"points": list(points)} if points else {})


def chart(
    title: str,
    kind: str,
    labels: tuple[str, str],
    lines: Sequence[dict[str, Any]],
    floor: float | None = None,
    ceiling: float | None = None,
    target: float | None = None,
) -> dict[str, Any]:
    """kind: "line", "bar" or "waterfall". floor: a blank page's score. ceiling: the oracle's."""
    x, y = labels
    marks = {"floor": floor, "ceiling": ceiling, "target": target}
    return {"title": title, "kind": kind, "x": x, "y": y, "series": list(lines), **marks}


def write_scores(path: Path, samples: Mapping[str, Samples]) -> None:
    """Every picture's scores as CSV: what, seed, picture, and a column for each score."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["what", "seed", "picture", *SCORES])
        for name, found in samples.items():
            seeds, pictures = found["lpips"].shape
            for seed in range(seeds):
                for i in range(pictures):
                    writer.writerow([name, seed, i, *(f"{found[s][seed, i]:.6g}" for s in SCORES)])


def write_grid(path: Path, rows: Sequence[Tensor], gap: int = 4) -> None:
    """Pictures (n, 3, H, W) of each row as one PNG: a row below another, the same picture in one column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for pictures in rows:
        x = torch.nn.functional.pad(pictures.float().cpu().clamp(0, 1), (0, gap, 0, gap), value=1.0)
        lines.append(torch.cat(list(x), -1))
    to_pil(torch.cat(lines, -2)).save(path)
