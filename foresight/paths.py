"""Where Foresight finds what it ships, and where it keeps what people make with it."""

from __future__ import annotations

import os
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
