"""Fits adapters, several side by side on one set of latents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foresight.adapters.checkpoint import save_adapter
from foresight.adapters.modules import KINDS, Adapter, LinearProbe
from foresight.data.scenes import SceneSpec
from foresight.errors import InputError
from foresight.inspection.evaluation import folder_files
from foresight.inspection.readout import read_out
from foresight.metrics.intervals import bootstrap
from foresight.metrics.scores import compare
from foresight.models.points import ExtractionPoint
from foresight.models.vae import VAE
from foresight.models.vlm import VLM
from training.data import (
    Source,
    Tell,
    chosen_scenes,
    collect,
    files_digest,
    held_out_sources,
    picture_source,
    scene_source,
    split_pictures,
)
from training.latents import Latents, processes
from training.loop import Recipe, Step, train
from training.losses import ImageLoss
from training.ridge import solve_linear
from training.store import Store, key_of, weights_digest

STATISTICS_ROWS = 2048  # pictures from which means and spreads are taken
VALIDATION = 1024  # scenes of the validation split, at most


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
    near: float = 0.0
    """Weight of the same on and beside objects alone, so that small ones count as much as large ones."""
    spill: float = 0.0
    """Weight of halos: of what is painted up to HALO pixels around objects, beyond half of what makes an object stand
    out, summed and divided by the objects' area."""
    perceptual: float = 1.0
    """Weight of LPIPS between decoded pictures and originals."""
    pictures_from: float = 0.3
    """Share of the steps after which pictures are decoded and looked at; 1: never."""
    window: int | None = 16
    """Cells of VAE latents a side of the part of each picture that is looked at; None: all, at 4 times the cost."""
    recipe: Recipe = field(default_factory=Recipe)
    factors: SceneSpec | None = None
    """What the scenes may hold; None: the usual mixture."""
    pictures: str | None = None
    """A folder of pictures to learn from instead of scenes."""
    held_out: int = 64
    """How many of the folder's pictures are not learned from but scored on: at most a quarter of them."""


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
    """The task of all adapters of a config: rows are pictures, each adapter has a loss of its own.

    solved: of adapters that need no training, the squared error of standardised VAE latents on validation pictures.
    """

    def __init__(
        self,
        adapters: dict[str, Adapter],
        latents: Latents,
        vae: VAE,
        config: FitConfig,
        solved: dict[str, float] | None = None,
    ):
        self.adapters, self.solved = adapters, solved or {}
        self.modules = nn.ModuleDict({name: a for name, a in adapters.items() if name not in self.solved})
        self._sources = {name: latents.points[name.rsplit("-", 1)[0]] for name in adapters}
        self.latents, self.vae, self.config, self.rows = latents, vae, config, len(latents)
        self._look = ImageLoss(vae, config.window, config.pixel, config.near, config.spill, config.perceptual)

    def loss(self, rows: Tensor, generator: torch.Generator, done: float) -> dict[str, Tensor]:
        where = rows.to(self.latents.targets.device)
        goal = self.latents.targets[where]
        found = {name: self.adapters[name](self._sources[name][where]) for name in self.modules}
        losses = {
            name: ((z - goal) / self.adapters[name].z_std.view(-1, 1, 1)).square().mean() for name, z in found.items()
        }
        if done < self.config.pictures_from:
            return losses
        pictures, masks = self.latents.pictures[where], self.latents.masks[where]
        judged = self._look(torch.cat(list(found.values())), pictures, masks, generator)
        return {name: self.config.latent * loss + judged[k] for k, (name, loss) in enumerate(losses.items())}


def prepare(
    config: FitConfig, vlm: VLM, vae: VAE, batch: int = 64, store: Store | None = None, tell: Tell | None = None
) -> Fit:
    """Extracts latents once, makes the adapters ("post-merge/6-tokens", …) and the task of all.

    Linear probes are solved here, by `solve_linear`, and take no part in the training.

    store: keeps latents on disk, and has those that a run before this one took. tell: called as latents come.
    Raises InputError for unknown points and kinds, and for a folder with too few pictures.
    """
    points = [vlm.point(p) for p in config.points]
    source = training_source(config, batch, vlm.device, "train")
    latents = collect(vlm, vae, source, points, store, tell, together=True)
    if "linear" in config.kinds:
        held = training_source(config, batch, vlm.device, "val")
        validation = collect(vlm, vae, held, points, store, together=True)
    some = torch.linspace(0, len(latents) - 1, min(len(latents), STATISTICS_ROWS), device=vlm.device).long()
    torch.manual_seed(config.recipe.seed)
    adapters, solved = dict[str, Adapter](), dict[str, float]()
    for point in points:
        for kind in config.kinds:
            adapter = new_adapter(kind, point, vlm, vae, config.hidden).to(vlm.device)
            adapter.fit_statistics(latents.points[str(point)][some], latents.targets[some])
            adapter.card = {
                "point": str(point),
                "model": vlm.name,
                "vae": vae.name,
                "opening": vlm.opening,
                "data": data_name(config, source.count),
            }
            if isinstance(adapter, LinearProbe):
                pairs = [(each.points[str(point)], each.targets) for each in (latents, validation)]
                adapter.card["ridge"] = solve_linear(adapter, *pairs)
                solved[f"{point}-{kind}"] = adapter.card["ridge"]["validation_error"]
            adapters[f"{point}-{kind}"] = adapter
    return Fit(adapters, latents, vae, config, solved)


def training_source(config: FitConfig, batch: int, device: torch.device, split: str) -> Source:
    """A config's pictures of a split: "train", to learn from, or "val", an eighth as many, to choose by."""
    if config.pictures is not None:
        return picture_source(split_pictures(config.pictures, config.held_out)[split], batch)
    count = config.scenes if split == "train" else min(VALIDATION, max(16, config.scenes // 8))
    return scene_source(chosen_scenes(count, config.recipe.seed, config.factors, split), batch, device)


def data_name(config: FitConfig, count: int) -> str:
    """What a card says that an adapter learned from."""
    if config.pictures is not None:
        return f"pictures:{count}"
    return f"scenes:{config.scenes}" + ("" if config.factors is None else " of chosen factors")


def fit(task: Fit, vlm: VLM, vae: VAE, out: Path, held_out: int = 128) -> Iterator[Step]:
    """Trains, scores on `held_out` pictures of each kind, and saves every adapter; yields each step done.

    An adapter's folder is `out`/post-merge-6-tokens; the state to resume from lies beside them. Of several
    processes the first one scores and saves.
    """
    yield from train(task, task.config.recipe, vlm.device, out, run_facts(task.config, vlm, vae))
    if processes()[0] > 0:
        return
    scores = {}
    if held_out:
        points = [str(vlm.point(p)) for p in task.config.points]
        scores = judge(task.adapters, held_out_latents(task.config, vlm, vae, points, held_out), vae)
    save(task, scores, out)


def run_facts(config: FitConfig, vlm: VLM, vae: VAE) -> dict[str, Any]:
    """What makes a run what it is, beside its recipe: JSON values, which a state must share to be resumed."""
    facts = {k: v for k, v in asdict(config).items() if k != "recipe"} | {"model": vlm.name, "vae": vae.name}
    files = [] if config.pictures is None else folder_files(config.pictures)
    digests = {"weights": [key_of(vlm)["model revision"], weights_digest(vae.model)], "files": files_digest(files)}
    return facts | digests


def save(task: Fit, scores: dict[str, dict[str, Any]], out: Path) -> list[Path]:
    """Writes every adapter of a task with its config and scores in the card; returns their folders."""
    config = asdict(task.config)
    if task.config.pictures is not None:
        config["pictures"] = Path(task.config.pictures).name  # a card may be published: no path of this machine
    folders = []
    for name, adapter in task.adapters.items():
        adapter.card |= {"config": config, "scores": scores.get(name, {})}
        folders.append(save_adapter(adapter, out / name.replace("/", "-")))
    return folders


def held_out_latents(
    config: FitConfig, vlm: VLM, vae: VAE, points: list[str], count: int, batch: int = 32, store: Store | None = None
) -> dict[str, Latents]:
    """What a run is judged by: {title: latents of at most `count` pictures that it never learned from}."""
    if config.pictures is not None:
        count = min(count, config.held_out)  # the others of the folder were learned from
    sources = held_out_sources(config.factors, config.pictures, count, batch, vlm.device)
    return {title: collect(vlm, vae, source, points, store) for title, source in sources.items()}


@torch.inference_mode()
def judge(
    adapters: dict[str, Adapter], sets: dict[str, Latents], vae: VAE, batch: int = 32
) -> dict[str, dict[str, Any]]:
    """Scores with 95 % intervals: {adapter: {"n": pictures of a set, title: {score: [mean, low, high], "measured":
    {score: pictures that have it}}}}.

    A score that no picture of a set has is left out: mask IoU, where no object stands out of the original, or where it
    cannot be measured in the reconstruction. Where one picture has it, low and high are None.
    """
    table: dict[str, dict[str, Any]] = {name: {} for name in adapters}
    for title, latents in sets.items():
        for name, adapter in adapters.items():
            parts: dict[str, list[Tensor]] = {}
            for i in range(0, len(latents), batch):
                x = latents.pictures[i : i + batch].float() / 255
                inputs = latents.points[name.rsplit("-", 1)[0]][i : i + batch]
                y = read_out(adapter, vae, (x.shape[2], x.shape[3]), inputs)
                for score, values in compare(x, y, latents.masks[i : i + batch]).scores.items():
                    parts.setdefault(score, []).append(values[~values.isnan()].cpu())
            found = {score: torch.cat(values).tolist() for score, values in parts.items()}
            ends = {score: bootstrap(values) for score, values in found.items() if values}
            means = {score: [None if v is None else round(v, 5) for v in told] for score, told in ends.items()}
            counts = {score: len(values) for score, values in found.items()}
            table[name] |= {"n": len(latents), title: means | {"measured": counts}}
    return table


@contextmanager
def averaged(task: Fit, step: Step) -> Iterator[None]:
    """Within it the adapters hold the averaged weights of a step, which are what training gives in the end."""
    trained: list[Tensor] = [p for p in task.modules.parameters() if p.requires_grad]
    with torch.no_grad():
        now = [p.detach().clone() for p in trained]
        torch._foreach_copy_(trained, step.average)
        try:
            yield
        finally:
            torch._foreach_copy_(trained, now)
