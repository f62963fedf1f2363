"""What decoded latents lack against the pictures that they should show: the picture part of an adapter's loss.

Shapes: B pictures of H × W pixels, whose VAE latents are C × h × w; A adapters; windows of `side` cells.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from foresight.data.images import resize_weights
from foresight.metrics.masks import CONTRAST, HALO
from foresight.metrics.perceptual import LPIPS, lpips_model
from foresight.models.vae import VAE

BESIDE = 3  # pixels around an object that still count as near it
LEAST_AREA = 100  # pixels: smaller objects, and slivers of them in a window, count as that large
MARGIN = 2  # cells at a window's rim that lack what the decoder sees beyond it
AT_EDGES = 0.8  # share of windows that lie on an object's edge; the others lie anywhere

resize_axis = functools.cache(resize_weights)


class ImageLoss:
    """Decodes latents and compares the pictures, whole or in windows of `side` cells, which cost a fraction.

    Args:
        vae: decodes the latents.
        side: of the windows, in cells; None: whole images.
        pixel_weight: of the absolute error.
        object_weight: of the same on and beside objects alone.
        halo_weight: of halos around objects.
        perceptual_weight: of LPIPS.
    """

    def __init__(
        self,
        vae: VAE,
        side: int | None,
        pixel_weight: float,
        object_weight: float,
        halo_weight: float,
        perceptual_weight: float,
    ):
        self.vae, self.side = vae, side
        self.pixel_weight, self.object_weight = pixel_weight, object_weight
        self.halo_weight, self.perceptual_weight = halo_weight, perceptual_weight

    def __call__(self, z: Tensor, originals: Tensor, masks: Tensor, generator: torch.Generator) -> Tensor:
        """Losses (A,) of latents (A · B, C, h, w) against originals (B, 3, H, W) uint8.

        masks: (B, H, W) bool, what shows an object. generator: of the windows, on the same device.
        """
        grid, adapters = (z.shape[2], z.shape[3]), len(z) // len(originals)
        scale = originals.shape[2] // grid[0]  # pixels a cell
        valid = torch.ones_like(masks)
        around = beside(masks, HALO) & ~masks if self.halo_weight else torch.zeros_like(masks)
        if self.side is not None and self.side < min(grid):
            corners = choose_windows(masks, grid, self.side, generator)
            z = cut(z, corners.repeat(adapters, 1), self.side)
            originals = cut(originals, corners * scale, self.side * scale)
            masks, around = cut(torch.stack([masks, around], 1), corners * scale, self.side * scale).unbind(1)
            valid = exact_cells(corners, grid, self.side).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        down, across = (resize_axis(z.shape[d] * self.vae.downscale, originals.shape[d], z.device) for d in (2, 3))
        lpips = lpips_model(z.device) if self.perceptual_weight else None
        return self._compare(z, originals, masks, around, valid, down, across, lpips).view(adapters, -1).mean(1)

    def compile(self) -> None:
        """Compiles the comparison, which takes a minute at first: for long runs on a GPU."""
        self._compare = torch.compile(self._compare, dynamic=False)  # type: ignore[method-assign]

    def _compare(
        self,
        z: Tensor,
        originals: Tensor,
        masks: Tensor,
        around: Tensor,
        valid: Tensor,
        down: Tensor,
        across: Tensor,
        lpips: LPIPS | None,
    ) -> Tensor:
        """Losses (A · B,) of latents (A · B, C, h, w) against what they should show, all of it cut alike.

        down, across: as from `resize_axis`, from the decoded picture's size to the original's.
        """
        adapters = len(z) // len(originals)
        x = (originals.float() / 255).repeat(adapters, 1, 1, 1)
        y = self.vae.decode(z, clamp=False)
        with torch.autocast(y.device.type, enabled=False):  # `resize`, whose own backward is never twice the same
            y = (down @ y @ across.T).clamp(0, 1)
        # Where it lacks what lies beyond the window, a picture is taken to be right.
        y = torch.where(valid.repeat(adapters, 1, 1)[:, None], y, x)
        error = (y - x).abs().mean(1)  # (A · B, H, W)
        loss = self.pixel_weight * error.mean((1, 2))
        if self.object_weight:
            at_objects = (beside(masks, BESIDE) & valid).float().repeat(adapters, 1, 1)
            mean_error = (error * at_objects).sum((1, 2)) / at_objects.sum((1, 2)).clamp_min(1)
            loss = loss + self.object_weight * mean_error
        if self.halo_weight:
            off = ((y - x).square().sum(1) + 1e-6).sqrt()  # (A · B, H, W), with a gradient at 0
            area = (masks & valid).sum((1, 2)).clamp_min(LEAST_AREA).repeat(adapters)
            loss = (
                loss
                + self.halo_weight * ((off - CONTRAST / 2).relu() * around.repeat(adapters, 1, 1)).sum((1, 2)) / area
            )
        if lpips is not None:
            features = [f.repeat(adapters, 1, 1, 1) for f in lpips.features(x[: len(originals)])]
            loss = loss + self.perceptual_weight * lpips.distance(features, lpips.features(y))
        return loss


def beside(masks: Tensor, reach: int) -> Tensor:
    """(B, H, W) bool, and the same with what lies within `reach` pixels."""
    return F.max_pool2d(masks[:, None].float(), 2 * reach + 1, 1, reach)[:, 0] > 0


def choose_windows(masks: Tensor, grid: tuple[int, int], side: int, generator: torch.Generator) -> Tensor:
    """The first row and column (B, 2) of a window of `side` cells in each picture, most of them on an object's edge."""
    coverage = masks[:, None].float()
    edge = F.adaptive_max_pool2d(coverage, grid) + F.adaptive_max_pool2d(-coverage, grid)  # 1 where a cell holds both
    count, device = len(masks), masks.device
    keys = torch.rand(count, grid[0] * grid[1], generator=generator, device=device)
    on_edge = torch.rand(count, 1, generator=generator, device=device) < AT_EDGES
    at = (keys + edge.flatten(1) * on_edge).argmax(1)
    middle = torch.stack([at // grid[1], at % grid[1]], 1)
    most = torch.tensor([n - side for n in grid], device=device)
    return (middle - side // 2).clamp_min(0).minimum(most)


def cut(x: Tensor, corners: Tensor, side: int) -> Tensor:
    """Windows (B, C, side, side) of x (B, C, H, W) at corners (B, 2)."""
    span = torch.arange(side, device=x.device)
    rows, columns = (corners[:, d, None] + span for d in (0, 1))
    index = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def exact_cells(corners: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Which cells (B, side, side) of windows decode as they do in the whole picture: all but a rim within it."""
    span = torch.arange(side, device=corners.device)
    ranges = []
    for d in (0, 1):
        first, last = corners[:, d, None] == 0, corners[:, d, None] == grid[d] - side
        ranges.append((first | (span >= MARGIN)) & (last | (span < side - MARGIN)))
    return ranges[0][:, :, None] & ranges[1][:, None]
