"""How well latents of one label keep together: silhouettes, clusters, nearest neighbours; all by the cosine.

Shapes: N latents of D numbers each, numpy float32. Labels are (N,) arrays of names or numbers.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MOST = 1_000  # latents a silhouette is taken of: it needs the distance of every pair
SHUFFLES = 10


@dataclass(frozen=True)
class Silhouette:
    """How much nearer latents lie to their own label than to the next one, from -1 to 1; 0 is no difference.

    value: the mean over latents. floor, floor_top: the mean and the highest of the same latents under shuffled
    labels. classes: the mean of each label. agreement: adjusted mutual information of labels and clusters, 1 is
    the same partition, 0 what chance gives; None without clusters. count: latents it was taken of.
    """

    value: float
    floor: float
    floor_top: float
    classes: dict[str, float]
    agreement: float | None
    count: int

    @property
    def stands_out(self) -> bool:
        """Whether it is above every shuffle."""
        return self.value > self.floor_top


def unit(latents: Array) -> Array:
    """Latents (N, D) at length 1, so that products are cosines; one of length 0 stays as it is."""
    length = np.linalg.norm(latents, axis=1, keepdims=True)
    return (latents / np.where(length > 0, length, 1)).astype(np.float32)


def each_silhouette(points: Array, labels: Array, metric: str = "cosine") -> Array:
    """Each point's own silhouette (N,) from -1 to 1, of at least two labels and fewer than points.

    metric: "cosine" for latents; "euclidean" for places on a map, whose angles mean nothing; "precomputed" where
    points are the distances (N, N). Source: Rousseeuw, "Silhouettes", 1987.
    """
    from sklearn.metrics import silhouette_samples

    return silhouette_samples(points, labels, metric=metric)


def silhouettes(
    latents: Array, labels: dict[str, Array], clusters: Array | None = None, seed: int = 0
) -> dict[str, Silhouette | None]:
    """A silhouette for each set of labels, on at most MOST latents drawn by `seed`.

    None where the labels drawn have fewer than two classes, or each latent its own.
    """
    from sklearn.metrics import adjusted_mutual_info_score
    from sklearn.metrics.pairwise import cosine_distances

    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(len(latents))[:MOST])
    distances = cosine_distances(latents[rows])
    by_label: dict[str, Silhouette | None] = {}
    for name, column in labels.items():
        names, codes = np.unique(column[rows], return_inverse=True)
        if not 2 <= len(names) < len(rows):
            by_label[name] = None
            continue
        values = each_silhouette(distances, codes, "precomputed")
        shuffled = (random.permutation(codes) for _ in range(SHUFFLES))
        floors = [float(each_silhouette(distances, s, "precomputed").mean()) for s in shuffled]
        by_label[name] = Silhouette(
            value=float(values.mean()),
            floor=float(np.mean(floors)),
            floor_top=max(floors),
            classes={str(n): float(values[codes == k].mean()) for k, n in enumerate(names)},
            agreement=None if clusters is None else float(adjusted_mutual_info_score(column, clusters)),
            count=len(rows),
        )
    return by_label


def cluster(latents: Array, count: int, seed: int = 0) -> Array:
    """(N,) cluster numbers from 0, the largest first: k-means on latents of length 1."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():  # fewer different latents than clusters: some numbers stay unused
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = KMeans(min(count, len(latents)), n_init=3, random_state=seed).fit(unit(latents)).labels_
    order = np.argsort(-np.bincount(labels), kind="stable")
    return np.argsort(order)[labels]


def nearest(latents: Array, query: Array, count: int, leave: Array | None = None) -> tuple[Array, Array]:
    """The `count` latents of highest cosine to one (D,), best first: rows and cosines. leave: (N,) bool, not those."""
    cosines = unit(latents) @ unit(query[None])[0]
    if leave is not None:
        cosines = np.where(leave, -np.inf, cosines)
    rows = np.argsort(-cosines, kind="stable")[:count]
    rows = rows[np.isfinite(cosines[rows])]
    return rows, cosines[rows]
