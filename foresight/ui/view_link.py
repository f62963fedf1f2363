"""A view's address: the image (an example, a seed and its factors, a packed scene, or a kept upload), the point and
the adapter.

?example=one-on-white&point=post-merge/6&adapter=tokens      (with &pixels=448² as large as that to the model)
?seed=11&shape=star&objects=2&point=pre-merge/3
?upload=3f…9a/photo.jpg&point=post-merge/6&adapter=tokens    (an upload, as long as the app keeps its file)
?tab=compare&example=one-on-white&adapters=tokens,linear&left=oracle&right=post-merge/6,tokens   (at many layers)
?tab=compare&example=cat&second-seed=11&adapters=tokens      (the same of two pictures)
?tab=failures&point=post-merge/6&adapter=tokens&shapes=star  (many scenes; what is not named is as the tab has it)
?tab=video&seed=7&motion=bounce&point=post-merge/6&adapter=tokens                (a clip: a moving scene, or an upload)
?run=quick-look                                              (a run of the Train tab)
?tab=findings                                                (a tab as it is)
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import zlib
from collections.abc import Collection, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from foresight.data.names import shortened
from foresight.data.scenes import MAX_OBJECTS, Scenes
from foresight.errors import InputError
from foresight.ui import examples, generate, limits
from foresight.ui.gradio_internals import get_upload_folder
from foresight.ui.services import ImageSource

# An address with one of these asks for a view.
NAMES = {"example", "scene", "upload", "point", "adapter", "pixels", *generate.FACTORS}
RUN = "run"  # an address with this asks for a run of the Train tab
TAB = "tab"  # an address with this asks for that tab; with nothing else, for the tab as it is
_SECOND = "second-"  # before the names of the second picture's parameters, in an address of Compare
_BETWEEN = " · "  # a point and an adapter's name, in a tile's title
SIDES = (56, 448)  # pixels; what a linked scene's sides may be, since anybody can write a link
# The browser's history: one entry for each view and each tab that a person opens. `view` is told a view's address when
# it is shown, `opened` the name of a tab; what a person neither pressed nor clicked belongs to the entry that is there.
# Back and Forward go to `travel`, which the page sets: the query, and whether the tab shows that very view still. The
# entry that they lead to keeps its address until somebody acts there: another view was asked for in the entry that was
# left, and comes late.
HISTORY = """
// Where a page has a base, Plotly clips by names with the page's whole address: at another one nothing would be seen.
const base = document.querySelector('base[href]');
if (base?.href === new URL('.', location.href).href) base.removeAttribute('href');
const sorted = query => {
  const parameters = new URLSearchParams(query);
  parameters.delete('__theme');
  parameters.sort();
  return parameters;
};
const same = (a, b) => String(sorted(a)) === String(sorted(b));
const tabOf = query => {
  const parameters = new URLSearchParams(query);
  return parameters.get('tab') ?? (parameters.has('run') ? 'train' : 'inspect');
};
const isTabAlone = query => String([...sorted(query).keys()]) === 'tab';
const linkOf = tab => document.querySelector(`#tab-${CSS.escape(tab)} [data-link]`)?.dataset.link ?? '';
const write = (address, replace) => {
  const parameters = new URLSearchParams(address), theme = new URLSearchParams(location.search).get('__theme');
  if (theme) parameters.set('__theme', theme);
  history[replace ? 'replaceState' : 'pushState'](null, '', '?' + parameters);
};
let settling = Boolean(String(sorted(location.search)));  // the next view belongs to the entry that is there
let reached = null;  // the query of the entry that Back or Forward led to, until somebody acts in its tab
const acted = event => {
  if (!event.isTrusted) return;
  settling = false;
  if (reached !== null && document.getElementById('tab-' + tabOf(reached))?.checkVisibility() !== false) reached = null;
};
addEventListener('pointerdown', acted, true);
addEventListener('keydown', acted, true);
window.viewHistory = {
  view: address => {
    const here = location.search, completes = isTabAlone(here) && tabOf(here) === tabOf(address);
    if (reached !== null && !same(address, reached) && !completes) return;
    if (!same(address, here)) write(address, settling || completes);
    settling = false;
  },
  opened: tab => {
    if (settling || tabOf(location.search) === tab) return;  // a page that loads opens its first tab, which nobody did
    reached = null;
    write(linkOf(tab) || 'tab=' + tab);
    settling = true;
  },
  travel: () => {},
};
addEventListener('popstate', () => {
  settling = true;
  const query = reached = location.search;
  window.viewHistory.travel({query, stays: isTabAlone(query) || same(linkOf(tabOf(query)), query)});
});
"""
# In an HTML block whose value holds data-link, the address of what a person looks at: a reload, a copied link, or Back
# opens it again.
ADDRESS = """watch('value', () => {
  const link = element.querySelector('[data-link]')?.dataset.link;
  if (link && element.checkVisibility()) window.viewHistory?.view(link);
});"""
_UPLOAD = re.compile(r"([0-9a-f]{32,64})/([^/\\\0]{1,255})")  # a folder of the upload folder, and a file's name in it
_ROOM = 20_000  # characters of a scene's description; five objects take 1,500


def query(source: ImageSource, point: str, adapter: str | None, pixels: str | None = None) -> str:
    """The address's part from ? on; empty where no link can open the source: without it another image would open.

    pixels: how large the model sees the image; None as the adapter was fitted.
    """
    if (image := _image(source)) is None:
        return ""
    parts = {"point": point, "adapter": adapter, "pixels": pixels}
    return written({**image, **{name: part for name, part in parts.items() if part}})


def compare_query(
    source: ImageSource,
    adapters: Sequence[str],
    left: str | None = None,
    right: str | None = None,
    pixels: str | None = None,
    points: Sequence[str] = (),
    second: ImageSource = None,
) -> str:
    """`query` of the Compare tab.

    left, right: the titles of the tiles that were chosen to be side by side. points: those that were chosen, none for
    all. second: of the second picture, if there is one.
    """
    image, other = _image(source), _image(second)
    if image is None or other is None:
        return ""
    image |= {_SECOND + name: value for name, value in other.items()}
    sides = {side: title.replace(_BETWEEN, ",") for side, title in (("left", left), ("right", right)) if title}
    size = {"points": ",".join(points)} if points else {}
    size |= {"pixels": pixels} if pixels else {}
    return written({TAB: "compare", **image, "adapters": ",".join(adapters), **sides, **size})


def compare_sides(parameters: Mapping[str, str], titles: Collection[str]) -> tuple[str | None, str | None]:
    """The titles of the tiles that an address of Compare puts side by side; None where it names none.

    Args:
        parameters: The address's parameters.
        titles: Those of all tiles that the comparison will have.

    Raises:
        InputError: For a tile that the comparison does not have.
    """
    texts = [parameters.get(side) for side in ("left", "right")]
    sides = [None if text is None else text.replace(",", _BETWEEN) for text in texts]
    for text, title in zip(texts, sides, strict=True):
        if title is not None and title not in titles:
            raise InputError(f"the link's comparison has no tile {text!r}.")
    return sides[0], sides[1]


def second_source_of(parameters: Mapping[str, str]) -> ImageSource:
    """`source_of` of the second picture that an address of Compare names."""
    return source_of({k.removeprefix(_SECOND): v for k, v in parameters.items() if k.startswith(_SECOND)})


def link_html(address: str, *sources: ImageSource) -> str:
    """The link to an address in words, with what is to be known of it; or why there is none."""
    if not address:
        return "no link: the picture is a file of this machine"
    uploaded = any(isinstance(source, str) and not examples.photo_slug(source) for source in sources)
    how_long = f", for the {limits.KEPT // 3600} hours that the upload is kept" if uploaded else ""
    return f'<a href="{escape(address)}">link to this view</a>{how_long}'


def failures_query(point: str, adapter: str, fields: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """`query` of the Failures tab; of the fields those that are not as usual."""
    changed = {name: value for name, value in fields.items() if value != usual[name]}
    words = {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in changed.items()}
    return written({TAB: "failures", "point": point, "adapter": adapter, **words})


def written(parameters: Mapping[str, str]) -> str:
    """An address's part from ? on."""
    return "?" + urlencode(parameters, safe="/,", quote_via=quote)


def fields_of(
    parameters: Mapping[str, str], usual: Mapping[str, Any], known: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """The fields that an address names, as values like the usual ones, and the usual ones of the others.

    known: by name, the words that a field may hold. Raises InputError.
    """
    return {
        name: value if name not in parameters else _value(name, parameters[name], value, (known or {}).get(name))
        for name, value in usual.items()
    }


def _value(name: str, text: str, usual: Any, known: Sequence[str] | None) -> Any:
    if isinstance(usual, bool):
        known = ("True", "False")
    words = text.split(",") if isinstance(usual, list) else [text]
    if known is not None and (strange := [word for word in words if word not in known]):
        raise InputError(f"unknown {name} {strange[0]!r}: choose from {', '.join(known)}.")
    if isinstance(usual, bool):
        return text == "True"
    if isinstance(usual, int):
        if not text.isdecimal() or len(text) > 12:
            raise InputError(f"{name} must be a whole number of at least 0, not {text!r}.")
        return int(text)
    return words if isinstance(usual, list) else text


def _image(source: ImageSource) -> dict[str, str] | None:
    """What an address says of a source's image; None for a file that is no upload."""
    if source is None:
        return {}
    if slug := examples.photo_slug(source):
        return {"example": slug}
    if isinstance(source, str):
        return {"upload": name} if (name := upload_name(source)) else None
    if "recipe" in source:
        return {name: str(value) for name, value in source["recipe"].items()}
    packed = zlib.compress(json.dumps(source, separators=(",", ":")).encode(), 9)
    return {"scene": base64.urlsafe_b64encode(packed).decode().rstrip("=")}


def source_of(parameters: Mapping[str, str]) -> ImageSource:
    """The picture that an address asks for; None where it names none. Raises InputError where there is no such one."""
    if "example" in parameters:
        return examples.example(parameters["example"])
    if "seed" in parameters:
        return generate.make_scene(**fields_of(parameters, generate.FACTORS))
    if "scene" in parameters:
        return _unpack(parameters["scene"])
    if "upload" in parameters:
        return upload_path(parameters["upload"])
    if factor := next((name for name in generate.FACTORS if name in parameters), None):
        raise InputError(f"an address with {factor} asks for a drawn scene, which needs its seed too, such as seed=0.")
    return None


def upload_name(path: str) -> str | None:
    """What an address calls an upload's file; None for any other file."""
    file = Path(path).resolve()
    name = f"{file.parent.name}/{file.name}"
    is_upload = file.parent.parent == Path(get_upload_folder()).resolve() and _UPLOAD.fullmatch(name)
    return name if is_upload else None


def upload_path(text: str, noun: str = "picture") -> str:
    """The file of an upload. Its folder's name is a digest of what it holds, or random: nobody else can name it.

    Raises InputError where it is gone; noun: what it held.
    """
    match = _UPLOAD.fullmatch(text)
    path = None if match is None else Path(get_upload_folder()) / match[1] / match[2]
    if path is None or not os.path.isfile(path):
        raise InputError(f"the {noun} of this link was an upload, and is no longer kept here: upload it again.")
    return str(path)


def _unpack(text: str) -> dict[str, Any]:
    try:
        packed = base64.urlsafe_b64decode(text[:_ROOM] + "=" * (-len(text) % 4))
        scene = json.loads(zlib.decompressobj().decompress(packed, _ROOM))
    except (binascii.Error, zlib.error, ValueError, RecursionError) as error:
        raise InputError("the link's scene is broken: copy the link anew.") from error
    if not isinstance(scene, dict):
        raise InputError("the link's scene is broken: copy the link anew.")
    described = Scenes.from_description(scene)
    if not all(SIDES[0] <= side <= SIDES[1] for side in described.size) or not 1 <= int(described.count) <= MAX_OBJECTS:
        raise InputError(f"a linked scene has 1 to {MAX_OBJECTS} objects and sides of {SIDES[0]} to {SIDES[1]} px.")
    return described.describe(0)


def name_of(source: ImageSource) -> str:
    """A short name for files: "example-one-on-white", "seed-11-star", "scene-0f…" or an upload's own."""
    if slug := examples.photo_slug(source):
        return f"example-{slug}"
    if isinstance(source, str):
        return shortened(Path(source).stem, 40)
    if source is None:
        return "picture"
    if "recipe" in source:
        factors = {k: v for k, v in source["recipe"].items() if k != "overlap"}
        return "-".join(f"{k}-{v}" if k in ("example", "seed") else str(v) for k, v in factors.items()).replace(
            " ", "-"
        )
    return f"scene-{Scenes.from_description(source).digest(0)}"
