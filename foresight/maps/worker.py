"""Fitting of maps in processes of their own.

By hand rather than by concurrent.futures or loky: those wait at the app's end for the task under way, and Numba's
compiling cannot be interrupted; a daemon ends with the app. They have no progress and no stop either.

Numba compiles UMAP in 10 to 40 s and holds Python's lock all the while: a server that did it would answer nobody. A
process is begun when a map is first asked for, and kept for the next one. Only this module and `separability` are
imported there, so that it is small and soon ready.
"""

import os
import pickle
import re
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from foresight.errors import InputError
from foresight.maps.separability import Array, Silhouette, cluster, nearest, silhouettes, unit
from foresight.paths import check_output

T = TypeVar("T")

KEPT = 2  # idle processes; more are begun where more is asked for at the same time
_TICK = 0.25  # seconds between two reports of progress
# Seconds in which a process tells that it has stopped; compiling, seeking neighbours and by t-SNE it hears of nothing.
HEARS = 2.0
_READY, _RESULT, _ERROR = "ready", "result", "error"  # what a process says, beside (done, total)


class Stopped(Exception):
    """The task is to stop."""


@dataclass(frozen=True)
class Meter:
    """Where UMAP's progress bar writes: passes the epoch on, and ends the fit once the other end has sent anything."""

    line: Connection

    def write(self, text: str) -> None:
        if self.line.poll():
            raise Stopped
        if epoch := re.search(r"(\d+)/(\d+)", text):
            self.line.send((int(epoch[1]), int(epoch[2])))

    def flush(self) -> None:
        pass


def reduce(meter: Meter, latents: Array, parameters: dict[str, Any], start: Array | None) -> tuple[bytes, Array]:
    """UMAP fitted to latents (N, D) by the cosine: the pickled reducer, and its coordinates (N, K).

    parameters: UMAP's own. start: (N, K) coordinates to begin from.
    """
    from umap import UMAP

    _compile()  # where it is not: a fit that compiles would tell of no epoch and hear of no stop
    bar = {"file": meter, "bar_format": "{n}/{total}", "mininterval": _TICK, "disable": False}
    init = "spectral" if start is None else start
    reducer = UMAP(**parameters, metric="cosine", init=init, n_jobs=1, tqdm_kwds=bar)  # a seed asks for one job anyway
    reducer.fit(latents)
    reducer.tqdm_kwds = {"disable": True}
    return pickle.dumps(reducer), reducer.embedding_


def reduce_pca(meter: Meter, latents: Array, dimensions: int) -> tuple[bytes, Array]:
    """As `reduce`, the principal components of latents at length 1."""
    from sklearn.decomposition import PCA

    reducer = PCA(dimensions, random_state=0).fit(unit(latents))
    projection = Linear(reducer.mean_, reducer.components_)
    return pickle.dumps(projection), projection.transform(latents)


def reduce_tsne(
    meter: Meter, latents: Array, dimensions: int, perplexity: float, seed: int, start: Array | None
) -> tuple[bytes, Array]:
    """As `reduce`, t-SNE by the cosine."""
    from sklearn.manifold import TSNE

    init: Any = (
        "pca" if start is None else (start / start[:, 0].std() * 1e-4).astype(np.float32)
    )  # scikit-learn's spread
    fitted = TSNE(dimensions, perplexity=perplexity, metric="cosine", init=init, random_state=seed)
    coordinates = fitted.fit_transform(latents)
    return pickle.dumps(Neighbours(latents, coordinates)), coordinates


@dataclass(frozen=True)
class Linear:
    """Principal components (K, D) about a mean (D,)."""

    mean: Array
    components: Array

    def transform(self, latents: Array) -> Array:
        return (unit(latents) - self.mean) @ self.components.T


@dataclass(frozen=True)
class Neighbours:
    """Latents (N, D) with their places (N, K); a new one is put at the mean of its nearest. t-SNE has no other way."""

    latents: Array
    places: Array

    def transform(self, latents: Array) -> Array:
        return np.stack([self.places[nearest(self.latents, query, 5)[0]].mean(0) for query in latents])


def transform(meter: Meter, reducer: bytes, latents: Array) -> Array:
    """New latents (M, D) → where a pickled reducer puts them (M, K)."""
    return pickle.loads(reducer).transform(latents)  # our own bytes, made by `reduce`


def group(
    meter: Meter, latents: Array, labels: dict[str, Array], objects: Array, count: int, seed: int
) -> tuple[Array, dict[str, Silhouette | None]]:
    """Clusters of all latents (N, D), and silhouettes of those that show objects: (N,) bool."""
    clusters = cluster(latents, count, seed)
    if objects.sum() < 3:
        return clusters, dict.fromkeys(labels)
    object_labels = {name: column[objects] for name, column in labels.items()}
    return clusters, silhouettes(latents[objects], object_labels, clusters[objects], seed)


class _NoLock:
    """For tqdm, which keeps its lock for ever where a stop ends a bar while it is drawn; here is one bar at a time."""

    def acquire(self, *_: Any, **__: Any) -> bool:
        return True

    def release(self) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def _serve(line: Connection, compiled: bool) -> None:
    """A process's life: one task after another, until nobody is left to ask; compiled: whether UMAP is, first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the app's Ctrl-C is the app's
    os.nice(5)  # a click elsewhere goes first
    tqdm.monitor_interval = 0
    tqdm.set_lock(_NoLock())  # type: ignore[arg-type]
    if compiled:
        _compile()
    with suppress(EOFError, BrokenPipeError), ThreadPoolExecutor(1) as executor:
        while True:
            line.send(_READY)
            task = line.recv()
            if task is None:  # a stop that came when the task was done
                continue
            work, values = task
            future = executor.submit(work, Meter(line), *values)
            error = future.exception()
            if error is None:
                line.send((_RESULT, future.result()))
            elif isinstance(error, Stopped):
                line.recv()
            else:  # raised again where it was asked for, by `Worker.do`
                line.send((_ERROR, (error, "".join(traceback.format_exception(error)))))


@cache
def _compile() -> None:
    from umap import UMAP

    sample = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    UMAP(n_neighbors=4, metric="cosine", random_state=0, n_jobs=1).fit(sample).transform(sample[:1])


@cache
def _numba_folder() -> tempfile.TemporaryDirectory[str] | None:
    """A folder for what Numba compiles, where it can write neither beside UMAP nor into the home: it insists."""
    beside = Path(find_spec("umap").origin).with_name("__pycache__")  # type: ignore[union-attr, arg-type]
    for place in (beside, Path(os.path.expanduser("~/.cache/numba"))):
        with suppress(InputError):
            check_output(place)
            return None
    folder = tempfile.TemporaryDirectory(prefix="foresight-numba-")
    os.environ.setdefault("NUMBA_CACHE_DIR", folder.name)  # read by the processes that are begun from now on
    return folder


class Worker:
    """A process that does one task at a time. compiled: whether UMAP is, once it is ready; if not, by the first fit."""

    def __init__(self, compiled: bool = True) -> None:
        _numba_folder()
        context = get_context("spawn")  # a fork would take over locks that threads of the server hold
        self._line, far_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(far_end, compiled), daemon=True)
        self.process.start()
        far_end.close()
        self.compiled, self._compiles, self._stopped = False, compiled, False

    def do(self, work: Callable[..., T], *values: Any) -> Generator[tuple[int, int], None, T]:
        """What a function of this module, given its meter and `values`, returns there.

        Yields done and total meanwhile, (0, 0) where nobody knows. Closing the generator stops the work: the process
        goes on if it hears of it soon, and else is ended.
        Raises InputError where the process has ended or had too little memory, and whatever else the function raises.
        """
        try:
            yield from self._ready()
            self._line.send((work, values))
            result = yield from self._result()
            self.compiled = self.compiled or work is reduce
            return result
        except (EOFError, OSError) as error:
            self.close()
            raise InputError(f"the process that fits maps has ended ({self._end()}): try again.") from error
        except MemoryError as error:
            raise InputError("this machine's memory does not suffice for the map: take fewer points.") from error

    def _end(self) -> str:
        """How the process ended."""
        self.process.join(1)
        code = self.process.exitcode or 0
        if code == -signal.SIGKILL:
            return "it was killed, perhaps for want of memory: fewer points need less"
        return f"by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _ready(self) -> Iterator[tuple[int, int]]:
        while not self._stopped:
            yield 0, 0
            if self._line.poll(_TICK) and self._line.recv() == _READY:
                self.compiled = self.compiled or self._compiles
                return
        self._stopped = False

    def _result(self) -> Generator[tuple[int, int], None, Any]:
        at = 0, 0
        try:
            while True:
                yield at
                if self._line.poll(_TICK):
                    match self._line.recv():
                        case (kind, result) if kind == _RESULT:
                            return result
                        case (kind, (error, text)) if kind == _ERROR:
                            raise error from RuntimeError(f"in the process that fits maps:\n{text}")
                        case (int(done), int(total)):
                            at = done, total
        except GeneratorExit:
            self._stop()
            raise

    def _stop(self) -> None:
        """Asks the process to end its work, and ends it where it does not hear."""
        end = time.monotonic() + HEARS
        with suppress(EOFError, OSError):
            self._line.send(None)
            while not self._stopped and self._line.poll(max(0.0, end - time.monotonic())):
                self._stopped = self._line.recv() == _READY
        if not self._stopped:
            self.process.terminate()
            self.close()

    @property
    def alive(self) -> bool:
        return self.process.is_alive() and not self._line.closed

    def close(self) -> None:
        """The process ends when it next looks for work."""
        self._line.close()


_idle: list[Worker] = []
_keys = threading.Lock()


def warm(compiled: bool = True) -> None:
    """Begins a process unless one waits: UMAP is compiled, if it will be used, while latents are gathered."""
    with _keys:
        if not _idle:
            _idle.append(Worker(compiled))


@contextmanager
def worker(compiled: bool = True) -> Iterator[Worker]:
    """A process for a while, an idle one where there is one; compiled: whether a new one is to compile UMAP."""
    with _keys:
        _idle[:] = [idle for idle in _idle if idle.alive]
        process = _idle.pop(0) if _idle else Worker(compiled)
    try:
        yield process
    finally:
        with _keys:
            if len(_idle) < KEPT:
                _idle.append(process)
            else:
                process.close()


def at_once(work: Callable[..., T], *values: Any) -> T:
    """What a function of this module returns in such a process."""
    with worker() as process:
        steps = process.do(work, *values)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value
