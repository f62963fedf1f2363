"""A first and a second start with a model of Qwen2.5-VL-7B's sizes from a hub at this machine's own address.

    python -m benchmarks.loading [--tiny] [--layers 28] [--device cuda] [--json] [--keep DIR]

Random weights are written in shards of 4 GB under the released names, and served by `local_hub` in a process of
its own. Each start is a process of its own too, which takes one picture's latents at half the depth: what it
fetched, its seconds and its peak memory, beside the seconds of reading the same bytes from the disk with nothing
done to them. Files are dropped from the page cache before each.
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.local_hub import LocalHub
from benchmarks.random_vlm import write_small_files
from foresight.models.vlm import load_vlm

NAME = "owner/vlm"
SHARD = 4 << 30  # bytes


def write_weights(folder: Path) -> None:
    """Random weights of the folder's config in bfloat16, in shards, under the names of released checkpoints."""
    some = torch.randn(1 << 20).mul_(0.02).bfloat16()  # repeated: what they are makes no difference to time
    shards, names, size = list[dict[str, torch.Tensor]](), dict[str, str](), 0
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}', encoding="utf-8")
    for name, p in load_vlm(folder, "cpu").model.named_parameters():
        value = some.repeat(-(-p.numel() // len(some)))[: p.numel()].view(p.shape).clone()
        if not shards or size + value.nbytes > SHARD:
            _write_shard(folder, shards)
            shards.append({})
            size = 0
        released = name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")
        shards[-1][released], size = value, size + value.nbytes
        names[released] = f"model-{len(shards):05}.safetensors"
    _write_shard(folder, shards)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": names}), encoding="utf-8"
    )


def _write_shard(folder: Path, shards: list[dict[str, torch.Tensor]]) -> None:
    """Writes the last shard, and keeps no more of it."""
    if shards:
        save_file(shards[-1], folder / f"model-{len(shards):05}.safetensors", {"format": "pt"})
        shards[-1] = {}


def forget(folder: Path) -> None:
    """Drops a folder's files from the page cache."""
    for path in folder.rglob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def start(device: str | None, dtype: str | None) -> dict[str, Any]:
    """What a start takes, in a process whose HF_ENDPOINT and HF_HOME are set."""
    began = time.perf_counter()
    vlm = load_vlm(NAME, device, dtype)
    small, image = time.perf_counter() - began, torch.zeros(1, 3, 224, 224, dtype=torch.uint8)
    point = vlm.point(f"post-merge/{vlm.config.text_config.num_hidden_layers // 2}")
    from foresight.models.hub import folder_of

    began = time.perf_counter()
    files = sorted(vlm._files(point))
    folder = folder_of(vlm._source, files, "model")
    fetch = time.perf_counter() - began
    bytes_read = sum((folder / file).stat().st_size for file in files)
    needed = vlm._bytes(point, torch.bfloat16)
    forget(folder.parent.parent)
    began = time.perf_counter()
    buffer = bytearray(1 << 24)
    for file in files:
        with (folder / file).open("rb", buffering=0) as raw:
            while raw.readinto(buffer):
                pass
    reading = time.perf_counter() - began
    forget(folder.parent.parent)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    vlm._load(point)
    if vlm.device.type == "cuda":
        torch.cuda.synchronize()
    loading = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    vlm.latents(image, [point])
    return {
        "point": str(point),
        "device": str(vlm.device),
        "dtype": str(vlm.dtype).removeprefix("torch."),
        "small files: s": small,
        "fetched: s": fetch,
        "files: GB": bytes_read / 1e9,
        "needed: GB": needed / 1e9,
        "bytes read: s": reading,
        "loaded: s": loading,
        "loaded / (read × needed / files)": loading / (reading * needed / bytes_read),
        "host memory above the start: shards": (peak - before) * 1024 / min(SHARD, bytes_read),
        "first latents: s": time.perf_counter() - began,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a rehearsal")
    parser.add_argument("--layers", type=int, help="of the language model, if not all")
    parser.add_argument("--device")
    parser.add_argument("--dtype", help="float32 or bfloat16 (default: bfloat16 on a GPU, float32 on a CPU)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the model there, or take it from there")
    parser.add_argument("--start", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.start:
        print(json.dumps(start(args.device, args.dtype)))
        return
    if args.serve:
        with LocalHub({NAME: args.serve}) as hub:
            hub.files(NAME)  # digests, once
            print(hub.url, flush=True)
            sys.stdin.read()
        return
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = args.keep or place / "model"
        if not (folder / "config.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_small_files(folder, args.tiny, args.layers)
            write_weights(folder)
        me = [sys.executable, "-m", "benchmarks.loading"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        server = stack.enter_context(subprocess.Popen([*me, "--serve", str(folder)], **pipes))
        url = server.stdout.readline().strip() if server.stdout else ""
        environment = os.environ | {"HF_ENDPOINT": url, "HF_HOME": str(place / "cache")}
        options = {"--device": args.device, "--dtype": args.dtype}
        arguments = [word for flag, value in options.items() if value for word in (flag, value)]
        for which in ("first", "second"):
            done = subprocess.run([*me, "--start", *arguments], env=environment, stdout=subprocess.PIPE, check=True)
            line = {"start": which} | json.loads(done.stdout)
            rows = (f"{k:38} {v:.3f}" if isinstance(v, float) else f"{k:38} {v}" for k, v in line.items())
            print(json.dumps(line) if args.json else "\n".join(rows), flush=True)
        server.communicate()


if __name__ == "__main__":
    main()
