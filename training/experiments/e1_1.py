"""E1.1: do latents cluster by what a scene shows? Silhouettes by shape, colour, both, size and position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from tqdm import tqdm

from foresight.points import ExtractionPoint
from foresight.render import render
from foresight.scenes import Scenes, SceneSpec
from foresight.vlm import VLM
from training.experiments.bench import Bench
from training.experiments.result import Result, chart, finite, said, series, shown, table
from training.experiments.statistics import silhouettes, standardised

SPEC = SceneSpec(
    objects=(1, 1),
    shapes=("circle", "square", "triangle"),
    colors=("red", "green", "blue", "yellow"),
    backgrounds=("white",),
    radius=(16.0, 56.0),
)
SCENES = 300  # its seed
FACTORS = ("shape", "colour", "shape and colour", "size", "position")
MEANS = ("all tokens", "the object's tokens")
STRONG = 0.5  # Kaufman & Rousseeuw 1990: above it a structure is reasonable, above 0.7 strong
FEATURES = "e1_1-features.npz"
SHUFFLES = 5


def labels(scenes: Scenes) -> dict[str, np.ndarray]:
    """Each factor's class (N,) of one-object scenes; size in thirds, position in a grid of 3 × 3."""
    x, y, radius = (scenes.place[:, 0, k].cpu().numpy() for k in range(3))
    shape, colour = scenes.shape[:, 0].cpu().numpy(), scenes.color[:, 0].cpu().numpy()
    thirds = np.searchsorted(np.quantile(radius, [1 / 3, 2 / 3]), radius)
    place = (y * 3).astype(int).clip(0, 2) * 3 + (x * 3).astype(int).clip(0, 2)
    return dict(zip(FACTORS, (shape, colour, shape * 100 + colour, thirds, place), strict=True))


@torch.inference_mode()
def features(vlm: VLM, scenes: Scenes, points: Sequence[ExtractionPoint], batch: int) -> dict[str, dict[str, Tensor]]:
    """{mean over which tokens: {point: (N, D)}} of one-object scenes, float32 on the CPU."""
    parts: dict[str, dict[str, list[Tensor]]] = {mean: {str(p): [] for p in points} for mean in MEANS}
    for part in tqdm(scenes.chunks(batch), "pooled latents", leave=False):
        drawn = render(part.to(vlm.device), batch)
        for name, x in vlm.latents(drawn.images.float() / 255, points).items():
            x = x[:, 0].float()  # (B, H, W, D)
            weight = adaptive_avg_pool2d(drawn.mask.float(), (x.shape[1], x.shape[2]))[..., None]
            parts[MEANS[0]][name].append(x.mean((1, 2)).cpu())
            parts[MEANS[1]][name].append(((x * weight).sum((1, 2)) / weight.sum((1, 2))).cpu())
    return {mean: {name: torch.cat(v) for name, v in each.items()} for mean, each in parts.items()}


def run(bench: Bench) -> Result:
    each = bench.scale.clusters // bench.scale.seeds
    sets = [bench.scenes(each, SCENES + k, SPEC, "test") for k in range(bench.scale.seeds)]
    classes = [labels(s) for s in sets]
    names = [str(p) for p in bench.points]
    ours = [features(bench.vlm, s, bench.points, bench.batch) for s in sets]
    blind = [features(bench.random_vlm, s, bench.points, bench.batch) for s in sets]
    held: Any = {f"{mean}|{name}": x.half().numpy() for mean, found in ours[0].items() for name, x in found.items()}
    held |= {f"label|{factor}": values for factor, values in classes[0].items()}
    bench.artifacts.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(bench.artifacts / FEATURES, **held)

    rng = np.random.default_rng(bench.seed)

    def of(found: list[dict[str, dict[str, Tensor]]], mean: str, name: str, factor: str, shuffle: bool = False):
        rows = []
        for one, truth in zip(found, classes, strict=True):
            x, label = standardised(one[mean][name]), truth[factor]
            draws = [rng.permutation(label) for _ in range(SHUFFLES)] if shuffle else [label]
            rows.append(np.mean([silhouettes(x, d) for d in draws], 0))
        return np.stack(rows)  # (S, N)

    sil = {(m, n, f): of(ours, m, n, f) for m in MEANS for n in names for f in FACTORS}
    floor = {n: of(ours, MEANS[0], n, "shape and colour", True) for n in names}
    control = {n: of(blind, MEANS[0], n, "shape and colour") for n in names}
    tables = [
        table(
            f"Silhouette on the mean over {mean}",
            ["point", *FACTORS],
            [[n, *(finite(sil[mean, n, f]) for f in FACTORS)] for n in names],
        )
        for mean in MEANS
    ]
    tables.append(
        table(
            "Floor and control, by shape and colour, mean over all tokens",
            ["point", "VLM", "shuffled labels", "random-weights VLM"],
            [
                [n, *(finite(x[n]) for x in ({k: sil[MEANS[0], k, FACTORS[2]] for k in names}, floor, control))]
                for n in names
            ],
        )
    )
    lines = [series(f, names, [sil[MEANS[0], n, f] for n in names], names) for f in FACTORS]
    lines.append(series("shape and colour, random weights", names, [control[n] for n in names], names))
    on_object = [series(f, names, [sil[MEANS[1], n, f] for n in names], names) for f in FACTORS]
    at = str(bench.recommended)
    claim = finite(sil[MEANS[0], at, FACTORS[2]]) or []
    best = max(((m, n) for m in MEANS for n in names), key=lambda k: sil[k[0], k[1], FACTORS[2]].mean())
    top = finite(sil[best[0], best[1], FACTORS[2]]) or []
    verdict = "holds" if claim[1] > STRONG else "does not hold" if claim[2] < STRONG else "open"
    most = max(FACTORS, key=lambda f: sil[MEANS[0], at, f].mean())
    return {
        "title": "E1.1 Clusters in latent space",
        "question": "Do latents of like scenes lie together when shape, colour, size and position vary on their own?",
        "verdict": verdict,
        "verdict_reason": f"At {at} the silhouette by shape and colour is {shown(claim)}; above {STRONG} counts as "
        "structure (Kaufman & Rousseeuw). The seed's 0.808 was taken on t-SNE coordinates, with shape and colour "
        "picked together.",
        "paragraph": f"Silhouettes are taken in the latents themselves, standardised, {each} scenes a seed with one "
        f"object on white. Averaged over all tokens at {at}, latents order scenes most by {most} "
        f"({said(sil[MEANS[0], at, most])}). The clearest clusters by shape and colour are at "
        f"{best[1]} on the mean over {best[0]}: {shown(top)}. With shuffled labels {at} gives "
        f"{said(floor[at])}, a random-weights VLM {said(control[at])}.",
        "seed": {"silhouette": 0.808},
        "tables": tables,
        "charts": [
            chart(f"Silhouette by depth, mean over {mean}", "line", ("extraction point", "silhouette"), drawn)
            for mean, drawn in zip(MEANS, (lines, on_object), strict=True)
        ],
        "pictures": [],
        "facts": {"silhouette": claim, "best": list(best)},
    }
