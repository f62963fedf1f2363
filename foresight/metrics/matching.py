"""Which object of a scene failed, and where in the picture objects fail.

Shapes: N objects of a scene, H × W pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from foresight.data.factors import SIZES

ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")  # thirds of the picture
CELLS = 28  # a side of the plane that a heat map shows: 8 px each at 224²


@dataclass(frozen=True)
class ObjectScore:
    """One object of a scene and how well it came through.

    size: by the names in SIZES. position: the third of the picture that its centre lies in, such as "top left".
    iou: of its visible part with the pixels found nearest to it; None where the picture has no mask IoU.
    lpips: the spatial LPIPS, mean over its visible part; None where nothing of it is visible.
    """

    shape: str
    color: str
    size: str
    position: str
    iou: float | None
    lpips: float | None


class Territories(NamedTuple):
    """Which object of a scene each pixel belongs to, by number from 1.

    visible: (H, W) int, whose visible part it is; 0 where it shows none. nearest: (H, W) int, whose visible part is
    nearest to it; one of several that are as near. areas: (N,) int, pixels of each visible part.
    """

    visible: np.ndarray
    nearest: np.ndarray
    areas: np.ndarray


def territories(visible: Tensor) -> Territories:
    """Of N objects, by what is in view of each: (N, H, W) bool, no pixel of two."""
    owners = np.zeros(visible.shape[1:], dtype=int)
    for number, pixels in enumerate(visible.numpy(), 1):
        owners[pixels] = number
    areas = _sums(owners, len(visible))
    if np.count_nonzero(areas) > 1:
        rows, columns = distance_transform_edt(owners == 0, return_distances=False, return_indices=True)
        nearest = owners[rows, columns]
    else:  # all pixels are nearest to one object alone
        nearest = np.full_like(owners, owners.max())
    return Territories(owners, nearest, areas)


def score_objects(
    scene: dict[str, Any], parts: Territories, mask: Tensor | None, lpips_map: Tensor
) -> tuple[ObjectScore, ...]:
    """Scores each object of a described scene.

    parts: of its objects. mask: (H, W) bool, the objects found in the reconstruction, told apart by which object they
    are nearest to; None where they cannot be. lpips_map: (H, W).
    """
    areas, count = parts.areas, len(parts.areas)
    lpips = _sums(parts.visible, count, lpips_map.numpy()) / areas.clip(1)
    ious: Iterable[float | None] = repeat(None, count)
    if mask is not None:
        overlaps, claimed = (_sums(owners[mask.numpy()], count) for owners in (parts.visible, parts.nearest))
        ious = (overlaps / (areas + claimed - overlaps).clip(1)).tolist()
    return tuple(
        ObjectScore(
            shape=item["shape"],
            color=item["color"],
            size=size_name(item["radius"]),
            position=position_name(item["x"], item["y"]),
            iou=iou if in_view else None,
            lpips=distance if in_view else None,
        )
        for item, in_view, iou, distance in zip(scene["objects"], areas.tolist(), ious, lpips.tolist(), strict=True)
    )


def _sums(owners: np.ndarray, count: int, values: np.ndarray | None = None) -> np.ndarray:
    """(N,): the sum of values over the pixels of each of `count` objects, or how many these are."""
    return np.bincount(owners.ravel(), None if values is None else values.ravel(), count + 1)[1:]


def size_name(radius: float) -> str:
    """The name in SIZES of a radius, given as a fraction of the shorter side."""
    return next((name for name, (_, top) in SIZES.items() if radius * 224 < top), "large")


def position_name(x: float, y: float) -> str:
    """The third of the picture, across and down, that a place (fractions) lies in: "top left", "middle centre"."""
    third = [min(2, int(v * 3)) for v in (y, x)]
    return f"{ROWS[third[0]]} {COLUMNS[third[1]]}"


def plane(original: Tensor, reconstruction: Tensor, scored: bool = True) -> Tensor:
    """Masks (H, W) bool → (2, CELLS, CELLS): the share of each cell that both cover, and that either does.

    The sum over pictures of the first, over that of the second, is the IoU at each place of the picture.
    scored: whether the picture has a mask IoU; zeros where it has none.
    """
    cells = torch.stack([original & reconstruction, original | reconstruction]).float()
    return F.adaptive_avg_pool2d(cells, CELLS) * scored
