"""Beyond: controls. What is read out where weights are random or permuted, or latents are only made smaller?

The trained VLM's own scores are those of E1.6's depth, which has the same scenes, seeds, rates and steps.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from foresight.adapters.modules import fold_tokens
from foresight.models.points import ExtractionPoint
from foresight.models.vlm import VLM
from training.experiments.bench import Bench
from training.experiments.experiment import Experiment, Measurement, Samples, ScoreTable
from training.experiments.ladder import climb, rung_name
from training.experiments.trials import Trial, references, run_trials

RANDOM, PERMUTED, TRAINED = "random weights", "permuted weights", "other trained VLMs"
SHUFFLED = "tokens shuffled"
PROJECTED = ("PCA of the merger's inputs", "random projection of the merger's inputs")


def shuffled(latents: Tensor, seed: int) -> Tensor:
    """Latents (N, 1, H, W, D) whose tokens changed places, every image's by an order of its own."""
    n, _, h, w, d = latents.shape
    draw = torch.rand(n, h * w, generator=torch.Generator().manual_seed(seed)).argsort(1).to(latents.device)
    return latents.flatten(1, 3).gather(1, draw[..., None].expand(-1, -1, d)).view(n, 1, h, w, d)


def projections(latents: Tensor, width: int, seed: int) -> Iterator[Tensor]:
    """(N, T, H, W, D) before the merger → two of (N, T, H/2, W/2, width): by PCA, then by a random orthogonal map.

    Both take the 4 · D numbers that the merger joins, less their mean; the axes are those of the first 64 images or,
    by chance, any. So a loss that the merger shares with them is a matter of numbers alone.
    """
    joined = fold_tokens(latents.flatten(0, 1), 2).unflatten(0, latents.shape[:2])  # (N, T, H/2, W/2, 4 · D)
    sample = joined[:64].float().flatten(0, -2)
    mean = sample.mean(0)
    principal = torch.linalg.eigh(torch.cov(sample.T)).eigenvectors.flip(1)
    draw = torch.randn(len(mean), len(mean), generator=torch.Generator().manual_seed(seed)).to(mean)
    for axes in (principal, torch.linalg.qr(draw).Q):
        map_ = axes[:, :width].to(latents.dtype)  # (4 · D, width or fewer)
        yield torch.cat([(part - mean.to(part)) @ map_ for part in joined.split(64)])


def projected(bench: Bench) -> list[Trial]:
    """Token adapters on as many numbers as the merger gives, made of its inputs without it."""
    before, after = bench.merger
    sets = [data.points[str(before)] for data in (bench.train(), bench.test())]
    joined_sets = torch.cat(sets)  # one map for both
    trials = []
    for name, x in zip(PROJECTED, projections(joined_sets, bench.vlm.width(after), bench.seed), strict=True):
        train, test = (
            replace(data, points={str(after): part})
            for data, part in zip((bench.train(), bench.test()), x.split([len(s) for s in sets]), strict=True)
        )
        trials.append(Trial(name, "tokens", (after,), train, test))
    return trials


def behind(bench: Bench, vlm: VLM, name: str, points: list[ExtractionPoint], seed: int) -> list[Trial]:
    """Token adapters behind another VLM, of one seed."""
    sets = ((bench.scale.train, "train"), (bench.scale.test, "test"))
    train, test = (bench.latents(bench.mixture(count, split), points, vlm) for count, split in sets)
    return [Trial(f"{p}, {name} {seed}", "tokens", (p,), train, test, seeds=(seed,)) for p in points]


def of_draws(table: ScoreTable, point: ExtractionPoint, name: str, draws: int) -> Samples:
    """The samples of several VLMs as seeds of one condition."""
    tables = [table[f"{point}, {name} {draw}"] for draw in range(draws)]
    return {score: np.concatenate([samples[score] for samples in tables]) for score in tables[0]}


def measure(bench: Bench, depth: Measurement) -> Measurement:
    at, draws, points = bench.recommended, bench.scale.seeds, bench.landmarks
    after = [bench.merger[1], at]
    train, test = bench.train(), bench.test()
    mixed, mixed_test = (
        replace(x, points={str(at): shuffled(x.points[str(at)], k)}) for k, x in enumerate((train, test))
    )
    trials = [Trial(f"{at}, {SHUFFLED}", "tokens", (at,), mixed, mixed_test), *projected(bench)]
    counts = {RANDOM: draws, PERMUTED: draws, TRAINED: len(bench.others)}
    for draw in range(draws):
        trials += behind(bench, bench.random_vlm(draw), RANDOM, points, draw)
        trials += behind(bench, bench.permuted_vlm(draw), PERMUTED, after, draw)
    for draw, folder in enumerate(bench.others):
        trials += behind(bench, bench.other_vlm(folder), TRAINED, points, draw)
    ladder = climb(bench, trials, "Controls", bench.scale.rungs[1:3])
    solved = run_trials(bench, [replace(trial, kind="linear") for trial in trials], "Controls, linear")
    tables: dict[str, ScoreTable] = {}
    for rung, results in {**{rung_name(n): r for n, r in ladder.rungs.items()}, "linear": solved}.items():
        own = depth.tables[rung]
        table = {str(p): own[str(p)] for p in points}
        table |= {name: samples for name, samples in results.table.items() if not name[-1].isdecimal()}
        for name, count in counts.items():
            read_at = after if name == PERMUTED else points
            table |= {f"{p}, {name}": of_draws(results.table, p, name, count) for p in read_at if count}
        tables[rung] = table
    longest = max(ladder.rungs)
    return Measurement(
        {"scores": {**tables.pop(rung_name(longest)), **references(bench)}, **tables},
        {"scores": longest},
        values={"rates": ladder.rates, "trained VLMs": 1 + len(bench.others)},
    )


CONTROLS = Experiment(
    "controls",
    "Beyond: controls",
    "Is it what the VLM learned that the picture is read from, or the architecture and the number of numbers?",
    measure,
    needs=("e1_6_depth",),
    version=2,
)
