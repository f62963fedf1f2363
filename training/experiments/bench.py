"""The study's bench: one VLM, one VAE, and latents that all experiments share, taken once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foresight.data.scenes import Scenes, SceneSpec, take
from foresight.errors import InputError
from foresight.metrics.baselines import TrainingBaselines
from foresight.models.points import STAGES, ExtractionPoint
from foresight.models.vae import VAE
from foresight.models.vlm import VLM, load_vlm
from training.data import collect, scene_source
from training.experiments.experiment import StudyPoints
from training.experiments.scale import Scale
from training.latents import MIXTURE, Latents

STUDYS_SCENES = "the study's scenes"  # half 1 to 5 objects on all backgrounds, a quarter one on white, a quarter 1 to 5
TRAIN_SEED, TEST_SEED = 40, 4000  # of scenes; the splits share none whatever the seeds


@dataclass
class Bench:
    """What every experiment works with.

    artifacts: folder of images and tables. photos: folder of photos that no adapter has learned from. unfinished:
    where trained weights are kept until their experiment is finished; None: nowhere. facts: all that these depend on,
    JSON values. others: folders of VLMs of the same config that were trained with other seeds, as controls.
    """

    vlm: VLM
    vae: VAE
    scale: Scale
    artifacts: Path
    seed: int = 0
    model: str | None = None
    photos: Path | None = None
    unfinished: Path | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    _cache: dict[str, Latents] = field(default_factory=dict, repr=False)

    @property
    def device(self) -> torch.device:
        return self.vlm.device

    @property
    def batch(self) -> int:
        """Images extracted or scored at a time."""
        return 128 if self.device.type == "cuda" else 8

    @cached_property
    def points(self) -> list[ExtractionPoint]:
        """The study's extraction points: both ends and the middle of both stages, and others evenly between."""
        last = {stage: max(p.layer for p in self.vlm.points if p.stage == stage) for stage in STAGES}
        share = self.scale.points / (sum(last.values()) + 2)
        chosen = set()
        for stage, deepest in last.items():
            count = min(deepest + 1, max(3, round(share * (deepest + 1))))
            layers = {round(k * deepest / (count - 1)) for k in range(count)} | {deepest // 2}
            chosen |= {ExtractionPoint(stage, layer) for layer in layers}
        return sorted(chosen, key=lambda p: p.depth)

    @property
    def recommended(self) -> ExtractionPoint:
        """The seed study's recommendation: post-merge, half of the language model's depth."""
        return ExtractionPoint("post-merge", self.vlm.points[-1].layer // 2)

    @property
    def merger(self) -> tuple[ExtractionPoint, ExtractionPoint]:
        """The points just before and just after the 2×2 merger."""
        return ExtractionPoint("pre-merge", len(self.vlm.model.model.visual.blocks)), ExtractionPoint("post-merge", 0)

    @property
    def landmarks(self) -> list[ExtractionPoint]:
        """Before the merger, after it, the recommended point, and the last one."""
        return list(dict.fromkeys([*self.merger, self.recommended, self.points[-1]]))

    @property
    def long_points(self) -> list[ExtractionPoint]:
        """Where adapters learn for as long as it takes: the landmarks and the very first point."""
        return list(dict.fromkeys([self.points[0], *self.landmarks]))

    @property
    def names(self) -> StudyPoints:
        """The study's points as kept with each result."""
        every, merger, landmarks = (list(map(str, p)) for p in (self.points, self.merger, self.landmarks))
        return StudyPoints(every=every, recommended=str(self.recommended), merger=merger, landmarks=landmarks)

    def random_vlm(self, draw: int) -> VLM:
        """A VLM of the same config with random weights: what the architecture alone lets through."""
        from transformers import Qwen2_5_VLForConditionalGeneration

        vlm = load_vlm(self.model, self.device, self.vlm.dtype)
        torch.manual_seed(1000 * self.seed + draw)
        with torch.device(self.device):
            vlm.model = Qwen2_5_VLForConditionalGeneration._from_config(vlm.config, dtype=self.vlm.dtype)
        vlm.model.eval().requires_grad_(False)
        return vlm

    def permuted_vlm(self, draw: int) -> VLM:
        """The VLM with the numbers of each weight in a random order: as large and as spread, and nothing learned."""
        shuffled = self.random_vlm(draw)
        self.vlm.latents(torch.ones(1, 3, 56, 56), [self.vlm.points[-1]])  # reads all the weights that latents need
        own, generator = dict(self.vlm.model.named_parameters()), torch.Generator(self.device).manual_seed(draw)
        for name, weight in shuffled.model.named_parameters():
            if not own[name].is_meta:
                order = torch.randperm(weight.numel(), generator=generator, device=self.device)
                weight.copy_(own[name].flatten()[order].view_as(weight))
        return shuffled

    def other_vlm(self, folder: str) -> VLM:
        """One of `others`. Raises InputError where its config is another."""
        vlm = load_vlm(folder, self.device, self.vlm.dtype)
        if vlm.conditions["config"] != self.vlm.conditions["config"]:
            raise InputError(f"{folder} is no VLM of the same config as {self.vlm.name}: it cannot be its control.")
        return vlm

    def mixture(self, count: int, split: str) -> list[Scenes]:
        """`count` scenes in all of the parts of the training mixture, of one split."""
        start = (TRAIN_SEED if split == "train" else TEST_SEED) + self.seed
        share = -(-count // len(MIXTURE))
        return [self._take(share, start * len(MIXTURE) + k, spec, split) for k, spec in enumerate(MIXTURE)]

    def train(self) -> Latents:
        """The training mixture at all of the study's points."""
        return self._once("train", self.mixture(self.scale.train, "train"))

    def test(self) -> Latents:
        """The test mixture at all of the study's points."""
        return self._once("test", self.mixture(self.scale.test, "test"))

    def _once(self, name: str, scenes: Sequence[Scenes]) -> Latents:
        if name not in self._cache:
            self._cache[name] = self.latents(scenes, self.points)
        return self._cache[name]

    def latents(self, scenes: Sequence[Scenes], points: Sequence[ExtractionPoint], vlm: VLM | None = None) -> Latents:
        """Latents of scenes at points of the study's VLM, or of another."""
        source = scene_source([*scenes], self.batch, self.device)
        return collect(vlm or self.vlm, self.vae, source, points)

    def scenes(self, count: int, seed: int, spec: SceneSpec, split: str) -> Scenes:
        """`count` scenes of a split; `seed` tells apart the sets of one study."""
        return self._take(count, seed * 1000 + self.seed, spec, split)

    def _take(self, count: int, seed: int, spec: SceneSpec, split: str) -> Scenes:
        return take(count, seed, spec, split, self.device).resized((self.scale.side, self.scale.side))

    @cached_property
    def baselines(self) -> dict[str, Tensor]:
        """What needs no latents, for each test image (N, 3, H, W): "blank", "mean", "nearest"."""
        training, x = TrainingBaselines(self.train().pictures.float() / 255), self.test().pictures.float() / 255
        nearest = training.nearest(x)
        return {"blank": torch.ones_like(x), "mean": training.mean.expand_as(x), "nearest": nearest}
