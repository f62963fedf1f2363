"""What the Train tab and its endpoint may ask for: one object whose methods speak plain JSON values."""

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
from training.service.presets import DEFAULTS, LOSSES, PRESETS, Settings, checked_name, config_of, cost, new_name
from training.service.queue import ENDED, WAITING, JobQueue, Run, read_lines
from training.service.runs import TrainedAdapters


class TrainingService:
    """Starts and watches runs for an inspector's models, and keeps the adapters that come of them.

    root: the folder of runs and adapters; its "adapters" must be one of the registry's roots.
    """

    def __init__(self, inspector: Inspector, root: str | Path = RUNS) -> None:
        self.inspector, self.queue = inspector, JobQueue(root)
        self.trained = TrainedAdapters(inspector.registry, self.queue.adapters)
        self.points = inspector.vlm.points
        self.devices = [f"cuda:{k}" for k in range(torch.cuda.device_count())] or ["cpu"]
        self.losses = list(LOSSES)
        self.presets = {name: preset(self.points) for name, preset in PRESETS.items()}

    def cost(self, settings: Settings, device: str) -> dict[str, Any]:
        """{"parameters": {"post-merge/6-tokens": n}, "bytes": about as much memory, "free": bytes on the device}."""
        from training.service.job import memory

        vlm, vae = self.inspector.vlm, self.inspector.vae
        found = cost(config_of(settings, vlm, "uploaded"), vlm, vae)
        return found | {"free": memory(torch.device(self._known(device)))["free"]}

    def start(self, name: str, settings: Settings, archive: str | None = None, device: str | None = None) -> Any:
        """Puts a run in line: {"name": its name, "broken": [[file, reason], …] of the archive}.

        name: of one of the presets a free name like it is made; any other is taken as it is. Raises InputError.
        """
        vlm, vae, device = self.inspector.vlm, self.inspector.vae, self._known(device or self.devices[0])
        chosen = DEFAULTS | settings
        wants_pictures = "pictures" in chosen["data"] and archive is not None
        config = config_of(settings, vlm, "uploaded" if wants_pictures else None)
        taken = self.queue.names()
        # A run of several adapters puts what each is behind its name: none of these may be there either.
        ends = [f"-{point}-{kind}".replace("/", "-") for point in config.points for kind in config.kinds]
        taken |= {name.removesuffix(end) for name in taken for end in ends if len(ends) > 1}
        name = new_name(name, taken) if name in self.presets else checked_name(name, taken)
        broken: list[list[str]] = []
        self.queue.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.queue.root, prefix=".upload-") as place:
            pictures, split = None, {}
            if wants_pictures:
                pictures, pool = self._unpack(str(archive), Path(place) / "pictures")
                broken = [[file.name, file.reason] for file in pool.broken]
                parts = pool.split(config.held_out)  # refuses what is too few
                split = {"learn": len(parts["train"]), "held_out": len(parts["test"]), "asked": config.held_out}
            # The models' own names: None is the bundled one, which both sides find by themselves.
            names = {"model": vlm.name, "vae": vae.name}
            models = {key: None if value == "bundled" else value for key, value in names.items()}
            self.queue.start(name, {"settings": settings, "device": device, "pictures": split, **models}, pictures)
        return {"name": name, "broken": broken}

    def _known(self, device: str) -> str:
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
        """Every run in short, the latest first: name, state, place in line, how far."""
        return [self._short(run) for run in self.queue.runs()]

    def _short(self, run: Run) -> dict[str, Any]:
        state = run.state()
        place = self.queue.place(run) if state["state"] == WAITING else 0
        return {"name": run.name, "device": run.job["device"], "place": place, **state}

    def look(self, name: str) -> dict[str, Any]:
        """A run in full: settings, losses and held-out scores so far, and the path of its samples or None.

        Its "pictures", where it has own ones, tell how many it learns from, is judged on, and should be judged on:
        {"learn": 12, "held_out": 3, "asked": 32}.
        """
        run = self.queue.run(name)
        samples = run.folder / "samples.png"
        return self._short(run) | {
            "ended": run.state()["state"] in ENDED,
            "settings": run.job["settings"],
            "pictures": run.job.get("pictures", {}),
            "log": read_lines(run.folder / "log.jsonl"),
            "held_out": read_lines(run.folder / "held_out.jsonl"),
            "samples": str(samples) if samples.exists() else None,
        }

    def stop(self, name: str) -> None:
        self.queue.stop(name)

    def resume(self, name: str) -> None:
        device = self.queue.run(name).job["device"]
        if device not in (*self.devices, "cpu"):
            raise InputError(f"the run {name!r} began on {device}, which this machine has no more.")
        self.queue.resume(name)

    def remove(self, name: str) -> None:
        self.queue.remove(name)

    def adapters(self) -> list[dict[str, Any]]:
        return self.trained.adapters()

    def rename(self, name: str, to: str) -> None:
        self.queue.rename_adapter(name, self.trained.rename(name, to))

    def delete(self, name: str) -> None:
        self.trained.delete(name)

    def pack(self, name: str) -> bytes:
        return self.trained.pack(name)

    def take_in(self, source: str) -> str:
        return self.trained.take_in(source)

    def publish(self, name: str, repository: str, private: bool) -> str:
        return self.trained.publish(name, repository, private)
