"""The doors between tabs: what one tab writes into a door, the tab behind it opens with."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

Case = dict[str, Any] | str | None  # a scene's description, the path of an uploaded file, or no picture


@dataclass(frozen=True)
class Doors:
    """States that tabs write a `visit` into, as the output of an event: the page then goes to that tab.

    inspect: opens the Inspect tab with the case, point and adapter. latent_map: the Latent map. train: takes the
    name of a run instead, and opens the Train tab with it. compare, failures: take what an address asks for.
    """

    inspect: gr.State
    latent_map: gr.State
    train: gr.State = field(default_factory=gr.State)
    compare: gr.State = field(default_factory=gr.State)
    failures: gr.State = field(default_factory=gr.State)


def visit(case: Case, point: str, adapter: str | None) -> dict[str, Any]:
    """What is written into a door; `at` makes it a new value each time, so that the same visit can be repeated."""
    return {"case": case, "point": point, "adapter": adapter, "at": time.time()}
