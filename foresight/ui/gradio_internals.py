"""The private parts of Gradio that the page uses, and no other module of it.

They are tried with the versions that requirements.txt allows (gradio >= 6.31, < 7), and may change without notice.
"""

import errno
import sys
import traceback
from abc import ABCMeta
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio import processing_utils, queueing, route_utils, routes
from gradio.component_meta import ComponentMeta
from gradio.context import Context
from gradio.data_classes import ImageData as ImageData  # what the page sends of an image
from gradio.exceptions import InvalidPathError
from gradio.processing_utils import save_bytes_to_cache
from gradio.queueing import Event as Event
from gradio.queueing import Queue as Queue
from gradio.route_utils import get_fn as get_fn
from gradio.server_messages import ProcessCompletedMessage as ProcessCompletedMessage
from gradio.utils import error_payload
from gradio.utils import get_upload_folder as get_upload_folder  # where uploads lie
from gradio.utils import run_coro_in_background as run_coro_in_background
from gradio_client.utils import strip_invalid_filename_characters as strip_invalid_filename_characters
from pydantic import ValidationError
from starlette.formparsers import MultiPartException
from starlette.responses import PlainTextResponse

from foresight.ui import limits


def current_page() -> gr.Blocks:
    """The page that is being built."""
    page = Context.root_block
    assert page is not None, "components are created inside a Blocks"
    return page


def current_tab() -> gr.Tab | None:
    """The tab of the page that is being built, whatever is nested in it; None outside of any."""
    block, tab = Context.block, None
    while block is not None:
        if isinstance(block, gr.Tab):
            tab = block
        block = block.parent
    return tab


def cached_file(data: bytes, name: str) -> str:
    """The path of a file, with these contents, that the page may serve."""
    return save_bytes_to_cache(data, name, get_upload_folder())


def oldest_message(messages: Any) -> Any:
    """What an asyncio.Queue, as Gradio keeps for each session, would give next; not taken out. It must hold one."""
    return messages._queue[0]


def subclass(base: Any, **methods: Callable[..., Any]) -> Any:
    """A subclass that the page takes for its base; Gradio's own way of making one writes a file beside its source."""
    return ABCMeta.__new__(ComponentMeta, base.__name__, (base,), {"__module__": base.__module__, **methods})


def plotly_file() -> str:
    """The name of Gradio's own plotly.js among its assets, so that charts need no second one and no other host.

    Importing it in the page sets `window.Plotly`.
    """
    assets = Path(gr.__file__).parent / "templates/frontend/assets"
    (file,) = assets.glob("PlotlyPlot-*.js")
    return file.name


class _Form(route_utils.GradioMultiPartParser):
    """A form with files, as Gradio reads it, which limits each file but neither all of them nor other fields."""

    _bytes = 0

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._current_part
        self._bytes += end - start
        if self._bytes > limits.UPLOAD:
            raise MultiPartException(f"An upload has a maximum allowed size of {limits.UPLOAD >> 20} MB.")
        if part.file is not None:
            super().on_part_data(data, start, end)
        elif len(part.data) + end - start > limits.UPLOAD_FIELD:
            raise MultiPartException(f"A field has a maximum allowed size of {limits.UPLOAD_FIELD >> 10} kB.")
        else:
            part.data += data[start:end]


async def _refuse_address(*_: Any, **__: Any) -> Any:
    raise gr.Error("Send it as a file: addresses are not fetched.", print_exception=False)


async def _refuse_relay(*_: Any) -> Any:
    return PlainTextResponse("Addresses are not fetched.\n", 403)


def _payload(error: BaseException | None, show_error: bool) -> dict[str, Any]:
    """What a client is told of an error: never nothing, which is what Gradio makes of those that it does not show."""
    if isinstance(error, ValidationError | InvalidPathError):
        error = gr.Error(NO_UPLOAD)
    elif isinstance(error, OSError) and error.errno in _NO_ROOM:
        error = gr.Error(NO_ROOM)
    payload = error_payload(error, show_error)
    return payload if payload["error"] else payload | {"error": UNKNOWN}


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
NO_ROOM = "This app has no room on its disk for the answer now: try again later."
NO_UPLOAD = "Upload the file first, and send what gradio_client's handle_file makes of it."
UNKNOWN = "This could not be done with these values; “Use via API” tells what each of them may be."


def _print_where() -> None:
    """As `traceback.print_exc`, without the error's own words, which quote what somebody sent."""
    kind, _, frames = sys.exc_info()
    traceback.print_tb(frames)
    print(kind.__name__ if kind else "", file=sys.stderr)


def harden(public: bool) -> None:
    """Replaces what Gradio does for anybody and without a limit: it is done for all apps of this process.

    public: the log is not to tell what people bring and ask.
    """
    # A file's description inside any input may name an address, which Gradio would fetch, however large.
    processing_utils.async_ssrf_protected_download = _refuse_address
    processing_utils.async_ssrf_protected_get = _refuse_address
    routes.secure_url_stream_response = _refuse_relay  # type: ignore[assignment]
    routes.GradioMultiPartParser = route_utils.GradioMultiPartParser = _Form  # type: ignore[misc]
    queueing.error_payload = _payload
    queueing.traceback = SimpleNamespace(print_exc=_print_where) if public else traceback  # type: ignore[assignment]
