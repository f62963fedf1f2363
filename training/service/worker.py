"""A run's process: waits for its turn in the queue, then works. Waiting needs neither torch nor memory."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from foresight.errors import InputError
from training.service.queue import JobQueue, Run

POLL = 0.3  # seconds between two readings of the queue
GRACE = 10  # seconds that a process has to end by itself


class Stopped(BaseException):
    """The process was asked to end. No Exception, which libraries catch and go on after."""


def end_on_sigterm(grace: int = GRACE) -> None:
    """SIGTERM raises Stopped in this process; where a library swallows even that, it is killed `grace` seconds on."""

    def stop(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        signal.alarm(grace)  # SIGALRM has no handler: it ends the process, whatever that does by then
        raise Stopped

    signal.signal(signal.SIGTERM, stop)


def main(folder: str) -> int:
    """Works on the run in `folder` when its turn has come; 2 where it failed for a reason that it wrote down."""
    end_on_sigterm()
    os.set_inheritable(int(os.environ.pop("FORESIGHT_LOCK")), False)
    run = Run(Path(folder))
    queue = JobQueue(run.folder.parents[1])
    try:
        while queue.place(run):
            time.sleep(POLL)
        run.write_state("starting")
        if run.job["device"] == "cpu":
            os.nice(5)  # the app, which somebody waits for, goes first
        from training.service.job import run_job  # here: a waiting run needs no torch

        run_job(run, queue)
    except Stopped:
        return 0
    except InputError as error:
        run.write_failure(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
