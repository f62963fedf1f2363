"""Images that look like nothing in particular but have the statistics of photographs, and crops of real ones.

Shapes: B images of H × W pixels, uint8 sRGB. Everything is drawn from a generator on its own device.
Sources: dead leaves, Lee, Mumford & Huang 2001; 1/f amplitude spectra, Field 1987; both as training data,
Baradad et al. 2021, "Learning to See by Looking at Noise".
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from foresight.data.images import load_image, resize, to_tensor

_LEAVES = 160  # discs in a picture of dead leaves
_FRACTAL_STEPS = 24  # iterations of a Julia set


def spectral_noise(count: int, side: int, generator: torch.Generator) -> Tensor:
    """Colour noise whose amplitude falls as 1/f^a, a from 0.8 to 2: clouds and fine grain. (count, 3, side, side)"""
    device = generator.device
    rows, columns = torch.fft.fftfreq(side, device=device)[:, None], torch.fft.rfftfreq(side, device=device)[None]
    frequency = torch.hypot(rows, columns).clamp(min=1 / side)
    slope = 0.8 + 1.2 * torch.rand(count, 1, 1, 1, generator=generator, device=device)
    white = torch.randn(count, 3, side, side, generator=generator, device=device)
    noise = torch.fft.irfft2(torch.fft.rfft2(white) * frequency.pow(-slope), (side, side))
    noise = (noise - noise.mean((2, 3), True)) / noise.std((2, 3), keepdim=True)
    # One mix of channels and one mean colour for each image: photographs are correlated over colours.
    mix = 0.7 * torch.eye(3, device=device) + 0.5 * torch.randn(count, 3, 3, generator=generator, device=device)
    contrast = 0.05 + 0.2 * torch.rand(count, 1, 1, 1, generator=generator, device=device)
    mean = torch.rand(count, 3, 1, 1, generator=generator, device=device)
    return _to_bytes(mean + contrast * torch.einsum("bij,bjhw->bihw", mix, noise))


def dead_leaves(count: int, side: int, generator: torch.Generator) -> Tensor:
    """Discs that cover one another, radii by a power law, colours around a palette. (count, 3, side, side)"""
    device = generator.device
    uniform = partial(torch.rand, generator=generator, device=device)
    places = torch.arange(side, device=device).float()
    palette = uniform(count, 6, 3)
    image = palette[:, 0, :, None, None].expand(-1, -1, side, side).clone()
    least, most = 4.0, side / 2.5
    for _ in range(_LEAVES):
        # Density r⁻³ between the two radii, by its inverse distribution function.
        radius = (most**-2 + uniform(count) * (least**-2 - most**-2)).rsqrt()
        x, y = (uniform(2, count) * side).unbind()
        chosen = palette[torch.arange(count, device=device), (uniform(count) * 6).long()]
        color = (chosen + 0.15 * (uniform(count, 3) - 0.5)).clamp(0, 1)
        distance = torch.hypot(places[None, None] - x[:, None, None], places[None, :, None] - y[:, None, None])
        cover = (radius[:, None, None] - distance + 0.5).clamp(0, 1)[:, None]
        image = torch.lerp(image, color[:, :, None, None], cover)
    return _to_bytes(image)


def fractals(count: int, side: int, generator: torch.Generator) -> Tensor:
    """Julia sets of random constants under random palettes. (count, 3, side, side)"""
    device = generator.device
    uniform = partial(torch.rand, generator=generator, device=device)
    angle = 2 * math.pi * uniform(count, 1, 1)
    constant = 0.7885 * torch.exp(1j * angle)  # on this circle most sets are neither dust nor a disc
    zoom, centre = 0.5 + uniform(count, 1, 1), (uniform(count, 2, 1, 1) - 0.5)
    line = torch.linspace(-1.6, 1.6, side, device=device)
    z = torch.complex(line[None, None] * zoom + centre[:, 0], line[None, :, None] * zoom + centre[:, 1])
    speed = torch.zeros(count, side, side, device=device)
    for _ in range(_FRACTAL_STEPS):
        z = torch.where(z.abs() < 4, z * z + constant, z)
        speed += (z.abs() < 4).float()
    height = (speed - (z.abs().clamp(min=1.001).log().clamp(min=1e-3)).log2().clamp(-2, 2)) / _FRACTAL_STEPS
    phase, rate = uniform(count, 3, 1, 1), 0.5 + 2 * uniform(count, 3, 1, 1)
    return _to_bytes(0.5 + 0.45 * torch.cos(2 * math.pi * (rate * height[:, None] + phase)))


def procedural(count: int, side: int, generator: torch.Generator) -> Tensor:
    """A third each of noise, leaves and fractals, in no order that the row's number tells."""
    makers = (spectral_noise, dead_leaves, fractals)
    shares = [count // 3 + (k < count % 3) for k in range(3)]
    images = torch.cat([make(share, side, generator) for make, share in zip(makers, shares, strict=True) if share])
    return images[torch.randperm(count, generator=generator, device=generator.device)]


def read_photos(files: Sequence[Path], short_side: int, device: torch.device) -> list[Tensor]:
    """Photographs (3, H, W) uint8 on the device, their shorter side `short_side` pixels."""
    photos = []
    for file in files:
        x = to_tensor(load_image(file))[None].to(device)
        scale = short_side / min(x.shape[2:])
        size = (max(short_side, round(x.shape[2] * scale)), max(short_side, round(x.shape[3] * scale)))
        photos.append(_to_bytes(resize(x, size))[0])
    return photos


def center_square(image: Tensor) -> Tensor:
    """The middle square of an image (3, H, W)."""
    height, width = image.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[:, top : top + side, left : left + side]


def photo_crops(photos: Sequence[Tensor], count: int, side: int, generator: torch.Generator) -> Tensor:
    """Random square crops of photographs, half of them mirrored, with their colours changed: (count, 3, side, side).

    A crop covers 60 to 100 % of the shorter side. Brightness, contrast, saturation and hue vary, so that what is
    said of an image has to be seen in it rather than remembered of the photograph.
    """
    device = generator.device
    numbers = torch.rand(count, 9, generator=generator, device=device).tolist()
    crops = []
    for u in numbers:
        photo = photos[int(u[0] * len(photos))]
        height, width = photo.shape[1:]
        part = int(min(height, width) * (0.6 + 0.4 * u[1]))
        top, left = int(u[2] * (height - part + 1)), int(u[3] * (width - part + 1))
        crop = (
            photo[:, top : top + part, left : left + part].flip(2)
            if u[4] < 0.5
            else photo[:, top : top + part, left : left + part]
        )
        crops.append(F.interpolate(crop[None].float() / 255, (side, side), mode="bilinear", antialias=True)[0])
    images = torch.stack(crops)
    u = torch.tensor(numbers, device=device)[:, 5:, None, None, None]  # (count, 4, 1, 1, 1)
    grey = images.mean(1, True)
    images = grey + (images - grey) * (0.5 + u[:, 0])  # saturation 0.5 to 1.5
    images = torch.einsum("bij,bjhw->bihw", _hue_rotation((u[:, 1, 0, 0, 0] - 0.5) * math.pi), images)
    mean = images.mean((1, 2, 3), True)
    images = mean + (images - mean) * (0.6 + 0.7 * u[:, 2]) + 0.5 * (u[:, 3] - 0.5)
    return _to_bytes(images)


def _hue_rotation(angle: Tensor) -> Tensor:
    """Rotations (B, 3, 3) of RGB about its grey axis by angles (B,) in radians."""
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    grey = torch.full((3, 3), 1 / 3, device=angle.device)
    k = 3**-0.5
    cross = torch.tensor([[0.0, -k, k], [k, 0.0, -k], [-k, k, 0.0]], device=angle.device)
    return cos * torch.eye(3, device=angle.device) + (1 - cos) * grey + sin * cross


def _to_bytes(images: Tensor) -> Tensor:
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)
