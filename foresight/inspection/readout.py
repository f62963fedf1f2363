"""The one pipeline: latents → adapter → VAE decoder → images → scores between the blank page and the oracle.

It serves Inspect, Compare, evaluation, the scores of training and the study.

Shapes: B images of H × W pixels, the size at which the VLM sees them. The VAE works at 8/7 of that size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from foresight.adapters.registry import AdapterRecord
from foresight.data.images import load_image, resize, to_bytes, vae_size
from foresight.data.resolution import DEFAULT, Resolution
from foresight.errors import InputError
from foresight.inspection.familiarity import READ_WRONG, unfamiliar
from foresight.metrics.baselines import skill
from foresight.metrics.scores import SCORES, Comparison, Originals, Scores
from foresight.models.vae import VAE


@dataclass(frozen=True)
class Reconstruction:
    """One image made from latents, or a baseline or ceiling beside it; tensors on the CPU.

    name: an adapter's, "oracle", "blank", "mean" or "nearest". image: (3, H, W) in [0, 1]. scores, skill: by the names
    in SCORES; None where there is none. lpips_map: (H, W), the spatial LPIPS. difference: (H, W) in [0, 1], mean over
    colours. mask: (H, W) bool, the objects found in it. mask_reason: why there is no mask IoU: the original's reason,
    or `masks.NOT_MEASURABLE`. record: its adapter. notice: that this was fitted at another size. distance: of the
    latents to the adapter's training latents; beyond `far` the scores speak of the adapter more than of the latents.
    """

    name: str
    image: Tensor
    scores: Scores
    skill: Scores
    lpips_map: Tensor
    difference: Tensor
    mask: Tensor
    mask_reason: str | None = None
    record: AdapterRecord | None = None
    notice: str | None = None
    distance: float = 0.0
    far: float = float("inf")

    @property
    def is_right(self) -> bool:
        """Whether the picture is read right, by the bar of `familiarity`."""
        return self.scores["lpips"] is not None and self.scores["lpips"] <= READ_WRONG

    @property
    def unfamiliar(self) -> bool:
        """Whether a person should be warned: see `familiarity.unfamiliar`."""
        return unfamiliar(self.distance, self.far, self.scores["lpips"])

    @property
    def card(self) -> dict[str, Any]:
        """Its adapter's."""
        return self.record.card if self.record else {}

    def without_pixels(self) -> Reconstruction:
        """The scores alone, of which many fit into memory."""
        none = torch.empty(0)
        return replace(self, image=none, lpips_map=none, difference=none, mask=none)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values: point, adapter, scores, skill, mask_reason; distance and far of an adapter's."""
        values = {"adapter": self.name, **self.scores, "skill": self.skill, "mask_reason": self.mask_reason}
        if self.record is None:
            return values
        rest = {"distance": self.distance, "far": self.far, "notice": self.notice}
        return {"point": str(self.record.point), **values, **rest}


@torch.inference_mode()
def decode(vae: VAE, z: Tensor, size: tuple[int, int], half: bool = False) -> Tensor:
    """VAE latents (B, C, h, w) → images (B, 3, *size) in [0, 1], float32. half: lets a CPU compute in bfloat16."""
    # One by one on a CPU, whose cache holds the activations of one image but not of several.
    parts = z.split(1 if vae.device.type == "cpu" else len(z))
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        decoded = torch.cat([vae.decode(part) for part in parts])
    return resize(decoded, size)


@torch.inference_mode()
def round_trip(vae: VAE, images: Tensor, half: bool = False) -> Tensor:
    """The oracle: images (B, 3, H, W) through the VAE alone, at 8/7 of their size and back."""
    size = images.shape[2], images.shape[3]
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        z = vae.encode(resize(images, vae_size(size)))
    return decode(vae, z, size, half)


@torch.inference_mode()
def read_out(
    adapter: Callable[..., Tensor], vae: VAE, size: tuple[int, int], *latents: Tensor, batch: int = 32
) -> Tensor:
    """Reads out latents by an adapter.

    Args:
        adapter: maps latents to VAE latents; of several points where it blends them.
        vae: decodes these.
        size: (H, W) of the images.
        latents: (B, T, h, w, D) of each point.
        batch: images at a time.

    Returns:
        Images (B · T, 3, H, W) in [0, 1], on the VAE's device.
    """
    parts = zip(*(x.split(batch) for x in latents), strict=True)
    return torch.cat([decode(vae, adapter(*part), size) for part in parts])


class Readout:
    """B images, and the scores of whatever is read out of their latents, between their blank pages and their oracles.

    images: (B, 3, H, W) in [0, 1]. masks: (B, H, W) bool, their objects; empty, with the reason in `reasons`, where
    none stands out. oracles, blanks: each image's reconstructions between which skill is measured.
    """

    def __init__(self, images: Tensor, masks: Tensor | None, oracles: Tensor, pixels: bool = True) -> None:
        """Scores oracles and blank pages.

        Args:
            images: (B, 3, H, W) in [0, 1], at the size at which the VLM sees them.
            masks: (B, H, W) bool, what they show; None: the objects found there.
            oracles: (B, 3, H, W), their `round_trip`.
            pixels: of `oracles` and `blanks`, as for `score`.
        """
        self.images = images
        self._originals = Originals(images, None if masks is None else masks.to(images.device))
        self.masks, self.reasons = self._originals.masks, self._originals.reasons
        ends = {"oracle": oracles, "blank": torch.ones_like(images[:1])}
        compared = {name: self._originals.compare(ends[name]) for name in ends}
        self._ends = [comparison.rows() for comparison in compared.values()]
        self.oracles, self.blanks = (self._reconstructions(name, ends[name], compared[name], pixels) for name in ends)

    def score(self, name: str, images: Tensor, pixels: bool = True) -> list[Reconstruction]:
        """Compares what was read out of each image's latents with it.

        Args:
            name: of the reconstructions.
            images: (B, 3, H, W) in [0, 1], or one for all.
            pixels: whether to keep image, maps and mask; where the scores are enough, these need not leave a GPU.

        Raises:
            InputError: as `Originals.compare`.
        """
        return self._reconstructions(name, images, self._originals.compare(images), pixels)

    def _reconstructions(self, name: str, images: Tensor, comparison: Comparison, pixels: bool) -> list[Reconstruction]:
        tensors: Iterable[tuple[Tensor, ...]] = repeat((torch.empty(0),) * 4, len(self.images))
        if pixels:
            differences = (images - self.images).abs().mean(1)
            parts = (images.expand_as(self.images), comparison.lpips_map, differences, comparison.masks)
            tensors = zip(*(part.cpu() for part in parts), strict=True)
        return [
            Reconstruction(
                name=name,
                image=image,
                scores=scores,
                skill={s: skill(s, scores[s], blank[s], oracle[s]) for s in SCORES},
                lpips_map=lpips_map,
                difference=difference,
                mask=mask,
                mask_reason=reason,
            )
            for (image, lpips_map, difference, mask), scores, oracle, blank, reason in zip(
                tensors, comparison.rows(), *self._ends, comparison.reasons, strict=True
            )
        ]


class Clock:
    """Seconds by stage; on a GPU a stage ends when its work is done."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, dict[str, float]()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of its block to a stage's seconds."""
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def prepare(
    image: Image.Image | Tensor, mask: Tensor | None = None, resolution: Resolution = DEFAULT
) -> tuple[Tensor, Tensor | None]:
    """An image, and what it shows, at the size at which the VLM sees it.

    Args:
        image: PIL, or (3, h, w) in [0, 1], of any size.
        mask: (h, w) bool, what it shows.
        resolution: how large it is to the VLM.

    Returns:
        The image (3, H, W) in [0, 1] and its mask (H, W) bool, if one was given.

    Raises:
        InputError: the image cannot be used, or the mask is of another size than the image.
    """
    pixels = to_bytes(load_image(image)) if isinstance(image, Image.Image) else image
    if pixels.ndim != 3 or pixels.shape[0] != 3 or 0 in pixels.shape:
        raise InputError(f"a picture must be (3, H, W), not {tuple(pixels.shape)}.")
    if mask is not None and mask.shape != pixels.shape[1:]:
        sizes = [f"{s[-1]} × {s[-2]}" for s in (mask.shape, pixels.shape)]
        raise InputError(f"the mask is {sizes[0]} pixels and its picture {sizes[1]}: one size is needed.")
    size = resolution.size(pixels.shape[1], pixels.shape[2])
    if mask is not None:
        covered = F.interpolate(mask[None, None].float(), size, mode="bilinear", antialias=True)
        mask = covered[0, 0] >= 0.5
    resized = resize(pixels[None], size)[0]
    return resized.float() / 255 if resized.dtype == torch.uint8 else resized.float(), mask
