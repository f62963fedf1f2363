"""One tab alone, on a free port of this machine; what it writes into a door is shown as JSON."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from foresight.settings import Settings
from foresight.ui.navigation import Navigation
from foresight.ui.shell import Tab, launch


@contextmanager
def serve_tab(build: Callable[[Any, Navigation], None], endpoint: Callable[[Any], None], calls: Any) -> Iterator[str]:
    """The address of the tab, as long as the block lasts."""
    with gr.Blocks(analytics_enabled=False) as app:
        navigation = Navigation(gr.State(), gr.State())
        shown = gr.Textbox(elem_id="door", label="door")
        navigation.inspect.change(_told, navigation.inspect, shown, api_visibility="private")
        build(calls, navigation)
        endpoint(calls)
    _, url, _ = launch(app.queue(max_size=64), Settings(), prevent_thread_lock=True, quiet=True)
    try:
        yield url.rstrip("/")
    finally:
        app.close()


@contextmanager
def serve_tab_class(make: Callable[[Navigation], Tab]) -> Iterator[str]:
    """As `serve_tab`, of a tab that is a class; make: creates it."""

    with gr.Blocks(analytics_enabled=False) as app:
        navigation = Navigation(gr.State(), gr.State())
        door = gr.Textbox(elem_id="door", label="door")
        navigation.inspect.change(_told, navigation.inspect, door, api_visibility="private")
        tab = make(navigation)
        tab.add_endpoints()  # first, as the shell does, so that it has its name
        tab.build()
    _, url, _ = launch(app.queue(max_size=64), Settings(), prevent_thread_lock=True, quiet=True)
    try:
        yield url.rstrip("/")
    finally:
        app.close()


def _told(visit: dict[str, Any]) -> str:
    return f"{visit['point']} {visit['adapter']} {visit['case']}"
