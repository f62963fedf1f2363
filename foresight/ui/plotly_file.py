"""Where Gradio keeps its own plotly.js, so that charts of ours need no second one and no other host."""

from __future__ import annotations

from pathlib import Path

import gradio


def plotly_file() -> str:
    """The file's name in Gradio's folder of assets; importing it in the page sets `window.Plotly`."""
    assets = Path(gradio.__file__).parent / "templates/frontend/assets"
    (found,) = assets.glob("PlotlyPlot-*.js")
    return found.name
