"""What a comparison gives to take away: its pictures in one sheet, and its scores as a table."""

from __future__ import annotations

import csv
import io

from PIL import Image

from foresight.ui import view_link as link
from foresight.ui.cards import NAMES
from foresight.ui.compare.grids import SECOND, Comparison
from foresight.ui.image_maps import Tile, sheet

COLUMNS = 6  # tiles side by side in the sheet


def pictures(comparison: Comparison, heading: str) -> Image.Image:
    """Of each image, which begins a row, original, oracle, blank page and every tile, under its title and its LPIPS."""
    tiles = list[Tile]()
    for image in comparison.images:
        tiles += [Tile("", "", None)] * (-len(tiles) % COLUMNS)
        tiles.append(Tile("original" + SECOND * image.second, "", _opened(image.original)))
        for tile in image.tiles:
            note = f"LPIPS {tile.reconstruction.scores['lpips']:.3f}"
            tiles.append(Tile(f"{tile.title}, {note}", note, _opened(tile.path)))
    return sheet(tiles, heading, COLUMNS)


def scores_table(comparison: Comparison) -> str:
    """CSV, a line for the oracle, the blank page and each tile of each image; no score is an empty cell."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow(["point", "adapter", *NAMES, "distance", "far", "why no mask IoU", "picture"])
    lines = [(link.name_of(image.source), tile.reconstruction) for image in comparison.images for tile in image.tiles]
    for picture, reconstruction in lines:
        record, scores = reconstruction.record, [reconstruction.scores[score] for score in NAMES]
        point, distances = (
            ("", ["", ""]) if record is None else (str(record.point), [reconstruction.distance, reconstruction.far])
        )
        table.writerow([point, reconstruction.name, *scores, *distances, reconstruction.mask_reason or "", picture])
    return text.getvalue()


def _opened(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
