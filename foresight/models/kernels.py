"""The steps of `steps.py` as Triton kernels: each reads its inputs once and writes its results once.

Compiled at the first call, in five seconds together, for pictures of every size and number; Triton keeps the result
on the disk. Imported only where a GPU is. Not for gradients. Numbers differ from the plain steps by rounding alone.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from foresight.models.steps import FP8_MAX, Angles, Quantised, Steps, after, attention_in_windows, same, split_heads

Stretches = Sequence[tuple[int, int]] | None  # as `windows` of `steps.window_attention`; None: all, causal
# Tokens that attend to each other, up to which our attention is faster than a rotary pass and PyTorch's attention.
LONGEST_WINDOW, LONGEST_CAUSAL = 64, 512
_CHUNK = 2048  # numbers of a row that a program of `_swiglu` works on


@triton.jit
def _store_scaled(y, row, at, here, values, scales, width: tl.constexpr, largest: tl.constexpr):
    scale = tl.maximum(tl.max(tl.abs(y), 0), 1e-12) / largest
    tl.store(scales + row, scale)
    tl.store(values + row.to(tl.int64) * width + at, (y / scale).to(values.dtype.element_ty), mask=here)


@triton.jit
def _add_norm(
    x,
    update,
    weight,
    total,
    normed,
    scales,
    eps,
    width: tl.constexpr,
    block: tl.constexpr,
    added: tl.constexpr,
    fp8: tl.constexpr,
    largest: tl.constexpr,
):
    row = tl.program_id(0)
    at = tl.arange(0, block)
    here = at < width
    start = row.to(tl.int64) * width
    value = tl.load(x + start + at, mask=here, other=0.0)
    dtype = value.dtype
    if added:
        more = tl.load(update + start + at, mask=here, other=0.0)
        value = (value.to(tl.float32) + more.to(tl.float32)).to(dtype)
        tl.store(total + start + at, value, mask=here)
    wide = value.to(tl.float32)
    wide = wide * tl.rsqrt(tl.sum(wide * wide, 0) / width + eps)
    scaled = wide.to(dtype).to(tl.float32) * tl.load(weight + at, mask=here, other=0.0).to(tl.float32)
    if fp8:
        _store_scaled(scaled.to(dtype).to(tl.float32), row, at, here, normed, scales, width, largest)
    else:
        tl.store(normed + start + at, scaled.to(dtype), mask=here)


@triton.jit(do_not_specialize=["length"])
def _rotate(
    qkv, cos, sin, length, stride, count: tl.constexpr, heads: tl.constexpr, half: tl.constexpr, pad: tl.constexpr
):
    row = tl.program_id(0)
    head = tl.arange(0, heads)[:, None]
    at = tl.arange(0, pad)[None, :]
    here = (head < count) & (at < half)
    angle = (row % length) * half + at
    c = tl.load(cos + angle, mask=at < half, other=0.0)
    s = tl.load(sin + angle, mask=at < half, other=0.0)
    where = qkv + row.to(tl.int64) * stride + head * (2 * half) + at
    first = tl.load(where, mask=here, other=0.0).to(tl.float32)
    second = tl.load(where + half, mask=here, other=0.0).to(tl.float32)
    tl.store(where, (first * c - second * s).to(qkv.dtype.element_ty), mask=here)
    tl.store(where + half, (second * c + first * s).to(qkv.dtype.element_ty), mask=here)


@triton.jit
def _halves(start, stride, at, dim, half: tl.constexpr, here):
    """Both halves of heads: (rows, half) each."""
    where = start + at[:, None] * stride + dim[None, :]
    return tl.load(where, mask=here, other=0.0), tl.load(where + half, mask=here, other=0.0)


@triton.jit
def _turned_halves(start, stride, at, dim, half: tl.constexpr, here, cos, sin):
    """As `_halves`, after rotary embedding."""
    first, second = _halves(start, stride, at, dim, half, here)
    angle = at[:, None] * half + dim[None, :]
    c = tl.load(cos + angle, mask=here, other=0.0)
    s = tl.load(sin + angle, mask=here, other=0.0)
    a, b = first.to(tl.float32), second.to(tl.float32)
    return (a * c - b * s).to(first.dtype), (b * c + a * s).to(first.dtype)


@triton.jit
def _add_block(q1, q2, k1, k2, v1, v2, allowed, scale, top, total, out1, out2, exact: tl.constexpr):
    """One more block of keys and values in a running softmax."""
    scores = tl.dot(q1, tl.trans(k1), input_precision=exact) + tl.dot(q2, tl.trans(k2), input_precision=exact)
    scores = tl.where(allowed, scores * scale, float("-inf"))
    new = tl.maximum(top, tl.max(scores, 1))
    weight = tl.exp(scores - new[:, None])
    shrink = tl.exp(top - new)
    total = total * shrink + tl.sum(weight, 1)
    weight = weight.to(v1.dtype)
    out1 = out1 * shrink[:, None] + tl.dot(weight, v1, input_precision=exact)
    out2 = out2 * shrink[:, None] + tl.dot(weight, v2, input_precision=exact)
    return new, total, out1, out2


@triton.jit(do_not_specialize=["length", "offset", "count", "size", "before"])  # one compilation for all sizes
def _attend(
    qkv,
    cos,
    sin,
    opening,
    out,
    length,
    offset,
    count,
    size,
    before,
    scale,
    heads: tl.constexpr,
    others: tl.constexpr,
    half: tl.constexpr,
    pad: tl.constexpr,
    block: tl.constexpr,
    opening_block: tl.constexpr,
    causal: tl.constexpr,
    exact: tl.constexpr,
):
    """A block of one head's queries in one stretch of `size` rows of a picture, of which there are `count`."""
    stretch, head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    other = head // (heads // others)
    width: tl.constexpr = 2 * half
    stride: tl.constexpr = (heads + 2 * others) * width
    first = offset + (stretch % count) * size
    row = (stretch // count).to(tl.int64) * length + first
    rows = qkv + row * stride
    cos += first * half
    sin += first * half
    dim = tl.arange(0, pad)
    real = (dim < half)[None, :]
    at = part * block + tl.arange(0, block)
    q1, q2 = _turned_halves(rows + head * width, stride, at, dim, half, (at < size)[:, None] & real, cos, sin)
    top = tl.full([block], -1e30, tl.float32)
    total = tl.zeros([block], tl.float32)
    out1 = tl.zeros([block, pad], tl.float32)
    out2 = tl.zeros([block, pad], tl.float32)
    for start in range(0, before, opening_block):  # keys that are turned already
        key = start + tl.arange(0, opening_block)
        here = (key < before)[:, None] & real
        k1, k2 = _halves(opening + other * width, 2 * others * width, key, dim, half, here)
        v1, v2 = _halves(opening + (others + other) * width, 2 * others * width, key, dim, half, here)
        allowed = (key < before)[None, :] & (at >= 0)[:, None]
        top, total, out1, out2 = _add_block(q1, q2, k1, k2, v1, v2, allowed, scale, top, total, out1, out2, exact)
    last = size
    if causal:
        last = tl.minimum(size, (part + 1) * block)
    for start in range(0, last, block):
        key = start + tl.arange(0, block)
        here = (key < size)[:, None] & real
        k1, k2 = _turned_halves(rows + (heads + other) * width, stride, key, dim, half, here, cos, sin)
        v1, v2 = _halves(rows + (heads + others + other) * width, stride, key, dim, half, here)
        allowed = (key < size)[None, :] & (at >= 0)[:, None]
        if causal:
            allowed = allowed & (key[None, :] <= at[:, None])
        top, total, out1, out2 = _add_block(q1, q2, k1, k2, v1, v2, allowed, scale, top, total, out1, out2, exact)
    where = out + (row + at)[:, None] * (heads * width) + head * width + dim[None, :]
    here = (at < size)[:, None] & real
    tl.store(where, (out1 / total[:, None]).to(out.dtype.element_ty), mask=here)
    tl.store(where + half, (out2 / total[:, None]).to(out.dtype.element_ty), mask=here)


@triton.jit
def _silu_times(gate_up, start, at, here, width: tl.constexpr):
    gate = tl.load(gate_up + start + at, mask=here, other=0.0)
    up = tl.load(gate_up + start + width + at, mask=here, other=0.0).to(tl.float32)
    wide = gate.to(tl.float32)
    silu = (wide / (1.0 + tl.exp(-wide))).to(gate.dtype).to(tl.float32)
    return (silu * up).to(gate.dtype)


@triton.jit
def _swiglu(gate_up, out, width: tl.constexpr, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * block + tl.arange(0, block)
    here = at < width
    tl.store(out + row * width + at, _silu_times(gate_up, row * 2 * width, at, here, width), mask=here)


@triton.jit
def _swiglu_scaled(gate_up, values, scales, width: tl.constexpr, block: tl.constexpr, largest: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, block)
    y = _silu_times(gate_up, row.to(tl.int64) * 2 * width, at, at < width, width).to(tl.float32)
    _store_scaled(y, row, at, at < width, values, scales, width, largest)


@triton.jit
def _quantise(x, values, scales, width: tl.constexpr, block: tl.constexpr, largest: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, block)
    y = tl.load(x + row.to(tl.int64) * width + at, mask=at < width, other=0.0).to(tl.float32)
    _store_scaled(y, row, at, at < width, values, scales, width, largest)


def _empty(rows: int, width: int, device: torch.device) -> Quantised:
    values = torch.empty(rows, width, dtype=torch.float8_e4m3fn, device=device)
    return Quantised(values, torch.empty(rows, 1, dtype=torch.float32, device=device))


def _warps(width: int) -> int:
    return 4 if width <= 2048 else 8 if width <= 8192 else 16


def _add_norm_rows(
    x: Tensor, update: Tensor | None, weight: Tensor, eps: float, fp8: bool
) -> tuple[Tensor, Tensor | Quantised]:
    rows, width = x.shape
    total = x if update is None else torch.empty_like(x)
    out = _empty(rows, width, x.device) if fp8 else torch.empty_like(x)
    values, scales = out if isinstance(out, Quantised) else (out, out)
    _add_norm[(rows,)](
        x,
        x if update is None else update,
        weight,
        total,
        values,
        scales,
        eps,
        width,
        triton.next_power_of_2(width),
        update is not None,
        fp8,
        FP8_MAX,
        num_warps=_warps(width),
    )
    return total, out


def add_norm(x: Tensor, update: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    total, normed = _add_norm_rows(x, update, weight, eps, False)
    assert isinstance(normed, Tensor)
    return total, normed


def add_norm_fp8(x: Tensor, update: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor | Quantised]:
    return _add_norm_rows(x, update, weight, eps, True)


def _turned(qkv: Tensor, angles: Angles, count: int) -> Tensor:
    """qkv (B, S, heads, head), contiguous, whose first `count` heads were turned in place."""
    b, s, heads, head = qkv.shape
    half = head // 2
    powers = triton.next_power_of_2(count), triton.next_power_of_2(half)
    _rotate[(b * s,)](qkv, *angles, s, heads * head, count, powers[0], half, powers[1])
    return qkv


def _attention(qkv: Tensor, angles: Angles, heads: int, opening: Tensor | None, stretches: Stretches) -> Tensor:
    b, s, all_heads, head = qkv.shape
    out = torch.empty(b, s, heads, head, dtype=qkv.dtype, device=qkv.device)
    offset, causal, half = 0, stretches is None, head // 2
    before = 0 if opening is None else opening.shape[1]
    for count, size in stretches or ((1, s),):
        block = max(16, min(64, triton.next_power_of_2(size)))
        _attend[(b * count, heads, triton.cdiv(size, block))](
            qkv,
            *angles,
            qkv if opening is None else opening,
            out,
            s,
            offset,
            count,
            size,
            before,
            head**-0.5,
            heads,
            (all_heads - heads) // 2,
            half,
            max(16, triton.next_power_of_2(half)),
            block,
            max(16, min(64, triton.next_power_of_2(before))),
            causal,
            "ieee" if qkv.dtype == torch.float32 else "tf32",  # the latter is ignored for 16 bits
            num_warps=4,
            num_stages=1,
        )
        offset += count * size
    return out


def window_attention(qkv: Tensor, angles: Angles, windows: Sequence[tuple[int, int]]) -> Tensor:
    """As `steps.window_attention`. qkv must be contiguous, and is not to be used again."""
    heads = qkv.shape[2] // 3
    if max(size for _, size in windows) <= LONGEST_WINDOW:
        return _attention(qkv, angles, heads, None, windows)
    return attention_in_windows(*split_heads(_turned(qkv, angles, 2 * heads), heads), windows)


def causal_attention(qkv: Tensor, angles: Angles, heads: int, opening: Tensor | None) -> Tensor:
    """As `steps.causal_attention`. qkv must be contiguous, and is not to be used again."""
    if opening is None or qkv.shape[1] <= LONGEST_CAUSAL:
        return _attention(qkv, angles, heads, opening, None)
    return after(opening, *split_heads(_turned(qkv, angles, (heads + qkv.shape[2]) // 2), heads))


def swiglu(gate_up: Tensor) -> Tensor:
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty(rows, width, dtype=gate_up.dtype, device=gate_up.device)
    _swiglu[(rows, triton.cdiv(width, _CHUNK))](gate_up, out, width, _CHUNK)
    return out


def swiglu_fp8(gate_up: Tensor) -> Quantised:
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = _empty(rows, width, gate_up.device)
    _swiglu_scaled[(rows,)](gate_up, *out, width, triton.next_power_of_2(width), FP8_MAX, num_warps=_warps(width))
    return out


def quantise(x: Tensor) -> Quantised:
    rows, width = x.shape
    out = _empty(rows, width, x.device)
    _quantise[(rows,)](x, *out, width, triton.next_power_of_2(width), FP8_MAX, num_warps=_warps(width))
    return out


FUSED = Steps(add_norm, add_norm, window_attention, causal_attention, swiglu, same)
FUSED_FP8 = FUSED._replace(add_norm=add_norm_fp8, swiglu=swiglu_fp8, operand=quantise)
