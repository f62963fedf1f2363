"""What each command does: a generator of the lines it prints. `foresight.cli.main` reads the arguments."""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from torch import Tensor
from tqdm import tqdm

from foresight.adapters.registry import BUNDLED, RUNS, AdapterRecord
from foresight.cli import clips
from foresight.cli.output import SUMMARY, Evaluation, OutputPaths, Row, interval, number, table
from foresight.data.archive import Broken, File, unpack
from foresight.data.factors import SceneFactors
from foresight.data.images import load_image, load_mask, to_pil
from foresight.data.motion import MotionSpec
from foresight.data.render import render
from foresight.data.resolution import Resolution
from foresight.data.scenes import Scenes, SceneSpec, take
from foresight.data.sources import folder_files
from foresight.errors import InputError
from foresight.inspection.evaluation import (
    Evaluated,
    file_samples,
    scene_baselines,
    scene_samples,
    scenes_as_json,
    summarise,
)
from foresight.inspection.evaluation import evaluate as evaluate_images
from foresight.inspection.inspector import Inspector, Report
from foresight.inspection.readout import prepare
from foresight.metrics.baselines import LOWER_IS_BETTER, SEED_TARGETS
from foresight.metrics.masks import NOT_MEASURABLE
from foresight.metrics.scores import SCORES
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm
from foresight.paths import make_folder

CHUNK = 32  # scenes drawn at a time
SHOWN = (  # of a summary
    ("", "reconstruction"),
    ("blank_", "blank page"),
    ("mean_", "training mean"),
    ("nearest_", "nearest training image"),
    ("oracle_", "oracle: the VAE's own round trip"),
)
HEADS = dict(zip(SCORES, ("LPIPS", "HaarPSI", "SSIM", "PSNR", "mask IoU", "edge F1"), strict=True))


def reconstruct(args: argparse.Namespace) -> Iterator[str]:
    """A picture for each image, an mp4 for each clip, and its scores; files that are neither are named at the end."""
    if args.mask and len(args.images) > 1:
        raise InputError("--mask is for one IMAGE: give them one at a time.")
    paths = [path for path in args.images if clips.is_clip(path)]
    images = [path for path in args.images if path not in paths]
    count = len(images)
    if args.mask and paths:
        raise InputError("--mask is for an image, not for a clip.")
    mask = load_mask(args.mask) if args.mask else None
    # All images are read before the models are, and before anything is written.
    images, broken = _check(images, mask) if images else ([], [])
    out = make_folder(args.out)
    inspector = _inspector(args)
    record = inspector.registry.find(args.adapter, args.point)
    paths_out = OutputPaths(out, record)
    for path in tqdm(images, unit="image", disable=None):
        try:
            image = load_image(path)
            report = inspector.inspect(image, record.point, record.folder, mask, others=(), pixels=args.pixels)
        except InputError as error:  # of this image's size
            if len(images) == 1:
                raise
            broken.append(f"{path}: {str(error).rstrip('.')}")
            continue
        target = paths_out.path(path, ".png")
        to_pil(report.chosen.image).save(target)
        line = report.as_json(str(path), str(target))
        yield json.dumps(line) if args.json else _story(report, line)
    if paths:
        yield from clips.reconstruct_clips(inspector, record, paths, paths_out, args)
    if broken:
        raise InputError(f"{len(broken)} of {count} left out: {'; '.join(broken)}.")


def _check(paths: list[Path], mask: Tensor | None) -> tuple[list[Path], list[str]]:
    """The files that are pictures, and why the others are none. Raises InputError where all are of those."""
    pictures, broken = [], []
    for path in paths:
        try:
            prepare(load_image(path), mask)
            pictures.append(path)
        except InputError as error:
            broken.append(str(error).rstrip("."))
    if not pictures:
        raise InputError(f"{'; '.join(broken)}.")
    return pictures, broken


def _story(report: Report, line: dict[str, Any]) -> str:
    by_name = {line["adapter"]: line} | {of: line[of] for of in ("blank", "oracle", "skill")}
    names = [name for name in SCORES if line[name] is not None or line["oracle"][name] is not None]
    rows = [("", *(HEADS[name] for name in names))]
    rows += [(of, *(number(scores[name]) for name in names)) for of, scores in by_name.items()]
    title = f"{line['image']} at {line['point']} → {line['reconstruction']} ({line['seconds']:.2f} s)"
    text = [title, *table(rows)]
    if reason := line["mask_reason"]:
        text.append(f"  mask IoU not measurable: {reason}" if reason == NOT_MEASURABLE else f"  no mask IoU: {reason}")
    if report.chosen.notice:
        text.append(f"  the adapter was {report.chosen.notice}")
    if report.chosen.unfamiliar:
        text.append("  far from what the adapter was trained on: the scores speak of the adapter")
    return "\n".join(text)


def scenes(args: argparse.Namespace) -> Iterator[str]:
    """Pictures, masks and scenes.jsonl. Raises InputError where the folder holds pictures of other scenes."""
    if args.motion:
        spec = clips.motion_spec(args, scene_spec(args))
        yield from clips.moving_scenes(args, spec, make_folder(args.out))
        return
    batch = take(args.n, args.seed, scene_spec(args), args.split)
    out = make_folder(args.out)
    own_files = {file for i, count in enumerate(batch.count.tolist()) for file in _files(i, count)}
    for kind in ("images", "masks", "objects"):
        present = {f"{kind}/{path.name}" for path in make_folder(out / kind).glob("*.png")}
        if others := sorted(present - own_files):
            raise InputError(
                f"{str(out)!r} holds other scenes, such as {others[0]}: empty it, or choose another folder."
            )
    with (
        (out / "scenes.jsonl").open("w", encoding="utf-8") as file,
        tqdm(total=args.n, unit="scene", disable=None) as progress,
    ):
        for start in range(0, args.n, CHUNK):
            for line in _draw(batch[start : start + CHUNK], start, out):
                file.write(json.dumps(line) + "\n")
                progress.update()
    yield f"{args.n} scenes in {out}: images, masks, masks of single objects, scenes.jsonl"


def _files(i: int, count: int) -> list[str]:
    """Where the picture of scene i goes, the mask of all its objects, and that of each."""
    return [f"images/{i:05d}.png", f"masks/{i:05d}.png", *(f"objects/{i:05d}-{j}.png" for j in range(count))]


def _draw(part: Scenes, start: int, out: Path) -> Iterator[dict[str, Any]]:
    """Writes pictures and masks; scene i's files are numbered start + i."""
    rendered = render(part)
    for i, split in enumerate(part.split()):
        slots = range(int(part.count[i]))
        image, mask, *objects = _files(start + i, len(slots))
        to_pil(rendered.images[i] / 255).save(out / image)
        masks = [rendered.mask[i], *rendered.visible[i, : len(slots)]]
        for path, pixels in zip([mask, *objects], masks, strict=True):
            Image.fromarray((pixels.byte() * 255).numpy()).save(out / path)
        yield {
            "image": image,
            "mask": mask,
            "objects": [
                {"label": part.label(i, j), "box": rendered.boxes[i, j].tolist(), "mask": objects[j]} for j in slots
            ],
            "hash": part.digest(i),
            "split": split,
            "scene": part.describe(i),
        }


def evaluate(args: argparse.Namespace) -> Iterator[str]:
    """pictures.csv and summary.json; with --json every row and, last, the summary.

    Raises InputError, before anything is read, where the folder holds an evaluation already.
    """
    if used := [name for name in ("pictures.csv", "clips.csv", SUMMARY) if (args.out / name).exists()]:
        raise InputError(
            f"{str(args.out)!r} holds an evaluation already ({', '.join(used)}): empty it, or choose another folder."
        )
    spec = scene_spec(args)
    with TemporaryDirectory() as unpacked:
        if args.clips or args.motion:
            evaluation = clips.clip_evaluation(args, spec)
        elif args.images:
            evaluation = _file_evaluation(args.images, unpacked, args.pixels)
        else:
            evaluation = _scene_evaluation(args.scenes, args.seed, spec, args.pixels)
        out, inspector = make_folder(args.out), _inspector(args)
        yield from evaluation.run(inspector, inspector.registry.find(args.adapter, args.point), out, args.json)


def _image_files(path: Path, unpacked: str) -> list[Path | File | Broken]:
    """The image files that a path stands for, as the app's Failures tab takes them.

    Args:
        path: A folder, a zip archive, or one image.
        unpacked: An empty folder, into which an archive's images are written.

    Raises:
        InputError: Where there is none.
    """
    if path.is_dir():
        return [*folder_files(path)]
    if not path.is_file():
        raise InputError(f"there is no folder {str(path)!r}, nor such a file.")
    if path.suffix.lower() != ".zip":
        return [path]
    if not (files := list(unpack(path, unpacked))):
        raise InputError(f"the archive {str(path)!r} has no pictures.")
    return [*files]


def _file_evaluation(path: Path, unpacked: str, pixels: str | None) -> Evaluation:
    files = _image_files(path, unpacked)

    def evaluated(inspector: Inspector, record: AdapterRecord, resolution: Resolution) -> Iterator[Evaluated | Broken]:
        return evaluate_images(inspector, record, file_samples(files, resolution))

    return _image_evaluation({"images": str(path)}, len(files), evaluated, pixels)


def _scene_evaluation(count: int, seed: int, spec: SceneSpec, pixels: str | None) -> Evaluation:
    def evaluated(inspector: Inspector, record: AdapterRecord, resolution: Resolution) -> Iterator[Evaluated | Broken]:
        samples = scene_samples(count, seed, spec, resolution)
        return evaluate_images(inspector, record, samples, scene_baselines(seed, spec, resolution))

    return _image_evaluation(scenes_as_json(count, seed, spec), count, evaluated, pixels)


def _image_evaluation(
    data: dict[str, Any],
    total: int,
    evaluated: Callable[[Inspector, AdapterRecord, Resolution], Iterator[Evaluated | Broken]],
    pixels: str | None,
) -> Evaluation:
    def rows(inspector: Inspector, record: AdapterRecord) -> Iterator[Row | Broken]:
        items = evaluated(inspector, record, inspector.resolution(pixels, record))
        return (item if isinstance(item, Broken) else item.flat() for item in items)

    data = data | {"pixels": pixels or "as the adapter was fitted"}
    return Evaluation("picture", "image", data, total, rows, summarise, summary_text)


def summary_text(summary: dict[str, Any]) -> list[str]:
    """The means of images as lines of text."""
    names = [name for name in SCORES if summary["measured"][name] or summary["measured"][f"oracle_{name}"]]
    rows = [("", *(HEADS[name] for name in names))]
    for prefix, title in SHOWN:
        if f"{prefix}lpips" in summary["scores"]:
            rows.append((title, *(_mean(summary, prefix + name) for name in names)))
    rows.append(("skill of the means", *(number(summary["skill"][name]) for name in names)))
    targets = ", ".join(f"{n} {'<' if n in LOWER_IS_BETTER else '>'} {value}" for n, value in SEED_TARGETS.items())
    data = summary["data"]
    like_the_seed = (*data.get("objects", ()), *data.get("backgrounds", ())) == (1, 1, "white")
    missing, others = summary["not_measurable"], summary["other_sizes"]
    return [
        *table(rows),
        *([f"  the seed study's targets: {targets}"] if like_the_seed else []),
        *(f"  {n} pictures have no mask IoU: {why}" for why, n in summary["without_mask"].items()),
        *([f"  mask IoU not measurable in {missing} pictures: {NOT_MEASURABLE}"] if missing else []),
        *([f"  {others} pictures are of another size than the adapter was fitted at"] if others else []),
    ]


def info(args: argparse.Namespace) -> Iterator[str]:
    """What the models are, and what can be asked of them."""
    facts = _inspector(args).facts()
    yield json.dumps(facts) if args.json else _facts(facts)


def _facts(facts: dict[str, Any]) -> str:
    points: list[tuple[str, ...]] = [("point", "width", "adapters that fit")]
    points += [(p["point"], str(p["width"]), ", ".join(p["adapters"]) or "–") for p in facts["points"]]
    vae = facts["vae"]
    return "\n".join(
        [
            f"model   {facts['model']}",
            f"VAE     {vae['name']}: {vae['kind']}, {vae['channels']} channels, {vae['downscale']} px a cell",
            f"device  {facts['device']}, {facts['dtype']}; the VAE {vae['dtype']}",
            "with    " + ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
            *table(points),
            *(f"  {what}: fitted with {', '.join(notices)}" for what, notices in _notices(facts["adapters"])),
            *(f"  {folder} does not fit: {reason}" for folder, reason in facts["refused"].items()),
        ]
    )


def _notices(adapters: list[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Of adapters that were fitted with others than are used here: how many, or which one, and what differs."""
    for notices in {tuple(a["notices"]): None for a in adapters if a["notices"]}:
        names = [f"{a['adapter']} at {a['point']}" for a in adapters if tuple(a["notices"]) == notices]
        yield (names[0] if len(names) == 1 else f"{len(names)} adapters"), [*notices]


def scene_spec(args: argparse.Namespace) -> SceneSpec:
    """What the arguments say of scenes; in motion there are fewer and smaller objects. Raises InputError."""
    spec = MotionSpec().scene if args.motion else SceneSpec()
    names = [field.name for field in fields(SceneFactors)]  # type: ignore[arg-type]
    chosen = {name: value for name in names if (value := getattr(args, name)) is not None}
    factors = SceneFactors(**{"objects": spec.objects} | chosen).spec()
    return replace(factors, radius=args.radius or (factors.radius if args.size else spec.radius))


def _inspector(args: argparse.Namespace) -> Inspector:
    return Inspector(load_vlm(args.model, args.device, args.dtype), load_vae(args.vae, args.device), (BUNDLED, RUNS))


def _mean(summary: dict[str, Any], name: str) -> str:
    """A mean with its interval, and of how many pictures it is where those are not all."""
    text, count, total = interval(summary["scores"][name]), summary["measured"][name], summary["pictures"]
    return text if count == total else f"{text}, {count} of {total}"
