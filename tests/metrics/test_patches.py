import pytest
import torch

from foresight.metrics.patches import traits, worst_patches


def test_the_worst_squares_come_first_and_do_not_overlap():
    errors = torch.rand(80, 120, generator=torch.Generator().manual_seed(0)) * 0.1
    errors[50:70, 90:110] = 0.9
    errors[5:25, 10:30] = 0.6
    first, second, third = worst_patches(errors)
    assert (first.left, first.top, first.side) == (90, 50, 20) and first.lpips == pytest.approx(0.9, abs=1e-4)
    assert (second.left, second.top) == (10, 5) and second.lpips > third.lpips
    for patch in (first, second):
        assert abs(patch.left - third.left) >= 20 or abs(patch.top - third.top) >= 20
    assert len(worst_patches(torch.ones(28, 28), 99)) <= 16


def test_traits_of_pictures():
    noise = torch.rand(3, 56, 112, generator=torch.Generator().manual_seed(0))
    assert traits(noise) == {"detail": "busy", "brightness": "bright", "aspect": "wide"}
    assert traits(torch.zeros(3, 56, 56)) == {"detail": "plain", "brightness": "dark", "aspect": "square"}
    assert traits(torch.full((3, 112, 56), 0.42))["aspect"] == "tall"
