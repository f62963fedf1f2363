"""Inputs whose values are taken by the project's own rules.

They are classes, since Gradio copies a component, by its class, for each session whose events change or skip it.
"""

from typing import Any

import gradio as gr

from foresight.ui.gradio_internals import ImageData, subclass


def _path_of(self: gr.Image, payload: ImageData | None) -> str | None:
    if payload is not None and payload.path is None:
        raise gr.Error("Send the picture as a file.", print_exception=False)
    return None if payload is None else payload.path


def _as_typed(self: Any, payload: Any) -> Any:
    return payload


RawImage: type[gr.Image] = subclass(gr.Image, preprocess=_path_of)
"""Gives its handler the path of the file as it was uploaded. Gradio's own opens uploads with Pillow and saves some
again, which clips 16 bits and fails without a sentence on what is no picture."""

FreeNumber: type[gr.Number] = subclass(gr.Number, preprocess=_as_typed)
"""Gives its handler what is typed, which Gradio's own would round."""

FreeSlider: type[gr.Slider] = subclass(gr.Slider, preprocess=_as_typed)
"""Gives its handler what is typed, also beyond its ends, which Gradio's own refuses with a traceback."""

FreeDropdown: type[gr.Dropdown] = subclass(gr.Dropdown, preprocess=_as_typed)
"""For choices that change: gives its handler what the page shows, which may be of the choices before, and which
Gradio's own refuses so too."""

FreeRadio: type[gr.Radio] = subclass(gr.Radio, preprocess=_as_typed)
"""As FreeDropdown: while a layer is typed, what the page shows may be of the layer before."""

FreeCheckboxGroup: type[gr.CheckboxGroup] = subclass(gr.CheckboxGroup, preprocess=_as_typed)
"""As FreeDropdown."""
