"""Colours of video as 8-bit sRGB shows them: HDR is tone mapped, wide gamuts are converted.

Codes of transfer functions and primaries are those of ITU-T H.273, as video files carry them.
"""

import torch
from torch import Tensor

PQ, HLG = 16, 18  # transfer functions of HDR: SMPTE ST 2084, and BT.2100's hybrid log-gamma
BT2020, DISPLAY_P3 = 9, 12  # primaries
PEAK, WHITE = 1000.0, 203.0  # cd/m²: what HDR is mastered to, as a rule, and its white of paper (BT.2408)
_GAMMA = 2.4  # of BT.1886, which displays what SDR television encodes

# Linear light of these primaries to BT.709's, which are sRGB's; all have the white point D65 (BT.2087; P3 likewise).
_TO_709 = {
    BT2020: [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    DISPLAY_P3: [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]],
}


def to_srgb(x: Tensor, transfer: int, primaries: int) -> Tensor:
    """(3, H, W) in [0, 1], R'G'B' as coded → sRGB in [0, 1].

    SDR of BT.709 stays as it is, as players show it.
    """
    if transfer in (PQ, HLG):
        light = pq_to_light(x) if transfer == PQ else hlg_to_light(x)
        light = _convert(tone_map(light) / WHITE, primaries).clamp(0, 1)
        return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    if primaries in _TO_709:
        return _convert(x.clamp(0, 1) ** _GAMMA, primaries).clamp(0, 1) ** (1 / _GAMMA)
    return x.clamp(0, 1)


def _convert(light: Tensor, primaries: int) -> Tensor:
    if primaries not in _TO_709:
        return light
    return torch.einsum("ij,jhw->ihw", torch.tensor(_TO_709[primaries]), light)


_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128  # of SMPTE ST 2084


def pq_to_light(x: Tensor) -> Tensor:
    """Perceptual quantiser's codes in [0, 1] → cd/m², up to 10,000."""
    power = x.clamp(0, 1) ** (1 / _M2)
    return 10_000 * ((power - _C1).clamp_min(0) / (_C2 - _C3 * power)) ** (1 / _M1)


def light_to_pq(light: Tensor) -> Tensor:
    """`pq_to_light`'s inverse."""
    power = (light / 10_000).clamp(0, 1) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def hlg_to_light(x: Tensor) -> Tensor:
    """Hybrid log-gamma's codes (3, H, W) in [0, 1] → cd/m² on a display of 1,000 (BT.2100: OETF's inverse, OOTF)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = torch.where(x <= 0.5, x.clamp_min(0) ** 2 / 3, (((x.clamp(0, 1) - c) / a).exp() + b) / 12)
    weights = torch.tensor([0.2627, 0.6780, 0.0593]).view(3, 1, 1)
    return PEAK * scene * (scene * weights).sum(0).clamp_min(1e-6) ** 0.2


def tone_map(light: Tensor) -> Tensor:
    """(3, H, W) in cd/m² up to PEAK → up to WHITE, with BT.2390's curve on the largest colour; hues stay."""
    most = light.amax(0).clamp(1e-4, PEAK)
    top = light_to_pq(torch.tensor(PEAK))
    ceiling = light_to_pq(torch.tensor(WHITE)) / top
    code, knee = light_to_pq(most) / top, 1.5 * ceiling - 0.5
    t = ((code - knee) / (1 - knee)).clamp(0, 1)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * ceiling
    mapped = pq_to_light(torch.where(code < knee, code, curve) * top)
    return light.clamp(0, PEAK) * (mapped / most)
