"""Fits adapters, several side by side on one set of latents."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from foresight.adapters.checkpoint import save_adapter
from foresight.adapters.eight_bits import round_to_eight_bits
from foresight.adapters.identity import KEY, identity_of
from foresight.adapters.modules import KINDS, SEVERAL_POINTS, Adapter, LinearProbe, PooledMLP, frames_of, join_points
from foresight.data.images import vae_size
from foresight.data.resolution import NATIVE, Resolution
from foresight.data.scenes import SceneSpec
from foresight.data.sources import DataSpec
from foresight.errors import InputError
from foresight.inspection.readout import decode, read_out
from foresight.metrics.baselines import gain
from foresight.metrics.intervals import bootstrap
from foresight.metrics.scores import compare
from foresight.models.points import STAGES, ExtractionPoint
from foresight.models.vae import VAE
from foresight.models.vlm import VLM
from foresight.paths import replacing
from foresight.schemas import to_json
from training.data import SIDE, TrainingData, collect, open_data, scene_data
from training.latents import Latents, Progress, Room, processes
from training.loop import Recipe, Step, rows_of_step, train
from training.losses import ImageLoss
from training.ridge import solve_linear
from training.store import Store, key_of, name_of

CANDIDATES = (0.4, 0.6, 0.8, 1.0)  # shares of the steps at which a state may be kept as the best
BEST = "best.pt"  # the best state so far, beside the state to resume from
STATISTICS_ROWS = 2048  # images from which means and spreads are taken


@dataclass(frozen=True)
class FitConfig:
    """What to fit, on what, and how; saved in each adapter's card."""

    points: tuple[str, ...]
    """Extraction points; every kind is fitted at each of them, but of mix and routing one reads all of a stage."""
    kinds: tuple[str, ...] = ("tokens",)
    """linear, which is solved exactly; pooled, tokens, mix and routing, which are trained."""
    data: DataSpec = field(default_factory=lambda: scene_data(2000))
    """What to learn from, as from `parse_data`."""
    factors: SceneSpec | None = None
    """What its scenes may hold; None: the usual mixture."""
    held_out: int = 64
    """Images of each kind to score on, at most; of photos at most a quarter, which are not learned from then."""
    hidden: int | None = None
    """Hidden width of pooled and tokens; None: a quarter of the latents' width, at least 128."""
    latent_weight: float = 0.1
    """Weight of the squared error of standardised VAE latents once images are decoded; 1 before."""
    change_weight: float = 10.0
    """Weight, beside that of the VAE latents, of the squared error of what changes from the first to the second frame
    of a clip's step: a small part of each frame, by which alone an adapter learns to tell the two apart."""
    pixel_weight: float = 4.0
    """Weight of the absolute error of decoded images."""
    object_weight: float = 0.0
    """Weight of the same on and beside objects alone, so that small ones count as much as large ones."""
    halo_weight: float = 0.0
    """Weight of halos: of what is drawn up to HALO pixels around objects, beyond half of what makes an object stand
    out, summed and divided by the objects' area."""
    perceptual_weight: float = 1.0
    """Weight of LPIPS between decoded images and originals."""
    images_from: float = 0.3
    """Share of the steps after which images are decoded and compared; 1: never."""
    window: int | None = 16
    """Cells of VAE latents a side of the part of each image that is compared; None: all, at 4 times the cost."""
    chosen_by: int = 0
    """Validation images of each kind by whose LPIPS the best of several states is kept; 0 keeps the last one."""
    start: tuple[str, ...] = ()
    """Adapters that the training begins from, for the cards alone."""
    recipe: Recipe = field(default_factory=Recipe)
    """How long, how fast, and with which seed."""
    sides: tuple[int, ...] = (SIDE,)
    """Pixels a side of the square images that are learned from, which are all seen at each of these sizes."""

    def __post_init__(self) -> None:
        """Raises InputError for several sizes of pooled adapters, and other sizes of clips."""
        words = " and ".join(f"{side}²" for side in self.sides)
        if PooledMLP.kind in self.kinds and len(self.sides) > 1:
            raise InputError(f"a pooled adapter paints pictures of one size: choose one, not {words}.")
        if self.data.has_clips and self.sides != (SIDE,):
            raise InputError(f"clips are learned at {SIDE}² pixels, not at {words}: leave them out, or the pixels.")


def sides_of(pixels: Sequence[str]) -> tuple[int, ...]:
    """Pixels a side of the squares that sizes such as "448²" mean. Raises InputError for what leaves images theirs."""
    sides = list[int]()
    for text in pixels:
        resolution = Resolution.parse(text)
        if resolution.least != resolution.most or text.strip().lower() == NATIVE:
            raise InputError(f"an adapter is fitted at chosen sizes, such as 448²: {text} leaves each image its own.")
        sides.append(resolution.size(1, 1)[0])
    return tuple(dict.fromkeys(sides))


def new_adapter(
    kind: str,
    point: ExtractionPoint,
    vlm: VLM,
    vae: VAE,
    hidden: int | None,
    frames: int = 1,
    side: int = SIDE,
    layers: int = 1,
) -> Adapter:
    """An untrained adapter that fits a point of a VLM and a VAE.

    layers: how many of the point's stage, up to it, mix and routing read. frames: 2 makes adapters that keep the grid
    tell the two frames of a clip's step apart. side: of the square that a pooled one paints, in pixels of the VLM.
    """
    if kind not in KINDS:
        raise InputError(f"{kind!r} is no kind of adapter: choose from {', '.join(KINDS)}.")
    token = 16 if point.stage == "pre-merge" else 32  # pixels a side of the VAE's image
    fold, cells = max(1, vae.downscale // token), max(1, token // vae.downscale)
    sizes: dict[str, Any] = {"width": vlm.width(point), "channels": vae.channels, "fold": fold, "cells": cells}
    if kind != "linear":
        sizes["hidden"] = hidden or max(128, vlm.width(point) // 4)
    if kind == "pooled":
        sizes["canvas"] = vae_size((side, side))[0] // vae.downscale
    if kind in ("tokens", *SEVERAL_POINTS):
        sizes["frames"] = frames
    if kind in SEVERAL_POINTS:
        sizes |= {"layers": layers, "width": layers * vlm.width(point)}
    return KINDS[kind](**sizes)


class Fit:
    """The task of all adapters of a config: rows are images, each adapter has a loss of its own.

    Args:
        adapters: by name, such as "post-merge/6-tokens".
        latents: of the training images, at all points; one for each size.
        vae: decodes what adapters map to.
        config: weights of the loss, and what is saved in cards.
        solved: of adapters that need no training, the squared error of standardised VAE latents on validation images.
        held_out: {title: latents of images to score on}.
        validation: {title: latents of images by which the best state is chosen}; none keeps the last one.
        facts: JSON values that a saved state must share to be resumed, beside the config.
    """

    def __init__(
        self,
        adapters: dict[str, Adapter],
        latents: Sequence[Latents],
        vae: VAE,
        config: FitConfig,
        solved: Mapping[str, float] | None = None,
        held_out: Mapping[str, Latents] | None = None,
        facts: Mapping[str, Any] | None = None,
        validation: Mapping[str, Latents] | None = None,
    ):
        self.validation = dict(validation or {})
        self.adapters, self.solved = adapters, dict(solved or {})
        self.held_out, self.facts = dict(held_out or {}), dict(facts or {})
        self.modules = nn.ModuleDict({name: a for name, a in adapters.items() if name not in self.solved})
        self.latents, self.vae, self.config, self.rows = latents, vae, config, sum(map(len, latents))
        weights = (config.pixel_weight, config.object_weight, config.halo_weight, config.perceptual_weight)
        self._image_loss = ImageLoss(vae, config.window, *weights)
        self._maps = {name: adapters[name].for_steps for name in self.modules}
        self._points = {point for name in self.modules for point in points_read(name, adapters[name])}
        self._reader = ThreadPoolExecutor(1) if any(x.mapped for x in latents) else None
        self._ahead: tuple[Tensor, Future[list[tuple[Latents, float]]]] | None = None  # of the next step's rows
        # What is read ahead is copied beside the step under way, not after it.
        self._copies = torch.cuda.Stream(vae.device) if self._reader and vae.device.type == "cuda" else None

    def compile(self) -> None:
        """Compiles the adapters and the picture part of the loss, which takes minutes at first: for long GPU runs."""
        self._image_loss.compile()
        self._maps = {name: torch.compile(map_, dynamic=False) for name, map_ in self._maps.items()}

    def loss(self, rows: Tensor, generator: torch.Generator, done: float) -> dict[str, Tensor]:
        known = self._ahead is not None and torch.equal(self._ahead[0], rows)
        parts = self._ahead[1].result() if self._ahead and known else self._read(rows, done)
        if self._copies:
            for latents, _ in parts:
                latents.used_by(torch.cuda.current_stream(self.vae.device))
        self._read_ahead(done)
        total = dict[str, Tensor]()
        for latents, share in parts:
            for name, loss in self._loss(latents, generator, done).items():
                total[name] = total.get(name, 0) + loss * share
        return total

    def _read(self, rows: Tensor, done: float) -> list[tuple[Latents, float]]:
        """Rows on the device, those of each size with their share of all."""
        parts, before, pictures = list[tuple[Latents, float]](), 0, done >= self.config.images_from
        for latents in self.latents:  # of one size each
            part = rows[(before <= rows) & (rows < before + len(latents))] - before
            before += len(latents)
            if len(part):
                parts.append((latents.batch(part, self._points, pictures, self.vae.device), len(part) / len(rows)))
        return parts

    def _read_ahead(self, done: float) -> None:
        """Begins to read the next step's rows from files, while this step's are learned from."""
        recipe, (rank, world) = self.config.recipe, processes()
        step = round(done * recipe.steps) + 1
        if self._reader is None or step >= recipe.steps:
            return
        rows = rows_of_step(step, recipe.batch, self.rows, recipe.seed)[rank::world]
        if self._ahead is None or not torch.equal(self._ahead[0], rows):  # else of this batch's first part
            self._ahead = rows, self._reader.submit(self._read_beside, rows, step / recipe.steps)

    def _read_beside(self, rows: Tensor, done: float) -> list[tuple[Latents, float]]:
        """`_read`, while the GPU works on the step before."""
        with torch.cuda.stream(self._copies):  # none: as ever
            parts = self._read(rows, done)
        if self._copies:
            self._copies.synchronize()
        return parts

    def _loss(self, latents: Latents, generator: torch.Generator, done: float) -> dict[str, Tensor]:
        """Losses on a batch of one size."""
        outputs, losses = dict[str, Tensor](), dict[str, Tensor]()
        for name in self.modules:
            adapter = self.adapters[name]
            z = self._maps[name](inputs_of(latents, name, adapter, slice(None)))  # (B, 1 or 2, C, h, w)
            spread = adapter.z_std.view(-1, 1, 1)
            outputs[name] = frames_of(z, latents.frames)
            losses[name] = ((outputs[name] - latents.targets) / spread).square().mean()
            if latents.changes is not None and adapter.frames == 2:
                error = (z[:, 1] - z[:, 0] - latents.changes) / spread
                losses[name] = losses[name] + self.config.change_weight * error.square().mean()
        if done < self.config.images_from:
            return losses
        z = torch.cat(list(outputs.values()))
        image_losses = self._image_loss(z, latents.pictures, latents.masks, generator)
        weight = self.config.latent_weight
        return {name: weight * loss + image_losses[k] for k, (name, loss) in enumerate(losses.items())}


def point_of(name: str) -> str:
    """ "post-merge/6-tokens" → "post-merge/6" """
    return name.rsplit("-", 1)[0]


def points_read(name: str, adapter: Adapter) -> list[str]:
    """The points whose latents an adapter of that name takes."""
    return adapter.card.get("layers", [point_of(name)])


def inputs_of(latents: Latents, name: str, adapter: Adapter, rows: slice) -> Tensor:
    """What an adapter takes of some rows of latents."""
    points = points_read(name, adapter)
    return join_points({point: latents.points[point][rows] for point in points}, points)


def _readers(config: FitConfig, points: Sequence[ExtractionPoint]) -> Iterator[tuple[str, list[ExtractionPoint]]]:
    """The adapters of a config: a kind, and the points that it reads. Raises InputError where mix has one to mix."""
    single = [kind for kind in config.kinds if kind not in SEVERAL_POINTS]
    yield from ((kind, [point]) for point in points for kind in single)
    for kind in (kind for kind in config.kinds if kind in SEVERAL_POINTS):
        for stage in STAGES:
            layers = sorted({p for p in points if p.stage == stage}, key=lambda p: p.depth)
            if len(layers) == 1:
                raise InputError(f"{kind} needs several {stage} points, not {layers[0]} alone.")
            if layers:
                yield kind, layers


def prepare(
    config: FitConfig,
    vlm: VLM,
    vae: VAE,
    batch: int = 64,
    store: Store | None = None,
    progress: Progress | None = None,
    data: TrainingData | None = None,
    start: Mapping[str, Adapter] | None = None,
    room: Room | None = None,
) -> Fit:
    """Extracts latents once, makes the adapters ("post-merge/6-tokens", …) and the task of all.

    Linear probes are solved here, by `solve_linear`, and take no part in the training. The VLM is needed no more then.

    Args:
        config: what to fit.
        vlm: whose latents are read.
        vae: whose latents are predicted.
        batch: images of SIDE² pixels at a time through both, of larger ones fewer.
        store: keeps latents on disk, and has those that a run before this one took.
        progress: called as training latents come, with how many images of how many are done.
        data: of the config, if it is open already.
        start: trained adapters to begin from, by the names they will have: they keep their widths, means and spreads.
        room: for latents to learn from; None: as much as the device has.

    Raises:
        InputError: for unknown points and kinds, and for data that cannot be used.
    """
    points = [vlm.point(p) for p in config.points]
    data = data or open_data(config.data, config.factors, config.recipe.seed, config.held_out)
    at_once = {side: max(1, batch * SIDE**2 // max(SIDE, side) ** 2) for side in config.sides}

    def images(split: str, progress: Progress | None = None, room: Room | None = None) -> list[Latents]:
        """Those of a split, at each size."""
        sources = [data.source(split, count, vlm.device, side) for side, count in at_once.items()]
        total, by_size = sum(source.count for source in sources), list[Latents]()
        for source in sources:
            before = sum(map(len, by_size))
            report = None if progress is None else partial(_report_part, progress, before, total)
            by_size.append(collect(vlm, vae, source, points, store, report, True, room))
        return by_size

    def judges(split: str, count: int | None = None) -> dict[str, Latents]:
        """Images to judge by at each size, which their titles name where there are several."""
        several = len(at_once) > 1
        return {
            f"{title} at {side}²" if several else title: collect(vlm, vae, source, points, store, shared=True)
            for side, number in at_once.items()
            for title, source in data.held_out(number, vlm.device, split, count, side).items()
        }

    latents = images("train", progress, room)
    if "linear" in config.kinds:
        validation = images("val")
    share = STATISTICS_ROWS // len(latents)
    # A few rows of each size, for means and spreads.
    rows = [torch.linspace(0, len(x) - 1, min(len(x), share)).long() for x in latents]
    few = [x.batch(own, x.points, False, vlm.device) for x, own in zip(latents, rows, strict=True)]
    torch.manual_seed(config.recipe.seed)
    adapters, solved = dict[str, Adapter](), dict[str, float]()
    for kind, layers in _readers(config, points):
        point, frames = layers[-1], 1 + config.data.has_clips
        begun = (start or {}).get(f"{point}-{kind}")
        new = new_adapter(kind, point, vlm, vae, config.hidden, frames, config.sides[0], len(layers))
        adapter = (begun or new).to(vlm.device)
        adapter.card = {
            "point": str(point),
            "model": vlm.name,
            "vae": vae.name,
            KEY: to_json(replace(identity_of(vlm, vae, point), pixels=tuple(side**2 for side in config.sides))),
            "data": str(data),
        }
        if kind in SEVERAL_POINTS:
            adapter.card["layers"] = [str(p) for p in layers]
        inputs = [inputs_of(x, f"{point}-{kind}", adapter, slice(None)) for x in few]
        if begun:
            adapter.fit_familiarity(inputs)
        else:
            adapter.fit_statistics(inputs, [x.targets for x in few])
        if isinstance(adapter, LinearProbe):
            sets = [([x.points[str(point)] for x in data], [x.targets for x in data]) for data in (latents, validation)]
            adapter.card["ridge"] = solve_linear(adapter, *sets)
            solved[f"{point}-{kind}"] = adapter.card["ridge"]["validation_error"]
        adapters[f"{point}-{kind}"] = adapter
    test, choice = judges("test"), judges("val", config.chosen_by)
    facts = {"model": key_of(vlm), "vae": name_of(vae), "photos": data.digest}
    return Fit(adapters, latents, vae, config, solved, test, facts, choice)


def _report_part(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    """Reports the images of one size as a part of all."""
    progress(before + done, total)


def run_fit(task: Fit, folder: Path, adapters: Path | None = None, eight_bits: bool = False) -> Iterator[Step]:
    """Trains, scores on the task's held-out images, and saves every adapter; yields each step done.

    Of several processes the first one scores and saves. The scores are in the adapters' cards then.

    Args:
        task: from `prepare`.
        folder: where the state to resume from lies. A later call for the same run goes on from it.
        adapters: where adapters go, as post-merge-6-tokens; None: beside the state.
        eight_bits: whether they are scored and saved in 8 bits.

    Raises:
        InputError: if the folder holds another run.
        FloatingPointError: if the training diverged.
    """
    config = asdict(task.config)
    facts = {name: value for name, value in config.items() if name != "recipe"} | task.facts
    steps, first = task.config.recipe.steps, processes()[0] == 0
    marks = {max(1, round(steps * share)) for share in CANDIDATES} if first and task.validation else set()
    with locked(folder) if first else nullcontext():
        for step in train(task, task.config.recipe, task.vae.device, folder, facts):
            yield step
            if step.number in marks:
                _keep_best(task, step, folder / BEST)
        if first:
            if marks and task.modules:
                _restore_best(task, folder / BEST)
            _save_adapters(task, config, adapters or folder, eight_bits)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within it no other process fits in the folder. Raises InputError where one does already."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise InputError(f"another run fits in {str(folder)!r} now: choose another folder, or wait.") from error


def _save_adapters(task: Fit, config: dict[str, Any], folder: Path, eight_bits: bool) -> None:
    """Scores the adapters, writes that on their cards, and saves them."""
    if eight_bits:
        for adapter in task.adapters.values():
            round_to_eight_bits(adapter)
    scores = judge(task.adapters, task.held_out, task.vae)
    config["data"] = str(task.config.data.public())  # a card may be published: no path of this machine
    for name, adapter in task.adapters.items():
        adapter.card |= {"config": config, "scores": scores[name]}
        save_adapter(adapter, folder / name.replace("/", "-"), eight_bits)


References = dict[str, dict[str, Tensor]]  # {"blank": {score: (N,), NaN where an image has none}, "oracle": …}


@torch.inference_mode()
def score_references(latents: Latents, vae: VAE, batch: int = 32) -> References:
    """What adapters are set beside: each image's scores of the blank page, and of the oracle."""
    size = (latents.pictures.shape[2], latents.pictures.shape[3])
    oracle = _scores(latents, batch, lambda rows: decode(vae, latents.targets[rows], size))
    return {"blank": _scores(latents, batch, lambda rows: torch.ones(1, 3, *size)), "oracle": oracle}


def _scores(latents: Latents, batch: int, images: Callable[[slice], Tensor]) -> dict[str, Tensor]:
    """Scores (N,) of what `images` gives for some rows (or one image for all), NaN where an image has none."""
    parts: dict[str, list[Tensor]] = {}
    for rows in (slice(i, i + batch) for i in range(0, len(latents), batch)):
        x = latents.pictures[rows].float() / 255
        y = images(rows).to(x.device).expand_as(x)
        for score, values in compare(x, y, latents.masks[rows]).scores.items():
            parts.setdefault(score, []).append(values.cpu())
    return {score: torch.cat(values) for score, values in parts.items()}


@torch.inference_mode()
def judge(
    adapters: dict[str, Adapter],
    sets: dict[str, Latents],
    vae: VAE,
    batch: int = 32,
    references: Mapping[str, References] | None = None,
) -> dict[str, dict[str, Any]]:
    """Scores with 95 % intervals, {adapter: {"n": images of the smallest set, title: {score: [mean, low, high], …}}}.

    Beside its scores a title has "measured": {score: images that have it}, the means of "blank" and "oracle" over the
    same images, and "gain": {score: [mean, low, high]}, by how much an image is better than its blank page.

    A score that no picture of a set has is left out: mask IoU, where no object stands out of the original, or where it
    cannot be measured in the reconstruction. Where one image has it, low and high are None.

    Args:
        adapters: by name.
        sets: what to score on, by title.
        vae: decodes what adapters map to.
        batch: images at a time.
        references: by title, as from `score_references`; None takes them here.
    """
    table: dict[str, dict[str, Any]] = {name: {} for name in adapters}
    for title, latents in sets.items():
        beside = references[title] if references else score_references(latents, vae, batch)
        for name, adapter in adapters.items():
            own = _scores(latents, batch, partial(_painted, adapter, vae, latents, name))
            table[name] |= {"n": min(map(len, sets.values())), title: _summary(own, beside)}
    return table


def _painted(adapter: Adapter, vae: VAE, latents: Latents, name: str, rows: slice) -> Tensor:
    """What an adapter makes of some rows (B, 3, H, W)."""
    size = (latents.pictures.shape[2], latents.pictures.shape[3])
    return read_out(adapter.for_frames, vae, size, inputs_of(latents, name, adapter, rows), latents.frames[rows])


def _summary(own: dict[str, Tensor], beside: References) -> dict[str, Any]:
    """One title of `judge`'s table."""
    gains = {score: gain(score, values, beside["blank"][score]) for score, values in own.items()}
    known = {score: ~values.isnan() for score, values in own.items()}
    means = {
        which: {
            score: round(float(values[known[score]].nanmean()), 5)
            for score, values in scores.items()
            if not values[known[score]].isnan().all()
        }
        for which, scores in beside.items()
    }
    measured = {"measured": {score: int(rows.sum()) for score, rows in known.items()}}
    return {**_intervals(own), **measured, **means, "gain": _intervals(gains)}


def _intervals(scores: Mapping[str, Tensor]) -> dict[str, list[float | None]]:
    """Means and ends of their 95 % intervals, of the scores that some image has."""
    known = {score: values[~values.isnan()].tolist() for score, values in scores.items()}
    intervals = {score: bootstrap(values) for score, values in known.items() if values}
    return {score: [None if v is None else round(v, 5) for v in ends] for score, ends in intervals.items()}


def _keep_best(task: Fit, step: Step, path: Path) -> None:
    """Writes down the adapters' averaged weights where they are the best so far; earlier ones may lie there.

    It depends on the step alone, so that a run that is resumed keeps the same ones.
    """
    best: dict[str, Any] = torch.load(path, weights_only=True) if path.is_file() else {}
    with averaged(task, step):
        for name in task.modules:
            lpips = _validate(task, name)
            if name not in best or lpips < best[name]["lpips"] or best[name]["step"] >= step.number:
                weights = {key: value.detach().cpu().clone() for key, value in task.adapters[name].state_dict().items()}
                best[name] = {"step": step.number, "lpips": lpips, "weights": weights}
    with replacing(path) as partial_file:
        torch.save(best, partial_file)


@torch.inference_mode()
def _validate(task: Fit, name: str) -> float:
    """An adapter's LPIPS on validation images, each kind of which counts the same."""
    sets = task.validation.values()
    scores = [_scores(x, 32, partial(_painted, task.adapters[name], task.vae, x, name)) for x in sets]
    return sum(float(table["lpips"].mean()) for table in scores) / len(scores)


def _restore_best(task: Fit, path: Path) -> None:
    """Gives the adapters the best weights, and tells in their cards which these are."""
    for name, best in torch.load(path, weights_only=True).items():
        task.adapters[name].load_state_dict(best["weights"])
        about = {"step": best["step"], "lpips": round(best["lpips"], 5), "n": min(map(len, task.validation.values()))}
        task.adapters[name].card["chosen"] = about


@contextmanager
def averaged(task: Fit, step: Step) -> Iterator[None]:
    """Within it the adapters hold the averaged weights of a step, which are what training gives in the end."""
    trained: list[Tensor] = [p for p in task.modules.parameters() if p.requires_grad]
    with torch.no_grad():
        now = [p.detach().clone() for p in trained]
        torch._foreach_copy_(trained, step.average)
        try:
            yield
        finally:
            torch._foreach_copy_(trained, now)
