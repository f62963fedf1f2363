"""The page around the tabs, and how it is served."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import gradio as gr

from foresight.inspector import Inspector
from foresight.settings import Settings
from foresight.ui import compare, failures, findings, inspect, latent_map, link, train
from foresight.ui.about import ABOUT
from foresight.ui.calls import Calls, telling
from foresight.ui.doors import Doors, visit
from foresight.ui.map_calls import MapCalls
from foresight.ui.runs import FailuresCalls
from foresight.ui.theme import CSS, theme
from foresight.ui.train import TrainCalls

TITLE = """<header class="fs-title"><h1>Foresight</h1>
<p>What does a vision-language model still know of a picture at this point of its depth?</p></header>"""


def build_app(inspector: Inspector, trainer: TrainCalls | None = None, public: bool = False) -> gr.Blocks:
    """The whole app as a Blocks, ready for `launch(app, settings)`.

    trainer: the Train tab's calls; None leaves training out, tab and endpoint. public: strangers may use it.
    """
    calls = Calls.of(inspector)
    tabs: list[tuple[str, ModuleType, Any]] = [
        ("Inspect", inspect, calls),
        ("Compare", compare, compare.CompareCalls.of(inspector)),
        ("Failures", failures, FailuresCalls.of(inspector, local=not public)),
        ("Latent map", latent_map, MapCalls.of(inspector, public)),
        ("Train", train, trainer),
        ("Findings", findings, findings.FindingsCalls.of(inspector)),
    ]
    shown = [tab for tab in tabs if tab[2] is not None]
    with gr.Blocks(title="Foresight", fill_width=True, delete_cache=(3600, 86400), analytics_enabled=False) as app:
        gr.HTML(TITLE)
        for _, tab, asked in shown:  # first, or an event of some tab might have an endpoint's name already
            tab.endpoint(asked)
        doors = Doors(gr.State(), gr.State())
        with gr.Tabs() as row:
            for title, tab, asked in shown:
                with gr.Tab(title, id=title):
                    tab.build(asked, doors)
            with gr.Tab("About", id="About"):
                gr.Markdown(ABOUT, elem_classes="fs-about")
        _open(app, row, doors, calls)
    return app.queue(max_size=64)


def _open(app: gr.Blocks, tabs: gr.Tabs, doors: Doors, calls: Calls) -> None:
    """A visit in a door shows the tab behind it; an address that names a picture or a point is such a visit."""

    @telling
    def arrive(request: gr.Request) -> Any:
        asked = dict(request.query_params)
        if not asked.keys() & link.NAMES:
            return gr.skip()
        return visit(link.case_of(asked), asked.get("point", str(calls.default)), asked.get("adapter"))

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    app.load(arrive, None, doors.inspect, **quiet)
    for name, door in (("Inspect", doors.inspect), ("Latent map", doors.latent_map)):
        door.change(functools.partial(gr.Tabs, selected=name), None, tabs, js="() => { scrollTo(0, 0); }", **quiet)


def launch(app: gr.Blocks, settings: Settings, **more: Any) -> tuple[Any, str, str]:
    """Serves the app; more: of Blocks.launch's own arguments."""
    return app.launch(
        server_name=settings.host,
        server_port=settings.port,
        share=settings.share,
        theme=theme(),
        css_paths=CSS,
        show_error=not settings.public,
        strict_cors=True,
        allowed_paths=[],
        max_file_size="40mb",
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=["api"],
        state_session_capacity=1000,
        mcp_server=settings.mcp,
        **more,
    )
