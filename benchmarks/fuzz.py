"""Feeds the doors through which files and addresses come with spoilt ones, and tells what is neither read nor refused.

    python -m benchmarks.fuzz --seconds 600                # every door in turn
    python -m benchmarks.fuzz --door clip --seed 7
    python -m benchmarks.fuzz --door archive --atheris --seconds 900    # guided by coverage: pip install atheris

A spoilt file is a good one with bytes changed, cut out, doubled or swapped, half of the time near its beginning. A door
may read it, or raise InputError with one sentence; anything else, or more than SLOW seconds, is a finding, which is
written to --out. A crash of the process names its input too: that was written before it was tried. By atheris, inputs
that reach new Python code are spoilt further; what libraries in C do is not seen.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import math
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import torch
import yaml
from PIL import Image

from foresight.adapters.checkpoint import load_adapter
from foresight.adapters.registry import BUNDLED
from foresight.data import archive
from foresight.data.clips import clip_seconds, load_clip, write_clip
from foresight.data.images import load_image
from foresight.data.scenes import SceneSpec, sample
from foresight.errors import InputError
from foresight.ui import view_link
from foresight.ui.findings.study import BUNDLED as STUDY
from foresight.ui.findings.study import load_study

SLOW = 10.0  # seconds for an input of some hundred kilobytes
MARKS = (0, 1, 0x7F, 0x80, 0xFF)
GUIDING = ("foresight.", "PIL.", "zipfile", "json.", "yaml.", "urllib.")  # modules whose coverage atheris follows
Door = Callable[[Path], object]


def spoil(data: bytes, chance: random.Random) -> bytes:
    """The bytes with one to eight faults."""
    spoilt = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        reach = min(len(spoilt), 512) if chance.random() < 0.5 else len(spoilt)
        at = chance.randrange(max(1, reach))
        length = min(chance.choice((1, 1, 2, 4, 8, 64, 1024)), len(spoilt) - at)
        match chance.randrange(6):
            case 0:
                spoilt[at : at + length] = chance.randbytes(length)
            case 1:
                spoilt[at : at + length] = bytes([chance.choice(MARKS)]) * length
            case 2:
                del spoilt[at : at + length]
            case 3:
                spoilt[at:at] = spoilt[at : at + length] * chance.choice((1, 2, 100))
            case 4 if length:
                spoilt[at] ^= 1 << chance.randrange(8)
            case 5 if chance.random() < 0.3:
                del spoilt[at:]
    return bytes(spoilt)


def pictures() -> list[bytes]:
    """A small picture in each format that is read, and of each kind that is read with care."""
    noise = Image.effect_noise((80, 60), 90)
    files = []
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        for mode in ("L", "RGB") + (("P", "RGBA", "I;16") if kind == "PNG" else ()) + (("CMYK",) * (kind == "JPEG")):
            noise.convert(mode).save(file := io.BytesIO(), kind)
            files.append(file.getvalue())
    noise.save(file := io.BytesIO(), "TIFF", compression="tiff_lzw")
    noise.save(animated := io.BytesIO(), "GIF", save_all=True, append_images=[noise.rotate(90)] * 3)
    return [*files, file.getvalue(), animated.getvalue()]


def archives() -> list[bytes]:
    files = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        with zipfile.ZipFile(file := io.BytesIO(), "w", method) as opened:
            for number, picture in enumerate(pictures()[:4]):
                opened.writestr(f"folder/{number}.png", picture)
        files.append(file.getvalue())
    return files


def clips() -> list[bytes]:
    """Of what is here: an mp4 of our own, a GIF, and short ones of other kinds that PyAV writes."""
    frames = torch.rand(6, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        mp4 = write_clip(Path(folder, "clip.mp4"), frames, 8.0).read_bytes()
    return [mp4, pictures()[-1], *(_video(name, codec) for name, codec in (("webm", "libvpx"), ("matroska", "mpeg4")))]


def _video(kind: str, codec: str) -> bytes:
    import av
    import numpy as np

    with av.open(file := io.BytesIO(), "w", kind) as out:
        stream: Any = out.add_stream(codec, 8, width=64, height=64, pix_fmt="yuv420p")
        for k in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * k, np.uint8))
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()


def addresses() -> list[bytes]:
    scene = sample(range(1), 3, SceneSpec(objects=(5, 5), backgrounds=("texture",))).describe(0)
    queries = (
        view_link.query(scene, "post-merge/6", "tokens"),
        "?seed=11&shape=star&objects=2&point=post-merge/6",
        "?upload=" + "0" * 32 + "/a.png",
    )
    return [query.removeprefix("?").encode() for query in queries]


def studies() -> list[bytes]:
    """The bundled study's facts, with one of its experiments."""
    study = load_study(STUDY).model_dump()
    name = next(iter(study["experiments"]))
    return [yaml.safe_dump(study | {"experiments": {name: study["experiments"][name]}}).encode()]


def open_archive(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for item in archive.unpack(path, folder):
            if isinstance(item, archive.File):
                try:
                    load_image(item.path)
                except InputError:
                    continue


def open_clip(path: Path) -> None:
    clip_seconds(path)
    load_clip(path, fps=8, frames=4)


def open_address(path: Path) -> None:
    fields = dict(parse_qsl(path.read_bytes().decode(errors="replace"), keep_blank_values=True))
    if (source := view_link.source_of(fields)) is not None:
        urlencode({"again": view_link.query(source, "post-merge/6", "tokens")})


def _adapter(spoilt: str) -> Door:
    """Opens an adapter, one of whose two files is spoilt."""

    def open_adapter(path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for file in (BUNDLED / "post-merge-6-linear").iterdir():
                shutil.copy(path if file.name == spoilt else file, Path(folder, file.name))
            load_adapter(folder)

    return open_adapter


def _file(name: str) -> list[bytes]:
    return [(BUNDLED / "post-merge-6-linear" / name).read_bytes()]


DOORS: dict[str, tuple[Door, Callable[[], list[bytes]], str]] = {
    "picture": (load_image, pictures, ".png"),
    "archive": (open_archive, archives, ".zip"),
    "clip": (open_clip, clips, ".mp4"),
    "weights": (_adapter("model.safetensors"), lambda: _file("model.safetensors"), ".safetensors"),
    "config": (_adapter("config.json"), lambda: _file("config.json"), ".json"),
    "address": (open_address, addresses, ".txt"),
    "study": (load_study, studies, ".yaml"),
}


def fuzz(name: str, seed: int, out: Path, seconds: float = math.inf, most: float = math.inf) -> tuple[int, int]:
    """How many inputs one door got, for so many seconds or at most so many; and how many were findings."""
    door, good, suffix = DOORS[name]
    chance, seeds, end = random.Random(f"{name} {seed}"), good(), time.monotonic() + seconds
    path, tried, findings = out / f"{name}-last{suffix}", 0, 0
    for data in seeds:
        path.write_bytes(data)
        if name != "address":  # of which one is of an upload that is not there
            door(path)  # a good one is read
    while time.monotonic() < end and tried < most:
        path.write_bytes(spoil(chance.choice(seeds), chance))
        tried += 1
        findings += is_finding(door, path, f"{name}-{seed}-{tried}")
    return tried, findings


def is_finding(door: Door, path: Path, name: str) -> bool:
    """Whether a door neither reads a file nor refuses it as it should; a copy of that is kept under a name."""
    began, fault = time.monotonic(), ""
    try:
        door(path)
    except InputError as error:
        sentence = str(error)
        fault = "" if sentence.endswith(".") and "\n" not in sentence else f"no sentence: {sentence!r}"
    except Exception:  # noqa: BLE001 - it is what this looks for
        fault = traceback.format_exc()
    if (took := time.monotonic() - began) > SLOW:
        fault = fault or f"took {took:.0f} s"
    if fault:
        shutil.copy(path, copy := path.with_name(name + path.suffix))
        print(f"{copy}: {fault}", file=sys.stderr)
    return bool(fault)


def guided(name: str, seed: int, out: Path, seconds: float) -> None:
    """As `fuzz` for so many seconds, guided by coverage; prints the counts, and ends the process, as libFuzzer does."""
    import atheris

    door, good, suffix = DOORS[name]
    Image.init()  # imports the readers of every format
    for function in gc.get_objects():
        if isinstance(function, types.FunctionType) and f"{function.__module__}.".startswith(GUIDING):
            atheris.instrument_func(function)
    path, counts, end = out / f"{name}-last{suffix}", {"tried": 0, "findings": 0}, time.monotonic() + seconds
    (corpus := out / f"{name}-corpus").mkdir(exist_ok=True)
    for number, data in enumerate(good()):
        (corpus / f"good-{number}").write_bytes(data)

    def mutate(data: bytes, most: int, number: int) -> bytes:
        chance = random.Random(number)
        return spoil(data, chance)[:most] if chance.random() < 0.5 else atheris.Mutate(data, most)

    def one(data: bytes) -> None:
        if time.monotonic() > end:
            print(json.dumps({name: counts | {"kept": len([*corpus.iterdir()])}}), flush=True)
            os._exit(int(counts["findings"] > 0))
        path.write_bytes(data)
        counts["tried"] += 1
        counts["findings"] += is_finding(door, path, f"{name}-{seed}-{counts['tried']}")

    options = f"-seed={seed + 1} -timeout=60 -max_len=400000 -verbosity=0".split()
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={out}/{name}-", str(corpus)], one, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--door", choices=DOORS, help="one alone (default: each in turn)")
    parser.add_argument("--seconds", type=float, default=60, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), metavar="DIR", help="where findings are kept")
    parser.add_argument("--atheris", action="store_true", help="guided by coverage; needs --door and atheris")
    args = parser.parse_args()
    if args.atheris and not args.door:
        parser.error("--atheris needs --door")
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.atheris:
        guided(args.door, args.seed, args.out, args.seconds)
    doors = [args.door] if args.door else [*DOORS]
    counts = {name: fuzz(name, args.seed, args.out, args.seconds / len(doors)) for name in doors}
    print(json.dumps({name: {"tried": tried, "findings": findings} for name, (tried, findings) in counts.items()}))
    return int(any(findings for _, findings in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
