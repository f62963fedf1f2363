"""Many pictures, one extraction point, one adapter → a table of scores beside their floors and ceiling.

Shapes: B pictures of H × W pixels, the size at which the VLM sees them; N training pictures.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foresight.errors import InputError
from foresight.images import load_image
from foresight.inspector import SCORES, Clock, Entry, Inspector, Scores, prepare, score_rows, skills
from foresight.metrics import bootstrap, compare, skill
from foresight.render import render
from foresight.scenes import SceneSpec, take

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
TRAINING = 256  # scenes of the training split that stand for what an adapter was trained on
_CHUNK = 32  # scenes rendered at a time


@dataclass(frozen=True)
class Sample:
    """A picture to evaluate: (3, H, W) in [0, 1] and, if known, what it shows: (H, W) bool."""

    image: str
    picture: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True)
class Broken:
    """A file that is no picture, and why."""

    image: str
    reason: str


@dataclass(frozen=True)
class Row:
    """One picture evaluated; tensors on the CPU.

    scores: of "adapter", "oracle", "blank" and, where training pictures are known, of "mean" and "nearest".
    mask_reason: why there is no mask IoU. original, reconstruction: (3, H, W) in [0, 1].
    seconds: its share of the batch's time.
    """

    image: str
    scores: dict[str, Scores]
    skill: Scores
    mask_reason: str | None
    seconds: float
    original: Tensor = field(repr=False)
    reconstruction: Tensor = field(repr=False)

    def flat(self) -> dict[str, Any]:
        """One line of a table: the adapter's own scores under their names, others as "oracle_lpips"."""
        rest = {"skill": self.skill, **self.scores}
        own = rest.pop("adapter")
        return {
            "image": self.image,
            **own,
            **{f"{of}_{name}": scores[name] for of, scores in rest.items() for name in SCORES},
            "mask_reason": self.mask_reason,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Floors:
    """What a model that knows nothing but its training pictures could answer.

    training: (N, 3, H, W) in [0, 1].
    """

    training: Tensor

    @cached_property
    def mean(self) -> Tensor:
        """The training pictures' mean (3, H, W)."""
        return self.training.mean(0)

    def nearest(self, original: Tensor) -> Tensor:
        """(3, H, W) → the training picture (3, H, W) of least squared distance to the original itself.

        No answer out of a perfect memory, without imagination, could be nearer.
        """
        return self.training[(self._squares - 2 * (self.training.flatten(1) @ original.flatten())).argmin()]

    @cached_property
    def _squares(self) -> Tensor:
        return self.training.flatten(1).square().sum(1)


def scene_samples(count: int, seed: int, spec: SceneSpec) -> Iterator[Sample]:
    """The first `count` scenes of the test split, by number and hash; rendered as they are asked for."""
    scenes = take(count, seed, spec, "test")
    for start, part in zip(range(0, count, _CHUNK), scenes.chunks(_CHUNK), strict=True):
        drawn = render(part)
        for i in range(len(part)):
            name = f"scene {start + i} ({part.digest(i)})"
            yield Sample(name, *prepare(drawn.images[i].float() / 255, drawn.mask[i]))


def scene_floors(seed: int, spec: SceneSpec) -> Floors:
    """Floors from scenes of the training split, which shares none with the test split."""
    drawn = render(take(TRAINING, seed, spec, "train")).images
    return Floors(torch.stack([prepare(x.float() / 255)[0] for x in drawn]))


def folder_files(folder: str | Path) -> list[Path]:
    """The files of a folder with a picture's suffix, sorted. Raises InputError where there are none."""
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"there is no folder {str(folder)!r}.")
    files = sorted(p for p in root.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not files:
        raise InputError(f"the folder {str(folder)!r} has no pictures ({', '.join(SUFFIXES)}).")
    return files


def file_samples(files: Iterable[Path]) -> Iterator[Sample | Broken]:
    """Pictures as they are asked for; a file that cannot be read is told, not raised."""
    for file in files:
        try:
            yield Sample(file.name, prepare(load_image(file))[0])
        except InputError as error:
            yield Broken(file.name, str(error))


def evaluate(
    inspector: Inspector,
    entry: Entry,
    samples: Iterable[Sample | Broken],
    floors: Floors | None = None,
    batch: int | None = None,
) -> Iterator[Row | Broken]:
    """Evaluates pictures one batch after the other and yields each row when it is done, in order.

    floors: what is known of the training pictures, of the samples' size. batch: None is 4 on a CPU, else 32.
    """
    length = batch or (4 if inspector.vae.device.type == "cpu" else 32)
    for _, group in groupby(samples, lambda s: s.picture.shape if isinstance(s, Sample) else None):
        while part := list(islice(group, length)):
            yield from (sample for sample in part if isinstance(sample, Broken))
            if pictures := [sample for sample in part if isinstance(sample, Sample)]:
                yield from _rows(inspector, entry, pictures, floors)


@torch.inference_mode()
def _rows(inspector: Inspector, entry: Entry, samples: list[Sample], floors: Floors | None) -> Iterator[Row]:
    start, device = time.perf_counter(), inspector.vae.device
    originals = torch.stack([sample.picture for sample in samples]).to(device)
    _, (oracles, made) = inspector.reconstruct(originals, [entry], Clock(device))
    share = (time.perf_counter() - start) / len(samples)
    for sample, original, oracle, picture in zip(samples, originals, oracles, made, strict=True):
        start = time.perf_counter()
        pictures = {"adapter": picture, "oracle": oracle, "blank": torch.ones_like(original)}
        if floors is not None:
            pictures |= {"mean": floors.mean.to(device), "nearest": floors.nearest(sample.picture).to(device)}
        mask = None if sample.mask is None else sample.mask.to(device)[None]
        found = compare(original[None], torch.stack([*pictures.values()]), mask)
        scores = dict(zip(pictures, score_rows(found), strict=True))
        yield Row(
            image=sample.image,
            scores=scores,
            skill=skills(scores["adapter"], scores["blank"], scores["oracle"]),
            mask_reason=found.reasons[0],
            seconds=share + time.perf_counter() - start,
            original=sample.picture,
            reconstruction=picture.cpu(),
        )


def summarise(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Means with 95 % intervals of `Row.flat` lines.

    Returns {"pictures": N, "without_mask": {reason: pictures}, "scores": {"lpips": [mean, low, high], …},
    "skill": {"lpips": of the means, …}}. Mask IoU is of the pictures that have one; what none has is None.
    """
    table = list(rows)
    if not table:
        raise InputError("there is no picture to take a mean of.")
    names = [n for n in table[0] if n.endswith(SCORES) and not n.startswith("skill_")]
    values = {name: [row[name] for row in table if row[name] is not None] for name in names}
    scores = {name: list(bootstrap(found)) if found else None for name, found in values.items()}
    means = {name: None if found is None else found[0] for name, found in scores.items()}
    return {
        "pictures": len(table),
        "without_mask": dict(Counter(row["mask_reason"] for row in table if row["mask_reason"])),
        "scores": scores,
        "skill": {n: skill(means[n], means[f"blank_{n}"], means[f"oracle_{n}"]) for n in SCORES},
    }
