"""The objects that a decoded image shows, matched with those that it should show."""

import numpy as np
import torch
from torch import Tensor

from foresight.data.scenes import COLORS
from foresight.metrics.masks import UNEVEN_BACKGROUND, foreground

MATCH = 0.5  # least IoU at which two objects count as one, as is usual since PASCAL VOC
LEAST_OBJECT = 30  # pixels: fewer of one colour are no object


def object_scores(images: Tensor, visible: Tensor) -> dict[str, np.ndarray]:
    """Per image (N,): matched IoU, share found, misses and extras.

    images: (N, 3, H, W). visible: masks (N, slots, H, W) bool of the real objects. An object of which fewer than
    LEAST_OBJECT pixels are visible counts as none, in both. NaN where no even background is found in an image: its
    objects cannot be told from it.
    """
    masks, reasons = foreground(images)
    rows: list[tuple[float, ...]] = []
    for image, mask, objects, reason in zip(images, masks, visible, reasons, strict=True):
        if reason == UNEVEN_BACKGROUND:
            rows.append((float("nan"),) * 4)
            continue
        real = objects[objects.flatten(1).sum(1) >= LEAST_OBJECT]
        pairs, missed, extra = match(pairwise_iou(real.cpu(), instances(image, mask).cpu()))
        rows.append((sum(pairs) / len(real), missed, extra, len(pairs) / len(real)))
    names = ("IoU an object, 0 if missed", "missed a picture", "extra a picture", "share found")
    return dict(zip(names, np.array(rows, dtype=np.float64).T, strict=True))


def instances(image: Tensor, mask: Tensor) -> Tensor:
    """The objects of an image: (3, H, W) in [0, 1] and its foreground (H, W) bool → (n, H, W) bool.

    An object is a connected part of the foreground in which one colour of the scenes' palette is the nearest.
    """
    from scipy.ndimage import label

    palette = torch.tensor(list(COLORS.values()), device=image.device) / 255
    nearest = (image[None] - palette[:, :, None, None]).square().sum(1).argmin(0)  # (H, W)
    colours, covered = nearest.cpu().numpy(), mask.cpu().numpy()
    objects = []
    for colour in np.unique(colours[covered]):
        parts, count = label(covered & (colours == colour))
        objects += [part for part in (parts == k for k in range(1, count + 1)) if part.sum() >= LEAST_OBJECT]
    return torch.from_numpy(np.stack(objects)) if objects else torch.zeros(0, *mask.shape, dtype=torch.bool)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every mask in (n, H, W) with every one in (m, H, W), both bool: (n, m)."""
    x, y = a.flatten(1).float(), b.flatten(1).float()
    shared = x @ y.T
    return shared / (x.sum(1)[:, None] + y.sum(1)[None] - shared).clamp(min=1)


def match(iou: Tensor) -> tuple[list[float], int, int]:
    """Objects (n) against found ones (m) by the assignment of largest total IoU (Kuhn 1955), from IoU (n, m).

    Returns the IoU of each pair of at least `MATCH`, how many objects were missed, and how many found are extra.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(iou.cpu().numpy(), maximize=True)
    good = [float(iou[r, c]) for r, c in zip(rows, columns, strict=True) if iou[r, c] >= MATCH]
    return good, iou.shape[0] - len(good), iou.shape[1] - len(good)
