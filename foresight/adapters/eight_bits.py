"""An adapter's matrices as whole numbers of 8 bits with a scale for each output: half the file of float16."""

import torch
from torch import Tensor

from foresight.adapters.modules import Adapter

SCALE = ".scale"  # what the name of a matrix's scales ends with, in a file


def to_eight_bits(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix (n, …) as whole numbers from -127 to 127 (int8), and a scale for each of its n outputs (float32).

    Number times scale is the weight, off by half a scale at most: 1/254 of the largest weight of its output.
    """
    scale = matrix.flatten(1).abs().amax(1) / 127
    return (matrix / _beside(scale.where(scale > 0, 1), matrix)).round().to(torch.int8), scale


def to_floats(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """An adapter's tensors as a file holds them → in float32, without the scales."""
    floats = {key: value.float() for key, value in tensors.items() if not key.endswith(SCALE)}
    for key, value in tensors.items():
        if value.dtype is torch.int8:
            floats[key] *= _beside(tensors[key + SCALE].float(), value)
    return floats


@torch.no_grad()
def round_to_eight_bits(adapter: Adapter) -> None:
    """Gives an adapter the weights that it has once it is saved in 8 bits, to be scored with."""
    for matrix in matrices(adapter).values():
        numbers, scale = to_eight_bits(matrix)
        matrix.copy_(numbers * _beside(scale, matrix))


def matrices(adapter: Adapter) -> dict[str, Tensor]:
    """An adapter's weights but for biases and norms, which are few."""
    return {key: weight.detach() for key, weight in adapter.named_parameters() if weight.ndim > 1}


def _beside(scale: Tensor, matrix: Tensor) -> Tensor:
    """Scales (n,) in a shape that multiplies a matrix (n, …)."""
    return scale.view(-1, *[1] * (matrix.ndim - 1))
