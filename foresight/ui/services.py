"""What the tabs share: the queue of the models, uploaded images, and what strangers may know of the models."""

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from foresight.data.images import load_image
from foresight.errors import InputError
from foresight.inspection.inspector import Inspector

ImageSource = dict[str, Any] | str | None  # a scene's description, the path of an uploaded file, or no picture
# Events that compute with the models, one of each queue at a time; `turns` says whose step is next.
MODEL_QUEUE: dict[str, Any] = {"concurrency_id": "gpu", "concurrency_limit": 1}  # clicks
BATCH_QUEUE: dict[str, Any] = {"concurrency_id": "batch", "concurrency_limit": 1}  # of many steps
# An event without name or spinner. Not "hidden" alone: Gradio's page would keep the status of all its outputs, and go
# through those of all events so far at each message of any, which takes it up to a second.
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "show_progress_on": []}
# A quiet event whose handler is told what was clicked. Gradio's "always_last" would answer a click that comes while one
# is answered, but with what was clicked first.
CLICKS: dict[str, Any] = QUIET | {"trigger_mode": "multiple"}


def plain_html(value: str, elem_id: str, **options: Any) -> gr.HTML:
    """An HTML block that keeps no space around itself."""
    return gr.HTML(value, elem_id=elem_id, elem_classes="fs-plain", apply_default_css=False, **options)


def duration(seconds: float) -> str:
    """Seconds for people, at least one: "8 s", "3 min 20 s", "2 h 5 min"."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def public_facts(inspector: Inspector) -> dict[str, Any]:
    """`Inspector.facts` without folders, which are nobody else's business: a model's folder goes by its last name."""
    facts = inspector.facts()
    adapters = [{k: v for k, v in adapter.items() if k != "folder"} for adapter in facts["adapters"]]
    models = {"model": _public(facts["model"]), "vae": facts["vae"] | {"name": _public(facts["vae"]["name"])}}
    return {k: v for k, v in facts.items() if k != "refused"} | {"adapters": adapters, **models}


def _public(model: str) -> str:
    folder = Path(model).expanduser()
    return folder.absolute().name if folder.is_dir() else model


def open_picture(path: str | None) -> Image.Image:
    """An uploaded image. Raises InputError where there is none, or it cannot be used."""
    if path is None:
        raise InputError("choose a picture first: upload or paste one, take an example, or generate a scene.")
    return load_image(path)
