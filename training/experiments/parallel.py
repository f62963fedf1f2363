"""Modules trained side by side on latents taken once: adapters and box heads.

On a GPU a small module waits for kernels to start more than for them to run: sixty, one after the other, would cost
sixty times one. So those of one form are computed as one, by `torch.func`.

Shapes: K modules, B images each, tokens (T, H, W) of width D, VAE latents (C, h, w).
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from foresight.adapters.modules import Adapter
from foresight.errors import InputError
from foresight.paths import replacing
from training.experiments.bench import Bench
from training.loop import STATE, Recipe, train

STRIDE = 7919  # rows between the orders of two seeds: a prime, so that no two see the same batches
TRAINED = "trained.pt"
WEIGHTS_AT_ONCE = 128_000_000  # numbers trained side by side, which take 20 bytes each


class LatentError(nn.Module):
    """The mean squared error of an adapter's VAE latents (B, C, h, w), each channel in units of its spread."""

    def __init__(self, adapter: Adapter):
        super().__init__()
        self.adapter = adapter

    def forward(self, latents: Tensor, targets: Tensor) -> Tensor:
        return ((self.adapter(latents) - targets) / self.adapter.z_std.view(-1, 1, 1)).square().mean()


@dataclass(frozen=True)
class Learner:
    """A module that learns targets (n, …) from inputs, each (n, T, H, W, D), which it takes joined.

    rows: those it may see. error: a module around it, of latents (B, T, H, W, D) and targets (B, …): what is to be
    small. seed: of the order of its rows.
    """

    module: nn.Module
    rows: Tensor
    inputs: Sequence[Tensor]
    targets: Tensor
    error: nn.Module
    seed: int

    def latents(self, where: Tensor) -> Tensor:
        """What the module takes of rows (…)."""
        return torch.cat([x[where] for x in self.inputs], -1)

    def loss(self, where: Tensor) -> Tensor:
        return self.error(self.latents(where), self.targets[where])

    @property
    def form(self) -> tuple:
        """What learners share that can be computed as one."""
        shapes = (tuple(p.shape) for p in self.module.parameters())
        return type(self.error), type(self.module), *shapes, tuple(self.inputs[0].shape[1:])


def stacked_losses(learners: Sequence[Learner], rows: Tensor) -> Tensor:
    """The losses (K,) of learners of one form, each on its own rows, of (K, B), computed as one.

    Parameters are stacked anew, not by `torch.func.stack_module_state`, which would cut them off from the modules:
    each keeps its own weights, gradients and clipping.
    """
    errors = [learner.error for learner in learners]
    states = [dict(e.named_parameters()) | dict(e.named_buffers()) for e in errors]
    state = {name: torch.stack([own_state[name] for own_state in states]) for name in states[0]}
    for stacked in state.values():
        if stacked.requires_grad:  # in order at once, or each module's part is copied by itself
            stacked.register_hook(Tensor.contiguous)
    alike = [list(same) for _, same in groupby(learners, lambda one: (*map(id, one.inputs), id(one.targets)))]
    parts = list(zip(alike, rows.split([len(same) for same in alike]), strict=True))
    x = torch.cat([same[0].latents(where) for same, where in parts])  # (K, B, T, H, W, D)
    targets = torch.cat([same[0].targets[where] for same, where in parts])
    return vmap(lambda own_state, x, target: functional_call(errors[0], own_state, (x, target)))(state, x, targets)


class ParallelTask:
    """The training task of all learners. A seed sees its own stretch of the same order, within its own rows.

    So what a learner learns depends on its seed, and not on those beside it.

    stacked: learners of one form are computed as one; None: on a GPU, where it pays. On a CPU it costs.
    """

    def __init__(self, learners: Sequence[Learner], device: torch.device, stacked: bool | None = None):
        self.learners, self.device = learners, device
        stacked = device.type == "cuda" if stacked is None else stacked
        self.modules = nn.ModuleDict({str(k): learner.module for k, learner in enumerate(learners)})
        self.rows = max(len(learner.rows) for learner in learners)
        self._available = pad_sequence([learner.rows for learner in learners], batch_first=True).to(device)
        self._counts = torch.tensor([[len(learner.rows)] for learner in learners], device=device)
        self._begin = torch.tensor([[STRIDE * learner.seed] for learner in learners], device=device)
        groups: dict[tuple, list[int]] = {}
        for k, learner in enumerate(learners):
            form = learner.form if stacked else (k,)
            groups.setdefault(form, []).append(k)
        self.groups = list(groups.values())
        self._indices = [torch.tensor(group, device=device) for group in self.groups]

    def loss(self, rows: Tensor, generator: torch.Generator, done: float) -> dict[str, Tensor]:
        own_rows = self._available.gather(1, (rows.to(self.device) + self._begin) % self._counts)  # (K, B)
        losses: dict[str, Tensor] = {}
        for group, indices in zip(self.groups, self._indices, strict=True):
            if len(group) == 1:
                values = [self.learners[group[0]].loss(own_rows[group[0]])]
            else:
                values = list(stacked_losses([self.learners[k] for k in group], own_rows[indices]))
            losses |= dict(zip(map(str, group), values, strict=True))
        return losses


def usual_recipe(bench: Bench, steps: int | None = None) -> Recipe:
    """The study's recipe, for so many steps or the usual number."""
    steps = steps or bench.scale.steps
    warmup = max(1, min(200, steps // 10))
    return Recipe(steps, bench.scale.batch, bench.scale.lr, warmup, seed=bench.seed, save_every=120.0)


def train_parallel(bench: Bench, learners: Sequence[Learner], recipe: Recipe, title: str) -> None:
    """Trains all learners side by side, or as many at a time as memory is meant for.

    What is trained is kept in the bench's folder of unfinished work under `title`, which no other training of an
    experiment may have, and is not trained again.
    """
    for number, part in enumerate(_parts(learners)):
        folder, facts = None, bench.facts | {"title": title}
        if bench.unfinished is not None:
            folder = bench.unfinished / re.sub(r"[^A-Za-z0-9.-]+", "-", f"{title}-{number}")
        if folder and _restore(folder / TRAINED, part, facts):
            continue
        task = ParallelTask(part, bench.device)
        for _ in tqdm(train(task, recipe, bench.device, folder, facts), title, recipe.steps, leave=False, unit="step"):
            pass
        if folder:
            weights = [learner.module.state_dict() for learner in part]
            with replacing(folder / TRAINED) as partial:
                torch.save({"facts": json.dumps(facts), "weights": weights}, partial)
            (folder / STATE).unlink()


def _parts(learners: Sequence[Learner]) -> Iterator[list[Learner]]:
    part, size = list[Learner](), 0
    for learner in learners:
        weights = sum(p.numel() for p in learner.module.parameters())
        if part and size + weights > WEIGHTS_AT_ONCE:
            yield part
            part, size = [], 0
        part.append(learner)
        size += weights
    yield part


def _restore(path: Path, learners: Sequence[Learner], facts: dict) -> bool:
    """Gives learners the weights that an earlier call trained; False where there are none."""
    if not path.is_file():
        return False
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if checkpoint["facts"] != json.dumps(facts):
        raise InputError(f"{path} is of a study with other settings: choose another folder, or delete it.")
    for learner, weights in zip(learners, checkpoint["weights"], strict=True):
        learner.module.load_state_dict(weights)
        learner.module.eval()
    return True
