"""Beyond: controls that hold no picture, or not this one; and where in a picture the error sits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from foresight.points import ExtractionPoint
from training.experiments.bank import Entry, Grid, reconstruct, run_grid, score, stack
from training.experiments.bench import Bench
from training.experiments.result import (
    Result,
    chart,
    said,
    score_table,
    series,
    shown,
    table,
    write_grid,
    write_scores,
)
from training.experiments.statistics import Interval, interval, paired

WINDOW = 4  # tokens a side of an attention window: 112 px


def shuffled(latents: Tensor, seed: int) -> Tensor:
    """Latents (N, 1, H, W, D) whose tokens changed places, every picture's by an order of its own."""
    n, _, h, w, d = latents.shape
    draw = torch.rand(n, h * w, generator=torch.Generator().manual_seed(seed)).argsort(1).to(latents.device)
    return latents.flatten(1, 3).gather(1, draw[..., None].expand(-1, -1, d)).view(n, 1, h, w, d)


def seams(side: int, window: int) -> Tensor:
    """(side, side) bool: tokens beside a border between two windows."""
    at = torch.arange(side)
    near = ((at % window == 0) & (at > 0)) | ((at % window == window - 1) & (at < side - 1))
    return near[:, None] | near[None, :]


@torch.inference_mode()
def token_errors(bench: Bench, module: torch.nn.Module, entry: Entry) -> tuple[Tensor, Tensor]:
    """(N, h, w) each: the mean absolute error of values in a token's 28 × 28 pixels, and the norm of its latents."""
    pictures = reconstruct(bench, module, entry.test_inputs())
    error = (pictures - entry.test.pictures.float() / 255).abs().mean(1, keepdim=True)
    x = entry.test_inputs()[0][:, 0].float().norm(dim=-1)[:, None]  # (N, 1, H, W)
    side = pictures.shape[-1] // 28
    pool = torch.nn.functional.adaptive_avg_pool2d
    return pool(error, side)[:, 0].cpu(), pool(x, side)[:, 0].cpu()


def where_errors_sit(errors: Tensor, norms: Tensor) -> dict[str, Interval]:
    """The rank correlation of error and norm over a picture's tokens, and errors at seams minus elsewhere."""
    from scipy.stats import rankdata

    ranks = [np.stack([rankdata(row) for row in x.flatten(1).numpy()]) for x in (errors, norms)]
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(*ranks, strict=True) if a.std() > 0 and b.std() > 0]
    edge = torch.ones(errors.shape[1:], dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    seam = seams(errors.shape[-1], WINDOW) & ~edge
    inner = ~seam & ~edge
    at = {"seams": errors[:, seam].mean(1).numpy()[None]}
    if inner.any():
        at["elsewhere"] = errors[:, inner].mean(1).numpy()[None]
    found = {"rank correlation of error and norm": interval(correlation)} if correlation else {}
    if len(at) == 2 and seam.any():
        found["error at seams minus elsewhere"] = paired(at["seams"], at["elsewhere"])
    return found


def run(bench: Bench) -> Result:
    before, after = bench.merger
    points = list(dict.fromkeys([before, after, bench.recommended, bench.points[-1]]))
    learn, test, scale = bench.train(), bench.test(), bench.scale
    blind_learn, blind_test = (
        bench.latents(bench.mixture(count, split), points, bench.random_vlm)
        for count, split in ((scale.train, "train"), (scale.test, "test"))
    )
    entries = [Entry(f"{p}", "tokens", (p,), learn, test) for p in points]
    entries += [Entry(f"{p}, random-weights VLM", "tokens", (p,), blind_learn, blind_test) for p in points]
    at = bench.recommended
    x, y = (shuffled(data.points[str(at)], k) for k, data in enumerate((learn, test)))
    entries.append(Entry(f"{at}, tokens shuffled", "tokens", (at,), learn, test, x=x, test_x=y))
    grid = run_grid(bench, entries, "Controls")
    made = [reconstruct(bench, m, [test.points[str(at)]]) for m in grid.modules[str(at)]]
    samples = grid.samples | {
        f"{at}, another picture's latents": stack([score(bench, z.roll(1, 0), test) for z in made])
    }
    samples["blank"] = stack([score(bench, bench.floors["blank"], test)])
    write_scores(bench.artifacts / "controls.csv", samples)
    maps = {e.name: token_errors(bench, grid.modules[e.name][0], e) for e in entries[: len(points)]}
    mean_maps = torch.stack([errors.mean(0) for errors, _ in maps.values()])
    picture = (mean_maps / mean_maps.amax((1, 2), True).clamp(min=1e-9))[:, None].expand(-1, 3, -1, -1)
    write_grid(bench.artifacts / "controls.png", [1 - picture.repeat_interleave(16, 2).repeat_interleave(16, 3)])
    return _told(at, samples, grid, {name: where_errors_sit(*m) for name, m in maps.items()})


def _told(at: ExtractionPoint, samples: dict[str, Any], grid: Grid, sitting: dict[str, dict[str, Interval]]) -> Result:
    gap = paired(samples[str(at)]["lpips"], samples[f"{at}, random-weights VLM"]["lpips"])
    columns = list(dict.fromkeys(c for found in sitting.values() for c in found))
    return {
        "title": "Beyond: controls and where errors sit",
        "question": "Is it the trained VLM that the picture is read from, and are some places harder than others?",
        "verdict": "holds" if gap[2] < 0 else "does not hold" if gap[1] > 0 else "open",
        "verdict_reason": f"Asked: do trained weights hold more than random ones at {at}? Paired LPIPS, trained "
        f"minus random: {shown(gap, 4)} "
        "(under 0 favours trained).",
        "paragraph": f"Token adapters of {grid.steps} steps. At {at}: {said(samples[str(at)]['lpips'])} with "
        "trained weights, "
        f"{said(samples[f'{at}, random-weights VLM']['lpips'])} with random ones, "
        f"{said(samples[f'{at}, tokens shuffled']['lpips'])} with tokens shuffled (trained so), "
        f"{said(samples[f'{at}, another picture' + chr(39) + 's latents']['lpips'])} with another picture's "
        "latents. "
        "What an adapter finds behind random weights is the architecture's doing, not what was learned.",
        "seed": {},
        "tables": [
            score_table("Controls", samples),
            table(
                "Where errors sit",
                ["point", *columns],
                [[n, *(found.get(c) for c in columns)] for n, found in sitting.items()],
            ),
        ],
        "charts": [
            chart(
                "LPIPS of the controls",
                "bar",
                ("latents", "LPIPS"),
                [series("LPIPS", list(samples), [s["lpips"] for s in samples.values()])],
                float(samples["blank"]["lpips"].mean()),
            )
        ],
        "pictures": [
            {
                "title": "Mean error by token (darker is more): " + ", ".join(sitting),
                "file": "controls.png",
                "point": str(at),
                "adapter": "tokens",
            }
        ],
        "facts": {},
    }
