"""What tells one checkpoint from another of the same name: digests of its files, computed once and kept."""

import hashlib
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from tqdm import tqdm

from foresight import paths

LARGE = 64 << 20  # bytes of a file from which its digest is kept on the disk


def commit_of(folder: Path) -> str | None:
    """The hub's commit, where a folder is a snapshot in the hub's cache."""
    snapshot = folder.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", folder.name)
    return folder.name if snapshot else None


def file_digest(path: Path) -> str:
    """SHA-256 of a file. The hub's cache names large files after it; others are read, large ones only once."""
    target = path.resolve()
    if target.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", target.name):
        return target.name
    stat = target.stat()
    return _digest(target, stat.st_size, stat.st_mtime_ns)


def files_digest(paths: Iterable[Path]) -> str:
    """One digest of several files, whatever their names and folder."""
    return joined(file_digest(path) for path in paths)


def joined(digests: Iterable[str]) -> str:
    """One digest of several, in any order."""
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def json_digest(values: object) -> str:
    """A digest of JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def revision(folder: Path) -> str:
    """What tells a checkpoint's folder from all others: the hub's commit, or a digest of its configs and weights."""
    files = [*folder.rglob("config.json"), *folder.rglob("*.safetensors")]
    return commit_of(folder) or files_digest(files)[:40]


@lru_cache(256)
def _digest(path: Path, size: int, changed: int) -> str:
    key, cache = f"{path} {size} {changed}", paths.CACHE / "digests.json"
    if size >= LARGE and (known := _read(cache).get(key)):
        return known
    digest = hashlib.sha256()
    bar = tqdm(total=size, desc=f"what {path.name} holds", unit="B", unit_scale=True, delay=1, leave=False)
    with path.open("rb") as file, bar:
        while block := file.read(1 << 24):
            digest.update(block)
            bar.update(len(block))
    if size >= LARGE:
        _write(cache, _read(cache) | {key: digest.hexdigest()})
    return digest.hexdigest()


def _read(cache: Path) -> dict[str, str]:
    try:
        return dict(json.loads(cache.read_bytes()))
    except (OSError, ValueError, TypeError):  # nothing there yet, or cut short: they are computed again
        return {}


def _write(cache: Path, digests: dict[str, str]) -> None:
    with suppress(OSError):  # a machine that keeps nothing: they are computed again at the next start
        cache.parent.mkdir(parents=True, exist_ok=True)
        with paths.replacing(cache, shared=True) as partial:
            partial.write_text(json.dumps(digests, indent=1), encoding="utf-8")
