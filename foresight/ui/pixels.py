"""How large the model sees an image: one choice, the same in every tab that reads images or clips."""

import gradio as gr

from foresight.data.resolution import NATIVE
from foresight.models.vlm import VLM
from foresight.ui.inputs import FreeDropdown

FITTED = "fitted"
SIZES = ("112²", "224²", "448²", "896²")
API_LABEL = "pixels: 448², 100000, LEAST-MOST or native (optional: what the adapter was fitted at)"


def pixels_dropdown(vlm: VLM, elem_id: str, value: str = FITTED) -> gr.Dropdown:
    """The choice, also of what is typed; `chosen_pixels` reads it.

    value: at first; a size where there is no adapter that could decide.
    """
    fitted = [("as the adapter was fitted", FITTED)] if value == FITTED else []
    sizes = [(size, size) for size in SIZES]
    native = (f"native, the model's own rule ({vlm.native} pixels)", NATIVE)
    return FreeDropdown(
        [*fitted, *sizes, native],
        value=value,
        allow_custom_value=True,
        label="Size to the model",
        info="A square's, or about as many pixels of another shape; or type a number of pixels.",
        elem_id=elem_id,
    )


def chosen_pixels(value: str | None) -> str | None:
    """What `VLM.resolution` reads; None where the adapter decides."""
    return None if value in (None, "", FITTED) else value
