"""Latents of many pictures, taken once and served from memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from foresight.images import resize, vae_size
from foresight.points import ExtractionPoint
from foresight.render import render
from foresight.scenes import Scenes, SceneSpec, take
from foresight.vae import VAE
from foresight.vlm import VLM

WHITE = ("white",)
# What adapters are trained on: half of everything, a quarter of one object and of several on white.
MIXTURE = (SceneSpec(), SceneSpec(), SceneSpec(objects=(1, 1), backgrounds=WHITE), SceneSpec(backgrounds=WHITE))


@dataclass(frozen=True)
class Latents:
    """N pictures of one size at several points, row by row the same picture.

    points: {"post-merge/6": (N, 1, H, W, D)} in the VLM's dtype. targets: (N, C, h, w), the VAE's latents of
    the pictures at the VAE's size. pictures: (N, 3, H, W) uint8 at the VLM's size. masks: (N, H, W) bool, what
    shows an object.
    """

    points: dict[str, Tensor]
    targets: Tensor
    pictures: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.pictures)


def mixture(count: int, seed: int, split: str) -> list[Scenes]:
    """`count` scenes of `split` in all, an equal share of each part of MIXTURE."""
    share = -(-count // len(MIXTURE))
    return [take(share, seed * len(MIXTURE) + k, spec, split) for k, spec in enumerate(MIXTURE)]


@torch.no_grad()
def extract(
    vlm: VLM, vae: VAE, scenes: Sequence[Scenes], points: Sequence[str | ExtractionPoint], batch: int = 64
) -> Latents:
    """Renders scenes and takes their latents at all points in one pass, `batch` pictures at a time."""
    parts = [part for group in scenes for part in group.chunks(batch)]
    total = sum(map(len, parts))
    store: dict[str, Tensor] = {}

    def keep(name: str, start: int, values: Tensor) -> None:
        # Filled in place: gathering parts first would take twice the memory.
        if name not in store:
            store[name] = torch.empty(total, *values.shape[1:], dtype=values.dtype, device=values.device)
        store[name][start : start + len(values)] = values

    start = 0
    for part in tqdm(parts, desc="latents", unit="batch", leave=False):
        rendered = render(part.to(vlm.device), batch)
        x = rendered.images.float() / 255
        for name, values in vlm.latents(x, points).items():
            keep(name, start, values)
        size = (x.shape[2], x.shape[3])
        keep("targets", start, vae.encode(resize(x, vae_size(size))))
        keep("pictures", start, rendered.images)
        keep("masks", start, rendered.mask)
        start += len(part)
    rest = {name: store.pop(name) for name in ("targets", "pictures", "masks")}
    return Latents(store, **rest)
