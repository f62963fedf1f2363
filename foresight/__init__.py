"""Foresight: what does a vision-language model still know of a picture at this point of its depth?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foresight.checkpoint import load_adapter as load_adapter
    from foresight.checkpoint import save_adapter as save_adapter
    from foresight.errors import InputError as InputError
    from foresight.evaluation import evaluate as evaluate
    from foresight.images import load_image as load_image
    from foresight.images import load_mask as load_mask
    from foresight.inspector import Inspector as Inspector
    from foresight.metrics import score as score
    from foresight.points import ExtractionPoint as ExtractionPoint
    from foresight.scenes import SceneSpec as SceneSpec
    from foresight.vae import load_vae as load_vae
    from foresight.vlm import load_vlm as load_vlm

_HOMES = {
    "ExtractionPoint": "points",
    "InputError": "errors",
    "Inspector": "inspector",
    "SceneSpec": "scenes",
    "evaluate": "evaluation",
    "load_adapter": "checkpoint",
    "load_image": "images",
    "load_mask": "images",
    "load_vae": "vae",
    "load_vlm": "vlm",
    "save_adapter": "checkpoint",
    "score": "metrics",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Imports a module when a name of it is first used: torch and its friends take seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module 'foresight' has no attribute {name!r}")
    return getattr(import_module(f"foresight.{_HOMES[name]}"), name)
