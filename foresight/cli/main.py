"""The command line: reconstruct, scenes, evaluate, info."""

import argparse
import contextlib
import dataclasses
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foresight.data.factors import SceneFactors
from foresight.errors import InputError
from foresight.paths import RUNS, check_output
from foresight.schemas import MAX_SEED, Choice, Names, Pair, limits_of, whole
from foresight.settings import Parser, add_model_arguments, print_any_character

EXAMPLES = {
    "reconstruct": """\
  python -m foresight reconstruct cat.jpg
  python -m foresight reconstruct a.png b.png --point pre-merge/6 --adapter linear --json
  python -m foresight reconstruct cat.jpg --pixels native
  python -m foresight reconstruct scenes/images/00000.png --mask scenes/masks/00000.png
  python -m foresight reconstruct cat.mp4 --fps 8 --frames 16 --start 2.5""",
    "scenes": """\
  python -m foresight scenes --out scenes
  python -m foresight scenes --n 100 --objects 1 --shapes circle,star --backgrounds white --out stars
  python -m foresight scenes --n 8 --seed 7 --objects 3-5 --no-overlap --split test --out crowded
  python -m foresight scenes --motion --n 8 --motions translation,bounce --frames 24 --out moving""",
    "evaluate": """\
  python -m foresight evaluate --scenes 64 --out runs/evaluation
  python -m foresight evaluate --scenes 512 --objects 1 --backgrounds white --adapter linear --out runs/linear
  python -m foresight evaluate --images photos --point post-merge/0 --pixels 448² --out runs/photos --json
  python -m foresight evaluate --scenes 32 --motion --out runs/motion
  python -m foresight evaluate --images photos --motion --point pre-merge/3 --out runs/pans
  python -m foresight evaluate --clips videos --fps 4 --frames 8 --out runs/clips""",
    "info": """\
  python -m foresight info
  python -m foresight info --model Qwen/Qwen2.5-VL-3B-Instruct --vae stabilityai/sd-vae-ft-mse --json
  python -m foresight info --model Qwen/Qwen2.5-VL-7B-Instruct@main --device cpu --dtype bfloat16""",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, 2 after one sentence on stderr about bad input, 1 where nobody reads on."""
    for library in ("DIFFUSERS", "TRANSFORMERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    print_any_character()
    args = _parser().parse_args(arguments)
    stdout = sys.stdout
    from foresight.cli import commands

    try:
        if "out" in args:
            check_output(args.out)
        with contextlib.redirect_stdout(sys.stderr):  # what libraries may print
            for line in getattr(commands, args.command)(args):
                print(line, file=stdout, flush=True)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the lines has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        return 1
    except OSError as error:  # a disk that is full, a name that is too long
        print(f"error: {error.filename or 'the disk'}: {(error.strerror or str(error)).lower()}.", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m foresight", description="What does a VLM still know of a picture?")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, what: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            epilog=f"examples:\n{EXAMPLES[name]}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(command=name)
        return command

    command = add("reconstruct", "make pictures and clips from a VLM's latents, and score them")
    command.add_argument(
        "images", nargs="+", metavar="FILE", type=Path, help="images, or mp4, mov, webm, mkv, gif clips"
    )
    add_model_arguments(command)
    _adapter_options(command)
    command.add_argument("--mask", type=Path, metavar="PNG", help="what the image shows, white on black")
    _clip_options(command, start=True)
    command.add_argument("--out", type=Path, metavar="DIR", default=RUNS / "reconstructions")
    _json_option(command)

    command = add("scenes", "draw synthetic scenes with exact masks, boxes and labels")
    command.add_argument("--n", type=_whole("--n", 1), default=8, help="scenes (default 8)")
    _scene_options(command)
    _clip_options(command, motion=True)
    command.add_argument("--split", choices=("train", "val", "test"), help="only scenes of it (default: any)")
    command.add_argument("--out", type=Path, metavar="DIR", required=True)

    command = add("evaluate", "score many pictures, beside the floors and the ceiling")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--scenes", type=_whole("--scenes", 1), metavar="N", help="N scenes of the test split")
    source.add_argument("--images", type=Path, metavar="PATH", help="the pictures in a folder or zip")
    source.add_argument("--clips", type=Path, metavar="PATH", help="the clips in a folder, or one clip")
    _scene_options(command)
    _clip_options(command, motion=True, start=True)
    add_model_arguments(command)
    _adapter_options(command)
    command.add_argument("--out", type=Path, metavar="DIR", required=True)
    _json_option(command)

    command = add("info", "list extraction points, adapters that fit, device and versions")
    add_model_arguments(command)
    _json_option(command)
    return parser


def _adapter_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--point", help="such as pre-merge/0 (default: post-merge at half depth)")
    parser.add_argument("--adapter", default="tokens", help="linear, pooled, tokens (default) or a FOLDER")
    parser.add_argument(
        "--pixels",
        type=_pixels,
        help="how large the model sees images and frames: 448², 100000, LEAST-MOST as of its own processor, or "
        "native, which is the model's normal size (default: what the adapter was fitted at)",
    )


def _json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object a line and nothing else")


def _scene_options(parser: argparse.ArgumentParser) -> None:
    """A flag for each of SceneFactors; None where it is not given. What it takes is checked where factors are made."""
    group = parser.add_argument_group("what scenes hold")
    group.add_argument("--seed", type=_whole("--seed", 0, MAX_SEED), default=0, help="others give other scenes (0)")
    for field in dataclasses.fields(SceneFactors):  # type: ignore[arg-type]
        flag, setting = f"--{field.name}", limits_of(SceneFactors, field.name)
        if isinstance(setting, Pair):
            group.add_argument(flag, type=_range, metavar="1-3", help="from, to (default 1-5; in motion 1-3)")
        elif isinstance(setting, Names):
            group.add_argument(flag, type=_names, metavar="A,B", help=f"{', '.join(setting.known or ())} (all)")
        elif isinstance(setting, Choice):
            group.add_argument(flag, metavar="NAME", help=f"{', '.join(setting.known)} (default {field.default})")
        else:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help="of objects (default: they may)")
    group.add_argument("--radius", type=_range, metavar="12-64", help="in place of --size, pixels at 224²")


def _clip_options(parser: argparse.ArgumentParser, motion: bool = False, start: bool = False) -> None:
    group = parser.add_argument_group("clips")
    if motion:
        what = "scenes in motion; of --images, pans and zooms" if start else "clips of scenes in motion"
        group.add_argument("--motion", action="store_true", help=what)
        group.add_argument("--motions", type=_names, metavar="A,B", help="translation, bounce, … (default: all)")
    group.add_argument("--frames", type=_whole("--frames", 1), default=16, help="at most, of a clip (default 16)")
    group.add_argument("--fps", type=_rate, default=8.0, help="frames a second, by time stamps (default 8)")
    if start:
        group.add_argument("--start", type=_rate, default=0.0, help="seconds into a file at which its clip begins (0)")


def _pixels(text: str) -> str:
    """Checked here; what native means depends on the model, which is not read yet."""
    from foresight.data.resolution import Resolution

    try:
        Resolution.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error
    return text


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return value


def _whole(flag: str, least: int, most: int = 10_000_000) -> Any:
    """Reads a whole number by the app's own rule: 8.0 and 1e3 are such, 1.5 is none."""

    def read(text: str) -> int:
        try:
            value = int(text) if text.strip().isdecimal() else float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        try:
            return whole(value, flag, least, most)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error

    return read


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    try:
        return int(low), int(high or low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 1-3") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))
