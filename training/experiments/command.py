"""python -m training experiments c1: the whole study, experiment by experiment; what is finished is kept."""

import argparse
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch

from foresight.data.sources import open_photos
from foresight.errors import InputError
from foresight.models import vae as vae_module
from foresight.models import vlm as vlm_module
from foresight.models.digests import revision
from foresight.models.hub import folder_of
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm
from foresight.settings import add_model_arguments
from training.arguments import at_least
from training.experiments import cost, store
from training.experiments.attribution import ATTRIBUTION
from training.experiments.bench import Bench
from training.experiments.blends import BLENDS
from training.experiments.controls import CONTROLS
from training.experiments.e1_1 import E1_1
from training.experiments.e1_1_map import E1_1_MAP
from training.experiments.e1_2 import E1_2
from training.experiments.e1_3 import E1_3
from training.experiments.e1_4 import E1_4
from training.experiments.e1_5 import E1_5
from training.experiments.e1_6 import E1_6
from training.experiments.e1_6_depth import E1_6_DEPTH
from training.experiments.errors import ERRORS
from training.experiments.experiment import Experiment
from training.experiments.held_out import HELD_OUT
from training.experiments.neighbours import NEIGHBOURS
from training.experiments.probes import PROBES
from training.experiments.report import findings
from training.experiments.scale import FULL, LAPTOP, QUICK, Scale
from training.experiments.seed_protocol import SEED_PROTOCOL
from training.experiments.v1 import V1

EXAMPLES = """examples:
  python -m training experiments c1 --quick --out runs/c1-quick
  python -m training experiments c1 --laptop --out runs/c1-laptop
  python -m training experiments c1 --out runs/c1
  python -m training experiments c1 --estimate --out runs/c1
  python -m training experiments c1 --table --out assets
  python -m training experiments c1 --only e1_4,e1_6 --out runs/c1
  python -m training experiments c1 --protocol seed --out runs/seed
  python -m training experiments c1 --model Qwen/Qwen2.5-VL-7B-Instruct --vae stabilityai/sd-vae-ft-mse --out runs/7b
Finished experiments are kept in --out; the same command goes on where it was cut off."""
EXPERIMENTS = (
    E1_1, E1_1_MAP, E1_2, E1_3, E1_4, E1_5, E1_6_DEPTH, E1_6, SEED_PROTOCOL, ATTRIBUTION,
    BLENDS, HELD_OUT, CONTROLS, PROBES, NEIGHBOURS, ERRORS, V1,
)  # fmt: skip
ALL = {experiment.name: experiment for experiment in EXPERIMENTS}  # in the order in which they are reported
SEED = {SEED_PROTOCOL.name, ATTRIBUTION.name}
PROTOCOLS = {"seed": SEED, "sound": ALL.keys() - SEED, "both": ALL.keys()}
GROUPS = {"beyond": ("blends", "held_out", "controls", "probes", "neighbours", "errors")}


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
    add_model_arguments(parser)
    parser.add_argument("--photos", type=Path, help="folder of photos, as a test of what no adapter has seen")
    parser.add_argument(
        "--vlms",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="VLMs of the same config trained with other seeds: controls",
    )
    parser.add_argument("--points", type=int, help=f"at most so many extraction points ({FULL.points})")
    parser.add_argument("--scenes", type=int, help=f"training scenes ({FULL.train}); fewer where memory is short")
    parser.add_argument("--estimate", action="store_true", help="say what it would take, and do nothing")
    parser.add_argument("--table", action="store_true", help="print the key results of the results.yaml in --out alone")
    parser.add_argument("--no-report", action="store_true", help="leave figures and FINDINGS.md to a later call")
    parser.add_argument("--seed", type=at_least(0), default=0)


def chosen(only: str | None, skip: str, protocol: str) -> list[Experiment]:
    """The experiments asked for and those that they need, each behind what it needs."""
    experiments, left_out = _names(only) or list(PROTOCOLS[protocol]), _names(skip)
    order: dict[str, Experiment] = {}

    def add(experiment: Experiment) -> None:
        for name in experiment.needs:
            add(ALL[name])
        if experiment.name not in left_out:
            order[experiment.name] = experiment

    for experiment in EXPERIMENTS:
        if experiment.name in experiments and experiment.name not in left_out:
            add(experiment)
    return list(order.values())


def _names(words: str | None) -> list[str]:
    """ "e1_2,beyond" → names of experiments. Raises InputError for an unknown word."""
    names: list[str] = []
    for word in filter(None, (words or "").split(",")):
        if word not in ALL and word not in GROUPS:
            raise InputError(f"there is no experiment {word!r}: choose from {', '.join([*ALL, *GROUPS])}.")
        names += GROUPS.get(word, (word,))
    return names


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
    return models | weights | {"seed": args.seed, "splits": "by what is shown"} | scale.plain()


def run(args: argparse.Namespace) -> None:
    """Runs what is asked for and not yet finished, then writes the findings of all that lies in --out."""
    if args.table:
        findings.print_table(args.out)
        return
    if args.photos is not None:
        pool = open_photos([str(args.photos)])
        for file in pool.broken:
            print(f"left out: {file.name}: {file.reason}", file=sys.stderr)
        if not pool.photos:
            raise InputError(f"there is no picture that can be read in {args.photos}.")
    experiments, scale = chosen(args.only, args.skip, args.protocol), scale_of(args)
    store.open_folder(args.out)
    settings, finished = settings_of(args, scale), dict[str, store.Record]()
    for e in EXPERIMENTS:
        if record := store.load(args.out, e.name, settings | _own_settings(e, args)):
            finished[e.name] = record
    if missing := [e for e in experiments if e.name not in finished]:
        vlm, vae = load_vlm(args.model, args.device, args.dtype), load_vae(args.vae, args.device)
        bench = Bench(vlm, vae, scale, args.out / store.ARTIFACTS, args.seed, args.model, args.photos)
        bench.others = tuple(args.vlms)
        _tell_cost(bench, missing)
        if args.estimate:
            return
        for e in missing:
            finished[e.name] = _run_one(e, bench, args, settings | _own_settings(e, args), finished)
    if not args.no_report:
        findings.write(args.out, EXPERIMENTS, finished)


def _tell_cost(bench: Bench, experiments: list[Experiment]) -> None:
    """Says what experiments will take. Raises InputError where they do not fit into memory."""
    cost.check_memory(bench, experiments)
    times = cost.estimate(bench, experiments)
    by_name = ", ".join(f"{name} {seconds / 60:.1f}" for name, seconds in times)
    total, size = sum(seconds for _, seconds in times), cost.memory(bench, experiments)
    words = f"about {total / 60:.0f} minutes ({by_name}) and {size / 1e9:.1f} GB for latents"
    print(words, file=sys.stderr, flush=True)


def _own_settings(experiment: Experiment, args: argparse.Namespace) -> dict[str, Any]:
    """What one experiment's result depends on beside the settings of all."""
    own: dict[str, Any] = {"version": experiment.version}
    if experiment is CONTROLS:
        own["vlms"] = [revision(folder_of(name, ["config.json"], "model")) for name in args.vlms]
    if experiment is HELD_OUT:
        # No path: results are for others to read.
        own["photos"] = open_photos([str(args.photos)]).digest if args.photos else None
    return own


def _run_one(
    experiment: Experiment,
    bench: Bench,
    args: argparse.Namespace,
    settings: dict[str, Any],
    finished: Mapping[str, store.Record],
) -> store.Record:
    start, name = time.monotonic(), experiment.name
    print(f"{name} …", file=sys.stderr, flush=True)
    if absent := [other for other in experiment.needs if other not in finished]:
        raise InputError(f"{name} needs {absent[0]}: do not skip it.")
    bench.unfinished, bench.facts = args.out / store.UNFINISHED / name, settings
    measurement = experiment.measure(bench, *(store.measured(args.out, n, finished[n]) for n in experiment.needs))
    about = {
        "settings": settings,
        "points": bench.names,
        "seconds": time.monotonic() - start,
        "device": torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "CPU",
        "created": date.today().isoformat(),
        "command": "python -m training " + shlex.join(sys.argv[1:]),
    }
    record = store.save(args.out, name, measurement, about)
    shutil.rmtree(bench.unfinished, ignore_errors=True)
    answer = findings.answer_of(args.out, name, record)
    print(f"{name}: {answer.verdict or 'measured'} ({record.seconds:.0f} s)", file=sys.stderr, flush=True)
    return record
