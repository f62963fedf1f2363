"""Results as pictures: maps in colour, masks laid over each other, the strip of tiles.

Pictures are (3, H, W) in [0, 1], maps (H, W), masks (H, W) bool.
"""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from foresight.adapters.registry import AdapterRecord
from foresight.data.images import to_pil
from foresight.inspection.inspector import Report
from foresight.inspection.readout import Reconstruction
from foresight.models.points import ExtractionPoint

# Cividis (Nuñez, Anderton and Renslow 2018), which looks the same to all kinds of colour vision.
_CIVIDIS = ((0, 34, 78), (53, 69, 108), (102, 105, 112), (148, 142, 119), (200, 184, 102), (254, 232, 56))
DIFFERENCE_TOP, LPIPS_TOP = 0.5, 0.8  # what the brightest colour stands for, the same for every picture
WEBP_SIDE = 16_383  # pixels
Place = Callable[[Image.Image], str]  # puts a picture where the page finds it: the `src` of an `<img>`
_BLUE, _VERMILION, _GREY = (0, 114, 178), (213, 94, 0), (120, 130, 140)


@dataclass(frozen=True)
class Tile:
    """A picture and its caption in two lines; no picture where there is none to show.

    marked: the chosen one. offer: without a picture, the point and the adapter that would make it. scale: what the
    colours stand for, from the darkest to the brightest.
    """

    title: str
    note: str
    picture: Image.Image | None
    marked: bool = False
    offer: tuple[ExtractionPoint, str] | None = None
    scale: tuple[str, str] | None = None


def tiles(report: Report, unread: Iterable[AdapterRecord] = ()) -> list[Tile]:
    """Original, oracle, each kind of adapter, others, then what the chosen one got wrong and where.

    unread: adapters of the point that are read when somebody asks for them.
    """
    chosen, reconstructions = report.chosen, report.reconstructions
    kinds = {
        kind: next((r for r in reconstructions if r.name == kind), None) for kind in ("linear", "pooled", "tokens")
    }
    # A folder from elsewhere may have any name, a kind's too, so that a name alone does not tell adapters apart.
    others = [(r.name, r) for r in reconstructions if not any(r is bundled for bundled in kinds.values())]
    of = f"of {chosen.name}"
    return [
        Tile("original", "as the model sees it", to_pil(report.original)),
        Tile("oracle", f"the VAE alone, {_lpips(report.oracle)}", to_pil(report.oracle.image)),
        *(_adapter_tile(name, other, chosen) for name, other in [*kinds.items(), *others]),
        *(Tile(e.name, "press to read it", None, offer=(e.point, e.name)) for e in unread),
        _heat_tile("difference", of, chosen.difference, DIFFERENCE_TOP),
        _heat_tile("LPIPS map", of, chosen.lpips_map, LPIPS_TOP),
        _mask_tile(report, chosen),
    ]


def _adapter_tile(name: str, reconstruction: Reconstruction | None, chosen: Reconstruction) -> Tile:
    if reconstruction is None:
        return Tile(name, "none at this layer", None)
    return Tile(
        name,
        _lpips(reconstruction) + (", shown above" if reconstruction is chosen else ""),
        to_pil(reconstruction.image),
        reconstruction is chosen,
    )


def _lpips(reconstruction: Reconstruction) -> str:
    return f"LPIPS {reconstruction.scores['lpips']:.3f}"


def _heat_tile(title: str, of: str, values: Tensor, top: float) -> Tile:
    return Tile(title, of, heat(values, top), scale=("0", f"{top}+"))


def _mask_tile(report: Report, chosen: Reconstruction) -> Tile:
    if chosen.mask_reason is not None:
        return Tile("masks", chosen.mask_reason, None)
    return Tile("masks", "grey: both, blue stripes: lost, orange dots: added", masks_over(report.mask, chosen.mask))


def heat(values: Tensor, top: float) -> Image.Image:
    """A map (H, W) in colours from dark blue (0) to yellow (`top` or more)."""
    table = torch.tensor(_CIVIDIS) / 255
    place = (values / top).clamp(0, 1) * (len(table) - 1)  # (H, W)
    low = place.long().clamp(max=len(table) - 2)
    return to_pil(torch.lerp(table[low], table[low + 1], (place - low)[..., None]).permute(2, 0, 1))


def masks_over(original: Tensor, reconstructed: Tensor) -> Image.Image:
    """Two masks (H, W): grey where they agree, blue stripes where the second lacks, orange dots where it adds."""
    height, width = original.shape
    y, x = torch.arange(height)[:, None], torch.arange(width)[None, :]
    stripes, dots = (x + y) % 6 < 3, (x % 4 < 2) & (y % 4 < 2)
    picture = torch.ones(height, width, 3)
    for where, color in (
        (original & reconstructed, _GREY),
        (original & ~reconstructed & stripes, _BLUE),
        (reconstructed & ~original & dots, _VERMILION),
    ):
        picture[where] = torch.tensor(color) / 255
    return to_pil(picture.permute(2, 0, 1))


def png(picture: Image.Image) -> bytes:
    """A picture's PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def lossless(picture: Image.Image) -> tuple[bytes, str]:
    """A picture's file, pixel by pixel as it is, and how its name ends.

    WebP, made in half the time of a PNG, and smaller; a PNG where a side is longer than WebP knows.
    """
    if max(picture.size) > WEBP_SIDE:
        return png(picture), "png"
    file = io.BytesIO()
    picture.save(file, "WEBP", lossless=True, method=0, quality=0)
    return file.getvalue(), "webp"


def tile_grid(tiles: list[Tile], place: Place) -> str:
    """The tiles as HTML, captions escaped."""
    return f'<div class="fs-tiles">{"".join(_figure(tile, place) for tile in tiles)}</div>'


def _figure(tile: Tile, place: Place) -> str:
    title, note = escape(tile.title), escape(tile.note)
    if tile.picture is not None:
        frame = (
            f'<button type="button" class="frame" data-enlarge aria-expanded="false" title="Enlarge">'
            f'<img src="{place(tile.picture)}" alt="{title}: {note}"></button>'
        )
    elif tile.offer:
        point, adapter = tile.offer
        frame = (
            f'<button type="button" class="frame" data-point="{point}" data-adapter="{escape(adapter)}" '
            f'aria-label="Read with {title}">▶</button>'
        )
    else:
        frame = '<div class="frame" aria-hidden="true">–</div>'
    scale = "<i></i>".join(map(escape, tile.scale or ()))
    bar = f'<span class="bar">{scale}</span>' if scale else ""
    return (
        f'<figure class="{"marked" if tile.marked else ""}">{frame}'
        f"<figcaption><b>{title}</b>{bar}<span>{note}</span></figcaption></figure>"
    )


def sheet(tiles: list[Tile], heading: str, columns: int | None = None) -> Image.Image:
    """The tiles in one picture, each under its title, `heading` on top; so many side by side, or all of them."""
    columns = min(columns or len(tiles), len(tiles))
    sizes = [tile.picture.size for tile in tiles if tile.picture is not None]
    width, height = (max(sides) for sides in zip(*sizes, strict=True))
    side, top, gap, title = max(width, 150), 34, 8, 30
    rows = -(-len(tiles) // columns)
    paper = Image.new("RGB", (columns * (side + gap) + gap, top + rows * (title + height + gap)), "white")
    draw, font, small = ImageDraw.Draw(paper), ImageFont.load_default(15), ImageFont.load_default(13)
    draw.text((gap, 8), heading, "black", font)
    for i, tile in enumerate(tiles):
        x, y = gap + i % columns * (side + gap), top + i // columns * (title + height + gap)
        draw.text((x, y), tile.title, "black", font if len(tile.title) < 20 else small)
        if tile.picture is None:
            draw.text((x, y + title + 8), tile.note, "dimgray", small)
        else:
            paper.paste(tile.picture, (x, y + title))
            right, bottom = x + tile.picture.width, y + title + tile.picture.height
            draw.rectangle((x - 1, y + title - 1, right, bottom), outline="lightgray")
    return paper
