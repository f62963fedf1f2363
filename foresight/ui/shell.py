"""The page around the tabs, and how it is served."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from foresight.errors import InputError
from foresight.inspection.inspector import Inspector
from foresight.settings import Settings
from foresight.ui import view_link as link
from foresight.ui.about import ABOUT
from foresight.ui.compare import tab as compare
from foresight.ui.error_handling import telling
from foresight.ui.failures import tab as failures
from foresight.ui.failures.runs import FailuresCalls
from foresight.ui.findings import tab as findings
from foresight.ui.guard import OnlyHere
from foresight.ui.inspect import tab as inspect
from foresight.ui.latent_map import tab as latent_map
from foresight.ui.latent_map.services import MapCalls
from foresight.ui.navigation import Doors, visit
from foresight.ui.services import Calls
from foresight.ui.theme import CSS, theme
from foresight.ui.train import tab as train
from foresight.ui.train.services import TrainCalls

TITLE = """<header class="fs-title"><h1>Foresight</h1>
<p>What does a vision-language model still know of a picture at this point of its depth?</p></header>"""


def build_app(inspector: Inspector, settings: Settings, trainer: TrainCalls | None = None) -> gr.Blocks:
    """The whole app as a Blocks, ready for `launch(app, settings)`.

    trainer: the Train tab's calls; None leaves training out, tab and endpoint.
    """
    calls = Calls.of(inspector)
    tabs: list[tuple[str, ModuleType, Any]] = [
        ("Inspect", inspect, calls),
        ("Compare", compare, compare.CompareCalls.of(inspector, settings.public)),
        ("Failures", failures, FailuresCalls.of(inspector, settings.local, settings.public)),
        ("Latent map", latent_map, MapCalls.of(inspector, settings.public)),
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
        _open(app, row, doors, calls, trainer is not None)
    return app.queue(max_size=64)


def _open(app: gr.Blocks, tabs: gr.Tabs, doors: Doors, calls: Calls, training: bool) -> None:
    """A visit in a door shows the tab behind it; an address that names a tab, a picture or a run is such a visit."""
    views = {"compare": doors.compare, "failures": doors.failures, "map": doors.latent_map}

    @telling
    def arrive(request: gr.Request) -> Any:
        asked = dict(request.query_params)
        if (tab := asked.get(link.TAB)) is not None:
            if tab not in views:
                raise InputError(f"there is no view of a tab {tab!r}: choose from {', '.join(views)}.")
            return {views[tab]: asked}
        if asked.keys() & link.NAMES:
            found = visit(link.case_of(asked), asked.get("point", str(calls.default)), asked.get("adapter"))
            return {doors.inspect: found}
        return {doors.train: asked[link.RUN] if training and link.RUN in asked else gr.skip()}

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    app.load(arrive, None, [doors.inspect, doors.train, *views.values()], **quiet)
    for name, door in (
        ("Inspect", doors.inspect),
        ("Compare", doors.compare),
        ("Failures", doors.failures),
        ("Latent map", doors.latent_map),
        ("Train", doors.train),
    ):
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
        i18n=gr.I18n(en={"common.complete": "Done"}),  # which screen readers are told; Gradio 6.31 has no word for it
        state_session_capacity=1000,
        mcp_server=settings.mcp,
        app_kwargs={"middleware": [Middleware(OnlyHere)] if settings.local else []},
        **more,
    )
