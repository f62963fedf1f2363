"""A view's address: the picture (an example, a seed and its factors, or a packed scene), the point and the adapter.

?example=one-on-white&point=post-merge/6&adapter=tokens      ?seed=11&shape=star&objects=2&point=pre-merge/3
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from foresight.errors import InputError
from foresight.scenes import MAX_OBJECTS, Scenes
from foresight.ui import generate
from foresight.ui.doors import Case

NAMES = {"example", "seed", "scene", "point", "adapter"}  # an address with one of these asks for a view
SIDES = (56, 448)  # pixels; what a linked scene's sides may be, since anybody can write a link
_ROOM = 20_000  # characters of a scene's description; five objects take 1,500


def query(case: Case, point: str, adapter: str | None) -> str:
    """The address's part from ? on. An upload is on no other page, so its link names point and adapter alone."""
    asked = {**_picture(case), "point": point, **({"adapter": adapter} if adapter else {})}
    return "?" + urlencode(asked, safe="/", quote_via=quote)


def _picture(case: Case) -> dict[str, str]:
    if not isinstance(case, dict):
        return {}
    if "recipe" in case:
        return {name: str(value) for name, value in case["recipe"].items()}
    packed = zlib.compress(json.dumps(case, separators=(",", ":")).encode(), 9)
    return {"scene": base64.urlsafe_b64encode(packed).decode().rstrip("=")}


def case_of(asked: Mapping[str, str]) -> Case:
    """The picture that an address asks for; None where it names none. Raises InputError where there is no such one."""
    if "example" in asked:
        return generate.example(asked["example"])
    if "seed" in asked:
        return generate.from_recipe({k: v for k, v in asked.items() if k in generate.FACTORS})
    return _unpack(asked["scene"]) if "scene" in asked else None


def _unpack(text: str) -> dict[str, Any]:
    try:
        packed = base64.urlsafe_b64decode(text[:_ROOM] + "=" * (-len(text) % 4))
        scene = json.loads(zlib.decompressobj().decompress(packed, _ROOM))
    except (binascii.Error, zlib.error, ValueError) as error:
        raise InputError("the link's scene is broken: copy the link anew.") from error
    if not isinstance(scene, dict):
        raise InputError("the link's scene is broken: copy the link anew.")
    described = Scenes.from_description(scene)
    if not all(SIDES[0] <= side <= SIDES[1] for side in described.size) or not 1 <= int(described.count) <= MAX_OBJECTS:
        raise InputError(f"a linked scene has 1 to {MAX_OBJECTS} objects and sides of {SIDES[0]} to {SIDES[1]} px.")
    return described.describe(0)


def name_of(case: Case) -> str:
    """A short name for files: "example-one-on-white", "seed-11-star", "scene-0f…" or an upload's own."""
    if isinstance(case, str):
        return Path(case).stem[:40]
    if case is None:
        return "picture"
    if "recipe" in case:
        told = {k: v for k, v in case["recipe"].items() if k != "overlap"}
        return "-".join(f"{k}-{v}" if k in ("example", "seed") else str(v) for k, v in told.items()).replace(" ", "-")
    return f"scene-{Scenes.from_description(case).digest(0)}"
