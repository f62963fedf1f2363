"""The one pipeline: latents → adapter → VAE decoder → images → scores between the blank page and the oracle.

It serves Inspect, Compare, evaluation, the scores of training and the study.

Shapes: B images of H × W pixels, the size at which the VLM sees them. The VAE works at 8/7 of that size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from foresight.metrics.scores import SCORES, Originals, Scores
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
    """One image, and the scores of whatever is read out of its latents, between its blank page and its oracle.

    image: (3, H, W) in [0, 1]. mask: (H, W) bool, its objects; empty, with the reason, where none stands out.
    oracle, blank: the reconstructions between which skill is measured.
    """

    def __init__(self, image: Tensor, mask: Tensor | None, oracle: Tensor) -> None:
        """Scores oracle and blank page.

        Args:
            image: (3, H, W) in [0, 1], at the size at which the VLM sees it.
            mask: (H, W) bool, what it shows; None: the objects found there.
            oracle: (3, H, W), its `round_trip`.
        """
        self.image = image
        self._originals = Originals(image[None], None if mask is None else mask.to(image.device)[None])
        self.mask, self.mask_reason = self._originals.masks[0], self._originals.reasons[0]
        self._bounds: tuple[Scores, Scores] | None = None
        self.oracle, self.blank = self.score(["oracle", "blank"], torch.stack([oracle, torch.ones_like(image)]))

    def score(self, names: Sequence[str], images: Tensor) -> list[Reconstruction]:
        """Compares images (K, 3, H, W) of these names with the original. Raises InputError as `Originals.compare`."""
        comparison = self._originals.compare(images)
        rows, differences = comparison.rows(), (images - self.image).abs().mean(1).cpu()
        self._bounds = self._bounds or (rows[0], rows[1])
        oracle, blank = self._bounds
        images, maps, masks = images.cpu(), comparison.lpips_map.cpu(), comparison.masks.cpu()
        return [
            Reconstruction(
                name=name,
                image=images[i],
                scores=rows[i],
                skill={s: skill(s, rows[i][s], blank[s], oracle[s]) for s in SCORES},
                lpips_map=maps[i],
                difference=differences[i],
                mask=masks[i],
                mask_reason=comparison.reasons[i],
            )
            for i, name in enumerate(names)
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
