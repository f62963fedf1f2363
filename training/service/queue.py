"""The queue of runs: each a folder, and a process of its own that waits its turn, works, and outlives the page.

What a run is and how far it got are files in its folder, which any page can read:
    job.json        what was asked for, the device, the ticket that orders the queue, and seconds spent so far
    state.json      state, message, and how far it is
    log.jsonl       losses, rate and memory, a line a second or so
    held_out.jsonl  scores on held-out images now and then
    samples.png     held-out images and what the adapters make of them by now
    output.txt      what the last process printed
    note.txt        what a person wrote about it
    pid             of the last process, written before anybody can stop it
A process holds a lock on its folder as long as it lives, so that even kill -9 is noticed at once.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foresight.errors import InputError
from foresight.paths import RUNS, replacing

WAITING, DONE, STOPPED, FAILED, CUT = "waiting", "done", "stopped", "failed", "cut off"
ENDED = (DONE, STOPPED, FAILED, CUT)
STOP = "stop"  # a file that is there once somebody asked for the end
PID = "pid"
NOTE, MAX_NOTE = "note.txt", 200  # characters
BEGUN = "start"  # the folder of adapters that a run begins from, each under the name that it will have
PHOTOS = "pictures"  # the folder of an upload
_ERROR = re.compile(r"[\w.]+Error: ")  # as Python ends a traceback
ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE"}  # threads that wait spin otherwise, and take the cores of whoever clicks
LOCK_TRIES = 20  # of 10 ms each, since whoever asks whether a run is alive holds its lock for an instant


def write_json(path: Path, value: Any) -> None:
    """Writes a file whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=1), encoding="utf-8")


def delete_atomically(folder: Path) -> None:
    """Deletes a folder: its name is free at once, and nobody sees it half deleted."""
    hidden = folder.with_name(f".{folder.name}")
    if hidden.exists():  # left where a process was cut off
        shutil.rmtree(hidden)
    folder.rename(hidden)
    shutil.rmtree(hidden)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log in order of their "step"; those that a resumed run made again count once."""
    records: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else ():
        if line.endswith("\n"):
            record = json.loads(line)
            while records and records[-1]["step"] >= record["step"]:
                records.pop()
            records.append(record)
    return records


@dataclass(frozen=True)
class Run:
    """A run's folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def job(self) -> dict[str, Any]:
        return json.loads((self.folder / "job.json").read_text(encoding="utf-8"))

    @property
    def note(self) -> str:
        path = self.folder / NOTE
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def write_note(self, text: str) -> None:
        """Raises InputError where it is longer than MAX_NOTE characters."""
        if len(text := " ".join(text.split())) > MAX_NOTE:
            raise InputError(f"a note has at most {MAX_NOTE} characters, not {len(text)}.")
        (self.folder / NOTE).write_text(text, encoding="utf-8")

    @contextmanager
    def launching(self) -> Iterator[None]:
        """Within it nobody else launches or stops the run, so that its pid is that of the process that lives."""
        with (self.folder / "launch").open("a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def alive(self) -> bool:
        """Whether its process holds the lock."""
        try:
            with (self.folder / "lock").open("a", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:  # removed meanwhile
            return False
        return False

    def write_state(self, state: str, message: str = "", **more: Any) -> None:
        """Writes how far the run is. more: JSON values such as done, total, unit and seconds."""
        write_json(self.folder / "state.json", {"state": state, "message": message, **more})

    def write_failure(self, message: str) -> None:
        """Writes why the run cannot go on, and keeps how far it was."""
        before = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        self.write_state(**before | {"state": FAILED, "message": message})

    def state(self) -> dict[str, Any]:
        """What its process wrote last; STOPPED where that was asked to end, CUT where it died unasked."""
        path = self.folder / "state.json"
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if state["state"] not in ENDED and not self.alive():
            state = json.loads(path.read_text(encoding="utf-8"))  # it may have ended between reading and asking
            if state["state"] not in ENDED:
                to_stop = (self.folder / STOP).exists()
                return state | ({"state": STOPPED} if to_stop else {"state": CUT, "message": self._last_error()})
        return state

    def _last_error(self) -> str:
        lines = (self.folder / "output.txt").read_text(errors="replace", encoding="utf-8").splitlines()
        errors = (line for line in reversed(lines) if _ERROR.match(line))  # CUDA and its compiler add advice below
        error = next(errors, "its process ended without a word")
        return f"{error[:300]}; what it learned so far is kept, and it can be resumed."


class JobQueue:
    """All runs under `root`/train, a queue for each device; their adapters go to `root`/adapters."""

    def __init__(self, root: str | Path = RUNS) -> None:
        self.root = Path(root).absolute()
        self.folder, self.adapters = self.root / "train", self.root / "adapters"

    def runs(self) -> list[Run]:
        """Every run, the latest first."""
        return [run for run, _ in self._jobs()]

    def _jobs(self) -> list[tuple[Run, dict[str, Any]]]:
        """Every run with its job, the latest first, without those that are removed meanwhile."""
        jobs = list[tuple[Run, dict[str, Any]]]()
        for path in self.folder.glob("[!.]*/job.json"):
            with suppress(FileNotFoundError):
                jobs.append((Run(path.parent), Run(path.parent).job))
        return sorted(jobs, key=lambda pair: pair[1]["ticket"], reverse=True)

    def run(self, name: str) -> Run:
        """Raises InputError where there is none of that name."""
        for run in self.runs():
            if run.name == name:
                return run
        raise InputError(f"there is no run {name!r}.")

    def names(self) -> set[str]:
        """What no new run or adapter may be called."""
        return {path.name for folder in (self.folder, self.adapters) if folder.exists() for path in folder.iterdir()}

    def start(
        self, name: str, job: dict[str, Any], photos: Path | None = None, begun: Mapping[str, Path] | None = None
    ) -> Run:
        """Puts a new run at the end of the queue.

        Args:
            name: Of the run, which none has yet.
            job: JSON values with "device".
            photos: A folder of files on this disk, which become the run's own too.
            begun: Adapters that are copied, by the names of those that begin from them.

        Raises:
            InputError: The disk does not take it.
        """
        folder = self.folder / name
        try:
            folder.mkdir(parents=True)
            for adapter, source in (begun or {}).items():
                shutil.copytree(source, folder / BEGUN / adapter)
            if photos is not None:
                shutil.copytree(photos, folder / PHOTOS, copy_function=os.link)  # other runs may learn from them too
            (folder / "output.txt").touch()
            Run(folder).write_state(WAITING)
            write_json(folder / "job.json", job | {"ticket": time.time_ns()})  # last, as it makes the folder a run
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)  # its name is free again
            reason = str(error.strerror or error).lower()  # of a copied folder there are several
            raise InputError(f"the run {name!r} cannot be kept: {reason}.") from error
        self._launch(Run(folder))
        return Run(folder)

    def stop(self, name: str) -> None:
        """Asks a run's process to end; it can be resumed. Raises InputError where it runs no more."""
        run = self.run(name)
        with run.launching():
            if not run.alive():
                raise InputError(f"the run {name!r} is not running.")
            (run.folder / STOP).touch()
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.kill(int((run.folder / PID).read_text(encoding="utf-8")), signal.SIGTERM)

    def resume(self, name: str) -> None:
        """Puts a run that was stopped, cut off or failed at the end of the queue again; its time goes on."""
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
        """Notes in the runs that made the adapter `name` that its name is `to` now."""
        for run in self.runs():
            state = run.state()
            if name in state.get("adapters", ()):
                run.write_state(
                    **state | {"adapters": [to if adapter == name else adapter for adapter in state["adapters"]]}
                )

    def place(self, run: Run) -> int:
        """How many runs are before it on its device: 0 is its turn."""
        device, ticket = run.job["device"], run.job["ticket"]
        before = [r for r, job in self._jobs() if job["device"] == device and job["ticket"] < ticket]
        return sum(r.alive() for r in before)

    def _launch(self, run: Run) -> None:
        lock = (run.folder / "lock").open("a", encoding="utf-8")
        with run.launching(), lock, (run.folder / "output.txt").open("w", encoding="utf-8") as output:
            for tried in range(LOCK_TRIES):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if tried == LOCK_TRIES - 1:
                        raise InputError(f"the run {run.name!r} is running already.") from error
                    time.sleep(0.01)
            (run.folder / STOP).unlink(missing_ok=True)
            run.write_state(WAITING)
            # It inherits the lock, and with it the proof that it lives. A session of its own outlives the server.
            variables = {"PYTHONPATH": os.pathsep.join(sys.path), "FORESIGHT_LOCK": str(lock.fileno())}
            variables["PYTHONIOENCODING"] = "utf-8"  # of its output.txt
            process = subprocess.Popen(
                [sys.executable, "-m", "training.service.worker", str(run.folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=[lock.fileno()],
                env=ASLEEP | os.environ | variables,
            )
            (run.folder / PID).write_text(str(process.pid), encoding="utf-8")
