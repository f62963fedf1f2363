"""The one training loop, a generator: adapters, the bundled VLM and the bundled VAE all learn here.

A task says what a loss is on some rows of its data; the loop owns everything else: order, precision,
optimizer, schedule, averaged weights, checkpoints, and what happens when a step goes wrong.
"""

import json
import math
import pickle
import time
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from foresight.errors import InputError
from foresight.paths import replacing

STATE = "training.pt"
_STATE = {"recipe", "step", "micro_batches", "trained", "average", "optimizer"}
_PATIENCE = 5  # steps whose loss is not finite before training stops


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults fit an adapter."""

    steps: int = 2000
    """Optimizer steps in all."""
    batch: int = 64
    """Rows a step."""
    lr: float = 1e-3
    """Peak learning rate: linear warm-up, then a cosine down to nothing."""
    warmup: int = 100
    """Steps of warm-up."""
    weight_decay: float = 0.01
    """AdamW's, on matrices only."""
    beta2: float = 0.99
    """AdamW's memory of squared gradients; its first beta is 0.9."""
    clip: float = 1.0
    """Largest norm of the gradient of one trained module."""
    ema: float = 0.99
    """Decay of the averaged weights, which are the result; 0 keeps the last ones."""
    seed: int = 0
    """Order of the data, initial weights, and every other draw."""
    save_every: float = 60.0
    """Seconds between checkpoints."""


class Task(Protocol):
    """What is learned. `modules` are trained side by side, each clipped on its own."""

    modules: nn.ModuleDict
    rows: int

    def loss(self, rows: Tensor, generator: torch.Generator, done: float) -> dict[str, Tensor]:
        """Losses by module name on these rows (int64, on the CPU); their sum is minimised.

        generator: the step's own random numbers, on the device. done: the share of all steps behind us.
        """
        ...


@dataclass(frozen=True)
class Step:
    """One step done. Losses are tensors on the device: reading one waits for it."""

    number: int
    losses: dict[str, Tensor]
    rate: float
    """Rows a second, over the last second or so; nan before the first."""
    remaining: float
    """Seconds left at that rate."""
    micro_batches: int
    """How many a batch is cut into because it did not fit into memory whole; 1 as a rule."""
    average: list[Tensor] = field(repr=False)
    """The averaged weights so far, of the trained parameters in their order; not to be changed."""


def _seed(seed: int, number: int) -> int:
    """32 bits, all that a generator on the CPU takes of its seed."""
    return (seed * 0x9E3779B1 + number) % 2**32


@lru_cache(maxsize=2)
def _permutation(rows: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(rows, generator=torch.Generator().manual_seed(_seed(seed, epoch)))


def rows_of_step(step: int, batch: int, rows: int, seed: int) -> Tensor:
    """The rows (batch,) of a step. An epoch's order derives from (seed, epoch) alone, so any step can resume."""
    numbers = torch.arange(step * batch, (step + 1) * batch)
    epochs = numbers // rows
    return torch.cat([_permutation(rows, seed, int(e))[numbers[epochs == e] % rows] for e in epochs.unique()])


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine to zero."""
    warm = min(1.0, (step + 1) / max(1, recipe.warmup))
    return recipe.lr * warm * (0.5 + 0.5 * math.cos(math.pi * step / recipe.steps))


def train(
    task: Task,
    recipe: Recipe,
    device: torch.device,
    folder: Path | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Generator[Step, None, None]:
    """Trains `task.modules` in place; when the generator ends or is closed they hold the averaged weights.

    Where they have no weights to train, there are no steps.

    Under `accelerate launch` each process takes its share of every batch, and all hold the same weights after
    each step: those of one process that takes the whole batch, but for rounding, and but for what the loss draws,
    such as windows of pictures, where each process has its own numbers. With a `folder`, the state is
    saved there now and then, and a later call with the same recipe and the same `facts` (JSON values, for
    whatever else makes the run what it is) goes on from it to the very same weights. Raises InputError if the
    folder holds another run or processes outnumber the rows of a batch, and FloatingPointError once five steps
    had gradients that were not finite; such a step changes nothing.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if recipe.batch < world:
        raise InputError(f"a batch of {recipe.batch} cannot be shared by {world} processes: make it larger.")
    trained: list[Tensor] = [p for p in task.modules.parameters() if p.requires_grad]
    if not trained:
        return
    if world > 1:
        _begin_alike(task.modules)
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, recipe.beta2), fused=True)
    average = [p.detach().clone() for p in trained]
    about = json.loads(json.dumps(asdict(recipe) | dict(facts or {})))
    start, micro_batches = _resume(folder / STATE, about, trained, average, optimizer, device) if folder else (0, 1)
    generator, spoiled = torch.Generator(device), torch.zeros((), device=device)
    loose = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True  # else no run repeats to the bit
    saved = clock = time.monotonic()
    step, counted, rate = start, start, math.nan
    task.modules.train()
    try:
        while step < recipe.steps:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, recipe)
            rows = rows_of_step(step, recipe.batch, task.rows, recipe.seed)[rank::world]
            seed = _seed(recipe.seed, step * world + rank)
            losses, micro_batches = _backward(task, rows, generator, seed, step / recipe.steps, micro_batches)
            if world > 1:
                losses = _add_up(trained, losses, len(rows) / recipe.batch)
            gradients = [
                [p.grad for p in module.parameters() if p.grad is not None] for module in task.modules.values()
            ]
            skip = _clip(gradients, recipe.clip)
            optimizer.found_inf = skip  # type: ignore[attr-defined]  # 1: the kernel leaves weights and moments alone
            spoiled += skip
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            with torch.no_grad():
                torch._foreach_lerp_(average, trained, 1 - min(recipe.ema, step / (step + 9)))
            now = time.monotonic()
            if now - clock > 1 or step == recipe.steps:
                if spoiled.item() >= _PATIENCE:
                    raise FloatingPointError(f"gradients were not finite {int(spoiled)} times by step {step}.")
                now = time.monotonic()
                rate, clock, counted = (step - counted) * recipe.batch / (now - clock), now, step
            if folder and rank == 0 and (now - saved > recipe.save_every or step == recipe.steps):
                _save(folder / STATE, about, step, micro_batches, trained, average, optimizer)
                saved = now
            yield Step(step, losses, rate, (recipe.steps - step) * recipe.batch / rate, micro_batches, average)
    finally:
        with torch.no_grad():
            torch._foreach_copy_(trained, average)
        torch.backends.cudnn.deterministic = loose
        task.modules.eval()


def _backward(
    task: Task, rows: Tensor, generator: torch.Generator, seed: int, done: float, micro_batches: int
) -> tuple[dict[str, Tensor], int]:
    """Gradients of a batch, in as few micro-batches as fit into memory: (mean losses, their number)."""
    while True:
        generator.manual_seed(seed)  # a pass that did not fit has drawn already
        try:
            parts = [_pass(task, part, len(part) / len(rows), generator, done) for part in rows.chunk(micro_batches)]
            names, losses = zip(*parts, strict=True)
            return dict(zip(names[0], torch.stack(losses).sum(0).unbind(), strict=True)), micro_batches
        except torch.OutOfMemoryError:
            if micro_batches >= len(rows):
                raise
        task.modules.zero_grad(set_to_none=True)  # only here, where the error and its frames are gone, is memory free
        torch.cuda.empty_cache()
        micro_batches *= 2


def _pass(
    task: Task, rows: Tensor, share: float, generator: torch.Generator, done: float
) -> tuple[tuple[str, ...], Tensor]:
    """Adds the gradients of a batch's share; returns the modules' names, and as much of their losses (modules,)."""
    device = generator.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        losses = task.loss(rows, generator, done)
    values = torch.stack(list(losses.values())) * share
    values.sum().backward()
    return tuple(losses), values.detach()


def _begin_alike(modules: nn.Module) -> None:
    """Gives every process the first one's weights and statistics."""
    for value in modules.state_dict().values():
        dense = value.contiguous()
        dist.broadcast(dense, src=0)
        value.copy_(dense)


def _add_up(trained: list[Tensor], losses: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Makes gradients and losses of this process's `share` of a batch those of the whole batch, in one message."""
    gradients = [p.grad for p in trained if p.grad is not None]
    values = torch.stack(list(losses.values())).to(gradients[0].dtype)
    flat = torch.cat([*(g.flatten() for g in gradients), values]) * share
    dist.all_reduce(flat)
    *sums, values = flat.split([*(g.numel() for g in gradients), len(losses)])
    torch._foreach_copy_(gradients, [part.view_as(g) for g, part in zip(gradients, sums, strict=True)])
    return dict(zip(losses, values.unbind(), strict=True))


@lru_cache(maxsize=2)
def _membership(counts: tuple[int, ...], device: torch.device) -> Tensor:
    """(modules, gradients): 1 where a gradient is a module's, which has so many, one module's after another's."""
    return torch.block_diag(*(torch.ones(1, count, dtype=torch.float64) for count in counts)).to(device)


def _clip(gradients: list[list[Tensor]], most: float) -> Tensor:
    """Scales the gradients of each module to a norm of `most` at the most; returns 1 where one is not finite.

    All norms are taken at once: sixty small modules, one by one, are hundreds of kernels to start.
    """
    every = [gradient for own in gradients for gradient in own]
    squares = torch.stack(torch._foreach_norm(every)).double().square()
    norms = (_membership(tuple(map(len, gradients)), squares.device) @ squares).sqrt().float()
    for own, scale in zip(gradients, (most / norms).clamp(max=1).unbind(), strict=True):
        torch._foreach_mul_(own, scale)
    return (~norms.isfinite()).any().float()


def _save(
    path: Path, about: dict[str, Any], step: int, micro_batches: int, trained: Any, average: Any, optimizer: Any
) -> None:
    state = {
        "recipe": about,
        "step": step,
        "micro_batches": micro_batches,
        "trained": [p.detach() for p in trained],
        "average": average,
        "optimizer": optimizer.state_dict(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable=True) as partial:
        torch.save(state, partial)


def _read_state(path: Path, device: Any) -> dict[str, Any]:
    """What `_save` wrote. Raises InputError where it is something else, or a part of it."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, dict) or not state.keys() >= _STATE:
            raise ValueError("it is no state of a training")
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).split("\n")[0][:120].rstrip(".")
        raise InputError(f"{path} cannot be read ({reason}): delete it to begin anew.") from error
    return state


def _resume(
    path: Path, about: dict[str, Any], trained: Any, average: Any, optimizer: Any, device: Any
) -> tuple[int, int]:
    """Puts a saved state back and returns the steps done and how many micro-batches a batch has; 0, 1 at first.

    Raises InputError where it is of a run that differs in `about` or in the shapes of its weights, and where
    processes on several machines do not see the same file.
    """
    state = _read_state(path, device) if path.is_file() else None
    steps = torch.tensor(state["step"] if state else 0, device=device)
    if dist.is_initialized():
        least = steps.clone()
        dist.all_reduce(steps, dist.ReduceOp.MAX)
        dist.all_reduce(least, dist.ReduceOp.MIN)
        if least != steps:
            raise InputError(f"processes find other states in {path}: its folder must be one that all of them share.")
    if state is None:
        return 0, 1
    saved = state["recipe"]
    if differing := [k for k in about | saved if about.get(k) != saved.get(k) and k != "save_every"]:
        raise InputError(f"{path} is of another run (other {', '.join(differing)}): choose another folder.")
    if [p.shape for p in trained] != [p.shape for p in state["trained"]]:
        raise InputError(f"{path} is of a run that trains other weights: choose another folder.")
    with torch.no_grad():
        torch._foreach_copy_(trained, state["trained"])
        torch._foreach_copy_(average, state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["micro_batches"]
