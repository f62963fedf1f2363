"""How sure one can be of a mean."""

from collections.abc import Sequence
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
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise InputError("an interval needs a list of at least one finite value.")
    if len(x) == 1:
        return Interval(float(x[0]), None, None)
    from scipy import stats  # here, because it takes half a second

    batch = max(1, 4_000_000 // len(x))  # resamples at a time: 32 MB of indices
    ends = stats.bootstrap((x,), np.mean, n_resamples=RESAMPLES, batch=batch, method="percentile", rng=seed)
    return Interval(float(x.mean()), float(ends.confidence_interval.low), float(ends.confidence_interval.high))
