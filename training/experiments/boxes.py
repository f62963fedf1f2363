"""Heads that read an object's box out of latents. Boxes are fractions of the picture: left, top, right, bottom."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.experiments.statistics import box_iou

HIDDEN = 128


class _Head(nn.Module):
    """Standardises latents (B, 1, H, W, D) by their own training mean and spread."""

    mean: Tensor
    std: Tensor

    def __init__(self, sample: Tensor):
        super().__init__()
        flat = sample.float().flatten(0, -2)
        self.register_buffer("mean", flat.mean(0))
        self.register_buffer("std", flat.std(0).clamp_min(1e-4))

    def standardise(self, latents: Tensor) -> Tensor:
        return (latents[:, 0].float() - self.mean) / self.std  # (B, H, W, D)


class PooledBox(_Head):
    """The mean over tokens, then an MLP: the seed's kind of head."""

    def __init__(self, sample: Tensor):
        super().__init__(sample)
        layers = [nn.Linear(sample.shape[-1], 2 * HIDDEN), nn.GELU(), nn.Linear(2 * HIDDEN, 2 * HIDDEN), nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(2 * HIDDEN, 4))

    def forward(self, latents: Tensor) -> Tensor:
        x, y, half_width, half_height = self.mlp(self.standardise(latents).mean((1, 2))).float().sigmoid().unbind(-1)
        return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], -1)


class TokenBox(_Head):
    """Every token says how far the box's sides are from it and how much it is to be believed."""

    def __init__(self, sample: Tensor):
        super().__init__(sample)
        self.stem = nn.Linear(sample.shape[-1], HIDDEN)
        self.look = nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1)
        self.out = nn.Linear(HIDDEN, 5)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.stem(self.standardise(latents))
        x = x + nn.functional.gelu(self.look(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        said = self.out(x).float()  # (B, H, W, 5)
        height, width = said.shape[1:3]
        y = ((torch.arange(height, device=said.device) + 0.5) / height)[:, None].expand(height, width)
        x = ((torch.arange(width, device=said.device) + 0.5) / width).expand(height, width)
        reach = nn.functional.softplus(said[..., :4])
        boxes = torch.stack([x, y, x, y], -1) + reach * reach.new_tensor([-1, -1, 1, 1])
        belief = said[..., 4].flatten(1).softmax(1)[..., None]
        return (belief * boxes.flatten(1, 2)).sum(1)


def box_loss(found: Tensor, truth: Tensor) -> Tensor:
    """Absolute error and what is missing to an IoU of 1, of boxes (B, 4)."""
    return (found - truth).abs().mean() + (1 - box_iou(found, truth)).mean()
