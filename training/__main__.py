"""python -m training: takes latents, fits adapters, runs the study, and builds what assets/ holds."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foresight.errors import InputError
from foresight.paths import RUNS, check_output
from foresight.settings import Parser, add_model_arguments, print_any_character
from training.arguments import above, at_least, pixels, rate, seconds, share

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

FIT_EXAMPLES = """examples:
  python -m training fit --points post-merge/6 --adapter tokens --data scenes:2000 --out runs/adapters
  python -m training fit --points post-merge/6,pre-merge/6 --adapter linear,tokens --steps 500 --out runs/quick
  python -m training fit --points post-merge/6 --data scenes:20000+photos:PHOTOS*0.5 --out runs/both
  accelerate launch --num_processes 4 -m training fit --model Qwen/Qwen2.5-VL-7B-Instruct \\
      --vae stabilityai/sd-vae-ft-mse --points post-merge/14 --data scenes:20000 --latents runs/latents --out runs/7b
--data is scenes:N, folders and zips of photos (PHOTOS,MORE.zip), or parts of a mixture joined by +. Parts share the
images that are learned from as their weights say: half as many views of photos as scenes above, where a view is a
random crop. Without scenes there are 8 views of each photo. motion:N, pans:PHOTOS and clips:FOLDER are steps of clips,
two frames each; tokens adapters that learn from them tell the two apart. --held-out photos, at most a quarter, are not
learned from, and a tenth chooses the penalty of linear probes.
A run that was cut off, even by kill -9, goes on with the same command, to the same weights."""
EXTRACT_EXAMPLES = """examples:
  python -m training extract --points post-merge/6,pre-merge/6 --data scenes:2000 --out runs/latents
  python -m training extract --points post-merge/6 --data PHOTOS --pixels native --out runs/photos
  python -m training extract --points post-merge/6 --data clips:VIDEOS,a.mp4 --fps 4 --frames 32 --out runs/clips
  accelerate launch --num_processes 4 -m training extract --model Qwen/Qwen2.5-VL-7B-Instruct \\
      --points post-merge/7,post-merge/14 --data scenes:100000 --out runs/latents
What lies in --out already is not computed again: a run that was cut off goes on, and more points or
pictures are added. `fit --latents` takes the same scenes from there.
Of a clip --out holds every step's latents, the VAE's of every frame, each frame's time and the seconds between steps;
motion:N are N steps of clips of --frames, pans:PHOTOS one clip over each photo. Shapes: training/store.py."""
DATA_HELP = (
    "scenes:N, generated; motion:N, steps of moving ones; a FOLDER or ZIP of photos; pans:FOLDER, steps of a camera "
    "over them; clips:PATH, steps of videos; or a mixture, such as scenes:20000+photos:FOLDER*0.5"
)
BUNDLE_EXAMPLES = """examples (the three that made assets/, on one GPU each, then what they can do):
  python -m training bundle vlm --seconds 500 --out runs/bundle
  python -m training bundle vae --photos PHOTOS --seconds 500 --out runs/bundle
  python -m training bundle adapters --points post-merge/6 --kinds linear,tokens --out assets/adapters
  python -m training bundle check -n 512 --photos PHOTOS
stamp writes into the cards of adapters under --out which VLM and VAE they were fitted with, for cards that do not say:
  python -m training bundle stamp --out assets/adapters
table prints what the cards of adapters under --out say, as in docs/bundled_weights.md:
  python -m training bundle table --out assets/adapters"""


def _parser(study: bool) -> argparse.ArgumentParser:
    """study: with the study's own flags, for which its libraries are imported."""
    parser = Parser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    style: Any = {"formatter_class": argparse.RawDescriptionHelpFormatter}

    fit = commands.add_parser("fit", help="fit adapters, several side by side", epilog=FIT_EXAMPLES, **style)
    _model_options(fit)
    fit.add_argument(
        "--adapter",
        default="tokens",
        help="linear, pooled, tokens; mix or routing, which read all --points of a stage; or several of them",
    )
    fit.add_argument("--data", default="scenes:2000", help=DATA_HELP)
    fit.add_argument(
        "--memory",
        type=above(0),
        metavar="GB",
        help="of the GPU for latents to learn from; more lie in --out and are read as they are needed (half of what is "
        "free)",
    )
    fit.add_argument("--latents", type=Path, metavar="DIR", help="keep latents there, and take them from there")
    fit.add_argument(
        "--hidden", type=at_least(1, 65_536), help="hidden width (a quarter of the latents', at least 128)"
    )
    fit.add_argument(
        "--pixels",
        default="224²",
        help="how large the model sees the square images to learn from: 448², or several, as 224²,448² (224²)",
    )
    fit.add_argument("--steps", type=at_least(1), default=2000)
    fit.add_argument(
        "--batch", type=at_least(1, 65_536), default=32, help="pictures a step; halved where memory runs out"
    )
    fit.add_argument("--lr", type=above(0), default=1e-3)
    fit.add_argument("--images-from", type=share, default=0.3, help="share of steps before images are decoded")
    fit.add_argument("--seed", type=at_least(0), default=0)
    fit.add_argument("--held-out", type=at_least(0), default=64, help="test images of each kind to score on")
    fit.add_argument("--save-every", type=above(0), default=60, metavar="SECONDS", help="between states to resume from")
    fit.add_argument("--log-with", choices=("trackio", "wandb"), help="log losses and scores there too")
    fit.add_argument("--out", type=Path, required=True)
    fit.add_argument("--resume", action="store_true", help="go on with the run in --out; so does the same command")

    extract = commands.add_parser("extract", help="take latents and keep them", epilog=EXTRACT_EXAMPLES, **style)
    _model_options(extract)
    extract.add_argument("--data", default="scenes:2000", help=DATA_HELP)
    extract.add_argument(
        "--pixels",
        type=pixels,
        default="224²",
        help="how large the model sees images: 448², 100000, LEAST-MOST or native (224²)",
    )
    extract.add_argument("--batch", type=at_least(1, 65_536), default=64, help="pictures at a time, and in a shard")
    extract.add_argument("--seed", type=at_least(0), default=0, help="other seeds give other scenes")
    extract.add_argument("--frames", type=at_least(1, 512), default=16, help="at most, of a clip (16)")
    extract.add_argument(
        "--fps", type=rate, default=8.0, help="frames a second, by time stamps (8), or all: a video's every frame"
    )
    extract.add_argument("--start", type=seconds, default=0.0, help="seconds into a video at which its clip begins (0)")
    extract.add_argument("--out", type=Path, required=True)

    experiments = commands.add_parser("experiments", help="run the study", **style)
    if study:
        from training.experiments import command

        experiments.epilog = command.EXAMPLES
        command.add_arguments(experiments)

    bundle = commands.add_parser("bundle", help="build or check what assets/ holds", epilog=BUNDLE_EXAMPLES, **style)
    bundle.add_argument("what", choices=("vlm", "vae", "adapters", "stamp", "table", "check"))
    bundle.add_argument("--out", type=Path, default=RUNS / "bundle")
    bundle.add_argument(
        "--start", type=Path, help="weights to start from; adapters that it lacks begin from the nearest"
    )
    bundle.add_argument(
        "--photos", type=Path, help="folder of JPEG photos: for vlm and vae to learn from, for the others to measure"
    )
    bundle.add_argument("--pool", type=at_least(1), default=32_768, help="images for vlm, scenes for vae to learn from")
    bundle.add_argument("--data", default="scenes:32768", help="for adapters to learn from, as in fit")
    bundle.add_argument("--steps", type=at_least(1))
    bundle.add_argument("--seconds", type=above(0), help="as many steps as fit into this time")
    bundle.add_argument("--workers", type=at_least(1), default=2, help="processes that write the VLM's texts")
    bundle.add_argument("--points", default="post-merge/6")
    bundle.add_argument("--kinds", default="tokens")
    bundle.add_argument("--hidden", type=at_least(1, 65_536))
    bundle.add_argument("--seed", type=at_least(0), default=0, help="other seeds give other data and first weights")
    bundle.add_argument("--halo-weight", type=above(0), default=0.0, help="weight of halos in an adapter's loss")
    bundle.add_argument("--vlm", type=Path, help="VLM to check, to stamp, or to fit adapters to (the bundled one)")
    bundle.add_argument("--vae", type=Path, help="VAE to check, or to stamp (the bundled one)")
    bundle.add_argument("--only", choices=("vlm", "vae", "adapters"), help="check one of them")
    bundle.add_argument("-n", type=at_least(1), default=512, help="held-out scenes of each kind, and steps of clips")
    bundle.add_argument("--device", help="cuda or cpu (the GPU where there is one)")
    return parser


def _model_options(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    parser.add_argument("--points", required=True, help="extraction points, such as post-merge/6,pre-merge/8")


def _accelerator(device: str | None, log_with: str | None = None) -> Accelerator:
    """This process's device, and its place among those of `accelerate launch`."""
    from datetime import timedelta
    from importlib.util import find_spec

    import torch
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    from foresight.models.placement import device_of

    chosen = device_of(device)
    if log_with and find_spec(log_with) is None:
        raise InputError(f"--log-with {log_with} needs the package {log_with}, which is not installed here.")
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=6))  # one may wait long for another's share
    if chosen.index is not None:  # else each process of several takes a GPU of its own
        torch.cuda.set_device(chosen)
    return Accelerator(cpu=chosen.type == "cpu", log_with=log_with, kwargs_handlers=[patience])


def _model_device(device: str | None, accelerator: Accelerator) -> str | torch.device:
    """Where the VLM lies: on this process's GPU, or on all of them. Raises InputError where several processes would."""
    from foresight.models.placement import AUTO

    if device == AUTO and accelerator.num_processes > 1:
        count = accelerator.num_processes
        raise InputError(f"--device {AUTO} is for one process, which takes all GPUs: here are {count}.")
    return AUTO if device == AUTO else accelerator.device


def fit_command(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from foresight.adapters.checkpoint import measured_share, score_tables
    from foresight.data.sources import parse_data
    from foresight.models.placement import free_memory
    from foresight.models.vae import load_vae
    from foresight.models.vlm import load_vlm
    from training.data import open_data
    from training.fit import FitConfig, prepare, run_fit, sides_of
    from training.latents import Room, open_store
    from training.loop import Recipe

    accelerator = _accelerator(args.device, args.log_with)
    recipe = Recipe(
        args.steps, args.batch, args.lr, min(100, args.steps // 10), seed=args.seed, save_every=args.save_every
    )
    config = FitConfig(
        points=tuple(args.points.split(",")),
        kinds=tuple(args.adapter.split(",")),
        data=parse_data(args.data),
        hidden=args.hidden,
        images_from=args.images_from,
        sides=sides_of(args.pixels.split(",")),
        held_out=args.held_out,
        recipe=recipe,
    )
    data = open_data(config.data, None, args.seed, args.held_out)
    for file in data.broken if accelerator.is_main_process else ():
        print(f"left out: {file.name}: {file.reason}", file=sys.stderr)
    vlm = load_vlm(args.model, _model_device(args.device, accelerator), args.dtype)
    vae = load_vae(args.vae, accelerator.device)
    store = open_store(args.latents, vlm) if args.latents else None
    accelerator.init_trackers("foresight", {name: str(value) for name, value in vars(args).items()})
    free = 1e9 * args.memory if args.memory else free_memory(accelerator.device) / 2
    task = prepare(config, vlm, vae, store=store, data=data, room=Room(int(free), args.out))
    del vlm  # has done its part, and may be most of a GPU
    with tqdm(total=args.steps, unit="step", disable=not accelerator.is_main_process) as bar:
        for step in run_fit(task, args.out):
            bar.update(step.number - bar.n)
            if step.number % 20 == 0:
                losses = {name: float(loss) for name, loss in step.losses.items()}
                bar.set_postfix({name: f"{loss:.4f}" for name, loss in losses.items()})
                accelerator.log({f"loss/{name}": loss for name, loss in losses.items()}, step.number)
    if accelerator.is_main_process:
        for name, adapter in task.adapters.items():
            for title, scores in score_tables(adapter.card["scores"]).items():
                share = measured_share(adapter.card["scores"], title, "mask_iou")
                words = ", ".join(f"{score} {interval}" for score, interval in scores.items())
                print(f"{name}  {title}: {words}" + (f", mask IoU of {share} pictures" if share else ""))
                if scores:
                    accelerator.log({f"{name}/{title}/{s}": mean for s, (mean, *_) in scores.items()}, args.steps)
    accelerator.end_training()


def extract_command(args: argparse.Namespace) -> None:
    from accelerate.utils import gather_object
    from tqdm import tqdm

    from foresight.data.archive import Broken
    from foresight.data.sources import list_files, parse_data
    from foresight.models.vae import load_vae
    from foresight.models.vlm import load_vlm
    from training.clips import ClipSet, extract_clips
    from training.latents import Extractor, extract_files, extract_scenes, mixture, open_store

    start, accelerator, data = time.monotonic(), _accelerator(args.device), parse_data(args.data)
    if {part.weight for part in (data.scenes, data.motion, *data.photos) if part} != {1.0}:
        raise InputError("extract takes every image of --data once: leave the weights out.")
    scenes = mixture(data.scenes.count, args.seed, "train") if data.scenes else []
    files, _unpacked = list_files(data.paths("photos"))
    clips = ClipSet(data, args.seed, args.frames, args.fps, args.start)
    vlm = load_vlm(args.model, _model_device(args.device, accelerator), args.dtype)
    vae = load_vae(args.vae, accelerator.device)
    done, broken, notices = {"pictures": 0, "clips": 0}, list[tuple[str, str]](), list[str]()
    total, quiet = sum(map(len, scenes)) + len(files) + len(clips), not accelerator.is_main_process
    with (
        tqdm(total=total, disable=quiet) as bar,
        Extractor(vlm, vae, args.points.split(","), open_store(args.out, vlm)) as extractor,
    ):
        resolution = vlm.resolution(args.pixels)
        scenes = [group.resized(resolution.size(*group.size)) for group in scenes]
        for kind, results in (
            ("pictures", extract_scenes(extractor, scenes, args.batch)),
            ("pictures", extract_files(extractor, files, args.batch, resolution)),
            ("clips", extract_clips(extractor, clips.read(resolution), args.batch)),
        ):
            for result in results:
                if isinstance(result, Broken):
                    broken.append((result.name, result.reason))
                elif isinstance(result, str):
                    notices.append(result)
                else:
                    done[kind] += result
                    bar.update(min(total - bar.n, result * accelerator.num_processes))  # the others are about as far
    everyone = {kind: sum(gather_object([count])) for kind, count in done.items()}
    left_out, notices = sorted(gather_object(broken)), sorted(gather_object(notices))
    if accelerator.is_main_process:
        for notice in notices:
            print(notice, file=sys.stderr)
        for name, reason in left_out:
            print(f"left out: {name}: {reason}", file=sys.stderr)
        if not any(everyone.values()):
            raise InputError(f"none of the {len(left_out)} files in {args.data!r} is a picture or a clip.")
        amounts = " and ".join(f"{count} {kind}" for kind, count in everyone.items() if count)
        rest = f", {len(left_out)} files left out" if left_out else ""
        print(f"{amounts} at {args.points} in {args.out} ({time.monotonic() - start:.0f} s{rest})")
    accelerator.end_training()


def experiments_command(args: argparse.Namespace) -> None:
    from training.experiments import command

    command.run(args)


def bundle_command(args: argparse.Namespace) -> None:
    from accelerate import PartialState

    from foresight.data.sources import parse_data
    from training.bundle import build
    from training.bundle.table import table

    state = PartialState(cpu=args.device == "cpu")  # one process, or one of several under `accelerate launch`
    device = state.device
    length = build.Length(args.steps, args.seconds)
    if args.what == "vlm":
        if args.photos is None:
            raise InputError("the VLM learns from photos: name their folder with --photos.")
        build.build_vlm(args.out, args.photos, device, args.pool, length, args.workers, args.start, args.seed)
    elif args.what == "vae":
        if args.photos is None:
            raise InputError("the VAE learns from photos: name their folder with --photos.")
        build.build_vae(args.out, args.photos, device, args.pool, length, args.start)
    elif args.what == "adapters":
        config = (args.points.split(","), args.kinds.split(","), parse_data(args.data), args.photos, args.hidden)
        rest = (args.start, args.seed, args.halo_weight, args.vlm)
        build.build_adapters(args.out, device, *config, length, args.n, *rest)
    elif args.what == "stamp":
        for folder in build.stamp(args.out, args.vlm, args.vae):
            print(f"stamped {folder}")
    elif args.what == "table":
        print(table(args.out))
    else:
        build.check(args.only, args.vlm, args.vae, args.photos, args.n, device)


COMMANDS = {
    "fit": fit_command,
    "extract": extract_command,
    "experiments": experiments_command,
    "bundle": bundle_command,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, 2 after one sentence on stderr about bad input, 1 where training diverged."""
    print_any_character()
    words = list(sys.argv[1:] if arguments is None else arguments)
    args = _parser(study=words[:1] == ["experiments"]).parse_args(words)
    try:
        if getattr(args, "what", None) not in ("check", "table"):  # they write nothing
            check_output(args.out)
        COMMANDS[args.command](args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a disk that is full, a name that is too long
        print(f"error: {error.filename or args.out}: {(error.strerror or str(error)).lower()}.", file=sys.stderr)
        return 2
    except RuntimeError as error:
        import torch  # which is here by now

        if not isinstance(error, torch.OutOfMemoryError):
            raise
        print(
            "error: the GPU's memory is too small: a smaller --batch needs less, in fit a smaller --memory too.",
            file=sys.stderr,
        )
        return 2
    except FloatingPointError as error:
        print(f"error: {error} A lower --lr may help.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
