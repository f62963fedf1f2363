"""The table of docs/benchmarks.md in one command: peer, ours, ratio, limit, share, at Qwen2.5-VL-7B's sizes.

    python -m benchmarks [--json] [--only latents,adapters,start,gpus] [--keep DIR] [--tiny]

It runs, each in a process of its own, `benchmarks.extraction`, `benchmarks.adapters`, `benchmarks.loading` and, where
there are several GPUs, `benchmarks.scaling`; what each measures, and how, stands there. With --json their lines are
printed as they come, behind one of the machine and its versions. The start needs 30 GB of disk and 10 GB of memory.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

PARTS = {"latents": "extraction", "adapters": "adapters", "start": "loading", "gpus": "scaling"}
PACKAGES = ("torch", "triton", "transformers", "accelerate", "diffusers")
BESIDE = {"s": "{s:.2f} s", "rows_per_s_from_files": "{rows_per_s_from_files:.0f}/s from files"}
COLUMNS = ("what", "peer", "ours", "ratio", "limit", "share")


def machine() -> dict[str, Any]:
    """GPUs or cores, and versions."""
    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    versions = {"python": platform.python_version(), "cuda": torch.version.cuda}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {"gpus": gpus, "cores": os.cpu_count(), "versions": versions}


def lines(module: str, *flags: str) -> Iterator[dict[str, Any]]:
    """The JSON lines of one benchmark, as they come."""
    command = [sys.executable, "-m", f"benchmarks.{module}", "--json", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        for line in process.stdout or ():
            yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"benchmarks.{module} ended with {process.returncode}.")


def cells(row: dict[str, Any]) -> dict[str, str]:
    """A JSON line as a row of the table."""
    if "first latents: s" in row:
        reading = row["bytes read: s"] * row["needed: GB"] / row["files: GB"]
        what = f"weights of {row['needed: GB']:.1f} GB loaded, {row['start']} start"
        ratio = f"{row['loaded / (read × needed / files)']:.2f} of the time"
        return {"what": what, "peer": f"read in {reading:.1f} s", "ours": f"{row['loaded: s']:.1f} s", "ratio": ratio}
    if "gpus" in row:
        return {"what": f"{row['what']}, {row['gpus']} GPUs", "ours": f"{row['per_s']:.0f}/s", "ratio": row["ratio"]}
    if "beside_deepest" in row:
        what, ratio = f"all {row['points']} points, {row['side']}² × {row['batch']}", row["beside_deepest"]
        return {"what": what, "peer": "the deepest alone", "ratio": f"{ratio:.2f} of the time"}
    if "beside_equal" in row:
        what, ratio = f"four sizes in turn, × {row['batch']}", row["beside_equal"]
        return {"what": what, "peer": "one size", "ratio": f"{ratio:.2f} of the rate"}
    what = row.get("what") or f"latents, {row['side']}² × {row['batch']}"
    what += f" of {row['pictures']} pictures" if "pictures" in row else ""
    speed = row.get("images_per_s") or row["rows_per_s"]
    peer = row.get("peer") or row.get("transformers_one_by_one")
    return {
        "what": what,
        "peer": f"{peer:.1f}/s" if peer else "–",
        "ours": f"{speed:.0f}/s" + next((f" ({text.format(**row)})" for key, text in BESIDE.items() if key in row), ""),
        "ratio": f"{row['ratio']:.1f}" if "ratio" in row else "–",
        "limit": f"{row['limit']:.0f}/s",
        "share": f"{100 * row['share']:.1f} %",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--keep", metavar="DIR", help="where the start's model is written, or taken from")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal on the CPU")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    args = parser.parse_args()
    several = args.tiny or torch.cuda.device_count() > 1
    flags = ["--tiny"] if args.tiny else []
    more = {
        "latents": ["--shapes", "224x1,224x2", "--repeats", "1"] if args.tiny else [],
        "adapters": ["--pictures", "4", "--rows", "8", "--steps", "2"] if args.tiny else [],
        "start": ["--keep", args.keep] if args.keep else [],
        "gpus": ["--pictures", "4", "--batch", "2", "--rows", "4", "--steps", "2"] if args.tiny else [],
    }
    about = machine()
    print(json.dumps(about) if args.json else f"{about}\n\n| {' | '.join(COLUMNS)} |\n|{' --- |' * 6}", flush=True)
    for part in args.only.split(","):
        if part == "gpus" and not several:
            continue
        for row in lines(PARTS[part], *flags, *more[part]):
            table_row = cells(row)
            text = f"| {' | '.join(table_row.get(column, '–') for column in COLUMNS)} |"
            print(json.dumps(row) if args.json else text, flush=True)


if __name__ == "__main__":
    main()
