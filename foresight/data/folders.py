"""The files of a folder that people name."""

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from foresight.errors import InputError

MOST = 100_000  # files of a kind in one folder


def files_in(folder: str | Path, suffixes: Sequence[str], noun: str) -> list[Path]:
    """What has one of the suffixes, sorted; hidden files are passed over. noun: what people call such files.

    Raises InputError where there is none, there are over MOST, or the folder cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"there is no folder {str(folder)!r}.")
    try:
        with os.scandir(root) as entries:
            names = (entry.name for entry in entries if not entry.name.startswith("."))
            files = list(islice((root / n for n in names if Path(n).suffix.lower() in suffixes), MOST + 1))
    except OSError as error:
        raise InputError(f"the folder {str(folder)!r} cannot be read: {error.strerror}.") from error
    if not files:
        raise InputError(f"the folder {str(folder)!r} has no {noun} ({', '.join(suffixes)}).")
    if len(files) > MOST:
        raise InputError(f"the folder {str(folder)!r} has over {MOST:,} {noun}: take a part of them.")
    return sorted(files)
