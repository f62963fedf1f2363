"""A clip's address: ?tab=video&seed=7&motion=bounce&point=post-merge/6&adapter=tokens, or upload=3f…9a/clip.mp4&fps=8.

What an address does not name is as the form has it at first.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from foresight.errors import InputError
from foresight.ui import view_link as link
from foresight.ui.video.source import ClipSource, MovingScene, UploadedClip

TAB = "video"
_NUMBERS = {"seed": int, "objects": int, "frames": int, "fps": float, "start": float}


def query(source: ClipSource, point: str, adapter: str, pixels: str | None = None) -> str:
    """The address's part from ? on; empty where no link can open the source, which is no upload.

    pixels: how large the model sees frames; None as the adapter was fitted.
    """
    values: dict[str, Any] = dataclasses.asdict(source)
    if isinstance(source, UploadedClip):
        name = link.upload_name(values.pop("path"))
        if name is None:
            return ""
        values = {"upload": name, **values}
    words = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in values.items()}
    size = {"pixels": pixels} if pixels else {}
    return link.written({link.TAB: TAB, **words, "point": point, "adapter": adapter, **size})


def source_of(parameters: Mapping[str, str]) -> ClipSource | None:
    """The clip that an address names; None where it names none. Raises InputError where there is no such one."""
    kind = UploadedClip if "upload" in parameters else MovingScene
    fields = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {name: _value(name, text) for name, text in parameters.items() if name in fields}
    if kind is UploadedClip:
        return UploadedClip(path=link.upload_path(parameters["upload"], "clip"), **values)
    return MovingScene(**values) if values else None


def _value(name: str, text: str) -> Any:
    """A field's value; what is no number is refused by the field itself."""
    try:
        return _NUMBERS[name](text) if name in _NUMBERS else text
    except ValueError:
        raise InputError(f"{name} must be a number, not {text!r}.") from None
