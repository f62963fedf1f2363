"""The page around the tabs, and how it is served."""

from pathlib import Path
from typing import Any, Protocol

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from foresight.inspection.inspector import Inspector
from foresight.settings import Settings
from foresight.ui import limits
from foresight.ui import view_link as link
from foresight.ui.about import ABOUT
from foresight.ui.compare.tab import CompareTab
from foresight.ui.failures.tab import FailuresTab
from foresight.ui.fair_queue import FairQueue
from foresight.ui.findings.tab import FindingsTab
from foresight.ui.gradio_internals import get_upload_folder, harden
from foresight.ui.guard import OnlyHere, SameOrigin, Sizes
from foresight.ui.inspect.tab import InspectTab
from foresight.ui.latent_map.tab import LatentMapTab
from foresight.ui.navigation import Navigation, Router
from foresight.ui.services import plain_html
from foresight.ui.theme import CSS, theme
from foresight.ui.train.services import TrainingService
from foresight.ui.train.tab import TrainTab
from foresight.ui.turns import take_turns
from foresight.ui.video.tab import VideoTab

TITLE = """<header class="fs-title"><h1>Foresight</h1>
<p>What does a vision-language model still know of a picture at this point of its depth?</p></header>"""


class Tab(Protocol):
    """A tab of the page: `name` is its word in an address, `title` what is read above it."""

    name: str
    title: str

    def build(self) -> None:
        """Adds its components and events to the current layout."""

    def add_endpoints(self) -> None:
        """Adds its API to the current Blocks."""


# Back and Forward reach the server as a click on the title that nobody makes.
_TRAVEL = "window.viewHistory.travel = to => trigger('click', to);"


def build_app(inspector: Inspector, settings: Settings, training: TrainingService | None = None) -> gr.Blocks:
    """The whole app as a Blocks, ready for `launch(app, settings)`.

    training: what the Train tab asks; None leaves training out, tab and endpoint.
    """
    with gr.Blocks(
        title="Foresight", fill_width=True, delete_cache=(3600, limits.KEPT), analytics_enabled=False
    ) as app:
        history = plain_html(TITLE, "title", js_on_load=link.HISTORY + _TRAVEL)
        navigation = Navigation(gr.State(), gr.State())
        tabs: list[Tab] = [
            InspectTab(inspector, navigation, trains=training is not None),
            CompareTab(inspector, navigation, settings),
            FailuresTab(inspector, navigation, settings),
            LatentMapTab(inspector, navigation, settings),
            VideoTab(inspector, navigation, settings),
            *([TrainTab(training, navigation, settings)] if training else []),
            FindingsTab(inspector, navigation),
        ]
        for tab in tabs:  # first, or an event of some tab might have an endpoint's name already
            tab.add_endpoints()
        with gr.Tabs() as row:
            for tab in tabs:
                with _tab(tab.name, tab.title):
                    tab.build()
            with _tab("about", "About"):
                gr.Markdown(ABOUT, elem_classes="fs-about")
        Router(navigation, row, [*(tab.name for tab in tabs), "about"], inspector).follow(history)
    take_turns(app)
    app.queue(api_open=False)  # nobody runs an event beside the queue
    app._queue = FairQueue(app, limits.WAITING if settings.local else limits.SHARE)
    return app


def _tab(name: str, title: str) -> gr.Tab:
    """A tab, which the browser's history knows by its name."""
    tab = gr.Tab(title, id=name, elem_id=f"tab-{name}")
    tab.select(None, js=f"() => {{ window.viewHistory.opened('{name}'); }}", api_visibility="private")
    return tab


async def _health(_: Request) -> JSONResponse:
    """Answers whoever watches over the server: it listens once all is loaded."""
    return JSONResponse({"status": "ok"})


async def _failed(*_: Any) -> PlainTextResponse:
    """The answer to a request that Gradio fails at, such as one for an event that there is not."""
    return PlainTextResponse("There is nothing here for such a request.\n", 500)


def launch(app: gr.Blocks, settings: Settings, **more: Any) -> tuple[Any, str, str]:
    """Serves the app; more: of Blocks.launch's own arguments."""
    harden(settings.public)
    uploads = Path(get_upload_folder())
    uploads.mkdir(parents=True, exist_ok=True)
    trusted = [OnlyHere] * settings.local + [SameOrigin] * (not (settings.public or settings.share))
    guards = [*map(Middleware, trusted), Middleware(Sizes, uploads, limits.UPLOADED if settings.public else None)]
    small = Middleware(GZipMiddleware, minimum_size=10_000, compresslevel=4)  # the page itself is 0.9 MB of text
    return app.launch(
        server_name=settings.host,
        server_port=settings.port,
        share=settings.share,
        theme=theme(),
        css_paths=CSS,
        show_error=not settings.public,
        strict_cors=True,
        allowed_paths=[],
        max_file_size=limits.UPLOAD_FILE,
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=["api"],
        i18n=gr.I18n(en={"common.complete": "Done"}),  # which screen readers are told; Gradio 6.31 has no word for it
        state_session_capacity=1000,
        _frontend=False,  # Gradio would ask its own page once, and end where others kept it too busy to answer
        mcp_server=settings.mcp,
        app_kwargs={
            "middleware": [*guards, small],
            "exception_handlers": {Exception: _failed},
            "routes": [Route("/health", _health)],
        },
        **more,
    )
