"""Many small adapters of one shape as one computation: the same numbers with a few large kernels.

On a GPU a small adapter waits for kernels to start more than for them to run, so a grid of sixty would cost sixty
times one. Each keeps its own parameters, gradients and clipping; they are stacked anew in each step.

Shapes: K adapters, B pictures each, H × W (folded) tokens, D width, C channels of the VAE.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foresight.adapters.modules import Adapter, LinearProbe, TokenAdapter, fold_tokens, unfold_tokens

Parameters = dict[str, Tensor]  # by their names in one adapter, each (K, …)


def stackable(module: nn.Module) -> bool:
    """Whether `together` knows this kind of adapter."""
    return isinstance(module, LinearProbe | TokenAdapter)


def form(adapter: Adapter, latents: Tensor) -> tuple:
    """What adapters must share to be computed together: kind, shapes of parameters and of latents (B, T, H, W, D)."""
    return type(adapter), *(tuple(p.shape) for p in adapter.parameters()), tuple(latents.shape[1:])


def together(adapters: Sequence[Adapter], latents: Tensor) -> Tensor:
    """Adapters of one form on latents (K, B, 1, H, W, D) → standardised VAE latents (K, B, C, h, w)."""
    k, b = latents.shape[:2]
    mean, std = (
        torch.stack(list(v))[:, None, None, None] for v in zip(*((a.mean, a.std) for a in adapters), strict=True)
    )
    x = (latents[:, :, 0].float() - mean) / std  # (K, B, H, W, D)
    if adapters[0].fold > 1:
        x = fold_tokens(x.flatten(0, 1), adapters[0].fold).unflatten(0, (k, b))
    each = [dict(a.named_parameters()) for a in adapters]
    p = {name: torch.stack([one[name] for one in each]) for name in each[0]}
    cells = adapters[0].cells
    if isinstance(adapters[0], LinearProbe):
        x = unfold_tokens(_linear(p, "linear", x).flatten(0, 1), cells)
    else:
        x = _linear(p, "stem", x)
        for block in ("tokens.0", "tokens.1"):
            x = _block(p, block, x)
        x = unfold_tokens(_linear(p, "spread_out", x).flatten(0, 1), cells).unflatten(0, (k, b))
        for block in ("refine.0", "refine.1"):
            x = _block(p, block, x)
        x = _linear(p, "head.1", _norm(p, "head.0", x)).flatten(0, 1)
    return x.permute(0, 3, 1, 2).unflatten(0, (k, b)).float()


def _linear(p: Parameters, name: str, x: Tensor) -> Tensor:
    """(K, B, H, W, D) → (K, B, H, W, D')"""
    y = torch.baddbmm(p[f"{name}.bias"][:, None], x.flatten(1, 3), p[f"{name}.weight"].mT)
    return y.unflatten(1, x.shape[1:4])


def _norm(p: Parameters, name: str, x: Tensor) -> Tensor:
    weight, bias = (p[f"{name}.{kind}"][:, None, None, None] for kind in ("weight", "bias"))
    return F.layer_norm(x, x.shape[-1:]) * weight + bias


def _block(p: Parameters, name: str, x: Tensor) -> Tensor:
    """The adapters' block: a depth-wise convolution of K · D channels, then each adapter's own MLP."""
    k, b, h, w, d = x.shape
    y = x.permute(1, 0, 4, 2, 3).reshape(b, k * d, h, w)
    weight, bias = p[f"{name}.spatial.weight"].flatten(0, 1), p[f"{name}.spatial.bias"].flatten()
    y = F.conv2d(y, weight, bias, padding=weight.shape[-1] // 2, groups=k * d)
    y = _norm(p, f"{name}.norm", y.view(b, k, d, h, w).permute(1, 0, 3, 4, 2))
    return x + _linear(p, f"{name}.mlp.2", F.gelu(_linear(p, f"{name}.mlp.0", y)))
