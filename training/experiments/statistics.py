"""How sure one can be of a mean or of a difference.

Shapes: S seeds, N images. A score's samples are (S, N): the same images by adapters of several seeds.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np

from foresight.errors import InputError
from foresight.metrics.baselines import gain
from foresight.study import Verdict
from training.experiments.experiment import ScoreTable

RESAMPLES = 4000
MARGIN = 0.01  # LPIPS: what differs by less counts as equal; set before any run

Interval = list[float]  # mean, low, high


@lru_cache(maxsize=16)
def _draws(count: int, seed: int) -> np.ndarray:
    """(RESAMPLES, count): how often each of `count` is drawn, as shares."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES) / count


def interval(samples: np.ndarray | Sequence[float]) -> Interval:
    """Mean and 95 % interval of samples (S, N) or (N,): bootstrap over images and, where S > 1, over seeds.

    Both are drawn with replacement, each of 4,000 times anew. Three seeds are few: where most of the spread is between
    them, such intervals hold the truth in about 75 of 100 cases, and in 93 where images differ more. Raises
    InputError on no values or NaN.
    """
    x = np.atleast_2d(np.asarray(samples, dtype=np.float64))
    if not x.size or not np.isfinite(x).all():
        raise InputError("an interval needs at least one finite value.")
    low, high = np.quantile(_resampled_means(x), [0.025, 0.975])
    return [float(x.mean()), float(low), float(high)]


def _resampled_means(x: np.ndarray) -> np.ndarray:
    """(RESAMPLES,): means of samples (S, N), the same images and seeds for all samples of one shape."""
    of_seeds, of_images = (_draws(n, k) for k, n in enumerate(x.shape))
    return ((of_images @ x.T) * of_seeds).sum(1)


def finite(samples: np.ndarray) -> Interval | None:
    """The interval over the images that have this score with every seed; None where fewer than two have."""
    x = np.atleast_2d(samples)
    x = x[:, np.isfinite(x).all(0)]
    return interval(x) if x.shape[1] > 1 else None


def paired(a: np.ndarray, b: np.ndarray) -> Interval:
    """`interval` of a - b, (S, N) of the same images and seeds; of other numbers of seeds, their means are compared."""
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        a = a.mean(0, keepdims=True)
    return interval(a - b)


def skill_interval(name: str, own: np.ndarray, blank: np.ndarray, oracle: np.ndarray) -> Interval | None:
    """The `skill` of mean scores, with its 95 % bootstrap interval.

    The ratio itself is bootstrapped, both means over the same images and seeds, so that what equals the oracle has
    exactly [1, 1, 1].

    Args:
        name: the score's.
        own: samples (S, N); blank, oracle: (1, N) or (S, N) of the same images. Images without one of the three are
            left out.

    Returns:
        None where fewer than two images have all three, or where it is not certain that the oracle is better than the
        blank page: a ratio by what may be nothing has no interval.
    """
    gains, most = (np.broadcast_to(gain(name, x, blank), np.atleast_2d(own).shape) for x in (own, oracle))
    known = np.isfinite(gains).all(0) & np.isfinite(most).all(0)
    if known.sum() < 2:
        return None
    gains, most = gains[:, known], most[:, known]
    if interval(most)[1] <= 0:
        return None
    low, high = np.quantile(_resampled_means(gains) / _resampled_means(most), [0.025, 0.975])
    return [float(gains.mean() / most.mean()), float(low), float(high)]


def skill_draws(name: str, own: np.ndarray, blank: np.ndarray, oracle: np.ndarray) -> tuple[float, np.ndarray]:
    """The `skill` of mean scores, and what it is of 4,000 bootstrap samples: the same for all of one shape (S, N)."""
    shape = np.atleast_2d(own).shape
    gains, most = (np.broadcast_to(gain(name, x, blank), shape) for x in (own, oracle))
    return float(gains.mean() / most.mean()), _resampled_means(gains) / _resampled_means(most)


def shapley(player: int, players: int, values: Mapping[frozenset[int], Any]) -> Any:
    """A player's Shapley value, of numbers or arrays of them by subset: what it adds, averaged over all orders."""
    others, total = [k for k in range(players) if k != player], 0.0
    for size in range(players):
        weight = 1 / (players * math.comb(players - 1, size))
        for subset in map(frozenset, combinations(others, size)):
            total = total + weight * (values[subset | {player}] - values[subset])
    return total


def shapley_interval(
    player: int, players: int, means: Mapping[frozenset[int], float], draws: Mapping[frozenset[int], np.ndarray]
) -> Interval:
    """A player's Shapley value with its 95 % interval, of values and their bootstrap samples by subset."""
    low, high = np.quantile(shapley(player, players, draws), [0.025, 0.975])
    return [float(shapley(player, players, means)), float(low), float(high)]


def best(scores: ScoreTable) -> str:
    """The condition of least LPIPS."""
    return min(scores, key=lambda name: scores[name]["lpips"].mean())


def saturation(samples: Sequence[np.ndarray], margin: float) -> int | None:
    """The number of the first setting from which on nothing better comes, or None where that is only the last.

    samples: a score to be low (S, N) for each setting in rising order. The rule: the first whose paired
    difference to the best setting has a 95 % interval that ends under `margin`.
    """
    best = min(range(len(samples)), key=lambda k: samples[k].mean())
    for k, values in enumerate(samples):
        if k == best or paired(values, samples[best])[2] < margin:
            return k if k < len(samples) - 1 else None
    raise AssertionError("the best setting is among them")


def verdict(*differences: Interval, margin: float = MARGIN) -> Verdict:
    """Whether "the first is better" holds, from intervals of first minus others of a score that is to be low.

    Better by less than `margin` is no better: the claim holds where all are certainly below -margin, and does not where
    one is certainly above it.
    """
    if all(high < -margin for _, _, high in differences):
        return "holds"
    return "does not hold" if any(low > -margin for _, low, _ in differences) else "open"


def converged(half: Interval, full: Interval, against_linear: Sequence[Interval]) -> bool:
    """Whether a difference between two trained adapters may be reported, or is open until both learn for longer.

    More steps, twice as many or more, must move it by less than 0.001 or a tenth of itself, and both adapters must
    beat the linear probe of their point, which is solved and so converged at any budget.

    Args:
        half, full: the paired difference in LPIPS with at most half the steps and with all.
        against_linear: for each of the two adapters, its LPIPS minus the linear probe's, paired.
    """
    settled = abs(full[0] - half[0]) < max(0.001, 0.1 * abs(full[0]))
    return settled and all(high < 0 for _, _, high in against_linear)
