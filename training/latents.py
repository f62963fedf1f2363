"""Latents of many pictures: taken once, by one process or several, served from memory and kept on disk."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from foresight.data.archive import Broken, File
from foresight.data.images import load_image, resize, to_bytes, vae_size
from foresight.data.render import render
from foresight.data.resolution import DEFAULT, Resolution
from foresight.data.scenes import Scenes
from foresight.data.sources import in_threads
from foresight.errors import InputError
from foresight.inspection.baselines import MIXTURE as MIXTURE
from foresight.inspection.baselines import mixture as mixture
from foresight.models.points import ExtractionPoint
from foresight.models.vae import VAE
from foresight.models.vlm import VLM
from training.store import Store, key_of, name_of, picture_hashes

TARGETS, CHANGES = "targets", "changes"
TIMES, SECONDS_PER_GRID = "times", "second_per_grid"  # of clips; the latter by the name of Qwen2.5-VL's processor
STEP_FRAMES = 2  # of a clip that the VLM joins into one step
Progress = Callable[[int, int], None]  # how many images of how many are done
WHITE = ("white",)


class Batch(NamedTuple):
    """Pictures or clips that are drawn or read together, and masks of what they show."""

    pictures: Tensor
    """(B, 3, H, W) uint8, or clips (B, F, 3, H, W) of an even number of frames."""
    masks: Tensor
    """(B, H, W) or (B, F, H, W) bool."""
    fps: float = 2.0
    """Frames a second of clips."""


@dataclass(frozen=True)
class Latents:
    """N pictures of one size at several points, row by row the same picture; some may be frames of clips.

    points: {"post-merge/6": (N, 1, H, W, D)} in the VLM's dtype, of a picture, or of a step of a clip. targets:
    (N, C, h, w), the VAE's latents of the pictures at the VAE's size. pictures: (N, 3, H, W) uint8 at the VLM's size.
    masks: (N, H, W) bool, what shows an object. frames: (N,) uint8, which of its step's two frames a picture is; a
    still is both, and is counted as one or the other by turns. mapped: whether some of it lies in files, as of a Room.
    changes: (N, C, h, w), what the VAE's latents of a step's second frame have more than those of its first; 0 of a
    still; None where all are stills.
    """

    points: dict[str, Tensor]
    targets: Tensor
    pictures: Tensor
    masks: Tensor
    frames: Tensor
    mapped: bool = False
    changes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, rows: slice) -> Latents:
        points = {name: x[rows] for name, x in self.points.items()}
        pictures, masks = self.pictures[rows], self.masks[rows]
        changes = None if self.changes is None else self.changes[rows]
        return Latents(points, self.targets[rows], pictures, masks, self.frames[rows], changes=changes)

    def batch(self, rows: Tensor, points: Collection[str], pictures: bool, device: torch.device) -> Latents:
        """Rows (n,) at some points on a device; with no pictures and masks where nobody looks at them."""
        pinned = rows.pin_memory() if device.type == "cuda" else rows  # so that nobody waits for the step before
        device_rows = pinned.to(device, non_blocking=True)

        def read(x: Tensor, needed: bool = True) -> Tensor:
            if not needed:
                return x[:0].to(device)
            if x.device.type == "cpu" and device.type == "cuda":  # at once into memory that the GPU reads by itself
                part = torch.empty((len(rows), *x.shape[1:]), dtype=x.dtype, pin_memory=True)
                return torch.index_select(x, 0, rows, out=part).to(device, non_blocking=True)
            return x[rows if x.device.type == "cpu" else device_rows].to(device)

        at = {name: read(x) for name, x in self.points.items() if name in points}
        seen = read(self.pictures, pictures), read(self.masks, pictures)
        changes = None if self.changes is None else read(self.changes)
        return Latents(at, read(self.targets), *seen, read(self.frames), changes=changes)

    def used_by(self, stream: torch.cuda.Stream) -> None:
        """Keeps memory that another stream allocated from new use until `stream` has done its work with it."""
        for x in (*self.points.values(), self.targets, self.pictures, self.masks, self.frames, self.changes):
            if x is not None:
                x.record_stream(stream)


@dataclass
class Room:
    """Memory of the models' device that latents may take; what is beyond it lies in files that are mapped into memory.

    left: bytes. folder: of the files; they have no name, and are gone when the process ends. full: whether there are
    any.
    """

    left: int
    folder: Path
    full: bool = False

    def column(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """An empty tensor on the device, or in a file. Raises InputError where the disk does not hold it."""
        if (size := math.prod(shape) * dtype.itemsize) <= self.left:
            self.left -= size
            return torch.empty(*shape, dtype=dtype, device=device)
        self.full = True
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)  # else a full disk would end the process later
            except OSError as error:
                raise InputError(
                    f"{str(self.folder)!r} cannot take {size / 1e9:.1f} GB of latents ({error.strerror}): "
                    "choose another disk, or fewer pictures or points."
                ) from error
            mapped = np.memmap(file, np.uint8, "r+", shape=(size,))
        return torch.from_numpy(mapped).view(dtype).view(*shape)


def processes() -> tuple[int, int]:
    """This process's rank and how many there are; (0, 1) where it is the only one."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def open_store(folder: str | Path, vlm: VLM) -> Store:
    """The store of a VLM's latents in `folder`. Raises InputError where another model's lie there."""
    return Store(folder, key_of(vlm))


class Extractor:
    """Pictures → their latents at `points`, and the VAE's; what lies in the store is not computed again.

    A context manager: shards are written in the background, and all lie on the disk when the context ends.
    The VAE's latents are kept under a name of that very VAE, so that one store serves several.
    """

    def __init__(self, vlm: VLM, vae: VAE, points: Sequence[str | ExtractionPoint], store: Store | None = None):
        self.vlm, self.vae, self.store = vlm, vae, store
        self._points = [str(vlm.point(p)) for p in points]
        self._targets = name_of(vae) if store else TARGETS
        self._writer, self._written = ThreadPoolExecutor(1), Future[None]()
        self._written.set_result(None)

    def __enter__(self) -> Extractor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.shutdown()
        if kind is None:
            self._written.result()

    def __call__(self, pictures: Tensor, images: Sequence[str] = ()) -> dict[str, Tensor]:
        """pictures: (B, 3, H, W) uint8, sides multiples of 28. images: their names, for readers of the store.

        Returns {"post-merge/6": (B, 1, h, w, D), …, "targets": (B, C, h, w)} on the models' device.
        """
        names = [*self._points, self._targets]
        if self.store is None:
            return self._compute(pictures, names)
        hashes = picture_hashes(pictures)
        self._written.result()  # one shard is under way at most
        fresh = self._compute(pictures, self.store.lacks(hashes, names))
        known = {n: self.store.get(hashes, n, self.vlm.device) for n in names if n not in fresh}
        if fresh:
            self._written = self._writer.submit(self.store.put, hashes, list(images), fresh)
        return {TARGETS if n == self._targets else n: value for n, value in (fresh | known).items()}

    def clips(self, frames: Tensor, times: Tensor, fps: float, names: Sequence[str]) -> None:
        """Keeps what clips of one rate give in the store, which an extractor of clips must have.

        Of each {"post-merge/6": (T, h, w, D), …, the VAE's own name: (J, C, h, w), TIMES: (F,) float64 seconds,
        SECONDS_PER_GRID: () float64, between steps}; T = ceil(F / 2), and J as from `VAE.encode_clip`.

        Args:
            frames: (B, F, 3, H, W) uint8, sides multiples of 28.
            times: (B, F) float64, seconds from each clip's first frame.
            fps: frames a second.
            names: of the clips, for readers of the store.
        """
        assert self.store is not None
        hashes = picture_hashes(frames, fps)
        self._written.result()
        missing = self.store.lacks(hashes, [*self._points, self._targets, TIMES, SECONDS_PER_GRID])
        if not missing:
            return
        fresh = self._compute(frames, missing, fps)
        apart = torch.full((len(frames),), STEP_FRAMES / fps, dtype=torch.float64)
        fresh |= {name: value for name, value in ((TIMES, times), (SECONDS_PER_GRID, apart)) if name in missing}
        self._written = self._writer.submit(self.store.put, hashes, list(names), fresh)

    @torch.no_grad()
    def rows(self, batch: Batch) -> dict[str, Tensor]:
        """What `Latents` has of a batch: a row for each picture, and for each step of a clip.

        Of a step's two frames one is kept, by turns the first and the second, and how they differ. Latents of clips
        are not stored.
        """
        pictures, masks, fps = batch
        if pictures.ndim == 4:
            turns = torch.arange(len(pictures)) % 2
            return {**self(pictures), "pictures": pictures, "masks": masks, "frames": turns.byte()}
        clips = pictures.to(self.vlm.device)
        steps = self.vlm.latents(clips, self._points, fps)
        count = len(clips) * (clips.shape[1] // 2)
        rows = torch.arange(count, device=clips.device)
        frames = (rows + rows // (clips.shape[1] // 2)) % 2  # else a step's place in its clip would tell the frame
        pairs = clips.unflatten(1, (-1, 2)).flatten(0, 1)  # (rows, 2, 3, H, W)
        pair_masks = masks.to(clips.device).unflatten(1, (-1, 2)).flatten(0, 1)
        targets = self._targets_of(pairs.flatten(0, 1).float() / 255).unflatten(0, (-1, 2))
        values = {name: states.flatten(0, 1)[:, None] for name, states in steps.items()}
        values |= {TARGETS: targets[rows, frames], CHANGES: targets[:, 1] - targets[:, 0]}
        return {**values, "pictures": pairs[rows, frames], "masks": pair_masks[rows, frames], "frames": frames.byte()}

    def _targets_of(self, x: Tensor) -> Tensor:
        """The VAE's latents of pictures (B, 3, H, W), or of clips (B, F, 3, H, W)."""
        size = vae_size((x.shape[-2], x.shape[-1]))
        if x.ndim == 4:
            return self.vae.encode(resize(x, size))
        return self.vae.encode_clip(resize(x.flatten(0, 1), size).unflatten(0, x.shape[:2]))

    @torch.no_grad()
    def _compute(self, pictures: Tensor, names: Sequence[str], fps: float | None = None) -> dict[str, Tensor]:
        """Those of `names` that the models give of pictures (B, 3, H, W), or of clips (B, F, 3, H, W) with a rate."""
        x = pictures.to(self.vlm.device).float() / 255
        points = [name for name in names if name in self._points]
        values: dict[str, Tensor] = {}
        if points:
            values = self.vlm.latents(x, points) if fps is None else self.vlm.latents(x, points, fps)
        if self._targets in names:
            values[self._targets] = self._targets_of(x)
        return values


def gather(
    extractor: Extractor,
    batches: Sequence[Callable[[], Batch]],
    total: int,
    progress: Progress | None = None,
    shared: bool = False,
    room: Room | None = None,
) -> Latents:
    """Latents of `total` pictures of one size, drawn or read batch by batch.

    The next batches are drawn or read while the models work on one. progress: called after each batch with the
    pictures done, and all. shared: every process calls this, does its share, and ends with all latents; without it a
    process does all by itself. room: for all of them; None: as much as the device has.
    """
    device, start = extractor.vlm.device, 0
    room = room or Room(sys.maxsize, Path())
    latents: dict[str, Tensor] = {}
    rank, world = processes() if shared else (0, 1)
    drawn = in_threads(lambda draw: draw(), batches[rank::world], 1)

    def latents_of_next() -> dict[str, Tensor]:
        return {name: value.to(device) for name, value in extractor.rows(next(drawn)).items()}

    results = in_turn(latents_of_next, len(batches), device) if shared else (latents_of_next() for _ in batches)
    for values in tqdm(results, "latents", len(batches), unit="batch", leave=False, disable=processes()[0] > 0):
        for name, value in values.items():
            if name not in latents:  # filled in place: gathering parts first would take twice the memory
                latents[name] = room.column((total, *value.shape[1:]), value.dtype, device)
                if name == CHANGES:
                    latents[name].zero_()  # of stills there are none
            latents[name][start : start + len(value)] = value
        start += len(values["pictures"])
        if progress:
            progress(start, total)
    rest = {name: latents.pop(name) for name in (TARGETS, "pictures", "masks", "frames")}
    return Latents(latents, **rest, mapped=room.full, changes=latents.pop(CHANGES, None))


def in_turn(compute: Callable[[], dict[str, Tensor]], count: int, device: torch.device) -> Iterator[dict[str, Tensor]]:
    """All of `count` results, in order. Every process computes its share, its next one at each call, and sends it."""
    (rank, world), computed = processes(), dict[str, Tensor]()
    for k in range(count):
        if k % world == 0:  # all compute at once, then each in its turn sends to the others
            computed = compute() if k + rank < count else {}
        yield computed if world == 1 else _broadcast(computed if k % world == rank else {}, k % world, device)


def _broadcast(values: dict[str, Tensor], sender: int, device: torch.device) -> dict[str, Tensor]:
    """The values of process `sender`, in every process."""
    forms = [{name: (value.shape, value.dtype) for name, value in values.items()}]
    dist.broadcast_object_list(forms, sender, device=device)
    received = {}
    for name, (shape, dtype) in forms[0].items():
        received[name] = values[name].contiguous() if values else torch.empty(shape, dtype=dtype, device=device)
        dist.broadcast(received[name].view(torch.uint8), sender)
    return received


def _names(scenes: Scenes) -> list[str]:
    return [f"scene {number & 0xFFFF_FFFF_FFFF_FFFF:016x}" for number in scenes.hashes().tolist()]


def extract_scenes(extractor: Extractor, scenes: Sequence[Scenes], batch: int) -> Iterator[int]:
    """This process's share of the scenes into the extractor's store; yields the pictures done, by the batch."""
    rank, world = processes()
    for part in [part for group in scenes for part in group.chunks(batch)][rank::world]:
        extractor(render(part.to(extractor.vlm.device), batch).images, _names(part))
        yield len(part)


def _read(file: File | Broken, resolution: Resolution) -> tuple[str, Tensor | Broken]:
    """A file's name, and its image (3, H, W) uint8 as the VLM sees it, decoded no finer than that takes."""
    if isinstance(file, Broken):
        return file.name, file
    try:
        one_area = resolution.least == resolution.most  # else a picture's own size decides
        side = 2 * resolution.size(1, 1)[0] if one_area else None  # twice the shorter side of what is seen, or more
        image = load_image(file.path, side, file.name)
        size = resolution.size(image.height, image.width)
    except InputError as error:
        return file.name, Broken(file.name, str(error))
    return file.name, resize(to_bytes(image)[None], size)[0]


def extract_files(
    extractor: Extractor, files: Sequence[File | Broken], batch: int, resolution: Resolution = DEFAULT
) -> Iterator[int | Broken]:
    """This process's share of some files into the extractor's store, at the size at which the VLM sees each.

    Yields the pictures done, by the batch, and each file that is none. Pictures wait for others of their size.
    """
    rank, world = processes()
    waiting: dict[torch.Size, list[tuple[str, Tensor]]] = {}

    def fill(group: list[tuple[str, Tensor]]) -> int:
        images, pictures = zip(*group, strict=True)
        extractor(torch.stack(pictures), images)
        return len(group)

    for name, picture in in_threads(partial(_read, resolution=resolution), files[rank::world]):
        if isinstance(picture, Broken):
            yield picture
            continue
        group = waiting.setdefault(picture.shape, [])
        group.append((name, picture))
        if len(group) == batch:
            yield fill(waiting.pop(picture.shape))
    for group in waiting.values():
        yield fill(group)
