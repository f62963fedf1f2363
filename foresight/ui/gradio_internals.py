"""The private parts of Gradio that the page uses, tried with the versions of it that requirements.txt allows."""

from __future__ import annotations

import gradio as gr
from gradio.context import Context
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder


def current_page() -> gr.Blocks:
    """The page that is being built."""
    page = Context.root_block
    assert page is not None, "components are created inside a Blocks"
    return page


def cached_file(data: bytes, name: str) -> str:
    """The path of a file, with these contents, that the page may serve."""
    return save_bytes_to_cache(data, name, get_upload_folder())
