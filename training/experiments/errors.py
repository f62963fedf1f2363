"""Beyond: where in an image the error sits: at seams of attention windows, at tokens of large norm?"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from training.experiments.bench import Bench
from training.experiments.experiment import Experiment, Measurement, Samples, write_grid
from training.experiments.trials import Trial, decode_all, references, run_trials
from training.latents import Latents

WINDOW = 4  # tokens a side of an attention window: 112 px


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


def measure(bench: Bench) -> Measurement:
    test = bench.test()
    trials = [Trial(str(p), "tokens", (p,), bench.train(), test) for p in bench.landmarks]
    results = run_trials(bench, trials, "Errors")
    decoded = {trial.name: decode_all(bench, results.modules[trial.name], trial, test) for trial in trials}
    errors = {name: token_errors(images, test, test.points[name]) for name, images in decoded.items()}
    means = torch.stack([error.mean(0) for error, *_ in errors.values()])
    image = (means / means.amax((1, 2), True).clamp(min=1e-9))[:, None].expand(-1, 3, -1, -1)
    images = [1 - image.repeat_interleave(16, 2).repeat_interleave(16, 3)]
    title = "Mean error by token (darker is more): " + ", ".join(decoded)
    return Measurement(
        {"scores": results.table | references(bench), "errors": {name: error_places(*e) for name, e in errors.items()}},
        {"scores": results.steps},
        grids=[write_grid(bench.artifacts / "errors.webp", images, title, bench.recommended)],
    )


ERRORS = Experiment("errors", "Beyond: where errors sit", "Are some places of an image harder than others?", measure)
