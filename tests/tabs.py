"""One tab alone, on a free port of this machine; the view in Inspect that it asks for is shown as text."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from foresight.settings import Settings
from foresight.ui import view_link
from foresight.ui.navigation import Navigation
from foresight.ui.shell import Tab, launch


@contextmanager
def serve_tab(make: Callable[[Navigation], Tab]) -> Iterator[str]:
    """The address of a page with one tab, as long as the block lasts; make: creates the tab."""
    with gr.Blocks(analytics_enabled=False) as app:
        gr.HTML("", js_on_load=view_link.HISTORY, visible="hidden")
        navigation = Navigation(gr.State(), gr.State())
        door = gr.Textbox(elem_id="door", label="door")
        navigation.inspect.change(_view_text, navigation.inspect, door, api_visibility="private")
        tab = make(navigation)
        tab.add_endpoints()  # first, as the shell does, so that it has its name
        tab.build()
    _, url, _ = launch(app.queue(max_size=64), Settings(), prevent_thread_lock=True, quiet=True)
    try:
        yield url.rstrip("/")
    finally:
        app.close()


def _view_text(view: dict[str, Any]) -> str:
    return f"{view['point']} {view['adapter']} {view['source']}"
