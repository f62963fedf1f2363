"""What a score is worth: the blank page, the training images, and the oracle that scores are set beside.

The oracle is the VAE's own round trip, the ceiling of every score.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

LOWER_IS_BETTER = ("lpips", "object_lpips", "object_error", "no_object")  # of all other scores more is better
SEED_TARGETS = {"lpips": 0.35, "ssim": 0.75, "mask_iou": 0.60}  # the seed study's: LPIPS below, others above


def meets_target(name: str, value: float) -> bool:
    """Whether a score reaches the seed study's target: LPIPS below it, the others above."""
    return value < SEED_TARGETS[name] if name in LOWER_IS_BETTER else value > SEED_TARGETS[name]


def gain(name: str, score: Any, blank: Any) -> Any:
    """How much better a score is than the blank page's, numbers or arrays: above 0 is better, whichever score it is."""
    return blank - score if name in LOWER_IS_BETTER else score - blank


def skill(name: str, score: float | None, blank: float | None, oracle: float | None) -> float | None:
    """The share of the oracle's gain on the blank page: 0 is a blank page, 1 all that the VAE could give.

    Args:
        name: the score's; of LPIPS less is better, of all others more.
        score, blank, oracle: of an image, or means over the same images.

    Returns:
        None where one of them is None, or where the oracle is no better than the blank page, so that nothing could be
        gained.
    """
    if score is None or blank is None or oracle is None:
        return None
    most = gain(name, oracle, blank)
    return float(gain(name, score, blank) / most) if most > 0 else None


def skill_of_means(name: str, scores: ArrayLike, blank: ArrayLike, oracle: ArrayLike) -> float | None:
    """The `skill` of means over the images that have the score in all three.

    Args:
        name: the score's.
        scores, blank, oracle: (N,) or, by adapters of several seeds, (S, N); NaN or None where there is no score.
    """
    samples = [np.atleast_2d(np.asarray(x, dtype=np.float64)) for x in (scores, blank, oracle)]
    known = np.all([np.isfinite(x).all(0) for x in samples], axis=0)  # (N,)
    return skill(name, *(float(x[:, known].mean()) for x in samples)) if known.any() else None


@dataclass(frozen=True)
class TrainingBaselines:
    """What a model that knows nothing but its training images could answer.

    images: (N, 3, H, W) in [0, 1].
    """

    images: Tensor

    @cached_property
    def mean(self) -> Tensor:
        """The training images' mean (3, H, W)."""
        return self.images.mean(0)

    def nearest(self, originals: Tensor) -> Tensor:
        """The training image of least squared distance to each of the originals (B, 3, H, W) themselves.

        No answer out of a perfect memory, without imagination, could be nearer.
        """
        return self.images[(self._squares - 2 * (originals.flatten(1) @ self.images.flatten(1).T)).argmin(1)]

    @cached_property
    def _squares(self) -> Tensor:
        return self.images.flatten(1).square().sum(1)
