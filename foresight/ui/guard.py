"""What is turned away before the app sees it: whoever it does not trust, and requests that are too large."""

import shutil
import time
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foresight.settings import loopback
from foresight.ui import limits

REFUSAL = (
    "This app was started for its own machine alone, so it answers at http://127.0.0.1 and http://localhost only. "
    "Start it with --host, or with --public, to use it under another name.\n"
)
_CLIENTS = 10_000  # whose uploads are counted
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


@dataclass
class _Usage:
    """What a client has uploaded: since when, and bytes so far."""

    since: float
    size: int = 0


class Sizes:
    """Answers no request that is larger than `limits` says, and takes no upload where it would fill the disk."""

    def __init__(self, app: ASGIApp, uploads: Path, share: int | None = None) -> None:
        """uploads: the folder where they are kept. share: bytes of it that a client may have; None: all."""
        self.app, self.uploads, self.share = app, uploads, share
        self._usage: dict[str, _Usage] = {}  # by client, whoever came last at the end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http":
            path, query = scope["path"].encode(), scope["query_string"]
            if len(path) + len(query) > limits.ADDRESS or max(map(len, path.split(b"/"))) > limits.NAME:
                app = PlainTextResponse("This address is too long.\n", 414)
            elif not scope["path"].endswith("/upload"):  # which Gradio's form counts as it comes
                receive = _limited(receive)
            elif shutil.disk_usage(self.uploads).free < limits.FREE:
                app = PlainTextResponse("This app has no room for uploads now: try again later.\n", 507)
            elif self.share is not None:
                usage = self._usage_of(client_of(HTTPConnection(scope)))
                if usage.size < self.share:
                    receive = _counted(receive, usage)
                else:
                    app = PlainTextResponse("You have uploaded a day's share already: come back tomorrow.\n", 429)
        await app(scope, receive, send)

    def _usage_of(self, client: str) -> _Usage:
        usage = self._usage.pop(client, None)
        if usage is None or time.monotonic() - usage.since > limits.KEPT:
            usage = _Usage(time.monotonic())
        self._usage[client] = usage
        if len(self._usage) > _CLIENTS:
            del self._usage[next(iter(self._usage))]
        return usage


def _counted(receive: Receive, usage: _Usage) -> Receive:
    async def counted() -> Message:
        message = await receive()
        usage.size += len(message.get("body", b""))
        return message

    return counted


def _limited(receive: Receive) -> Receive:
    """Raises, as an answer of 413, where the body that comes is larger than `limits.BODY`."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limits.BODY:
            raise HTTPException(413, f"A request has at most {limits.BODY >> 20} MB; pictures are uploaded.")
        return message

    return counted


def client_of(request: HTTPConnection) -> str:
    """Who asks: an address, of IPv6 the network that a household has.

    Behind a proxy it is the last address of the internet that the proxy names; others a client may have made up.
    """
    peer = request.client.host if request.client else ""
    hops = request.headers.get("x-forwarded-for", "").split(",")[-8:]
    for address in (peer, *reversed(hops)):
        try:
            ip = ip_address(address.strip())
        except ValueError:
            continue
        if ip.is_global:
            return str(ip_network((ip, 64), strict=False)) if ip.version == 6 else str(ip)
    return peer


def _host(text: str) -> str:
    """``"[::1]:7860"`` → ``"::1"``; empty where it is no host's name."""
    try:
        return urlsplit(f"//{text}").hostname or ""
    except ValueError:
        return ""
