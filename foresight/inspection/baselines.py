"""What memory alone would give for an image: the mean of training images, or the one with the nearest latents.

Shapes: N training scenes, B of them at a time, H × W pixels, latents of D numbers averaged into CELLS × CELLS parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from foresight import zero_gpu
from foresight.data.images import resize
from foresight.data.render import render
from foresight.data.scenes import Scenes, SceneSpec, take
from foresight.inspection.inspector import Inspector
from foresight.inspection.readout import Readout, Reconstruction
from foresight.models.points import ExtractionPoint
from foresight.models.vlm import VLM

_WHITE = ("white",)
# What adapters are trained on: half of everything, a quarter of one object and of several on white.
MIXTURE = (SceneSpec(), SceneSpec(), SceneSpec(objects=(1, 1), backgrounds=_WHITE), SceneSpec(backgrounds=_WHITE))

COUNT = 256  # training scenes
CELLS = 4  # a side: so images of all shapes compare; on held-out scenes the nearest is as near as by 8
_BATCH = 16


def mixture(count: int, seed: int, split: str) -> list[Scenes]:
    """`count` scenes of `split` in all, an equal share of each part of MIXTURE."""
    share = -(-count // len(MIXTURE))
    return [take(share, seed * len(MIXTURE) + k, spec, split) for k, spec in enumerate(MIXTURE)]


@dataclass(frozen=True)
class Recalled:
    """The two baselines of one image: the mean of the training scenes, and the nearest of them.

    scene: the nearest one's description. count: of how many scenes it is the nearest.
    """

    mean: Reconstruction
    nearest: Reconstruction
    scene: dict[str, Any]
    count: int


class Baselines:
    """Scenes of the training split, and their latents at each point that an adapter reads.

    They are the first ones of seed 0, so that every bundled adapter was trained on them.
    """

    def __init__(self, inspector: Inspector, count: int = COUNT) -> None:
        self.inspector, self.count = inspector, count
        self._scenes: list[Scenes] = []  # one each
        self._mean: Tensor | None = None  # (3, 224, 224)
        self._keys: dict[str, _Keys] = {}

    def gather(self) -> Iterator[int]:
        """Computes the latents of all points that lack them, in one pass; yields how many scenes are done."""
        vlm = self.inspector.vlm
        points = {str(record.point) for record in self.inspector.adapters()} - self._keys.keys()
        if not points:
            return
        batches = [batch for part in mixture(self.count, 0, "train") for batch in part.chunks(_BATCH)]
        by_point: dict[str, list[Tensor]] = {point: [] for point in points}
        total, scenes = torch.zeros(3, *batches[0].size), list[Scenes]()
        for batch in batches:
            yield len(scenes)
            added, parts_of_batch = _scenes_at(vlm, batch, points)
            for point, parts in parts_of_batch.items():
                by_point[point].append(parts)
            total += added.cpu()
            scenes += [batch[i] for i in range(len(batch))]
        self._scenes, self._mean = scenes, total / len(scenes)
        self._keys |= {point: _Keys.of(torch.cat(parts)) for point, parts in by_point.items()}

    @zero_gpu.computes(zero_gpu.PICTURE)
    @torch.inference_mode()
    def recall(self, original: Tensor, point: ExtractionPoint, mask: Tensor | None) -> Recalled:
        """The baselines of an image at a point that was gathered.

        Args:
            original: (3, H, W) in [0, 1], of the size at which the VLM sees it.
            point: where latents are compared.
            mask: (H, W) bool, its objects; None: those that stand out.
        """
        assert self._mean is not None
        images, size = original[None].to(self.inspector.vae.device), (original.shape[1], original.shape[2])
        [latents] = self.inspector.vlm.latents(images, [point]).values()
        best = self._scenes[self._keys[str(point)].nearest(_parts(latents))].resized(size)
        readout = Readout(images, None if mask is None else mask[None], self.inspector.round_trip(images))
        [mean] = readout.score("mean", resize(self._mean[None], size).to(images.device))
        [nearest] = readout.score("nearest", (render(best).images.float() / 255).to(images.device))
        return Recalled(mean, nearest, best.describe(0), len(self._scenes))


@zero_gpu.computes(zero_gpu.PICTURE)
def _scenes_at(vlm: VLM, scenes: Scenes, points: Set[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of scenes' images, and their latents' parts at each point."""
    images = render(scenes.to(vlm.device)).images.float() / 255
    return images.sum(0), {point: _parts(latents) for point, latents in vlm.latents(images, points).items()}


@dataclass(frozen=True)
class _Keys:
    """Latents (N, CELLS² · D), standardised, in half precision; and with what: (1, D, 1, 1) each."""

    values: Tensor
    shift: Tensor
    scale: Tensor

    @classmethod
    def of(cls, parts: Tensor) -> _Keys:
        shift, scale = parts.mean((0, 2, 3), keepdim=True), parts.std((0, 2, 3), keepdim=True).clamp_min(1e-4)
        return cls(((parts - shift) / scale).flatten(1).half(), shift, scale)

    def nearest(self, latents: Tensor) -> int:
        """The row of least squared distance to (1, D, CELLS, CELLS)."""
        standardised = ((latents - self.shift) / self.scale).flatten(1)  # (1, CELLS² · D)
        return int((self.values.float() - standardised).square().sum(1).argmin())


def _parts(latents: Tensor) -> Tensor:
    """Latents (B, 1, h, w, D) → (B, D, CELLS, CELLS) on the CPU."""
    return F.adaptive_avg_pool2d(latents[:, 0].permute(0, 3, 1, 2).float(), CELLS).cpu()
