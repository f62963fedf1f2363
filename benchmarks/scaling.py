"""How extraction and training scale over the GPUs of one machine, at Qwen2.5-VL-7B's sizes with random weights.

    python -m benchmarks.scaling [--gpus 1,2,4] [--tiny] [--json]

For each number of GPUs it starts that many processes, which take latents of as many scenes each, with nothing
kept and into one store on disk, and train one TokenAdapter of 20M parameters on as many rows each. Then all
numbers of GPUs train on the same batches, to compare their losses.
"""

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from benchmarks.random_vlm import random_vlm
from foresight.data.scenes import Scenes, SceneSpec, sample
from foresight.models.vae import VAE, load_vae
from foresight.models.vlm import VLM
from training.fit import Fit, FitConfig, new_adapter
from training.latents import Extractor, Latents, Room, extract_scenes, open_store
from training.loop import Recipe, train

ROWS = 2048  # pictures whose latents the adapter learns from; random numbers


def clocked(state: PartialState, job: Callable[[], Any]) -> float:
    """Seconds until every process is through with its job."""
    state.wait_for_everyone()
    start = time.perf_counter()
    job()
    if state.device.type == "cuda":
        torch.cuda.synchronize()
    state.wait_for_everyone()
    return time.perf_counter() - start


def extraction(state: PartialState, vlm: VLM, vae: VAE, folder: Path, count_each: int, batch: int) -> dict[str, float]:
    """Pictures a second of all processes, `each` pictures in each of them, without and with a store."""
    point = f"post-merge/{vlm.config.text_config.num_hidden_layers // 2}"

    def scenes(first: int, count: int) -> list[Scenes]:
        return [sample(range(first, first + count * state.num_processes), 0, SceneSpec())]

    rates = {}
    with Extractor(vlm, vae, [point]) as unkept:
        list(extract_scenes(unkept, scenes(0, batch), batch))  # warms up
        seconds = clocked(state, lambda: list(extract_scenes(unkept, scenes(0, count_each), batch)))
        rates["extraction, nothing kept: pictures/s"] = count_each * state.num_processes / seconds

    def keep() -> None:
        with Extractor(vlm, vae, [point], open_store(folder, vlm)) as extractor:
            list(extract_scenes(extractor, scenes(0, count_each), batch))

    rates["extraction into a store: pictures/s"] = count_each * state.num_processes / clocked(state, keep)
    return rates


def adapter_task(vlm: VLM, vae: VAE, hidden: int, recipe: Recipe, files: Path | None = None) -> Fit:
    """A TokenAdapter over random latents; pictures are not decoded, so that the adapter alone is measured.

    files: a folder where the latents lie, in place of the device.
    """
    point = vlm.points[-1]
    device, cells = vlm.device, 256 // vae.downscale
    torch.manual_seed(0)
    points = torch.randn(ROWS, 1, 8, 8, vlm.width(point), device=device, dtype=vlm.dtype)
    if files:
        points = Room(0, files).column(points.shape, points.dtype, device).copy_(points)
    latents = Latents(
        {str(point): points},
        torch.randn(ROWS, vae.channels, cells, cells, device=device),
        torch.zeros(1, 3, 224, 224, dtype=torch.uint8, device=device).expand(ROWS, -1, -1, -1),
        torch.zeros(1, 224, 224, dtype=torch.bool, device=device).expand(ROWS, -1, -1),
        torch.zeros(ROWS, dtype=torch.uint8, device=device),
        mapped=files is not None,
    )
    adapter = new_adapter("tokens", point, vlm, vae, hidden).to(device)
    return Fit({f"{point}-tokens": adapter}, [latents], vae, FitConfig((str(point),), images_from=1, recipe=recipe))


def training(state: PartialState, vlm: VLM, vae: VAE, rows: int, steps: int, hidden: int) -> dict[str, Any]:
    """Rows a second of all processes, `rows` in each of them a step; and losses on batches all numbers share."""
    recipe = Recipe(2 * steps, rows * state.num_processes, warmup=10)
    task = adapter_task(vlm, vae, hidden, recipe)
    run = train(task, recipe, state.device)

    def go(run: Iterator[Any]) -> None:
        for _ in range(steps):
            next(run)

    go(run)  # warms up
    rate = steps * rows * state.num_processes / clocked(state, lambda: go(run))
    run.close()
    recipe = Recipe(16, 32, warmup=4, seed=1)
    task = adapter_task(vlm, vae, hidden, recipe)
    shared = train(task, recipe, state.device)
    losses = [float(loss) for step in shared for loss in step.losses.values()]
    count = sum(adapter.parameter_count for adapter in task.adapters.values())
    return {"training: rows/s": rate, "parameters": count, "losses": losses}


def work(args: argparse.Namespace) -> None:
    """One of several processes; the first writes down what was found."""
    state = PartialState(cpu=args.tiny)
    own = tempfile.TemporaryDirectory()
    vlm, _ = random_vlm(Path(own.name), state.device, args.tiny)
    vae = load_vae(None, state.device)
    rates: dict[str, Any] = extraction(state, vlm, vae, args.store, args.pictures, args.batch)
    rates |= training(state, vlm, vae, args.rows, args.steps, 64 if args.tiny else 896)
    if state.is_main_process:
        args.report.write_text(json.dumps(rates), encoding="utf-8")
    state.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(gpus: int, args: argparse.Namespace) -> dict[str, Any]:
    """What `gpus` processes found, one on each GPU."""
    with tempfile.TemporaryDirectory(dir=args.disk) as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={gpus}"]
        command += ["--master-addr=127.0.0.1", f"--master-port={free_port()}"]
        arguments = [*sys.argv[1:], f"--report={report}", f"--store={folder}/store"]
        subprocess.run([*command, "-m", "benchmarks.scaling", *arguments], check=True)
        return json.loads(report.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gpus", default="1,2", help="numbers of GPUs to compare with the first of them")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal: tiny sizes, processes on the CPU")
    parser.add_argument("--pictures", type=int, default=1024, help="pictures a process")
    parser.add_argument("--batch", type=int, default=64, help="pictures at a time")
    parser.add_argument("--rows", type=int, default=256, help="rows a step and process, in training")
    parser.add_argument("--steps", type=int, default=60, help="timed steps; as many warm up")
    parser.add_argument("--disk", type=Path, help="where stores are made (the system's folder for such)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.report:
        work(args)
        return
    numbers = [int(n) for n in args.gpus.split(",")]
    runs = {n: launch(n, args) for n in numbers}
    first = runs[numbers[0]]
    if args.json:
        for name, n in ((name, n) for name in first if name.endswith("/s") for n in numbers):
            rate = runs[n][name]
            row = {"what": name.partition(":")[0], "gpus": n, "per_s": rate, "ratio": f"{rate / first[name]:.2f}"}
            print(json.dumps(row), flush=True)
        return
    print(f"adapter of {first['parameters'] / 1e6:.1f}M parameters; ratios beside {numbers[0]} GPU")
    for name in [n for n in first if n.endswith("/s")]:
        print(f"  {name:40}", "   ".join(f"{n}: {r[name]:.0f} (×{r[name] / first[name]:.2f})" for n, r in runs.items()))
    for n in numbers[1:]:
        worst = max(abs(a - b) / abs(a) for a, b in zip(first["losses"], runs[n]["losses"], strict=True))
        print(f"  losses of {len(first['losses'])} steps on {n} GPUs differ by at most {100 * worst:.3f} %")


if __name__ == "__main__":
    main()
