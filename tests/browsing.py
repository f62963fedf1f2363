"""Headless Chromium, and pages that ask no other host and log no error.

A test file of a tab has a fixture `url`, a selector READY of what its page shows when it is ready, and the mark
`needs_chromium`; `browser` and `visit` (in conftest.py) do the rest.
"""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api")
expect, TooLate = playwright.expect, playwright.TimeoutError
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 240_000  # ms; only a crowded machine needs so many
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def serious_faults(page: Any) -> list[Any]:
    """What axe-core finds serious or critical: the rule, and where it is broken."""
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(page).response["violations"]
    grave = [fault for fault in violations if fault["impact"] in ("serious", "critical")]
    return [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in grave]


def chromium() -> Iterator[Any]:
    expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


def visits(browser: Any, url: str, ready: str) -> Iterator[Callable[..., Any]]:
    """Gives a function that opens the page; at the end no other host was asked, and no error was logged.

    A page that is left or reloaded logs the calls that were cut, so tests open another and close the first.
    """
    contexts: list[Any] = []
    outside: list[str] = []
    errors: list[str] = []

    def opened(width: int = 1280, height: int = 900, dark: bool = False, asked: str = "", ready: str = ready) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": height}))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda r: outside.append(r.url) if not r.url.startswith((url, "data:", "blob:")) else None)
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: errors.append(e.stack or str(e)))
        page.goto(f"{url}/?__theme={'dark' if dark else 'light'}&{asked.lstrip('&')}")
        expect(page.locator(ready).first).to_be_visible()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not outside
    assert not errors
