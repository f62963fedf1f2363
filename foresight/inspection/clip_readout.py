"""One clip at one extraction point → what an adapter reads out of its latents, scored beside controls.

Shapes: F frames of H × W pixels, the size at which the VLM sees them. The VAE works at 8/7 of that size.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foresight import zero_gpu
from foresight.adapters.modules import join_points
from foresight.adapters.registry import AdapterRecord
from foresight.data.archive import Broken
from foresight.data.camera import CameraSpec, camera_flow, film, sample_camera
from foresight.data.clips import DEFAULT_FPS, DEFAULT_FRAMES, SHOWN_PIXELS, load_clip
from foresight.data.images import load_image, resize, to_tensor, vae_size
from foresight.data.motion import MotionSpec, MovingScenes, motion_flow, render_motion, sample_motion, take_motion
from foresight.data.resolution import DEFAULT, Resolution
from foresight.data.scenes import COLORS
from foresight.errors import InputError
from foresight.inspection.inspector import Inspector
from foresight.metrics.video import ClipScorer, ClipScores, Truth

_CHUNK = 8  # clips rendered at a time


@dataclass(frozen=True)
class ClipSample:
    """A clip to read out: frames (F, 3, H, W) in [0, 1] at the VLM's size, what is known of it, and where it is from.

    source: a clip's description or a file's path. notice: what was left out of a file.
    """

    name: str
    frames: Tensor
    fps: float
    truth: Truth | None = None
    source: dict[str, Any] | str | None = None
    notice: str | None = None


@dataclass(frozen=True)
class DecodedClip:
    """What was read out of a clip, not yet scored. Pixels (F, 3, H, W) in [0, 1] on the CPU.

    distance: of the worst step's latents to the adapter's training latents; beyond `far` the scores speak of the
    adapter. seconds: what took how long; from pixels to "reconstruction", then the "oracle" and the "scores".
    """

    sample: ClipSample
    record: AdapterRecord
    reconstruction: Tensor = field(repr=False)
    distance: float
    far: float
    seconds: dict[str, float]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of its frames."""
        return self.sample.frames.shape[2], self.sample.frames.shape[3]

    @property
    def notice(self) -> str | None:
        """What was left out of its file, and that the adapter was fitted at another size."""
        fitted = self.record.size_notice(self.size)
        parts = [self.sample.notice, fitted and f"the adapter was {fitted}"]
        return "; ".join(part for part in parts if part) or None


@dataclass(frozen=True)
class ClipBesideOracle(DecodedClip):
    """The same with the VAE's own round trip of the clip, of the same shape, which takes longer than reading it out."""

    oracle: Tensor = field(repr=False)


@dataclass(frozen=True)
class ClipReport(ClipBesideOracle):
    """What was read out of a clip, scored.

    controls: scores of the true clip made wrong in time, and of the VAE's round trip, by the names of CONTROLS.
    """

    scores: ClipScores
    controls: dict[str, ClipScores]

    def as_json(self, reconstruction: str | None = None) -> dict[str, Any]:
        """Plain JSON values. reconstruction: a path, for the caller to name."""
        return {
            "clip": self.sample.name,
            "point": str(self.record.point),
            "adapter": self.record.name,
            "frames": len(self.reconstruction),
            "fps": self.sample.fps,
            **self.scores.as_json(),
            "controls": {name: scores.means() for name, scores in self.controls.items()},
            "distance": self.distance,
            "far": self.far,
            "notice": self.notice,
            "size": [self.size[1], self.size[0]],  # as people say it, the width first
            "reconstruction": reconstruction,
            "seconds": sum(self.seconds.values()),
        }


def clip_records(inspector: Inspector) -> list[AdapterRecord]:
    """The adapters that read clips, in order of depth; at each point those that give each frame of a step first.

    With a VAE that joins frames, those that were made for it; else every one, of which some give both frames of a step
    the same image.
    """
    joins = inspector.vae.frames_per_latent > 1
    records = [record for record in inspector.adapters() if not joins or record.config["steps"] > 1]
    return sorted(records, key=lambda record: (record.point.depth, not gives_each_frame(record)))


def gives_each_frame(record: AdapterRecord) -> bool:
    """Whether an adapter has an image for each of a step's two frames; whether these differ, `change_within` tells."""
    return record.config["frames"] == 2 or record.config["steps"] > 1


def read_out_clip(inspector: Inspector, record: AdapterRecord, sample: ClipSample) -> ClipReport:
    """Reads a clip out at a record's point, and scores it beside its controls and the VAE's round trip."""
    return score_clip(inspector, add_oracle(inspector, decode_clip(inspector, record, sample)))


@zero_gpu.computes(zero_gpu.BATCH)
@torch.inference_mode()
def decode_clip(inspector: Inspector, record: AdapterRecord, sample: ClipSample) -> DecodedClip:
    """Reads a clip out at a record's point, and nothing else.

    Raises InputError where the adapter reads no clips, or none of this size, and where memory does not hold it.
    """
    start, vae = time.perf_counter(), inspector.vae
    count, size = len(sample.frames), (sample.frames.shape[2], sample.frames.shape[3])
    inspector.check_size(size, count)
    record.check_size(size)
    frames = sample.frames.to(vae.device)
    latents = join_points(inspector.vlm.latents(frames[None], record.points, fps=sample.fps), record.points)
    adapter = inspector.registry.load(record)
    latents = latents.to(vae.device)
    if adapter.steps == 1 and vae.frames_per_latent > 1:
        raise InputError(f"{record.name} gives VAE {vae.name!r} images one by one: a clip needs an adapter for clips.")
    z = adapter.for_clip(latents, count)  # (1, J, C, h, w)
    if vae.frames_per_latent > 1:
        reconstruction = resize(vae.decode_clip(z, count)[0], size)
    elif adapter.frames == 1:  # both frames of a step are one image, which is decoded once
        reconstruction = inspector.decode(z[0, ::2], size).repeat_interleave(2, 0)[:count]
    else:
        reconstruction = inspector.decode(z[0], size)
    return DecodedClip(
        sample=sample,
        record=record,
        reconstruction=reconstruction.cpu(),
        distance=float(adapter.distance(latents).max()),
        far=float(adapter.far),
        seconds={"reconstruction": time.perf_counter() - start},
    )


@zero_gpu.computes(zero_gpu.BATCH)
@torch.inference_mode()
def add_oracle(inspector: Inspector, decoded: DecodedClip) -> ClipBesideOracle:
    """Takes a decoded clip's original through the VAE alone."""
    start, vae = time.perf_counter(), inspector.vae
    frames = decoded.sample.frames.to(vae.device)
    count, size = len(frames), (frames.shape[2], frames.shape[3])
    if vae.frames_per_latent > 1:
        oracle = resize(vae.decode_clip(vae.encode_clip(resize(frames, vae_size(size))[None]), count)[0], size)
    else:
        oracle = inspector.round_trip(frames)
    shared = vars(decoded) | {"seconds": decoded.seconds | {"oracle": time.perf_counter() - start}}
    return ClipBesideOracle(**shared, oracle=oracle.cpu())


@zero_gpu.computes(zero_gpu.BATCH)
@torch.inference_mode()
def score_clip(inspector: Inspector, decoded: ClipBesideOracle) -> ClipReport:
    """Scores a decoded clip beside its controls and the VAE's round trip."""
    start, sample, device = time.perf_counter(), decoded.sample, inspector.vae.device
    scorer = ClipScorer(sample.frames.to(device), sample.truth)
    scores = scorer.score(decoded.reconstruction.to(device))
    controls = scorer.controls() | {"oracle": scorer.score(decoded.oracle.to(device))}
    shared = vars(decoded) | {"seconds": decoded.seconds | {"scores": time.perf_counter() - start}}
    return ClipReport(**shared, scores=scores, controls=controls)


def motion_samples(count: int, seed: int, spec: MotionSpec, resolution: Resolution = DEFAULT) -> Iterator[ClipSample]:
    """The first `count` moving scenes of the test split, with all that is known of them."""
    clips = take_motion(count, seed, spec, "test")
    clips = clips.resized(resolution.size(*clips.size))
    for start, part in zip(range(0, count, _CHUNK), clips.chunks(_CHUNK), strict=True):
        for i, sample in enumerate(_scene_clips(part)):
            yield replace(sample, name=f"moving scene {start + i} ({part.digest(i)})")


def motion_sample(seed: int, spec: MotionSpec, resolution: Resolution = DEFAULT) -> ClipSample:
    """The first moving scene of a seed, whichever split it belongs to, with all that is known of it."""
    clips = sample_motion(range(1), seed, spec)
    [sample] = _scene_clips(clips.resized(resolution.size(*clips.size)))
    return replace(sample, name=f"moving scene of seed {seed}")


def _scene_clips(clips: MovingScenes) -> Iterator[ClipSample]:
    """Moving scenes, by their digests."""
    palette = torch.tensor(list(COLORS.values())) / 255
    rendered, flow = render_motion(clips), motion_flow(clips) if clips.frames > 1 else None
    for i in range(len(clips)):
        objects = int(clips.first.count[i])
        truth = Truth(
            rendered.visible[i, :, :objects],
            palette[clips.first.color[i, :objects]],
            None if flow is None else flow.forward[i],
            None if flow is None else flow.occluded[i],
        )
        yield ClipSample(clips.digest(i), rendered.images[i].float() / 255, clips.fps, truth, clips.describe(i))


def camera_samples(
    files: Iterable[Path], seed: int, spec: CameraSpec, resolution: Resolution = DEFAULT
) -> Iterator[ClipSample | Broken]:
    """A pan or zoom over each photo, at the VLM's size for the spec's shape; what is no image is Broken, not raised."""
    spec = replace(spec, size=resolution.size(*spec.size))
    for number, file in enumerate(files):
        try:
            photo = to_tensor(load_image(file))
        except InputError as error:
            yield Broken(file.name, str(error))
            continue
        at = (photo.shape[1], photo.shape[2])
        paths = sample_camera(range(number, number + 1), seed, spec, at)
        flow = camera_flow(paths, at) if spec.frames > 1 else None
        truth = None if flow is None else Truth(flow=flow.forward[0], occluded=flow.occluded[0])
        yield ClipSample(f"over {file.name}", film(photo[None], paths)[0], spec.fps, truth, str(file))


def clip_samples(
    files: Iterable[Path],
    fps: float | None = DEFAULT_FPS,
    frames: int = DEFAULT_FRAMES,
    start: float = 0.0,
    resolution: Resolution = DEFAULT,
    inspector: Inspector | None = None,
) -> Iterator[ClipSample | Broken]:
    """Clips of video files, at the VLM's size; what holds none is Broken, not raised.

    inspector: a clip that is too large for it is Broken, too, before it is made so large.
    """
    most = resolution.most if inspector is None else inspector.most_pixels or resolution.most
    for file in files:
        try:
            clip = load_clip(file, fps, frames, start, max(SHOWN_PIXELS, min(most, resolution.most)))
            if inspector is not None:
                inspector.check_size(resolution.size(*clip.frames.shape[2:]), len(clip.frames))
            pixels = clip.pixels(resolution)
        except InputError as error:
            yield Broken(file.name, str(error))
            continue
        yield ClipSample(file.name, pixels, clip.fps, None, str(file), clip.notice)
