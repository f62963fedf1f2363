"""Latents of many scenes as a map: UMAP, principal components or t-SNE in two or three dimensions, a layer for each
extraction point, turned onto each other.

Shapes: N points on the map, D numbers a latent, K dimensions.
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

import numpy as np
from torch import Tensor

from foresight.data.images import PATCH
from foresight.errors import InputError
from foresight.maps import worker as map_worker
from foresight.maps.data import BACKGROUND, MOST, MapData, MapSpec, Progress, extract, rows_at
from foresight.maps.pictures import FilePictures
from foresight.maps.separability import Array, Silhouette, nearest
from foresight.maps.worker import Worker, at_once, warm, worker
from foresight.models.vlm import VLM
from foresight.recent import Recent

T = TypeVar("T")

COMPILING = "UMAP is being compiled, for the first map only, which takes 10 to 40 s"
KEPT = 2 * MOST  # bytes of maps, and of latents for others, that are kept


@dataclass(frozen=True)
class Layer:
    """The map at one point, with clusters and silhouettes.

    Attributes:
        reducer: What was fitted, pickled; its own coordinates c are (c - shift) / scale @ turn here.
        coordinates: (N, K) float32 around 0, of mean square 1 a dimension.
        change: Procrustes' disparity from the layer before, 0 is the same map and 1 nothing in common; None for the
            first.
        clusters: (N,) numbers from 0.
        silhouettes: By label.
    """

    reducer: bytes
    shift: Array
    scale: float
    turn: Array
    coordinates: Array
    change: float | None
    clusters: Array
    silhouettes: dict[str, Silhouette | None]

    def project(self, latents: Array) -> Array:
        """New latents (M, D) → where they belong on this map (M, K)."""
        coordinates = at_once(map_worker.transform, self.reducer, latents)
        return (((coordinates - self.shift) / self.scale) @ self.turn).astype(np.float32)


@dataclass(frozen=True)
class Projected:
    """A new image on a map: latents (M, D) and places (M, K) by point; M is 1, or its tokens.

    middle: the one that stands for the image, which of tokens is that at its centre.
    """

    latents: dict[str, Array]
    places: dict[str, Array]
    middle: int


@dataclass(frozen=True)
class LatentMap:
    """Layers by point, in order of depth, of the same scenes or tokens."""

    spec: MapSpec
    data: MapData
    layers: dict[str, Layer]

    @property
    def bytes(self) -> int:
        """What its latents and reducers, which hold them once more, take in memory."""
        return self.data.bytes + sum(len(layer.reducer) for layer in self.layers.values())

    def neighbours(self, point: str, of: int | Projected, count: int) -> tuple[Array, Array]:
        """The points whose latents are nearest at an extraction point: indices and cosines, best first.

        of: a point of the map, whose own scene is left out; or an image that was projected in.
        """
        latents = self.data.latents[point]
        if isinstance(of, Projected):
            return nearest(latents, of.latents[point][of.middle], count)
        return nearest(latents, latents[of], count, self.data.rows == self.data.rows[of])


def align(coordinates: Array, before: Array | None) -> tuple[Array, float, Array, Array, float | None]:
    """Coordinates (N, K) centred, scaled to a mean square of 1, and turned onto those of the layer before.

    Returns shift (K,), scale, turn (K, K), the aligned coordinates and Procrustes' disparity. Turns and mirror
    images are allowed, stretching is not. Source: Schönemann, "A generalized solution of the orthogonal
    Procrustes problem", 1966.
    """
    from scipy.linalg import orthogonal_procrustes

    shift = coordinates.mean(0)
    centred = coordinates - shift
    scale = float(np.sqrt(np.square(centred).mean())) or 1.0
    if before is None:
        return shift, scale, np.eye(centred.shape[1]), (centred / scale).astype(np.float32), None
    turn, strength = orthogonal_procrustes(centred / scale, before)
    aligned = (centred / scale @ turn).astype(np.float32)
    return shift, scale, turn, aligned, float(1 - (strength / before.size) ** 2)


def fit(data: MapData, spec: MapSpec) -> Generator[Progress, None, LatentMap]:
    """Draws the map at all points, with the same seed.

    Every layer begins where the one before has put its points, and is then turned onto it: so what moves from
    layer to layer has moved in the latents. Silhouettes leave tokens of the background out. Closing the generator
    stops the fit.

    Returns:
        The map.
    """
    layers: dict[str, Layer] = {}
    before: Array | None = None
    umap = spec.method == "umap"
    objects = data.labels["shape"] != BACKGROUND if "shape" in data.labels else np.ones(len(data.rows), bool)
    with worker(umap) as process:
        for number, (point, latents) in enumerate(data.latents.items(), 1):
            stage = f"fitting the map at {point}, layer {number} of {len(data.latents)}"
            fitting = _fitting(process, spec, latents, before)
            reducer, coordinates = yield from _with_progress(fitting, stage, umap, process)
            shift, scale, turn, before, change = align(coordinates, before)
            grouping = process.do(map_worker.group, latents, data.labels, objects, spec.clusters, spec.seed)
            stage = f"silhouettes and clusters at {point}"
            clusters, by_label = yield from _with_progress(grouping, stage, False, process)
            layers[point] = Layer(reducer, shift, scale, turn, before, change, clusters, by_label)
    return LatentMap(spec, data, layers)


def _fitting(
    process: Worker, spec: MapSpec, latents: Array, start: Array | None
) -> Generator[tuple[int, int], None, tuple[bytes, Array]]:
    """The fit of one layer: the pickled reducer and coordinates (N, K). start: where its points were before."""
    if spec.method == "pca":
        return process.do(map_worker.reduce_pca, latents, spec.dimensions)
    if spec.method == "t-sne":
        return process.do(map_worker.reduce_tsne, latents, spec.dimensions, spec.neighbours, spec.seed, start)
    parameters = {
        "n_neighbors": spec.neighbours,
        "n_components": spec.dimensions,
        "min_dist": spec.min_dist,
        "random_state": spec.seed,
    }
    return process.do(map_worker.reduce, latents, parameters, start)


def _with_progress(
    steps: Generator[tuple[int, int], None, T], stage: str, umap: bool, process: Worker
) -> Generator[Progress, None, T]:
    with closing(steps):
        while True:
            try:
                done, total = next(steps)
            except StopIteration as end:
                return end.value
            compiling = umap and not process.compiled and not total
            yield Progress(COMPILING if compiling else stage, done, total)


KEPT_SETS = 32  # of people's own pictures, whose files may be gone by then


class Maps:
    """The maps of one VLM; the last ones, and their latents, are kept: up to KEPT bytes, but always the newest."""

    def __init__(self, vlm: VLM) -> None:
        self.vlm = vlm
        self._data = Recent[MapSpec, MapData](KEPT, attrgetter("bytes"))
        self._maps = Recent[MapSpec, LatentMap](KEPT, attrgetter("bytes"))
        self._own = Recent[str, FilePictures](KEPT_SETS)

    def bring(self, pictures: FilePictures) -> str:
        """Keeps a person's own pictures for `extract`; returns the id that a spec names them by."""
        self._own[pictures.id] = pictures
        return pictures.id

    def extract(self, spec: MapSpec) -> Generator[Progress, None, None]:
        """Computes a spec's latents where they are not stored."""
        if spec.latents_spec not in self._data:
            warm(spec.method == "umap")
            own = self._own.get(spec.pictures)
            if spec.pictures and own is None:
                raise InputError("these pictures are no longer kept: choose them again.")
            self._data[spec.latents_spec] = yield from extract(self.vlm, spec.latents_spec, own)

    def fit(self, spec: MapSpec) -> Generator[Progress, None, None]:
        """Fits the map where it is not stored, from latents that are. Raises InputError where they are not."""
        if spec not in self._maps:
            data = self._data.get(spec.latents_spec)
            if data is None:
                raise InputError("the latents of this map are no longer kept: draw it again.")
            self.add((yield from fit(data, spec)))

    def add(self, latent_map: LatentMap) -> None:
        """Keeps a map and its latents, as if they had been made here."""
        self._data[latent_map.spec.latents_spec] = latent_map.data
        self._maps[latent_map.spec] = latent_map

    def find(self, spec: MapSpec | None) -> LatentMap:
        """A map that was drawn. Raises InputError where it is no longer kept."""
        if spec is None:
            raise InputError("draw a map first.")
        if spec not in self._maps:
            raise InputError("this map is no longer kept: draw it again.")
        return self._maps[spec]

    def by_id(self, spec_id: str) -> LatentMap | None:
        """The map whose spec has that id, if it is kept."""
        return next((latent_map for spec, latent_map in list(self._maps.items()) if spec.id == spec_id), None)

    def project(self, spec: MapSpec, image: Tensor) -> Projected:
        """Where an image belongs on a map that was drawn.

        Args:
            spec: The map's.
            image: (3, H, W) in [0, 1], sides multiples of 28.
        """
        latent_map = self.find(spec)
        height, width = image.shape[-2] // PATCH, image.shape[-1] // PATCH
        cells = np.indices((height, width)).reshape(1, 2, -1).transpose(0, 2, 1) if spec.tokens else None
        latents = rows_at(self.vlm, image, spec.points, cells)
        places = {point: layer.project(latents[point]) for point, layer in latent_map.layers.items()}
        return Projected(latents, places, height // 2 * width + width // 2 if spec.tokens else 0)
