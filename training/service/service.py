"""What the Train tab and its endpoint may ask for: one object whose methods take and return JSON values."""

import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch

from foresight.adapters.modules import ONE_POINT
from foresight.data.archive import File, unpack
from foresight.data.sources import PhotoPool, open_photos, read_photos
from foresight.errors import InputError
from foresight.inspection.inspector import Inspector
from foresight.paths import RUNS
from foresight.schemas import from_json, to_json, whole
from training.data import held_out_scenes
from training.fit import FitConfig
from training.service.job import memory
from training.service.pace import Pace, estimate_seconds, measure_pace
from training.service.presets import PRESETS, TrainingSettings, checked_name, estimate_cost, fit_config, new_name
from training.service.queue import ENDED, PHOTOS, WAITING, JobQueue, Run, read_lines
from training.service.runs import TrainedAdapters

MAX_SEEDS = 8  # runs at once
PACE_KEPT = 600  # seconds, at most, before the pace is measured again
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
        self._usual = to_json(TrainingSettings(points=(str(self.points[0]),)))
        self._paces: dict[tuple[Any, ...], Pace] = {}
        self.devices = [f"cuda:{k}" for k in range(torch.cuda.device_count())] or ["cpu"]
        if inspector.vlm.devices[1:]:  # a run's model takes all GPUs, too
            self.devices = [str(inspector.vlm.device)]
        self.presets = {name: to_json(preset(self.points)) for name, preset in PRESETS.items()}

    def cost(self, values: Values, device: str) -> dict[str, Any]:
        """{"parameters": {"post-merge/6-tokens": n}, "bytes": about as much memory, "free": bytes on the device}."""
        vlm, vae = self.inspector.vlm, self.inspector.vae
        cost = estimate_cost(fit_config(from_json(TrainingSettings, values), vlm, "uploaded"), vlm, vae)
        return cost | {"free": memory(torch.device(self._checked_device(device or self.free_device())))["free"]}

    def seconds(self, values: Values) -> Generator[dict[str, float] | None, None, None]:
        """About how long a run will take, as the last that comes: {"extract", "learn", "score", "total"}.

        The first time for some points, kinds and loss a little is done to measure it, in steps that each end with a
        None. Nothing comes for a large model, which would have to be read for that.
        """
        vlm, vae = self.inspector.vlm, self.inspector.vae
        config = fit_config(from_json(TrainingSettings, values), vlm, "uploaded")
        if vlm.large:
            return
        when = int(time.monotonic() / PACE_KEPT)  # what else the machine does changes it
        key = (config.points, config.kinds, config.hidden, config.images_from, config.perceptual_weight, when)
        if key not in self._paces:
            for pace in measure_pace(config, vlm, vae):
                if pace is None:
                    yield None
                else:
                    self._paces[key] = pace
        yield estimate_seconds(config, self._paces[key])

    def held_out_picture(self, name: str) -> dict[str, Any] | Path:
        """The first picture that a run is judged by: the file of a photo where it has its own, else a scene."""
        run = self.queue.run(name)
        settings = from_json(TrainingSettings, run.job["settings"])
        if (photos := run.folder / PHOTOS).is_dir():
            return open_photos([str(photos)]).split(settings.held_out)["test"][0].path
        factors = fit_config(settings, self.inspector.vlm).factors
        scenes = held_out_scenes(factors, 1)
        return scenes[min(scenes)].describe(0)  # which the run's samples begin with

    def start(
        self, name: str, values: Values, archive: str | None = None, device: str | None = None, seeds: int = 1
    ) -> dict[str, Any]:
        """Puts a run at the end of the queue, or one for each of several seeds.

        Args:
            name: Of the run. Of a preset's name a free name like it is made; any other is taken as it is. Of several
                seeds each puts its own behind.
            values: Settings that differ from their defaults.
            archive: A zip of photos; None where none are learned from.
            device: One of `devices`; None or "" is a free one.
            seeds: How many runs, from the settings' seed on.

        Returns:
            {"name": the first run's name, "names": all, "broken": [[file, reason], …] of the archive}.
        """
        vlm, vae, device = self.inspector.vlm, self.inspector.vae, self._checked_device(device or self.free_device())
        settings = from_json(TrainingSettings, values)
        seeds = whole(seeds, "seeds", 1, MAX_SEEDS)
        archive = archive if settings.uses_photos else None
        config = fit_config(settings, vlm, None if archive is None else "uploaded")
        beginnings = self._begun(config)
        used = self.queue.names()
        # A run of several adapters puts what each is behind its name: none of these may be there either.
        ends = [f"-{point}-{kind}".replace("/", "-") for point in config.points for kind in config.kinds]
        used |= {name.removesuffix(end) for name in used for end in ends if len(ends) > 1}
        every = [from_json(TrainingSettings, values | {"seed": settings.seed + k}) for k in range(seeds)]
        is_preset, stem = name in self.presets, name
        names: list[str] = []
        for run_settings in every:
            requested = stem if seeds == 1 else f"{stem}-seed-{run_settings.seed}"
            free = new_name(requested, {*used, *names}) if is_preset else checked_name(requested, {*used, *names})
            names.append(free)
        # The bundled models' names are None to their loaders.
        models: dict[str, Any] = {
            key: None if v == "bundled" else v for key, v in {"model": vlm.name, "vae": vae.name}.items()
        }
        models |= {"spread": True} if vlm.devices[1:] else {}
        models["dtype"] = str(vlm.dtype).removeprefix("torch.")  # latents as the app's own
        pool, split = None, dict[str, int]()
        self.queue.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.queue.root, prefix=".upload-") as place:
            folder = None
            if archive is not None:
                folder, pool = self._unpack(archive, Path(place) / "photos")
                parts = pool.split(config.held_out)  # refuses what is too few
                split = {"learn": len(parts["train"]), "held_out": len(parts["test"]), "asked": config.held_out}
            for name, run_settings in zip(names, every, strict=True):
                job = {"settings": to_json(run_settings), "device": device, "pictures": split, **models}
                self.queue.start(name, job, folder, beginnings)
        broken = [[file.name, file.reason] for file in pool.broken] if pool else []
        return {"name": names[0], "names": names, "broken": broken}

    def startable(self) -> list[str]:
        """What a run may begin from, as settings name it: "post-merge/6 tokens"."""
        trained = [
            record for record in self.inspector.adapters() if record.kind in ONE_POINT and record.kind != "linear"
        ]
        return [f"{record.point} {record.name}" for record in trained]

    def _begun(self, config: FitConfig) -> dict[str, Path]:
        """Folders of the adapters that a run begins from, by the names of the folders that it makes of them."""
        folders: dict[str, Path] = {}
        for text in config.start:
            point, _, name = text.partition(" ")
            record = self.inspector.registry.find_listed(name, point)
            if record.kind == "linear":
                raise InputError(f"{text} is a linear probe, which is solved and not trained: begin from another.")
            if str(record.point) not in config.points or record.kind not in config.kinds:
                raise InputError(
                    f"{text} can be begun from only where a {record.kind} adapter at {record.point} is to be made: "
                    "choose that point and kind too."
                )
            if (key := f"{record.point}-{record.kind}".replace("/", "-")) in folders:
                raise InputError(f"two adapters to begin from are {record.kind} at {record.point}: choose one.")
            folders[key] = record.folder
        return folders

    def free_device(self) -> str:
        """Where a run begins soonest: a device with the fewest runs, not the app's, with the most free memory."""
        alive = [run.job["device"] for run in self.queue.runs() if run.alive()]
        apps = f"cuda:{self.inspector.vlm.device.index or 0}"

        def busy(device: str) -> tuple[int, bool, int]:
            return alive.count(device), device == apps, -memory(torch.device(device))["free"]

        return min(self.devices, key=busy)

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
        """Every run in short, the latest first: name, device, settings, note, state, runs before it, how far it is."""
        return [self._summary(run) for run in self.queue.runs()]

    def _summary(self, run: Run) -> dict[str, Any]:
        state = run.state()
        place = self.queue.place(run) if state["state"] == WAITING else 0
        job = run.job
        settings = self._usual | job["settings"]  # which, of an earlier version, lack newer ones
        about = {"device": job["device"], "settings": settings, "pictures": job.get("pictures", {})}
        return {"name": run.name, **about, "note": run.note, "place": place, **state}

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

    def write_note(self, name: str, text: str) -> None:
        """Keeps a line of at most MAX_NOTE characters about a run."""
        self.queue.run(name).write_note(text)

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
