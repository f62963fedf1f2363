"""What adapters learn from and are judged by: generated scenes, photos, clips of both, or a mixture.

Shapes: B images of H × W pixels; photos become squares of SIDE pixels, so that one tensor holds them all. Clips have
FRAMES frames, which are FRAMES / 2 steps of the VLM, each of which is a row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import get_args

import numpy as np
import torch

from foresight.data.archive import Broken
from foresight.data.camera import CameraSpec, film, sample_camera
from foresight.data.clips import clip_seconds, load_clip
from foresight.data.images import load_image, resize, to_tensor
from foresight.data.motion import MotionSpec, MovingScenes, render_motion, take_motion
from foresight.data.render import render
from foresight.data.scenes import Scenes, SceneSpec, take
from foresight.data.sources import (
    DataSpec,
    Kind,
    Photo,
    PhotoPool,
    ScenePart,
    in_threads,
    open_photos,
    open_videos,
    photo_views,
)
from foresight.metrics.masks import foreground
from foresight.models.points import ExtractionPoint
from foresight.models.vae import VAE
from foresight.models.vlm import VLM
from training.latents import WHITE, Batch, Extractor, Latents, Progress, Room, gather, mixture
from training.store import Store

SIDE = 224  # pixels a side of a view of a photo
ONE_ON_WHITE = SceneSpec(objects=(1, 1), backgrounds=WHITE)
HELD_OUT = {"one object on white": ONE_ON_WHITE, "1-5 objects, all backgrounds": SceneSpec()}
HELD_OUT_PHOTOS = "held-out photos"
HELD_OUT_MOTION = "moving scenes"
HELD_OUT_PANS = "camera over held-out photos"
HELD_OUT_CLIPS = "held-out clips"
FRAMES = 8
STEPS = FRAMES // 2
RATES = (2.0, 4.0, 8.0)  # frames a second, one batch of clips after the other
MOTION = MotionSpec(frames=FRAMES)
CAMERA = CameraSpec(frames=FRAMES)
HELD_OUT_SEED = 2000
VALIDATION = 1024  # rows of the validation split, at most; else an eighth of the training rows


@dataclass(frozen=True)
class Source:
    """`count` images that are drawn or read as they are asked for, one part after the other."""

    count: int
    parts: list[Callable[[], Batch]]


def scene_source(groups: list[Scenes], batch: int, device: torch.device, side: int = SIDE) -> Source:
    """Scenes, rendered on `device`, at most `batch` at a time; as squares of `side` pixels where that is not usual."""

    def draw(part: Scenes) -> Batch:
        part = part if side == SIDE else part.resized((side, side))
        rendered = render(part.to(device), batch)
        return Batch(rendered.images, rendered.mask)

    chunks = [part for group in groups for part in group.chunks(batch)]
    return Source(sum(map(len, chunks)), [partial(draw, part) for part in chunks])


def chosen_scenes(count: int, seed: int, factors: SceneSpec | None, split: str) -> list[Scenes]:
    """`count` scenes of a split: of the chosen factors, or (None) of the usual mixture."""
    return mixture(count, seed, split) if factors is None else [take(count, seed, factors, split)]


def photo_source(
    photos: Sequence[Photo],
    rows: int,
    batch: int,
    seed: int | None,
    side: int = SIDE,
    device: torch.device | str = "cpu",
) -> Source:
    """`rows` views of photos, as from `photo_views`; a mask is what stands out there, which is found on `device`."""

    def read(part: range) -> Batch:
        views = np.stack(list(photo_views(photos, part, side, seed)))  # (B, side, side, 3)
        images = torch.from_numpy(views).to(device).permute(0, 3, 1, 2).contiguous()
        return Batch(images, foreground(images.float() / 255)[0])

    numbers = range(rows)
    return Source(rows, [partial(read, numbers[i : i + batch]) for i in range(0, rows, batch)])


def motion_source(clips: MovingScenes, batch: int, device: torch.device) -> Source:
    """The steps of moving scenes, rendered on `device`, at most `batch` steps at a time."""

    def draw(part: MovingScenes, fps: float) -> Batch:
        rendered = render_motion(part.to(device))
        return Batch(rendered.images, rendered.mask, fps)

    parts = zip(clips.chunks(max(1, batch // STEPS)), cycle(RATES))
    return Source(len(clips) * STEPS, [partial(draw, part, fps) for part, fps in parts])


def pan_source(photos: Sequence[Photo], rows: int, batch: int, seed: int, device: torch.device) -> Source:
    """At least `rows` steps of clips of a camera over photos, filmed on `device`, clip k over photo k % len(photos)."""

    def load(number: int) -> torch.Tensor:
        photo = photos[number % len(photos)]
        return to_tensor(load_image(photo.path, 2 * SIDE, photo.name))

    def shoot(part: range, fps: float) -> torch.Tensor:
        clips = []
        for number, photo in zip(part, in_threads(load, part), strict=True):
            paths = sample_camera(range(number, number + 1), seed, CAMERA, (photo.shape[1], photo.shape[2]), device)
            clips.append(film(photo[None].to(device), paths))
        return torch.cat(clips)

    return _step_source(rows, batch, shoot)


def clip_source(
    videos: Sequence[Photo], rows: int, batch: int, seed: int | None, device: torch.device | str = "cpu"
) -> Source:
    """At least `rows` steps of stretches of video files, clip k of file k % len(videos): their middle squares.

    seed: of where each stretch begins; None: at the file's start. A video of under FRAMES frames ends on its last one.
    """

    def load(number: int, fps: float) -> torch.Tensor:
        video = videos[number % len(videos)]
        seconds = max(0.0, clip_seconds(video.path) - FRAMES / fps)
        place = 0.0 if seed is None else np.random.default_rng((seed, number)).random()
        frames = load_clip(video.path, fps, FRAMES, place * seconds).frames  # (F, 3, H, W)
        frames = torch.cat([frames, frames[-1:].expand(FRAMES - len(frames), -1, -1, -1)])
        side = min(frames.shape[2:])
        top, left = ((size - side) // 2 for size in frames.shape[2:])
        return resize(frames[..., top : top + side, left : left + side].float() / 255, (SIDE, SIDE))

    def read(part: range, fps: float) -> torch.Tensor:
        return torch.stack(list(in_threads(partial(load, fps=fps), part))).to(device)

    return _step_source(rows, batch, read)


def _step_source(rows: int, batch: int, make: Callable[[range, float], torch.Tensor]) -> Source:
    """At least `rows` steps of clips (B, F, 3, H, W) in [0, 1], which `make` gives by their numbers and a rate."""

    def draw(part: range, fps: float) -> Batch:
        frames = make(part, fps)
        masks = foreground(frames.flatten(0, 1))[0].unflatten(0, frames.shape[:2])
        return Batch((frames * 255).round().byte(), masks, fps)

    numbers, at_once = range(-(-rows // STEPS)), max(1, batch // STEPS)
    parts = zip((numbers[i : i + at_once] for i in numbers[::at_once]), cycle(RATES))
    return Source(len(numbers) * STEPS, [partial(draw, part, fps) for part, fps in parts])


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

    def source(self, split: str, batch: int, device: torch.device, side: int = SIDE) -> Source:
        """Its rows of "train"; or of "val", an eighth as many and VALIDATION at most, of each part the same share.

        side: pixels a side of images; clips are of SIDE.
        """
        rows = self.spec.photo_rows([len(photos["train"]) for photos in self.splits])
        scenes, steps = (0 if part is None else part.count for part in (self.spec.scenes, self.spec.motion))
        if split != "train":
            share = min(1 / 8, VALIDATION / (scenes + steps + sum(rows)))
            rows = [max(1, round(share * n)) for n in rows]
            scenes, steps = (n and max(16, round(share * n)) for n in (scenes, steps))
        sources = []
        if scenes:
            groups = chosen_scenes(scenes, self.seed, self.factors, split)
            sources.append(scene_source(groups, batch, device, side))
        if steps:
            clips = take_motion(-(-steps // STEPS), self.seed, MOTION, split, device)
            sources.append(motion_source(clips, batch, device))
        for part, photos, count in zip(self.spec.photos, self.splits, rows, strict=True):
            if part.kind == "pans":
                sources.append(pan_source(photos[split], count, batch, self.seed, device))
            elif part.kind == "clips":
                sources.append(clip_source(photos[split], count, batch, self.seed, device))
            else:
                sources.append(photo_source(photos[split], count, batch, self.seed, side, device))
        return Source(sum(source.count for source in sources), [part for source in sources for part in source.parts])

    def held_out(
        self, batch: int, device: torch.device, split: str = "test", count: int | None = None, side: int = SIDE
    ) -> dict[str, Source]:
        """What a run is judged by: {title: images that it never learned from}, as many as `open_data` was asked for.

        split, count: "val" gives `count` images of each kind to choose by, which are in no test. side: as for `source`.

        Scenes of the test split, of the run's own factors or of HELD_OUT, and the middle squares of held-out photos;
        of a run that learns from clips also steps of moving scenes, and of a camera over held-out photos.
        """
        sources: dict[str, Source] = {}
        count = self.count if count is None else count
        if self.spec.scenes is not None and count:
            for title, scenes in held_out_scenes(self.factors, count, split).items():
                sources[title] = scene_source([scenes], batch, device, side)
        if self.spec.motion is not None and count:
            clips = take_motion(-(-count // STEPS), HELD_OUT_SEED, MOTION, split, device)
            sources[HELD_OUT_MOTION] = motion_source(clips, batch, device)
        photos, filmed, videos = (self._files(kind, split)[:count] for kind in get_args(Kind))
        if videos:
            sources[HELD_OUT_CLIPS] = clip_source(videos, len(videos) * STEPS, batch, None, device)
        return sources | photo_tests(photos, filmed, batch, device, side)

    def _files(self, kind: Kind, split: str) -> list[Photo]:
        parts = zip(self.spec.photos, self.splits, strict=True)
        return [file for part, files in parts if part.kind == kind for file in files[split]]


def held_out_scenes(factors: SceneSpec | None, count: int, split: str = "test") -> dict[str, Scenes]:
    """`count` scenes of a split by their title: of a run's own factors, or (None) of each of HELD_OUT."""
    titles = {spec: title for title, spec in HELD_OUT.items()}
    specs = HELD_OUT if factors is None else {titles.get(factors, "scenes like its own"): factors}
    return {title: take(count, HELD_OUT_SEED, spec, split) for title, spec in specs.items()}


def photo_tests(
    photos: Sequence[Photo], filmed: Sequence[Photo], batch: int, device: torch.device, side: int = SIDE
) -> dict[str, Source]:
    """The middle squares of photos, and a clip of a camera over each of the filmed ones, by their titles."""
    sources: dict[str, Source] = {}
    if photos:
        sources[HELD_OUT_PHOTOS] = photo_source(photos, len(photos), batch, None, side, device)
    if filmed:
        sources[HELD_OUT_PANS] = pan_source(filmed, len(filmed) * STEPS, batch, HELD_OUT_SEED, device)
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
    pools = tuple((open_videos if part.kind == "clips" else open_photos)(part.paths) for part in spec.photos)
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
    room: Room | None = None,
) -> Latents:
    """Latents of a source's images, all points in one pass.

    store: keeps them on disk, and has those that an earlier run took. progress, shared, room: as for `gather`.
    """
    with Extractor(vlm, vae, points, store) as extractor:
        return gather(extractor, source.parts, source.count, progress, shared, room)
