"""What a comparison gives to take away: its pictures in one sheet, and its scores as a table."""

from __future__ import annotations

import csv
import io

from PIL import Image

from foresight.ui.cards import NAMES
from foresight.ui.compare.grids import Comparison
from foresight.ui.image_maps import Tile, sheet

COLUMNS = 6  # tiles side by side in the sheet


def pictures(comparison: Comparison, heading: str) -> Image.Image:
    """Original, oracle, blank page and every tile, each under its title and its LPIPS."""
    tiles = [Tile("original", "", _opened(comparison.original))]
    for tile in comparison.tiles:
        note = f"LPIPS {tile.reconstruction.scores['lpips']:.3f}"
        tiles.append(Tile(f"{tile.title}, {note}", note, _opened(tile.path)))
    return sheet(tiles, heading, COLUMNS)


def scores_table(comparison: Comparison) -> str:
    """CSV, a line for the oracle, the blank page and each tile; an empty cell where there is no score."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow(["point", "adapter", *NAMES, "distance", "far", "why no mask IoU"])
    for reconstruction in (tile.reconstruction for tile in comparison.tiles):
        record, scores = reconstruction.record, [reconstruction.scores[score] for score in NAMES]
        point, distances = (
            ("", ["", ""]) if record is None else (str(record.point), [reconstruction.distance, reconstruction.far])
        )
        table.writerow([point, reconstruction.name, *scores, *distances, reconstruction.mask_reason or ""])
    return text.getvalue()


def _opened(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
