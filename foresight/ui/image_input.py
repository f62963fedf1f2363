"""The picture that a tab begins with: an input of our own rules, and the row of examples under it."""

from __future__ import annotations

from typing import Any

import gradio as gr
from PIL import Image

from foresight.ui import generate
from foresight.ui.inputs import RawImage


def example_pictures() -> list[tuple[Image.Image, str]]:
    """The examples, drawn, with their names."""
    return [(generate.draw(scene)[0], name) for name, scene in generate.examples()]


def picture_input(first: Image.Image, height: int, purpose: str, name: str) -> gr.Image:
    """An input that begins with `first`; purpose: what the picture is for, as in "to inspect"; name: its elem_id."""
    return RawImage(
        first,
        label="Picture: drop, click or paste one",
        type="filepath",
        image_mode=None,
        format="png",
        sources=["upload", "clipboard"],
        height=height,
        buttons=[],
        elem_id=name,
        alt_text=f"The picture {purpose}",
    )


def file_image(label: str) -> gr.Image:
    """A picture of an endpoint, which nobody sees on the page."""
    return RawImage(label=label, type="filepath", image_mode=None, format="png")


def example_row(pictures: list[Any], name: str) -> gr.Gallery:
    """The examples to choose from, in one row; name: its elem_id."""
    return gr.Gallery(
        pictures,
        show_label=False,
        columns=5,
        height=94,
        allow_preview=False,
        object_fit="contain",
        format="png",
        buttons=[],
        interactive=False,
        elem_id=name,
    )
