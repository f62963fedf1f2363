"""A map's address: ?tab=map&points=post-merge/0,post-merge/6&scenes=400&seed=0, and what else is not the default."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from foresight.data.factors import ANY
from foresight.data.scenes import BACKGROUNDS
from foresight.errors import InputError
from foresight.maps.data import METHODS, MapSpec
from foresight.schemas import default_of
from foresight.ui import view_link as link

TAB = "map"
_ALWAYS = ("points", "scenes", "seed")
_CHOICES = {
    "dimensions": ("2", "3"),
    "objects": ("1", "5"),
    "background": (ANY, *BACKGROUNDS),
    "method": METHODS,
}  # as the form's


def query(spec: MapSpec) -> str:
    """The address's part from ? on; empty for a person's own pictures, which no link can bring."""
    if spec.pictures:
        return ""
    settings = asdict(spec).items()
    words = {name: str(value) for name, value in settings if name in _ALWAYS or value != default_of(MapSpec, name)}
    return link.written({link.TAB: TAB, **words, "points": ",".join(spec.points)})


def spec_of(address: Mapping[str, str], default: str) -> MapSpec:
    """The map that an address names.

    Args:
        address: Its query, by name.
        default: The point where it names none.

    Raises:
        InputError: There is no such map.
    """
    defaults = {
        name: default_of(MapSpec, name) for name in MapSpec.__dataclass_fields__ if name not in ("points", "pictures")
    }
    texts = dict(address)
    if "objects" in texts:
        texts["objects"] = texts["objects"].removeprefix("1-")  # as older links have it
    values: dict[str, Any] = link.fields_of(texts, {"points": [default], **defaults}, _CHOICES)
    try:
        values["min_dist"] = float(values["min_dist"])
    except ValueError:
        raise InputError(f"min_dist must be a number such as 0.1, not {values['min_dist']!r}.") from None
    return MapSpec(**values | {"points": tuple(values["points"])})
