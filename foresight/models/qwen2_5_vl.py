"""Qwen2.5-VL's forward pass in raster order, through the very modules of transformers' classes.

transformers permutes patches into windows and loops over these in Python; here tokens keep their places, and
equal windows are a batch. The numbers are the same (tests/models/test_vlm.py). Nothing here is bound to gradients
or devices: extraction and the bundled model's training run the same lines.

Shapes: B pictures, T steps of two frames, H × W patches, h × w = H/2 × W/2 tokens, D the width, P tokens of text
before the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

VISION_THETA = 10_000.0  # base of the vision tower's rotary frequencies; not in released configs


def patchify(images: Tensor, patch: int) -> Tensor:
    """Normalised images (B, 3, H·patch, W·patch), or pairs of frames (B, 2, 3, …) → input rows, raster order.

    Returns (B, H, W, 3·2·patch·patch). Columns are (channel, frame, row, column); a still image fills both frames.
    """
    pairs = images if images.ndim == 5 else images.unsqueeze(1).expand(-1, 2, -1, -1, -1)
    grid = pairs.unflatten(4, (-1, patch)).unflatten(3, (-1, patch))  # (B, frame, channel, H, row, W, column)
    return grid.permute(0, 3, 5, 2, 1, 4, 6).flatten(3)


def frame_pairs(clips: Tensor) -> Tensor:
    """Clips (B, F, …) → pairs (B, T, 2, …), T = ceil(F / 2): the two frames of each step; an odd last one twice."""
    if clips.shape[1] % 2:
        clips = torch.cat([clips, clips[:, -1:]], 1)
    return clips.unflatten(1, (-1, 2))


def partition(x: Tensor, side: int) -> Tensor:
    """(B, H, W, …) → (B · windows, side², …), padded with zeros at the right and bottom to whole windows."""
    height, width = x.shape[1:3]
    x = F.pad(x, [0, 0] * (x.ndim - 3) + [0, -width % side, 0, -height % side])
    x = x.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)  # (B, rows, columns, side, side, …)
    return x.flatten(3, 4).flatten(0, 2)


def unpartition(x: Tensor, height: int, width: int, side: int) -> Tensor:
    """`partition`'s inverse, padding dropped: (B · windows, side², …) → (B, height, width, …)."""
    rows, columns = -(-height // side), -(-width // side)
    x = x.unflatten(0, (-1, rows, columns)).unflatten(3, (side, side)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)[:, :height, :width]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of (…, heads, head width) by angles (…, head width), in float32."""
    x32 = x.float()
    first, second = x32.chunk(2, -1)
    turned = x32 * cos.unsqueeze(-2) + torch.cat([-second, first], -1) * sin.unsqueeze(-2)
    return turned.to(x.dtype)


def _frequencies(width: int, theta: float, device: torch.device) -> Tensor:
    return theta ** -(torch.arange(0, width, 2, device=device).float() / width)


def vision_angles(height: int, width: int, head: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin (H, W, head width) of the 2-D rotary embedding: half of the angles for rows, half for columns."""
    speed = _frequencies(head // 2, VISION_THETA, device)
    rows = torch.arange(height, device=device)[:, None, None] * speed
    columns = torch.arange(width, device=device)[None, :, None] * speed
    angles = torch.cat([rows.expand(-1, width, -1), columns.expand(height, -1, -1)], -1).repeat(1, 1, 2)
    return angles.cos(), angles.sin()


def language_angles(positions: Tensor, text_config: Any) -> tuple[Tensor, Tensor]:
    """cos and sin (S, head width) of the multimodal rotary embedding, from positions (3, S): time, row, column.

    The frequencies are cut into `mrope_section`s, which take time, row and column in turn.
    """
    rope = text_config.rope_parameters
    head = text_config.hidden_size // text_config.num_attention_heads
    angles = positions[..., None].float() * _frequencies(head, rope["rope_theta"], positions.device)  # (3, S, head/2)
    sections = angles.split(rope["mrope_section"], dim=-1)
    angles = torch.cat([part[i % 3] for i, part in enumerate(sections)], -1).repeat(1, 2)
    return angles.cos(), angles.sin()


def image_positions(
    before: int, height: int, width: int, device: torch.device, steps: int = 1, interval: float = 0.0
) -> Tensor:
    """Positions (3, P + T·h·w) of `before` tokens of text and T = `steps` grids of h × w tokens behind them.

    Step t stands at time ⌊t · interval⌋, which of an image is 0: see `time_interval`.
    """
    text = torch.arange(before, device=device).expand(3, -1)
    times = (torch.arange(steps, device=device) * interval).long()  # float32 and truncated, as in transformers
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    grid = torch.stack(torch.meshgrid(times, rows, columns, indexing="ij")).flatten(1)  # (3, T·h·w)
    return torch.cat([text, before + grid], 1)


def time_interval(fps: float, vision_config: Any) -> float:
    """How far apart a clip's steps stand in time, in positions: a step takes 2 / fps seconds."""
    return vision_config.tokens_per_second * (vision_config.temporal_patch_size / fps)


def _vision_block(block: Any, x: Tensor, angles: tuple[Tensor, Tensor], heads: int, side: int | None) -> Tensor:
    """(B, H, W, D) → the same. Attention within windows of side × side patches, or over all where side is None."""
    height, width = x.shape[1:3]
    q, k, v = block.attn.qkv(block.norm1(x)).unflatten(-1, (3, heads, -1)).unbind(-3)  # (B, H, W, heads, head)
    q, k = _rotate(q, *angles), _rotate(k, *angles)
    mask = None
    if side is None:
        q, k, v = (t.flatten(1, 2) for t in (q, k, v))
    else:
        q, k, v = (partition(t, side) for t in (q, k, v))
        if height % side or width % side:  # padding must not be looked at; a row of padding sees itself, unused
            real = partition(torch.ones(1, height, width, 1, device=x.device), side)[..., 0] > 0  # (windows, side²)
            mask = (real[:, None] | ~real[..., None]).repeat(len(x), 1, 1)[:, None]  # (B · windows, 1, queries, keys)
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask)
    out = out.transpose(1, 2).flatten(2)
    out = out.unflatten(1, (height, width)) if side is None else unpartition(out, height, width, side)
    x = x + block.attn.proj(out)
    return x + block.mlp(block.norm2(x))


def vision_states(visual: Any, rows: Tensor, layers: set[int]) -> dict[int, Tensor]:
    """The vision tower's raw states at `layers`: {layer: (B, H, W, D)}, 0 the patch embedding, k after block k.

    rows: (B, H, W, columns) of `patchify`. Blocks beyond the deepest layer asked for do not run.
    """
    config, embed = visual.config, visual.patch_embed.proj.weight
    x = F.linear(rows.to(embed.dtype), embed.flatten(1))
    angles = vision_angles(x.shape[1], x.shape[2], config.hidden_size // config.num_heads, x.device)
    states = {0: x}
    for layer, block in enumerate(visual.blocks[: max(layers)], start=1):
        side = None if layer - 1 in config.fullatt_block_indexes else config.window_size // config.patch_size
        x = states[layer] = _vision_block(block, x, angles, config.num_heads, side)
    return {layer: states[layer] for layer in layers}


def merge(visual: Any, x: Tensor) -> Tensor:
    """The 2×2 merger: (B, H, W, D) → (B, h, w, D'). Four patches of a cell are joined in raster order."""
    cells = visual.merger.ln_q(x).unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).transpose(2, 3)  # (B, h, w, 2, 2, D)
    return visual.merger.mlp(cells.flatten(3))


def _causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def _branching(q: Tensor, k: Tensor, v: Tensor, branches: Sequence[int]) -> Tensor:
    """Causal attention (B, heads, S, head) of a trunk and of branches that see the trunk, but not each other."""
    lengths = [q.shape[2] - sum(branches), *branches]
    parts = list(zip(*(t.split(lengths, 2) for t in (q, k, v)), strict=True))
    trunk = parts[0]
    out = [_causal(*trunk)]
    for branch in parts[1:]:  # the trunk's queries run along: a kernel without a mask is faster all the same
        joined = (torch.cat(pair, 2) for pair in zip(trunk, branch, strict=True))
        out.append(_causal(*joined)[:, :, trunk[0].shape[2] :])
    return torch.cat(out, 2)


def _decoder_layer(layer: Any, x: Tensor, angles: tuple[Tensor, Tensor], branches: Sequence[int]) -> Tensor:
    """(B, S, D) → the same."""
    attention, normed = layer.self_attn, layer.input_layernorm(x)
    q, k, v = (
        project(normed).unflatten(-1, (-1, attention.head_dim))
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )  # (B, S, heads, head), fewer heads for k and v
    q, k, v = (t.transpose(1, 2) for t in (_rotate(q, *angles), _rotate(k, *angles), v))
    out = _branching(q, k, v, branches) if branches else _causal(q, k, v)
    x = x + attention.o_proj(out.transpose(1, 2).flatten(2))
    return x + layer.mlp(layer.post_attention_layernorm(x))


def language_states(
    language: Any, embeds: Tensor, positions: Tensor, layers: set[int], branches: Sequence[int] = ()
) -> dict[int, Tensor]:
    """The language model's raw states at `layers`: {layer: (B, S, D)}, 0 the embeddings, k after decoder layer k.

    embeds: (B, S, D). positions: (3, S). branches: lengths of the last stretches of the sequence, which see what
    stands before them all, but not each other. Attention is causal. The final norm is not applied, and layers
    beyond the deepest asked for do not run.
    """
    angles = language_angles(positions, language.config)
    states, x = {0: embeds}, embeds
    for number, layer in enumerate(language.layers[: max(layers)], start=1):
        x = states[number] = _decoder_layer(layer, x, angles, branches)
    return {number: states[number] for number in layers}
