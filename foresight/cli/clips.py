"""What the commands do with clips: generators of the lines they print, as in `commands`."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from foresight.adapters.registry import AdapterRecord
from foresight.cli.output import Evaluation, OutputPaths, Row, interval, number, table
from foresight.data.archive import Broken
from foresight.data.camera import CameraSpec
from foresight.data.clips import SUFFIXES, clip_files, write_clip
from foresight.data.images import to_pil
from foresight.data.motion import MotionSpec, motion_flow, render_motion, take_motion
from foresight.data.resolution import Resolution
from foresight.data.scenes import SceneSpec
from foresight.data.sources import folder_files
from foresight.errors import InputError
from foresight.inspection.clip_readout import (
    ClipReport,
    ClipSample,
    camera_samples,
    clip_samples,
    motion_samples,
    read_out_clip,
)
from foresight.inspection.inspector import Inspector
from foresight.metrics.intervals import bootstrap
from foresight.metrics.video import CONTROLS, TRUST

TITLES = {
    "lpips": "LPIPS",
    "haarpsi": "HaarPSI",
    "ssim": "SSIM",
    "psnr": "PSNR",
    "mask_iou": "mask IoU",
    "tlpips": "tLPIPS",
    "warp_error": "warp",
    "difference_error": "change",
    "change_within": "in step",
    "change_between": "between",
    "centroid_error": "centroid px",
    "velocity_error": "velocity px",
    "direction_right": "direction",
}


def is_clip(path: Path) -> bool:
    """Whether a file is read as a clip: by its suffix, and a gif where it has several frames."""
    if path.suffix.lower() != ".gif":
        return path.suffix.lower() in SUFFIXES
    try:
        with Image.open(path, formats=("GIF",)) as image:
            image.seek(1)
    except (OSError, EOFError, SyntaxError, ValueError):  # one frame, or to be told by what reads images
        return False
    return True


def reconstruct_clips(
    inspector: Inspector, record: AdapterRecord, paths: list[Path], out: OutputPaths, args: argparse.Namespace
) -> Iterator[str]:
    """An mp4 for each clip, and its scores; raises InputError at the end for files that hold none."""
    broken, resolution = list[str](), inspector.resolution(args.pixels, record)
    for path in tqdm(paths, unit="clip", disable=None):
        [sample] = clip_samples([path], args.fps, args.frames, args.start, resolution, inspector)
        if isinstance(sample, Broken):
            broken.append(sample.reason.rstrip("."))
            continue
        report = read_out_clip(inspector, record, replace(sample, name=str(path)))
        target = out.path(path, ".mp4")
        write_clip(target, report.reconstruction, report.sample.fps)
        line = report.as_json(str(target))
        yield json.dumps(line) if args.json else _story(report, line)
    if broken:
        raise InputError(f"{len(broken)} of {len(paths)} left out: {'; '.join(broken)}.")


def _story(report: ClipReport, line: dict[str, Any]) -> str:
    scores = [line, *(line["controls"][name] for name in CONTROLS)]
    rows = [("", line["adapter"], *CONTROLS)]
    rows += [(TITLES[n], *(number(columns[n]) for columns in scores)) for n in TRUST if line[n] is not None]
    title = f"{line['clip']}, {line['frames']} frames at {line['fps']:g} a second, at {line['point']}"
    text = [f"{title} → {line['reconstruction']} ({line['seconds']:.2f} s)", *table(rows)]
    worst = line["worst_frame"]["lpips"]
    text.append(f"  worst frame by LPIPS: {worst + 1}, at {worst / line['fps']:.2f} s")
    if line["notice"]:
        text.append(f"  {line['notice']}")
    if report.distance > report.far:
        text.append("  far from what the adapter was trained on: the scores speak of the adapter")
    return "\n".join(text)


def motion_spec(args: argparse.Namespace, scene: SceneSpec) -> MotionSpec:
    """What the arguments say of moving scenes. Raises InputError."""
    named = {"motions": args.motions} if args.motions else {}
    return MotionSpec(scene=scene, frames=args.frames, fps=args.fps, **named)


def moving_scenes(args: argparse.Namespace, spec: MotionSpec, out: Path) -> Iterator[str]:
    """Clips, their frames and masks, flow and clips.jsonl. Raises InputError where the folder holds others."""
    moving = take_motion(args.n, args.seed, spec, args.split)
    if (out / "clips.jsonl").exists():
        raise InputError(f"{str(out)!r} holds clips already: empty it, or choose another folder.")
    for kind in ("clips", "frames", "truth"):
        (out / kind).mkdir(exist_ok=True)
    with (out / "clips.jsonl").open("w", encoding="utf-8") as file:
        for i in tqdm(range(args.n), unit="clip", disable=None):
            clip, name = moving[i], f"{i:05d}"
            rendered = render_motion(clip)
            frames, objects = rendered.images[0], int(clip.first.count[0])
            write_clip(out / "clips" / f"{name}.mp4", frames, spec.fps)
            (out / "frames" / name).mkdir(exist_ok=True)
            for t, frame in enumerate(frames):
                to_pil(frame / 255).save(out / "frames" / name / f"{t:02d}.png")
            truth: dict[str, Any] = {
                "visible": rendered.visible[0, :, :objects].numpy(),
                "boxes": rendered.boxes[0, :, :objects].numpy(),
            }
            if spec.frames > 1:
                flow = motion_flow(clip)
                truth |= {"flow": flow.forward[0].numpy(), "occluded": flow.occluded[0].numpy()}
            np.savez_compressed(out / "truth" / f"{name}.npz", **truth)
            line = {"clip": f"clips/{name}.mp4", "frames": f"frames/{name}", "truth": f"truth/{name}.npz"}
            described = {"hash": clip.digest(0), "split": clip.split()[0], "scene": clip.describe(0)}
            file.write(json.dumps(line | described) + "\n")
    yield f"{args.n} moving scenes in {out}: clips, exact frames, truth (masks, boxes, flow, occlusion), clips.jsonl"


def clip_evaluation(args: argparse.Namespace, scene: SceneSpec) -> Evaluation:
    """Clips of files, of a camera over photos, or of moving scenes. Raises InputError where there are none."""
    data: dict[str, Any]
    if args.clips:
        files = clip_files(args.clips) if args.clips.is_dir() else [args.clips]
        total, data = len(files), {"clips": str(args.clips)}
    elif args.images:
        files = folder_files(args.images)
        camera = CameraSpec(frames=args.frames, fps=args.fps)
        total, data = len(files), {"images": str(args.images), "seed": args.seed, **vars(camera)}
    else:
        spec = motion_spec(args, scene)
        total = args.scenes
        data = {"scenes": args.scenes, "seed": args.seed, "split": "test", **vars(spec), "scene": vars(scene)}

    def samples(inspector: Inspector, resolution: Resolution) -> Iterator[ClipSample | Broken]:
        if args.clips:
            return clip_samples(files, args.fps, args.frames, args.start, resolution, inspector)
        if args.images:
            return camera_samples(files, args.seed, camera, resolution)
        return motion_samples(args.scenes, args.seed, spec, resolution)

    def rows(inspector: Inspector, record: AdapterRecord) -> Iterator[Row | Broken]:
        clips = samples(inspector, inspector.resolution(args.pixels, record))
        return (s if isinstance(s, Broken) else flat(read_out_clip(inspector, record, s)) for s in clips)

    data["pixels"] = args.pixels or "as the adapter was fitted"
    return Evaluation("clip", "clip", data, total, rows, summarise, summary_text)


def flat(report: ClipReport) -> Row:
    """One line of a table: the adapter's own scores under their names, a control's as "still_lpips"."""
    line = report.as_json()
    columns = ("clip", "point", "adapter", "frames", "fps", *TRUST, "missed")
    row = {name: line[name] for name in columns} | {"worst_frame": line["worst_frame"]["lpips"]}
    row |= {f"{of}_{name}": line["controls"][of][name] for of in CONTROLS for name in TRUST}
    return row | {name: line[name] for name in ("distance", "far", "notice", "seconds")}


def summarise(rows: list[Row]) -> dict[str, Any]:
    """95 % intervals over the clips that have a score: {"lpips": [mean, low, high], "still_lpips": …}, else None."""
    intervals: dict[str, list[float | None] | None] = {}
    for name in [*TRUST, *(f"{of}_{score}" for of in CONTROLS for score in TRUST)]:
        values = [row[name] for row in rows if row[name] is not None]
        intervals[name] = [*bootstrap(values)] if values else None
    return {"clips": len(rows), "scores": intervals, "trust": TRUST}


def summary_text(summary: dict[str, Any]) -> list[str]:
    """The means of clips as lines of text."""
    scores = summary["scores"]
    rows = [("", summary["adapter"], *CONTROLS)]
    for name in TRUST:
        if scores[name] is not None:
            rows.append(
                (TITLES[name], *(interval(scores[key]) for key in (name, *(f"{of}_{name}" for of in CONTROLS))))
            )
    return [*table(rows), *(f"  {name}: {what}" for name, what in CONTROLS.items())]
