"""How tabs are opened: by a door, with what another tab wrote into it; or by hand, with what has become new since."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.context import Context

Case = dict[str, Any] | str | None  # a scene's description, the path of an uploaded file, or no picture


@dataclass(frozen=True)
class Doors:
    """States that tabs write a `visit` into, as the output of an event: the page then goes to that tab.

    inspect: opens the Inspect tab with the case, point and adapter. latent_map, compare: those tabs, with a visit or
    with what an address asks for. failures: takes the latter alone. train: the name of a run.
    """

    inspect: gr.State
    latent_map: gr.State
    train: gr.State = field(default_factory=gr.State)
    compare: gr.State = field(default_factory=gr.State)
    failures: gr.State = field(default_factory=gr.State)


def visit(case: Case, point: str, adapter: str | None) -> dict[str, Any]:
    """What is written into a door; `at` makes it a new value each time, so that the same visit can be repeated."""
    return {"case": case, "point": point, "adapter": adapter, "at": time.time()}


def offering(kind: Callable[..., Any], choices: Sequence[str], chosen: Any, kept: Any) -> Any:
    """New choices for a component; its value only if it must change, for meanwhile the user may have chosen again."""
    return kind(choices) if kept == chosen else kind(choices, value=kept)


def on_opening(function: Callable[..., Any], inputs: Any, outputs: Any) -> None:
    """Runs a function when the page is loaded, and again whenever the tab that is being built is opened."""
    page, tab = Context.root_block, Context.block
    assert page is not None
    triggers = [page.load, *([tab.select] if isinstance(tab, gr.Tab) else [])]
    gr.on(triggers, function, inputs, outputs, api_visibility="private", show_progress="hidden")
