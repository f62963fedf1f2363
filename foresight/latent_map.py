"""Latents of many scenes as a map: UMAP in two or three dimensions, a layer for each point, turned onto each other.

Shapes: N points on the map, D numbers a latent, K dimensions.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from foresight.errors import InputError
from foresight.images import PATCH
from foresight.map_data import Gathered, MapSpec, Progress, gather, rows_of
from foresight.separation import Array, Silhouette, cluster, nearest, silhouettes
from foresight.vlm import VLM

T = TypeVar("T")

KEPT = 6  # maps, and latents of as many, that are kept
_TICK = 0.25  # seconds between two reports of progress


@dataclass(frozen=True)
class Layer:
    """The map at one point, and what was found there.

    reducer: the fitted UMAP; its own coordinates c are (c - shift) / scale @ turn here. coordinates: (N, K)
    float32 around 0, of mean square 1 a dimension. change: Procrustes' disparity from the layer before, 0 is
    the same map and 1 nothing in common; None for the first. clusters: (N,) numbers from 0. silhouettes: by label.
    """

    reducer: Any
    shift: Array
    scale: float
    turn: Array
    coordinates: Array
    change: float | None
    clusters: Array
    silhouettes: dict[str, Silhouette | None]

    def project(self, latents: Array) -> Array:
        """New latents (M, D) → where they belong on this map (M, K)."""
        found = self.reducer.transform(latents)
        return (((found - self.shift) / self.scale) @ self.turn).astype(np.float32)


@dataclass(frozen=True)
class LatentMap:
    """Layers by point, in order of depth, of the same scenes or tokens."""

    spec: MapSpec
    data: Gathered
    layers: dict[str, Layer]

    def neighbours(self, point: str, of: int | Projected, count: int) -> tuple[Array, Array]:
        """The points whose latents are nearest at an extraction point: indices and cosines, best first.

        of: a point of the map, whose own scene is left out; or a picture that was projected in.
        """
        latents = self.data.latents[point]
        if isinstance(of, Projected):
            return nearest(latents, of.latents[point][of.middle], count)
        return nearest(latents, latents[of], count, self.data.rows == self.data.rows[of])


@dataclass(frozen=True)
class Projected:
    """A new picture on a map: latents (M, D) and places (M, K) by point; M is 1, or its tokens.

    middle: the one that stands for the picture, which of tokens is that at its centre.
    """

    latents: dict[str, Array]
    places: dict[str, Array]
    middle: int


class Stopped(Exception):
    """Fitting was told to stop."""


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


class _Meter:
    """Where UMAP's progress bar writes: keeps the epoch, and ends the fit once `stop` is set."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop, self.done, self.total = stop, 0, 0

    def write(self, text: str) -> None:
        if self.stop.is_set():
            raise Stopped
        if found := re.search(r"(\d+)/(\d+)", text):
            self.done, self.total = int(found[1]), int(found[2])

    def flush(self) -> None:
        pass


def _reduce(latents: Array, spec: MapSpec, start: Array | None, meter: _Meter) -> Any:
    """UMAP fitted to latents (N, D) by the cosine. start: (N, K) coordinates to begin from."""
    from tqdm import tqdm
    from umap import UMAP

    compile_umap()
    bar = {"file": meter, "bar_format": "{n}/{total}", "mininterval": _TICK, "disable": False}
    reducer = UMAP(
        n_neighbors=spec.neighbours,
        n_components=spec.dimensions,
        min_dist=spec.min_dist,
        metric="cosine",
        init="spectral" if start is None else start,
        random_state=spec.seed,
        n_jobs=1,  # what a seed asks for anyway
        tqdm_kwds=bar,
    )
    try:
        reducer.fit(latents)
    except Stopped:
        with suppress(RuntimeError):  # not held; but as a rule tqdm keeps its lock where a write fails
            tqdm.get_lock().release()
        raise
    reducer.tqdm_kwds = {"disable": True}
    return reducer


@cache
def compile_umap() -> None:
    """Has UMAP compiled, once in a process: about 10 s, which a thread may begin while latents are gathered."""
    with _COMPILING:
        from umap import UMAP

        few = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
        UMAP(n_neighbors=4, metric="cosine", random_state=0, n_jobs=1).fit(few).transform(few[:1])


_COMPILING = threading.Lock()


def fit(data: Gathered, spec: MapSpec) -> Generator[Progress, None, LatentMap]:
    """Draws the map of gathered latents at all points, with the same seed; returns it.

    Every layer begins where the one before has put its points, and is then turned onto it: so what moves from
    layer to layer has moved in the latents. Closing the generator stops the fit.
    """
    layers: dict[str, Layer] = {}
    before: Array | None = None
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        try:
            for number, (point, latents) in enumerate(data.latents.items(), 1):
                stage = f"fitting the map at {point}, layer {number} of {len(data.latents)}"
                meter = _Meter(stop)
                reducer = yield from _watch(pool.submit(_reduce, latents, spec, before, meter), stage, meter)
                shift, scale, turn, before, change = align(reducer.embedding_, before)
                found = pool.submit(_groups, latents, data, spec)
                clusters, told = yield from _watch(found, f"silhouettes and clusters at {point}", _Meter(stop))
                layers[point] = Layer(reducer, shift, scale, turn, before, change, clusters, told)
        finally:
            stop.set()
    return LatentMap(spec, data, layers)


def _groups(latents: Array, data: Gathered, spec: MapSpec) -> tuple[Array, dict[str, Silhouette | None]]:
    clusters = cluster(latents, spec.clusters, spec.seed)
    return clusters, silhouettes(latents, data.labels, clusters, spec.seed)


def _watch(job: Future[T], stage: str, meter: _Meter) -> Generator[Progress, None, T]:
    while not job.done():
        yield Progress(stage, meter.done, meter.total)
        wait([job], _TICK)
    return job.result()


class Maps:
    """The maps of one VLM; the last few, and their latents, are kept."""

    def __init__(self, vlm: VLM) -> None:
        self.vlm = vlm
        self._data: OrderedDict[MapSpec, Gathered] = OrderedDict()
        self._maps: OrderedDict[MapSpec, LatentMap] = OrderedDict()

    def gather(self, spec: MapSpec) -> Iterator[Progress]:
        """Makes sure that a spec's latents are at hand."""
        if spec.gathered not in self._data:
            threading.Thread(target=compile_umap, daemon=True).start()
            _keep(self._data, spec.gathered, (yield from gather(self.vlm, spec.gathered)))

    def fit(self, spec: MapSpec) -> Iterator[Progress]:
        """Makes sure that the map is at hand, from latents that are. Raises InputError where they are not."""
        if spec not in self._maps:
            data = self._data.get(spec.gathered)
            if data is None:
                raise InputError("the latents of this map are no longer kept: draw it again.")
            _keep(self._maps, spec, (yield from fit(data, spec)))

    def find(self, spec: MapSpec | None) -> LatentMap:
        """A map that was drawn. Raises InputError where it is no longer kept."""
        if spec is None:
            raise InputError("draw a map first.")
        if spec not in self._maps:
            raise InputError("this map is no longer kept: draw it again.")
        self._maps.move_to_end(spec)
        return self._maps[spec]

    def named(self, name: str) -> LatentMap | None:
        """The map whose spec has that id, if it is kept."""
        return next((found for spec, found in list(self._maps.items()) if spec.id == name), None)

    def project(self, spec: MapSpec, picture: Tensor) -> Projected:
        """Where a picture (3, H, W) in [0, 1], sides multiples of 28, belongs on a map that was drawn."""
        found = self.find(spec)
        height, width = picture.shape[-2] // PATCH, picture.shape[-1] // PATCH
        cells = np.indices((height, width)).reshape(1, 2, -1).transpose(0, 2, 1) if spec.tokens else None
        taken = self.vlm.latents(picture[None], spec.points)
        latents = {point: rows_of(taken[point], point, cells) for point in spec.points}
        places = {point: layer.project(latents[point]) for point, layer in found.layers.items()}
        return Projected(latents, places, height // 2 * width + width // 2 if spec.tokens else 0)


def _keep(kept: OrderedDict[MapSpec, T], spec: MapSpec, value: T) -> None:
    kept[spec] = value
    while len(kept) > KEPT:
        kept.popitem(last=False)
