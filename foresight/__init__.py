"""Foresight: what does a vision-language model still know of a picture at this point of its depth?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foresight.adapters.checkpoint import load_adapter as load_adapter
    from foresight.adapters.checkpoint import save_adapter as save_adapter
    from foresight.data.clips import load_clip as load_clip
    from foresight.data.images import load_image as load_image
    from foresight.data.images import load_mask as load_mask
    from foresight.data.scenes import SceneSpec as SceneSpec
    from foresight.errors import InputError as InputError
    from foresight.inspection.evaluation import evaluate as evaluate
    from foresight.inspection.inspector import Inspector as Inspector
    from foresight.metrics.scores import score as score
    from foresight.models.points import ExtractionPoint as ExtractionPoint
    from foresight.models.vae import load_vae as load_vae
    from foresight.models.vlm import load_vlm as load_vlm

_HOMES = {
    "ExtractionPoint": "models.points",
    "InputError": "errors",
    "Inspector": "inspection.inspector",
    "SceneSpec": "data.scenes",
    "evaluate": "inspection.evaluation",
    "load_adapter": "adapters.checkpoint",
    "load_clip": "data.clips",
    "load_image": "data.images",
    "load_mask": "data.images",
    "load_vae": "models.vae",
    "load_vlm": "models.vlm",
    "save_adapter": "adapters.checkpoint",
    "score": "metrics.scores",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Imports a module when a name of it is first used: torch and its friends take seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module 'foresight' has no attribute {name!r}")
    return getattr(import_module(f"foresight.{_HOMES[name]}"), name)
