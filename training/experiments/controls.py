"""Beyond: controls that hold no image, or not this one; and where in an image the error sits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from training.experiments.bench import Bench
from training.experiments.experiment import Experiment, Measurement, Samples, write_grid
from training.experiments.trials import SWAPPED, Trial, decode_all, references, run_trials, score_all
from training.latents import Latents

WINDOW = 4  # tokens a side of an attention window: 112 px
RANDOM = "random-weights VLM"


def shuffled(latents: Tensor, seed: int) -> Tensor:
    """Latents (N, 1, H, W, D) whose tokens changed places, every image's by an order of its own."""
    n, _, h, w, d = latents.shape
    draw = torch.rand(n, h * w, generator=torch.Generator().manual_seed(seed)).argsort(1).to(latents.device)
    return latents.flatten(1, 3).gather(1, draw[..., None].expand(-1, -1, d)).view(n, 1, h, w, d)


def seams(side: int, window: int) -> Tensor:
    """(side, side) bool: tokens beside a border between two windows."""
    at = torch.arange(side)
    near = ((at % window == 0) & (at > 0)) | ((at % window == window - 1) & (at < side - 1))
    return near[:, None] | near[None, :]


def token_errors(decoded: Sequence[Tensor], truth: Latents, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, h, w) each, of a token's 28 × 28 pixels: the mean absolute error of values, the norm of its latents, and the
    share that objects cover.

    decoded: each seed's images (N, 3, H, W), whose errors are averaged. latents: (N, 1, H, W, D).
    """
    original = truth.pictures.float() / 255
    error = torch.stack([(x - original).abs().mean(1, keepdim=True) for x in decoded]).mean(0)
    norm = latents[:, 0].float().norm(dim=-1)[:, None]  # (N, 1, H, W)
    tokens = original.shape[-1] // 28
    pool = torch.nn.functional.adaptive_avg_pool2d
    error, norm, covered = (pool(v, tokens)[:, 0].cpu() for v in (error, norm, truth.masks[:, None].float()))
    return error, norm, covered


def error_places(errors: Tensor, norms: Tensor, covered: Tensor) -> Samples:
    """Per image (1, N): the rank correlation of error and norm over its tokens, and errors at seams minus elsewhere.

    The latter among tokens of one kind, ground, outline or inside of objects: seams run through the middle of an
    image, where more objects are. NaN where there is none.
    """
    border = torch.ones(errors.shape[1:], dtype=torch.bool)
    border[1:-1, 1:-1] = False
    seam = seams(errors.shape[-1], WINDOW) & ~border
    correlations, gaps = [], []
    for error, norm, share in zip(errors, norms, covered, strict=True):
        a, b = (rankdata(x.flatten().numpy()) for x in (error, norm))
        correlations.append(np.corrcoef(a, b)[0, 1] if a.std() > 0 and b.std() > 0 else np.nan)
        alike = (share <= 0, (share > 0) & (share < 1), share >= 1)
        pairs = [(error[seam & kind], error[~seam & ~border & kind]) for kind in alike]
        pairs = [(at_seams, elsewhere) for at_seams, elsewhere in pairs if len(at_seams) and len(elsewhere)]
        differences = [float(at_seams.mean() - elsewhere.mean()) for at_seams, elsewhere in pairs]
        gaps.append(np.average(differences, weights=[len(at_seams) for at_seams, _ in pairs]) if pairs else np.nan)
    return {
        "rank correlation of error and norm": np.array(correlations)[None],
        "error at seams minus elsewhere, like tokens": np.array(gaps)[None],
    }


def random_trials(bench: Bench, draw: int) -> list[Trial]:
    """Token adapters behind one VLM with random weights, of the seed of that draw alone."""
    vlm, points = bench.random_vlm(draw), bench.landmarks
    sets = ((bench.scale.train, "train"), (bench.scale.test, "test"))
    train, test = (bench.latents(bench.mixture(count, split), points, vlm) for count, split in sets)
    return [Trial(f"{p}, {RANDOM} {draw}", "tokens", (p,), train, test, seeds=(draw,)) for p in points]


def measure(bench: Bench) -> Measurement:
    points, at, seeds = bench.landmarks, str(bench.recommended), range(bench.scale.seeds)
    train, test = bench.train(), bench.test()
    own = [Trial(str(p), "tokens", (p,), train, test) for p in points]
    mixed, mixed_test = (replace(x, points={at: shuffled(x.points[at], k)}) for k, x in enumerate((train, test)))
    trials = [*own, *(trial for draw in seeds for trial in random_trials(bench, draw))]
    trials.append(Trial(f"{at}, tokens shuffled", "tokens", (bench.recommended,), mixed, mixed_test))
    results = run_trials(bench, trials, "Controls")
    table = {name: samples for name, samples in results.table.items() if RANDOM not in name}
    for p in points:
        draws = [results.table[f"{p}, {RANDOM} {draw}"] for draw in seeds]
        table[f"{p}, {RANDOM}"] = {s: np.concatenate([one[s] for one in draws]) for s in draws[0]}
    decoded = {trial.name: decode_all(bench, results.modules[trial.name], trial, test) for trial in own}
    table[f"{at}, {SWAPPED}"] = score_all(bench, [x.roll(1, 0) for x in decoded[at]], test)
    errors = {name: token_errors(decoded[name], test, test.points[name]) for name in decoded}
    means = torch.stack([error.mean(0) for error, *_ in errors.values()])
    image = (means / means.amax((1, 2), True).clamp(min=1e-9))[:, None].expand(-1, 3, -1, -1)
    images = [1 - image.repeat_interleave(16, 2).repeat_interleave(16, 3)]
    title = "Mean error by token (darker is more): " + ", ".join(decoded)
    return Measurement(
        {"scores": table | references(bench), "errors": {name: error_places(*e) for name, e in errors.items()}},
        {"scores": results.steps},
        grids=[write_grid(bench.artifacts / "controls.png", images, title, at)],
    )


CONTROLS = Experiment(
    "controls",
    "Beyond: controls and where errors sit",
    "Is it the trained VLM that the picture is read from, and are some places harder than others?",
    measure,
)
