"""A map's address: ?tab=map&points=post-merge/0,post-merge/6&scenes=400&seed=0, and what else is not as usual."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from foresight.data.factors import ANY
from foresight.data.scenes import BACKGROUNDS
from foresight.errors import InputError
from foresight.maps.data import MapSpec
from foresight.schemas import default_of
from foresight.ui import view_link as link

TAB = "map"
_ALWAYS = ("points", "scenes", "seed")
_KNOWN = {"dimensions": ("2", "3"), "objects": ("1", "1-5"), "background": (ANY, *BACKGROUNDS)}
_WORDS = {"points": [], "objects": "1", "backgrounds": "white", "dimensions": "2", "min_dist": "0.1"}
_USUAL: dict[str, Any] = {  # the fields of a spec, in its order
    name.replace("backgrounds", "background"): _WORDS.get(name, default_of(MapSpec, name))
    for name in MapSpec.__dataclass_fields__
}


def query(spec: MapSpec) -> str:
    """The address's part from ? on."""
    values = {name: str(getattr(spec, name, "")) for name in _USUAL} | {
        "points": ",".join(spec.points),
        "objects": "1" if spec.objects[1] == 1 else "1-5",
        "background": spec.backgrounds[0] if len(spec.backgrounds) == 1 else ANY,
    }
    told = {name: value for name, value in values.items() if name in _ALWAYS or value != str(_USUAL[name])}
    return "?" + urlencode({link.TAB: TAB, **told}, safe="/,", quote_via=quote)


def spec_of(asked: Mapping[str, str], default: str) -> MapSpec:
    """The map that an address asks for; default: the point where it names none. Raises InputError."""
    values = link.fields_of(asked, _USUAL | {"points": [default]}, _KNOWN)
    background = values.pop("background")
    try:
        values["min_dist"] = float(values["min_dist"])
    except ValueError:
        raise InputError(f"min_dist must be a number such as 0.1, not {values['min_dist']!r}.") from None
    return MapSpec(
        **values
        | {
            "points": tuple(values["points"]),
            "dimensions": int(values["dimensions"]),
            "objects": (1, int(values["objects"][-1])),
            "backgrounds": BACKGROUNDS if background == ANY else (background,),
        }
    )
