"""A run's process: waits for its turn in line, then works. Waiting needs neither torch nor memory."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from foresight.errors import InputError
from training.service.queue import JobQueue, Run

TURN = 0.3  # seconds between looks at the line


class Stopped(Exception):
    """The process was told to end."""


def _stop(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise Stopped


def main(folder: str) -> int:
    """Works on the run in `folder` when its turn has come; 2 where it failed for a reason that it noted."""
    signal.signal(signal.SIGTERM, _stop)
    os.set_inheritable(int(os.environ.pop("FORESIGHT_LOCK")), False)
    run = Run(Path(folder))
    line = JobQueue(run.folder.parents[1])
    try:
        while line.place(run):
            time.sleep(TURN)
        run.tell("starting")
        if run.job["device"] == "cpu":
            os.nice(5)  # the app, which somebody waits for, goes first
        from training.service.job import work  # here: a run in line needs no torch

        work(run, line)
    except Stopped:
        return 0
    except InputError as error:
        run.fail(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
