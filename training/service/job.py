"""What a run's process does when its turn has come: extract, train, tell how it goes, and hand over adapters."""

from __future__ import annotations

import filecmp
import json
import math
import os
import shutil
import time
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foresight.adapters.checkpoint import WEIGHTS, score_tables
from foresight.data.images import to_pil
from foresight.errors import InputError
from foresight.inspection.readout import read_out
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm
from training.fit import Fit, averaged, judge, point_of, prepare, run_fit
from training.latents import Latents, open_store
from training.loop import STATE, Step
from training.service.presets import config_of
from training.service.queue import DONE, JobQueue, Run

LOG = "log.jsonl"
SAMPLES = 4  # held-out pictures shown
SAVE_EVERY = 10.0  # seconds between states to resume from
TELL = 0.5  # seconds between lines of the log, at least; a long run has them further apart
LINES = 1000  # about as many in all
SHARE = 0.15  # of the time that held-out scores may take while training goes on
CURVE = {"cpu": 8, "cuda": 64}  # held-out pictures scored while training goes on


def work(run: Run, line: JobQueue) -> None:
    """Fits what the run's job.json asks for. Raises InputError where that cannot be done."""
    try:
        _work(run, line)
    except torch.OutOfMemoryError as error:
        raise InputError(
            "the GPU's memory is too small: take fewer scenes, points or kinds, or a smaller width."
        ) from error
    except FloatingPointError as error:
        raise InputError(f"{error} Take a lower learning rate.") from error


def _work(run: Run, line: JobQueue) -> None:
    job = run.job
    start = time.monotonic() - job.get("spent", 0.0)  # a resumed run goes on from what it took before
    device = torch.device(job["device"])
    if device.type == "cuda":
        torch.cuda.set_device(device)  # else what names no device would go to the first one
    vlm = load_vlm(job["model"], device)
    vae = load_vae(job["vae"], device, quick_dtype(device))
    pictures = run.folder / "pictures"
    config = config_of(job["settings"], vlm, str(pictures) if pictures.is_dir() else None)
    config = replace(config, recipe=replace(config.recipe, save_every=job.get("save_every", SAVE_EVERY)))
    with ExitStack() as stack:
        tracker = stack.enter_context(Tracker(run, job["settings"]))
        store = open_store(run.folder / "latents", vlm)
        batch = 16 if device.type == "cpu" else 64

        def progress(done: int, total: int) -> None:
            run.tell("extracting", done=done, total=total, unit="pictures", seconds=time.monotonic() - start)

        task = prepare(config, vlm, vae, batch, store, progress)
        del vlm  # has done its part, and may be most of a GPU,
        torch.cuda.empty_cache()  # which others on it, such as the app, can use again
        watch = Watch(run, task, start, tracker)
        for step in run_fit(task, run.folder, run.folder / "adapters"):
            watch.see(step)
        watch.finish(line)


def quick_dtype(device: torch.device) -> torch.dtype | None:
    """What the VAE computes in: bfloat16 on a CPU that multiplies it fast, else the VAE's own choice."""
    fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else None


class Watch:
    """Writes down how a training goes: losses twice a second, scores and samples as time allows."""

    def __init__(self, run: Run, task: Fit, start: float, tracker: Tracker) -> None:
        self.run, self.task, self.vae, self.tracker = run, task, task.vae, tracker
        self.start = self.told = time.monotonic()
        self.began, self.scored, self.cost = start, -math.inf, 0.0
        self.sums: dict[str, Tensor] = {}
        self.counted = 0
        some = CURVE["cpu" if self.vae.device.type == "cpu" else "cuda"]
        title = next(iter(task.held_out))
        self.few = {title: _first(task.held_out[title], some)}

    def see(self, step: Step) -> None:
        """Takes note of a step."""
        for name, loss in step.losses.items():
            self.sums[name] = self.sums[name] + loss if name in self.sums else loss.clone()
        self.counted += 1
        now = time.monotonic()
        last = step.number == self.task.config.recipe.steps
        if now - self.told < max(TELL, (now - self.start) / LINES) and not last and step.number > 1:
            return
        losses = {name: float(total) / self.counted for name, total in self.sums.items()} | self.task.solved
        self.sums, self.counted, self.told = {}, 0, now
        record = {
            "step": step.number,
            "losses": losses,
            "rate": None if math.isnan(step.rate) else step.rate,
            "remaining": None if math.isnan(step.remaining) else step.remaining * (1 + SHARE),
            "memory": memory(self.vae.device),
            "micro_batches": step.micro_batches,
            "seconds": now - self.began,
        }
        _append(self.run.folder / LOG, record)
        self.tracker.log({f"loss/{name}": loss for name, loss in losses.items()}, step.number)
        state = "scoring" if last else "training"
        self.run.tell(state, done=step.number, total=self.task.config.recipe.steps, seconds=record["seconds"])
        if not last and now - self.scored > max(2.0, self.cost / SHARE):
            with averaged(self.task, step):
                self._note_scores(step.number, judge(self.task.adapters, self.few, self.vae), self.few)
            self.scored = time.monotonic()
            self.cost = self.scored - now

    def _note_scores(self, step: int, scores: dict[str, dict[str, Any]], sets: dict[str, Latents]) -> None:
        """Writes down scores on held-out images, and paints samples of them with the adapters as they are."""
        _append(
            self.run.folder / "held_out.jsonl",
            {"step": step, "scores": scores, "seconds": time.monotonic() - self.began},
        )
        for name, table in scores.items():
            flat = {f"{name}/{t}/{s}": v[0] for t, found in score_tables(table).items() for s, v in found.items()}
            self.tracker.log(flat, step)
        self._paint_samples(_first(next(iter(sets.values())), SAMPLES))

    def _paint_samples(self, shown: Latents) -> None:
        """One sheet: the originals, then a row of what each adapter makes of them."""
        originals = shown.pictures.float() / 255
        size = (originals.shape[2], originals.shape[3])
        rows = [originals] + [
            read_out(adapter, self.vae, size, shown.points[point_of(name)])
            for name, adapter in self.task.adapters.items()
        ]
        sheet = torch.cat([torch.cat(list(row.cpu()), 2) for row in rows], 1)  # (3, rows · H, pictures · W)
        path = self.run.folder / ".samples.png"
        to_pil(sheet).save(path)
        os.replace(path, self.run.folder / "samples.png")

    def finish(self, line: JobQueue) -> None:
        """The last scores, on all held-out images; adapters into their folder; what only resuming needs is gone."""
        steps = self.task.config.recipe.steps
        if not self.task.modules:  # all are solved: one line tells it
            record = {"step": steps, "losses": self.task.solved, "rate": None, "remaining": 0.0}
            record |= {"memory": memory(self.vae.device), "micro_batches": 1, "seconds": time.monotonic() - self.began}
            _append(self.run.folder / LOG, record)
        scores = {name: adapter.card["scores"] for name, adapter in self.task.adapters.items()}
        self._note_scores(steps, scores, self.task.held_out)
        folders = [self.run.folder / "adapters" / name.replace("/", "-") for name in self.task.adapters]
        alone = len(folders) == 1
        made = {self.run.name if alone else f"{self.run.name}-{folder.name}": folder for folder in folders}
        line.adapters.mkdir(parents=True, exist_ok=True)
        for name, folder in list(made.items()):
            if (there := line.adapters / name).exists():
                if not filecmp.cmp(there / WEIGHTS, folder / WEIGHTS, shallow=False):
                    raise InputError(f"an adapter {name!r} came into being meanwhile: rename it, then resume this run.")
                shutil.rmtree(there)  # put there before this run was cut off here
        for name, folder in made.items():
            folder.rename(line.adapters / name)
        for rest in ("latents", "adapters"):
            shutil.rmtree(self.run.folder / rest)
        (self.run.folder / STATE).unlink(missing_ok=True)
        self.run.tell(DONE, adapters=list(made), done=steps, total=steps, seconds=time.monotonic() - self.began)


class Tracker:
    """trackio, where it is installed: losses and scores in its own dashboard too."""

    def __init__(self, run: Run, settings: dict[str, Any]) -> None:
        self.run, self.settings = run, settings
        self.trackio: Any = None

    def __enter__(self) -> Tracker:
        if find_spec("trackio"):
            import trackio

            begun = (self.run.folder / LOG).exists()  # else one of that name is of a run that was removed since
            resume = "allow" if begun else "never"
            trackio.init(project="foresight", name=self.run.name, config=self.settings, resume=resume)
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

    whole = psutil.virtual_memory()
    return {"what": "memory", "used": psutil.Process().memory_info().rss, "free": whole.available, "total": whole.total}


def _first(latents: Latents, count: int) -> Latents:
    points = {name: x[:count] for name, x in latents.points.items()}
    return Latents(points, latents.targets[:count], latents.pictures[:count], latents.masks[:count])


def _append(path: Path, record: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
