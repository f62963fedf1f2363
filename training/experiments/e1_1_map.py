"""E1.1's picture: the same latents as a 2-D UMAP, and what the silhouette becomes when it is taken on that map.

Both silhouettes are by Euclidean distance: on a map of its places, in the latents of their directions (unit vectors).
The cosine of E1.1 is half the square of the latter distance, and a square alone draws clusters apart.
"""

from collections.abc import Sequence

import numpy as np
import torch

from foresight.errors import InputError
from foresight.maps.separability import each_silhouette
from training.experiments.bench import Bench
from training.experiments.e1_1 import BOTH, FACTORS, FEATURES
from training.experiments.experiment import Experiment, Measurement


def umap_places(latents: np.ndarray, seed: int) -> np.ndarray:
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


def measure(bench: Bench, _clusters: Measurement) -> Measurement:
    path = bench.artifacts / FEATURES
    if not path.is_file():
        raise InputError(f"{path} is missing: run e1_1 in this folder first.")
    saved = np.load(path)  # (S, N, D) by point, (S, N) by factor: of every set of scenes
    on_map, in_latents, first = {}, {}, {}
    for name in map(str, bench.points):
        maps = [umap_places(x, bench.seed) for x in saved[name]]
        directions = saved[name] / np.linalg.norm(saved[name], axis=-1, keepdims=True).clip(1e-12)
        on_map[name] = {f: silhouettes(maps, saved[f]) for f in FACTORS}
        in_latents[name] = {BOTH: silhouettes(directions, saved[BOTH])}
        first[name] = {"x": maps[0][None, :, 0], "y": maps[0][None, :, 1], "class": saved[BOTH][:1]}
    landmarks = {str(p): first[str(p)] for p in bench.landmarks}
    return Measurement({"scores": on_map, "in the latents": in_latents, "first map": landmarks})


E1_1_MAP = Experiment(
    "e1_1_map",
    "E1.1 The 2-D map",
    "How much of a silhouette is made by the map on which it is taken?",
    measure,
    needs=("e1_1",),
    version=3,
    pooled=True,
)
