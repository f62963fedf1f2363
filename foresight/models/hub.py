"""A folder on this machine, or an id on the Hugging Face hub: both become a folder."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError, HTTPError
from huggingface_hub.hf_api import RepoFile

from foresight.errors import InputError


def folder_of(name: str | Path, files: Sequence[str], what: str) -> Path:
    """The folder `name`, or the hub repository of that id, of which only `files` are downloaded.

    A folder wins over a hub id of the same name. `files` are names or patterns; whether they are there is for
    the caller to see. `what` names the thing ("VAE", "adapter") in the sentence of an InputError, raised at
    once where there is no such folder and the hub knows no such id or cannot be reached.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    try:
        return Path(snapshot_download(str(name), allow_patterns=list(files)))
    except HFValidationError as error:
        raise InputError(f"{what} {str(name)!r} is neither a folder nor a hub id (owner/name).") from error
    # OSError: offline, unknown, private or gated, full disk. HTTPError: a proxy that does not answer.
    except (OSError, HTTPError) as error:
        raise InputError(
            f"{what} {str(name)!r} is no folder here and could not be fetched from the Hugging Face hub "
            f"({type(error).__name__}): check the spelling and the network."
        ) from error


@lru_cache(64)
def hub_digests(name: str, commit: str, files: tuple[str, ...]) -> list[str]:
    """SHA-256 of large files at a commit of a hub repository, which are not downloaded for it.

    Raises InputError where the hub does not tell them.
    """
    try:
        infos = HfApi().get_paths_info(name, list(files), revision=commit)
    except (OSError, HTTPError) as error:
        raise InputError(
            f"{name} is not all here, and the Hugging Face hub could not be asked what its files are "
            f"({type(error).__name__}): check the network."
        ) from error
    digests = {info.path: info.lfs.sha256 for info in infos if isinstance(info, RepoFile) and info.lfs}
    if missing := sorted(set(files) - digests.keys()):
        raise InputError(f"{name} has no weights {missing[0]} at {commit}.")
    return list(digests.values())
