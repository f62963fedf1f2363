"""Clips whose latents are kept, with the time of each frame: video files, scenes in motion, a camera over photos.

Shapes: a clip has F frames of H × W pixels, which are T = ceil(F / 2) steps of the VLM.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from foresight.data.archive import Broken
from foresight.data.camera import CameraSpec, film, sample_camera
from foresight.data.clips import DEFAULT_FPS, load_clip
from foresight.data.images import load_image, to_tensor
from foresight.data.motion import MotionSpec, render_motion, take_motion
from foresight.data.resolution import Resolution
from foresight.data.sources import DataSpec, in_threads, list_clips, list_files
from foresight.errors import InputError
from training.latents import STEP_FRAMES, Extractor, processes

_T = TypeVar("_T")


@dataclass(frozen=True)
class TimedClip:
    """A clip as the VLM is to see it.

    frames: (F, 3, H, W) uint8. times: (F,) float64, seconds from its first frame. fps: frames a second, which decides
    the steps' positions in time. notice: what was left out of its file.
    """

    name: str
    frames: Tensor
    times: Tensor
    fps: float
    notice: str | None = None


class ClipSet:
    """The clips that `--data` names: scenes in motion, one of a camera over each photo, and video files."""

    def __init__(self, data: DataSpec, seed: int, frames: int, fps: float | None, start: float) -> None:
        """Lists the files; none is read yet.

        Args:
            data: as from `parse_data`; `motion:N` are so many clips that they have N steps.
            seed: of scenes in motion and of cameras.
            frames: of a clip, at most.
            fps: frames a second; None: of a video file every frame with its own time, of what is drawn DEFAULT_FPS.
            start: seconds into a video file at which its clip begins.

        Raises:
            InputError: as `list_files` and `list_clips`, and for frames or rates that no clip has.
        """
        drawn: dict[str, Any] = {"frames": frames, "fps": DEFAULT_FPS if fps is None else fps}
        self.seed, self.start, self.frames, self.fps = seed, start, frames, fps
        self._moving = -(-data.motion.count // -(-frames // STEP_FRAMES)) if data.motion else 0
        self._photos, self._unpacked = list_files(data.paths("pans"))
        self._motion = MotionSpec(**drawn) if data.motion else None
        self._camera = CameraSpec(**drawn) if self._photos else None
        self._videos = list_clips(data.paths("clips"))

    def __len__(self) -> int:
        return self._moving + len(self._photos) + len(self._videos)

    def read(self, resolution: Resolution) -> Iterator[TimedClip | Broken]:
        """This process's share, at the size at which the VLM sees each; what holds no clip is Broken."""
        if self._motion:
            yield from self._of_scenes(self._motion, resolution)
        if self._camera:
            yield from self._of_photos(self._camera, resolution)
        yield from in_threads(partial(self._of_video, resolution=resolution), _share(self._videos))

    def _of_scenes(self, spec: MotionSpec, resolution: Resolution) -> Iterator[TimedClip]:
        clips = take_motion(self._moving, self.seed, spec, "train")
        clips = clips.resized(resolution.size(*clips.size))
        for i in _share(range(self._moving)):
            yield _steady(f"moving scene {clips.digest(i)}", render_motion(clips[i]).images[0], spec.fps)

    def _of_photos(self, spec: CameraSpec, resolution: Resolution) -> Iterator[TimedClip | Broken]:
        spec = replace(spec, size=resolution.size(*spec.size))
        for number, file in _share([*enumerate(self._photos)]):
            if isinstance(file, Broken):
                yield file
                continue
            try:
                photo = to_tensor(load_image(file.path, 2 * min(spec.size), file.name))
            except InputError as error:
                yield Broken(file.name, str(error))
                continue
            paths = sample_camera(range(number, number + 1), self.seed, spec, (photo.shape[1], photo.shape[2]))
            yield _steady(f"over {file.name}", _bytes(film(photo[None], paths)[0]), spec.fps)

    def _of_video(self, path: Path, resolution: Resolution) -> TimedClip | Broken:
        try:
            clip = load_clip(path, self.fps, self.frames, self.start)
        except InputError as error:
            return Broken(path.name, str(error))
        return TimedClip(path.name, _bytes(clip.pixels(resolution)), clip.times, clip.fps, clip.notice)


def _share(items: Sequence[_T]) -> Sequence[_T]:
    """This process's share."""
    rank, world = processes()
    return items[rank::world]


def _bytes(frames: Tensor) -> Tensor:
    return (frames * 255).round().byte()


def _steady(name: str, frames: Tensor, fps: float) -> TimedClip:
    """A clip whose frames follow each other evenly."""
    return TimedClip(name, frames, torch.arange(len(frames), dtype=torch.float64) / fps, fps)


def extract_clips(
    extractor: Extractor, clips: Iterable[TimedClip | Broken], batch: int
) -> Iterator[int | str | Broken]:
    """Clips into the extractor's store, about `batch` frames at a time.

    Yields the clips done, by the batch, each notice, and each file that holds none. Clips wait for others of their
    size, length and rate.
    """
    waiting: dict[tuple[torch.Size, float], list[TimedClip]] = {}

    def fill(group: list[TimedClip]) -> int:
        frames, times = (torch.stack([getattr(clip, kind) for clip in group]) for kind in ("frames", "times"))
        extractor.clips(frames, times, group[0].fps, [clip.name for clip in group])
        return len(group)

    for clip in clips:
        if isinstance(clip, Broken):
            yield clip
            continue
        if clip.notice:
            yield clip.notice
        alike = clip.frames.shape, clip.fps
        group = waiting.setdefault(alike, [])
        group.append(clip)
        if len(group) >= max(1, batch // len(clip.frames)):
            yield fill(waiting.pop(alike))
    yield from map(fill, waiting.values())
