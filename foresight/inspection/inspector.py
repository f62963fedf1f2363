"""One picture, one extraction point → what adapters read out of the latents there, and what that is worth.

Shapes: B pictures of H × W pixels, the size at which the VLM sees them. The VAE works at 8/7 of that size.
"""

from __future__ import annotations

import math
import platform
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from foresight.adapters.registry import BUNDLED, AdapterRecord, AdapterRegistry
from foresight.data.images import load_image, resize, to_tensor, vae_size, vlm_size
from foresight.errors import InputError
from foresight.metrics.scores import Comparison, compare, skill
from foresight.models.points import ExtractionPoint
from foresight.models.vae import VAE
from foresight.models.vlm import VLM

SCORES = ("lpips", "ssim", "psnr", "mask_iou")
STAGES = ("latents", "adapter", "oracle", "decode", "scores")

LIBRARIES = ("torch", "transformers", "diffusers", "lpips", "gradio")

Scores = dict[str, float | None]  # by the names in SCORES


@dataclass(frozen=True)
class Reconstruction:
    """One picture made from latents, or a floor or ceiling beside it; tensors on the CPU.

    name: a record's name, "oracle" or "blank". picture: (3, H, W) in [0, 1]. scores, skill: by the names in
    SCORES; None where there is none. lpips_map: (H, W), the spatial LPIPS. difference: (H, W) in [0, 1], mean
    over colours. mask: (H, W) bool, the objects found in it. mask_reason: why there is no mask IoU: the original's
    reason, or `masks.NOT_MEASURABLE`. folder, card: its adapter's, if it has one.
    """

    name: str
    picture: Tensor
    scores: Scores
    skill: Scores
    lpips_map: Tensor
    difference: Tensor
    mask: Tensor
    mask_reason: str | None = None
    folder: Path | None = None
    card: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All that one inspection found.

    original: (3, H, W) in [0, 1], as the VLM sees it. reconstructions: the chosen adapter's first. mask:
    (H, W) bool, the original's objects; empty, with the original's reason, where none stands out. distance: of the
    latents to the chosen adapter's training latents; beyond `far` its scores speak of the adapter more than
    of the latents. seconds: by stage (STAGES) and in "total".
    """

    original: Tensor
    point: ExtractionPoint
    reconstructions: list[Reconstruction]
    oracle: Reconstruction
    blank: Reconstruction
    mask: Tensor
    mask_reason: str | None
    distance: float
    far: float
    seconds: dict[str, float]

    def as_json(self, image: str | None = None, reconstruction: str | None = None) -> dict[str, Any]:
        """Plain JSON values of the chosen adapter. image, reconstruction: paths, for the caller to name."""
        chosen = self.reconstructions[0]
        return {
            "image": image,
            "point": str(self.point),
            "adapter": chosen.name,
            **chosen.scores,
            "skill": chosen.skill,
            "oracle": self.oracle.scores,
            "blank": self.blank.scores,
            "mask_reason": chosen.mask_reason,
            "distance": self.distance,
            "far": self.far,
            "reconstruction": reconstruction,
            "seconds": self.seconds["total"],
        }


class Clock:
    """Seconds by stage; on a GPU a stage ends when its work is done."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, dict[str, float]()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


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
                for e in records
            ],
            "refused": {str(folder): reason for folder, reason in self.registry.refused().items()},
            "device": str(vlm.device),
            "dtype": str(vlm.dtype).removeprefix("torch."),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        }

    def inspect(
        self,
        picture: Image.Image | Tensor,
        point: str | ExtractionPoint | None = None,
        adapter: str | Path | None = None,
        mask: Tensor | None = None,
        others: bool = True,
    ) -> Report:
        """Everything about one picture at one point.

        picture: PIL, or (3, h, w) in [0, 1], of any size. point, adapter: as for `AdapterRegistry.record`. mask: (h, w)
        bool, what the picture shows; without it, the objects found there. others: with every other adapter
        that fits the point. Raises InputError.
        """
        start = time.perf_counter()
        record = self.registry.find(adapter, point)
        original, known = prepare(picture, mask)
        rest = [e for e in self.adapters(record.point) if e.folder != record.folder] if others else []
        with self._lock, torch.inference_mode():
            report = self._inspect(original.to(self.vae.device)[None], known, [record, *rest])
        report.seconds["total"] = time.perf_counter() - start
        return report

    def _inspect(self, original: Tensor, mask: Tensor | None, records: list[AdapterRecord]) -> Report:
        clock = Clock(self.vae.device)
        latents, decoded = self.reconstruct(original, records, clock)
        with clock.stage("scores"):
            blank = torch.ones_like(original)
            pictures = torch.cat([*decoded, blank])
            found = compare(original, pictures, None if mask is None else mask.to(original.device)[None])
            chosen = self.registry.load(records[0])
            distance = float(chosen.distance(latents))
            oracle, *made, floor = _tell(original, pictures, found, records)
        return Report(
            original=original[0].cpu(),
            point=records[0].point,
            reconstructions=made,
            oracle=oracle,
            blank=floor,
            mask=found.original_masks[0].cpu(),
            mask_reason=found.original_reasons[0],
            distance=distance,
            far=float(chosen.far),
            seconds=clock.seconds,
        )

    @torch.inference_mode()
    def reconstruct(
        self, originals: Tensor, records: Sequence[AdapterRecord], clock: Clock
    ) -> tuple[Tensor, list[Tensor]]:
        """Latents at the records' one point, and pictures (B, 3, H, W): the oracle's, then each record's.

        originals: (B, 3, H, W) in [0, 1] on the VAE's device, sides multiples of 28.
        """
        point, size = records[0].point, (originals.shape[2], originals.shape[3])
        with clock.stage("latents"):
            latents = self.vlm.latents(originals, [point])[str(point)].to(self.vae.device)
        with clock.stage("adapter"):
            wanted = torch.cat([self.registry.load(record)(latents) for record in records])  # (N · B, C, h, w)
        with clock.stage("oracle"):
            oracle = self.round_trip(originals)
        with clock.stage("decode"):
            made = self.decode(wanted, size).chunk(len(records))
        return latents, [oracle, *made]

    @torch.inference_mode()
    def round_trip(self, originals: Tensor) -> Tensor:
        """The oracle: pictures (B, 3, H, W) through the VAE alone. The last ones are kept for another point."""
        last, size = self._oracle, (originals.shape[2], originals.shape[3])
        if last is None or not torch.equal(last[0], originals):
            with torch.autocast("cpu", torch.bfloat16, enabled=self._half):
                codes = self.vae.encode(resize(originals, vae_size(size)))
            last = self._oracle = originals, self.decode(codes, size)
        return last[1]

    @torch.inference_mode()
    def decode(self, codes: Tensor, size: tuple[int, int]) -> Tensor:
        """VAE latents (B, C, h, w) → pictures (B, 3, H, W) in [0, 1] of the given (H, W)."""
        # One by one on a CPU, whose cache holds the activations of one picture but not of several.
        parts = codes.split(1 if codes.device.type == "cpu" else len(codes))
        with torch.autocast("cpu", torch.bfloat16, enabled=self._half):
            decoded = torch.cat([self.vae.decode(part) for part in parts])
        return resize(decoded, size)


def prepare(picture: Image.Image | Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """A picture, and what it shows, at the size at which the VLM sees it: (3, H, W) in [0, 1], (H, W) bool.

    Raises InputError where the picture cannot be used, or the mask is of another size than the picture.
    """
    pixels = to_tensor(load_image(picture)) if isinstance(picture, Image.Image) else picture
    if pixels.ndim != 3 or pixels.shape[0] != 3 or 0 in pixels.shape:
        raise InputError(f"a picture must be (3, H, W), not {tuple(pixels.shape)}.")
    if mask is not None and mask.shape != pixels.shape[1:]:
        sizes = [f"{s[-1]} × {s[-2]}" for s in (mask.shape, pixels.shape)]
        raise InputError(f"the mask is {sizes[0]} pixels and its picture {sizes[1]}: one size is needed.")
    size = vlm_size(pixels.shape[1], pixels.shape[2])
    if mask is not None:
        covered = F.interpolate(mask[None, None].float(), size, mode="bilinear", antialias=True)
        mask = covered[0, 0] >= 0.5
    return resize(pixels[None].float(), size)[0], mask


def score_rows(found: Comparison) -> list[Scores]:
    """The scores of each picture compared, None where there is none."""
    columns = [found.scores[name].tolist() for name in SCORES]
    return [
        {name: None if math.isnan(value) else value for name, value in zip(SCORES, values, strict=True)}
        for values in zip(*columns, strict=True)
    ]


def skills(scores: Scores, blank: Scores, oracle: Scores) -> Scores:
    """Skill by each of SCORES."""
    return {name: skill(name, scores[name], blank[name], oracle[name]) for name in SCORES}


def _tell(original: Tensor, pictures: Tensor, found: Comparison, records: list[AdapterRecord]) -> list[Reconstruction]:
    """What `compare` found of the oracle, each record and the blank page, in this order."""
    rows = score_rows(found)
    differences = (pictures - original).abs().mean(1).cpu()  # (N, H, W)
    pictures, maps, masks = pictures.cpu(), found.lpips_map.cpu(), found.masks.cpu()
    names = ["oracle", *(e.name for e in records), "blank"]
    return [
        Reconstruction(
            name=name,
            picture=pictures[i],
            scores=rows[i],
            skill=skills(rows[i], blank=rows[-1], oracle=rows[0]),
            lpips_map=maps[i],
            difference=differences[i],
            mask=masks[i],
            mask_reason=found.reasons[i],
            folder=records[i - 1].folder if 0 < i <= len(records) else None,
            card=records[i - 1].card if 0 < i <= len(records) else {},
        )
        for i, name in enumerate(names)
    ]
