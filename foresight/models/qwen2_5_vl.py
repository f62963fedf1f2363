"""Qwen2.5-VL's forward pass over the weights of transformers' classes, in fewer and larger products.

Where transformers multiplies by gate and up (and by q, k and v) one after the other, here their weights lie in one
matrix; the vision MLP's odd width is padded with zeros; equal windows are a batch. The numbers are the same
(tests/models/test_vlm.py). Nothing here is bound to gradients or devices: extraction and the bundled model's
training run the same lines. What lies between the products is in `steps.py`.

Shapes: B pictures, T steps of two frames, H × W patches, N = H·W, h × w = H/2 × W/2 tokens, D the width, P tokens of
text before the picture.
"""

from collections.abc import Sequence, Set
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foresight.models.steps import PLAIN, Angles, Quantised, Steps, attention, product, quantise, rotate, split_heads

VISION_THETA = 10_000.0  # base of the vision tower's rotary frequencies; not in released configs
# Released vision MLPs are 3,420 wide: rows of 6,840 bytes, not a multiple of 16, which shuts out the fast kernels.
# 3,424 would be enough for these; 3,456 was the fastest on an H200 (docs/benchmarks.md).
MLP_MULTIPLE = 128

Weight = Tensor | Quantised  # (outputs, inputs)


def settings(config: Any) -> dict[str, Any]:
    """What the forward reads of transformers' Qwen2_5_VLConfig beside sizes of weights: JSON values."""
    vision, text = config.vision_config, config.text_config
    return {
        "vision": {
            "heads": vision.num_heads,
            "patch": vision.patch_size,
            "frames": vision.temporal_patch_size,
            "merge": vision.spatial_merge_size,
            "window": vision.window_size,
            "full": sorted(vision.fullatt_block_indexes),
            "positions a second": float(vision.tokens_per_second),
        },
        "text": {
            "heads": text.num_attention_heads,
            "key heads": text.num_key_value_heads,
            "eps": float(text.rms_norm_eps),
            "theta": float(text.rope_parameters["rope_theta"]),
            "sections": list(text.rope_parameters["mrope_section"]),
        },
    }


def unsupported(config: Any) -> list[str]:
    """What a Qwen2_5_VLConfig asks for and this forward does not compute: its latents would silently be others."""
    vision, text = config.vision_config, config.text_config
    rope, axial = dict(text.rope_parameters), dict(vision.rope_parameters or {})
    head, token = text.hidden_size // text.num_attention_heads, vision.patch_size * vision.spatial_merge_size
    required = (  # what it is called, what it is, what it must be
        ("rotary embedding", rope.pop("rope_type", rope.pop("type", "default")), "default"),
        ("vision tower's rotary embedding", axial.pop("rope_type", axial.pop("type", "axial")), "axial"),
        ("vision tower's rotary base", axial.pop("rope_theta", VISION_THETA), VISION_THETA),
        ("number of rotary frequencies", sum(rope.pop("mrope_section", ())), head // 2),
        ("head width", getattr(text, "head_dim", None) or head, head),
        ("attention", " and ".join(sorted({*text.layer_types})), "full_attention"),
        ("activation", text.hidden_act, "silu"),
        ("vision tower's activation", vision.hidden_act, "silu"),
        ("patch size", vision.patch_size, 14),
        ("merge size", vision.spatial_merge_size, 2),
        ("number of frames in a patch", vision.temporal_patch_size, 2),
        ("number of channels", vision.in_channels, 3),
        ("window size", vision.window_size, vision.window_size // token * token),
        ("width behind the merger", vision.out_hidden_size, text.hidden_size),
    )
    rope.pop("rope_theta", None)
    reasons = [f"its {what} is {value}, not {needed}" for what, value, needed in required if value != needed]
    reasons += [f"its rotary embedding has the unknown setting {name}" for name in sorted({**rope, **axial})]
    return reasons + (["its weights are quantised"] if getattr(config, "quantization_config", None) else [])


class VisionBlock(NamedTuple):
    """Weights of one block of the vision tower; `gate_up` and `down` are padded to a multiple of MLP_MULTIPLE."""

    norm1: Tensor
    qkv: Weight
    qkv_bias: Tensor
    out: Weight
    out_bias: Tensor
    norm2: Tensor
    gate_up: Weight
    gate_up_bias: Tensor
    down: Weight
    down_bias: Tensor
    eps: float
    windowed: bool  # attention within windows, or over the whole picture


class DecoderLayer(NamedTuple):
    """Weights of one layer of the language model."""

    norm1: Tensor
    qkv: Weight
    qkv_bias: Tensor
    out: Weight
    norm2: Tensor
    gate_up: Weight
    down: Weight
    eps: float
    heads: int  # of queries; keys and values have fewer
    head: int  # numbers in a head


def vision_block(block: Any, windowed: bool) -> VisionBlock:
    """Joins the weights of a block of transformers' vision tower; gradients flow back to them."""
    attn, mlp = block.attn, block.mlp
    spare = -mlp.gate_proj.out_features % MLP_MULTIPLE
    rows, columns = (0, 0, 0, spare), (0, spare)
    return VisionBlock(
        norm1=block.norm1.weight,
        qkv=attn.qkv.weight,
        qkv_bias=attn.qkv.bias,
        out=attn.proj.weight,
        out_bias=attn.proj.bias,
        norm2=block.norm2.weight,
        gate_up=torch.cat([F.pad(p.weight, rows) for p in (mlp.gate_proj, mlp.up_proj)]),
        gate_up_bias=torch.cat([F.pad(p.bias, columns) for p in (mlp.gate_proj, mlp.up_proj)]),
        down=F.pad(mlp.down_proj.weight, columns),
        down_bias=mlp.down_proj.bias,
        eps=block.norm1.variance_epsilon,
        windowed=windowed,
    )


def decoder_layer(layer: Any) -> DecoderLayer:
    """Joins the weights of a layer of transformers' language model; gradients flow back to them."""
    attn, mlp = layer.self_attn, layer.mlp
    parts = attn.q_proj, attn.k_proj, attn.v_proj
    return DecoderLayer(
        norm1=layer.input_layernorm.weight,
        qkv=torch.cat([p.weight for p in parts]),
        qkv_bias=torch.cat([p.bias for p in parts]),
        out=attn.o_proj.weight,
        norm2=layer.post_attention_layernorm.weight,
        gate_up=torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]),
        down=mlp.down_proj.weight,
        eps=layer.input_layernorm.variance_epsilon,
        heads=attn.q_proj.out_features // attn.head_dim,
        head=attn.head_dim,
    )


def vision_blocks(visual: Any, count: int) -> list[VisionBlock]:
    """The first `count` blocks of transformers' vision tower."""
    full = visual.config.fullatt_block_indexes
    return [vision_block(block, k not in full) for k, block in enumerate(visual.blocks[:count])]


def _point_at(joined: Weight, name: str, linears: Sequence[nn.Linear], rows: Sequence[int]) -> None:
    """Makes each linear's parameter a view of its rows of the joined one; what is left at the end is padding."""
    assert isinstance(joined, Tensor)
    for linear, part in zip(linears, joined.split(list(rows)), strict=True):
        setattr(linear, name, nn.Parameter(part[: linear.out_features], requires_grad=False))


@torch.no_grad()
def share_vision_block(block: Any, windowed: bool) -> VisionBlock:
    """`vision_block` of frozen weights, whose parameters become views of the joined ones: nothing is kept twice."""
    weights, mlp = vision_block(block, windowed), block.mlp
    rows = [len(weights.gate_up_bias) // 2] * 2
    _point_at(weights.gate_up, "weight", (mlp.gate_proj, mlp.up_proj), rows)
    _point_at(weights.gate_up_bias, "bias", (mlp.gate_proj, mlp.up_proj), rows)
    assert isinstance(weights.down, Tensor)
    mlp.down_proj.weight = nn.Parameter(weights.down[:, : mlp.down_proj.in_features], requires_grad=False)
    return weights


@torch.no_grad()
def share_decoder_layer(layer: Any) -> DecoderLayer:
    """`decoder_layer` of frozen weights, whose parameters become views of the joined ones: nothing is kept twice."""
    weights, attn, mlp = decoder_layer(layer), layer.self_attn, layer.mlp
    parts = attn.q_proj, attn.k_proj, attn.v_proj
    _point_at(weights.qkv, "weight", parts, [p.out_features for p in parts])
    _point_at(weights.qkv_bias, "bias", parts, [p.out_features for p in parts])
    _point_at(weights.gate_up, "weight", (mlp.gate_proj, mlp.up_proj), [mlp.gate_proj.out_features] * 2)
    return weights


def quantised(weights: Any) -> Any:
    """A VisionBlock or DecoderLayer with 8-bit weights, one scale for each output; norms and biases stay."""
    return weights._replace(**{name: quantise(getattr(weights, name)) for name in ("qkv", "out", "gate_up", "down")})


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


def _frequencies(width: int, theta: float, device: torch.device) -> Tensor:
    return theta ** -(torch.arange(0, width, 2, device=device).float() / width)


def vision_angles(height: int, width: int, head: int, device: torch.device) -> Tensor:
    """Angles (H, W, head width / 2) of the 2-D rotary embedding: half of them for rows, half for columns."""
    speed = _frequencies(head // 2, VISION_THETA, device)
    rows = torch.arange(height, device=device)[:, None, None] * speed
    columns = torch.arange(width, device=device)[None, :, None] * speed
    return torch.cat([rows.expand(-1, width, -1), columns.expand(height, -1, -1)], -1)


def language_angles(positions: Tensor, text_config: Any) -> Angles:
    """cos and sin of the multimodal rotary embedding, from positions (3, S): time, row, column.

    The frequencies are cut into `mrope_section`s, which take time, row and column in turn.
    """
    rope = text_config.rope_parameters
    head = text_config.hidden_size // text_config.num_attention_heads
    angles = positions[..., None].float() * _frequencies(head, rope["rope_theta"], positions.device)  # (3, S, head/2)
    sections = angles.split(rope["mrope_section"], dim=-1)
    angles = torch.cat([part[i % 3] for i, part in enumerate(sections)], -1)
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


class PatchOrder(NamedTuple):
    """Patches window by window, windows of one size together: what attends to each other lies side by side."""

    order: Tensor  # (N,) raster number of each patch
    raster: Tensor  # (N,) its inverse
    windows: tuple[tuple[int, int], ...]  # (how many, patches in each): whole ones, cut right, cut below, the corner
    angles: Angles  # in this order
    height: int
    width: int


def patch_order(height: int, width: int, vision_config: Any, device: torch.device) -> PatchOrder:
    """The order of H × W patches, and their rotary angles; the same for all pictures of a size."""
    side = vision_config.window_size // vision_config.patch_size
    down, across = torch.arange(height, device=device) // side, torch.arange(width, device=device) // side
    whole_down, whole_across = height // side, width // side
    kind = 2 * (down == whole_down).long()[:, None] + (across == whole_across).long()  # 0 to 3, as in `windows`
    columns = -(-width // side)
    window = kind * columns * -(-height // side) + down[:, None] * columns + across
    order = window.flatten().argsort(stable=True)  # raster order within a window
    rest_down, rest_across = height % side, width % side
    windows = (
        (whole_down * whole_across, side * side),
        (whole_down, side * rest_across),
        (whole_across, rest_down * side),
        (1, rest_down * rest_across),
    )
    angles = vision_angles(height, width, vision_config.hidden_size // vision_config.num_heads, device)
    angles = angles.flatten(0, 1).index_select(0, order)
    filled = tuple((count, size) for count, size in windows if count * size)
    return PatchOrder(order, order.argsort(), filled, (angles.cos(), angles.sin()), height, width)


def _reordered(x: Tensor, order: Tensor) -> Tensor:
    """x[:, order] of (B, N, D), as one selection of rows: PyTorch's kernel for that is three times as fast."""
    every = order + torch.arange(0, x.shape[0] * x.shape[1], x.shape[1], device=x.device)[:, None]
    return x.flatten(0, 1).index_select(0, every.flatten()).view(x.shape)


def embed_patches(visual: Any, rows: Tensor, place: PatchOrder) -> Tensor:
    """Rows (B, H, W, columns) of `patchify` → patch embeddings (B, N, D) in the order of windows."""
    weight = visual.patch_embed.proj.weight
    ordered = _reordered(rows.flatten(1, 2), place.order)
    return F.linear(ordered.to(weight.dtype), weight.flatten(1))


def run_vision(
    blocks: Sequence[VisionBlock], x: Tensor, place: PatchOrder, heads: int, layers: Set[int], steps: Steps = PLAIN
) -> dict[int, Tensor]:
    """Patch embeddings (B, N, D) through `blocks` → raw states {layer: (B, H, W, D)}, layer 0 the embeddings."""
    b, n, width = x.shape
    x, update = x.flatten(0, 1), None  # the state is x + update: the next norm adds them on its way
    states = {0: x} if 0 in layers else {}
    for layer, block in enumerate(blocks, start=1):
        x, normed = steps.add_norm(x, update, block.norm1, block.eps)
        qkv = product(normed, block.qkv, block.qkv_bias).view(b, n, 3 * heads, -1)
        attended = steps.window_attention(qkv, place.angles, place.windows if block.windowed else ((1, n),))
        out = product(steps.operand(attended.reshape(b * n, width)), block.out, block.out_bias)
        x, normed = steps.add_norm(x, out, block.norm2, block.eps)
        update = product(steps.swiglu(product(normed, block.gate_up, block.gate_up_bias)), block.down, block.down_bias)
        if layer in layers:
            states[layer] = x + update
    return {
        layer: _reordered(state.view(b, n, width), place.raster).unflatten(1, (place.height, place.width))
        for layer, state in states.items()
    }


def vision_states(visual: Any, rows: Tensor, layers: Set[int]) -> dict[int, Tensor]:
    """The vision tower's raw states at `layers`: {layer: (B, H, W, D)}, 0 the patch embedding, k after block k.

    rows: (B, H, W, columns) of `patchify`. Blocks beyond the deepest layer asked for do not run.
    """
    place = patch_order(rows.shape[1], rows.shape[2], visual.config, rows.device)
    x = embed_patches(visual, rows, place)
    return run_vision(vision_blocks(visual, max(layers)), x, place, visual.config.num_heads, layers)


def merge(visual: Any, x: Tensor, steps: Steps = PLAIN) -> Tensor:
    """The 2×2 merger: (B, H, W, D) → (B, h, w, D'). Four patches of a cell are joined in raster order."""
    norm = visual.merger.ln_q
    _, normed = steps.norm(x.flatten(0, 2), None, norm.weight, norm.variance_epsilon)
    cells = normed.view(x.shape).unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).transpose(2, 3)  # (B, h, w, 2, 2, D)
    return visual.merger.mlp(cells.flatten(3))


def _branching(q: Tensor, k: Tensor, v: Tensor, branches: Sequence[int]) -> Tensor:
    """Causal attention (B, S, heads, head) of a trunk and of branches that see the trunk, but not each other."""
    lengths = [q.shape[1] - sum(branches), *branches]
    parts = list(zip(*(t.split(lengths, 1) for t in (q, k, v)), strict=True))
    trunk = parts[0]
    out = [attention(*trunk, is_causal=True, enable_gqa=True)]
    for branch in parts[1:]:  # the trunk's queries run along: a kernel without a mask is faster all the same
        joined = (torch.cat(pair, 1) for pair in zip(trunk, branch, strict=True))
        out.append(attention(*joined, is_causal=True, enable_gqa=True)[:, trunk[0].shape[1] :])
    return torch.cat(out, 1)


def _on(device: torch.device, x: Tensor, update: Tensor | None, angles: Angles) -> tuple[Tensor, Tensor | None, Angles]:
    """What a layer on another GPU needs of the one before."""
    if device.type == "cuda":
        torch.cuda.set_device(device)  # Triton launches on the current GPU
    cos, sin = angles
    return x.to(device), None if update is None else update.to(device), (cos.to(device), sin.to(device))


def run_language(
    weights: Sequence[DecoderLayer],
    x: Tensor,
    angles: Angles,
    layers: Set[int],
    steps: Steps = PLAIN,
    before: Sequence[Tensor] | None = None,
    branches: Sequence[int] = (),
    cache: list[Tensor] | None = None,
) -> dict[int, Tensor]:
    """Embeddings (B, S, D) through decoder layers → raw states {layer: (B, S, D)}, layer 0 the embeddings.

    Layers may lie on several GPUs: the state follows them, and what is returned lies where it came to be.
    before: each layer's keys and values (1, P, 2 · heads, head) of a text that stands before every sequence.
    cache: a list that takes this sequence's own, for use as `before`. branches: see `language_states`.
    """
    b, s, width = x.shape
    x, update = x.flatten(0, 1), None  # the state is x + update: the next norm adds them on its way
    states = {0: x} if 0 in layers else {}
    for number, layer in enumerate(weights, start=1):
        if x.device != layer.norm1.device:
            x, update, angles = _on(layer.norm1.device, x, update, angles)
        x, normed = steps.add_norm(x, update, layer.norm1, layer.eps)
        qkv = product(normed, layer.qkv, layer.qkv_bias).view(b, s, -1, layer.head)
        if branches or cache is not None:
            q, k, v = split_heads(qkv, layer.heads)
            q, k = rotate(q, angles), rotate(k, angles)
            attended = _branching(q, k, v, branches)
            if cache is not None:
                cache.append(torch.cat([k, v], 2))
        else:
            attended = steps.causal_attention(qkv, angles, layer.heads, before[number - 1] if before else None)
        out = product(steps.operand(attended.reshape(b * s, width)), layer.out)
        x, normed = steps.add_norm(x, out, layer.norm2, layer.eps)
        update = product(steps.swiglu(product(normed, layer.gate_up)), layer.down)
        if number in layers:
            states[number] = x + update
    return {number: state.view(b, s, width) for number, state in states.items()}


def language_states(
    language: Any, embeds: Tensor, positions: Tensor, layers: Set[int], branches: Sequence[int] = ()
) -> dict[int, Tensor]:
    """The language model's raw states at `layers`: {layer: (B, S, D)}, 0 the embeddings, k after decoder layer k.

    embeds: (B, S, D). positions: (3, S). branches: lengths of the last stretches of the sequence, which see what
    stands before them all, but not each other. Attention is causal. The final norm is not applied, and layers
    beyond the deepest asked for do not run.
    """
    weights = [decoder_layer(layer) for layer in language.layers[: max(layers)]]
    return run_language(weights, embeds, language_angles(positions, language.config), layers, branches=branches)
