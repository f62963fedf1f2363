"""What the Video tab's clip is made from: a moving scene by its seed, or an uploaded file; and the clip itself."""

import functools
from pathlib import Path
from typing import Annotated

import torch

from foresight.data.archive import Broken
from foresight.data.clips import DEFAULT_FPS, DEFAULT_FRAMES
from foresight.data.factors import ANY
from foresight.data.motion import MOTIONS, MotionSpec
from foresight.data.resolution import DEFAULT, Resolution
from foresight.data.scenes import SceneSpec
from foresight.errors import InputError
from foresight.inspection.clip_readout import ClipSample, clip_samples, motion_sample
from foresight.inspection.inspector import Inspector
from foresight.schemas import MAX_SEED, Choice, Number, Whole, schema

MOST_FRAMES = 32  # for which all others wait some eight seconds of two CPU cores
MOST_OBJECTS = 3


@schema
class MovingScene:
    """A moving scene, drawn by its seed."""

    seed: Annotated[int, Whole("the seed", 0, MAX_SEED)] = 7
    motion: Annotated[str, Choice("motion", (ANY, *MOTIONS))] = "translation"
    objects: Annotated[int, Whole("objects", 1, MOST_OBJECTS)] = 2
    frames: Annotated[int, Whole("frames", 1, MOST_FRAMES)] = DEFAULT_FRAMES

    @property
    def title(self) -> str:
        """A name for people and files."""
        return f"moving-scene-{self.seed}-{self.motion}"


@schema
class UploadedClip:
    """A stretch of an uploaded file: from `start` seconds on, so many frames, so many a second."""

    path: str
    fps: Annotated[float, Number("frames a second", 0.1, 120)] = DEFAULT_FPS
    frames: Annotated[int, Whole("frames", 1, MOST_FRAMES)] = DEFAULT_FRAMES
    start: Annotated[float, Number("the start in seconds", 0, 86_400)] = 0.0

    def __post_init__(self) -> None:
        if not self.path:
            raise InputError("choose a clip first: upload an mp4, mov, webm, mkv or gif.")

    @property
    def title(self) -> str:
        """A name for people and files."""
        return Path(self.path).stem[:40]


ClipSource = MovingScene | UploadedClip


@functools.lru_cache(maxsize=8)
@torch.inference_mode()
def sample_of(source: ClipSource, resolution: Resolution = DEFAULT, inspector: Inspector | None = None) -> ClipSample:
    """The clip, at the size at which the VLM sees it.

    Raises InputError where the file holds none, or the inspector is given and the clip too large for it.
    """
    if isinstance(source, MovingScene):
        motions = MOTIONS if source.motion == ANY else (source.motion,)
        scene = SceneSpec(objects=(source.objects, source.objects), radius=(12.0, 40.0))
        return motion_sample(source.seed, MotionSpec(scene=scene, frames=source.frames, motions=motions), resolution)
    [sample] = clip_samples([Path(source.path)], source.fps, source.frames, source.start, resolution, inspector)
    if isinstance(sample, Broken):
        raise InputError(sample.reason)
    return sample
