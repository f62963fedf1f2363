"""Points of the latent map as images: tiles of a selection, and one looked at closely, as HTML."""

import base64
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image, ImageDraw

from foresight.data.factors import ANY
from foresight.data.images import PATCH, to_pil
from foresight.inspection.readout import Reconstruction
from foresight.maps.data import BACKGROUND, MapSpec
from foresight.maps.fit import LatentMap, Projected
from foresight.maps.separability import Array
from foresight.ui.cards import HINTS, NAMES, number, shown_scores
from foresight.ui.image_maps import png
from foresight.ui.services import ImageSource

THUMBNAIL = 112  # pixels
NEIGHBOURS = 8


def caption(latent_map: LatentMap, index: int) -> str:
    """What a point of the map shows, such as "large red circle, top left"."""
    if latent_map.spec.pictures:
        return latent_map.data.pictures.name(int(latent_map.data.rows[index]))
    labels = {name: str(column[index]) for name, column in latent_map.data.labels.items()}
    what = "background" if labels["shape"] == BACKGROUND else f"{labels['size']} {labels['colour']} {labels['shape']}"
    return f"{what}, {labels['position']}"


def images(latent_map: LatentMap, indices: Sequence[int], side: int | None = None) -> list[Image.Image]:
    """The pictures of points, tokens framed.

    Args:
        latent_map: Whose points.
        indices: Which of them.
        side: Pixels of the shorter side; None: as the model sees them.
    """
    data = latent_map.data
    rows = [int(data.rows[index]) for index in indices]
    drawn = data.pictures.images(rows, side)
    if data.cells is not None:
        for image, row, cell in zip(drawn, rows, data.cells[np.asarray(indices)], strict=True):
            length = PATCH if side is None else PATCH * side / min(data.pictures.pixels(row)[0].shape[1:])
            _frame(image, cell, length)
    return drawn


def _frame(image: Image.Image, cell: Array, length: float) -> None:
    left, top = float(cell[1]) * length, float(cell[0]) * length
    draw = ImageDraw.Draw(image)
    for inset, ink in ((0, "white"), (1, "#d55e00"), (2, "#d55e00")):
        draw.rectangle((left + inset, top + inset, left + length - 1 - inset, top + length - 1 - inset), outline=ink)


def data_url(image: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def gallery(latent_map: LatentMap | None, indices: Sequence[int], count: int) -> str:
    """The first `count` of a selection as tiles; a click on one chooses it."""
    if latent_map is None or not len(indices):
        return (
            '<p class="fs-map-note">Nothing is selected. Draw a line around points with the lasso, or click a name '
            "under the map: what you select is shown here.</p>"
        )
    return _tiles(latent_map, [(int(i), caption(latent_map, int(i))) for i in indices[:count]])


def _tiles(latent_map: LatentMap, captions: Sequence[tuple[int, str]]) -> str:
    """Points with their captions; tab.js chooses the one that is clicked."""
    drawn = images(latent_map, [index for index, _ in captions], THUMBNAIL)
    tiles = "".join(
        f'<button type="button" data-map-index="{index}" title="{escape(text)}"><img src="{data_url(image)}" alt="">'
        f"<span>{escape(text)}</span></button>"
        for image, (index, text) in zip(drawn, captions, strict=True)
    )
    return f'<div class="fs-map-tiles">{tiles}</div>'


def detail(
    latent_map: LatentMap,
    point: str,
    of: int | Projected,
    image: Image.Image,
    reconstruction: Reconstruction | str | None,
    note: str = "",
) -> str:
    """A point looked at: its image, what an adapter reads out of it, and its nearest neighbours in latents.

    Args:
        latent_map: The map.
        point: The extraction point whose latents are meant.
        of: The point of the map, or an image that was projected in.
        image: That image, or the point's.
        reconstruction: By an adapter; why there is none; or None while it is being made.
        note: A warning.
    """
    rows, cosines = latent_map.neighbours(point, of, NEIGHBOURS)
    title = "your picture" if isinstance(of, Projected) else caption(latent_map, of)
    if isinstance(of, Projected) or not latent_map.spec.pictures:  # a file's name stays as it is
        title = title[0].upper() + title[1:]
    pairs = zip(rows.tolist(), cosines.tolist(), strict=True)
    tiles = _tiles(latent_map, [(i, f"{cosine:.3f} · {caption(latent_map, i)}") for i, cosine in pairs])
    return (
        f'<div class="fs-map-detail"><h4>{escape(title)} <span>at {escape(point)}</span></h4>'
        f"{f'<p class=warn>{escape(note)}</p>' if note else ''}"
        f'<div class="fs-map-pair"><figure><img src="{data_url(image)}" alt="The picture">'
        f"<figcaption>picture</figcaption></figure>{_reconstruction(reconstruction)}</div>"
        f"<h5>Nearest in latents <span>by the cosine{_shared(latent_map, of, rows)}</span></h5>"
        f"{tiles}</div>"
    )


def mismatch(spec: MapSpec, source: ImageSource) -> str:
    """Why an image is not of the kind that a map is made of; "" where it is."""
    if spec.pictures:
        return ""
    most, ground = spec.objects, spec.background
    count = "one object" if most == 1 else f"1 to {most} objects"
    kind = f"scenes with {count} on {'any background' if ground == ANY else ground}"
    if not isinstance(source, dict):
        return f"This map is of drawn {kind}, and your picture is none: its place tells little."
    objects, background = len(source["objects"]), str(source["background"]["kind"])
    if 1 <= objects <= most and ground in (ANY, background):
        return ""
    own = f"{objects} object{'' if objects == 1 else 's'} on {background}"
    return f"This map is of {kind}, and your picture has {own}: its place tells little. “More” has other scenes."


def _reconstruction(reconstruction: Reconstruction | str | None) -> str:
    if isinstance(reconstruction, Reconstruction):
        scores = "".join(_score(name, reconstruction.scores[name]) for name in shown_scores(reconstruction.scores))
        tag = f'<img src="{data_url(to_pil(reconstruction.image))}" alt="The reconstruction">'
        return f"<figure>{tag}<figcaption>read by {escape(reconstruction.name)} {scores}</figcaption></figure>"
    note = "is being read back …" if reconstruction is None else escape(reconstruction)
    return f'<figure><div class="none" role="status">{note}</div><figcaption>reconstruction</figcaption></figure>'


def _score(name: str, value: float | None) -> str:
    return f'<span title="{HINTS[name]}">{NAMES[name]} {"–" if value is None else number(name, value)}</span>'


def _shared(latent_map: LatentMap, of: int | Projected, rows: Array) -> str:
    """How many neighbours share the point's labels."""
    if isinstance(of, Projected):
        return ""
    labels = latent_map.data.labels
    counts = (
        f"{sum(labels[name][rows] == labels[name][of])} of {len(rows)} of the same {name}"
        for name in labels
        if len(set(labels[name])) > 1
    )
    return "; " + ", ".join(counts)
