"""The private parts of Gradio that the page uses, and no other module of it.

They are tried with the versions that requirements.txt allows (gradio >= 6.31, < 7), and may change without notice.
"""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta
from gradio.context import Context
from gradio.data_classes import ImageData as ImageData  # what the page sends of an image
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder as get_upload_folder  # where uploads lie


def current_page() -> gr.Blocks:
    """The page that is being built."""
    page = Context.root_block
    assert page is not None, "components are created inside a Blocks"
    return page


def current_tab() -> gr.Tab | None:
    """The tab that is being built, directly inside of it; None outside of any."""
    return Context.block if isinstance(Context.block, gr.Tab) else None


def cached_file(data: bytes, name: str) -> str:
    """The path of a file, with these contents, that the page may serve."""
    return save_bytes_to_cache(data, name, get_upload_folder())


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
