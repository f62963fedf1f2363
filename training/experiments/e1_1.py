"""E1.1: do latents cluster by what a scene shows? Silhouettes by shape, colour, both, size and position.

They are taken by the cosine, on the latents as they are: as on the app's Latent map.
"""

from __future__ import annotations

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
from training.experiments.result import Result, chart, finite, key, said, series, shown, table

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
STRONG = 0.5  # Kaufman & Rousseeuw 1990: above it a structure is reasonable, above 0.7 strong
FEATURES = "e1_1-features.npz"
SHUFFLES = 5
VERSION = 2  # of the result: kept ones of another are not taken


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
    blind = [features(bench.random_vlm(k), s, bench.points, bench.batch) for k, s in enumerate(sets)]
    held: Any = {name: torch.stack([one[MEANS[0]][name] for one in ours]).numpy() for name in names}
    held |= {f: np.stack([truth[f] for truth in classes]) for f in FACTORS}
    bench.artifacts.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(bench.artifacts / FEATURES, **held)

    rng = np.random.default_rng(bench.seed)

    def of(found: list[dict[str, dict[str, Tensor]]], mean: str, name: str, factor: str, shuffle: bool = False):
        rows = []
        for one, truth in zip(found, classes, strict=True):
            x, label = one[mean][name].double().numpy(), truth[factor]
            draws = [rng.permutation(label) for _ in range(SHUFFLES)] if shuffle else [label]
            rows.append(np.mean([each_silhouette(x, d) for d in draws], 0))
        return np.stack(rows)  # (S, N)

    asked = [(m, n, f) for m in MEANS for n in names for f in FACTORS]
    sil, floor, control = (
        {k: of(found, *k, shuffle) for k in asked} for found, shuffle in ((ours, False), (ours, True), (blind, False))
    )
    tables = [
        table(
            f"{title}, on the mean over {mean}",
            ["point", *FACTORS],
            [[n, *(finite(values[mean, n, f]) for f in FACTORS)] for n in names],
        )
        for mean in MEANS
        for title, values in (
            ("Silhouette", sil),
            ("Its floor, shuffled labels", floor),
            ("Its control, VLMs with random weights", control),
        )
    ]
    lines = [series(f, names, [sil[MEANS[0], n, f] for n in names], names) for f in FACTORS]
    blinds = [control[MEANS[0], n, BOTH] for n in names]
    lines.append(series("shape and colour, random-weights VLMs", names, blinds, names))
    on_object = [series(f, names, [sil[MEANS[1], n, f] for n in names], names) for f in FACTORS]
    at = str(bench.recommended)
    here = MEANS[0], at, BOTH
    claim = finite(sil[here]) or []
    best = max(((m, n, BOTH) for m in MEANS for n in names), key=lambda k: sil[k].mean())
    top = finite(sil[best]) or []
    verdict = "holds" if claim[1] > STRONG else "does not hold" if claim[2] < STRONG else "open"
    most = max(FACTORS, key=lambda f: sil[MEANS[0], at, f].mean())
    return {
        "title": "E1.1 Clusters in latent space",
        "question": "Do latents of like scenes lie together when shape, colour, size and position vary on their own?",
        "verdict": verdict,
        "verdict_reason": "Claim: latents cluster strongly by shape and colour. A silhouette runs from -1 to 1, and "
        f"above {STRONG} speaks of clusters (Kaufman & Rousseeuw 1990). At {at} it is {shown(claim)}. The seed's 0.808 "
        "was taken on a 2-D map, of scenes in which each shape has one colour.",
        "paragraph": f"Taken by the cosine on the latents as they are, {len(sets)} × {each} scenes with one object "
        f"on white. The mean over all tokens at {at} orders scenes most by {most} "
        f"({said(sil[MEANS[0], at, most])}). The clearest clusters by shape and colour are at "
        f"{best[1]}, on the mean over {best[0]}: {shown(top)}; there shuffled labels give "
        f"{said(floor[best])}, and VLMs with random weights, another for each set, {said(control[best])}. At {at} "
        f"these are {said(floor[here])} and {said(control[here])}.",
        "seed": {"silhouette": 0.808},
        "key": [
            key(
                f"silhouette by shape and colour, {at}",
                claim,
                0.808,
                ("shuffled labels", finite(floor[here])),
            )
        ],
        "tables": tables,
        "charts": [
            chart(f"Silhouette by depth, mean over {mean}", "line", ("extraction point", "silhouette"), drawn)
            for mean, drawn in zip(MEANS, (lines, on_object), strict=True)
        ],
        "pictures": [],
        "facts": {"silhouette": claim, "best": list(best[:2])},
    }
