"""Many images, one extraction point, one adapter → a table of scores beside their baselines and ceiling.

Shapes: B images of H × W pixels, the size at which the VLM sees them; N objects, or N training images.
"""

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foresight import zero_gpu
from foresight.adapters.registry import AdapterRecord
from foresight.data.archive import Broken, File
from foresight.data.images import load_image
from foresight.data.names import shortened
from foresight.data.render import render
from foresight.data.resolution import DEFAULT, Resolution
from foresight.data.scenes import Scenes, SceneSpec, take
from foresight.errors import InputError
from foresight.inspection.familiarity import unfamiliar
from foresight.inspection.inspector import Inspector
from foresight.inspection.readout import Clock, Readout, Reconstruction, prepare
from foresight.metrics.baselines import TrainingBaselines, skill_of_means
from foresight.metrics.intervals import bootstraps
from foresight.metrics.masks import NOT_MEASURABLE
from foresight.metrics.matching import ObjectScore, Territories, plane, score_objects, territories
from foresight.metrics.patches import PhotoScores, score_photo
from foresight.metrics.scores import SCORES, Scores

TRAINING = 256  # scenes of the training split that stand for what an adapter was trained on
AHEAD = 4  # batches' memory of images that wait for others of their kind
_CHUNK = 32  # scenes rendered at a time


@dataclass(frozen=True)
class Sample:
    """An image to evaluate, and what it shows where that is known.

    name: what tables call it. image: (3, H, W) in [0, 1]. mask: (H, W) bool. source: a scene's description or a file's
    path, which makes the image again. objects: (N, H, W) bool, the visible part of each of the scene's objects.
    """

    name: str
    image: Tensor
    mask: Tensor | None = None
    source: dict[str, Any] | str | None = None
    objects: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)"""
        return self.image.shape[1], self.image.shape[2]


@dataclass(frozen=True)
class ImageScores:
    """One line of the table: an image's scores, without its pixels.

    name, source: as of its Sample. scores: of "adapter", "oracle", "blank" and, where training images are known, of
    "mean" and "nearest". mask_reason: why the adapter's image has no mask IoU: the original's reason, or
    `masks.NOT_MEASURABLE`. seconds: its share of the batch's time. distance: of its latents to the adapter's training
    latents; beyond `far` its scores speak of the adapter. objects: of a scene, each object's scores. plane:
    (2, CELLS, CELLS), as from `matching.plane`. size: (H, W) at which the VLM saw it. notice: that the adapter was
    fitted at another one. photo: of an image that is no scene, where it is read worst and what it is like. latents:
    (D,) bfloat16, the mean over its tokens.
    """

    name: str
    scores: dict[str, Scores]
    skill: Scores
    mask_reason: str | None
    seconds: float
    distance: float
    far: float
    source: dict[str, Any] | str | None
    objects: tuple[ObjectScore, ...]
    plane: Tensor = field(repr=False)
    size: tuple[int, int]
    notice: str | None
    photo: PhotoScores | None = field(default=None, kw_only=True)
    latents: Tensor | None = field(default=None, kw_only=True, repr=False)

    @property
    def unfamiliar(self) -> bool:
        """Whether a person should be warned: see `familiarity.unfamiliar`."""
        return unfamiliar(self.distance, self.far, self.scores["adapter"]["lpips"])

    @property
    def background(self) -> str | None:
        """A scene's kind of background."""
        return self.source["background"]["kind"] if isinstance(self.source, dict) else None

    def flat(self) -> dict[str, Any]:
        """The line's columns: the adapter's own scores under their names, others as "oracle_lpips".

        Of a scene also its factors; several objects' stand in one text, with semicolons, the last in front.
        """
        others = {"skill": self.skill, **self.scores}
        own = others.pop("adapter")
        factors = {
            f"object_{part.name}": "; ".join(_text(getattr(item, part.name)) for item in self.objects) or None
            for part in fields(ObjectScore)
        }
        return {
            "image": self.name,
            "width": self.size[1],
            "height": self.size[0],
            **own,
            **{f"{of}_{name}": scores[name] for of, scores in others.items() for name in SCORES},
            "mask_reason": self.mask_reason,
            "notice": self.notice,
            "distance": self.distance,
            "far": self.far,
            "background": self.background,
            "objects": len(self.objects) or None,
            **factors,
            **(self.photo.flat() if self.photo else {}),
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Evaluated(ImageScores):
    """A line with its pixels, on the CPU. original, reconstruction: (3, H, W) in [0, 1]."""

    original: Tensor = field(repr=False)
    reconstruction: Tensor = field(repr=False)

    def without_pixels(self) -> ImageScores:
        """The line alone, of which thousands fit into memory."""
        return ImageScores(**{part.name: getattr(self, part.name) for part in fields(ImageScores)})


def scene_samples(count: int, seed: int, spec: SceneSpec, resolution: Resolution = DEFAULT) -> Iterator[Sample]:
    """The first `count` scenes of the test split, by number and hash; rendered when the iterator reaches them."""
    scenes = take(count, seed, spec, "test")
    for number, sample in enumerate(samples_of(scenes, resolution)):
        yield replace(sample, name=f"scene {number} ({sample.name})")


def scenes_as_json(count: int, seed: int, spec: SceneSpec) -> dict[str, Any]:
    """What `scene_samples` are drawn from, for reports."""
    return {"scenes": count, "seed": seed, "split": "test", **vars(spec)}


def samples_of(scenes: Scenes, resolution: Resolution = DEFAULT) -> Iterator[Sample]:
    """Scenes as samples, named by their hashes; rendered as the VLM sees them when the iterator reaches them."""
    size = resolution.size(*scenes.size)
    for part in scenes.chunks(_at_a_time(_CHUNK, size)):
        rendered = render(part.resized(size))
        for i in range(len(part)):
            yield Sample(
                part.digest(i),
                rendered.images[i].float() / 255,
                rendered.mask[i],
                source=part.describe(i),
                objects=rendered.visible[i, : int(part.count[i])],
            )


def _at_a_time(count: int, size: tuple[int, int]) -> int:
    """How many images of (H, W) take the memory of `count` of 224²; at least one."""
    return max(1, count * DEFAULT.most // max(DEFAULT.most, size[0] * size[1]))


def scene_baselines(seed: int, spec: SceneSpec, resolution: Resolution = DEFAULT) -> TrainingBaselines:
    """Scenes of the training split, which shares none with the test split."""
    size = resolution.size(*spec.size)
    scenes = take(_at_a_time(TRAINING, size), seed, spec, "train").resized(size)
    return TrainingBaselines(render(scenes).images.float() / 255)


def file_samples(files: Iterable[Path | File | Broken], resolution: Resolution = DEFAULT) -> Iterator[Sample | Broken]:
    """Files as samples, read when the iterator reaches them; one that cannot be read is given as Broken, not raised."""
    for file in files:
        if isinstance(file, Broken):
            yield file
            continue
        name, path = file if isinstance(file, File) else (file.name, file)
        try:  # an unpacked file has a number for its name, which an error should not name
            image = load_image(path.read_bytes() if isinstance(file, File) else path)
            yield Sample(name, prepare(image, None, resolution)[0], source=str(path))
        except InputError as error:
            yield Broken(name, str(error))


def evaluate(
    inspector: Inspector,
    record: AdapterRecord,
    samples: Iterable[Sample | Broken],
    training: TrainingBaselines | None = None,
    batch: int | None = None,
) -> Iterator[Evaluated | Broken]:
    """Evaluates images batch by batch, each of one size, and yields their scores in order, as batches end.

    Args:
        inspector: the models.
        record: the adapter to read the images with.
        samples: the images; what is broken is handed on.
        training: what is known of the training images, of the samples' size.
        batch: images of 224² at a time, of larger ones fewer; None: 4 on a CPU, else 32.
    """
    length = batch or (4 if inspector.vae.device.type == "cpu" else 32)
    ready, yielded = dict[int, Evaluated | Broken](), 0
    for batch_of_one_kind in _batches(_checked(inspector, record, samples), length):
        numbers, images = zip(*batch_of_one_kind, strict=True)
        if isinstance(images[0], Broken):
            rows: Iterable[Evaluated | Broken] = images
        else:
            rows = _evaluate_batch(inspector, record, images, training)
        for number, row in zip(numbers, rows, strict=True):
            ready[number] = row
            while yielded in ready:
                yield ready.pop(yielded)
                yielded += 1


def _checked(
    inspector: Inspector, record: AdapterRecord, samples: Iterable[Sample | Broken]
) -> Iterator[Sample | Broken]:
    """A file's image that is too large, or whose size the adapter cannot read, is Broken; of scenes all are: raised."""

    @cache  # once for each size: it takes a millisecond to find out
    def fault(size: tuple[int, int]) -> str | None:
        try:
            inspector.check_size(size)
            record.check_size(size)
        except InputError as error:
            return str(error)
        return None

    for sample in samples:
        if isinstance(sample, Sample) and (reason := fault(sample.size)):
            if not isinstance(sample.source, str):
                raise InputError(reason)
            yield Broken(sample.name, f"“{shortened(sample.name)}”: {reason}")
            continue
        yield sample


def _batches(samples: Iterable[Sample | Broken], length: int) -> Iterator[list[tuple[int, Any]]]:
    """Numbered images, those of one kind together, and Brokens alone; what waits for others of its kind is bounded.

    A kind is a size, with or without masks that are known.
    """
    waiting: dict[tuple[tuple[int, int], bool], list[tuple[int, Sample]]] = {}
    area = 0  # pixels that wait
    for number, sample in enumerate(samples):
        if isinstance(sample, Broken):
            yield [(number, sample)]
            continue
        kind = sample.size, sample.mask is not None
        waiting.setdefault(kind, []).append((number, sample))
        area += math.prod(sample.size)
        full = len(waiting[kind]) == _at_a_time(length, sample.size)
        if full or area >= AHEAD * length * DEFAULT.most:
            kind = kind if full else next(iter(waiting))
            batch = waiting.pop(kind)
            area -= len(batch) * math.prod(kind[0])
            yield batch
    yield from waiting.values()


@zero_gpu.computes(zero_gpu.BATCH)
@torch.inference_mode()
def _evaluate_batch(
    inspector: Inspector, record: AdapterRecord, samples: Sequence[Sample], training: TrainingBaselines | None
) -> Iterator[Evaluated]:
    start, device = time.perf_counter(), inspector.vae.device
    with ThreadPoolExecutor() as pool:  # SciPy's distance transforms run while a GPU works
        objects = pool.map(_territories, samples)
        images = torch.stack([sample.image for sample in samples])
        known = [sample.mask for sample in samples if sample.mask is not None]  # all or none
        originals = images.to(device)
        oracles = inspector.round_trip(originals)
        [decoded] = inspector.reconstruct(originals, [record], Clock(device))
        readout = Readout(originals, torch.stack(known) if known else None, oracles, pixels=False)
        reconstructions = readout.score("adapter", decoded.images)
        beside = [readout.oracles, readout.blanks]
        if training is not None:
            mean, nearest = training.mean[None].to(device), training.nearest(images).to(device)
            beside += [readout.score("mean", mean, pixels=False), readout.score("nearest", nearest, pixels=False)]
        masks, latents, distances = readout.masks.cpu(), decoded.means.bfloat16().cpu(), decoded.distances.tolist()
    share = (time.perf_counter() - start) / len(samples)
    for i, (sample, parts, own, *others) in enumerate(zip(samples, objects, reconstructions, *beside, strict=True)):
        start = time.perf_counter()
        yield Evaluated(
            name=sample.name,
            scores={scored.name: scored.scores for scored in (own, *others)},
            skill=own.skill,
            mask_reason=own.mask_reason,
            distance=distances[i],
            far=decoded.far,
            source=sample.source,
            objects=_objects(sample, parts, own),
            plane=plane(masks[i], own.mask, scored=own.mask_reason is None),
            size=sample.size,
            notice=record.size_notice(sample.size),
            photo=None if isinstance(sample.source, dict) else score_photo(sample.image, own.lpips_map),
            seconds=share + time.perf_counter() - start,
            latents=latents[i],
            original=sample.image,
            reconstruction=own.image.clone(),  # not a view that keeps, or is sent with, the whole batch
        )


def _territories(sample: Sample) -> Territories | None:
    return None if sample.objects is None else territories(sample.objects)


def _objects(sample: Sample, parts: Territories | None, reconstruction: Reconstruction) -> tuple[ObjectScore, ...]:
    if parts is None or not isinstance(sample.source, dict):
        return ()
    mask = None if reconstruction.mask_reason else reconstruction.mask
    return score_objects(sample.source, parts, mask, reconstruction.lpips_map)


def _text(value: str | float | None) -> str:
    return "–" if value is None else value if isinstance(value, str) else f"{value:.4f}"


def summarise(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Means with 95 % intervals of `ImageScores.flat` lines.

    Returns:
        {"pictures": N, "without_mask": {reason: images} of originals without objects, "not_measurable": in how many
        reconstructions no background is found, "other_sizes": images of another size than the adapter was fitted at,
        "measured": {"lpips": images, …}, "scores": {"lpips": [mean, low, high], …}, "skill": {"lpips": of the means,
        …}}. Mask IoU is of the images that have one; what none has is None. Where only one has a score, its low and
        high are None. A skill is of the images in which adapter, blank page and oracle all have the score.

    Raises:
        InputError: there is no line.
    """
    table = list(rows)
    if not table:
        raise InputError("there is no picture to take a mean of.")
    names = [n for n in table[0] if n.endswith(SCORES) and not n.startswith(("skill_", "object_"))]
    columns = {name: [row[name] for row in table] for name in names}
    values = {name: [value for value in column if value is not None] for name, column in columns.items()}
    measured = {name: known for name, known in values.items() if known}
    reasons = Counter(row["mask_reason"] for row in table if row["mask_reason"])
    return {
        "pictures": len(table),
        "other_sizes": sum(bool(row.get("notice")) for row in table),
        "not_measurable": reasons.pop(NOT_MEASURABLE, 0),
        "without_mask": dict(reasons),
        "measured": {name: len(known) for name, known in values.items()},
        "scores": dict.fromkeys(names) | dict(zip(measured, map(list, bootstraps(measured.values())), strict=True)),
        "skill": {n: skill_of_means(n, columns[n], columns[f"blank_{n}"], columns[f"oracle_{n}"]) for n in SCORES},
    }
