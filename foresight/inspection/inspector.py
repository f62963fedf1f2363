"""One image at one extraction point or at many: what adapters read out of the latents there, and what that is worth.

Shapes: B images of H × W pixels, the size at which the VLM sees them.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from foresight.adapters.registry import BUNDLED, AdapterRecord, AdapterRegistry
from foresight.errors import InputError
from foresight.inspection.readout import Clock, Readout, Reconstruction, decode, prepare, round_trip
from foresight.models.points import ExtractionPoint
from foresight.models.vae import VAE
from foresight.models.vlm import VLM

LIBRARIES = ("torch", "transformers", "diffusers", "lpips", "gradio")


@dataclass(frozen=True)
class Report:
    """The result of one inspection.

    original: (3, H, W) in [0, 1], as the VLM sees it. reconstructions: the chosen adapter's first. mask:
    (H, W) bool, the original's objects; empty, with the original's reason, where none stands out. seconds: by stage
    ("latents", "adapter", "oracle", "decode", "scores") and in "total".
    """

    original: Tensor
    point: ExtractionPoint
    reconstructions: list[Reconstruction]
    oracle: Reconstruction
    blank: Reconstruction
    mask: Tensor
    mask_reason: str | None
    seconds: dict[str, float]

    @property
    def chosen(self) -> Reconstruction:
        """What the chosen adapter made."""
        return self.reconstructions[0]

    def as_json(self, image: str | None = None, reconstruction: str | None = None) -> dict[str, Any]:
        """Plain JSON values of the chosen adapter. image, reconstruction: paths, for the caller to name."""
        return {
            "image": image,
            **self.chosen.as_json(),
            "oracle": self.oracle.scores,
            "blank": self.blank.scores,
            "reconstruction": reconstruction,
            "seconds": self.seconds["total"],
        }


class Decoded(NamedTuple):
    """What one adapter makes of B images' latents.

    images: (B, 3, H, W) in [0, 1]. distances: (B,), of the latents to the adapter's training latents; beyond `far`
    the scores speak of the adapter more than of the latents.
    """

    images: Tensor
    distances: Tensor
    far: float


class Inspector:
    """A VLM, a VAE, and the adapters under `roots` that fit both; one inspection at a time.

    fast: lets the VAE compute in bfloat16 on a CPU that has it, in half the time; SSIM then differs by up to
    0.001, LPIPS by less.
    """

    def __init__(self, vlm: VLM, vae: VAE, roots: Sequence[str | Path] = (BUNDLED,), fast: bool = False) -> None:
        self.vlm, self.vae = vlm, vae
        self._half = fast and vae.device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
        self.registry = AdapterRegistry(vlm, vae, roots)
        self._lock = threading.Lock()
        self._oracle: tuple[Tensor, Tensor] | None = None  # the last originals and their round trip

    @property
    def default_point(self) -> ExtractionPoint:
        """post-merge at half of the language model's depth."""
        return self.registry.default_point

    def adapters(self, point: str | ExtractionPoint | None = None) -> list[AdapterRecord]:
        """The adapters that fit, as `AdapterRegistry.adapters` lists them."""
        return self.registry.adapters(point)

    def warm_up(self) -> None:
        """Inspects a blank page, so that the next inspection finds weights read and libraries set up."""
        if self.adapters(self.default_point):
            self.inspect(torch.ones(3, 224, 224))

    def facts(self) -> dict[str, Any]:
        """Models, points, adapters, folders that do not fit and why, device, versions: JSON values."""
        vlm, vae, records = self.vlm, self.vae, self.adapters()
        return {
            "model": vlm.name,
            "vae": {"name": vae.name, "kind": vae.kind, "channels": vae.channels, "downscale": vae.downscale}
            | {"dtype": "bfloat16" if self._half else str(vae.dtype).removeprefix("torch.")},
            "points": [
                {"point": str(p), "width": vlm.width(p), "adapters": [e.name for e in records if e.point == p]}
                for p in vlm.points
            ],
            "adapters": [
                {"point": str(e.point), "adapter": e.name, "parameters": e.parameters, "folder": str(e.folder)}
                | {"notices": [*e.notices]}
                for e in records
            ],
            "refused": {str(folder): reason for folder, reason in self.registry.refused().items()},
            "device": str(vlm.device),
            "dtype": str(vlm.dtype).removeprefix("torch."),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        }

    def inspect(
        self,
        image: Image.Image | Tensor,
        point: str | ExtractionPoint | None = None,
        adapter: str | Path | None = None,
        mask: Tensor | None = None,
        others: bool = True,
    ) -> Report:
        """Reads one image out of its latents at one point, and scores that.

        Args:
            image: PIL, or (3, h, w) in [0, 1], of any size.
            point, adapter: as for `AdapterRegistry.find`.
            mask: (h, w) bool, what the image shows; None: the objects found there.
            others: with every other adapter that fits the point.

        Raises:
            InputError: the image cannot be used, or there is no such adapter.
        """
        start = time.perf_counter()
        record = self.registry.find(adapter, point)
        rest = [e for e in self.adapters(record.point) if e.folder != record.folder] if others else []
        original, mask = prepare(image, mask)
        clock = Clock(self.vae.device)
        with self._lock, torch.inference_mode():
            readout = self._readout(original, mask, clock)
            reconstructions = list(self._read(readout, [record, *rest], clock))
        return Report(
            original=readout.image.cpu(),
            point=record.point,
            reconstructions=reconstructions,
            oracle=readout.oracle,
            blank=readout.blank,
            mask=readout.mask.cpu(),
            mask_reason=readout.mask_reason,
            seconds=clock.seconds | {"total": time.perf_counter() - start},
        )

    @torch.inference_mode()
    def sweep_layers(
        self, image: Image.Image | Tensor, records: Sequence[AdapterRecord], mask: Tensor | None = None
    ) -> Iterator[Reconstruction]:
        """Reads one image at every record's point: how knowledge of it changes with depth.

        The latents of all points come from one pass.

        Args:
            image: PIL, or (3, h, w) in [0, 1], of any size.
            records: the adapters to read it with.
            mask: (h, w) bool, what the image shows; None: the objects found there.

        Yields:
            The oracle's, the blank page's and each record's reconstruction, each when it is done.

        Raises:
            InputError: there is no record, or the image cannot be used.
        """
        if not records:
            raise InputError("choose at least one adapter to read the picture with.")
        clock = Clock(self.vae.device)
        readout = self._readout(*prepare(image, mask), clock)
        yield from (readout.oracle, readout.blank)
        yield from self._read(readout, records, clock)

    def _readout(self, image: Tensor, mask: Tensor | None, clock: Clock) -> Readout:
        on_device = image.to(self.vae.device)
        with clock.stage("oracle"):
            [oracle] = self.round_trip(on_device[None])
        with clock.stage("scores"):
            return Readout(on_device, mask, oracle)

    def _read(self, readout: Readout, records: Sequence[AdapterRecord], clock: Clock) -> Iterator[Reconstruction]:
        """Each record's reconstruction of a readout's image."""
        decoded = self.reconstruct(readout.image[None], records, clock)
        for record, (images, distances, far) in zip(records, decoded, strict=True):
            with clock.stage("scores"):
                [scored] = readout.score([record.name], images)
            yield replace(scored, record=record, distance=float(distances), far=far)

    @torch.inference_mode()
    def reconstruct(self, originals: Tensor, records: Sequence[AdapterRecord], clock: Clock) -> Iterator[Decoded]:
        """What each record makes of images (B, 3, H, W) in [0, 1] on the VAE's device, sides multiples of 28."""
        size = originals.shape[2], originals.shape[3]
        with clock.stage("latents"):
            latents = self.vlm.latents(originals, {record.point for record in records})
        for record in records:
            adapter, x = self.registry.load(record), latents[str(record.point)].to(self.vae.device)
            with clock.stage("adapter"):
                z, distances = adapter(x), adapter.distance(x)
            with clock.stage("decode"):
                images = self.decode(z, size)
            yield Decoded(images, distances, float(adapter.far))

    @torch.inference_mode()
    def round_trip(self, originals: Tensor) -> Tensor:
        """The oracle: images (B, 3, H, W) through the VAE alone. The last ones are kept for another point."""
        if self._oracle is None or not torch.equal(self._oracle[0], originals):
            self._oracle = originals, round_trip(self.vae, originals, self._half)
        return self._oracle[1]

    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """VAE latents (B, C, h, w) → images (B, 3, H, W) in [0, 1] of the given (H, W)."""
        return decode(self.vae, z, size, self._half)
