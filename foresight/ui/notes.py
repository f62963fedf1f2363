"""Tags and notes that a person gives to pictures, kept by what a picture is, not by where it was found."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from foresight.errors import InputError
from foresight.paths import replacing
from foresight.ui.services import ImageSource

MOST = 500  # characters of a note, or of all tags of a picture


@dataclass(frozen=True)
class Note:
    """Of one picture. tags: each once, in order."""

    tags: tuple[str, ...] = ()
    text: str = ""

    @classmethod
    def of(cls, tags: str, text: str) -> Note:
        """A note as it is typed, its tags separated by commas. Raises InputError for one that is too long."""
        if max(len(tags), len(text)) > MOST:
            raise InputError(f"tags and note take up to {MOST} characters each.")
        names = (" ".join(name.split()) for name in tags.split(","))
        return cls(tuple(dict.fromkeys(name for name in names if name)), " ".join(text.split()))


class Notes:
    """The notes by the keys of their pictures; in a file, or as long as the app runs."""

    def __init__(self, file: Path | None = None) -> None:
        """Reads nothing yet. file: None keeps them in memory alone."""
        self._file, self._lock = file, threading.Lock()
        self._notes: dict[str, Note] | None = None if file else {}

    def get(self, key: str) -> Note:
        """A picture's note, which may be empty. Raises InputError where the file cannot be read."""
        return self._read().get(key, Note())

    def put(self, key: str, note: Note) -> None:
        """Keeps a picture's note; an empty one is forgotten. Raises InputError where the file cannot be written."""
        with self._lock:
            notes = {**self._read(), key: note}
            if note == Note():
                del notes[key]
            if self._file:
                try:
                    self._file.parent.mkdir(parents=True, exist_ok=True)
                    text = json.dumps({k: asdict(v) for k, v in notes.items()}, indent=1)
                    with replacing(self._file) as partial:
                        partial.write_text(text, encoding="utf-8")
                except OSError as error:
                    raise InputError(f"the note cannot be kept in {str(self._file)!r}: {error.strerror}.") from error
            self._notes = notes

    def tags(self, keys: Iterable[str]) -> list[str]:
        """The tags that some of these pictures have, in the order of the alphabet."""
        notes = self._read()
        return sorted({tag for key in keys if key in notes for tag in notes[key].tags})

    def _read(self) -> dict[str, Note]:
        if self._notes is None:
            self._notes = self._parsed() if self._file and self._file.exists() else {}
        return self._notes

    def _parsed(self) -> dict[str, Note]:
        assert self._file is not None
        try:
            notes = json.loads(self._file.read_text(encoding="utf-8"))
            return {str(k): Note(tuple(map(str, v["tags"])), str(v["text"])) for k, v in notes.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"the notes in {str(self._file)!r} cannot be read: move that file away.") from error


def key_of(source: ImageSource) -> str:
    """What a picture's note is kept by: of a scene its description's digest, of a file its bytes'; "" of neither."""
    if source is None:
        return ""
    data = Path(source).read_bytes() if isinstance(source, str) else json.dumps(source, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()[:20]
