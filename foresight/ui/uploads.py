"""Files between the browser and the tabs: what people hand in, and the pictures that tabs show of their own."""

import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

from gradio.components import Component
from PIL import Image

from foresight.data import archive
from foresight.data.archive import Broken, File
from foresight.data.names import printable
from foresight.errors import InputError
from foresight.ui.gradio_internals import cached_file, get_upload_folder, strip_invalid_filename_characters
from foresight.ui.image_maps import lossless


def handed_in(paths: Sequence[str] | None, keeper: Component, check: Callable[[int], None]) -> list[File | Broken]:
    """What uploaded files hold: pictures, and those inside zip archives. `keeper` sees to it that they are deleted.

    check: told how many there are so far, before more is unpacked; raises InputError where these are too many.
    Raises InputError, too, where there is nothing, or an archive cannot be used at all. What was unpacked by then
    is deleted.
    """
    if not paths:
        raise InputError("choose pictures or a zip archive first.")
    files: list[File | Broken] = []
    unpacked: list[Path] = []
    left = archive.MAX_BYTES  # for all archives together
    with ExitStack() as undo:
        for path in map(Path, paths):
            items: Iterable[File | Broken] = [File(printable(path.name), path)]
            if path.suffix.lower() == ".zip":
                folder = Path(get_upload_folder()) / secrets.token_hex(16)
                folder.mkdir(parents=True)
                undo.callback(shutil.rmtree, folder)
                items = archive.unpack(path, folder, left)
            for item in items:
                files.append(item)
                check(len(files))
                if isinstance(item, File) and item.path != path:
                    unpacked.append(item.path)
                    left -= item.path.stat().st_size
        if not files:
            raise InputError("there is no picture in what was uploaded.")
        undo.pop_all()
    keeper.temp_files.update(map(str, unpacked))
    return files


def keep(data: bytes, name: str, keeper: Component) -> str:
    """Writes a file that the page may show; returns its path. `keeper` sees to it that it is deleted in time."""
    path = cached_file(data, name)
    keeper.temp_files.add(path)
    return path


def keep_picture(path: Path, name: str, keeper: Component) -> str:
    """A copy of a picture's file, called as it was where it came from: an unpacked one has a number for its name."""
    last = name.replace("\\", "/").split("/")[-1]
    return keep(path.read_bytes(), strip_invalid_filename_characters(last), keeper)


def picture_address(image: Image.Image, keeper: Component) -> str:
    """Where the page finds an image, pixel by pixel as it is; `keeper` as for `keep`."""
    data, ending = lossless(image)
    return address(keep(data, f"picture.{ending}", keeper))


def address(path: str) -> str:
    """Where the page finds a file of `keep`, relative to the page's own address."""
    return f"gradio_api/file={quote(path)}"
