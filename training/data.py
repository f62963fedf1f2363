"""What adapters learn from and are judged by: generated scenes, photos, or a mixture of both.

Shapes: B images of H × W pixels; photos become squares of SIDE pixels, so that one tensor holds them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from foresight.data.archive import Broken
from foresight.data.render import render
from foresight.data.scenes import Scenes, SceneSpec, take
from foresight.data.sources import DataSpec, Photo, PhotoPool, ScenePart, open_photos, photo_views
from foresight.metrics.masks import foreground
from foresight.models.points import ExtractionPoint
from foresight.models.vae import VAE
from foresight.models.vlm import VLM
from training.latents import WHITE, Batch, Extractor, Latents, Progress, gather, mixture
from training.store import Store

SIDE = 224  # pixels a side of a view of a photo
ONE_ON_WHITE = SceneSpec(objects=(1, 1), backgrounds=WHITE)
HELD_OUT = {"one object on white": ONE_ON_WHITE, "1-5 objects, all backgrounds": SceneSpec()}
HELD_OUT_PHOTOS = "held-out photos"
HELD_OUT_SEED = 2000
VALIDATION = 1024  # rows of the validation split, at most; else an eighth of the training rows


@dataclass(frozen=True)
class Source:
    """`count` images that are drawn or read as they are asked for, one part after the other."""

    count: int
    parts: list[Callable[[], Batch]]


def scene_source(groups: list[Scenes], batch: int, device: torch.device) -> Source:
    """Scenes, rendered on `device`, at most `batch` at a time."""

    def draw(part: Scenes) -> Batch:
        drawn = render(part.to(device), batch)
        return drawn.images, drawn.mask

    chunks = [part for group in groups for part in group.chunks(batch)]
    return Source(sum(map(len, chunks)), [partial(draw, part) for part in chunks])


def chosen_scenes(count: int, seed: int, factors: SceneSpec | None, split: str) -> list[Scenes]:
    """`count` scenes of a split: of the chosen factors, or (None) of the usual mixture."""
    return mixture(count, seed, split) if factors is None else [take(count, seed, factors, split)]


def photo_source(photos: Sequence[Photo], rows: int, batch: int, seed: int | None, side: int = SIDE) -> Source:
    """`rows` views of photos, as from `photo_views`; a mask is what stands out there."""

    def read(part: range) -> Batch:
        views = np.stack(list(photo_views(photos, part, side, seed)))  # (B, side, side, 3)
        images = torch.from_numpy(views).permute(0, 3, 1, 2).contiguous()
        return images, foreground(images.float() / 255)[0]

    numbers = range(rows)
    return Source(rows, [partial(read, numbers[i : i + batch]) for i in range(0, rows, batch)])


@dataclass(frozen=True)
class TrainingData:
    """What `--data` means, with its photos looked at and split. Opened by `open_data`."""

    spec: DataSpec
    factors: SceneSpec | None
    seed: int
    count: int
    pools: tuple[PhotoPool, ...]
    splits: tuple[dict[str, list[Photo]], ...]

    @property
    def broken(self) -> list[Broken]:
        """Files that are no photos, each with the reason."""
        return [file for pool in self.pools for file in pool.broken]

    @property
    def digest(self) -> str:
        """What tells its photos from all others."""
        return " ".join(pool.digest for pool in self.pools)

    def __str__(self) -> str:
        """What a card says of it; no path of this machine."""
        return f"{self.spec.public()}" + ("" if self.factors is None else " of chosen factors")

    def source(self, split: str, batch: int, device: torch.device) -> Source:
        """Its rows of "train"; or of "val", an eighth as many and VALIDATION at most, of each part the same share."""
        rows = self.spec.photo_rows([len(photos[split]) for photos in self.splits])
        scenes = 0 if self.spec.scenes is None else self.spec.scenes.count
        if split != "train":
            train = self.spec.photo_rows([len(photos["train"]) for photos in self.splits])
            share = min(1 / 8, VALIDATION / (scenes + sum(train)))
            rows, scenes = [max(1, round(share * n)) for n in train], scenes and max(16, round(share * scenes))
        sources = [photo_source(p[split], n, batch, self.seed) for p, n in zip(self.splits, rows, strict=True)]
        if scenes:
            sources = [scene_source(chosen_scenes(scenes, self.seed, self.factors, split), batch, device), *sources]
        return Source(sum(source.count for source in sources), [part for source in sources for part in source.parts])

    def held_out(self, batch: int, device: torch.device) -> dict[str, Source]:
        """What a run is judged by: {title: images that it never learned from}, as many as `open_data` was asked for.

        Scenes of the test split, of the run's own factors or of HELD_OUT, and the middle squares of held-out photos.
        """
        specs: dict[str, SceneSpec] = {}
        count = self.count
        if self.spec.scenes is not None and count:
            titles = {spec: title for title, spec in HELD_OUT.items()}
            own = self.factors
            specs = HELD_OUT if own is None else {titles.get(own, "scenes like its own"): own}
        sources = {
            title: scene_source([take(count, HELD_OUT_SEED, spec, "test")], batch, device)
            for title, spec in specs.items()
        }
        if photos := [photo for split in self.splits for photo in split["test"]][:count]:
            sources[HELD_OUT_PHOTOS] = photo_source(photos, len(photos), batch, None)
        return sources


def open_data(spec: DataSpec, factors: SceneSpec | None = None, seed: int = 0, held_out: int = 64) -> TrainingData:
    """Reads every photo once and splits them.

    Args:
        spec: as from `parse_data`.
        factors: what scenes may hold; None: the usual mixture.
        seed: of scenes and of the photos' views.
        held_out: images of each kind to score on, at most; of a part's photos at most a quarter.

    Raises:
        InputError: where a path is neither folder nor zip, or a part has too few photos to hold any out.
    """
    pools = tuple(open_photos(part.paths) for part in spec.photos)
    return TrainingData(spec, factors, seed, held_out, pools, tuple(pool.split(held_out) for pool in pools))


def scene_data(count: int) -> DataSpec:
    """`scenes:COUNT`"""
    return DataSpec(ScenePart(count), ())


def collect(
    vlm: VLM,
    vae: VAE,
    source: Source,
    points: Sequence[str | ExtractionPoint],
    store: Store | None = None,
    progress: Progress | None = None,
    shared: bool = False,
) -> Latents:
    """Latents of a source's images, all points in one pass.

    store: keeps them on disk, and has those that an earlier run took. progress: called after each batch with how many
    images of how many are done. shared: every process calls this, does its share, and ends with all latents.
    """
    with Extractor(vlm, vae, points, store) as extractor:
        return gather(extractor, source.parts, source.count, progress, shared)
