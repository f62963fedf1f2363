"""How alike two clips are, frame by frame and in time, beside controls that are wrong in a known way.

Shapes: F frames of H × W pixels, N objects; series over time have F or F - 1 entries. Positions are in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from foresight.errors import InputError
from foresight.metrics.fidelity import LEAST_SIDE, psnr, ssim
from foresight.metrics.masks import foreground, mask_iou, why_no_iou
from foresight.metrics.perceptual import haarpsi, lpips_model
from foresight.metrics.tracks import centroids, find_objects, shifts

FRAME_SCORES = ("lpips", "haarpsi", "ssim", "psnr", "mask_iou")
MOVED = 4.0  # pixels from first to last frame from which a motion has a direction
RIGHT = 45.0  # degrees by which a direction may be off
STEP_FRAMES = 2  # that the VLM joins into one step
READABLE = 1.0  # pixels from its true place within which an object must be found in the original

# What a viewer may trust each score for: one sentence each, shown beside it.
TRUST = {
    "lpips": "LPIPS tells how alike single frames look to an eye, and nothing about time: a still copy of a slow clip "
    "scores well.",
    "haarpsi": "HaarPSI tells how alike single frames look by their edges and textures: a second opinion beside LPIPS, "
    "which adapters are trained on, while none is trained on HaarPSI.",
    "ssim": "SSIM tells whether structure is in its place in each frame; an even background raises it whatever moves.",
    "psnr": "PSNR tells how far single pixels are off, in decibels; it punishes a shift by a pixel as much as a blur.",
    "mask_iou": "Mask IoU tells whether objects lie where they should in each frame; it says nothing of their colours.",
    "tlpips": "tLPIPS tells whether neighbouring frames differ as much as the true ones do: it sees flicker and "
    "frozen frames, but not which way things move.",
    "warp_error": "Warp error tells whether frames follow each other along the true motion, beyond what the true clip "
    "itself loses: it sees flicker, and a still copy only where something moved.",
    "difference_error": "Difference error tells whether the right pixels change by the right amount from frame to "
    "frame; a lag of one frame raises it as much as no motion.",
    "change_within": "Change within a step tells how much of the true change between the two frames that the model "
    "joins into one step is read back: near 0 % both look the same, and which came first cannot be told.",
    "change_between": "Change between steps tells the same of neighbouring frames of two steps: where it is high and "
    "the one within a step is not, a clip moves every other frame only.",
    "centroid_error": "Centroid error tells, in pixels, how far objects are from their true places; it is blind to "
    "shape and colour.",
    "velocity_error": "Velocity error tells, in pixels a frame, how far motion is off; compare it with the still "
    "copy's, which is the true speed.",
    "direction_right": "Direction tells which share of what moved went the right way, within 45°; a still copy gets "
    "none right.",
}
CONTROLS = {
    "still": "the true first frame, in place of all",
    "held": "each step's true first frame twice, as where its two frames are not told apart",
    "shuffled": "the true frames in a random order",
    "lag": "the true clip, one frame late",
    "oracle": "the true clip through the VAE alone",
}


@dataclass(frozen=True)
class Truth:
    """What is known of a clip besides its pixels; all that is None is found in the pixels, or not scored.

    masks: (F, N, H, W) bool, the visible part of each object; colors: (N, 3) in [0, 1], by which objects are told
    apart: both or neither. flow: (F - 1, 2, H, W) and occluded: (F - 1, H, W), as `data.motion.Flow` of one clip.
    """

    masks: Tensor | None = None
    colors: Tensor | None = None
    flow: Tensor | None = None
    occluded: Tensor | None = None


@dataclass(frozen=True)
class ClipScores:
    """Scores of one clip against its original.

    frames: {"lpips": (F,), …} by FRAME_SCORES; NaN where a frame has no such score. pairs: {"tlpips": (F - 1,), …}, of
    frames t and t + 1: tlpips, warp_error (less the original's own), difference_error, velocity_error. tracks:
    (F, N, 2), where each object was found; NaN where it was not. true_tracks: the same of the original. changes:
    (F - 1, 2), from frame t to t + 1 the product of the clip's change with the true one, and that of the true one with
    itself; their ratio is the share of the true change that is read back, by least squares. missed: share
    of an object's frames in which it is seen in the original and not found here. direction_right: (M,) bool of what
    moved, by object, or of the image as a whole where no objects are known.
    """

    frames: dict[str, Tensor]
    pairs: dict[str, Tensor]
    tracks: Tensor
    true_tracks: Tensor
    changes: Tensor
    missed: float | None
    direction_right: Tensor

    @property
    def worst(self) -> dict[str, int]:
        """The number of the worst frame by each of FRAME_SCORES that has one."""
        worst = {}
        for name, values in self.frames.items():
            if not values.isnan().all():
                bad = values if name == "lpips" else -values
                worst[name] = int(bad.nan_to_num(-math.inf).argmax())
        return worst

    @property
    def centroid_error(self) -> Tensor:
        """(F, N): pixels from each object's true place; NaN where it is not seen or not found."""
        return (self.tracks - self.true_tracks).norm(dim=-1)

    def means(self) -> dict[str, float | None]:
        """One number for each score in TRUST; None where the clip has none. Direction: the share that is right."""
        series = {**self.frames, **self.pairs, "centroid_error": self.centroid_error}
        means = {name: _mean(series[name]) for name in TRUST if name in series}
        for name, first in (("change_within", 0), ("change_between", 1)):
            change, true_change = self.changes[first::STEP_FRAMES].sum(0).tolist()
            means[name] = change / true_change if true_change > 0 else None
        means["direction_right"] = _mean(self.direction_right.float())
        return {name: means[name] for name in TRUST}

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values: the means, the worst frame by each score, and every score by frame or pair of frames."""
        return {
            **self.means(),
            "missed": self.missed,
            "worst_frame": self.worst,
            "by_frame": {name: _values(v) for name, v in self.frames.items()},
            "by_pair": {name: _values(v) for name, v in self.pairs.items()},
        }


def _mean(x: Tensor) -> float | None:
    known = x[~x.isnan()]
    return float(known.mean()) if len(known) else None


def _values(x: Tensor) -> list[float | None]:
    return [None if math.isnan(v) else v for v in x.tolist()]


@dataclass(frozen=True)
class _Measured:
    """What is seen in a clip's frames, whichever order they are shown in.

    frames: (F, 3, H, W). features: of LPIPS. masks: (F, H, W) bool, what stands out; reasons: why nothing does.
    objects: (F, N, 2) centroids, N = 0 where no colours are known.
    """

    frames: Tensor
    features: list[Tensor]
    masks: Tensor
    reasons: list[str | None]
    objects: Tensor

    def __getitem__(self, order: Sequence[int]) -> _Measured:
        rows = [*order]  # a list, for centroids are on the CPU and all else may be on a GPU
        reasons = [self.reasons[k] for k in order]
        features = [layer[rows] for layer in self.features]
        return _Measured(self.frames[rows], features, self.masks[rows], reasons, self.objects[rows])

    def part(self, rows: slice) -> list[Tensor]:
        """LPIPS's features of some frames."""
        return [layer[rows] for layer in self.features]


class ClipScorer:
    """Scores any number of clips against one original (F, 3, H, W) in [0, 1], and controls beside them.

    What the original shows is seen once, and what its own frames show in another order is not seen again. Raises
    InputError for frames under 11 pixels a side, values outside [0, 1], and a truth of another size.
    """

    def __init__(self, original: Tensor, truth: Truth | None = None) -> None:
        self.truth = truth or Truth()
        _check(original)
        count, (height, width) = len(original), original.shape[-2:]
        for name, due in (
            ("masks", (count, len(self.truth.colors) if self.truth.colors is not None else -1, height, width)),
            ("flow", (count - 1, 2, height, width)),
            ("occluded", (count - 1, height, width)),
        ):
            value = getattr(self.truth, name)
            if value is not None and value.shape != due:
                raise InputError(f"{name} of this clip must be {due}, not {tuple(value.shape)}.")
        if (self.truth.flow is None) != (self.truth.occluded is None):
            raise InputError("flow and occlusion are given together or not at all.")
        if (self.truth.masks is None) != (self.truth.colors is None):
            raise InputError("masks and colours of objects are given together or not at all.")
        self.original = original.float()
        self._measured = self._measure(self.original)
        masks = self.truth.masks
        self._masks = self._measured.masks if masks is None else masks.to(original.device).any(1)
        self._empty = (
            self._measured.reasons
            if masks is None
            else [None if some else "nothing is shown" for some in self._masks.flatten(1).any(1).tolist()]
        )
        self.tracks = self._measured.objects
        if masks is not None:
            # Where little is seen of an object its place cannot be read off even in the original: it is not scored.
            true = centroids(masks.to(original.device)).cpu()
            self.tracks = true.where(((true - self.tracks).norm(dim=-1) < READABLE)[..., None], torch.nan)

    @torch.no_grad()
    def score(self, clip: Tensor) -> ClipScores:
        """A clip (F, 3, H, W) in [0, 1] of the original's size. Raises InputError where it is of another."""
        if clip.shape != self.original.shape:
            raise InputError(f"the clips differ in size: {tuple(self.original.shape)} and {tuple(clip.shape)}.")
        _check(clip)
        return self._score(self._measure(clip.float()))

    @torch.no_grad()
    def controls(self, seed: int = 0) -> dict[str, ClipScores]:
        """Scores of clips that are wrong in time alone: all of CONTROLS but "oracle"."""
        return {
            name: self._score(self._measured[order]) for name, order in control_orders(len(self.original), seed).items()
        }

    def _measure(self, frames: Tensor) -> _Measured:
        with torch.no_grad(), torch.autocast(frames.device.type, enabled=False):
            features = lpips_model(frames.device).features(frames)
        masks, reasons = foreground(frames)
        objects = torch.zeros(len(frames), 0, 2)
        if self.truth.colors is not None:
            objects = centroids(find_objects(frames, self.truth.colors, masks)).cpu()
        return _Measured(frames, features, masks, reasons, objects)

    def _score(self, measured: _Measured) -> ClipScores:
        true, count = self._measured, len(self.original)
        model = lpips_model(self.original.device)
        reasons = [why_no_iou(*pair) for pair in zip(self._empty, measured.reasons, strict=True)]
        unscored = torch.tensor([reason is not None for reason in reasons], device=self.original.device)
        frames = {
            "lpips": model.distance(true.features, measured.features),
            "haarpsi": haarpsi(true.frames, measured.frames),
            "ssim": ssim(true.frames, measured.frames),
            "psnr": psnr(true.frames, measured.frames),
            "mask_iou": mask_iou(self._masks, measured.masks).masked_fill(unscored, torch.nan),
        }
        pairs = {name: torch.full((max(0, count - 1),), torch.nan) for name in ("warp_error", "velocity_error")}
        pairs |= {"tlpips": torch.zeros(0), "difference_error": torch.zeros(0)}
        both = torch.zeros(0, 2)
        if count > 1:
            steps = [model.distance(s.part(slice(0, -1)), s.part(slice(1, None))) for s in (true, measured)]
            pairs["tlpips"] = (steps[0] - steps[1]).abs()
            change, due = measured.frames.diff(dim=0), true.frames.diff(dim=0)
            pairs["difference_error"] = (change - due).abs().mean((1, 2, 3))
            both = torch.stack([(change * due).sum((1, 2, 3)), due.square().sum((1, 2, 3))], 1)
            if self.truth.flow is not None:
                pairs["warp_error"] = self._warp_error(measured.frames) - self._true_warp_error
        known = self.tracks.shape[1] > 0
        if known:
            velocity, right = self.tracks.diff(dim=0), _directions(self.tracks, measured.objects)
            off = (measured.objects.diff(dim=0) - velocity).norm(dim=-1)  # (F - 1, N)
            pairs["velocity_error"] = off.nanmean(1) if count > 1 else off.new_zeros(0)
        elif count > 1:
            path, own = self._true_shifts, shifts(measured.frames)
            pairs["velocity_error"] = (own - path).norm(dim=-1)
            right = _directions(_walk(path), _walk(own.nan_to_num(0)))
        else:
            right = torch.zeros(0, dtype=torch.bool)
        present = ~self.tracks[..., 0].isnan()
        lost = present & measured.objects[..., 0].isnan()
        return ClipScores(
            {name: values.cpu() for name, values in frames.items()},
            {name: pairs[name].cpu() for name in ("tlpips", "warp_error", "difference_error", "velocity_error")},
            measured.objects,
            self.tracks,
            both.cpu(),
            float(lost.sum() / present.sum()) if present.any() else None,
            right,
        )

    @cached_property
    def _true_warp_error(self) -> Tensor:
        return self._warp_error(self.original)

    @cached_property
    def _true_shifts(self) -> Tensor:
        if self.truth.flow is None:
            return shifts(self.original)
        return self.truth.flow.flatten(2).median(-1).values.cpu()  # (F - 1, 2): what most pixels do

    def _warp_error(self, frames: Tensor) -> Tensor:
        """(F - 1,): mean absolute difference of frame t and frame t + 1 taken back along the true flow, where seen."""
        assert self.truth.flow is not None and self.truth.occluded is not None
        came = warp(frames[1:], self.truth.flow.to(frames.device))
        visible = ~self.truth.occluded.to(frames.device)
        error = (came - frames[:-1]).abs().mean(1) * visible
        return error.sum((1, 2)) / visible.sum((1, 2)).clamp_min(1)


def warp(frames: Tensor, flow: Tensor) -> Tensor:
    """Frames (P, C, H, W) taken back: each pixel's value is that at the place it moves to by flow (P, 2, H, W).

    Bilinear; places outside of a frame take the value at its border.
    """
    height, width = frames.shape[-2:]
    x = torch.arange(width, device=frames.device) + 0.5 + flow[:, 0]
    y = (torch.arange(height, device=frames.device) + 0.5)[:, None] + flow[:, 1]
    at = torch.stack([2 * x / width - 1, 2 * y / height - 1], -1)
    return F.grid_sample(frames, at, mode="bilinear", padding_mode="border", align_corners=False)


def control_orders(count: int, seed: int = 0) -> dict[str, list[int]]:
    """Which of the true frames each control shows at each time."""
    draw = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(count, generator=draw).tolist()
    if count > 1 and shuffled == list(range(count)):
        shuffled = shuffled[::-1]
    return {
        "still": [0] * count,
        "held": [k - k % STEP_FRAMES for k in range(count)],
        "shuffled": shuffled,
        "lag": [max(0, k - 1) for k in range(count)],
    }


def _walk(velocities: Tensor) -> Tensor:
    """Velocities (F - 1, 2) → a track (F, 1, 2) from the origin."""
    return torch.cat([torch.zeros(1, 2), velocities.nan_to_num(0).cumsum(0)])[:, None]


def _directions(true: Tensor, measured: Tensor) -> Tensor:
    """(M,) bool for each of N tracks (F, N, 2) that truly moved MOVED pixels or more: whether the found one goes along.

    From the first to the last frame in which the object is truly visible; one that is not found there goes nowhere.
    """
    right = []
    for j in range(true.shape[1]):
        visible = (~true[:, j, 0].isnan()).nonzero().flatten()
        if len(visible) < 2:
            continue
        first, last = int(visible[0]), int(visible[-1])
        path, own = true[last, j] - true[first, j], measured[last, j] - measured[first, j]
        if path.norm() >= MOVED:
            cosine = float(path @ own / (path.norm() * own.norm()).clamp_min(1e-9))
            right.append(cosine >= math.cos(math.radians(RIGHT)))  # NaN is not
    return torch.tensor(right, dtype=torch.bool)


def _check(clip: Tensor) -> None:
    if clip.ndim != 4 or clip.shape[1] != 3 or not len(clip):
        raise InputError(f"a clip must be (F, 3, H, W), not {tuple(clip.shape)}.")
    if min(clip.shape[-2:]) < LEAST_SIDE:
        raise InputError(f"frames need at least {LEAST_SIDE} pixels a side, not {clip.shape[-1]} × {clip.shape[-2]}.")
    if not (clip.min() >= 0 and clip.max() <= 1):  # NaN fails both
        raise InputError("a clip's values must all lie within 0 to 1.")
