"""What the bundled VLM, VAE and adapters can do, measured on held-out scenes, photos and clips."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from scipy import stats

from foresight.adapters.modules import Adapter, join_points
from foresight.data.images import load_image, resize, to_pil, to_tensor
from foresight.data.motion import take_motion
from foresight.data.render import render
from foresight.data.resolution import DEFAULT
from foresight.data.scenes import SceneSpec, take
from foresight.inspection.readout import round_trip
from foresight.metrics.intervals import Interval, bootstrap
from foresight.metrics.scores import compare
from foresight.models.vae import VAE
from foresight.models.vlm import VLM
from training.bundle import conversation as talk
from training.bundle import observations
from training.bundle.natural_images import center_square, read_photos
from training.data import MOTION, STEPS, collect, motion_source

SEED = 1000  # far from the seeds that anything was trained on; the scenes are of the test split besides
SCENES = {
    "one object": SceneSpec(objects=(1, 1)),
    "1-4, no overlap": SceneSpec(objects=(1, 4), overlap=False),
    "1-5, overlap": SceneSpec(),
}


def box_iou(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """Intersection over union of two boxes: left, top, right, bottom."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, wide) * max(0, high)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (a, b)]
    return shared / (sum(areas) - shared) if shared else 0.0


def check_vlm(vlm: VLM, count: int, photos: Path | None, batch: int = 64) -> dict[str, float]:
    """Free greedy answers on `count` test scenes of each kind, and on photos, parsed: shares right, mean box IoU."""
    figures: dict[str, float] = {}
    if photos:
        figures |= _check_photos(vlm, photos, batch)
    for name, spec in SCENES.items():
        scenes = take(count, SEED, spec, "test")
        rendered = render(scenes)
        truth = talk.items(scenes, rendered.boxes)
        pictures = [to_pil(x / 255) for x in rendered.images]
        groups = [pictures[i : i + batch] for i in range(0, count, batch)]
        counts = [talk.read_count(a) for g in groups for a in vlm.describe(g, talk.COUNT[0], 32)]
        figures[f"{name}: count"] = sum(len(t) == c for t, c in zip(truth, counts, strict=True)) / count
        located = [talk.read_boxes(a) for g in groups for a in vlm.describe(g, talk.LOCATE[0], 256)]
        figures[f"{name}: number of boxes"] = (
            sum(len(t) == len(boxes) for t, boxes in zip(truth, located, strict=True)) / count
        )
        if spec.objects == (1, 1):
            first = [
                (t[0], boxes[0] if boxes else ("no object", (0, 0, 0, 0)))
                for t, boxes in zip(truth, located, strict=True)
            ]
            figures[f"{name}: colour"] = sum(t.color == label.split()[0] for t, (label, _) in first) / count
            figures[f"{name}: shape"] = sum(t.shape == label.split()[-1] for t, (label, _) in first) / count
            figures[f"{name}: box IoU"] = sum(box_iou(t.box, box) for t, (_, box) in first) / count
    return figures


def _check_photos(vlm: VLM, photos: Path, batch: int) -> dict[str, float]:
    """Shares of right answers on the middle squares of photographs: the colours of nine regions, and short answers."""
    images = [center_square(image) for image in read_photos(sorted(photos.glob("*.jpg")), 224, torch.device("cpu"))]
    observed = observations.observe(torch.stack(images))
    pictures = [to_pil(x / 255) for x in images]
    groups = [pictures[i : i + batch] for i in range(0, len(pictures), batch)]

    def ask(question: str, tokens: int) -> list[str]:
        return [answer for group in groups for answer in vlm.describe(group, question, tokens)]

    answers = map(observations.read_region_colors, ask(observations.REGION_COLORS[0], 96))
    right = [
        [a.get(r) == c for r, c in zip(observations.REGIONS, o.regions, strict=True)]
        for a, o in zip(answers, observed, strict=True)
    ]
    figures = {"photos: region colours": sum(map(sum, right)) / (9 * len(observed))}
    for name, question, truth in (
        ("lightness", "Is the image light or dark?", [f"It is {o.brightness}." for o in observed]),
        ("detail", "Is the image plain or busy?", [f"It is {o.texture}." for o in observed]),
        ("main colour", "What is the main color?", [f"The main color is {o.main[0][0]}." for o in observed]),
        ("description", talk.DESCRIBE[0], [observations.describe(o) for o in observed]),
    ):
        figures[f"photos: {name}"] = sum(a == t for a, t in zip(ask(question, 64), truth, strict=True)) / len(observed)
    return figures


@torch.inference_mode()
def check_vae(vae: VAE, count: int, photos: Path | None, batch: int = 16) -> dict[str, Interval]:
    """Round trips at the VLM's size, through 8/7 of it and back: mean and 95 % interval of each score."""

    def table(name: str, parts: list[dict[str, torch.Tensor]]) -> dict[str, Interval]:
        scores = {k: torch.cat([p[k] for p in parts]) for k in parts[0]}
        known = {k: v[~v.isnan()].tolist() for k, v in scores.items()}
        return {f"{name}: {k}": bootstrap(values) for k, values in known.items() if values}  # scenes have no edge F1

    figures: dict[str, Interval] = {}
    for name, spec in SCENES.items():
        parts = []
        for part in take(count, SEED, spec, "test").chunks(batch):
            rendered = render(part)
            x = (rendered.images.float() / 255).to(vae.device)
            scores = compare(x, round_trip(vae, x), rendered.mask.to(x.device)).scores
            parts.append({k: v.cpu() for k, v in scores.items()})
        figures |= table(name, parts)
    if photos:
        parts = []
        for path in sorted(photos.glob("*.jpg")):
            x = to_tensor(load_image(path))[None].to(vae.device)
            x = resize(x, DEFAULT.size(x.shape[2], x.shape[3]))
            parts.append({k: v.cpu() for k, v in compare(x, round_trip(vae, x)).scores.items() if k != "mask_iou"})
        figures |= table("photos", parts)
    return figures


@torch.inference_mode()
def check_changes(vlm: VLM, vae: VAE, adapters: Iterable[Adapter], clips: int) -> Iterator[tuple[str, Interval]]:
    """How much of what changes within a step of the VLM adapters read back of so many moving scenes of the test split.

    Yields each one's point with 1 - squared error / squared change, of standardised VAE latents from a step's first
    frame to its second, and its 95 % interval over the clips: 1 is all, 0 what two equal frames have.
    """
    adapters = sorted(adapters, key=lambda adapter: adapter.point.depth)
    points = list({str(point) for adapter in adapters for point in adapter.points})
    source = motion_source(take_motion(clips, SEED, MOTION, "test", vlm.device), 8 * STEPS, vlm.device)
    latents = collect(vlm, vae, source, points)
    assert latents.changes is not None
    for adapter in adapters:
        parts = [latents[i : i + 8 * STEPS] for i in range(0, len(latents), 8 * STEPS)]
        z = torch.cat([adapter.for_steps(join_points(part.points, adapter.points)) for part in parts])
        spread = adapter.z_std.view(-1, 1, 1)
        true, read = latents.changes / spread, (z[:, -1] - z[:, 0]) / spread  # (steps, C, h, w)
        error, change = (x.square().sum((1, 2, 3)).view(clips, STEPS).sum(1).cpu().numpy() for x in (read - true, true))

        def share(error, change, axis=-1):  # type: ignore[no-untyped-def]  # as scipy calls it
            return 1 - error.sum(axis) / change.sum(axis)

        ends = stats.bootstrap((error, change), share, paired=True, method="percentile", random_state=0)
        yield str(adapter.point), Interval(float(share(error, change)), *map(float, ends.confidence_interval))
