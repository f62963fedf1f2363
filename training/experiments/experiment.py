"""What an experiment is, and what it measures: a table of scores for each image, and a few plain numbers.

Shapes: S seeds, N images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from foresight.data.images import to_pil

Samples = Mapping[str, np.ndarray]  # {score: (S, N)}, NaN where an image has none
ScoreTable = Mapping[str, Samples]  # {condition: its samples}
GAP = 4  # pixels between the images of a grid


class StudyPoints(BaseModel):
    """The extraction points of a study, as names."""

    every: list[str]
    recommended: str
    merger: list[str]
    """Just before the merger, and just after."""
    landmarks: list[str]


class ImageGrid(BaseModel):
    """A WebP of image rows in the folder artifacts/. point, adapter: where Findings opens Inspect."""

    file: str
    title: str
    point: str
    adapter: str


@dataclass(frozen=True)
class Measurement:
    """What an experiment measured; the report makes all words and figures of it.

    tables: kept as compressed CSV, a line for each condition, score and seed. steps: optimizer steps, by what was
    trained. parameters: of adapters, by condition. values: other plain numbers and names.
    """

    tables: Mapping[str, ScoreTable]
    steps: Mapping[str, int] = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    grids: Sequence[ImageGrid] = ()


@dataclass(frozen=True)
class Experiment:
    """One question of the study.

    measure: takes the Bench, then the Measurement of each experiment in `needs`. version: to be raised whenever the
    same settings come to give other numbers; results of another version are never reused. pooled: it works on means
    over tokens, and takes nothing of the latents that the others share.
    """

    name: str
    title: str
    question: str
    measure: Callable[..., Measurement]
    needs: tuple[str, ...] = ()
    version: int = 1
    pooled: bool = False


def stack_seeds(seeds: Sequence[Mapping[str, np.ndarray]]) -> Samples:
    """Scores (N,) of each seed → (S, N)."""
    return {name: np.stack([scores[name] for scores in seeds]) for name in seeds[0]}


def write_grid(path: Path, rows: Sequence[Tensor], title: str, point: object, adapter: str = "tokens") -> ImageGrid:
    """Writes images (n, 3, H, W) of each row as one WebP: a row below another, the same image in one column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for images in rows:
        x = torch.nn.functional.pad(images.float().cpu().clamp(0, 1), (0, GAP, 0, GAP), value=1.0)
        lines.append(torch.cat(list(x), -1))
    to_pil(torch.cat(lines, -2)).save(path, quality=90, method=6)  # a tenth of a PNG's bytes, to be looked at alone
    return ImageGrid(file=path.name, title=title, point=str(point), adapter=adapter)
