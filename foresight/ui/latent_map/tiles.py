"""Points of the latent map as pictures: tiles of a selection, and one looked at closely, as HTML."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import numpy as np
import torch
from PIL import Image, ImageDraw

from foresight.data.images import PATCH, to_pil
from foresight.data.render import render
from foresight.data.scenes import BACKGROUNDS
from foresight.inspection.readout import Reconstruction
from foresight.maps.data import BACKGROUND, KINDS, MapSpec
from foresight.maps.fit import LatentMap, Projected
from foresight.maps.separability import Array
from foresight.metrics.scores import SCORES
from foresight.ui.cards import HINTS, NAMES, number
from foresight.ui.image_maps import png
from foresight.ui.navigation import ImageSource

THUMBNAIL = 112  # pixels
NEIGHBOURS = 8


def words(found: LatentMap, index: int) -> str:
    """What a point of the map shows, such as "large red circle, top left"."""
    labels = {name: str(column[index]) for name, column in found.data.labels.items()}
    what = "background" if labels["shape"] == BACKGROUND else f"{labels['size']} {labels['colour']} {labels['shape']}"
    return f"{what}, {labels['position']}"


def pictures(found: LatentMap, indices: Sequence[int], side: int | None = None) -> list[Image.Image]:
    """The scenes of points, tokens framed; side: pixels of the shorter side, None as the model sees them."""
    data = found.data
    chosen = data.scenes[torch.from_numpy(data.rows[np.asarray(indices)])]
    factor = 1.0 if side is None else side / min(chosen.size)
    height, width = (round(v * factor) for v in chosen.size)
    drawn = [to_pil(x / 255) for x in render(chosen.resized((height, width))).images]
    if data.cells is not None:
        for image, cell in zip(drawn, data.cells[np.asarray(indices)], strict=True):
            _frame(image, cell, PATCH * factor)
    return drawn


def _frame(image: Image.Image, cell: Array, length: float) -> None:
    left, top = float(cell[1]) * length, float(cell[0]) * length
    draw = ImageDraw.Draw(image)
    for inset, ink in ((0, "white"), (1, "#d55e00"), (2, "#d55e00")):
        draw.rectangle((left + inset, top + inset, left + length - 1 - inset, top + length - 1 - inset), outline=ink)


def data_url(image: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def gallery(found: LatentMap | None, indices: Sequence[int], shown: int) -> str:
    """The first `shown` of a selection as tiles; a click on one chooses it."""
    if found is None or not len(indices):
        return (
            '<p class="fs-map-note">Nothing is selected. Draw a line around points with the lasso, or click a name '
            "under the map: what you select is shown here.</p>"
        )
    return _tiles(found, [(int(i), words(found, int(i))) for i in indices[:shown]])


def _tiles(found: LatentMap, told: Sequence[tuple[int, str]]) -> str:
    """Points with their captions; tab.js chooses the one that is clicked."""
    images = pictures(found, [index for index, _ in told], THUMBNAIL)
    tiles = "".join(
        f'<button type="button" data-map-index="{index}" title="{escape(caption)}"><img src="{data_url(image)}" alt="">'
        f"<span>{escape(caption)}</span></button>"
        for image, (index, caption) in zip(images, told, strict=True)
    )
    return f'<div class="fs-map-tiles">{tiles}</div>'


def detail(
    found: LatentMap,
    point: str,
    of: int | Projected,
    image: Image.Image,
    made: Reconstruction | str | None,
    note: str = "",
) -> str:
    """A point looked at: its picture, what an adapter reads out of it, and its nearest neighbours in latents.

    of: the point of the map, or a picture that was projected in. image: the picture. made: the reconstruction;
    why there is none; or None while it is being made. note: a warning.
    """
    rows, cosines = found.neighbours(point, of, NEIGHBOURS)
    what = "Your picture" if isinstance(of, Projected) else words(found, of)
    pairs = zip(rows.tolist(), cosines.tolist(), strict=True)
    tiles = _tiles(found, [(i, f"{cosine:.3f} · {words(found, i)}") for i, cosine in pairs])
    return (
        f'<div class="fs-map-detail"><h4>{escape(what[0].upper() + what[1:])} <span>at {escape(point)}</span></h4>'
        f"{f'<p class=warn>{escape(note)}</p>' if note else ''}"
        f'<div class="fs-map-pair"><figure><img src="{data_url(image)}" alt="The picture">'
        f"<figcaption>picture</figcaption></figure>{_reconstruction(made)}</div>"
        f"<h5>Nearest in latents <span>by the cosine{_shared(found, of, rows)}</span></h5>"
        f"{tiles}</div>"
    )


def stranger(spec: MapSpec, case: ImageSource) -> str:
    """Why a picture is not of the kind that a map is made of; "" where it is."""
    low, high = spec.objects
    count = "one object" if high == 1 else f"{low} to {high} objects"
    kind = f"scenes with {count} on {'any background' if spec.backgrounds == BACKGROUNDS else spec.backgrounds[0]}"
    if not isinstance(case, dict):
        return f"This map is of drawn {kind}, and your picture is none: its place tells little."
    objects, ground = len(case["objects"]), str(case["background"]["kind"])
    if low <= objects <= high and ground in spec.backgrounds:
        return ""
    own = f"{objects} object{'' if objects == 1 else 's'} on {ground}"
    return f"This map is of {kind}, and your picture has {own}: its place tells little. “More” has other scenes."


def _reconstruction(made: Reconstruction | str | None) -> str:
    if isinstance(made, Reconstruction):
        values = {name: "–" if (v := made.scores[name]) is None else number(name, v) for name in SCORES}
        told = "".join(f'<span title="{HINTS[n]}">{NAMES[n]} {value}</span>' for n, value in values.items())
        shown = f'<img src="{data_url(to_pil(made.image))}" alt="The reconstruction">'
        return f"<figure>{shown}<figcaption>read by {escape(made.name)} {told}</figcaption></figure>"
    note = "is being read back …" if made is None else escape(made)
    return f'<figure><div class="none" role="status">{note}</div><figcaption>reconstruction</figcaption></figure>'


def _shared(found: LatentMap, of: int | Projected, rows: Array) -> str:
    """How many neighbours share the point's labels."""
    if isinstance(of, Projected):
        return ""
    labels = found.data.labels
    told = (
        f"{sum(labels[name][rows] == labels[name][of])} of {len(rows)} of the same {name}"
        for name in KINDS
        if len(set(labels[name])) > 1
    )
    return "; " + ", ".join(told)
