"""What a read clip gives to take away: the three clips side by side as mp4, and every score by frame as CSV."""

import csv
import io
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from foresight.data.clips import write_clip
from foresight.inspection.clip_readout import ClipReport


def side_by_side(report: ClipReport) -> bytes:
    """An mp4 of original, oracle and reconstruction beside each other, in this order."""
    clips = [report.sample.frames.cpu(), report.oracle, report.reconstruction]
    return mp4(torch.cat(clips, 3), report.sample.fps)


def mp4(frames: Tensor, fps: float) -> bytes:
    """The mp4 file of a clip's frames (F, 3, H, W) in [0, 1]."""
    with TemporaryDirectory() as folder:
        return write_clip(Path(folder) / "clip.mp4", frames, fps).read_bytes()


def frame_table(report: ClipReport) -> str:
    """CSV, a line a frame: its time, its scores and the controls', where its objects are.

    A score of two neighbouring frames stands at the second. Empty where there is none.
    """
    columns: dict[str, list[Any]] = {}
    count = len(report.reconstruction)
    columns["frame"] = list(range(1, count + 1))
    columns["seconds"] = [f"{k / report.sample.fps:.4f}" for k in range(count)]
    controls = {f"{name}_": scores for name, scores in report.controls.items()}
    for prefix, scores in {"": report.scores, **controls}.items():
        columns |= {f"{prefix}{name}": _cells(values) for name, values in scores.frames.items()}
        columns |= {f"{prefix}{name}": ["", *_cells(values)][:count] for name, values in scores.pairs.items()}
    for kind, tracks in (("true", report.scores.true_tracks), ("decoded", report.scores.tracks)):
        for j, track in enumerate(tracks.unbind(1), 1):
            columns |= {f"object_{j}_{kind}_{axis}": _cells(track[:, d]) for d, axis in enumerate("xy")}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow(columns)
    table.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _cells(x: Tensor) -> list[str]:
    return ["" if math.isnan(value) else f"{value:.6g}" for value in x.tolist()]
