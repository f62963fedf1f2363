"""Trials: adapters of one kind at one point, trained with several seeds and scored on the same images.

Shapes: S seeds, N test images, B images at a time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from foresight.adapters.modules import Adapter, LinearProbe, TokenAdapter
from foresight.inspection.readout import read_out
from foresight.metrics.scores import compare
from foresight.models.points import ExtractionPoint
from training.experiments.bench import Bench
from training.experiments.experiment import Samples, stack_seeds
from training.experiments.parallel import LatentError, Learner, train_parallel, usual_recipe
from training.fit import STATISTICS_ROWS, new_adapter
from training.latents import Latents
from training.loop import Recipe
from training.ridge import solve_linear

SCORES = ("lpips", "haarpsi", "ssim", "psnr", "mask_iou", "object_lpips", "object_error", "no_object")
SWAPPED = "another picture's latents"  # a control: each image's adapter reads the next one's


@dataclass(frozen=True)
class Trial:
    """What to train and to score, once for each seed. `name` is its condition in tables.

    points: where its latents are from; several for mix and routing. count: so many training images, evenly spread over
    `train`, and others for each seed; None: all. seeds: the only ones; None: all of the study's. rate: peak learning
    rate; None: the recipe's.
    """

    name: str
    kind: str
    points: tuple[ExtractionPoint, ...]
    train: Latents
    test: Latents
    hidden: int | None = None
    count: int | None = None
    seeds: tuple[int, ...] | None = None
    rate: float | None = None

    def inputs(self, latents: Latents) -> list[Tensor]:
        """The latents (N, T, H, W, D) of each point; its adapter takes them joined."""
        return [latents.points[str(p)] for p in self.points]

    def rows(self, seed: int, seeds: int) -> Tensor:
        """The rows of `train` that a seed learns from, where the study has `seeds` of them; further ones begin anew."""
        count = self.count or len(self.train)
        stride = len(self.train) // count
        return torch.arange(count) * stride + seed % seeds * stride // seeds


@dataclass(frozen=True)
class Results:
    """What trials came to. table: {trial's name: its samples}. modules: {trial's name: one of each seed}."""

    table: dict[str, Samples]
    modules: dict[str, list[nn.Module]]
    steps: int

    @property
    def parameters(self) -> dict[str, int]:
        """By trial's name."""
        return {name: sum(p.numel() for p in modules[0].parameters()) for name, modules in self.modules.items()}


def untrained(bench: Bench, trial: Trial, seed: int) -> Adapter:
    """An untrained adapter whose statistics are those of the trial's own training images."""
    torch.manual_seed(1000 * bench.seed + seed)
    of_pooled = bench.scale.widths[len(bench.scale.widths) // 2]
    hidden = trial.hidden or (of_pooled if trial.kind == "pooled" else bench.scale.hidden)
    of = len(trial.points)
    adapter = new_adapter(trial.kind, trial.points[-1], bench.vlm, bench.vae, hidden, layers=of).to(bench.device)
    rows = trial.rows(seed, bench.scale.seeds)
    rows = rows[torch.linspace(0, len(rows) - 1, min(len(rows), STATISTICS_ROWS)).long()].to(bench.device)
    joined = torch.cat([x[rows] for x in trial.inputs(trial.train)], -1)
    adapter.fit_statistics(joined, trial.train.targets[rows])
    return adapter


def solve(trial: Trial, probe: LinearProbe, seed: int, seeds: int) -> None:
    """Solves a linear probe by ridge regression; every eighth of its images chooses the penalty."""
    rows, [latents] = trial.rows(seed, seeds), trial.inputs(trial.train)
    held = for_validation(len(rows))
    solve_linear(probe, *((latents[r], trial.train.targets[r]) for r in (rows[~held], rows[held])))


def for_validation(count: int) -> Tensor:
    """(count,) bool: every eighth of so many training images, by which penalties and learning rates are chosen."""
    return torch.arange(count) % 8 == min(7, count - 1)


def learner(bench: Bench, trial: Trial, adapter: Adapter, seed: int) -> Learner:
    """A trial's adapter and what it learns from."""
    rows = trial.rows(seed, bench.scale.seeds)
    return Learner(adapter, rows, trial.inputs(trial.train), trial.train.targets, LatentError(adapter), seed)


def train_trials(
    bench: Bench, trials: Sequence[Trial], title: str, recipe: Recipe | None = None
) -> dict[str, list[nn.Module]]:
    """Trains every trial with each of its seeds, all side by side: {trial's name: modules}.

    Linear probes are solved instead; one that learns from all images has one solution, whatever the seed.
    """
    modules: dict[str, list[nn.Module]] = {}
    recipe = recipe or usual_recipe(bench)
    learners: dict[float, list[Learner]] = {}  # by learning rate
    for trial in trials:
        exact = trial.kind == "linear" and trial.count is None
        for seed in trial.seeds or range(1 if exact else bench.scale.seeds):
            module = untrained(bench, trial, seed)
            modules.setdefault(trial.name, []).append(module)
            if isinstance(module, LinearProbe):
                solve(trial, module, seed, bench.scale.seeds)
            else:
                learners.setdefault(trial.rate or recipe.lr, []).append(learner(bench, trial, module, seed))
    for rate, those in learners.items():
        train_parallel(bench, those, replace(recipe, lr=rate), f"{title}, rate {rate:g}")
    return modules


def run_trials(bench: Bench, trials: Sequence[Trial], title: str, recipe: Recipe | None = None) -> Results:
    """Trains trials and scores them on their test images."""
    recipe = recipe or usual_recipe(bench)
    modules = train_trials(bench, trials, title, recipe)
    table = {
        trial.name: score_all(bench, decode_all(bench, modules[trial.name], trial, trial.test), trial.test)
        for trial in tqdm(trials, f"{title}: scores", leave=False)
    }
    return Results(table, modules, recipe.steps)


def decode_all(bench: Bench, modules: Sequence[nn.Module], trial: Trial, latents: Latents) -> list[Tensor]:
    """The images (N, 3, H, W) that each seed's module of a trial reads out of latents."""
    return [decode(bench, module, trial.inputs(latents)) for module in modules]


def score_all(bench: Bench, decoded: Sequence[Tensor], truth: Latents) -> Samples:
    """Scores {score: (S, N)} of several seeds' images (N, 3, H, W) against the truth."""
    return stack_seeds([score(bench, images, truth) for images in decoded])


def decode(bench: Bench, module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """Images (N, 3, H, W) of the study's size, on the bench's device, that a module reads out of latents."""

    def read(*latents: Tensor) -> Tensor:
        return module(torch.cat(latents, -1))

    return read_out(read, bench.vae, (bench.scale.side, bench.scale.side), *inputs, batch=bench.batch)


@torch.inference_mode()
def score(bench: Bench, images: Tensor, truth: Latents) -> dict[str, np.ndarray]:
    """Scores (N,) of images (N, 3, H, W) against the truth; some on the pixels of objects alone.

    object_lpips: mean of LPIPS' spatial map. object_error: mean absolute error of values in [0, 1]. no_object: 1 where
    no object stands out, so that the mask IoU is 0 whatever is there; NaN where that cannot be measured.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in SCORES}
    for start in range(0, len(images), bench.batch):
        rows = slice(start, start + bench.batch)
        x, mask = truth.pictures[rows].float() / 255, truth.masks[rows]
        comparison = compare(x, images[rows], mask)
        pixels = mask.flatten(1).sum(1).clamp(min=1)
        error = (images[rows] - x).abs().mean(1)
        more = {
            "object_lpips": (comparison.lpips_map * mask).flatten(1).sum(1) / pixels,
            "object_error": (error * mask).flatten(1).sum(1) / pixels,
            "no_object": (~comparison.masks.flatten(1).any(1)).float()
            + 0 * comparison.scores["mask_iou"],  # NaN where that is
        }
        scores = comparison.scores | more
        for name in SCORES:
            parts[name].append(scores[name].float().cpu())
    return {name: torch.cat(values).double().numpy() for name, values in parts.items()}


def round_trip(bench: Bench, truth: Latents) -> Tensor:
    """The oracle: images (N, 3, H, W) through the VAE alone."""
    return decode(bench, nn.Identity(), [truth.targets])


def references(bench: Bench) -> dict[str, Samples]:
    """What the study's test images score without latents, "blank", "mean", "nearest", and by the "oracle"."""
    test = bench.test()
    images = bench.baselines | {"oracle": round_trip(bench, test)}
    return {name: score_all(bench, [x], test) for name, x in images.items()}


def example_rows(bench: Bench, latents: Latents) -> Tensor:
    """The rows of the images that are shown, evenly spread."""
    return torch.linspace(0, len(latents) - 1, min(bench.scale.kept, len(latents))).long().to(bench.device)


def hidden_for(parameters: int, trial: Trial, bench: Bench) -> int:
    """The hidden width at which a token adapter at the trial's point has the number of parameters nearest to that."""
    like = new_adapter("tokens", trial.points[0], bench.vlm, bench.vae, 32)
    assert isinstance(like, TokenAdapter)

    def count(hidden: int) -> int:
        with torch.device("meta"):
            return TokenAdapter(like.width, like.channels, like.fold, like.cells, hidden).parameter_count

    low, high = 8, 8192
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < parameters else (low, middle)
    return min((low, high), key=lambda hidden: abs(math.log(count(hidden) / parameters)))
