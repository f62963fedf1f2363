"""Images a second from pictures to latents at half depth, beside transformers' own forward and the GPU's limit.

    python -m benchmarks.extraction [--tiny] [--json] [--shapes 224x1,224x64,448x1,448x16,448x64] [--no-peer]

The model has Qwen2.5-VL-7B's sizes and random weights. The obvious way: the processor, then the whole model with
output_hidden_states, one picture at a time and in batches. Both ways start from decoded pictures in memory, and
every batch is waited for. The limit is the arithmetic that the latents need, at the rate of a product of two
8192 × 8192 matrices in the same run; the share in brackets is of that rate as it is after a second of products.
At the end a clip of 16 frames at 224², beside the same.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.video_utils import VideoMetadata

from benchmarks.random_vlm import random_vlm
from foresight.data.images import to_pil
from foresight.data.render import render
from foresight.data.scenes import SceneSpec, sample
from foresight.models.vlm import VLM


@torch.inference_mode()
def obvious(vlm: VLM, processor: Any, layer: int, pictures: Tensor) -> Tensor:
    """hidden_states[layer] at the image tokens, (B, tokens, D), of pictures (B, 3, H, W) uint8."""
    text = vlm.prompt("Describe the image.")
    images = [to_pil(x.float() / 255) for x in pictures]
    inputs = processor(text=[text] * len(pictures), images=images, return_tensors="pt")
    seen = inputs["input_ids"] == vlm.config.image_token_id
    inputs["mm_token_type_ids"] = seen.int()  # without them transformers takes one-dimensional positions
    inputs = {name: value.to(vlm.device) for name, value in inputs.items()}
    inputs["pixel_values"] = inputs["pixel_values"].to(vlm.dtype)
    states = vlm.model(**inputs, output_hidden_states=True, use_cache=False).hidden_states[layer]
    return states[seen.to(vlm.device)].view(len(pictures), -1, states.shape[-1])


def clip_inputs(processor: Any, clip: Tensor, fps: float) -> Any:
    """What transformers' model takes of a question about a clip (F, 3, H, W) uint8, all of whose frames are kept."""
    content = [{"type": "video"}, {"type": "text", "text": "What moves?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    metadata = VideoMetadata(total_num_frames=len(clip), fps=fps, frames_indices=list(range(len(clip))))
    return processor(
        text=[text],
        videos=[clip],
        video_metadata=[metadata],
        do_sample_frames=False,
        size={"shortest_edge": 28 * 28, "longest_edge": 10**8},  # the class default would enlarge the frames
        return_tensors="pt",
    )


@torch.inference_mode()
def obvious_clip(vlm: VLM, processor: Any, layer: int, clip: Tensor) -> Tensor:
    """As `obvious`, of one clip (F, 3, H, W) uint8 of two frames a second: (tokens, D)."""
    inputs = clip_inputs(processor, clip, 2.0)
    seen = inputs["input_ids"][0] == vlm.config.video_token_id
    inputs = {name: value.to(vlm.device) if isinstance(value, Tensor) else value for name, value in inputs.items()}
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"].to(vlm.dtype)
    states = vlm.model(**inputs, output_hidden_states=True, use_cache=False).hidden_states[layer]
    return states[0][seen.to(vlm.device)]


def operations(vlm: VLM, side: int, layer: int, steps: int = 1) -> float:
    """Floating-point operations that the latents at post-merge/`layer` need of one picture, or of a clip's steps."""
    vision, text = vlm.config.vision_config, vlm.config.text_config
    n, d = (side // vision.patch_size) ** 2, vision.hidden_size
    full = len(vision.fullatt_block_indexes)
    window = min(n, (vision.window_size // vision.patch_size) ** 2)
    tower = n * (2 * 1176 * d + vision.depth * 2 * (4 * d * d + 3 * d * vision.intermediate_size))
    tower += 4 * n * d * (full * n + (vision.depth - full) * window)
    t, e = steps * n // 4, text.hidden_size
    kv = e * text.num_key_value_heads // text.num_attention_heads
    merger = 2 * t * (16 * d * d + 4 * d * e)
    flops = 2 * t * (2 * e * e + 2 * e * kv + 3 * e * text.intermediate_size) + 2 * t * t * e  # causal: half of 4·t·t·e
    return steps * tower + merger + layer * flops


def seconds(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median time of a call, each of them waited for; three more warm up."""
    times = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:])


def matmul_rates(device: torch.device) -> tuple[float, float]:
    """Operations a second of a product of two random square matrices in bfloat16: at once, and kept up for a second.

    Under load a GPU clocks lower than in the first moment.
    """
    side, repeats = (256, 10) if device.type == "cpu" else (8192, 600)
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    rates = [2 * side**3 / seconds(lambda: a @ b, device, count) for count in (20, repeats, 100)]
    return rates[0], rates[-1]


def bandwidth(device: torch.device) -> float:
    """Bytes a second, read and written, of a copy on the device."""
    source = torch.empty(2**20 if device.type == "cpu" else 2**32, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * len(source) / seconds(lambda: target.copy_(source), device, 10)


def measure(vlm: VLM, processor: Any, shapes: Sequence[tuple[int, int]], peer: bool, repeats: int) -> list[dict]:
    """One row for each shape (pixels a side, pictures at a time)."""
    layer = vlm.config.text_config.num_hidden_layers // 2
    point, moved = f"post-merge/{layer}", bandwidth(vlm.device)
    rate, sustained = matmul_rates(vlm.device)
    needed = [*vlm.model.model.visual.parameters(), *vlm.model.model.language_model.layers[:layer].parameters()]
    weights = sum(p.numel() * p.element_size() for p in needed) / moved
    fp8 = copy(vlm)
    fp8.fp8, fp8._engine_model = True, None
    rows, peers = [], {}
    for side, batch in shapes:
        pictures = render(sample(range(batch), 0, SceneSpec(size=(side, side)))).images  # (B, 3, H, W) uint8
        start = time.perf_counter()
        vlm.latents(pictures, [point])[point][0, 0, 0, 0, 0].item()
        first = time.perf_counter() - start
        speed = batch / seconds(partial(vlm.latents, pictures, [point]), vlm.device, repeats)
        eight = batch / seconds(partial(fp8.latents, pictures, [point]), vlm.device, repeats)
        exact = vlm.latents(pictures, [point])[point].float()
        row: dict[str, Any] = {"side": side, "batch": batch, "point": point, "ms": 1000 * batch / speed}
        row |= {"first_s": first, "images_per_s": speed, "limit": rate / operations(vlm, side, layer)}
        row |= {
            "share": speed / row["limit"],
            "share_of_sustained": speed * operations(vlm, side, layer) / sustained,
        }
        row |= {"matmul_tflops": rate / 1e12, "sustained_tflops": sustained / 1e12, "fp8_images_per_s": eight}
        row |= {"copy_tb_per_s": moved / 1e12, "weights_ms": 1000 * weights}  # reading every weight once
        row |= {"fp8_ms": 1000 * batch / eight, "fp8_gain": eight / speed}
        row["fp8_error"] = distance(fp8.latents(pictures, [point])[point], exact)
        if peer:
            if side not in peers:
                many = render(sample(range(32), 0, SceneSpec(size=(side, side)))).images
                alone = seconds(partial(obvious, vlm, processor, layer, many[:1]), vlm.device, 5)
                peers[side] = (
                    1 / alone,
                    32 / seconds(partial(obvious, vlm, processor, layer, many), vlm.device, 2),
                )
            row |= {"transformers_one_by_one": peers[side][0], "transformers_batches_of_32": peers[side][1]}
            row["ratio"] = speed / peers[side][0]
            reference = obvious(vlm, processor, layer, pictures[:4]).float()
            row["apart"] = distance(exact[: len(reference)].flatten(1, 3), reference)
        rows.append(row)
    return rows


def all_points(vlm: VLM, side: int, batch: int, repeats: int) -> dict[str, Any]:
    """Seconds of one pass with every point asked for, beside one with the deepest alone."""
    pictures = render(sample(range(batch), 0, SceneSpec(size=(side, side)))).images
    deepest = seconds(lambda: vlm.latents(pictures, vlm.points[-1:]), vlm.device, repeats)
    every = seconds(lambda: vlm.latents(pictures, vlm.points), vlm.device, repeats)
    return {
        "side": side,
        "batch": batch,
        "points": len(vlm.points),
        "ms": 1000 * every,
        "beside_deepest": every / deepest,
    }


def mixed_sizes(vlm: VLM, batch: int, repeats: int) -> dict[str, Any]:
    """Patches a second over batches of four sizes in turn, beside batches of one size of about as many patches."""
    layer = vlm.config.text_config.num_hidden_layers // 2
    rates = []
    for sizes in (((448, 448),) * 4, ((448, 448), (392, 504), (336, 588), (560, 364))):
        drawn = [render(sample(range(batch), 0, SceneSpec(size=size))).images for size in sizes]

        def work(drawn: Sequence[Tensor] = drawn) -> None:
            for pictures in drawn:
                vlm.latents(pictures, [f"post-merge/{layer}"])

        patches = sum(pictures[:, 0].numel() for pictures in drawn) / 14**2
        rates.append(patches / seconds(work, vlm.device, repeats))
    return {"batch": batch, "mixed_patches_per_s": rates[1], "beside_equal": rates[1] / rates[0]}


def one_clip(vlm: VLM, processor: Any, rates: tuple[float, float], frames: int, peer: bool, repeats: int) -> dict:
    """A row of a clip at 224²; rates: as from `matmul_rates`."""
    layer, side = vlm.config.text_config.num_hidden_layers // 2, 224
    point = f"post-merge/{layer}"
    clip = render(sample(range(frames), 0, SceneSpec(size=(side, side)))).images  # each frame another scene
    taken = seconds(lambda: vlm.latents(clip[None], [point]), vlm.device, repeats)
    needed = operations(vlm, side, layer, frames // 2)
    row = {"frames": frames, "side": side, "point": point, "ms": 1000 * taken}
    row |= {"share": needed / taken / rates[0], "share_of_sustained": needed / taken / rates[1]}
    if peer:
        row["ratio"] = seconds(partial(obvious_clip, vlm, processor, layer, clip), vlm.device, 3) / taken
        ours = vlm.latents(clip[None], [point])[point].flatten(0, 3)
        row["apart"] = distance(ours, obvious_clip(vlm, processor, layer, clip).float())
    return row


def distance(a: Tensor, b: Tensor) -> float:
    """Of a from b, beside b's norm."""
    return ((a.float() - b).norm() / b.norm()).item()


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "pictures": lambda r: f"{r['side']}², batch {r['batch']}",
        "transformers, one by one": lambda r: f"{r['transformers_one_by_one']:.1f}/s" if "ratio" in r else "–",
        "in batches of 32": lambda r: f"{r['transformers_batches_of_32']:.1f}/s" if "ratio" in r else "–",
        "ours": lambda r: f"{r['images_per_s']:.0f}/s ({r['ms']:.2f} ms)",
        "ratio": lambda r: f"{r['ratio']:.1f}" if "ratio" in r else "–",
        "limit": lambda r: f"{r['limit']:.0f}/s",
        "share": lambda r: f"{100 * r['share']:.1f} % ({100 * r['share_of_sustained']:.1f} %)",
        "8 bits": lambda r: f"{r['fp8_images_per_s']:.0f}/s ({r['fp8_ms']:.2f} ms), × {r['fp8_gain']:.2f}",
        "apart": lambda r: f"{r['apart']:.1e}" if "apart" in r else "–",
        "8 bits apart": lambda r: f"{r['fp8_error']:.1e}",
    }
    lines = [list(columns), ["---"] * len(columns), *([cell(r) for cell in columns.values()] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a rehearsal on the CPU")
    parser.add_argument("--shapes", default="224x1,224x64,448x1,448x16,448x64", help="pixels a side × pictures a batch")
    parser.add_argument("--no-peer", action="store_true", help="without transformers' own forward")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    args = parser.parse_args()
    device = torch.device("cpu" if args.tiny else "cuda")
    shapes = [(int(side), int(batch)) for side, _, batch in (text.partition("x") for text in args.shapes.split(","))]
    with tempfile.TemporaryDirectory() as folder:
        vlm, processor = random_vlm(Path(folder), device, args.tiny, torch.bfloat16)
        rows = measure(vlm, processor, shapes, not args.no_peer, args.repeats)
        every = [all_points(vlm, *shape, args.repeats) for shape in shapes if shape[1] > 1]
        mixed = mixed_sizes(vlm, max(batch for _, batch in shapes) // 4 or 1, args.repeats)
        rates = rows[0]["matmul_tflops"] * 1e12, rows[0]["sustained_tflops"] * 1e12
        clip = one_clip(vlm, processor, rates, 16, not args.no_peer, args.repeats)
    if args.json:
        print(*map(json.dumps, [*rows, *every, mixed, clip]), sep="\n")
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    peak = f"{rows[0]['matmul_tflops']:.0f} TFLOP/s at once, {rows[0]['sustained_tflops']:.0f} kept up"
    print(f"{name}, torch {torch.__version__}; products of matrices {peak}; copies {rows[0]['copy_tb_per_s']:.2f} TB/s")
    print(f"reading the weights once {rows[0]['weights_ms']:.2f} ms; the very first call {rows[0]['first_s']:.1f} s\n")
    print(table(rows))
    for row in every:
        shape = f"{row['points']} points, {row['side']}², batch {row['batch']}"
        print(f"\nall {shape}: × {row['beside_deepest']:.2f} of the deepest alone")
    print(f"\nfour sizes in turn, batch {mixed['batch']}: × {mixed['beside_equal']:.2f} of the rate of one size")
    share = f"{100 * clip['share']:.1f} % of the limit ({100 * clip['share_of_sustained']:.1f} %)"
    ratio = f"; {clip['ratio']:.1f} times as fast as transformers" if "ratio" in clip else ""
    print(f"\na clip of {clip['frames']} frames, {clip['side']}²: {clip['ms']:.2f} ms, {share}{ratio}")


if __name__ == "__main__":
    main()
