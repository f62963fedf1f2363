"""What `--data` means: generated scenes, photos out of folders and zip archives, clips of both, or a mixture.

    DATA    PART, or PART+PART+…
    PART    SOURCE, or SOURCE*WEIGHT
    SOURCE  scenes:N                N generated scenes
            motion:N                N steps of generated scenes in motion
            photos:PATH[,PATH…]     the photos of these folders and zips together; `photos:` may be left out
            pans:PATH[,PATH…]       steps of clips of a camera that pans and zooms over these photos
            clips:PATH[,PATH…]      steps of these video files, and of those of these folders; `clips:` may be left
                                    out before files

Such as `scenes:2000`, `PHOTOS`, `scenes:20000+photos:PHOTOS,MORE.zip*0.5`. The parts share the rows, which are the
images that are learned from, as their weights say (1 where none is given). `scenes:N`, or else `motion:N`, is N rows,
and so fixes the others; without them there are VIEWS rows for each file. A row of a photo is a view of it: a random
crop, which may be flipped. A row of a clip is one step of it, which is two frames. A text that is the path of a folder
or zip as it stands is that, whatever characters are in its name.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np
import torch.nn.functional as F
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from foresight.data.archive import SUFFIXES, Broken, File, unpack
from foresight.data.clips import SUFFIXES as VIDEO_SUFFIXES
from foresight.data.clips import clip_files, load_clip
from foresight.data.folders import files_in
from foresight.data.images import load_image
from foresight.errors import InputError

SPLITS = ("train", "val", "test")
VIEWS = 8  # rows for each photo where no scenes fix their number
MOST_SCENES = 10_000_000  # in one part
MAX_FILE = 256 * 2**20  # bytes
LEAST_PHOTOS = 10  # different ones, of which one validates and two can be held out
MOST_HELD_OUT = 4  # one in so many photos at most, so that most are learned from
THUMBNAIL = 8  # pixels a side of what tells near-identical photos
ALIKE = 6  # levels of 255 by which the thumbnails of near-identical photos may differ anywhere
AHEAD = 4  # files of each thread that may wait, decoded, for who reads them

Kind = Literal["photos", "pans", "clips"]
_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class ScenePart:
    """Generated scenes of a mixture, or steps of scenes in motion."""

    count: int
    """How many, of the train split."""
    weight: float = 1.0
    """Its share of the rows, beside the other parts' weights."""


@dataclass(frozen=True)
class PhotoPart:
    """Photos or videos of a mixture."""

    paths: tuple[str, ...]
    """Folders; of photos also zip archives."""
    weight: float = 1.0
    """Its share of the rows, beside the other parts' weights."""
    kind: Kind = "photos"
    """What its rows are: views of photos, or steps of clips: of a camera that moves over photos, or of video files."""


@dataclass(frozen=True)
class DataSpec:
    """What to learn from, parsed."""

    scenes: ScenePart | None
    """At most one part of scenes."""
    photos: tuple[PhotoPart, ...]
    """Any number of parts of photos or videos; at least one part in all."""
    motion: ScenePart | None = None
    """At most one part of scenes in motion."""

    def __str__(self) -> str:
        """The text that parses to it."""
        generated = (("scenes", self.scenes), ("motion", self.motion))
        parts = [(f"{kind}:{part.count}", part.weight) for kind, part in generated if part]
        parts += [(f"{part.kind}:{','.join(part.paths)}", part.weight) for part in self.photos]
        return "+".join(text if weight == 1 else f"{text}*{weight:g}" for text, weight in parts)

    def public(self) -> DataSpec:
        """The same with the names of folders and zips alone, as a card may tell them."""
        parts = (replace(part, paths=tuple(Path(path).name for path in part.paths)) for part in self.photos)
        return replace(self, photos=tuple(parts))

    def paths(self, kind: Kind) -> list[str]:
        """All paths of the parts of a kind."""
        return [path for part in self.photos if part.kind == kind for path in part.paths]

    @property
    def has_clips(self) -> bool:
        """Whether some rows are steps of clips."""
        return self.motion is not None or any(part.kind != "photos" for part in self.photos)

    def photo_rows(self, counts: Sequence[int]) -> list[int]:
        """How many rows each part of files gives, at least one, if these are the numbers of its files."""
        weights = [part.weight for part in self.photos]
        unit = VIEWS * sum(counts) / sum(weights) if weights else 0.0  # rows for a weight of 1
        if generated := self.scenes or self.motion:
            unit = generated.count / generated.weight
        return [max(1, round(unit * weight)) for weight in weights]


def parse_data(text: str) -> DataSpec:
    """`--data` → what it means; looks at no file but to see whether the whole text is a path.

    Raises:
        InputError: for anything that this module's grammar does not allow.
    """
    if os.path.exists(text):
        return DataSpec(None, (PhotoPart((text,), kind=_kind_of((text,))),))
    parts = [_parse_part(part.strip(), text) for part in text.split("+")]
    generated: dict[str, ScenePart] = {}
    for kind, part in parts:
        if isinstance(part, ScenePart):
            if kind in generated:
                raise InputError(f"{text!r} names {kind} more than once: one {kind}:N is enough.")
            generated[kind] = part
    photos = tuple(part for _, part in parts if isinstance(part, PhotoPart))
    return DataSpec(generated.get("scenes"), photos, generated.get("motion"))


def _parse_part(part: str, whole: str) -> tuple[str, ScenePart | PhotoPart]:
    source, _, factor = part.rpartition("*") if "*" in part else (part, "", "1")
    try:
        weight = float(factor)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise InputError(f"the weight {factor!r} in {part!r} must be a number above 0, as in photos:FOLDER*0.5.")
    kind, _, rest = source.partition(":")
    if kind in ("scenes", "motion"):
        if not rest.isdecimal() or len(rest) > 12 or not 1 <= int(rest) <= MOST_SCENES:
            raise InputError(
                f"{part!r} is no number of scenes up to {MOST_SCENES:,}: write {kind}:N, such as {kind}:2000."
            )
        return kind, ScenePart(int(rest), weight)
    known = next((name for name in get_args(Kind) if name == kind), None)
    paths = tuple(path.strip() for path in (rest if known else source).split(","))
    if not all(paths):
        raise InputError(
            f"{whole!r} names no data somewhere: write scenes:N, a FOLDER or ZIP, or several joined by +, such as "
            "scenes:2000+photos:FOLDER*0.5."
        )
    return "photos", PhotoPart(paths, weight, known or _kind_of(paths))


def _kind_of(paths: Sequence[str]) -> Kind:
    """What paths without a kind before them are: clips, where all have a video's suffix."""
    return "clips" if all(Path(path).suffix.lower() in VIDEO_SUFFIXES for path in paths) else "photos"


@dataclass(frozen=True)
class Photo:
    """A file that can be decoded: a picture, or a video."""

    name: str
    """As people know it."""
    path: Path
    """Where it lies."""
    digest: str
    """SHA-256 of what it holds."""
    thumbnail: bytes = field(repr=False)
    """THUMBNAIL² pixels of 8-bit RGB; of a video's first frame."""


@dataclass(frozen=True)
class PhotoPool:
    """The photos or videos of folders and zips, read once to know that each can be decoded."""

    photos: tuple[Photo, ...]
    """In order of their names."""
    broken: tuple[Broken, ...]
    """Files that are none, each with the reason."""
    _unpacked: tuple[tempfile.TemporaryDirectory[str], ...] = field(repr=False)  # live as long as the pool
    noun: str = "pictures"
    """What they are called."""

    @property
    def digest(self) -> str:
        """What tells these photos from all others: a digest of what the files hold."""
        digests = sorted(bytes.fromhex(photo.digest) for photo in self.photos)
        return hashlib.sha256(b"".join(digests)).hexdigest()[:16]

    def split(self, held_out: int) -> dict[str, list[Photo]]:
        """Photos by split, chosen by a hash of what the files hold.

        Copies and near-identical photos, such as one saved again, scaled or recompressed, fall on one side, where they
        are held out as one. A smaller `held_out` holds out some of what a larger one does.

        Args:
            held_out: how many different photos to hold out; never more than one in MOST_HELD_OUT.

        Returns:
            "test": the photos held out. "val": a tenth, to choose by. "train": the rest.

        Raises:
            InputError: where there are too few to hold any out.
        """
        groups: dict[int, list[Photo]] = {}
        for label, photo in zip(near_identical([p.thumbnail for p in self.photos]), self.photos, strict=True):
            groups.setdefault(label, []).append(photo)
        if len(groups) < LEAST_PHOTOS:
            raise InputError(
                f"{len(groups)} different {self.noun} are too few to train on: at least {LEAST_PHOTOS}, please."
            )
        order = sorted(groups.values(), key=lambda group: min(photo.digest for photo in group))
        test = min(held_out, len(order) // MOST_HELD_OUT)
        val = test + len(order) // 10
        parts = {"train": order[val:], "val": order[test:val], "test": [group[:1] for group in order[:test]]}
        return {name: [photo for group in part for photo in group] for name, part in parts.items()}


def folder_files(folder: str | Path) -> list[Path]:
    """What has an image's suffix in a folder, as `files_in`."""
    return files_in(folder, SUFFIXES, "pictures")


def list_files(paths: Sequence[str]) -> tuple[list[File | Broken], list[tempfile.TemporaryDirectory[str]]]:
    """The files of folders and zips, and the folders that these were unpacked into, which go with the objects.

    Raises:
        InputError: where a path is neither, or holds no pictures.
    """
    files: list[File | Broken] = []
    unpacked: list[tempfile.TemporaryDirectory[str]] = []
    for path in paths:
        if Path(path).is_file():
            place = tempfile.TemporaryDirectory(prefix="foresight-zip-", ignore_cleanup_errors=True)
            unpacked.append(place)
            inside = list(unpack(path, place.name))
            if not inside:
                raise InputError(f"“{Path(path).name}” holds no pictures ({', '.join(SUFFIXES)}).")
            files += inside
        elif Path(path).is_dir():
            files += [File(file.name, file) for file in folder_files(path)]
        else:
            raise InputError(f"there is no folder or zip {path!r}.")
    return files, unpacked


def open_photos(paths: Sequence[str]) -> PhotoPool:
    """Reads every file of folders and zips once, and tells photos from what is none.

    Raises:
        InputError: where a path is neither folder nor zip, or holds no file named like a picture.
    """
    return read_photos(*list_files(paths))


def read_photos(files: Sequence[File | Broken], unpacked: Sequence[tempfile.TemporaryDirectory[str]] = ()) -> PhotoPool:
    """Reads each file once, and tells photos from what is none. unpacked: folders that must live as long as these."""
    items = list(in_threads(_read_photo, files))
    photos = tuple(item for item in items if isinstance(item, Photo))
    return PhotoPool(photos, tuple(item for item in items if isinstance(item, Broken)), tuple(unpacked))


def list_clips(paths: Sequence[str]) -> list[Path]:
    """The video files of folders, and those that are named themselves.

    Raises:
        InputError: where a path is neither, or a folder holds no file named like a video.
    """
    files = list[Path]()
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"there is no clip or folder of clips {str(path)!r}.")
        files += [path] if path.is_file() else clip_files(path)
    return files


def open_videos(paths: Sequence[str]) -> PhotoPool:
    """Reads the start of every video file once, as from `list_clips`, and tells videos from what is none."""
    items = list(in_threads(_read_video, list_clips(paths)))
    videos = tuple(item for item in items if isinstance(item, Photo))
    return PhotoPool(videos, tuple(item for item in items if isinstance(item, Broken)), (), "clips")


def _read_video(path: Path) -> Photo | Broken:
    try:
        frames = load_clip(path, None, 1).frames.float()  # (1, 3, H, W)
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        return Broken(path.name, f"it cannot be read: {error.strerror}.")
    except InputError as error:
        return Broken(path.name, str(error))
    small = F.adaptive_avg_pool2d(frames, THUMBNAIL)[0].permute(1, 2, 0).round().byte()  # (THUMBNAIL, THUMBNAIL, 3)
    return Photo(path.name, path, digest.hexdigest(), small.numpy().tobytes())


def _read_photo(file: File | Broken) -> Photo | Broken:
    if isinstance(file, Broken):
        return file
    try:
        if not file.path.is_file() or file.path.stat().st_size > MAX_FILE:  # reading a pipe would wait for ever
            return Broken(file.name, f"it is no file, or one of over {MAX_FILE // 2**20} MB.")
        data = file.path.read_bytes()
        image = load_image(data, side=4 * THUMBNAIL, name=file.name)
    except OSError as error:
        return Broken(file.name, f"it cannot be read: {error.strerror}.")
    except InputError as error:
        return Broken(file.name, str(error))
    small = image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return Photo(file.name, file.path, hashlib.sha256(data).hexdigest(), small.tobytes())


def near_identical(thumbnails: Sequence[bytes]) -> list[int]:
    """A number for each photo that near-identical ones share: their thumbnails differ by ALIKE at most anywhere."""
    if not thumbnails:
        return []
    x = np.stack([np.frombuffer(thumbnail, np.uint8) for thumbnail in thumbnails]).astype(np.float32)
    pairs = cKDTree(x).query_pairs(ALIKE, p=np.inf, output_type="ndarray")
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (len(x), len(x)))
    return connected_components(links, directed=False)[1].tolist()


def center_view(image: Image.Image, side: int) -> Image.Image:
    """The middle square of an image, `side` × `side` pixels."""
    square = min(image.size)
    left, top = (image.width - square) // 2, (image.height - square) // 2
    return image.resize(
        (side, side), Image.Resampling.BICUBIC, (left, top, left + square, top + square), reducing_gap=3.0
    )


def random_view(image: Image.Image, side: int, seed: int, epoch: int, row: int) -> Image.Image:
    """A random square of an image, `side` × `side` pixels, drawn by (seed, epoch, row) alone; half of them flipped.

    The square has at least half the image's shorter side, and is not enlarged where the image is large enough.
    """
    draw = np.random.default_rng((seed, epoch, row))
    shorter = min(image.size)
    least = max(shorter / 2, min(shorter, side))
    crop = min(shorter, float(np.exp(draw.uniform(np.log(least), np.log(shorter)))))  # rounding may pass it
    left, top = (draw.uniform(0, length - crop) for length in image.size)
    box = (left, top, min(left + crop, image.width), min(top + crop, image.height))
    view = image.resize((side, side), Image.Resampling.BICUBIC, box, reducing_gap=3.0)
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else view


def in_threads(work: Callable[[_In], _Out], items: Iterable[_In], threads: int | None = None) -> Iterator[_Out]:
    """What `work` makes of each item, in order, several at a time; Pillow decodes without Python's lock.

    threads: None is one for each core. A few items a thread are worked on ahead of who takes them.
    """
    threads = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        rest = iter(items)
        waiting = [pool.submit(work, item) for item in islice(rest, AHEAD * threads)]
        try:
            while waiting:
                done: Future[_Out] = waiting.pop(0)
                waiting += [pool.submit(work, item) for item in islice(rest, 1)]
                yield done.result()
        finally:
            for future in waiting:
                future.cancel()


def photo_views(photos: Sequence[Photo], rows: Iterable[int], side: int, seed: int | None) -> Iterator[np.ndarray]:
    """Views (side, side, 3) uint8 of photos, in order; row r is of photo r % len(photos), in epoch r // len(photos).

    seed: of `random_view`; None: each photo's middle square.
    """
    return in_threads(partial(_view, photos, side, seed), rows)


def _view(photos: Sequence[Photo], side: int, seed: int | None, number: int) -> np.ndarray:
    epoch, row = divmod(number, len(photos))
    photo = photos[row]
    image = load_image(photo.path, side if seed is None else 2 * side, photo.name)
    return np.asarray(center_view(image, side) if seed is None else random_view(image, side, seed, epoch, row))
