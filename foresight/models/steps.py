"""What lies between a transformer's products: norms, attention with rotary embedding, SwiGLU, 8-bit operands.

These move bytes and compute little. `PLAIN` is PyTorch's own operations, for any device and for gradients;
`kernels.py` has one Triton kernel for each, for the GPU without gradients.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

FP8_MAX = 448.0  # largest number of float8_e4m3fn


class Quantised(NamedTuple):
    """A matrix in 8 bits: `values` (rows, columns) float8_e4m3fn times `scale` (rows, 1) float32."""

    values: Tensor
    scale: Tensor


Operand = Tensor | Quantised


Angles = tuple[Tensor, Tensor]  # cos and sin, (S, head width / 2), float32


class Steps(NamedTuple):
    """One implementation of the steps. Rows are (rows, D); for the rest, see the functions of the same names."""

    norm: Callable[[Tensor, None, Tensor, float], tuple[Tensor, Tensor]]  # `add_norm` that leaves 16 bits
    add_norm: Callable[[Tensor, Tensor | None, Tensor, float], tuple[Tensor, Operand]]
    window_attention: Callable[[Tensor, Angles, Sequence[tuple[int, int]]], Tensor]
    causal_attention: Callable[[Tensor, Angles, int, Tensor | None], Tensor]
    swiglu: Callable[[Tensor], Operand]
    operand: Callable[[Tensor], Operand]


def quantise(x: Tensor) -> Quantised:
    """Rows (rows, columns) in 8 bits, each scaled so that its largest number is FP8_MAX."""
    x = x.float()
    scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-12) / FP8_MAX
    return Quantised((x / scale).to(torch.float8_e4m3fn), scale)


def product(x: Operand, weight: Operand, bias: Tensor | None = None) -> Tensor:
    """x (rows, inputs) times weight (outputs, inputs), both plain or both Quantised, → (rows, outputs).

    Of quantised ones the result is bfloat16.
    """
    if isinstance(x, Tensor) and isinstance(weight, Tensor):
        return F.linear(x, weight, bias)
    assert isinstance(x, Quantised) and isinstance(weight, Quantised)
    if not x.values.is_cuda:  # for tests: PyTorch 2.11 has no such product with a scale a row on CPUs
        whole = x.values.float() @ weight.values.float().t() * x.scale * weight.scale.t()
        return (whole if bias is None else whole + bias.float()).bfloat16()
    return torch._scaled_mm(
        x.values,
        weight.values.t(),
        scale_a=x.scale,
        scale_b=weight.scale.t(),
        bias=bias,
        out_dtype=torch.bfloat16,
        use_fast_accum=True,
    )


def add_norm(x: Tensor, update: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x + update, and its RMSNorm as transformers computes it: in float32, rounded before the weight."""
    x = x if update is None else x + update
    wide = x.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return x, weight * normed.to(x.dtype)


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Rotary embedding of (B, S, heads, head), in float32."""
    cos, sin = (t.unsqueeze(1) for t in angles)
    first, second = x.float().chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)


def attention(q: Tensor, k: Tensor, v: Tensor, **how: Any) -> Tensor:
    """(B, S, heads, head) each → (B, S, heads, head)."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, **how).transpose(1, 2)


def attention_in_windows(q: Tensor, k: Tensor, v: Tensor, windows: Sequence[tuple[int, int]]) -> Tensor:
    """(B, N, heads, head) each, window by window → (B, N, heads, head). windows: (how many, patches in each)."""
    sizes, parts = [count * size for count, size in windows], []
    for (count, size), *qkv in zip(windows, *(t.split(sizes, 1) for t in (q, k, v)), strict=True):
        windowed = (t.unflatten(1, (count, size)).flatten(0, 1) for t in qkv)
        parts.append(attention(*windowed).unflatten(0, (len(q), count)).flatten(1, 2))
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, S, heads of all three, head) → q of `heads` heads, k and v of half of the others each."""
    others = (qkv.shape[2] - heads) // 2
    q, k, v = qkv.split([heads, others, others], 2)
    return q, k, v


def window_attention(qkv: Tensor, angles: Angles, windows: Sequence[tuple[int, int]]) -> Tensor:
    """Attention of (B, N, 3 · heads, head) within windows, after rotary embedding, → (B, N, heads, head).

    windows: (how many, patches in each), in the order of the patches.
    """
    q, k, v = split_heads(qkv, qkv.shape[2] // 3)
    return attention_in_windows(rotate(q, angles), rotate(k, angles), v, windows)


def after(opening: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of sequences that all stand behind one opening.

    opening: its keys and values (1, P, 2 · heads, head). The others: (B, S, heads, head), turned already.
    """
    first = opening.expand(len(k), -1, -1, -1).chunk(2, 2)
    k, v = (torch.cat(pair, 1) for pair in zip(first, (k, v), strict=True))
    return attention(q, k, v, attn_mask=causal_lower_right(q.shape[1], k.shape[1]), enable_gqa=True)


def causal_attention(qkv: Tensor, angles: Angles, heads: int, opening: Tensor | None) -> Tensor:
    """Causal attention of (B, S, heads of q, k and v, head), after rotary embedding, → (B, S, heads, head).

    heads: of q; k and v have fewer. opening: keys and values (1, P, 2 · their heads, head) of a text before all.
    """
    q, k, v = split_heads(qkv, heads)
    q, k = rotate(q, angles), rotate(k, angles)
    if opening is None:
        return attention(q, k, v, is_causal=True, enable_gqa=True)
    return after(opening, q, k, v)


def swiglu(gate_up: Tensor) -> Tensor:
    """(rows, 2·F), gate and up side by side, → silu(gate) · up, (rows, F)."""
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up


def same(x: Tensor) -> Tensor:
    """A plain operand is the rows themselves."""
    return x


def _quantised_norm(x: Tensor, update: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Quantised]:
    x, normed = add_norm(x, update, weight, eps)
    return x, quantise(normed)


PLAIN = Steps(add_norm, add_norm, window_attention, causal_attention, swiglu, same)
PLAIN_FP8 = PLAIN._replace(add_norm=_quantised_norm, swiglu=lambda x: quantise(swiglu(x)), operand=quantise)
