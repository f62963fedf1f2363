"""Runs in line: each a folder, and a process of its own that waits its turn, works, and outlives the page.

What a run is and how far it got are files in its folder, which any page can read:
    job.json        what was asked for, the device, the ticket that gives the place in line, and seconds spent so far
    state.json      state, message, and how far it is
    log.jsonl       losses, rate and memory, a line a second or so
    held_out.jsonl  scores on held-out pictures now and then
    samples.png     held-out pictures and what the adapters make of them by now
    output.txt      what the last process printed
A process holds a lock on its folder as long as it lives, so that even kill -9 is noticed at once.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foresight.errors import InputError
from foresight.paths import RUNS

WAITING, DONE, STOPPED, FAILED, CUT = "waiting", "done", "stopped", "failed", "cut off"
ENDED = (DONE, STOPPED, FAILED, CUT)
STOP = "stop"  # a file that is there once somebody asked for the end
_ERROR = re.compile(r"[\w.]+Error: ")  # as Python ends a traceback
TRIES = 20  # of 10 ms each to get a lock, since whoever looks holds it for an instant


def write_json(path: Path, value: Any) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=1))
    os.replace(partial, path)


def delete_atomically(folder: Path) -> None:
    """Deletes a folder: its name is free at once, and one that is half deleted is nothing any more."""
    grave = folder.with_name(f".{folder.name}")
    if grave.exists():  # left where a process was cut off
        shutil.rmtree(grave)
    folder.rename(grave)
    shutil.rmtree(grave)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log in order of their "step"; those that a resumed run made again count once."""
    found: list[dict[str, Any]] = []
    for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
        if line.endswith("\n"):
            record = json.loads(line)
            while found and found[-1]["step"] >= record["step"]:
                found.pop()
            found.append(record)
    return found


@dataclass(frozen=True)
class Run:
    """A run's folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def job(self) -> dict[str, Any]:
        return json.loads((self.folder / "job.json").read_text())

    def alive(self) -> bool:
        """Whether its process holds the lock."""
        try:
            with (self.folder / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:  # removed meanwhile
            return False
        return False

    def tell(self, state: str, message: str = "", **more: Any) -> None:
        """Notes how far it is."""
        write_json(self.folder / "state.json", {"state": state, "message": message, **more})

    def fail(self, message: str) -> None:
        """Notes why it cannot go on, and keeps how far it was."""
        before = json.loads((self.folder / "state.json").read_text())
        self.tell(**before | {"state": FAILED, "message": message})

    def state(self) -> dict[str, Any]:
        """What it noted last; STOPPED where its process was told to end, CUT where it is gone without a word."""
        path = self.folder / "state.json"
        found = json.loads(path.read_text())
        if found["state"] not in ENDED and not self.alive():
            found = json.loads(path.read_text())  # it may have ended between the two looks
            if found["state"] not in ENDED:
                told = (self.folder / STOP).exists()
                return found | ({"state": STOPPED} if told else {"state": CUT, "message": self._last_words()})
        return found

    def _last_words(self) -> str:
        lines = (self.folder / "output.txt").read_text(errors="replace").splitlines()
        errors = (line for line in reversed(lines) if _ERROR.match(line))  # CUDA and its compiler add advice below
        told = next(errors, "its process ended without a word")
        return f"{told[:300]}; what it learned so far is kept, and it can be resumed."


class JobQueue:
    """All runs under `root`/train, in line for the devices; their adapters go to `root`/adapters."""

    def __init__(self, root: str | Path = RUNS) -> None:
        self.root = Path(root).absolute()
        self.folder, self.adapters = self.root / "train", self.root / "adapters"

    def runs(self) -> list[Run]:
        """Every run, the latest first."""
        return [run for run, _ in self._jobs()]

    def _jobs(self) -> list[tuple[Run, dict[str, Any]]]:
        """Every run with its job, the latest first; what is removed while this looks is none."""
        found = list[tuple[Run, dict[str, Any]]]()
        for path in self.folder.glob("[!.]*/job.json"):
            with suppress(FileNotFoundError):
                found.append((Run(path.parent), Run(path.parent).job))
        return sorted(found, key=lambda pair: pair[1]["ticket"], reverse=True)

    def run(self, name: str) -> Run:
        """Raises InputError where there is none of that name."""
        for run in self.runs():
            if run.name == name:
                return run
        raise InputError(f"there is no run {name!r}.")

    def names(self) -> set[str]:
        """What no new run or adapter may be called."""
        return {path.name for folder in (self.folder, self.adapters) if folder.exists() for path in folder.iterdir()}

    def start(self, name: str, job: dict[str, Any], pictures: Path | None = None) -> Run:
        """Puts a new run in line. job: JSON values with "device". pictures: a folder that becomes the run's own."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        if pictures is not None:
            shutil.move(pictures, folder / "pictures")
        (folder / "output.txt").touch()
        Run(folder).tell(WAITING)
        write_json(folder / "job.json", job | {"ticket": time.time_ns()})  # last, as it makes the folder a run
        self._launch(Run(folder))
        return Run(folder)

    def stop(self, name: str) -> None:
        """Tells a run's process to end; it can be resumed. Raises InputError where it runs no more."""
        run = self.run(name)
        if not run.alive():
            raise InputError(f"the run {name!r} is not running.")
        (run.folder / STOP).touch()
        with suppress(ProcessLookupError):  # it ended meanwhile
            os.kill(int((run.folder / "pid").read_text()), signal.SIGTERM)

    def resume(self, name: str) -> None:
        """Puts a run that was stopped, cut off or failed at the end of the line again; its time goes on."""
        run = self.run(name)
        before, job = run.state(), run.job
        if before["state"] not in (STOPPED, FAILED, CUT):
            raise InputError(
                f"the run {name!r} is {before['state']}: only one that was stopped or cut off can be resumed."
            )
        spent = before.get("seconds", job.get("spent", 0.0))
        write_json(run.folder / "job.json", job | {"ticket": time.time_ns(), "spent": spent})
        self._launch(run)

    def remove(self, name: str) -> None:
        """Deletes a run's folder; adapters that it made stay. Raises InputError while it is running."""
        run = self.run(name)
        if run.alive():
            raise InputError(f"the run {name!r} is still running: stop it first.")
        delete_atomically(run.folder)

    def rename_adapter(self, name: str, to: str) -> None:
        """Tells the runs that made the adapter `name` that it goes by `to` now."""
        for run in self.runs():
            state = run.state()
            if name in state.get("adapters", ()):
                run.tell(**state | {"adapters": [to if each == name else each for each in state["adapters"]]})

    def place(self, run: Run) -> int:
        """How many runs are before it on its device: 0 is its turn."""
        mine = run.job
        before = [r for r, job in self._jobs() if job["device"] == mine["device"] and job["ticket"] < mine["ticket"]]
        return sum(r.alive() for r in before)

    def _launch(self, run: Run) -> None:
        lock = (run.folder / "lock").open("a")
        with lock, (run.folder / "output.txt").open("w") as output:
            for tried in range(TRIES):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if tried == TRIES - 1:
                        raise InputError(f"the run {run.name!r} is running already.") from error
                    time.sleep(0.01)
            (run.folder / STOP).unlink(missing_ok=True)
            run.tell(WAITING)
            # It inherits the lock, and with it the proof that it lives. A session of its own outlives the server.
            process = subprocess.Popen(
                [sys.executable, "-m", "training.service.worker", str(run.folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=[lock.fileno()],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "FORESIGHT_LOCK": str(lock.fileno())},
            )
            (run.folder / "pid").write_text(str(process.pid))
