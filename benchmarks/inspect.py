"""Click to picture and all scores: time by stage, beside the obvious way in the same run; memory; start.

    python -m benchmarks.inspect [--scenes 30] [--point post-merge/6] [--adapters DIR] [--exact]

Every scene is a new picture, so that its oracle is made anew, and all adapters of the point are decoded and
scored. The obvious ways: transformers' forward with output_hidden_states; diffusers' decoder as it is loaded;
lpips and scikit-image picture by picture.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

START = time.perf_counter()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.scores import lpips_package, medians, one_by_one  # noqa: E402
from foresight.adapters.registry import BUNDLED  # noqa: E402
from foresight.data.images import resize, to_pil  # noqa: E402
from foresight.data.render import render  # noqa: E402
from foresight.data.scenes import SceneSpec, take  # noqa: E402
from foresight.errors import InputError  # noqa: E402
from foresight.inspection.inspector import Inspector  # noqa: E402
from foresight.metrics.scores import compare  # noqa: E402
from foresight.models.vae import load_vae  # noqa: E402
from foresight.models.vlm import load_vlm  # noqa: E402


def whole_forward(model: Any, processor: Any, picture: Any, text: str) -> Tensor:
    """transformers' own way to the hidden states: processor, whole model, every layer kept."""
    inputs = processor(text=[text], images=[picture], return_tensors="pt")
    with torch.inference_mode():
        return model(**inputs, output_hidden_states=True).hidden_states[-1]


def peers(inspector: Inspector, picture: Tensor, point: str, repeats: int) -> dict[str, list[float]]:
    """Median seconds [obvious, ours] of the stages that have a peer."""
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    vlm, vae, pil = inspector.vlm, inspector.vae, to_pil(picture)
    report = inspector.inspect(picture, point)
    images = torch.stack([r.image for r in (*report.reconstructions, report.oracle, report.blank)])
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(vlm.folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(vlm.folder)
    forward = partial(whole_forward, model, processor, pil, vlm.prompt("Describe the image."))
    z = vae.encode(resize(images[:-1], (256, 256)))
    plain = load_vae(None, device="cpu").model.to(memory_format=torch.contiguous_format)

    @torch.inference_mode()
    def decode_all() -> Tensor:
        return plain.decode(z).sample

    @torch.inference_mode()
    def decode_ours() -> Tensor:
        return inspector.decode(z, (224, 224))

    score_all = partial(one_by_one, lpips_package(), picture[None], images)
    score_ours = partial(compare, picture[None], images)
    jobs: dict[str, list[Callable[[], object]]] = {
        "latents": [forward, partial(vlm.latents, [pil], [point])],
        "decode": [decode_all, decode_ours],
        "scores": [score_all, score_ours],
    }
    return {name: medians(repeats, *pair) for name, pair in jobs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scenes", type=int, default=30)
    parser.add_argument("--point", help="default: post-merge at half depth")
    parser.add_argument("--adapters", type=Path, default=BUNDLED, help="a folder of adapters")
    parser.add_argument("--exact", action="store_true", help="float32 where bfloat16 would be faster")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="of each comparison")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    imported = time.perf_counter()
    vlm, vae = load_vlm(device="cpu"), load_vae(device="cpu")
    inspector = Inspector(vlm, vae, [args.adapters], fast=not args.exact)
    drawn = render(take(args.scenes + 2, 0, SceneSpec(), "test"))
    pictures, masks = drawn.images / 255, drawn.mask
    loaded = time.perf_counter()
    first = inspector.inspect(pictures[0], args.point)
    ready = time.perf_counter()
    spans = {"imports": imported - START, "models": loaded - imported, "first click": ready - loaded}
    print("start: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in spans.items()))
    pairs = list(zip(pictures, masks, strict=True))[1:]
    runs = [inspector.inspect(picture, args.point, mask=mask).seconds for picture, mask in pairs][1:]
    names = ", ".join(r.name for r in first.reconstructions)
    print(f"{first.point}: {names}, oracle, blank; {args.scenes} scenes of 224², {args.threads} threads")
    for stage in runs[0]:
        times = sorted(run[stage] for run in runs)
        p95 = times[min(len(times) - 1, round(0.95 * len(times)))]
        print(f"  {stage:8} p50 {1e3 * statistics.median(times):6.0f} ms   p95 {1e3 * p95:6.0f} ms")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in kB
    print(f"peak memory {memory:.2f} GB")
    for name, (slow, fast) in peers(inspector, pictures[0], str(first.point), args.repeats).items():
        ratio = f"ratio {slow / fast:.1f}"
        print(f"  {name:8} obvious way {1e3 * slow:6.0f} ms   ours {1e3 * fast:6.0f} ms   {ratio}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
