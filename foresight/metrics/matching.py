"""Which object of a scene failed, and where in the picture objects fail.

Shapes: N objects of a scene, H × W pixels.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from foresight.data.factors import SIZES
from foresight.metrics.masks import mask_iou

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


def score_objects(
    scene: dict[str, Any], visible: Tensor, mask: Tensor | None, lpips_map: Tensor
) -> tuple[ObjectScore, ...]:
    """Scores each object of a described scene.

    visible: (N, H, W) bool, what is in view of each object, no pixel of two. mask: (H, W) bool, the objects found in
    the reconstruction, told apart by which object they are nearest to; None where they cannot be. lpips_map: (H, W).
    """
    ious = [None] * len(visible) if mask is None else _ious(visible, mask)
    return tuple(
        ObjectScore(
            shape=item["shape"],
            color=item["color"],
            size=size_name(item["radius"]),
            position=position_name(item["x"], item["y"]),
            iou=iou,
            lpips=float(lpips_map[pixels].mean()) if pixels.any() else None,
        )
        for item, pixels, iou in zip(scene["objects"], visible, ious, strict=True)
    )


def _ious(visible: Tensor, mask: Tensor) -> list[float | None]:
    in_view = visible.flatten(1).any(1)
    nearest = in_view.int().argmax()  # all pixels are nearest to one object alone
    if in_view.sum() > 1:
        nobody = ~visible.any(0).numpy()
        rows, columns = distance_transform_edt(nobody, return_distances=False, return_indices=True)
        nearest = visible.byte().max(0).indices[rows, columns]  # (H, W): whose the nearest visible pixel is
    parts = mask & (nearest == torch.arange(len(visible))[:, None, None])
    ious = mask_iou(visible, parts).tolist()
    return [iou if seen else None for iou, seen in zip(ious, in_view.tolist(), strict=True)]


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
