"""The bundled VAE: diffusers' AutoencoderTiny, taught from scratch on photos and scenes.

It learns as it is used: the loss compares pictures at the VLM's size, which were enlarged by 8/7, encoded, decoded
and brought back to that size.
"""

import json
import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foresight.data.images import resize, vae_size
from foresight.data.render import render
from foresight.data.scenes import SceneSpec, take
from foresight.metrics.fidelity import ssim
from foresight.metrics.perceptual import lpips_model
from training.bundle.natural_images import read_photos
from training.loop import Recipe

RECIPE = Recipe(steps=9000, batch=64, lr=1e-3, warmup=300, weight_decay=0.0, beta2=0.99, ema=0.999)
SCENES_PER_PHOTO = 0.5
NOISE = 0.01  # added to latents, so that an adapter's small errors stay small in the picture
SIDE = 224


def new_vae() -> Any:
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    # No blocks at full size: half the time for nearly the same picture.
    return AutoencoderTiny(latent_channels=16, num_encoder_blocks=(0, 3, 4, 3), num_decoder_blocks=(3, 4, 3, 0))


def photo_tiles(folder: Path, device: torch.device) -> Tensor:
    """Three squares of each photo, shorter side at 256: (3 · photos, 3, 256, 256) uint8, both ends and the middle."""
    tiles = []
    for photo in read_photos(sorted(folder.glob("*.jpg")), 256, device):
        for k in range(3):
            top, left = ((n - 256) * k // 2 for n in photo.shape[1:])
            tiles.append(photo[:, top : top + 256, left : left + 256])
    return torch.stack(tiles)


class RoundTrip:
    """Pictures there and back: L1, squares, LPIPS; SSIM of scenes. Rows are tiles of photos, scenes come along."""

    def __init__(self, model: Any, photos: Path, scenes: int, seed: int, device: torch.device):
        self.modules = nn.ModuleDict({"vae": model.to(memory_format=torch.channels_last)})
        self.tiles = photo_tiles(photos, device)
        self.scenes = torch.cat(
            [render(part).images for part in take(scenes, seed, SceneSpec(), "train", device).chunks(4096)]
        )
        self.rows, self.lpips = len(self.tiles), lpips_model(device)
        self._loss = torch.compile(self._round_trip) if device.type == "cuda" else self._round_trip

    def loss(self, rows: Tensor, generator: torch.Generator, done: float) -> dict[str, Tensor]:
        device, draw = self.tiles.device, random.Random(generator.initial_seed())
        side = draw.choice((SIDE, 240, 256))
        top, left = draw.randint(0, 256 - side), draw.randint(0, 256 - side)
        photos = self.tiles[rows.to(device), :, top : top + side, left : left + side].float() / 255
        photos = resize(photos.flip(3) if draw.random() < 0.5 else photos, (SIDE, SIDE))
        picked = torch.randint(
            len(self.scenes), (round(len(rows) * SCENES_PER_PHOTO),), generator=generator, device=device
        )
        x = torch.cat([photos, self.scenes[picked].float() / 255]).contiguous(memory_format=torch.channels_last)
        size = vae_size((SIDE, SIDE))
        noise = torch.randn(len(x), 16, size[0] // 8, size[1] // 8, generator=generator, device=device)
        return {"vae": self._loss(self.modules["vae"], x, noise * NOISE, len(rows))}

    def _round_trip(self, vae: Any, x: Tensor, noise: Tensor, photos: int) -> Tensor:
        large = F.interpolate(x, vae_size((SIDE, SIDE)), mode="bicubic", antialias=True).clamp(0, 1)
        y = (vae.decoder(vae.encoder(large * 2 - 1) + noise) + 1) / 2
        y = F.interpolate(y.float(), (SIDE, SIDE), mode="bicubic", antialias=True)
        error = y - x
        weight = torch.where(torch.arange(len(x), device=x.device) < photos, 2.0, 10.0)  # scenes are flat: small errors
        absolute = (weight * error.abs().mean((1, 2, 3))).mean()
        with torch.autocast(x.device.type, enabled=False):  # variances need more digits than bf16 has
            structure = (1 - ssim(x[photos:], y[photos:])).sum() / len(x)
        return absolute + 4 * error.square().mean() + 2 * self.lpips(x, y).mean() + 6 * structure


def save_vae(model: Any, folder: Path) -> None:
    """diffusers' own layout, in fp16, without the two records that its class adds but does not take back."""
    model.to(torch.float16).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    own_config = {key: value for key, value in config.items() if key not in ("block_out_channels", "_name_or_path")}
    (folder / "config.json").write_text(json.dumps(own_config, indent=2) + "\n", encoding="utf-8")
