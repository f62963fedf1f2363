"""Modules trained side by side on latents taken once: adapters, blends of layers, box heads.

On a GPU a small adapter waits for kernels to start more than for them to run: sixty, one after the other, would cost
sixty times one. So adapters of one form are computed as one, by `torch.func`.

Shapes: K adapters, B images each, tokens (T, H, W) of width D, VAE latents (C, h, w).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from tqdm import tqdm

from foresight.adapters.modules import Adapter
from training.experiments.bench import Bench
from training.loop import Recipe, train

STRIDE = 7919  # rows between the orders of two learners: a prime, so that no two see the same batches


@dataclass(frozen=True)
class Learner:
    """A module and its loss on some rows (B,) of its own data. rows: (n,), those it may see."""

    module: nn.Module
    rows: Tensor
    loss: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class AdapterLearner:
    """An adapter, or what wraps one, that learns VAE latents: (B, C, h, w) from inputs, each (B, T, H, W, D)."""

    module: nn.Module
    rows: Tensor
    inputs: Sequence[Tensor]
    targets: Tensor
    spread: Tensor
    """(C,), the unit of each channel's error."""

    def loss(self, where: Tensor) -> Tensor:
        return latent_error(self.module(*(x[where] for x in self.inputs)), self.targets[where], self.spread)

    @property
    def form(self) -> tuple | None:
        """What adapters share that can be computed as one; None where the module is no plain adapter."""
        if not isinstance(self.module, Adapter):
            return None
        shapes = (tuple(p.shape) for p in self.module.parameters())
        return type(self.module), *shapes, tuple(self.inputs[0].shape[1:])


def latent_error(z: Tensor, target: Tensor, spread: Tensor) -> Tensor:
    """The mean squared error of VAE latents (B, C, h, w), each channel in units of its spread (C,)."""
    return ((z - target) / spread.view(-1, 1, 1)).square().mean()


def stacked_losses(learners: Sequence[AdapterLearner], rows: Sequence[Tensor]) -> Tensor:
    """The losses (K,) of adapters of one form, each on its own rows (B,), computed as one.

    Parameters are stacked anew, not by `torch.func.stack_module_state`, which would cut them off from the modules:
    each keeps its own weights, gradients and clipping.
    """
    modules = [learner.module for learner in learners]
    states = [dict(m.named_parameters()) | dict(m.named_buffers()) for m in modules]
    state = {name: torch.stack([one[name] for one in states]) for name in states[0]}
    x = torch.stack([one.inputs[0][where] for one, where in zip(learners, rows, strict=True)])  # (K, B, T, H, W, D)
    targets = torch.stack([one.targets[where] for one, where in zip(learners, rows, strict=True)])
    spreads = torch.stack([one.spread for one in learners])

    def loss(own: dict[str, Tensor], x: Tensor, target: Tensor, spread: Tensor) -> Tensor:
        return latent_error(functional_call(modules[0], own, x), target, spread)

    return vmap(loss)(state, x, targets, spreads)


class ParallelTask:
    """The training task of all learners. Each sees another stretch of the same order, within its own rows.

    stacked: adapters of one form are computed as one, which pays on a GPU and costs on a CPU.
    """

    def __init__(self, learners: Sequence[Learner | AdapterLearner], device: torch.device, stacked: bool):
        self.learners, self.device = learners, device
        self.modules = nn.ModuleDict({str(k): one.module for k, one in enumerate(learners)})
        self.rows = max(len(one.rows) for one in learners)
        self._own_rows = [one.rows.to(device) for one in learners]
        groups: dict[tuple, list[int]] = {}
        for k, one in enumerate(learners):
            form = one.form if stacked and isinstance(one, AdapterLearner) else None
            groups.setdefault(form or (k,), []).append(k)
        self.groups = list(groups.values())

    def loss(self, rows: Tensor, generator: torch.Generator, done: float) -> dict[str, Tensor]:
        where = rows.to(self.device)
        own_rows = [own[(where + STRIDE * k) % len(own)] for k, own in enumerate(self._own_rows)]
        losses: dict[str, Tensor] = {}
        for group in self.groups:
            if len(group) == 1:
                values = [self.learners[group[0]].loss(own_rows[group[0]])]
            else:
                stack = [one for k in group if isinstance(one := self.learners[k], AdapterLearner)]
                values = list(stacked_losses(stack, [own_rows[k] for k in group]))
            losses |= dict(zip(map(str, group), values, strict=True))
        return losses


def usual_recipe(bench: Bench, steps: int | None = None) -> Recipe:
    """The study's recipe, for so many steps or the usual number."""
    steps = steps or bench.scale.steps
    return Recipe(steps, bench.scale.batch, bench.scale.lr, max(1, steps // 10), seed=bench.seed)


def train_parallel(bench: Bench, learners: Sequence[Learner | AdapterLearner], recipe: Recipe, title: str) -> None:
    """Trains all learners side by side."""
    task = ParallelTask(learners, bench.device, bench.device.type == "cuda")
    for _ in tqdm(train(task, recipe, bench.device), title, recipe.steps, leave=False, unit="step"):
        pass
