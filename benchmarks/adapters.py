"""Evaluating pictures, and training an adapter, at Qwen2.5-VL-7B's sizes: beside the plain ways and the GPU's limit.

    python -m benchmarks.adapters [--tiny] [--json] [--pictures 512] [--no-peer]

Evaluation goes from scenes in memory at 224² to all scores and intervals: the 7B's latents at half depth, a token
adapter of 20M parameters, the bundled VAE. The plain way takes picture after picture through transformers' whole
forward, diffusers' decoder, the lpips package and scikit-image. The limit is the latents' arithmetic alone.
Training reads random latents that lie on the device, and once more in files, and decodes no pictures; on a GPU its
adapter is compiled, as for the bundle. The plain way is PyTorch's usual loop: a DataLoader over latents in the
machine's memory, AdamW as it comes, the loss read after each step. The limit is the arithmetic of the adapter's
products, forward and backward. Both limits are at the rate of a product of two 8192 × 8192 matrices in bfloat16 in the
same run.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.extraction import matmul_rates, obvious, operations, seconds
from benchmarks.random_vlm import random_vlm
from benchmarks.scaling import adapter_task
from foresight.adapters.checkpoint import describe_adapter, save_adapter
from foresight.adapters.identity import KEY, identity_of
from foresight.adapters.registry import AdapterRecord
from foresight.data.images import resize
from foresight.data.scenes import SceneSpec
from foresight.inspection.evaluation import Sample, evaluate, scene_samples, summarise
from foresight.inspection.inspector import Inspector
from foresight.models.vae import VAE, load_vae
from foresight.models.vlm import VLM
from foresight.schemas import to_json
from training.fit import Fit, new_adapter
from training.loop import Recipe, train

SIDE = 224  # pixels


def _record(folder: Path, vlm: VLM, vae: VAE, hidden: int) -> AdapterRecord:
    """A token adapter with random weights at half of the language model's depth, in `folder`."""
    point = vlm.point(f"post-merge/{vlm.config.text_config.num_hidden_layers // 2}")
    adapter = new_adapter("tokens", point, vlm, vae, hidden)
    adapter.card = {"point": str(point), KEY: to_json(identity_of(vlm, vae, point, "0" * 64))}
    save_adapter(adapter, folder)
    return AdapterRecord(folder, True, describe_adapter(folder), adapter.parameter_count, folder.parent)


def evaluation(vlm: VLM, vae: VAE, processor: Any, record: AdapterRecord, rate: float, count: int, peer: int) -> dict:
    """Seconds of evaluating `count` scenes. peer: so many of them are taken the plain way, too."""
    inspector = Inspector(vlm, vae, [record.folder.parent])
    samples = list(scene_samples(count, 0, SceneSpec(size=(SIDE, SIDE))))

    def evaluated() -> None:
        summarise(row.flat() for row in evaluate(inspector, record, samples))  # type: ignore[union-attr]

    start = time.perf_counter()
    evaluated()
    first = time.perf_counter() - start
    row: dict[str, Any] = {"what": "evaluation", "pictures": count, "first_s": first}
    row["s"] = seconds(evaluated, vlm.device, 3)
    row["images_per_s"], row["limit"] = count / row["s"], rate / operations(vlm, SIDE, record.point.layer)
    if peer:
        row["peer"] = plain_evaluation(inspector, processor, record, samples[:peer])
        row["ratio"] = row["images_per_s"] / row["peer"]
    return row | {"share": row["images_per_s"] / row["limit"]}


def plain_evaluation(inspector: Inspector, processor: Any, record: AdapterRecord, samples: Sequence[Sample]) -> float:
    """Pictures a second, one after the other: reconstruction and oracle, LPIPS, SSIM and PSNR of both."""
    from benchmarks.scores import lpips_package, one_by_one

    vlm, vae, adapter = inspector.vlm, inspector.vae, inspector.registry.load(record)
    network = lpips_package().to(vlm.device)
    grid = (1, 1, SIDE // 28, SIDE // 28, -1)

    @torch.inference_mode()
    def work() -> None:
        for sample in samples:
            image = sample.image[None].to(vlm.device)
            states = obvious(vlm, processor, record.point.layer, (image * 255).round().byte()).view(grid)
            z = torch.cat([adapter(states), vae.encode(resize(image, (SIDE * 8 // 7,) * 2))])
            decoded = resize(torch.cat([vae.decode(latents[None]) for latents in z]), (SIDE, SIDE))
            one_by_one(network, image, decoded)

    return len(samples) / seconds(work, vlm.device, 1)


def training(vlm: VLM, vae: VAE, rate: float, rows: int, steps: int, hidden: int, peer: bool) -> dict[str, Any]:
    """Rows a second of training one token adapter, `rows` a step."""
    recipe = Recipe(4 * steps + 1, rows, warmup=10)
    task = adapter_task(vlm, vae, hidden, recipe)
    (name, adapter), *_ = task.adapters.items()
    products = _products(task, rows)

    def rows_per_second(task: Fit) -> float:
        if vlm.device.type == "cuda":
            task.compile()  # now, for what the counter of operations has run is never compiled
        run = train(task, recipe, vlm.device)

        def go() -> None:
            for _ in islice(run, steps):
                pass

        seconds = _timed(go, vlm.device)
        run.close()
        return steps * rows / seconds

    row: dict[str, Any] = {"what": "training", "parameters": adapter.parameter_count, "rows": rows}
    row |= {"rows_per_s": rows_per_second(task), "limit": rate / products}
    with tempfile.TemporaryDirectory() as folder:
        from_files = rows_per_second(adapter_task(vlm, vae, hidden, recipe, Path(folder)))
    row |= {"rows_per_s_from_files": from_files, "from_files": from_files / row["rows_per_s"]}
    if peer:
        [learned] = task.latents
        latents, targets = learned.points[name.rpartition("-")[0]].cpu(), learned.targets.cpu()
        plain = _plain_training(adapter, latents, targets, rows, vlm.device)

        def plain_steps() -> None:
            for _ in islice(plain, steps):
                pass

        row["peer"] = steps * rows / _timed(plain_steps, vlm.device)
        row["ratio"] = row["rows_per_s"] / row["peer"]
    return row | {"share": row["rows_per_s"] / row["limit"]}


def _timed(work: Any, device: torch.device) -> float:
    """Seconds of the second call; the first warms up."""
    for _ in range(2):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _products(task: Fit, rows: int) -> float:
    """Floating-point operations a row, forward and backward, of products of matrices."""
    with FlopCounterMode(display=False) as counter:
        losses = task.loss(torch.arange(rows), torch.Generator(task.vae.device), 0.0)
        torch.stack(list(losses.values())).sum().backward()
    task.modules.zero_grad(set_to_none=True)
    counts = counter.get_flop_counts()["Global"]
    return sum(n for operation, n in counts.items() if "convolution" not in str(operation)) / rows


def _plain_training(adapter: nn.Module, x: Tensor, z: Tensor, rows: int, device: torch.device) -> Iterator[float]:
    """PyTorch's usual loop; yields losses without end."""
    loader = DataLoader(TensorDataset(x, z), rows, shuffle=True, drop_last=True, pin_memory=device.type == "cuda")
    optimizer = torch.optim.AdamW(adapter.parameters(), 1e-4)
    for latents, targets in (batch for epoch in repeat(loader) for batch in epoch):
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = (adapter(latents.to(device)) - targets.to(device)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a rehearsal on the CPU")
    parser.add_argument("--pictures", type=int, default=512, help="to evaluate")
    parser.add_argument("--rows", type=int, default=256, help="a step of training")
    parser.add_argument("--steps", type=int, default=60, help="timed steps; as many warm up")
    parser.add_argument("--no-peer", action="store_true", help="without the plain ways")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    args = parser.parse_args()
    device, hidden = torch.device("cpu" if args.tiny else "cuda"), 64 if args.tiny else 896
    with tempfile.TemporaryDirectory() as folder:
        vlm, processor = random_vlm(Path(folder) / "vlm", device, args.tiny)
        vae, (rate, _) = load_vae(None, device), matmul_rates(device)
        record = _record(Path(folder) / "adapters/tokens", vlm, vae, hidden)
        peer = 0 if args.no_peer else min(16, args.pictures)
        for row in (
            evaluation(vlm, vae, processor, record, rate, args.pictures, peer),
            training(vlm, vae, rate, args.rows, args.steps, hidden, not args.no_peer),
        ):
            unit = "images_per_s" if "images_per_s" in row else "rows_per_s"
            words = f"{row['what']}: {row[unit]:.0f}/s" + (f" (× {row['ratio']:.1f})" if "ratio" in row else "")
            words += f", {100 * row['from_files']:.0f} % of it from files" if "from_files" in row else ""
            print(json.dumps(row) if args.json else f"{words}, {100 * row['share']:.0f} % of the limit", flush=True)


if __name__ == "__main__":
    main()
