"""E1.1's picture: the same latents as a 2-D UMAP, and what the silhouette becomes when it is taken on that map.

Both silhouettes are by Euclidean distance: on a map of its places, in the latents of their directions (unit vectors).
The cosine of E1.1 is half the square of the latter distance, and a square alone draws clusters apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from foresight.data.scenes import COLOR_NAMES, SHAPES
from foresight.errors import InputError
from foresight.maps.separability import each_silhouette
from training.experiments.bench import Bench
from training.experiments.e1_1 import BOTH, FACTORS, FEATURES
from training.experiments.result import Result, chart, finite, key, said, series, shown, table
from training.experiments.statistics import paired

NEEDS = ("e1_1",)
VERSION = 2  # of the result: kept ones of another are not taken
APART = 0.05  # of a silhouette: more than that is another answer


def flattened(latents: np.ndarray, seed: int) -> np.ndarray:
    """Latents (N, D) → places (N, 2) on a UMAP by the cosine."""
    import umap

    threads = torch.get_num_threads()
    reducer = umap.UMAP(n_neighbors=min(15, len(latents) - 1), metric="cosine", random_state=seed, n_jobs=1)
    places = reducer.fit_transform(latents)
    torch.set_num_threads(threads)  # UMAP's compiler changes it, and with it the last digits of all that follows
    return places


def silhouettes(sets: Sequence[np.ndarray], classes: np.ndarray) -> np.ndarray:
    """Each scene's silhouette (S, N) by Euclidean distance, of every set of places (N, D) with its classes (N,)."""
    return np.stack([each_silhouette(x, c, "euclidean") for x, c in zip(sets, classes, strict=True)])


def run(bench: Bench) -> Result:
    path = bench.artifacts / FEATURES
    if not path.is_file():
        raise InputError(f"{path} is missing: run e1_1 in this folder first.")
    kept = np.load(path)  # (S, N, D) by point, (S, N) by factor: of every set of scenes
    names, drawn = [str(p) for p in bench.points], {str(p) for p in bench.landmarks}
    full, flat, charts = dict[str, np.ndarray](), dict[tuple[str, str], np.ndarray](), []
    for name in names:
        maps = [flattened(x, bench.seed) for x in kept[name]]
        ways = kept[name] / np.linalg.norm(kept[name], axis=-1, keepdims=True).clip(1e-12)
        full[name] = silhouettes(ways, kept[BOTH])
        flat |= {(name, f): silhouettes(maps, kept[f]) for f in FACTORS}
        if name not in drawn:
            continue
        first, classes = maps[0], kept[BOTH][0]
        dots = [
            {
                "name": f"{COLOR_NAMES[c % 100]} {SHAPES[c // 100]}",
                "x": first[classes == c, 0].tolist(),
                "y": first[classes == c, 1].tolist(),
            }
            for c in np.unique(classes)
        ]
        charts.append(chart(f"UMAP of {name}, mean over all tokens", "scatter", ("UMAP 1", "UMAP 2"), dots))
    gains = {n: paired(flat[n, BOTH], full[n]) for n in names}
    order = sorted(names, key=lambda name: gains[name][0])
    far = sum(low > APART or high < -APART for _, low, high in gains.values())
    verdict = "open"
    if far:
        verdict = "does not hold"
    elif all(low > -APART and high < APART for _, low, high in gains.values()):
        verdict = "holds"
    at = str(bench.recommended)
    return {
        "title": "E1.1 The 2-D map",
        "question": "How much of a silhouette is made by the map on which it is taken?",
        "verdict": verdict,
        "verdict_reason": "Claim: a silhouette on a 2-D map measures the latents. By shape and colour, map minus "
        f"latents runs from {shown(gains[order[0]], 2)} at {order[0]} to {shown(gains[order[-1]], 2)} at {order[-1]} "
        f"(paired over scenes). More than {APART} is another answer; that is certain at {far} of {len(names)} points.",
        "paragraph": "UMAP pulls neighbours together, so a silhouette on its two coordinates tells what the map "
        f"does as well as what the latents hold. By shape and colour at {at} it is {said(flat[at, BOTH])} on the map "
        f"and {said(full[at])} in the latents. Maps at each point: {len(kept[BOTH])}, "
        "one for each set of scenes; the first is drawn. Both silhouettes are by distance, in the latents that of "
        "directions, so they are not E1.1's, which are by the cosine.",
        "seed": {"silhouette": 0.808},
        "key": [key(f"silhouette on the map, {at}", finite(flat[at, BOTH]), 0.808)],
        "tables": [
            table(
                "Silhouette on the 2-D map",
                ["point", "in the latents, shape and colour", *(f"map, {f}" for f in FACTORS)],
                [[n, finite(full[n]), *(finite(flat[n, f]) for f in FACTORS)] for n in names],
            )
        ],
        "charts": [
            chart(
                "Silhouette by shape and colour, in the latents and on the map",
                "bar",
                ("extraction point", "silhouette"),
                [
                    series("latents", names, [full[n] for n in names], names),
                    series("2-D map", names, [flat[n, BOTH] for n in names], names),
                ],
            ),
            *charts,
        ],
        "pictures": [],
        "facts": {},
    }
