"""The app on a tiny house, served on a free port of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from foresight.inspection.inspector import Inspector
from foresight.settings import Settings
from foresight.ui.shell import build_app, launch


@contextmanager
def serve(inspector: Inspector, training: Any = None, **settings: Any) -> Iterator[str]:
    """The address of the app, as long as the block lasts. training: a TrainingService; None leaves it out."""
    chosen = Settings(**settings)
    app = build_app(inspector, chosen, training)
    _, url, _ = launch(app, chosen, prevent_thread_lock=True, quiet=True)
    try:
        yield url.rstrip("/")
    finally:
        app.close()
