"""Images a second from pictures to latents at half depth, beside transformers' own forward in the same run.

    python -m benchmarks.extraction [--tiny] [--sides 224,448]

The model has Qwen2.5-VL-7B's sizes and random weights. The obvious way: the processor, then the whole model with
output_hidden_states, one picture at a time or in batches; both ways start from decoded pictures in memory.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.random_vlm import random_vlm
from foresight.data.images import to_pil
from foresight.data.render import render
from foresight.data.scenes import SceneSpec, sample
from foresight.models.vlm import VLM


@torch.inference_mode()
def obvious(vlm: VLM, processor: Any, layer: int, pictures: Tensor) -> Tensor:
    """hidden_states[layer] at the image tokens: (B, tokens, D)."""
    text = vlm.prompt("Describe the image.")
    inputs = processor(text=[text] * len(pictures), images=[to_pil(x) for x in pictures], return_tensors="pt")
    seen = inputs["input_ids"] == vlm.config.image_token_id
    inputs["mm_token_type_ids"] = seen.int()  # without them transformers takes one-dimensional positions
    inputs = {name: value.to(vlm.device) for name, value in inputs.items()}
    inputs["pixel_values"] = inputs["pixel_values"].to(vlm.dtype)
    states = vlm.model(**inputs, output_hidden_states=True, use_cache=False).hidden_states[layer]
    return states[seen.to(vlm.device)].view(len(pictures), -1, states.shape[-1])


def ours(vlm: VLM, point: str, pictures: Tensor) -> Tensor:
    return vlm.latents(pictures, [point])[point].flatten(1, 3)


def rate(way: Callable[[Tensor], Tensor], pictures: Tensor, batch: int, repeats: int) -> float:
    """Median pictures a second over batches, each of them waited for."""
    seconds = []
    for i in range(repeats + 1):  # the first one warms up
        start = time.perf_counter()
        way(pictures[torch.arange(i * batch, (i + 1) * batch) % len(pictures)])[0, 0, 0].item()
        seconds.append(time.perf_counter() - start)
    return batch / statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a rehearsal on the CPU")
    parser.add_argument("--sides", default="224,448", help="pixels a side")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=6)
    args = parser.parse_args()
    device = torch.device("cpu" if args.tiny else "cuda")
    with tempfile.TemporaryDirectory() as folder:
        vlm, processor = random_vlm(Path(folder), device, args.tiny)
        layer = vlm.config.text_config.num_hidden_layers // 2
        point = f"post-merge/{layer}"
        for side in map(int, args.sides.split(",")):
            drawn = render(sample(range(args.batch), 0, SceneSpec(size=(side, side)))).images / 255
            theirs = partial(obvious, vlm, processor, layer)
            mine = partial(ours, vlm, point)
            a, b = theirs(drawn[:2]).float(), mine(drawn[:2]).float()
            print(f"{point} at {side}²: the two differ by {float((a - b).norm() / a.norm()):.1e} of the norm")
            single, batched = rate(theirs, drawn, 1, args.repeats), rate(theirs, drawn, args.batch // 2, args.repeats)
            found = rate(mine, drawn, args.batch, args.repeats)
            print(f"  transformers one by one {single:.1f} images/s, in batches of {args.batch // 2} {batched:.1f}")
            print(
                f"  ours in batches of {args.batch} {found:.1f}: ratio {found / single:.1f} and {found / batched:.1f}"
            )


if __name__ == "__main__":
    main()
