"""Beyond: do the same images stay neighbours from one point to a later one? Asked first of connectors by Li et al.,
"Lost in Embeddings" (2025)."""

from itertools import pairwise

import numpy as np
from torch import Tensor
from torch.nn.functional import normalize

from training.experiments.bench import Bench
from training.experiments.e1_1 import MEANS, SPEC, condition, features
from training.experiments.experiment import Experiment, Measurement

SCENES = 330  # its seed
NEAREST = 10
RANDOM, CHANCE = "random weights", "chance"
OVERLAP = f"share of the {NEAREST} nearest that stay"


def nearest(x: Tensor, count: int) -> Tensor:
    """(N, count): the rows nearest to each row of x (N, D) by the cosine, itself left out."""
    x = normalize(x.double(), dim=1)
    return (x @ x.T).fill_diagonal_(-2.0).topk(count, 1).indices


def overlap(a: Tensor, b: Tensor, count: int) -> np.ndarray:
    """(N,) the share of each image's nearest in latents a (N, D) that are among its nearest in b (N, E)."""
    pairs = nearest(a, count)[:, :, None] == nearest(b, count)[:, None]
    return pairs.any(2).double().mean(1).cpu().numpy()


def measure(bench: Bench) -> Measurement:
    scenes = bench.scenes(bench.scale.clusters, SCENES, SPEC, "test")
    points, count = bench.landmarks, min(NEAREST, len(scenes) - 1)
    steps = list(pairwise(points))
    draws = {"trained": [bench.vlm], RANDOM: map(bench.random_vlm, range(bench.scale.seeds))}
    table: dict[str, dict[str, np.ndarray]] = {}
    for name, vlms in draws.items():
        sets = [features(vlm, scenes, points, bench.batch) for vlm in vlms]
        for a, b in steps:
            pairs = [[x[condition(p, MEANS[0])] for p in (a, b)] for x in sets]
            table[f"{a} to {b}, {name}"] = {OVERLAP: np.stack([overlap(x, y, count) for x, y in pairs])}
    chance = np.full((1, len(scenes)), count / max(1, len(scenes) - 1))
    return Measurement(
        {"scores": {**table, CHANCE: {OVERLAP: chance}}}, values={"steps": [f"{a} to {b}" for a, b in steps]}
    )


NEIGHBOURS = Experiment(
    "neighbours",
    "Beyond: neighbours across the merger",
    "Which images are alike before the merger and no longer after it?",
    measure,
    pooled=True,
)
