"""Pictures out of zip archives from anybody: nothing is believed, nothing is written where the archive says."""

import mmap
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from foresight.data.names import printable, shortened
from foresight.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
MAX_FILES = 2_000
MAX_BYTES = 512 * 2**20  # of all pictures together, unpacked
MAX_FILE = 64 * 2**20  # of one
MAX_RATIO = 200  # unpacked to packed, of a file over SMALL: a photo has 1, a flat bitmap may have more
SMALL = 2**20
MAX_SPREAD = 20  # unpacked to packed, of an archive that unpacks to over ROOM
ROOM = 64 * 2**20

_HIDDEN = ("__MACOSX",)  # what one system adds to every archive; names with a leading dot are hidden too
_ENTRY = re.compile(rb"PK\x01\x02")  # each entry of an archive's directory begins so
_BROKEN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError)


class File(NamedTuple):
    """A picture's file, and the name it had where it came from."""

    name: str
    path: Path


@dataclass(frozen=True)
class Broken:
    """A file that is no picture, and why."""

    name: str
    reason: str

    def as_json(self) -> dict[str, str]:
        """Plain JSON values."""
        return {"image": self.name, "reason": self.reason}


def unpack(archive: str | Path, folder: str | Path, left: int | None = None) -> Iterator[File | Broken]:
    """Writes an archive's pictures into `folder`, one by one, and yields each; what is left out, with the reason.

    Files are numbered, whatever they are called inside. Folders and hidden files are passed over in silence.
    Links, encrypted files, files with no picture's suffix, damaged ones and those beyond the limits are left
    out. left: bytes that may be written, None for MAX_BYTES; a small archive may write fewer. Raises InputError,
    before anything is written, where the whole is no zip archive or has too many files.
    """
    source, left = Path(archive), MAX_BYTES if left is None else left
    with _open(source, shortened(source.name)) as opened:
        left = most = min(left, max(ROOM, MAX_SPREAD * source.stat().st_size))
        for number, entry in enumerate(e for e in opened.infolist() if not _hidden(e)):
            name = printable(entry.filename)
            reason = _objection(entry, left, most)
            if reason is None:
                try:
                    data = _read(opened, entry)
                except _BROKEN:
                    reason = "it is damaged inside the archive"
            if reason is not None:
                yield Broken(name, f"{reason}.")
                continue
            left -= len(data)
            path = Path(folder) / f"{number:04d}{PurePosixPath(entry.filename).suffix.lower()}"
            path.write_bytes(data)
            yield File(name, path)


def _open(source: Path, name: str) -> zipfile.ZipFile:
    try:
        # Counted before it is parsed: an archive of a few megabytes can list a million empty files.
        with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            entries = sum(1 for _ in _ENTRY.finditer(content))
        if entries > MAX_FILES:
            raise InputError(f"“{name}” holds {entries:,} files: at most {MAX_FILES:,} are allowed.")
        return zipfile.ZipFile(source)
    except InputError:
        raise
    except _BROKEN as error:  # an empty file cannot be mapped: ValueError
        raise InputError(f"“{name}” is no zip archive, or is broken.") from error


def _read(opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with opened.open(entry) as file:
        # Never more than it declares, which `_objection` has seen; without a number, all would be inflated first.
        return file.read(entry.file_size + 1)


def _hidden(entry: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(entry.filename).parts
    folder = entry.filename.endswith("/")  # not is_dir(), which fails at an entry without a name
    return folder or any((part.startswith(".") and part != "..") or part in _HIDDEN for part in parts)


def _objection(entry: zipfile.ZipInfo, left: int, most: int) -> str | None:
    """Why an entry is not unpacked; None where it may be. left: bytes of the `most` that there were at first."""
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "it is a link"
    if PurePosixPath(entry.filename).suffix.lower() not in SUFFIXES:
        return f"it is not named like a picture ({', '.join(SUFFIXES)})"
    if entry.flag_bits & 1:
        return "it is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "it is packed in a way other than deflate"
    if entry.file_size > MAX_FILE:
        return f"it is over {MAX_FILE // 2**20} MB"
    if entry.file_size > max(SMALL, MAX_RATIO * entry.compress_size):
        return f"it would unpack to more than {MAX_RATIO} times its size"
    if entry.file_size > left:
        return f"the pictures together are over {most // 2**20} MB"
    return None
