"""E1.1: do latents cluster by what a scene shows? Silhouettes by shape, colour, both, size and position.

They are taken by the cosine, on the latents as they are: as on the app's Latent map.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from tqdm import tqdm

from foresight.data.render import render
from foresight.data.scenes import Scenes, SceneSpec
from foresight.maps.separability import each_silhouette
from foresight.models.points import ExtractionPoint
from foresight.models.vlm import VLM
from training.experiments.bench import Bench
from training.experiments.experiment import Experiment, Measurement, ScoreTable

SPEC = SceneSpec(
    objects=(1, 1),
    shapes=("circle", "square", "triangle"),
    colors=("red", "green", "blue", "yellow"),
    backgrounds=("white",),
    radius=(16.0, 56.0),
)
SCENES = 300  # its seed
FACTORS = ("shape", "colour", "shape and colour", "size", "position")
BOTH = FACTORS[2]
MEANS = ("all tokens", "the object's tokens")
FEATURES = "e1_1-features.npz"
SHUFFLES = 5

Features = dict[str, Tensor]  # {condition: (N, D)}, float32 on the CPU


def condition(point: str | ExtractionPoint, mean: str) -> str:
    """The name of a point's latents, averaged over the tokens of MEANS, in tables."""
    return f"{point}, {mean}"


def labels(scenes: Scenes) -> dict[str, np.ndarray]:
    """Each factor's class (N,) of one-object scenes; size in thirds, position in a grid of 3 × 3."""
    x, y, radius = (scenes.place[:, 0, k].cpu().numpy() for k in range(3))
    shape, colour = scenes.shape[:, 0].cpu().numpy(), scenes.color[:, 0].cpu().numpy()
    thirds = np.searchsorted(np.quantile(radius, [1 / 3, 2 / 3]), radius)
    place = (y * 3).astype(int).clip(0, 2) * 3 + (x * 3).astype(int).clip(0, 2)
    return dict(zip(FACTORS, (shape, colour, shape * 100 + colour, thirds, place), strict=True))


@torch.inference_mode()
def features(vlm: VLM, scenes: Scenes, points: Sequence[ExtractionPoint], batch: int) -> Features:
    """Latents of one-object scenes, averaged over tokens."""
    parts: dict[str, list[Tensor]] = {condition(p, mean): [] for mean in MEANS for p in points}
    for part in tqdm(scenes.chunks(batch), "pooled latents", leave=False):
        drawn = render(part.to(vlm.device), batch)
        for name, x in vlm.latents(drawn.images.float() / 255, points).items():
            x = x[:, 0].float()  # (B, H, W, D)
            weight = adaptive_avg_pool2d(drawn.mask.float(), (x.shape[1], x.shape[2]))[..., None]
            parts[condition(name, MEANS[0])].append(x.mean((1, 2)).cpu())
            parts[condition(name, MEANS[1])].append(((x * weight).sum((1, 2)) / weight.sum((1, 2))).cpu())
    return {name: torch.cat(values) for name, values in parts.items()}


def silhouettes(
    sets: Sequence[Features], classes: Sequence[dict[str, np.ndarray]], shuffles: np.random.Generator | None = None
) -> ScoreTable:
    """{condition: {factor: (S, N)}} of S sets of scenes; with `shuffles`, the mean of SHUFFLES orders of the labels."""

    def of(x: np.ndarray, label: np.ndarray) -> np.ndarray:
        orders = [shuffles.permutation(label) for _ in range(SHUFFLES)] if shuffles else [label]
        return np.mean([each_silhouette(x, order) for order in orders], 0)

    return {
        name: {
            factor: np.stack([of(x[name].double().numpy(), c[factor]) for x, c in zip(sets, classes, strict=True)])
            for factor in FACTORS
        }
        for name in sets[0]
    }


def measure(bench: Bench) -> Measurement:
    count = bench.scale.clusters // bench.scale.seeds
    sets = [bench.scenes(count, SCENES + k, SPEC, "test") for k in range(bench.scale.seeds)]
    classes = [labels(s) for s in sets]
    trained = [features(bench.vlm, s, bench.points, bench.batch) for s in sets]
    untrained = [features(bench.random_vlm(k), s, bench.points, bench.batch) for k, s in enumerate(sets)]
    saved: dict[str, Any] = {f: np.stack([factors[f] for factors in classes]) for f in FACTORS}
    saved |= {str(p): torch.stack([means[condition(p, MEANS[0])] for means in trained]).numpy() for p in bench.points}
    bench.artifacts.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(bench.artifacts / FEATURES, **saved)
    rng = np.random.default_rng(bench.seed)
    return Measurement(
        {
            "scores": silhouettes(trained, classes),
            "shuffled labels": silhouettes(trained, classes, rng),
            "random-weights VLMs": silhouettes(untrained, classes),
        }
    )


E1_1 = Experiment(
    "e1_1",
    "E1.1 Clusters in latent space",
    "Do latents of like scenes lie together when shape, colour, size and position vary on their own?",
    measure,
    version=3,
    pooled=True,
)
