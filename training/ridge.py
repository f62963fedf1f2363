"""Linear probes solved exactly: ridge regression by normal equations, its penalty chosen on validation images.

Shapes: n tokens, each with P inputs (fold² · D standardised latents) and Q outputs (cells² · C standardised latents of
the VAE).
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from foresight.adapters.modules import BySize, LinearProbe, by_size, fold_tokens
from foresight.errors import InputError

PENALTIES = tuple(10 ** (k / 2) for k in range(-16, 3))  # 1e-8 to 10, in half decades
IMAGES = 64  # summed at a time


class NormalEquations:
    """Sums over pairs of inputs and outputs, in float64, that hold all a least-squares fit needs of them.

    They take P² + PQ numbers, however many pairs are added.
    """

    def __init__(self, inputs: int, outputs: int, device: torch.device | str = "cpu"):
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=device)

        self.count = 0
        self.x, self.y = zeros(inputs), zeros(outputs)
        self.xx, self.xy, self.yy = zeros(inputs, inputs), zeros(inputs, outputs), zeros(outputs)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Adds pairs: x (n, P), y (n, Q)."""
        x, y = x.double(), y.double()
        self.count += len(x)
        self.x += x.sum(0)
        self.y += y.sum(0)
        self.xx += x.T @ x
        self.xy += x.T @ y
        self.yy += y.square().sum(0)

    def solve(self, penalties: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
        """Weights (P, Q) and bias (Q,), float64, for each penalty λ > 0.

        They minimise the mean over pairs of ‖xW + b − y‖² + λ‖W‖², b unpenalised. One eigendecomposition of the
        inputs' covariance serves all penalties.

        Raises:
            InputError: if a sum is not finite.
        """
        if not (self.xx.isfinite().all() and self.xy.isfinite().all()):
            raise InputError("a linear probe cannot be solved: some latents are not finite.")
        mean_x, mean_y = self.x / self.count, self.y / self.count
        variances, axes = torch.linalg.eigh(self.xx / self.count - mean_x.outer(mean_x))
        along = axes.T @ (self.xy / self.count - mean_x.outer(mean_y))  # (P, Q)
        solutions = []
        for penalty in penalties:
            weights = axes @ (along / (variances.clamp_min(0) + penalty)[:, None])
            solutions.append((weights, mean_y - mean_x @ weights))
        return solutions

    def error(self, weights: Tensor, bias: Tensor) -> float:
        """Mean squared error, over pairs and outputs, of the map xW + b on the pairs that were added."""
        squares = (weights * (self.xx @ weights)).sum(0) + self.count * bias.square() + self.yy
        products = (weights * self.xy).sum(0) + bias * self.y - bias * (self.x @ weights)
        return float((squares - 2 * products).sum() / (self.count * len(bias)))


def normal_equations(adapter: LinearProbe, latents: BySize, targets: BySize) -> NormalEquations:
    """The sums for a probe whose statistics are set: latents (N, T, H, W, D) and VAE latents (N · T, C, h, w)."""
    outputs, inputs = adapter.linear.weight.shape
    sums = NormalEquations(inputs, outputs, adapter.mean.device)
    mean, std = adapter.z_mean.view(-1, 1, 1), adapter.z_std.view(-1, 1, 1)
    for x, y in (pair for sets in zip(by_size(latents), by_size(targets), strict=True) for pair in _parts(*sets)):
        x = ((x.to(mean.device).float() - adapter.mean) / adapter.std).flatten(0, 1)  # (B·T, H, W, D)
        y = ((y.to(mean.device).float() - mean) / std).permute(0, 2, 3, 1)  # (B·T, h, w, C)
        sums.add(fold_tokens(x, adapter.fold).flatten(0, 2), fold_tokens(y, adapter.cells).flatten(0, 2))
    return sums


def _parts(latents: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """IMAGES at a time of latents (N, T, H, W, D) and VAE latents (N · T, C, h, w)."""
    return zip(latents.split(IMAGES), targets.split(IMAGES * latents.shape[1]), strict=True)


@torch.no_grad()
def solve_linear(
    adapter: LinearProbe, train: tuple[BySize, BySize], validation: tuple[BySize, BySize]
) -> dict[str, float]:
    """Gives a probe whose statistics are set the weights of the ridge regression that validates best.

    Args:
        adapter: changed in place.
        train: latents (N, T, H, W, D) and VAE latents (N · T, C, h, w) to solve for; of several sizes, those of each.
        validation: the same of other images, on which λ is chosen from `PENALTIES`.

    Returns:
        {"penalty": λ, "validation_error": mean squared error of standardised VAE latents there}.
    """
    held = normal_equations(adapter, *validation)
    solutions = normal_equations(adapter, *train).solve(PENALTIES)
    errors = [held.error(*solution) for solution in solutions]
    best = min(range(len(errors)), key=errors.__getitem__)
    weights, bias = solutions[best]
    adapter.linear.weight.copy_(weights.T)
    adapter.linear.bias.copy_(bias)
    return {"penalty": PENALTIES[best], "validation_error": errors[best]}
