"""Files between the browser and the tabs: what people hand in, and the pictures that tabs show of their own."""

from __future__ import annotations

import functools
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from html import escape
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import quote

import gradio as gr
from gradio.components import Component
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from foresight import archive
from foresight.archive import Broken, File
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


def handed_in(paths: Sequence[str] | None, keeper: Component, check: Callable[[int], None]) -> list[File | Broken]:
    """What uploaded files hold: pictures, and those inside zip archives. `keeper` sees to it that they are deleted.

    check: told how many there are so far, before more is unpacked; raises InputError where these are too many.
    Raises InputError, too, where there is nothing, or an archive cannot be used at all. What was unpacked by then
    is deleted.
    """
    if not paths:
        raise InputError("choose pictures or a zip archive first.")
    found: list[File | Broken] = []
    unpacked: list[Path] = []
    left = archive.MAX_BYTES  # for all archives together
    with ExitStack() as undo:
        for path in map(Path, paths):
            items: Iterable[File | Broken] = [File(path.name[-80:], path)]
            if path.suffix.lower() == ".zip":
                folder = Path(get_upload_folder()) / secrets.token_hex(16)
                folder.mkdir(parents=True)
                undo.callback(shutil.rmtree, folder)
                items = archive.unpack(path, folder, left)
            for item in items:
                found.append(item)
                check(len(found))
                if isinstance(item, File) and item.path != path:
                    unpacked.append(item.path)
                    left -= item.path.stat().st_size
        if not found:
            raise InputError("there is no picture in what was uploaded.")
        undo.pop_all()
    keeper.temp_files.update(map(str, unpacked))
    return found


def keep(data: bytes, name: str, keeper: Component) -> str:
    """Writes a file that the page may show; returns its path. `keeper` sees to it that it is deleted in time."""
    path = save_bytes_to_cache(data, name, get_upload_folder())
    keeper.temp_files.add(path)
    return path


def address(path: str) -> str:
    """Where the page finds a file of `keep`, relative to the page's own address."""
    return f"gradio_api/file={quote(path)}"
