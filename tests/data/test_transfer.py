"""HDR and wide gamuts: values of the standards, greys that stay grey, highlights that do not clip."""

import pytest
import torch

from foresight.data.transfer import (
    BT2020,
    DISPLAY_P3,
    HLG,
    PQ,
    hlg_to_light,
    light_to_pq,
    pq_to_light,
    to_srgb,
    tone_map,
)


def grey(value):
    return torch.full((3, 1, 1), float(value))


@pytest.mark.parametrize(
    ("code", "light"), [(0.0, 0.0), (0.508078, 100), (0.580689, 203), (0.751827, 1000), (1.0, 10000)]
)
def test_the_perceptual_quantiser(code, light):
    """Codes of SMPTE ST 2084, as BT.2408 lists them."""
    assert pq_to_light(torch.tensor(code)).item() == pytest.approx(light, rel=1e-3, abs=1e-6)
    assert light_to_pq(torch.tensor(float(light))).item() == pytest.approx(code, abs=1e-5)


@pytest.mark.parametrize(("code", "light"), [(0.75, 203), (1.0, 1000), (0.38, 26)])
def test_hybrid_log_gamma(code, light):
    """BT.2408: HLG's 75 % is 203 cd/m² and its 38 % is 26, on a display of 1,000."""
    assert hlg_to_light(grey(code))[0].item() == pytest.approx(light, rel=0.02)


def test_tones():
    light = torch.linspace(0.01, 1000, 200).expand(3, 1, -1)
    mapped = tone_map(light)[0, 0]
    assert (mapped.diff() > -1e-3).all() and mapped[-1].item() == pytest.approx(203, rel=1e-3)
    assert torch.allclose(tone_map(grey(50.0)), grey(50.0), rtol=1e-3)  # below the knee nothing changes
    red = tone_map(torch.tensor([800.0, 80.0, 8.0]).view(3, 1, 1)).flatten()
    assert (red / red[0]).tolist() == pytest.approx([1, 0.1, 0.01], rel=1e-3)


@pytest.mark.parametrize("transfer", [PQ, HLG, 1])
@pytest.mark.parametrize("primaries", [1, BT2020, DISPLAY_P3])
def test_greys_stay_grey(transfer, primaries):
    for value in (0.0, 0.2, 0.5, 0.9, 1.0):
        x = to_srgb(grey(value), transfer, primaries).flatten()
        assert (x - x[0]).abs().max() < 2e-3 and 0 <= x[0] <= 1
        if transfer == 1:
            assert x[0].item() == pytest.approx(value, abs=2e-3)


def test_a_colour_that_both_gamuts_have_is_kept():
    """BT.709's red in BT.2020 is (0.6274, 0.0691, 0.0164) in linear light (BT.2087)."""
    coded = torch.tensor([0.6274, 0.0691, 0.0164]).view(3, 1, 1) ** (1 / 2.4)
    assert to_srgb(coded, 14, BT2020).flatten().tolist() == pytest.approx([1, 0, 0], abs=0.05)
