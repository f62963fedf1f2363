"""Builds what assets/ holds, from nothing: the VLM, the VAE, then the adapters between them."""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from foresight.adapters.checkpoint import list_adapters, load_adapter, save_adapter
from foresight.adapters.identity import KEY, identity_of
from foresight.adapters.modules import Adapter
from foresight.data.sources import DataSpec, open_photos
from foresight.errors import InputError
from foresight.metrics.intervals import Interval
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm
from foresight.paths import ASSETS
from foresight.schemas import to_json
from training.bundle import vae as vae_bundle
from training.bundle import vlm as vlm_bundle
from training.bundle.check import check_changes, check_vae, check_vlm
from training.data import STEPS, collect, open_data, photo_tests
from training.fit import FitConfig, prepare, run_fit
from training.loop import Recipe, Step, Task, train

# Adapters learn to hit latents first, then to make pictures, seen through windows, which takes most of the time.
LATENTS = Recipe(steps=4000, batch=256, lr=2e-3, warmup=200, ema=0.99)
PICTURES = Recipe(steps=5000, batch=128, lr=1e-3, warmup=200, ema=0.998)
LATENTS_SHARE = 0.3  # of the seconds given


@dataclass(frozen=True)
class Length:
    """How long to train: so many steps, or as many as fit into so many seconds, or what the recipe says."""

    steps: int | None = None
    seconds: float | None = None


def _fitted(task: Task, recipe: Recipe, device: torch.device, length: Length) -> Recipe:
    """The recipe for another length; seconds become steps at the rate measured here."""
    steps = length.steps or recipe.steps
    if length.seconds and len(task.modules):
        trial = replace(recipe, steps=80, lr=0.0, weight_decay=0.0)  # changes no weight
        rate = list(train(task, trial, device))[-1].rate
        steps = int(rate * length.seconds / recipe.batch)
        steps = int(broadcast_object_list([steps])[0])  # all processes agree
    return replace(recipe, steps=steps, warmup=min(recipe.warmup, steps // 10))


def report(steps: Iterator[Step], every: float = 10.0) -> None:
    """Runs a training to its end, with a line about it now and then."""
    last = 0.0
    for step in steps:
        if time.monotonic() - last > every:
            losses = " ".join(f"{name} {float(value):.4f}" for name, value in step.losses.items())
            print(f"step {step.number}  {losses}  {step.rate:.0f} rows/s  {step.remaining:.0f} s left", file=sys.stderr)
            last = time.monotonic()


def build_vlm(
    out: Path,
    photos: Path,
    device: torch.device,
    pool: int,
    length: Length,
    workers: int,
    start: Path | None,
    seed: int,
) -> None:
    """Trains the VLM on photos and a pool of that many images; from the weights in `start`, if given.

    seed: of its first weights, its images, and their order. One with another seed is a control in the study.
    """
    model, processor = vlm_bundle.new_model(seed)
    if start:
        from transformers import Qwen2_5_VLForConditionalGeneration

        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(start, dtype=torch.float32)
    files = sorted(photos.glob("*.jpg"))
    task = vlm_bundle.ConversationTask(model.to(device), processor, pool, seed, files, device, workers)
    print("supervised tokens:", ", ".join(f"{k} {v:.1%}" for k, v in task.shares.items()), file=sys.stderr)
    recipe = _fitted(task, replace(vlm_bundle.RECIPE, seed=seed), device, length)
    print(f"{task.rows} pictures, {recipe.steps} steps", file=sys.stderr)
    report(train(task, recipe, device, out))
    if PartialState().is_main_process:
        vlm_bundle.save_model(model, processor, out / "vlm")


def build_vae(out: Path, photos: Path, device: torch.device, pool: int, length: Length, start: Path | None) -> None:
    """Trains the VAE on photos and a pool of that many scenes; from the weights in `start`, if given."""
    model = vae_bundle.new_vae()
    if start:
        model = load_vae(start, "cpu").model.requires_grad_(True)
    task = vae_bundle.RoundTrip(model.to(device), photos, pool, 0, device)
    recipe = replace(vae_bundle.RECIPE, lr=vae_bundle.RECIPE.lr / 2) if start else vae_bundle.RECIPE
    recipe = _fitted(task, recipe, device, length)
    print(f"{task.rows} tiles, {recipe.steps} steps", file=sys.stderr)
    report(train(task, recipe, device, out))
    if PartialState().is_main_process:
        vae_bundle.save_vae(model, out / "vae")


def build_adapters(
    out: Path,
    device: torch.device,
    points: Sequence[str],
    kinds: Sequence[str],
    spec: DataSpec,
    photos: Path | None,
    hidden: int | None,
    length: Length,
    held_out: int,
    start: Path | None,
    seed: int,
    halo_weight: float,
    vlm_folder: Path | None,
) -> None:
    """Fits the bundled adapters to the bundled VLM (in float32) and VAE, side by side; from those in `start`, if given.

    spec: what they learn from, whose photos are all for that. photos: a folder of others that they are judged by,
    beside `held_out` scenes of each kind. vlm_folder: in place of the bundled one. seed: of the data. halo_weight: as
    in FitConfig.
    """
    vlm, vae = load_vlm(vlm_folder, device, torch.float32), load_vae(None, device, torch.float32)
    recipe = replace(LATENTS, seed=seed)
    config = FitConfig(
        tuple(points),
        tuple(kinds),
        spec,
        held_out=held_out,
        hidden=hidden,
        change_weight=100.0,  # 10 beside the pictures' part, which after the merger is the least that is heard
        perceptual_weight=2.0,
        pixel_weight=6.0,
        object_weight=2.0,
        halo_weight=halo_weight,
        images_from=1.0,
        window=12,  # half the cost of 16, and a small object still fits
        recipe=recipe,
    )
    data = replace(open_data(spec, None, seed, held_out=0), count=held_out)
    task = prepare(config, vlm, vae, 256, data=data)
    if photos:
        pool = open_photos([str(photos)]).photos
        for title, source in photo_tests(pool, pool if spec.has_clips else (), 64, device).items():
            task.held_out[title] = collect(vlm, vae, source, points, shared=True)
    if device.type == "cuda":
        task.compile()
    pictures = PICTURES
    if start:
        for name in task.modules:  # but not linear probes, which are solved anew
            begin_from(task.adapters[name], start)
        pictures = replace(PICTURES, lr=PICTURES.lr * 0.7)
    else:
        first = Length(length.steps and length.steps // 4, length.seconds and length.seconds * LATENTS_SHARE)
        task.config = replace(config, recipe=_fitted(task, config.recipe, device, first))
        print(f"{task.rows} pictures, {task.config.recipe.steps} steps on latents", file=sys.stderr)
        report(train(task, task.config.recipe, device, out / "latents"))
        length = replace(length, seconds=length.seconds and length.seconds * (1 - LATENTS_SHARE))
    task.config = replace(task.config, images_from=0.0)
    task.config = replace(task.config, recipe=_fitted(task, replace(pictures, seed=seed), device, length))
    print(f"{task.config.recipe.steps} steps on pictures", file=sys.stderr)
    report(run_fit(task, out, eight_bits=True))  # half the bytes, for wider ones
    for name, adapter in task.adapters.items():
        for title, scores in adapter.card.get("scores", {}).items():  # the first process's alone
            print(f"{name:20} {title:32} {scores}")


def begin_from(adapter: Adapter, start: Path) -> None:
    """Gives it what the adapter of its kind and point in `start` has learned, or else the nearest of its stage.

    Layers of a stage add to one stream, so what reads one of them is near to what reads the next; means and spreads
    stay the adapter's own then. Raises InputError where there is neither, and where its widths are others.
    """
    name = f"{adapter.point}-{adapter.kind}"
    learned = [other for other in map(load_adapter, list_adapters(start)) if other.kind == adapter.kind]
    learned = [other for other in learned if other.point.stage == adapter.point.stage]
    if not learned:
        raise InputError(f"{start} has no {adapter.kind} adapter of {adapter.point.stage} to start {name} from.")
    nearest = min(learned, key=lambda other: abs(other.point.layer - adapter.point.layer))
    if [p.shape for p in nearest.parameters()] != [p.shape for p in adapter.parameters()]:
        raise InputError(f"{name} cannot start from {nearest.point} in {start}, whose widths are others (--hidden).")
    same = nearest.point == adapter.point
    adapter.load_state_dict(nearest.state_dict() if same else dict(nearest.named_parameters()), strict=same)


def stamp(folder: Path, vlm: Path | None, vae: Path | None) -> list[Path]:
    """Writes into the card of every adapter under `folder` that it was fitted with a VLM in float32 and a VAE.

    None: the bundled ones. Nothing can tell whether that is true: only who fitted them knows.
    """
    fitted_vlm, fitted_vae = load_vlm(vlm, "cpu", torch.float32), load_vae(vae, "cpu")
    folders = list_adapters(folder)
    for folder_of_adapter in folders:
        adapter = load_adapter(folder_of_adapter)
        adapter.card.pop("opening", None)  # where the first edition has it
        adapter.card[KEY] = to_json(identity_of(fitted_vlm, fitted_vae, adapter.point))
        save_adapter(adapter, folder_of_adapter)
    return folders


def check(
    only: str | None, vlm: Path | None, vae: Path | None, photos: Path | None, count: int, device: torch.device
) -> None:
    """Prints what the VLM, the VAE (None: the bundled ones) and the bundled adapters can do on what is held out.

    only: "vlm", "vae" or "adapters"; None: all of them. count: scenes of each kind, and steps of moving scenes.
    """
    figures = list[tuple[str, Interval]]()
    if only in (None, "vlm"):
        batch = 512 if device.type == "cuda" else 32
        for name, value in check_vlm(load_vlm(vlm, device), count, photos, batch).items():
            print(f"{name:32} {value:.4f}")
    if only in (None, "vae"):
        figures += check_vae(load_vae(vae, device), count, photos).items()
    if only in (None, "adapters"):
        adapters = [load_adapter(folder).to(device) for folder in list_adapters(ASSETS / "adapters")]
        two = [adapter for adapter in adapters if adapter.frames == 2]
        models = load_vlm(None, device, torch.float32), load_vae(None, device, torch.float32)
        clips = -(-count // STEPS)
        figures += [(f"change within a step: {point}", s) for point, s in check_changes(*models, two, clips)]
    for name, (mean, low, high) in figures:
        interval = "n = 1" if low is None else f"[{low:.4f}, {high:.4f}]"
        print(f"{name:32} {mean:.4f} {interval}")
