"""Whether an adapter has learned pictures like one, and how well its distance tells which ones it reads wrong."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

READ_WRONG = 0.35  # LPIPS; a picture with more counts as read wrong. The seed study's target.


def unfamiliar(distance: float, far: float, lpips: float | None) -> bool:
    """Whether a picture's scores speak of the adapter more than of the latents, so that a person should be warned.

    Its latents are unlike those that the adapter was trained on, and it is read wrong: one that is read right needs no
    warning, since the adapter serves there too.
    """
    return distance > far and lpips is not None and lpips > READ_WRONG


@dataclass(frozen=True)
class Separation:
    """How well distances tell pictures that are read wrong (LPIPS beyond a bar) from the others.

    auc: the probability that of two pictures, one read wrong and one right, the wrong one is farther; None where all
    are of one kind. pictures, wrong: how many. missed: read wrong within the limit; alarms: read right beyond it.
    """

    auc: float | None
    pictures: int
    wrong: int
    missed: int
    alarms: int


def separation(rows: Iterable[tuple[float, float, float]], bar: float = READ_WRONG) -> Separation:
    """Of pictures' (distance, far, LPIPS)."""
    from sklearn.metrics import roc_auc_score

    distance, far, lpips = np.array([*rows], dtype=np.float64).reshape(-1, 3).T
    wrong, beyond = lpips > bar, distance > far
    two_classes = 0 < wrong.sum() < len(wrong)
    return Separation(
        auc=float(roc_auc_score(wrong, distance)) if two_classes else None,
        pictures=len(wrong),
        wrong=int(wrong.sum()),
        missed=int((wrong & ~beyond).sum()),
        alarms=int((~wrong & beyond).sum()),
    )
