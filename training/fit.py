"""Fits adapters, several side by side on one set of latents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foresight.adapters import KINDS, Adapter
from foresight.checkpoint import save_adapter
from foresight.errors import InputError
from foresight.images import resize
from foresight.metrics import bootstrap, lpips_model, score_batch
from foresight.points import ExtractionPoint
from foresight.scenes import SceneSpec, take
from foresight.vae import VAE
from foresight.vlm import VLM
from training.latents import WHITE, Latents, extract, mixture
from training.loop import Recipe, Step, train

STATISTICS_ROWS = 2048  # pictures from which means and spreads are taken
HELD_OUT = {
    "one object on white": SceneSpec(objects=(1, 1), backgrounds=WHITE),
    "1-5 objects, all backgrounds": SceneSpec(),
}
HELD_OUT_SEED = 2000


@dataclass(frozen=True)
class FitConfig:
    """What to fit, on what, and how; saved in each adapter's card."""

    points: tuple[str, ...]
    """Extraction points; every kind is fitted at each of them."""
    kinds: tuple[str, ...] = ("tokens",)
    """linear, pooled, tokens."""
    scenes: int = 2000
    """Training scenes, of the train split."""
    hidden: int | None = None
    """Hidden width of pooled and tokens; None: a quarter of the latents' width, at least 128."""
    latent: float = 0.1
    """Weight of the squared error of standardised VAE latents once pictures are looked at; 1 before."""
    pixel: float = 4.0
    """Weight of the absolute error of decoded pictures."""
    perceptual: float = 1.0
    """Weight of LPIPS between decoded pictures and originals."""
    pictures_from: float = 0.3
    """Share of the steps after which pictures are decoded and looked at; 1: never."""
    recipe: Recipe = field(default_factory=Recipe)


def scene_count(data: str) -> int:
    """``"scenes:2000"`` → 2000"""
    kind, _, number = data.partition(":")
    if kind != "scenes" or not number.isdecimal() or int(number) < 1:
        raise InputError(f"{data!r} is no training data: write scenes:N, such as scenes:2000.")
    return int(number)


def new_adapter(kind: str, point: ExtractionPoint, vlm: VLM, vae: VAE, hidden: int | None) -> Adapter:
    """An untrained adapter that fits a point of a VLM and a VAE."""
    if kind not in KINDS:
        raise InputError(f"{kind!r} is no kind of adapter: choose from {', '.join(KINDS)}.")
    token = 16 if point.stage == "pre-merge" else 32  # pixels a side of the VAE's picture
    fold, cells = max(1, vae.downscale // token), max(1, token // vae.downscale)
    sizes: dict[str, Any] = {"width": vlm.width(point), "channels": vae.channels, "fold": fold, "cells": cells}
    if kind != "linear":
        sizes["hidden"] = hidden or max(128, vlm.width(point) // 4)
    if kind == "pooled":
        sizes["canvas"] = 256 // vae.downscale
    return KINDS[kind](**sizes)


class Fit:
    """The task of all adapters of a config: rows are pictures, each adapter has a loss of its own."""

    def __init__(self, adapters: dict[str, Adapter], latents: Latents, vae: VAE, config: FitConfig):
        self.modules = nn.ModuleDict(adapters)
        self.adapters = adapters
        self._sources = {name: latents.points[name.rsplit("-", 1)[0]] for name in adapters}
        self.latents, self.vae, self.config, self.rows = latents, vae, config, len(latents)
        self.lpips = lpips_model(latents.targets.device)
        on_gpu = latents.targets.device.type == "cuda"
        self._judge = torch.compile(self._judge_pictures) if on_gpu else self._judge_pictures

    def loss(self, rows: Tensor, generator: torch.Generator, done: float) -> dict[str, Tensor]:
        where = rows.to(self.latents.targets.device)
        goal = self.latents.targets[where]
        found = {name: a(self._sources[name][where]) for name, a in self.adapters.items()}
        losses = {
            name: ((z - goal) / self.adapters[name].z_std.view(-1, 1, 1)).square().mean() for name, z in found.items()
        }
        if done < self.config.pictures_from:
            return losses
        judged = self._judge(torch.cat(list(found.values())), self.latents.pictures[where])
        return {name: self.config.latent * loss + judged[k] for k, (name, loss) in enumerate(losses.items())}

    def _judge_pictures(self, z: Tensor, originals: Tensor) -> Tensor:
        """Losses (adapters,) of decoded latents (adapters · B, C, h, w) against originals (B, 3, H, W) uint8."""
        x = originals.float() / 255
        several = len(z) // len(x)
        y = resize(self.vae.decode(z, clamp=False), (x.shape[2], x.shape[3]))
        seen = [f.repeat(several, 1, 1, 1) for f in self.lpips.features(x)]
        absolute = (y - x.repeat(several, 1, 1, 1)).abs().mean((1, 2, 3))
        distance = self.lpips.distance(seen, self.lpips.features(y))
        return (self.config.pixel * absolute + self.config.perceptual * distance).view(several, -1).mean(1)


def prepare(config: FitConfig, vlm: VLM, vae: VAE, batch: int = 64) -> Fit:
    """Extracts latents once, makes the adapters ("post-merge/6-tokens", …) and the task of all."""
    points = [vlm.point(p) for p in config.points]
    latents = extract(vlm, vae, mixture(config.scenes, config.recipe.seed, "train"), points, batch)
    some = torch.linspace(0, len(latents) - 1, min(len(latents), STATISTICS_ROWS), device=vlm.device).long()
    torch.manual_seed(config.recipe.seed)
    adapters = {}
    for point in points:
        for kind in config.kinds:
            adapter = new_adapter(kind, point, vlm, vae, config.hidden).to(vlm.device)
            adapter.fit_statistics(latents.points[str(point)][some], latents.targets[some])
            adapter.card = {
                "point": str(point),
                "model": vlm.name,
                "vae": vae.name,
                "opening": vlm.opening,
                "data": f"scenes:{config.scenes}",
            }
            adapters[f"{point}-{kind}"] = adapter
    return Fit(adapters, latents, vae, config)


def fit(task: Fit, vlm: VLM, vae: VAE, out: Path, held_out: int = 128) -> Iterator[Step]:
    """Trains, scores on `held_out` test scenes of each kind, and saves every adapter; yields each step done.

    An adapter's folder is `out`/post-merge-6-tokens; the state to resume from lies beside them.
    """
    yield from train(task, task.config.recipe, vlm.device, out)
    scores = held_out_scores(task.adapters, vlm, vae, held_out) if held_out else {}
    for name, adapter in task.adapters.items():
        adapter.card |= {"config": asdict(task.config), "scores": scores.get(name, {})}
        save_adapter(adapter, out / name.replace("/", "-"))


@torch.inference_mode()
def held_out_scores(
    adapters: dict[str, Adapter], vlm: VLM, vae: VAE, count: int, batch: int = 32
) -> dict[str, dict[str, Any]]:
    """Scores on `count` test scenes of each kind in HELD_OUT: {adapter: {kind: {score: [mean, low, high]}}}."""
    table: dict[str, dict[str, Any]] = {name: {"n": count} for name in adapters}
    points = sorted({name.rsplit("-", 1)[0] for name in adapters})
    for title, spec in HELD_OUT.items():
        latents = extract(vlm, vae, [take(count, HELD_OUT_SEED, spec, "test")], points, batch)
        for name, adapter in adapters.items():
            parts: dict[str, list[Tensor]] = {}
            for i in range(0, count, batch):
                x = latents.pictures[i : i + batch].float() / 255
                y = vae.decode(adapter(latents.points[name.rsplit("-", 1)[0]][i : i + batch]))
                scores = score_batch(x, resize(y, (x.shape[2], x.shape[3])), latents.masks[i : i + batch])
                for score, values in scores.items():
                    parts.setdefault(score, []).append(values.cpu())
            table[name][title] = {
                score: [round(v, 5) for v in bootstrap(torch.cat(values).tolist())] for score, values in parts.items()
            }
    return table
