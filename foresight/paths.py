"""Where Foresight finds what it ships, and where it keeps what people make with it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foresight.errors import InputError

_PACKAGE = Path(__file__).parent
# A wheel carries assets/ inside the package; a checkout has it beside the package.
ASSETS = _PACKAGE / "assets" if (_PACKAGE / "assets").is_dir() else _PACKAGE.parent / "assets"

# Runs, their adapters and studies. The app's flag --runs sets the variable before anything is imported.
RUNS = Path(os.environ.get("FORESIGHT_RUNS") or "runs").expanduser()

# What is computed once and may be deleted at any time.
CACHE = Path(os.environ.get("FORESIGHT_CACHE") or "~/.cache/foresight").expanduser()


def check_output(folder: Path) -> None:
    """Raises InputError where a folder can neither be made nor written into; makes nothing.

    Called before the work whose results it is for, not after.
    """
    try:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
            return
        fault = "it cannot be written to" if nearest.is_dir() else f"{str(nearest)!r} is a file"
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        fault = str(error.strerror).lower()
    raise InputError(f"nothing can be put into {str(folder)[:80]!r}: {fault}.")


def make_folder(folder: Path) -> Path:
    """The folder, which is made where it is not there. Raises InputError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {str(folder)!r} cannot be made: {error.strerror}.") from error
    return folder


def sync(path: Path) -> None:
    """Hands the content of a file, or the names in a folder, to the disk, so that they outlast a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path, durable: bool = False, shared: bool = False) -> Iterator[Path]:
    """Gives a path to write to, whose file takes the place of `path` when the block ends: whole or not at all.

    durable: it is on the disk by then. shared: several processes may write it at once, each a file of its own; without
    it, what a process that was killed left behind is written over.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial" if shared else f".{path.name}.partial")
    try:
        yield partial
        if durable:
            sync(partial)
        os.replace(partial, path)
        if durable:
            sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)
