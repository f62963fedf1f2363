"""What the Train tab and its endpoint may ask for: one object whose methods take and return JSON values."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from foresight.data.archive import File, unpack
from foresight.data.sources import PhotoPool, read_photos
from foresight.errors import InputError
from foresight.inspection.inspector import Inspector
from foresight.paths import RUNS
from foresight.schemas import from_json, to_json
from training.service.job import memory
from training.service.presets import PRESETS, TrainingSettings, checked_name, estimate_cost, fit_config, new_name
from training.service.queue import ENDED, WAITING, JobQueue, Run, read_lines
from training.service.runs import TrainedAdapters

Values = dict[str, Any]  # of TrainingSettings, as JSON


class TrainingService:
    """Starts and watches runs for an inspector's models, and keeps the adapters that come of them.

    Every method raises InputError where what is asked for cannot be done.
    """

    settings = TrainingSettings

    def __init__(self, inspector: Inspector, root: str | Path = RUNS) -> None:
        """Takes what runs need.

        Args:
            inspector: Has the models.
            root: The folder of runs and adapters; its "adapters" must be one of the registry's roots.
        """
        self.inspector, self.queue = inspector, JobQueue(root)
        self.trained = TrainedAdapters(inspector.registry, self.queue.adapters)
        self.points = inspector.vlm.points
        self.devices = [f"cuda:{k}" for k in range(torch.cuda.device_count())] or ["cpu"]
        self.presets = {name: to_json(preset(self.points)) for name, preset in PRESETS.items()}

    def cost(self, values: Values, device: str) -> dict[str, Any]:
        """{"parameters": {"post-merge/6-tokens": n}, "bytes": about as much memory, "free": bytes on the device}."""
        vlm, vae = self.inspector.vlm, self.inspector.vae
        cost = estimate_cost(fit_config(from_json(TrainingSettings, values), vlm, "uploaded"), vlm, vae)
        return cost | {"free": memory(torch.device(self._checked_device(device)))["free"]}

    def start(self, name: str, values: Values, archive: str | None = None, device: str | None = None) -> dict[str, Any]:
        """Puts a run at the end of the queue.

        Args:
            name: Of the run. Of a preset's name a free name like it is made; any other is taken as it is.
            values: Settings that differ from their defaults.
            archive: A zip of photos; None where none are learned from.
            device: One of `devices`; None is the first.

        Returns:
            {"name": the run's name, "broken": [[file, reason], …] of the archive}.
        """
        vlm, vae, device = self.inspector.vlm, self.inspector.vae, self._checked_device(device or self.devices[0])
        settings = from_json(TrainingSettings, values)
        archive = archive if settings.uses_photos else None
        config = fit_config(settings, vlm, None if archive is None else "uploaded")
        taken = self.queue.names()
        # A run of several adapters puts what each is behind its name: none of these may be there either.
        ends = [f"-{point}-{kind}".replace("/", "-") for point in config.points for kind in config.kinds]
        taken |= {name.removesuffix(end) for name in taken for end in ends if len(ends) > 1}
        name = new_name(name, taken) if name in self.presets else checked_name(name, taken)
        # The bundled models' names are None to their loaders.
        names = {"model": vlm.name, "vae": vae.name}
        models = {key: None if value == "bundled" else value for key, value in names.items()}
        job = {"settings": to_json(settings), "device": device, "pictures": {}, **models}
        if archive is None:
            self.queue.start(name, job)
            return {"name": name, "broken": []}
        self.queue.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.queue.root, prefix=".upload-") as place:
            folder, pool = self._unpack(archive, Path(place) / "photos")
            parts = pool.split(config.held_out)  # refuses what is too few
            split = {"learn": len(parts["train"]), "held_out": len(parts["test"]), "asked": config.held_out}
            self.queue.start(name, job | {"pictures": split}, folder)
        return {"name": name, "broken": [[file.name, file.reason] for file in pool.broken]}

    def _checked_device(self, device: str) -> str:
        if device not in self.devices:
            raise InputError(f"there is no device {device!r} here: choose from {', '.join(self.devices)}.")
        return device

    def _unpack(self, archive: str, folder: Path) -> tuple[Path, PhotoPool]:
        """An archive's photos in a folder, and what it held."""
        folder.mkdir()
        files = list(unpack(archive, folder))
        pool = read_photos(files)
        if not pool.photos:
            raise InputError(f"“{Path(archive).name}” holds no picture that can be read.")
        usable = {photo.path for photo in pool.photos}
        for file in files:
            if isinstance(file, File) and file.path not in usable:
                file.path.unlink()
        return folder, pool

    def runs(self) -> list[dict[str, Any]]:
        """Every run in short, the latest first: name, device, state, runs before it in the queue, how far it is."""
        return [self._summary(run) for run in self.queue.runs()]

    def _summary(self, run: Run) -> dict[str, Any]:
        state = run.state()
        place = self.queue.place(run) if state["state"] == WAITING else 0
        return {"name": run.name, "device": run.job["device"], "place": place, **state}

    def run_details(self, name: str) -> dict[str, Any]:
        """A run in full: settings, losses and held-out scores so far, and the path of its samples or None.

        Where it has photos of its own, "pictures" holds how many it learns from, is judged on, and should be judged
        on: {"learn": 12, "held_out": 3, "asked": 32}.
        """
        run = self.queue.run(name)
        samples = run.folder / "samples.png"
        summary = self._summary(run)
        return summary | {
            "ended": summary["state"] in ENDED,
            "settings": run.job["settings"],
            "pictures": run.job.get("pictures", {}),
            "log": read_lines(run.folder / "log.jsonl"),
            "held_out": read_lines(run.folder / "held_out.jsonl"),
            "samples": str(samples) if samples.exists() else None,
        }

    def stop(self, name: str) -> None:
        """Asks a run to end; it can be resumed."""
        self.queue.stop(name)

    def resume(self, name: str) -> None:
        """Puts a run that ended early at the end of the queue again."""
        device = self.queue.run(name).job["device"]
        if device not in (*self.devices, "cpu"):
            raise InputError(f"the run {name!r} began on {device}, which this machine has no more.")
        self.queue.resume(name)

    def remove(self, name: str) -> None:
        """Deletes a run that has ended; its adapters stay."""
        self.queue.remove(name)

    def adapters(self) -> list[dict[str, Any]]:
        """Each trained adapter's name, point, kind, parameters and card; or, where it does not serve, the problem."""
        return self.trained.adapters()

    def rename_adapter(self, name: str, to: str) -> None:
        """Gives an adapter a new name, also in the run that made it."""
        self.queue.rename_adapter(name, self.trained.rename(name, to))

    def delete_adapter(self, name: str) -> None:
        """Deletes an adapter."""
        self.trained.delete(name)

    def adapter_as_zip(self, name: str) -> bytes:
        """An adapter's folder with a model card, to be used elsewhere."""
        return self.trained.as_zip(name)

    def import_adapter(self, source: str) -> str:
        """Copies an adapter from a folder or hub id; returns its name here."""
        return self.trained.import_adapter(source)

    def publish_adapter(self, name: str, repository: str, private: bool) -> str:
        """Uploads an adapter to the hub by the owner's login; returns its address."""
        return self.trained.publish(name, repository, private)
