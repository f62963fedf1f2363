"""How a tab is opened: by another tab that asks for a view of it, by an address, or by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from foresight.ui.gradio_internals import current_page, current_tab

ImageSource = dict[str, Any] | str | None  # a scene's description, the path of an uploaded file, or no picture


@dataclass(frozen=True)
class Navigation:
    """One state a tab: an event that writes a view into it opens that tab on that view.

    inspect takes what `open_view` returns; latent_map and compare that, or the query of an address; failures such a
    query; train the name of a run.
    """

    inspect: gr.State
    latent_map: gr.State
    train: gr.State = field(default_factory=gr.State)
    compare: gr.State = field(default_factory=gr.State)
    failures: gr.State = field(default_factory=gr.State)


def open_view(source: ImageSource, point: str, adapter: str | None) -> dict[str, Any]:
    """The view of an image at a point by an adapter, to be written into a state of `Navigation`.

    Its time makes it a new value each time, so that the same view can be asked for again.
    """
    return {"source": source, "point": point, "adapter": adapter, "at": time.time()}


def updated_choices(component: Callable[..., Any], choices: Sequence[str], chosen: Any, kept: Any) -> Any:
    """New choices for a component; its value only if it must change, for the user may have chosen again meanwhile."""
    return component(choices) if kept == chosen else component(choices, value=kept)


def on_open(function: Callable[..., Any], inputs: Any, outputs: Any) -> None:
    """Runs a function when the page is loaded, and again whenever the tab that is being built is opened."""
    tab = current_tab()
    triggers = [current_page().load, *([tab.select] if tab else [])]
    gr.on(triggers, function, inputs, outputs, api_visibility="private", show_progress="hidden")
