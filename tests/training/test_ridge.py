"""Linear probes in closed form: the weights of numpy and scikit-learn, and a penalty that validates best."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from foresight.adapters.modules import LinearProbe
from foresight.errors import InputError
from training.ridge import PENALTIES, NormalEquations, normal_equations, solve_linear


def streamed(x, y, parts=3):
    sums = NormalEquations(x.shape[1], y.shape[1])
    for a, b in zip(x.chunk(parts), y.chunk(parts), strict=True):
        sums.add(a, b)
    return sums


@pytest.fixture
def pairs():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(200, 7, generator=draw, dtype=torch.float64) * torch.arange(1, 8) + 3
    return x, x[:, :2] @ torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 4.0]]).double() + torch.randn(200, 3) + 5


@pytest.mark.parametrize("penalty", [1e-3, 1.0, 30.0])
def test_it_is_scikit_learns_ridge(pairs, penalty):
    x, y = pairs
    ((weights, bias),) = streamed(x, y).solve([penalty])
    theirs = Ridge(alpha=penalty * len(x)).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(weights.numpy(), theirs.coef_.T, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(bias.numpy(), theirs.intercept_, rtol=1e-8)


def test_without_a_penalty_it_is_least_squares_and_knows_its_error(pairs):
    x, y = pairs
    sums = streamed(x, y)
    ((weights, bias),) = sums.solve([1e-15])
    ones = np.concatenate([x.numpy(), np.ones((200, 1))], 1)
    theirs, residuals, *_ = np.linalg.lstsq(ones, y.numpy(), rcond=None)
    np.testing.assert_allclose(torch.cat([weights, bias[None]]).numpy(), theirs, rtol=1e-8, atol=1e-10)
    assert sums.error(weights, bias) == pytest.approx(residuals.sum() / y.numel(), rel=1e-9)
    other_x, other_y = x.flip(1) + 1, y - 2
    right = (other_x @ weights + bias - other_y).square().mean().item()
    assert streamed(other_x, other_y, 7).error(weights, bias) == pytest.approx(right, rel=1e-9)


@pytest.mark.parametrize(("fold", "cells"), [(1, 4), (2, 1)])
def test_a_probe_finds_the_map_that_made_its_targets(fold, cells):
    torch.manual_seed(1)
    hidden, probe = (LinearProbe(6, 4, fold, cells) for _ in range(2))
    latents = torch.randn(90, 1, 4, 6, 6) * 3 + 1
    targets = hidden(latents).detach()
    probe.fit_statistics(latents, targets)
    solved = solve_linear(probe, (latents[:70], targets[:70]), (latents[70:], targets[70:]))
    assert solved["penalty"] == PENALTIES[0] and solved["validation_error"] < 1e-9
    torch.testing.assert_close(probe(latents), targets, rtol=1e-3, atol=1e-3)


def test_the_penalty_is_the_one_that_validates_best():
    torch.manual_seed(2)
    probe = LinearProbe(40, 4, 1, 1)
    latents, noise = torch.randn(400, 1, 1, 1, 40), torch.randn(400, 4, 1, 1)
    targets = latents[:, 0, 0, 0, :4, None, None] + noise  # few images, much noise: shrinking helps
    probe.fit_statistics(latents, targets)
    solved = solve_linear(probe, (latents[:60], targets[:60]), (latents[60:], targets[60:]))
    held = normal_equations(probe, latents[60:], targets[60:])
    errors = [held.error(*s) for s in normal_equations(probe, latents[:60], targets[:60]).solve(PENALTIES)]
    assert solved["validation_error"] == min(errors) < 0.9 * errors[0] and PENALTIES[0] < solved["penalty"] < 10
    seen = (probe(latents[60:]) - targets[60:]) / probe.z_std.view(-1, 1, 1)
    assert seen.square().mean().item() == pytest.approx(solved["validation_error"], rel=1e-5)


def test_latents_that_are_not_finite_are_named():
    with pytest.raises(InputError, match="not finite"):
        streamed(torch.full((4, 2), torch.nan), torch.zeros(4, 1)).solve([1.0])
