"""One image at one extraction point or at many: what adapters read out of the latents there, and what that is worth.

Shapes: B images of H × W pixels, the size at which the VLM sees them.
"""

import math
import platform
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from foresight import zero_gpu
from foresight.adapters.modules import join_points
from foresight.adapters.registry import BUNDLED, AdapterRecord, AdapterRegistry
from foresight.data.resolution import DEFAULT, Resolution
from foresight.errors import InputError
from foresight.inspection.familiarity import READ_WRONG
from foresight.inspection.readout import Clock, Readout, Reconstruction, decode, prepare, round_trip
from foresight.metrics.perceptual import lpips_model
from foresight.models.placement import free_memory, native_bfloat16
from foresight.models.points import ExtractionPoint
from foresight.models.vae import VAE
from foresight.models.vlm import VLM

Pixels = Resolution | str | int | None  # how large the VLM sees images
KEPT = 16  # readouts, of images of 224², so that people who take turns find theirs again; 5 MB each
LIBRARIES = ("torch", "transformers", "diffusers", "lpips", "gradio")


@dataclass(frozen=True)
class Report:
    """The result of one inspection.

    original: (3, H, W) in [0, 1], as the VLM sees it. reconstructions: the chosen adapter's first. mask:
    (H, W) bool, the original's objects; empty, with the original's reason, where none stands out. seconds: by stage
    ("latents", "adapter", "oracle", "decode", "scores") and in "total". resolution: how large the VLM sees images.
    """

    original: Tensor
    point: ExtractionPoint
    reconstructions: list[Reconstruction]
    oracle: Reconstruction
    blank: Reconstruction
    mask: Tensor
    mask_reason: str | None
    seconds: dict[str, float]
    resolution: Resolution = DEFAULT

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
            "pixels": str(self.resolution),
            "size": [self.original.shape[2], self.original.shape[1]],  # as people say it, the width first
            "seconds": self.seconds["total"],
        }


class Decoded(NamedTuple):
    """What one adapter makes of B images' latents.

    images: (B, 3, H, W) in [0, 1]. distances: (B,), of the latents to the adapter's training latents; beyond `far`
    the scores speak of the adapter more than of the latents. means: (B, D), of each image's latents over its tokens.
    """

    images: Tensor
    distances: Tensor
    far: float
    means: Tensor


class Inspector:
    """A VLM, a VAE, and the adapters under `roots` that fit both; one inspection at a time.

    fast: lets the VAE compute in bfloat16 on a CPU that has it, in half the time; SSIM then differs by up to
    0.001, LPIPS by less. most_pixels: of an image, where others wait for it; None: as many as memory holds.
    """

    def __init__(
        self,
        vlm: VLM,
        vae: VAE,
        roots: Sequence[str | Path] = (BUNDLED,),
        fast: bool = False,
        most_pixels: int | None = None,
    ) -> None:
        self.vlm, self.vae, self.most_pixels = vlm, vae, most_pixels
        self._half = fast and vae.device.type == "cpu" and native_bfloat16()
        self.registry = AdapterRegistry(vlm, vae, roots)
        self._lock = threading.Lock()
        self._oracle: tuple[Tensor, Tensor] | None = None  # the last originals and their round trip
        self._readouts: list[tuple[Tensor | None, Readout]] = []  # of the last images, with the masks they came with

    @property
    def default_point(self) -> ExtractionPoint:
        """post-merge at half of the language model's depth."""
        return self.registry.default_point

    def adapters(self, point: str | ExtractionPoint | None = None) -> list[AdapterRecord]:
        """The adapters that fit, as `AdapterRegistry.adapters` lists them."""
        return self.registry.adapters(point)

    def resolution(self, pixels: Pixels, record: AdapterRecord | None) -> Resolution:
        """What `pixels` means, as for `VLM.resolution`; None is what the adapter was fitted at, if there is one.

        Raises InputError, also where memory does not hold such images.
        """
        resolution = record.resolutions[0] if pixels is None and record else self.vlm.resolution(pixels)
        if resolution.least == resolution.most:
            self.check_size(resolution.size(1, 1))
        return resolution

    def check_size(self, size: tuple[int, int], frames: int = 1) -> None:
        """Raises InputError where an image of (H, W) is more than memory holds, or than may be asked for.

        frames: of a clip, all of which are in memory; so many of the usual size may always be asked for.
        """
        pixels, text = size[0] * size[1], f"a picture of {size[1]} × {size[0]} pixels"
        if frames > 1:
            text = f"a clip of {frames} frames of {size[1]} × {size[0]} pixels"
        most = max(self.most_pixels // frames, DEFAULT.most) if self.most_pixels else math.inf
        if pixels > 1.25 * most:  # a shape is rounded to whole tokens
            raise InputError(
                f"{text} is too large here, where others wait for it: choose {Resolution.area(int(most))}."
            )
        bytes_a_number = 2 if self._half else self.vae.dtype.itemsize
        decoded = 1 if self.vae.device.type == "cpu" else frames  # at once
        # Three activations of the decoder at 8/7 of the size; then the scores and the VLM, as measured.
        needed = pixels * (decoded * (8 / 7) ** 2 * 3 * self.vae.widest * bytes_a_number + frames * 400)
        if needed > (free := free_memory(self.vae.device)):
            raise InputError(
                f"{text} needs about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free: choose fewer."
            )

    def prepare(
        self, image: Image.Image | Tensor, mask: Tensor | None, resolution: Resolution
    ) -> tuple[Tensor, Tensor | None]:
        """As `readout.prepare`; raises InputError also where the image is too large, before it is made."""
        height, width = (image.height, image.width) if isinstance(image, Image.Image) else image.shape[-2:]
        if height and width:
            self.check_size(resolution.size(height, width))
        return prepare(image, mask, resolution)

    def warm_up(self) -> None:
        """Inspects a blank page, so that the next inspection finds weights read and libraries set up.

        Not of a model that waits until somebody asks for something.
        """
        if not self.vlm.waits and self.adapters(self.default_point):
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
            "refused": {str(folder): reason for folder, reason in self.registry.rejected().items()},
            "device": ", ".join(map(str, vlm.devices)),
            "dtype": str(vlm.dtype).removeprefix("torch."),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        }

    @zero_gpu.computes(zero_gpu.PICTURE)
    def inspect(
        self,
        image: Image.Image | Tensor,
        point: str | ExtractionPoint | None = None,
        adapter: str | Path | None = None,
        mask: Tensor | None = None,
        others: Iterable[AdapterRecord] | None = None,
        pixels: Pixels = None,
    ) -> Report:
        """Reads one image out of its latents at one point, and scores that.

        Args:
            image: PIL, or (3, h, w) in [0, 1], of any size.
            point, adapter: as for `AdapterRegistry.find`.
            mask: (h, w) bool, what the image shows; None: the objects found there.
            others: adapters to read it with besides, of the same point; None: the bundled ones. Those that cannot read
                an image of this size are left out.
            pixels: how large the VLM sees the image, as for `resolution`.

        Raises:
            InputError: the image cannot be used, or there is no such adapter.
        """
        start = time.perf_counter()
        record = self.registry.find(adapter, point)
        resolution = self.resolution(pixels, record)
        original, mask = self.prepare(image, mask, resolution)
        size = original.shape[1], original.shape[2]
        others = [e for e in self.adapters(record.point) if e.bundled] if others is None else others
        rest = [e for e in others if e.folder != record.folder and e.reads(size)]
        clock = Clock(self.vae.device)
        with self._lock, torch.inference_mode():
            readout = self._readout(original, mask, clock)
            reconstructions = list(self._read(readout, [record, *rest], clock))
        return Report(
            original=readout.images[0].cpu(),
            point=record.point,
            reconstructions=reconstructions,
            oracle=readout.oracles[0],
            blank=readout.blanks[0],
            mask=readout.masks[0].cpu(),
            mask_reason=readout.reasons[0],
            resolution=resolution,
            seconds=clock.seconds | {"total": time.perf_counter() - start},
        )

    @zero_gpu.computes(zero_gpu.PICTURE)
    @torch.inference_mode()
    def suggest(self, report: Report, tries: int = 4) -> AdapterRecord | None:
        """The adapter nearest in depth that knows a report's picture, and reads it right; None where there is none.

        Args:
            report: of a picture that its chosen adapter reads wrong.
            tries: so many that know it are tried, the largest at each point, each for the time of one decoding.
        """
        original, order = report.original[None].to(self.vae.device), self.vlm.points.index
        tried = [scored.record.folder for scored in report.reconstructions if scored.record and not scored.is_right]
        rest = sorted(self.adapters(), key=lambda record: record.parameters)
        largest = {record.point: record for record in rest if record.folder not in tried}
        records = sorted(largest.values(), key=lambda record: abs(order(record.point) - order(report.point)))
        with self._lock:
            latents = self.vlm.latents(original, {point for record in records for point in record.points})
            lpips = lpips_model(self.vae.device)
            for record in records:
                adapter, x = self.registry.load(record), join_points(latents, record.points).to(self.vae.device)
                if float(adapter.distance(x)) > float(adapter.far):
                    continue
                image = self.decode(adapter(x), (original.shape[2], original.shape[3]))
                if float(lpips(original, image)) <= READ_WRONG:
                    return record
                tries -= 1
                if not tries:
                    break
        return None

    @zero_gpu.computes(zero_gpu.BATCH)
    @torch.inference_mode()
    def sweep_layers(
        self,
        image: Image.Image | Tensor,
        records: Sequence[AdapterRecord],
        mask: Tensor | None = None,
        pixels: Pixels = None,
    ) -> Iterator[Reconstruction]:
        """Reads one image at every record's point: how knowledge of it changes with depth.

        The latents of all points come from one pass.

        Args:
            image: PIL, or (3, h, w) in [0, 1], of any size.
            records: the adapters to read it with.
            mask: (h, w) bool, what the image shows; None: the objects found there.
            pixels: how large the VLM sees the image, as for `resolution` with the first record.

        Yields:
            The oracle's, the blank page's and each record's reconstruction, each when it is done.

        Raises:
            InputError: there is no record, one cannot read images of this size, or the image cannot be used.
        """
        if not records:
            raise InputError("choose at least one adapter to read the picture with.")
        clock = Clock(self.vae.device)
        original, mask = self.prepare(image, mask, self.resolution(pixels, records[0]))
        for record in records:
            record.check_size((original.shape[1], original.shape[2]))
        readout = self._readout(original, mask, clock)
        yield from readout.oracles + readout.blanks
        yield from self._read(readout, records, clock)

    def _readout(self, image: Tensor, mask: Tensor | None, clock: Clock) -> Readout:
        """The image's, with its oracle; that of an image looked at lately is kept for another point or adapter."""
        images = image[None].to(self.vae.device)
        mask = None if mask is None else mask.to(images.device)  # one device: those of earlier images are compared
        with clock.stage("oracle"):
            for known, readout in self._readouts:
                if _same(known, mask) and _same(readout.images, images):
                    return readout
            oracles = self.round_trip(images)
        with clock.stage("scores"):
            readout = Readout(images, None if mask is None else mask[None], oracles)
        self._readouts = [(mask, readout), *self._readouts][:KEPT]
        while sum(other.images[0, 0].numel() for _, other in self._readouts[1:]) > KEPT * DEFAULT.most:
            self._readouts.pop()
        return readout

    def _read(self, readout: Readout, records: Sequence[AdapterRecord], clock: Clock) -> Iterator[Reconstruction]:
        """Each record's reconstruction of a readout's image."""
        decoded = self.reconstruct(readout.images, records, clock)
        for record, output in zip(records, decoded, strict=True):
            with clock.stage("scores"):
                [scored] = readout.score(record.name, output.images)
            notice = record.size_notice((readout.images.shape[2], readout.images.shape[3]))
            yield replace(scored, record=record, notice=notice, distance=float(output.distances), far=output.far)

    @torch.inference_mode()
    def reconstruct(self, originals: Tensor, records: Sequence[AdapterRecord], clock: Clock) -> Iterator[Decoded]:
        """What each record makes of images (B, 3, H, W) in [0, 1] on the VAE's device, sides multiples of 28.

        Raises InputError where one cannot read images of this size.
        """
        size = originals.shape[2], originals.shape[3]
        for record in records:
            record.check_size(size)
        with clock.stage("latents"):
            latents = self.vlm.latents(originals, {point for record in records for point in record.points})
        for record in records:
            adapter, x = self.registry.load(record), join_points(latents, record.points).to(self.vae.device)
            with clock.stage("adapter"):
                z, distances = adapter(x), adapter.distance(x)
            with clock.stage("decode"):
                images = self.decode(z, size)
            yield Decoded(images, distances, float(adapter.far), x.flatten(1, -2).mean(1))

    @torch.inference_mode()
    def round_trip(self, originals: Tensor) -> Tensor:
        """The oracle: images (B, 3, H, W) through the VAE alone. The last ones are kept for another point."""
        if self._oracle is None or not torch.equal(self._oracle[0], originals):
            self._oracle = originals, round_trip(self.vae, originals, self._half)
        return self._oracle[1]

    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """VAE latents (B, C, h, w) → images (B, 3, H, W) in [0, 1] of the given (H, W)."""
        return decode(self.vae, z, size, self._half)


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and torch.equal(one, other)
