"""Files between the browser and the tabs: what people hand in, and the pictures that tabs show of their own."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import quote

import gradio as gr
from gradio.components import Component
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from foresight.archive import Broken, File, unpack
from foresight.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")


def telling_each(function: Callable[P, Iterator[R]]) -> Callable[P, Iterator[R]]:
    """`calls.telling` for a generator: its InputErrors are shown as they are, and what it yielded before stays."""

    @functools.wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        try:
            yield from function(*args, **kwargs)
        except InputError as error:
            sentence = str(error)[:1].upper() + str(error)[1:]
            raise gr.Error(escape(sentence, quote=False), print_exception=False) from error

    return told


def only_uploads(files: gr.File) -> gr.File:
    """Makes an input refuse addresses, which Gradio would fetch for anybody, however large the file there."""
    move = files.async_move_resource_to_block_cache

    async def move_local(source: str | Path | None) -> str | None:
        if str(source).lower().startswith(("http:", "https:")):
            raise gr.Error("Send the pictures as files: addresses are not fetched.", print_exception=False)
        return await move(source)

    files.async_move_resource_to_block_cache = move_local  # type: ignore[assignment, method-assign]
    return files


def handed_in(paths: Sequence[str] | None, keeper: Component) -> list[File | Broken]:
    """What uploaded files hold: pictures, and those inside zip archives. `keeper` sees to it that they are deleted.

    Raises InputError where there is nothing, or an archive cannot be used at all.
    """
    if not paths:
        raise InputError("choose pictures or a zip archive first.")
    found: list[File | Broken] = []
    for path in map(Path, paths):
        if path.suffix.lower() != ".zip":
            found.append(File(path.name[-80:], path))
            continue
        folder = Path(get_upload_folder()) / secrets.token_hex(16)
        folder.mkdir(parents=True)
        for item in unpack(path, folder):
            found.append(item)
            if isinstance(item, File):
                keeper.temp_files.add(str(item.path))
    if not found:
        raise InputError("there is no picture in what was uploaded.")
    return found


def keep(data: bytes, name: str, keeper: Component) -> str:
    """Writes a file that the page may show; returns its path. `keeper` sees to it that it is deleted in time."""
    path = save_bytes_to_cache(data, name, get_upload_folder())
    keeper.temp_files.add(path)
    return path


def address(path: str) -> str:
    """Where the page finds a file of `keep`, relative to the page's own address."""
    return f"gradio_api/file={quote(path)}"
