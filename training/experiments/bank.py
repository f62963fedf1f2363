"""Adapters trained side by side on latents taken once, each with several seeds, and scored on the same pictures.

Shapes: S seeds, N test pictures, B pictures at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from foresight.adapters.modules import Adapter, TokenAdapter
from foresight.inspection.readout import read_out
from foresight.metrics.scores import compare
from foresight.models.points import ExtractionPoint
from training.experiments.bench import Bench
from training.experiments.side_by_side import Member, adapter_member, learn, usual
from training.fit import STATISTICS_ROWS, new_adapter
from training.latents import Latents
from training.loop import Recipe

SCORES = ("lpips", "ssim", "psnr", "mask_iou", "object_lpips", "object_error")

Samples = dict[str, np.ndarray]  # by the names in SCORES: (S, N)


@dataclass(frozen=True)
class AdapterTrial:
    """An adapter to train with every seed. `name` is what tables call it.

    points: where its latents are from; several are blended. x, test_x: latents that stand in for those of
    `learn` and `test` at its point. rows: so many training pictures, evenly spread over `learn`, and others for each
    seed; None: all. seeds: the only ones to train it with; None: all of the study's.
    """

    name: str
    kind: str
    points: tuple[ExtractionPoint, ...]
    learn: Latents
    test: Latents
    hidden: int | None = None
    rows: int | None = None
    x: Tensor | None = None
    test_x: Tensor | None = None
    seeds: tuple[int, ...] | None = None

    @property
    def every(self) -> int:
        """Rows of `learn` from one training picture to the next."""
        return len(self.learn) // (self.rows or len(self.learn))

    def first(self, seed: int, seeds: int) -> int:
        """The row of `learn` that a seed's training pictures begin at."""
        return seed * self.every // seeds

    def inputs(self) -> list[Tensor]:
        return [self.x] if self.x is not None else [self.learn.points[str(p)] for p in self.points]

    def test_inputs(self) -> list[Tensor]:
        return [self.test_x] if self.test_x is not None else [self.test.points[str(p)] for p in self.points]


class Blend(nn.Module):
    """A softmax mix of the standardised latents of several points, then an adapter: one number more a point."""

    EAGER = 20.0  # Adam moves a number by 0.3 in a run: times this, enough to leave all points but one behind
    shifts: Tensor
    scales: Tensor

    def __init__(self, adapter: Adapter, sources: Sequence[Tensor]):
        super().__init__()
        self.adapter = adapter
        self.logits = nn.Parameter(torch.zeros(len(sources)))
        flat = [x.float().flatten(0, -2) for x in sources]  # (rows · tokens, D) each
        self.register_buffer("shifts", torch.stack([x.mean(0) for x in flat]))
        self.register_buffer("scales", torch.stack([x.std(0).clamp_min(1e-4) for x in flat]))

    @property
    def shares(self) -> Tensor:
        """(points,), each point's share of the mix."""
        return (self.EAGER * self.logits).softmax(0)

    def mix(self, *latents: Tensor) -> Tensor:
        """Latents (B, T, H, W, D) of each point → their mix."""
        each = zip(latents, self.shares, self.shifts, self.scales, strict=True)
        mixed = torch.zeros(latents[0].shape, device=self.logits.device)
        for x, share, shift, scale in each:
            mixed = mixed + share * (x.float() - shift) / scale
        return mixed

    def forward(self, *latents: Tensor) -> Tensor:
        return self.adapter(self.mix(*latents))


@dataclass(frozen=True)
class Grid:
    """What trials came to. samples: {trial's name: Samples}. modules: {trial's name: one of each seed}."""

    samples: dict[str, Samples]
    modules: dict[str, list[nn.Module]]
    steps: int

    def __or__(self, other: Grid) -> Grid:
        """Both, of trials that were trained for as many steps."""
        assert self.steps == other.steps
        return Grid(self.samples | other.samples, self.modules | other.modules, self.steps)

    def parameters(self, name: str) -> int:
        return sum(p.numel() for p in self.modules[name][0].parameters())


def fresh(bench: Bench, trial: AdapterTrial, seed: int) -> nn.Module:
    """An untrained adapter, or blend, for a trial, with its statistics taken from the trial's own rows."""
    torch.manual_seed(1000 * bench.seed + seed)
    hidden = trial.hidden or (bench.scale.hidden if trial.kind == "tokens" else None)
    if trial.kind == "pooled":
        hidden = trial.hidden or bench.scale.widths[len(bench.scale.widths) // 2]
    adapter = new_adapter(trial.kind, trial.points[0], bench.vlm, bench.vae, hidden).to(bench.device)
    count = trial.rows or len(trial.learn)
    some = torch.linspace(0, count - 1, min(count, STATISTICS_ROWS), device=bench.device).long() * trial.every
    some = some + trial.first(seed, bench.scale.seeds)
    inputs = [x[some] for x in trial.inputs()]
    whole: nn.Module = adapter
    if len(inputs) > 1:
        whole = Blend(adapter, inputs).to(bench.device)
        inputs = [whole.mix(*inputs).detach()]
    adapter.fit_statistics(inputs[0], trial.learn.targets[some])
    return whole


def member(bench: Bench, trial: AdapterTrial, module: nn.Module, seed: int) -> Member:
    """What learns a trial's VAE latents."""
    adapter = module.adapter if isinstance(module, Blend) else module
    assert isinstance(adapter, Adapter)
    return adapter_member(
        module,
        adapter,
        trial.inputs(),
        trial.learn.targets,
        trial.rows or len(trial.learn),
        trial.every,
        trial.first(seed, bench.scale.seeds),
    )


def run_grid(bench: Bench, trials: Sequence[AdapterTrial], title: str, recipe: Recipe | None = None) -> Grid:
    """Trains every trial with every seed, all side by side, and scores them on their test pictures."""
    modules = {e.name: [fresh(bench, e, seed) for seed in e.seeds or range(bench.scale.seeds)] for e in trials}
    members = {
        f"{k}-{seed}": member(bench, e, module, seed)
        for k, e in enumerate(trials)
        for seed, module in zip(e.seeds or range(bench.scale.seeds), modules[e.name], strict=True)
    }
    made = learn(bench, members, recipe or usual(bench), title)
    samples = {}
    for e in tqdm(trials, f"{title}: scores", leave=False):
        samples[e.name] = stack([score(bench, reconstruct(bench, m, e.test_inputs()), e.test) for m in modules[e.name]])
    return Grid(samples, modules, made)


def stack(each: Sequence[dict[str, np.ndarray]]) -> Samples:
    """Scores (N,) by several seeds → (S, N)."""
    return {name: np.stack([scores[name] for scores in each]) for name in SCORES}


def reconstruct(bench: Bench, module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """Images (N, 3, H, W) of the study's size, on the bench's device, that a module makes of latents."""
    size = bench.scale.side, bench.scale.side
    return read_out(module, bench.vae, size, *inputs, batch=bench.batch)


@torch.inference_mode()
def score(bench: Bench, pictures: Tensor, truth: Latents) -> dict[str, np.ndarray]:
    """Scores (N,) of pictures (N, 3, H, W) against the truth; the last two on the pixels of objects alone.

    object_lpips: mean of LPIPS' spatial map. object_error: mean absolute error of values in [0, 1].
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in SCORES}
    for start in range(0, len(pictures), bench.batch):
        rows = slice(start, start + bench.batch)
        x, mask = truth.pictures[rows].float() / 255, truth.masks[rows]
        found = compare(x, pictures[rows], mask)
        pixels = mask.flatten(1).sum(1).clamp(min=1)
        error = (pictures[rows] - x).abs().mean(1)
        more = {
            "object_lpips": (found.lpips_map * mask).flatten(1).sum(1) / pixels,
            "object_error": (error * mask).flatten(1).sum(1) / pixels,
        }
        for name, values in (found.scores | more).items():
            parts[name].append(values.float().cpu())
    return {name: torch.cat(values).double().numpy() for name, values in parts.items()}


def oracle(bench: Bench, truth: Latents) -> Tensor:
    """The VAE's own round trip of pictures."""
    return reconstruct(bench, nn.Identity(), [truth.targets])


def floors_and_ceiling(bench: Bench) -> dict[str, Samples]:
    """What the study's test pictures score without latents: "blank", "mean", "nearest"; and by the "oracle"."""
    test = bench.test()
    pictures = bench.floors | {"oracle": oracle(bench, test)}
    return {name: stack([score(bench, x, test)]) for name, x in pictures.items()}


def hidden_for(parameters: int, trial: AdapterTrial, bench: Bench) -> int:
    """The hidden width at which a token adapter at the trial's point has the number of parameters nearest to that."""
    sizes = new_adapter("tokens", trial.points[0], bench.vlm, bench.vae, 32)
    assert isinstance(sizes, TokenAdapter)
    low, high = 8, 8192
    while high - low > 1:
        middle = (low + high) // 2
        if _count(sizes, middle) < parameters:
            low = middle
        else:
            high = middle
    return min((low, high), key=lambda hidden: abs(math.log(_count(sizes, hidden) / parameters)))


def _count(like: TokenAdapter, hidden: int) -> int:
    with torch.device("meta"):
        return TokenAdapter(like.width, like.channels, like.fold, like.cells, hidden).parameter_count
