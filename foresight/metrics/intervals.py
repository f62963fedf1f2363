"""How sure one can be of a mean."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from foresight.errors import InputError

RESAMPLES = 10_000


class Interval(NamedTuple):
    """A mean and the ends of its 95 % interval, which are None where there is one value alone."""

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        """``"0.244 [0.231, 0.256]"``, or ``"0.244 (n = 1)"``."""
        return f"{self.mean:.3f} " + ("(n = 1)" if self.low is None else f"[{self.low:.3f}, {self.high:.3f}]")


def bootstrap(values: Sequence[float] | np.ndarray, seed: int = 0) -> Interval:
    """The mean of values and its 95 % interval: the percentile bootstrap's, over 10,000 resamples.

    Args:
        values: (N,), one for each image that has the score.
        seed: of the resamples.

    Raises:
        InputError: there are no values, or some are not finite.
    """
    [interval] = bootstraps([values], seed)
    return interval


def bootstraps(columns: Iterable[Sequence[float] | np.ndarray], seed: int = 0) -> list[Interval]:
    """The `bootstrap` of each column; those of one length share the resamples, which take most of the time."""
    samples = [np.asarray(column, dtype=np.float64) for column in columns]
    if not all(x.ndim == 1 and len(x) and np.isfinite(x).all() for x in samples):
        raise InputError("an interval needs a list of at least one finite value.")
    ends = {n: iter(_ends(np.stack([x for x in samples if len(x) == n], 1), seed)) for n in {*map(len, samples)}}
    return [Interval(float(x.mean()), *next(ends[len(x)])) for x in samples]


def _ends(values: np.ndarray, seed: int) -> list[list[float | None]]:
    """Low and high of each of C columns (N, C)."""
    length, columns = values.shape
    if length == 1:
        return [[None, None]] * columns
    draw, means = np.random.default_rng(seed), []
    rows = max(1, 4_000_000 // length)  # resamples at a time: 32 MB of indices
    for start in range(0, RESAMPLES, rows):
        resamples = np.arange(min(rows, RESAMPLES - start))[:, None]
        drawn = length * resamples + draw.integers(length, size=(len(resamples), length))
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)  # that each value was drawn
        means.append(times @ values / length)
    return np.quantile(np.concatenate(means), [0.025, 0.975], axis=0).T.tolist()
