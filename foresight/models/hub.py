"""A folder on this machine, or an id on the Hugging Face hub: both become a folder."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from tqdm import tqdm

from foresight.errors import InputError
from foresight.models.digests import commit_of

_UNWRITABLE = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


class _Bytes(tqdm):
    """Of the hub's progress bars that of bytes, where a download takes a while: how many of how many, and how fast."""

    patience = 1.0  # seconds
    drawn: list[tqdm]  # of one download

    def __init__(self, *args: Any, **options: Any) -> None:
        options.pop("bar_format", None)
        of_bytes = options.get("unit") == "B" and str(options.get("desc")).startswith("Downloading")
        super().__init__(*args, **options | {"disable": not of_bytes, "delay": self.patience, "mininterval": 0.5})
        self.drawn.append(self)

    def display(self, *args: Any, **options: Any) -> None:
        if self.format_dict["elapsed"] >= self.patience:
            super().display(*args, **options)


@contextmanager
def _bars() -> Iterator[type[_Bytes]]:
    """Bars of one download. The hub's client leaves them open, and every later bar would stand a line lower."""
    drawn: list[tqdm] = []
    try:
        yield type("Bars", (_Bytes,), {"drawn": drawn})
    finally:
        for bar in drawn:
            bar.close()


def folder_of(name: str | Path, files: Sequence[str], what: str) -> Path:
    """The folder `name`, or the hub repository of that id, of which only `files` are downloaded.

    A folder wins over a hub id of the same name. An id may name a branch, tag or commit: owner/name@revision.
    `files` are names or patterns; whether they are there is for the caller to see. `what` names the thing
    ("VAE", "adapter") in the sentence of an InputError, raised where there is no such folder and the hub knows no
    such id, does not give it, or cannot be reached.
    """
    if (folder := _folder(name)) is not None:
        return folder
    repository, _, revision = str(name).partition("@")
    try:
        with _bars() as bars:
            snapshot = snapshot_download(
                repository, revision=revision or None, allow_patterns=list(files), tqdm_class=bars
            )
    except HFValidationError as error:
        raise InputError(
            f"{what} {str(name)!r} is neither a folder nor a hub id (owner/name or owner/name@revision)."
        ) from error
    except (OSError, HTTPError) as error:
        raise InputError(
            f"{what} {str(name)!r} is no folder here and could not be fetched from the Hugging Face hub: "
            f"{_reason(error)}."
        ) from error
    return Path(snapshot)


def _folder(name: str | Path) -> Path | None:
    """The folder of that name; None where there is none, or the name can be none."""
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # too long, with a null byte, of a user that there is not
        return None


def pinned(name: str | Path, folder: Path) -> str | Path:
    """A name by which the rest of what `folder_of` found will be of the same commit."""
    commit = commit_of(folder)
    return name if commit is None or _folder(name) is not None else f"{str(name).partition('@')[0]}@{commit}"


def _reason(error: OSError | HTTPError) -> str:
    """Why the hub gave nothing, and what to do about it."""
    if isinstance(error, GatedRepoError):
        return "it is gated: accept its terms on its page there, then run `hf auth login` here"
    if isinstance(error, RevisionNotFoundError):
        return "it has no such revision"
    if isinstance(error, RepositoryNotFoundError):
        return "the hub knows none of that name, or it is private: check the spelling, or run `hf auth login`"
    if isinstance(error, LocalEntryNotFoundError):
        missing = "and not all of it is in this machine's cache"
        if constants.HF_HUB_OFFLINE:
            return f"HF_HUB_OFFLINE keeps this machine off the network, {missing}"
        return f"the hub cannot be reached, {missing}: check the network"
    if isinstance(error, HfHubHTTPError):
        return f"it answered with the error {error.response.status_code}: try again later"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk of its cache {constants.HF_HUB_CACHE} is full: HF_HOME names another place"
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return f"its cache {constants.HF_HUB_CACHE} cannot be written: HF_HOME names another place"
    return f"the download broke off ({type(error).__name__}): try again, what is complete stays"


@lru_cache(64)
def hub_digests(name: str, files: tuple[str, ...]) -> list[str]:
    """SHA-256 of large files of a hub repository, owner/name@commit, which are not downloaded for it.

    Raises InputError where the hub does not tell them.
    """
    repository, _, commit = name.partition("@")
    try:
        infos = HfApi().get_paths_info(repository, list(files), revision=commit)
    except (OSError, HTTPError) as error:
        raise InputError(
            f"{name} is not all here, and the hub could not be asked what its files are: {_reason(error)}."
        ) from error
    digests = {info.path: info.lfs.sha256 for info in infos if isinstance(info, RepoFile) and info.lfs}
    if missing := sorted(set(files) - digests.keys()):
        raise InputError(f"{name} has no weights {missing[0]}.")
    return list(digests.values())
