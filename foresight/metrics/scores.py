"""All scores of reconstructions against their originals.

Images are (B, 3, H, W) sRGB in [0, 1]; scores are taken at that size.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from foresight.data.images import load_image, to_tensor
from foresight.errors import InputError
from foresight.metrics.edges import edge_f1, edges
from foresight.metrics.fidelity import psnr, size_text, ssim
from foresight.metrics.masks import EMPTY_MASK, foreground, mask_iou, why_no_iou
from foresight.metrics.perceptual import haarpsi, lpips_model

SCORES = ("lpips", "haarpsi", "ssim", "psnr", "mask_iou", "edge_f1")

Scores = dict[str, float | None]  # of one image, by the names in SCORES; None where there is none


@dataclass(frozen=True)
class Comparison:
    """What sets B reconstructions apart from their originals.

    scores: by the names in SCORES, each (B,) float32; mask_iou is NaN where there is a reason, edge_f1 where the
    caller gave the objects, which mask_iou compares.
    lpips_map: (B, H, W), the spatial LPIPS. masks: (B, H, W) bool, the objects found in the reconstructions.
    reasons: None, or why there is no mask IoU, for each of the B reconstructions: that of its original, or
    `masks.NOT_MEASURABLE`.
    """

    scores: dict[str, Tensor]
    lpips_map: Tensor
    masks: Tensor
    reasons: list[str | None]

    def rows(self) -> list[Scores]:
        """The scores of each reconstruction."""
        columns = [self.scores[name].tolist() for name in SCORES]
        return [
            {name: None if value != value else value for name, value in zip(SCORES, values, strict=True)}
            for values in zip(*columns, strict=True)
        ]


class Originals:
    """Images that reconstructions are compared with; what is computed of them alone is computed once.

    masks: (B, H, W) bool, the objects that they show. reasons: None, or why there is no mask, for each.
    """

    @torch.no_grad()
    def __init__(self, images: Tensor, masks: Tensor | None = None) -> None:
        """Takes features and masks of the originals.

        Args:
            images: (B, 3, H, W) in [0, 1].
            masks: (B, H, W) bool, the renderer's; None: what `foreground` finds in the images.

        Raises:
            InputError: a shape, a dtype or a value is not as said, or a side is under 11 pixels.
        """
        _check(images)
        if masks is not None and (masks.dtype != torch.bool or masks.shape != images[:, 0].shape):
            raise InputError(f"masks must be bool {tuple(images[:, 0].shape)}, not {masks.dtype} {tuple(masks.shape)}.")
        self.images = images.float()
        self.masks: Tensor
        self.reasons: list[str | None]
        with torch.autocast(images.device.type, enabled=False):
            self._features = lpips_model(images.device).features(self.images)
            if masks is None:
                self.masks, self.reasons = foreground(self.images)
                self._has_edges = torch.ones(len(images), dtype=torch.bool, device=images.device)
            else:
                self._has_edges = ~masks.flatten(1).any(1)
                self.masks, self.reasons = masks, [EMPTY_MASK if none else None for none in self._has_edges.tolist()]

    @torch.no_grad()
    def compare(self, reconstructions: Tensor) -> Comparison:
        """All scores of reconstructions, in one batch.

        The objects of a reconstruction are always those that `foreground` finds: none on an even background, where the
        original has some, is an IoU of 0; without such a background it cannot be measured.

        Args:
            reconstructions: (B, 3, H, W) in [0, 1], one of each original; or all of one original, or one of all.

        Raises:
            InputError: their number or size is another, or values are outside [0, 1].
        """
        _check(reconstructions)
        given, originals = len(reconstructions), len(self.images)
        if self.images.shape[-2:] != reconstructions.shape[-2:]:
            raise InputError(f"the pictures differ in size: {size_text(self.images)} and {size_text(reconstructions)}.")
        if given != originals and 1 not in (given, originals):
            raise InputError(f"{given} reconstructions need 1 or {given} originals, not {originals}.")
        x, count = reconstructions.float(), max(given, originals)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 is too coarse for SSIM's variances
            lpips = lpips_model(x.device)
            features = lpips.features(x)
            masks, uneven = foreground(x)
            pairs = zip(self.reasons * (count // originals), uneven * (count // given), strict=True)
            reasons = [why_no_iou(*pair) for pair in pairs]
            missing = torch.tensor([reason is not None for reason in reasons], device=masks.device)
            scores = {
                "lpips": lpips.distance(self._features, features),
                "haarpsi": haarpsi(self.images, x),
                "ssim": ssim(self.images, x),
                "psnr": psnr(self.images, x),
                "mask_iou": mask_iou(self.masks, masks).masked_fill(missing, torch.nan),
                "edge_f1": self._edge_f1(x, count),
            }
            size = x.shape[2], x.shape[3]
            lpips_map = lpips.spatial(self._features, features, size)
            return Comparison(scores, lpips_map, masks.expand(count, -1, -1), reasons)

    def _edge_f1(self, reconstructions: Tensor, count: int) -> Tensor:
        """(B,); NaN where the objects were given, without looking for edges: a CPU takes 6 ms for those of an image."""
        chosen = self._has_edges.expand(count)
        scores = torch.full((count,), torch.nan, device=reconstructions.device)
        if chosen.any():
            compared = reconstructions if len(reconstructions) == 1 else reconstructions[chosen]
            scores[chosen] = edge_f1(self._edges, edges(compared))
        return scores

    @cached_property
    def _edges(self) -> Tensor:
        """Those of the originals whose objects were not given."""
        return edges(self.images[self._has_edges])


def compare(originals: Tensor, reconstructions: Tensor, masks: Tensor | None = None) -> Comparison:
    """All scores of reconstructions (B or 1, 3, H, W) against originals (B or 1, 3, H, W) and their masks, if known.

    Raises:
        InputError: as `Originals` and its `compare`.
    """
    return Originals(originals, masks).compare(reconstructions)


def score(original: Image.Image | Tensor, reconstruction: Image.Image | Tensor, mask: Tensor | None = None) -> Scores:
    """One reconstruction's scores by the names in SCORES.

    "mask_iou" is None where it cannot be measured, "edge_f1" where `mask` says what mask_iou compares.

    Args:
        original, reconstruction: PIL images or tensors (3, H, W) in [0, 1], of one size.
        mask: (H, W) bool, what the original shows; None: the objects found there.

    Raises:
        InputError: as `compare`.
    """
    pair = (original, reconstruction)
    x, y = (to_tensor(load_image(image)) if isinstance(image, Image.Image) else image for image in pair)
    # A PIL image and a mask out of a file are on the CPU, what a VAE decodes may be on a GPU.
    [scores] = compare(x[None], y[None].to(x.device), None if mask is None else mask[None].to(x.device)).rows()
    return scores


def _check(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"pictures must be (B, 3, H, W), not {tuple(images.shape)}.")
    if not (images.min() >= 0 and images.max() <= 1):  # NaN fails both
        raise InputError("a picture's values must all lie within 0 to 1.")
