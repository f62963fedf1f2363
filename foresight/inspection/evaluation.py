"""Many pictures, one extraction point, one adapter → a table of scores beside their floors and ceiling.

Shapes: B pictures of H × W pixels, the size at which the VLM sees them; N objects, or N training pictures.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foresight.adapters.registry import AdapterRecord
from foresight.data.archive import SUFFIXES, Broken, File
from foresight.data.images import load_image
from foresight.data.render import render
from foresight.data.scenes import SceneSpec, take
from foresight.errors import InputError
from foresight.inspection.inspector import SCORES, Clock, Inspector, Scores, prepare, score_rows, skills
from foresight.metrics.masks import NOT_MEASURABLE
from foresight.metrics.matching import ObjectScore, plane, score_objects
from foresight.metrics.scores import Comparison, bootstrap, compare, skill

TRAINING = 256  # scenes of the training split that stand for what an adapter was trained on
_CHUNK = 32  # scenes rendered at a time


@dataclass(frozen=True)
class Sample:
    """A picture to evaluate: (3, H, W) in [0, 1] and, if known, what it shows.

    mask: (H, W) bool. case: a scene's description or a file's path, which makes the picture again. objects:
    (N, H, W) bool, the visible part of each of the scene's objects.
    """

    image: str
    picture: Tensor
    mask: Tensor | None = None
    case: dict[str, Any] | str | None = None
    objects: Tensor | None = None


@dataclass(frozen=True)
class Line:
    """One line of the table: a picture's scores, without its pixels.

    scores: of "adapter", "oracle", "blank" and, where training pictures are known, of "mean" and "nearest".
    mask_reason: why the adapter's picture has no mask IoU: the original's reason, or `masks.NOT_MEASURABLE`.
    seconds: its share of the batch's time. distance: of its latents to the adapter's training latents; beyond `far` its
    scores speak of the adapter. case: as of its Sample. objects: of a scene, each object's scores. plane: (2, CELLS,
    CELLS), as from `objects.plane`.
    """

    image: str
    scores: dict[str, Scores]
    skill: Scores
    mask_reason: str | None
    seconds: float
    distance: float
    far: float
    case: dict[str, Any] | str | None
    objects: tuple[ObjectScore, ...]
    plane: Tensor = field(repr=False)

    @property
    def background(self) -> str | None:
        """A scene's kind of background."""
        return self.case["background"]["kind"] if isinstance(self.case, dict) else None

    def flat(self) -> dict[str, Any]:
        """One line of a table: the adapter's own scores under their names, others as "oracle_lpips".

        Of a scene also its factors; several objects' stand in one text, with semicolons, the last in front.
        """
        rest = {"skill": self.skill, **self.scores}
        own = rest.pop("adapter")
        factors = {
            f"object_{part.name}": "; ".join(_text(getattr(thing, part.name)) for thing in self.objects) or None
            for part in fields(ObjectScore)
        }
        return {
            "image": self.image,
            **own,
            **{f"{of}_{name}": scores[name] for of, scores in rest.items() for name in SCORES},
            "mask_reason": self.mask_reason,
            "distance": self.distance,
            "far": self.far,
            "background": self.background,
            "objects": len(self.objects) or None,
            **factors,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Row(Line):
    """A line with its pixels, on the CPU. original, reconstruction: (3, H, W) in [0, 1]."""

    original: Tensor = field(repr=False)
    reconstruction: Tensor = field(repr=False)

    def without_pixels(self) -> Line:
        """The line alone, of which thousands fit into memory."""
        return Line(**{part.name: getattr(self, part.name) for part in fields(Line)})


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
            picture, visible = drawn.images[i].float() / 255, drawn.visible[i, : int(part.count[i])]
            yield Sample(
                f"scene {start + i} ({part.digest(i)})",
                *prepare(picture, drawn.mask[i]),
                case=part.describe(i),
                objects=torch.stack([m for _, m in (prepare(picture, mask) for mask in visible) if m is not None]),
            )


def scene_floors(seed: int, spec: SceneSpec) -> Floors:
    """Floors from scenes of the training split, which shares none with the test split."""
    drawn = render(take(TRAINING, seed, spec, "train")).images
    return Floors(torch.stack([prepare(x.float() / 255)[0] for x in drawn]))


def folder_files(folder: str | Path) -> list[Path]:
    """What has a picture's suffix in a folder, sorted. Raises InputError where there is none, or it cannot be read."""
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"there is no folder {str(folder)!r}.")
    try:
        inside = sorted(root.iterdir())
    except OSError as error:
        raise InputError(f"the folder {str(folder)!r} cannot be read: {error.strerror}.") from error
    files = [p for p in inside if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    if not files:
        raise InputError(f"the folder {str(folder)!r} has no pictures ({', '.join(SUFFIXES)}).")
    return files


def file_samples(files: Iterable[Path | File | Broken]) -> Iterator[Sample | Broken]:
    """Pictures as they are asked for; a file that cannot be read is told, not raised."""
    for file in files:
        if isinstance(file, Broken):
            yield file
            continue
        name, path = file if isinstance(file, File) else (file.name, file)
        try:  # a numbered file's own name would tell nobody anything
            picture = load_image(path.read_bytes() if isinstance(file, File) else path)
            yield Sample(name, prepare(picture)[0], case=str(path))
        except InputError as error:
            yield Broken(name, str(error))


def evaluate(
    inspector: Inspector,
    record: AdapterRecord,
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
                yield from _rows(inspector, record, pictures, floors)


@torch.inference_mode()
def _rows(inspector: Inspector, record: AdapterRecord, samples: list[Sample], floors: Floors | None) -> Iterator[Row]:
    start, device = time.perf_counter(), inspector.vae.device
    originals = torch.stack([sample.picture for sample in samples]).to(device)
    latents, (oracles, made) = inspector.reconstruct(originals, [record], Clock(device))
    adapter = inspector.registry.load(record)
    distances = adapter.distance(latents).tolist()
    share = (time.perf_counter() - start) / len(samples)
    for sample, original, oracle, picture, far_off in zip(samples, originals, oracles, made, distances, strict=True):
        start = time.perf_counter()
        pictures = {"adapter": picture, "oracle": oracle, "blank": torch.ones_like(original)}
        if floors is not None:
            pictures |= {"mean": floors.mean.to(device), "nearest": floors.nearest(sample.picture).to(device)}
        mask = None if sample.mask is None else sample.mask.to(device)[None]
        found = compare(original[None], torch.stack([*pictures.values()]), mask)
        scores = dict(zip(pictures, score_rows(found), strict=True))
        objects = _objects(sample, found)
        yield Row(
            image=sample.image,
            scores=scores,
            skill=skills(scores["adapter"], scores["blank"], scores["oracle"]),
            mask_reason=found.reasons[0],
            seconds=share + time.perf_counter() - start,
            distance=far_off,
            far=float(adapter.far),
            case=sample.case,
            objects=objects,
            plane=plane(found.original_masks[0], found.masks[0], scored=found.reasons[0] is None).cpu(),
            original=sample.picture,
            reconstruction=picture.cpu(),
        )


def _objects(sample: Sample, found: Comparison) -> tuple[ObjectScore, ...]:
    if sample.objects is None or not isinstance(sample.case, dict):
        return ()
    mask = None if found.reasons[0] else found.masks[0].cpu()
    return score_objects(sample.case, sample.objects, mask, found.lpips_map[0].cpu())


def _text(value: str | float | None) -> str:
    return "–" if value is None else value if isinstance(value, str) else f"{value:.4f}"


def summarise(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Means with 95 % intervals of `Row.flat` lines.

    Returns {"pictures": N, "without_mask": {reason: pictures} of originals without objects, "not_measurable": in how
    many reconstructions no background is found, "measured": {"lpips": pictures, …}, "scores": {"lpips": [mean, low,
    high], …}, "skill": {"lpips": of the means, …}}. Mask IoU is of the pictures that have one; what none has is None.
    Where only one has a score, its low and high are None. A skill is of the pictures in which adapter, blank page and
    oracle all have the score.
    """
    table = list(rows)
    if not table:
        raise InputError("there is no picture to take a mean of.")
    names = [n for n in table[0] if n.endswith(SCORES) and not n.startswith(("skill_", "object_"))]
    values = {name: [row[name] for row in table if row[name] is not None] for name in names}
    scores = {name: list(bootstrap(found)) if found else None for name, found in values.items()}
    reasons = Counter(row["mask_reason"] for row in table if row["mask_reason"])
    return {
        "pictures": len(table),
        "not_measurable": reasons.pop(NOT_MEASURABLE, 0),
        "without_mask": dict(reasons),
        "measured": {name: len(found) for name, found in values.items()},
        "scores": scores,
        "skill": {name: _skill_of_means(table, name) for name in SCORES},
    }


def _skill_of_means(table: list[dict[str, Any]], name: str) -> float | None:
    """The skill of the means over the pictures in which adapter, blank page and oracle all have the score."""
    columns = [name, f"blank_{name}", f"oracle_{name}"]
    known = [found for row in table if None not in (found := [row[column] for column in columns])]
    return skill(name, *(sum(column) / len(known) for column in zip(*known, strict=True))) if known else None
