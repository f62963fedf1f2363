"""What a run's process does when its turn has come: extract, train, write how it goes, and hand over adapters."""

from __future__ import annotations

import filecmp
import json
import math
import shutil
import time
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foresight.adapters.checkpoint import WEIGHTS, load_adapter, score_tables
from foresight.data.images import to_pil
from foresight.errors import InputError
from foresight.inspection.readout import read_out
from foresight.models.placement import AUTO, DTYPES, free_memory, native_bfloat16
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm
from foresight.paths import replacing
from foresight.schemas import from_json
from training.fit import BEST, Fit, averaged, judge, point_of, prepare, run_fit, score_references
from training.latents import Latents, Room, open_store
from training.loop import STATE, Step
from training.service.pace import SCORING_SHARE
from training.service.presets import TrainingSettings, fit_config
from training.service.queue import BEGUN, DONE, PHOTOS, JobQueue, Run

LOG = "log.jsonl"
SAMPLES = 4  # held-out images shown
SAVE_EVERY = 10.0  # seconds between states to resume from
LOG_EVERY = 0.5  # seconds between lines of the log, at least; a long run has them further apart
LOG_LINES = 1000  # about as many in all
SCORED = {"cpu": 8, "cuda": 64}  # held-out images scored while training goes on


def run_job(run: Run, queue: JobQueue) -> None:
    """Fits what the run's job.json asks for. Raises InputError where that cannot be done."""
    try:
        _fit(run, queue)
    except torch.OutOfMemoryError as error:
        raise InputError(
            "the GPU's memory is too small: take fewer scenes, points or kinds, or a smaller width."
        ) from error
    except FloatingPointError as error:
        raise InputError(f"{error} Take a lower learning rate.") from error


def _fit(run: Run, queue: JobQueue) -> None:
    job = run.job
    start = time.monotonic() - job.get("spent", 0.0)  # a resumed run goes on from what it took before
    device = torch.device(job["device"])
    if device.type == "cuda":
        torch.cuda.set_device(device)  # else what names no device would go to the first one
    # As a dtype, not by its name: this machine's CPU may be slow in what another device of the app's computes.
    vlm = load_vlm(job["model"], AUTO if "spread" in job else device, DTYPES[job["dtype"]] if "dtype" in job else None)
    vae = load_vae(job["vae"], device, vae_dtype(device))
    photos = run.folder / PHOTOS
    settings = from_json(TrainingSettings, job["settings"])
    config = fit_config(settings, vlm, str(photos) if photos.is_dir() else None)
    config = replace(config, recipe=replace(config.recipe, save_every=job.get("save_every", SAVE_EVERY)))
    with ExitStack() as stack:
        tracker = stack.enter_context(Tracker(run))
        store = open_store(run.folder / "latents", vlm)
        batch = 16 if device.type == "cpu" else 64

        first: list[tuple[float, int]] = []  # when the first pictures were done, and how many these were

        def progress(done: int, total: int) -> None:
            now = time.monotonic()
            first[:] = first or [(now, done)]
            remaining = (total - done) * (now - first[0][0]) / (done - first[0][1]) if done > first[0][1] else None
            about = {"unit": "pictures", "seconds": now - start, "remaining": remaining}
            run.write_state("extracting", done=done, total=total, **about)

        names = [f"{point}-{kind}" for point in config.points for kind in config.kinds]
        copies = {name: run.folder / BEGUN / name.replace("/", "-") for name in names}
        begun = {name: load_adapter(folder) for name, folder in copies.items() if folder.is_dir()}
        room = Room(free_memory(vlm.device) // 2, run.folder / "latents")
        task = prepare(config, vlm, vae, batch, store, progress, start=begun, room=room)
        del vlm  # has done its part, and may be most of a GPU,
        torch.cuda.empty_cache()  # which others on it, such as the app, can use again
        monitor = Monitor(run, task, start, tracker)
        for step in run_fit(task, run.folder, run.folder / "adapters"):
            monitor.record(step)
        monitor.record_end()
    seconds = time.monotonic() - start
    handed_over = _hand_over(run, [name.replace("/", "-") for name in task.adapters], queue.adapters)
    steps = config.recipe.steps
    run.write_state(DONE, adapters=handed_over, done=steps, total=steps, seconds=seconds, losses=monitor.losses)


def vae_dtype(device: torch.device) -> torch.dtype | None:
    """What the VAE computes in: bfloat16 on a CPU that multiplies it fast, else (None) the VAE's own choice."""
    fast = device.type == "cpu" and native_bfloat16()
    return torch.bfloat16 if fast else None


def _hand_over(run: Run, folders: list[str], adapters: Path) -> list[str]:
    """Moves a run's adapters to where they are used, and deletes what only resuming needs.

    Args:
        run: Has the adapters in its folder.
        folders: Their folders there. A single adapter gets the run's name, others the run's and their own.
        adapters: The folder of all trained adapters.

    Returns:
        The adapters' names.

    Raises:
        InputError: Another adapter has come to have such a name.
    """
    names = [run.name] if len(folders) == 1 else [f"{run.name}-{folder}" for folder in folders]
    sources = {name: run.folder / "adapters" / folder for name, folder in zip(names, folders, strict=True)}
    adapters.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        if (existing := adapters / name).exists():
            if not filecmp.cmp(existing / WEIGHTS, source / WEIGHTS, shallow=False):
                raise InputError(f"an adapter {name!r} came into being meanwhile: rename it, then resume this run.")
            shutil.rmtree(existing)  # put there before this run was cut off here
    for name, source in sources.items():
        source.rename(adapters / name)
    for rest in ("latents", "adapters", BEGUN):
        shutil.rmtree(run.folder / rest, ignore_errors=rest == BEGUN)
    for file in (STATE, BEST):
        (run.folder / file).unlink(missing_ok=True)
    return names


class Monitor:
    """Writes down how a training goes: losses twice a second, scores and samples as time allows."""

    def __init__(self, run: Run, task: Fit, start: float, tracker: Tracker) -> None:
        """Begins with no step recorded.

        Args:
            run: Its folder takes what is written.
            task: What is trained.
            start: When the run began, in seconds of `time.monotonic`.
            tracker: Gets the same losses and scores.
        """
        self.run, self.task, self.vae, self.tracker = run, task, task.vae, tracker
        self.start, self.training_start = start, time.monotonic()
        self.logged, self.scored, self.scoring_seconds = self.training_start, -math.inf, 0.0
        self.losses: dict[str, float] = task.solved  # the last ones
        self.loss_sums: dict[str, Tensor] = {}
        self.summed_steps = 0
        title = min(task.held_out)  # as in cards, which are sorted
        latents = task.held_out[title]
        self.few_held_out = {title: latents[: SCORED["cpu" if self.vae.device.type == "cpu" else "cuda"]]}
        self.references = {title: score_references(few, self.vae) for title, few in self.few_held_out.items()}

    def record(self, step: Step) -> None:
        """Counts a step's losses, and writes their mean, scores and samples where it is time to."""
        for name, loss in step.losses.items():
            self.loss_sums[name] = self.loss_sums[name] + loss if name in self.loss_sums else loss.clone()
        self.summed_steps += 1
        now = time.monotonic()
        steps = self.task.config.recipe.steps
        last = step.number == steps
        if now - self.logged < max(LOG_EVERY, (now - self.training_start) / LOG_LINES) and not last and step.number > 1:
            return
        losses = {name: float(total) / self.summed_steps for name, total in self.loss_sums.items()} | self.task.solved
        self.loss_sums, self.summed_steps, self.logged = {}, 0, now
        rate = None if math.isnan(step.rate) else step.rate
        remaining = None if math.isnan(step.remaining) else step.remaining * (1 + SCORING_SHARE)
        self._log_losses(step.number, losses, rate, remaining, step.micro_batches)
        self.tracker.log({f"loss/{name}": loss for name, loss in losses.items()}, step.number)
        state = "scoring" if last else "training"
        self.losses = losses
        self.run.write_state(state, done=step.number, total=steps, seconds=now - self.start, losses=losses)
        if not last and now - self.scored > max(2.0, self.scoring_seconds / SCORING_SHARE):
            with averaged(self.task, step):
                scores = judge(self.task.adapters, self.few_held_out, self.vae, references=self.references)
                self._write_scores(step.number, scores, self.few_held_out)
            self.scored = time.monotonic()
            self.scoring_seconds = self.scored - now

    def record_end(self) -> None:
        """Writes the last scores, which are on all held-out images."""
        steps = self.task.config.recipe.steps
        if not self.task.modules:  # all are solved, in no steps: one line of the log has their losses
            self._log_losses(steps, self.task.solved, None, 0.0, 1)
        scores = {name: adapter.card["scores"] for name, adapter in self.task.adapters.items()}
        self._write_scores(steps, scores, self.task.held_out)

    def _log_losses(
        self, step: int, losses: dict[str, float], rate: float | None, remaining: float | None, micro_batches: int
    ) -> None:
        record = {
            "step": step,
            "losses": losses,
            "rate": rate,
            "remaining": remaining,
            "memory": memory(self.vae.device),
            "micro_batches": micro_batches,
            "seconds": time.monotonic() - self.start,
        }
        _append(self.run.folder / LOG, record)

    def _write_scores(self, step: int, scores: dict[str, dict[str, Any]], held_out: dict[str, Latents]) -> None:
        """Writes scores on held-out images by adapter, and samples of them with the adapters as they are."""
        record = {"step": step, "scores": scores, "seconds": time.monotonic() - self.start}
        _append(self.run.folder / "held_out.jsonl", record)
        for name, card_scores in scores.items():
            tables = score_tables(card_scores).items()
            flat = {f"{name}/{title}/{score}": v[0] for title, table in tables for score, v in table.items()}
            self.tracker.log(flat, step)
        self._write_samples(held_out[min(held_out)][:SAMPLES])

    def _write_samples(self, latents: Latents) -> None:
        """One sheet: the originals, then a row of each adapter's reconstructions."""
        originals = latents.pictures.float() / 255  # (images, 3, H, W)
        size = (originals.shape[2], originals.shape[3])
        rows = [originals] + [
            read_out(adapter, self.vae, size, latents.points[point_of(name)])
            for name, adapter in self.task.adapters.items()
        ]
        sheet = torch.cat([torch.cat(list(row.cpu()), 2) for row in rows], 1)  # (3, rows · H, images · W)
        with replacing(self.run.folder / "samples.png") as partial:
            to_pil(sheet).save(partial, "PNG")


class Tracker:
    """trackio, where it is installed: losses and scores in its own dashboard too."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.trackio: Any = None

    def __enter__(self) -> Tracker:
        if find_spec("trackio"):
            import trackio

            begun = (self.run.folder / LOG).exists()  # else one of that name is of a run that was removed since
            resume = "allow" if begun else "never"
            trackio.init(project="foresight", name=self.run.name, config=self.run.job["settings"], resume=resume)
            self.trackio = trackio
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        if self.trackio:
            self.trackio.log(values, step=step)

    def __exit__(self, *error: object) -> None:
        if self.trackio:
            self.trackio.finish()


def memory(device: torch.device) -> dict[str, Any]:
    """Bytes in use by this process and bytes there are: of the GPU's memory, or of the machine's."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return {"what": "GPU memory", "used": torch.cuda.memory_reserved(device), "free": free, "total": total}
    import psutil

    machine, used = psutil.virtual_memory(), psutil.Process().memory_info().rss
    return {"what": "memory", "used": used, "free": machine.available, "total": machine.total}


def _append(path: Path, record: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
