"""Runs a frozen Qwen2.5-VL: weights joined once, what depends on the size alone kept, small batches as CUDA graphs."""

import contextlib
import importlib.util
import os
import shutil
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from foresight import zero_gpu
from foresight.models import qwen2_5_vl as qwen
from foresight.models.points import ExtractionPoint
from foresight.models.steps import PLAIN, PLAIN_FP8, Steps

States = dict[ExtractionPoint, Tensor]  # (B, T, height, width, D) each
SIZES = 64  # picture sizes whose constants are kept
GRAPHS = 8  # shapes whose graph is kept
GRAPH_PATCHES = 16_384  # in a batch; larger ones keep the GPU busy while the CPU prepares


def kernels_usable(device: torch.device) -> bool:
    """Whether Triton can compile for this device: it also needs a C compiler, and a process that stays."""
    if zero_gpu.ACTIVE:
        return False
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None and compiler is not None


def steps_for(kernels: bool, fp8: bool) -> Steps:
    """The steps as Triton kernels or as PyTorch's operations, with operands of 16 or of 8 bits."""
    if not kernels:
        return PLAIN_FP8 if fp8 else PLAIN
    from foresight.models.kernels import FUSED, FUSED_FP8  # imports Triton, which only GPUs' torch brings

    return FUSED_FP8 if fp8 else FUSED


class Engine:
    """The forward of one frozen model, whose weights may not be replaced once they were used.

    Args:
        model: transformers' Qwen2_5_VLForConditionalGeneration; what a point needs is loaded before it is asked for.
        opening: gives the token ids before a picture; their keys and values are computed once.
        mean: of the colours.
        std: of the colours.
        kernels: whether the steps between products run as Triton kernels.
        fp8: whether products take weights and activations in 8 bits.
    """

    def __init__(
        self,
        model: Any,
        opening: Callable[[], Sequence[int]],
        mean: Sequence[float],
        std: Sequence[float],
        kernels: bool,
        fp8: bool,
    ):
        self._visual, self._language = model.model.visual, model.model.language_model
        self._config, self._fp8 = model.config, fp8
        self._opening_ids, self._mean, self._std = opening, mean, std
        self._steps = steps_for(kernels, fp8)
        self._blocks: list[qwen.VisionBlock] = []
        self._layers: list[qwen.DecoderLayer] = []
        self._opening: list[Tensor] = []  # each layer's keys and values (1, P, 2 · heads, head) of the opening
        self._constants = lru_cache(SIZES)(self._new_constants)
        self._graphs = Graphs()
        self._lock = threading.Lock()

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, points: Sequence[ExtractionPoint], fps: float = 2.0) -> States:
        """The raw states at `points` from one pass.

        pixels: images (B, 3, H, W) or clips (B, F, 3, H, W) of `fps` frames a second, in [0, 1] or uint8, anywhere.
        """
        device = self._visual.patch_embed.proj.weight.device
        before = frozenset(p.layer for p in points if p.stage == "pre-merge")
        after = frozenset(p.layer for p in points if p.stage == "post-merge")
        depth, last = (self._config.vision_config.depth if after else max(before)), max(after, default=0)
        # Triton launches on the current GPU, whichever the weights are on; `run_language` may leave another.
        current = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
        with self._lock, current:  # one at a time: graphs share their memory
            self._prepare(depth, last, device)
            time = (1, 0.0)  # steps, and how far apart they stand
            if pixels.ndim == 5:
                time = -(-pixels.shape[1] // 2), qwen.time_interval(fps, self._config.vision_config)
            constants = self._constants(*pixels.shape[-2:], *time, last > 0, device)
            # A recorded graph reads whatever it was given for as long as it is kept, and so keeps this function.
            run = partial(
                self._run, *constants, self._blocks[:depth], self._layers[:last], self._opening, before, after
            )
            patches = len(pixels) * time[0] * pixels.shape[-2:].numel() // self._config.vision_config.patch_size**2
            several = any(layer.norm1.device != device for layer in self._layers[:last])  # a graph is of one GPU
            if device.type != "cuda" or several or patches > GRAPH_PATCHES:
                return run(pixels.to(device, non_blocking=True))
            return self._graphs(run, pixels, device, (pixels.shape, pixels.dtype, time, before, after))

    def _prepare(self, blocks: int, layers: int, device: torch.device) -> None:
        """Joins the weights of blocks and layers that are new, and passes the opening through them."""
        full = self._config.vision_config.fullatt_block_indexes
        for k in range(len(self._blocks), blocks):
            block = qwen.share_vision_block(self._visual.blocks[k], k not in full)
            self._blocks.append(qwen.quantised(block) if self._fp8 else block)
        for k in range(len(self._layers), layers):
            layer = qwen.share_decoder_layer(self._language.layers[k])
            self._layers.append(qwen.quantised(layer) if self._fp8 else layer)
        if len(self._opening) < layers:
            ids = torch.tensor(self._opening_ids(), device=self._language.embed_tokens.weight.device)
            positions = torch.arange(len(ids), device=ids.device).expand(3, -1)
            angles, self._opening = qwen.language_angles(positions, self._config.text_config), []
            embeds = self._language.embed_tokens(ids)[None]
            qwen.run_language(self._layers, embeds, angles, frozenset(), self._steps, cache=self._opening)

    def _new_constants(
        self, height: int, width: int, steps: int, interval: float, language: bool, device: torch.device
    ) -> tuple[qwen.PatchOrder, qwen.Angles | None, Tensor, Tensor]:
        """What is the same for all of a size in pixels and steps: patches' order, tokens' angles; mean and std."""
        patch = self._config.vision_config.patch_size
        height, width = height // patch, width // patch
        angles = None
        if language:
            before = len(self._opening_ids())
            positions = qwen.image_positions(before, height // 2, width // 2, device, steps, interval)[:, before:]
            angles = qwen.language_angles(positions, self._config.text_config)
        mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (self._mean, self._std))
        return qwen.patch_order(height, width, self._config.vision_config, device), angles, mean, std

    def _run(
        self,
        place: qwen.PatchOrder,
        angles: qwen.Angles | None,
        mean: Tensor,
        std: Tensor,
        blocks: Sequence[qwen.VisionBlock],
        layers: Sequence[qwen.DecoderLayer],
        opening: Sequence[Tensor],
        before: frozenset[int],
        after: frozenset[int],
        pixels: Tensor,
    ) -> States:
        x = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()
        x = ((x - mean) / std).to(self._visual.patch_embed.proj.weight.dtype)
        x = qwen.frame_pairs(x) if x.ndim == 5 else x.unsqueeze(1)  # (B, T, 2, 3, H, W), or (B, 1, 3, H, W)
        shape = x.shape[:2]
        rows = qwen.patchify(x.flatten(0, 1), self._config.vision_config.patch_size)
        embedded = qwen.embed_patches(self._visual, rows, place)
        layers_needed = before | ({len(blocks)} if after else set())
        heads = self._config.vision_config.num_heads
        vision = qwen.run_vision(blocks, embedded, place, heads, layers_needed, self._steps)  # of each step by itself
        states = {ExtractionPoint("pre-merge", k): vision[k].unflatten(0, shape) for k in before}
        if not after:
            return states
        tokens = qwen.merge(self._visual, vision[len(blocks)], self._steps).unflatten(0, shape)  # (B, T, h, w, D)
        states_after = {0: tokens}
        if angles is not None:
            states_after |= qwen.run_language(layers, tokens.flatten(1, 3), angles, after - {0}, self._steps, opening)
        return states | {
            ExtractionPoint("post-merge", k): states_after[k].view(tokens.shape).to(tokens.device) for k in after
        }


class Graphs:
    """Records a function's work on the GPU when its key comes for the second time, and replays it from then on.

    A replay is one launch in place of hundreds, which is what a single picture waits for. All graphs share one
    pool of memory: only one of them runs at a time, and its result is copied out before the next.
    """

    def __init__(self) -> None:
        self._recorded: OrderedDict[Any, tuple[torch.cuda.CUDAGraph, Callable[[Tensor], States], Tensor, States]]
        self._recorded = OrderedDict()
        self._calls: Counter[Any] = Counter()
        self._pool: Any = None

    def __call__(self, function: Callable[[Tensor], States], x: Tensor, device: torch.device, key: Any) -> States:
        """function(x on the device). key: what the function's work depends on, x's shape and dtype included."""
        if key not in self._recorded:
            self._calls[key] += 1
            if self._calls[key] < 2:
                return function(x.to(device, non_blocking=True))
            self._record(function, x.to(device).clone(), key)
        self._recorded.move_to_end(key)
        graph, _, inputs, states = self._recorded[key]
        inputs.copy_(x, non_blocking=True)
        graph.replay()
        return {point: state.clone() for point, state in states.items()}

    def _record(self, function: Callable[[Tensor], States], inputs: Tensor, key: Any) -> None:
        if len(self._recorded) == GRAPHS:
            self._recorded.popitem(last=False)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(inputs.device):
            torch.cuda.synchronize()
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                states = function(inputs)
        self._recorded[key] = graph, function, inputs, states
