"""Heads that read an object's box out of latents. Boxes are fractions of the image: left, top, right, bottom."""

import numpy as np
import torch
from torch import Tensor, nn

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
        out = self.out(x).float()  # (B, H, W, 5)
        height, width = out.shape[1:3]
        y = ((torch.arange(height, device=out.device) + 0.5) / height)[:, None].expand(height, width)
        x = ((torch.arange(width, device=out.device) + 0.5) / width).expand(height, width)
        reach = nn.functional.softplus(out[..., :4])
        boxes = torch.stack([x, y, x, y], -1) + reach * reach.new_tensor([-1, -1, 1, 1])
        trust = out[..., 4].flatten(1).softmax(1)[..., None]
        return (trust * boxes.flatten(1, 2)).sum(1)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (…, 4): left, top, right, bottom → (…)."""
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (a, b)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-9)


def best_constant_box(boxes: Tensor) -> Tensor:
    """The one of the boxes (N, 4) whose mean IoU with all of them is largest: (4,)."""
    return boxes[box_iou(boxes[:, None], boxes[None]).mean(1).argmax()]


class BoxError(nn.Module):
    """The absolute error of a head's boxes and what is missing to an IoU of 1."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, latents: Tensor, truth: Tensor) -> Tensor:
        boxes = self.head(latents)  # (B, 4)
        return (boxes - truth).abs().mean() + (1 - box_iou(boxes, truth)).mean()


def box_scores(boxes: Tensor, truth: Tensor) -> dict[str, np.ndarray]:
    """Scores (N,) of boxes (N, 4): IoU, whether it is above 0.5 and 0.75, errors of centre and size."""
    iou = box_iou(boxes, truth)
    centre = ((boxes[:, :2] + boxes[:, 2:]) - (truth[:, :2] + truth[:, 2:])) / 2
    size = (boxes[:, 2:] - boxes[:, :2]) - (truth[:, 2:] - truth[:, :2])
    scores = {
        "mean IoU": iou,
        "IoU > 0.5": (iou > 0.5).float(),
        "IoU > 0.75": (iou > 0.75).float(),
        "centre error, px of 224": centre.norm(dim=1) * 224,
        "size error, px of 224": size.abs().mean(1) * 224,
    }
    return {name: values.double().cpu().numpy() for name, values in scores.items()}
