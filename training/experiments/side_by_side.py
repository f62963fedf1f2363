"""What learns side by side on latents taken once: adapters, blends of layers, box heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from tqdm import tqdm

from foresight.adapters.modules import Adapter
from training.experiments.bench import Bench
from training.experiments.stacked import form, stackable, together
from training.loop import Recipe, Task, train

TRIAL = 8  # steps that tell how long a training will take
STRIDE = 7919  # rows between the orders of two members: a prime, so that no two see the same batches


@dataclass(frozen=True)
class Member:
    """What learns beside others: its loss on rows (B,) of its own data.

    It has `rows` rows: every one of them, or every second, third, … as `every` says, from `first` on. reads: an
    adapter's latents (N, T, H, W, D) and targets (N, C, h, w), where its loss is the adapters' usual one and it may be
    computed together with others of its form.
    """

    module: nn.Module
    loss: Callable[[Tensor], Tensor]
    rows: int
    every: int = 1
    first: int = 0
    reads: tuple[Tensor, Tensor] | None = None


def adapter_member(
    module: nn.Module,
    adapter: Adapter,
    sources: Sequence[Tensor],
    targets: Tensor,
    rows: int,
    every: int = 1,
    first: int = 0,
) -> Member:
    """Learns VAE latents: the mean squared error, each channel in units of its spread.

    module: the adapter itself, or what wraps it. sources: latents that the module takes, row by row as targets.
    """
    spread = adapter.z_std.view(-1, 1, 1)

    def loss(where: Tensor) -> Tensor:
        return ((module(*(x[where] for x in sources)) - targets[where]) / spread).square().mean()

    return Member(module, loss, rows, every, first, (sources[0], targets) if stackable(module) else None)


class SideBySide:
    """The task of all members. Each sees its own rows: another stretch of the same order, within its own data.

    stacked: adapters of one form are computed together, which pays on a GPU and costs on a CPU.
    """

    def __init__(self, members: dict[str, Member], device: torch.device, stacked: bool):
        self.members, self.device = members, device
        self.modules = nn.ModuleDict({name: member.module for name, member in members.items()})
        self.rows = max(member.rows for member in members.values())
        self._shift = {name: STRIDE * k for k, name in enumerate(members)}
        groups: dict[tuple, list[str]] = {}
        for name, member in members.items():
            alone = member.reads is None or not stacked
            key = (name,) if alone else form(self._adapter(name), member.reads[0])  # type: ignore[index]
            groups.setdefault(key, []).append(name)
        self._groups = list(groups.values())

    def loss(self, rows: Tensor, generator: torch.Generator, done: float) -> dict[str, Tensor]:
        where = rows.to(self.device)
        mine = {
            name: (where + self._shift[name]) % member.rows * member.every + member.first
            for name, member in self.members.items()
        }
        losses: dict[str, Tensor] = {}
        for names in self._groups:
            if len(names) > 1:
                losses |= self._of_group(names, mine)
            else:
                losses[names[0]] = self.members[names[0]].loss(mine[names[0]])
        return losses

    def _of_group(self, names: list[str], mine: dict[str, Tensor]) -> dict[str, Tensor]:
        """The members' own losses, computed together."""
        adapters = [self._adapter(name) for name in names]
        pairs = [(*(self.members[name].reads or ()), mine[name]) for name in names]
        found = together(adapters, torch.stack([x[where] for x, _, where in pairs]))
        goals = torch.stack([z[where] for _, z, where in pairs])  # (K, B, C, h, w)
        mean, std = (
            torch.stack(v)[:, None, :, None, None] for v in zip(*((a.z_mean, a.z_std) for a in adapters), strict=True)
        )
        errors = (found - (goals - mean) / std).square().flatten(1).mean(1)
        return dict(zip(names, errors, strict=True))

    def _adapter(self, name: str) -> Adapter:
        module = self.members[name].module
        assert isinstance(module, Adapter)
        return module


def usual(bench: Bench, steps: int | None = None) -> Recipe:
    """The study's recipe, for so many steps or the usual number."""
    steps = steps or bench.scale.steps
    return Recipe(steps, bench.scale.batch, bench.scale.lr, max(1, steps // 10), seed=bench.seed)


def learn(bench: Bench, members: dict[str, Member], recipe: Recipe, title: str) -> int:
    """Trains all members side by side and returns the steps made: the recipe's, or what fits into the bench's cap."""
    return run_capped(bench, SideBySide(members, bench.device, bench.device.type == "cuda"), recipe, title)


def run_capped(bench: Bench, task: Task, recipe: Recipe, title: str) -> int:
    """Trains a task and returns the steps made: the recipe's, or as many as the bench's cap in seconds allows."""
    if bench.cap is not None:
        trial = replace(recipe, steps=TRIAL, lr=0.0, weight_decay=0.0)  # changes no weight
        for _ in train(task, replace(trial, steps=3), bench.device):
            pass  # kernels are chosen or compiled, and memory is taken
        rate = [step.rate for step in train(task, trial, bench.device)][-1]
        steps = min(recipe.steps, max(TRIAL, int(bench.cap * rate / recipe.batch)))
        recipe = replace(recipe, steps=steps, warmup=max(1, min(recipe.warmup, steps // 10)))
    for _ in tqdm(train(task, recipe, bench.device), title, recipe.steps, leave=False, unit="step"):
        pass
    return recipe.steps
