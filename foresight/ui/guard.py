"""Who is turned away where the app trusts whoever reaches it, as `Settings.local` says that it does."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from foresight.settings import loopback

REFUSAL = (
    "This app was started for its own machine alone, so it answers at http://127.0.0.1 and http://localhost only. "
    "Start it with --host, or with --public, to use it under another name.\n"
)
FOREIGN = "A page of another site asked for this; only the app's own page may.\n"


class OnlyHere:
    """Answers requests that call this machine by its own name, and no others.

    A page of the web may let its name point to 127.0.0.1 once somebody has opened it, and a proxy on this machine
    may hand on what strangers ask: both call it by another name.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http" and not loopback(_host(Headers(scope=scope).get("host", ""))):
            app = PlainTextResponse(REFUSAL, 403)
        await app(scope, receive, send)


class SameOrigin:
    """Answers no page of another site: it acts for whoever opened it, who did not ask for what it asks for.

    A request that no page made names no origin. `Settings.public` apps answer anybody, and have nothing to act on.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin = headers.get("origin")  # scheme://host:port, or null
            if origin and origin.partition("://")[2] != headers.get("host"):
                app = PlainTextResponse(FOREIGN, 403)
        await app(scope, receive, send)


def _host(text: str) -> str:
    """``"[::1]:7860"`` → ``"::1"``; empty where it is no host's name."""
    try:
        return urlsplit(f"//{text}").hostname or ""
    except ValueError:
        return ""
