"""python -m training experiments c1: the whole study, experiment by experiment; what is finished is kept."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from foresight.errors import InputError
from foresight.inspection.evaluation import folder_files
from foresight.models import vae as vae_module
from foresight.models import vlm as vlm_module
from foresight.models.hub import folder_of
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm
from training.arguments import above, at_least
from training.data import files_digest, readable
from training.experiments import (
    blends,
    controls,
    e1_1,
    e1_1_map,
    e1_2,
    e1_3,
    e1_4,
    e1_5,
    e1_6,
    held_out,
    seed_protocol,
    store,
)
from training.experiments.bench import Bench
from training.experiments.report import findings
from training.experiments.scale import FULL, LAPTOP, QUICK, Scale
from training.store import revision

EXAMPLES = """examples:
  python -m training experiments c1 --quick --out runs/c1-quick
  python -m training experiments c1 --laptop --out runs/c1-laptop
  python -m training experiments c1 --out runs/c1
  python -m training experiments c1 --only e1_4,e1_6 --out runs/c1
  python -m training experiments c1 --protocol seed --out runs/seed
  python -m training experiments c1 --model Qwen/Qwen2.5-VL-7B-Instruct --vae stabilityai/sd-vae-ft-mse --out runs/7b
Finished experiments are kept in --out; the same command goes on where it was cut off."""
ALL: dict[str, Any] = {  # in the order in which they run: E1.5 asks E1.6 for the best point
    "e1_1": e1_1,
    "e1_1_map": e1_1_map,
    "e1_2": e1_2,
    "e1_3": e1_3,
    "e1_4": e1_4,
    "e1_6": e1_6,
    "e1_5": e1_5,
    "seed_protocol": seed_protocol,
    "controls": controls,
    "held_out": held_out,
    "blends": blends,
}
SEED = {"seed_protocol"}
PROTOCOLS = {"seed": SEED, "sound": ALL.keys() - SEED, "both": ALL.keys()}
GROUPS = {"beyond": ("blends", "held_out", "controls")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `experiments`."""
    parser.add_argument("study", choices=("c1",), help="the study: c1, what a VLM's latents hold of a picture")
    parser.add_argument("--out", type=Path, required=True, help="folder of results.yaml, FINDINGS.md and artifacts/")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a rehearsal in minutes: few scenes, points and steps")
    size.add_argument("--laptop", action="store_true", help="without a GPU: fewer scenes, points, steps and widths")
    parser.add_argument("--only", help=f"some of {', '.join([*ALL, *GROUPS])}, with commas; and what they need")
    parser.add_argument("--skip", default="", help="experiments to leave for a later call")
    parser.add_argument("--protocol", choices=tuple(PROTOCOLS), default="both", help="the seed's, ours, or both")
    parser.add_argument("--model", help="Qwen2.5-VL: a folder or hub id (the bundled one)")
    parser.add_argument("--vae", help="VAE: a folder or hub id (the bundled one)")
    parser.add_argument("--photos", type=Path, help="folder of photos, as a test of what no adapter has seen")
    parser.add_argument("--points", type=int, help=f"at most so many extraction points ({FULL.points})")
    parser.add_argument("--scenes", type=int, help=f"training scenes ({FULL.train}); fewer where memory is short")
    parser.add_argument("--cap", type=above(0), help="seconds that one training may take; its steps are cut to fit")
    parser.add_argument("--no-report", action="store_true", help="leave figures and FINDINGS.md to a later call")
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--device", help="cuda or cpu (the GPU where there is one)")


def chosen(only: str | None, skip: str, protocol: str) -> list[str]:
    """The experiments asked for, in the order in which they run, with those that they need."""
    for word in [*(only or "").split(","), *skip.split(",")]:
        if word and word not in ALL and word not in GROUPS:
            raise InputError(f"there is no experiment {word!r}: choose from {', '.join([*ALL, *GROUPS])}.")
    wanted = set(_spelt_out(only)) if only else set(PROTOCOLS[protocol])
    for name in list(wanted):
        wanted |= set(getattr(ALL[name], "NEEDS", ()))
    wanted -= set(_spelt_out(skip))
    return [name for name in ALL if name in wanted]


def _spelt_out(words: str) -> list[str]:
    return [name for word in words.split(",") if word for name in GROUPS.get(word, (word,))]


def scale_of(args: argparse.Namespace) -> Scale:
    scale = QUICK if args.quick else LAPTOP if args.laptop else FULL
    for field, value in (("points", args.points), ("train", args.scenes)):
        if value is not None:
            if value < 4:
                raise InputError(f"--{'points' if field == 'points' else 'scenes'} must be at least 4, not {value}.")
            scale = replace(scale, **{field: value})
    return scale


def settings_of(args: argparse.Namespace, scale: Scale) -> dict[str, Any]:
    """What a result depends on. The device is not among it: it changes digits, not findings."""
    model, vae = (
        folder_of(name or bundled, ["config.json", "vae/config.json"], what)  # a hub's files are fetched when needed
        for name, bundled, what in ((args.model, vlm_module.BUNDLED, "model"), (args.vae, vae_module.BUNDLED, "VAE"))
    )
    models = {"model": args.model or "bundled", "vae": args.vae or "bundled"}
    weights = {"model_revision": revision(model), "vae_revision": revision(vae)}
    return models | weights | {"seed": args.seed, "cap": args.cap} | scale.plain()


def _own(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """What one experiment's result depends on beside the settings of all."""
    own: dict[str, Any] = {"version": getattr(ALL[name], "VERSION", 1)}
    if name == "held_out":
        # No path: results are for others to read.
        own["photos"] = files_digest(folder_files(args.photos)) if args.photos else None
    return own


def run(args: argparse.Namespace) -> None:
    """Runs what is asked for and not yet finished, then writes the findings of all that lies in --out."""
    if args.photos is not None:
        good, broken = readable(folder_files(args.photos))
        for file in broken:
            print(f"left out: {file.name}: {file.reason}", file=sys.stderr)
        if not good:
            raise InputError(f"there is no picture that can be read in {args.photos}.")
    todo = chosen(args.only, args.skip, args.protocol)
    scale = scale_of(args)
    store.open_folder(args.out)
    settings = settings_of(args, scale)
    finished = {name: record for name in ALL if (record := store.load(args.out, name, settings | _own(name, args)))}
    if missing := [name for name in todo if name not in finished]:
        vlm = load_vlm(args.model, args.device)
        vae = load_vae(args.vae, args.device)
        bench = Bench(vlm, vae, scale, args.out / "artifacts", args.seed, args.model, args.photos, args.cap)
        for name in missing:
            finished[name] = _run_one(name, bench, args, settings, finished)
    if not args.no_report:
        findings.write(args.out, {name: finished[name] for name in sorted(finished, key=findings.ORDER.index)})


def _run_one(
    name: str, bench: Bench, args: argparse.Namespace, settings: dict[str, Any], finished: dict[str, Any]
) -> Any:
    start = time.monotonic()
    print(f"{name} …", file=sys.stderr, flush=True)
    experiment: Callable[..., Any] = ALL[name].run
    needs = getattr(ALL[name], "NEEDS", ())
    if absent := [other for other in needs if other not in finished]:
        raise InputError(f"{name} needs {absent[0]}: do not skip it.")
    handed = ({other: finished[other]["result"] for other in needs},) if name == "e1_5" else ()
    result = experiment(bench, *handed)
    record = store.plain(
        {
            "settings": settings | _own(name, args),
            "result": result,
            "seconds": time.monotonic() - start,
            "device": _device_name(bench),
            "created": date.today().isoformat(),
            "command": "python -m training " + shlex.join(sys.argv[1:]),
        }
    )
    store.save(args.out, name, record)
    print(f"{name}: {result['verdict']} ({record['seconds']:.0f} s)", file=sys.stderr, flush=True)
    return record


def _device_name(bench: Bench) -> str:
    import torch

    return torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "CPU"
