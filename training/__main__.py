"""python -m training: fits adapters, and builds what assets/ holds."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from foresight.errors import InputError

FIT_EXAMPLES = """examples:
  python -m training fit --points post-merge/6 --adapter tokens --data scenes:2000 --out runs/adapters
  python -m training fit --points post-merge/6,pre-merge/6 --adapter linear,tokens --steps 500 --out runs/quick
  python -m training fit --model Qwen/Qwen2.5-VL-7B-Instruct --vae stabilityai/sd-vae-ft-mse \\
      --points post-merge/14 --data scenes:20000 --batch 32 --out runs/7b"""
BUNDLE_EXAMPLES = """examples (the three that made assets/, on one GPU each, then what they can do):
  python -m training bundle vlm --seconds 500 --out runs/bundle
  python -m training bundle vae --photos PHOTOS --seconds 500 --out runs/bundle
  python -m training bundle adapters --points post-merge/6 --kinds linear,tokens --out assets/adapters
  python -m training bundle check -n 512 --photos PHOTOS"""


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    style: Any = {"formatter_class": argparse.RawDescriptionHelpFormatter}

    fit = commands.add_parser("fit", help="fit adapters, several side by side", epilog=FIT_EXAMPLES, **style)
    fit.add_argument("--model", help="Qwen2.5-VL: a folder or hub id (the bundled one)")
    fit.add_argument("--vae", help="VAE: a folder or hub id (the bundled one)")
    fit.add_argument("--points", required=True, help="extraction points, such as post-merge/6,pre-merge/8")
    fit.add_argument("--adapter", default="tokens", help="linear, pooled, tokens, or several of them")
    fit.add_argument("--data", default="scenes:2000", help="scenes:N, N generated training scenes")
    fit.add_argument("--hidden", type=int, help="hidden width (a quarter of the latents', at least 128)")
    fit.add_argument("--steps", type=int, default=2000)
    fit.add_argument("--batch", type=int, default=32, help="pictures a step; halved where memory runs out")
    fit.add_argument("--lr", type=float, default=1e-3)
    fit.add_argument("--pictures-from", type=float, default=0.3, help="share of steps before pictures are decoded")
    fit.add_argument("--seed", type=int, default=0)
    fit.add_argument("--held-out", type=int, default=64, help="test scenes of each kind to score on")
    fit.add_argument("--out", type=Path, required=True)
    fit.add_argument("--resume", action="store_true", help="go on with the run that lies in --out")
    fit.add_argument("--device", help="cuda or cpu (the GPU where there is one)")

    bundle = commands.add_parser("bundle", help="build or check what assets/ holds", epilog=BUNDLE_EXAMPLES, **style)
    bundle.add_argument("what", choices=("vlm", "vae", "adapters", "check"))
    bundle.add_argument("--out", type=Path, default=Path("runs/bundle"))
    bundle.add_argument("--start", type=Path, help="weights to start from")
    bundle.add_argument(
        "--photos", type=Path, help="folder of JPEG photos: for vae to learn from, for check to measure"
    )
    bundle.add_argument("--pool", type=int, default=32_768, help="scenes to learn from")
    bundle.add_argument("--steps", type=int)
    bundle.add_argument("--seconds", type=float, help="as many steps as fit into this time")
    bundle.add_argument("--workers", type=int, default=2, help="processes that write the VLM's texts")
    bundle.add_argument("--points", default="post-merge/6")
    bundle.add_argument("--kinds", default="tokens")
    bundle.add_argument("--hidden", type=int)
    bundle.add_argument("--vlm", type=Path, help="VLM to check (the bundled one)")
    bundle.add_argument("--vae", type=Path, help="VAE to check (the bundled one)")
    bundle.add_argument("--only", choices=("vlm", "vae"), help="check one of them")
    bundle.add_argument("-n", type=int, default=512, help="held-out scenes of each kind")
    bundle.add_argument("--device", help="cuda or cpu (the GPU where there is one)")
    return parser


def run_fit(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from foresight.vae import load_vae
    from foresight.vlm import load_vlm
    from training.fit import FitConfig, fit, prepare, scene_count
    from training.loop import STATE, Recipe

    if (args.out / STATE).exists() and not args.resume:
        raise InputError(f"{args.out} holds a run already: add --resume to go on with it, or choose another folder.")
    recipe = Recipe(args.steps, args.batch, args.lr, min(100, args.steps // 10), seed=args.seed)
    config = FitConfig(
        points=tuple(args.points.split(",")),
        kinds=tuple(args.adapter.split(",")),
        scenes=scene_count(args.data),
        hidden=args.hidden,
        pictures_from=args.pictures_from,
        recipe=recipe,
    )
    vlm = load_vlm(args.model, args.device)
    task = prepare(config, vlm, load_vae(args.vae, args.device))
    with tqdm(total=args.steps, unit="step") as bar:
        for step in fit(task, vlm, task.vae, args.out, args.held_out):
            bar.update(step.number - bar.n)
            if step.number % 20 == 0:
                bar.set_postfix({name: f"{float(loss):.4f}" for name, loss in step.losses.items()})
    for name, adapter in task.adapters.items():
        for title, scores in adapter.card["scores"].items():
            print(f"{name}  {title}: {scores}")


def run_bundle(args: argparse.Namespace) -> None:
    from accelerate import PartialState

    from training.bundle import build

    state = PartialState(cpu=args.device == "cpu")  # one process, or one of several under `accelerate launch`
    device = state.device
    length = build.Length(args.steps, args.seconds)
    if args.what == "vlm":
        build.build_vlm(args.out, device, args.pool, length, args.workers, args.start)
    elif args.what == "vae":
        if args.photos is None:
            raise InputError("the VAE learns from photos: name their folder with --photos.")
        build.build_vae(args.out, args.photos, device, args.pool, length, args.start)
    elif args.what == "adapters":
        config = (args.points.split(","), args.kinds.split(","), args.pool, args.hidden)
        build.build_adapters(args.out, device, *config, length, args.n)
    else:
        build.check(args.only, args.vlm, args.vae, args.photos, args.n, device)


def main() -> int:
    args = arguments().parse_args()
    try:
        {"fit": run_fit, "bundle": run_bundle}[args.command](args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
