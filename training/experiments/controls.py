"""Beyond: controls that hold no picture, or not this one; and where in a picture the error sits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foresight.models.points import ExtractionPoint
from training.experiments.bank import AdapterTrial, Grid, floors_and_ceiling, reconstruct, run_grid, score, stack
from training.experiments.bench import Bench
from training.experiments.result import (
    ALONE,
    Result,
    chart,
    finite,
    key,
    said,
    score_table,
    series,
    shown,
    table,
    verdict_of,
    write_grid,
    write_scores,
)
from training.experiments.statistics import Interval, interval, paired

WINDOW = 4  # tokens a side of an attention window: 112 px
BLIND = "random-weights VLM"


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
def token_errors(
    bench: Bench, modules: Sequence[torch.nn.Module], trial: AdapterTrial
) -> tuple[Tensor, Tensor, Tensor]:
    """(N, h, w) each, of a token's 28 × 28 pixels: the mean absolute error of values, the norm of its latents, and the
    share that objects cover.

    modules: a trial's adapter of each seed, whose errors are averaged.
    """
    truth = trial.test.pictures.float() / 255
    each = [(reconstruct(bench, m, trial.test_inputs()) - truth).abs().mean(1, keepdim=True) for m in modules]
    x = trial.test_inputs()[0][:, 0].float().norm(dim=-1)[:, None]  # (N, 1, H, W)
    side = truth.shape[-1] // 28
    pool = torch.nn.functional.adaptive_avg_pool2d
    covered = trial.test.masks[:, None].float()
    return tuple(pool(v, side)[:, 0].cpu() for v in (torch.stack(each).mean(0), x, covered))  # type: ignore[return-value]


def where_errors_sit(errors: Tensor, norms: Tensor, covered: Tensor) -> dict[str, Interval]:
    """The rank correlation of error and norm over a picture's tokens, and errors at seams minus elsewhere.

    The latter among tokens of one kind, ground, outline or inside of objects: seams run through the middle of a
    picture, where more objects are.
    """
    from scipy.stats import rankdata

    ranks = [np.stack([rankdata(row) for row in x.flatten(1).numpy()]) for x in (errors, norms)]
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(*ranks, strict=True) if a.std() > 0 and b.std() > 0]
    edge = torch.ones(errors.shape[1:], dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    seam = seams(errors.shape[-1], WINDOW) & ~edge
    kinds = torch.stack([covered <= 0, (covered > 0) & (covered < 1), covered >= 1])  # (3, N, h, w)
    gaps = []
    for error, alike in zip(errors, kinds.unbind(1), strict=True):
        pairs = [(error[seam & kind], error[~seam & ~edge & kind]) for kind in alike]
        pairs = [(there, elsewhere) for there, elsewhere in pairs if len(there) and len(elsewhere)]
        if pairs:
            each = [float(there.mean() - elsewhere.mean()) for there, elsewhere in pairs]
            gaps.append(np.average(each, weights=[len(there) for there, _ in pairs]))
    found = {"rank correlation of error and norm": interval(correlation)} if correlation else {}
    return found | ({"error at seams minus elsewhere, like tokens": interval(gaps)} if gaps else {})


def run(bench: Bench) -> Result:
    points, at = bench.landmarks, bench.recommended
    learn, test = bench.train(), bench.test()
    trials = [AdapterTrial(f"{p}", "tokens", (p,), learn, test) for p in points]
    for draw in range(bench.scale.seeds):
        trials += blind_entries(bench, points, draw)
    x, y = (shuffled(data.points[str(at)], k) for k, data in enumerate((learn, test)))
    trials.append(AdapterTrial(f"{at}, tokens shuffled", "tokens", (at,), learn, test, x=x, test_x=y))
    grid = run_grid(bench, trials, "Controls")
    found = {n: s for n, s in grid.samples.items() if BLIND not in n}
    for p in points:
        draws = [grid.samples[f"{p}, {BLIND} {draw}"] for draw in range(bench.scale.seeds)]
        found[f"{p}, {BLIND}"] = {s: np.concatenate([one[s] for one in draws]) for s in draws[0]}
    made = [reconstruct(bench, m, [test.points[str(at)]]) for m in grid.modules[str(at)]]
    samples = found | {f"{at}, another picture's latents": stack([score(bench, z.roll(1, 0), test) for z in made])}
    samples |= floors_and_ceiling(bench)
    write_scores(bench.artifacts / "controls.csv", samples)
    maps = {e.name: token_errors(bench, grid.modules[e.name], e) for e in trials[: len(points)]}
    mean_maps = torch.stack([errors.mean(0) for errors, *_ in maps.values()])
    picture = (mean_maps / mean_maps.amax((1, 2), True).clamp(min=1e-9))[:, None].expand(-1, 3, -1, -1)
    write_grid(bench.artifacts / "controls.png", [1 - picture.repeat_interleave(16, 2).repeat_interleave(16, 3)])
    return _told(at, samples, grid, {name: where_errors_sit(*m) for name, m in maps.items()})


def blind_entries(bench: Bench, points: Sequence[ExtractionPoint], draw: int) -> list[AdapterTrial]:
    """Token adapters behind one VLM with random weights, of the seed of that draw alone."""
    vlm = bench.random_vlm(draw)
    sets = ((bench.scale.train, "train"), (bench.scale.test, "test"))
    learn, test = (bench.latents(bench.mixture(count, split), points, vlm) for count, split in sets)
    return [AdapterTrial(f"{p}, {BLIND} {draw}", "tokens", (p,), learn, test, seeds=(draw,)) for p in points]


def _told(at: ExtractionPoint, samples: dict[str, Any], grid: Grid, sitting: dict[str, dict[str, Interval]]) -> Result:
    own, blind, page = samples[str(at)], samples[f"{at}, {BLIND}"], samples["blank"]
    another = samples[f"{at}, another picture's latents"]
    gap = paired(own["lpips"], blind["lpips"])
    columns = list(dict.fromkeys(c for found in sitting.values() for c in found))
    return {
        "title": "Beyond: controls and where errors sit",
        "question": "Is it the trained VLM that the picture is read from, and are some places harder than others?",
        "verdict": verdict_of(gap),
        "verdict_reason": f"Asked: does a trained VLM hold more of the picture at {at} than one with random weights? "
        f"LPIPS of trained minus random is {shown(gap, 4)} (paired over pictures and seeds; under 0 favours trained).",
        "paragraph": f"Token adapters, {ALONE}, {grid.steps} steps, each trained on the latents it is tested on. At "
        f"{at} LPIPS is {said(own['lpips'])} behind the trained VLM, {said(blind['lpips'])} behind random ones "
        f"({len(blind['lpips'])}, an adapter each), {said(samples[f'{at}, tokens shuffled']['lpips'])} where the "
        f"tokens of each picture change places, {said(another['lpips'])} where the adapter is given another "
        f"picture's latents, {said(page['lpips'])} for a blank page. "
        "What an adapter finds behind random weights is the architecture's doing, not what was learned.",
        "seed": {},
        "key": [
            key(
                f"LPIPS, {what}, {at}",
                finite(values["lpips"]),
                None,
                ("blank page", finite(page["lpips"])),
                finite(samples["oracle"]["lpips"]),
            )
            for what, values in (("trained VLM", own), ("random-weights VLMs", blind))
        ],
        "tables": [
            score_table("Controls", samples),
            table(
                "Where errors sit, mean of all seeds",
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
