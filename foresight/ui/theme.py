"""The app's one look: system fonts, slate and one blue; pass and fail in blue-green and vermilion.

The colours are from Okabe and Ito's palette, which people with any kind of colour vision can tell apart;
they never stand alone: an icon or a word says the same.
"""

from pathlib import Path

import gradio as gr

CSS = sorted(Path(__file__).parent.rglob("*.css"))  # each tab may bring its own

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
_BLUE = gr.themes.Color(  # around Okabe and Ito's #0072B2
    "#eef7fc", "#d6ebf7", "#aed7ef", "#7cbde2", "#3d9bd0", "#0072b2", "#00659e", "#005384", "#00436b", "#003556",
    "#00253d", name="foresight",
)  # fmt: skip


def theme() -> gr.themes.Base:
    """The theme. Fonts are the reader's own, so that the page asks no other host for anything."""
    return gr.themes.Base(
        primary_hue=_BLUE,
        neutral_hue="slate",
        spacing_size="md",
        radius_size="sm",
        text_size="md",
        font=_SANS,
        font_mono=_MONO,
    ).set(
        body_background_fill="#fbfcfd",
        body_background_fill_dark="#0f141b",
        body_text_color_subdued="#556274",  # 6:1 on white, where Gradio's own has 2.6:1
        body_text_color_subdued_dark="#a3b0c2",
        block_background_fill="white",
        block_background_fill_dark="#161d27",
        block_border_width="1px",
        block_label_background_fill="*block_background_fill",
        block_label_background_fill_dark="*block_background_fill",
        block_label_border_width="0px",
        block_label_text_color="*body_text_color_subdued",
        block_shadow="none",
        block_title_text_weight="600",
        button_primary_background_fill="*primary_500",
        button_primary_background_fill_hover="*primary_600",
        button_primary_text_color="white",
        button_primary_background_fill_dark="*primary_500",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color_dark="white",
        slider_color="*primary_500",
    )
