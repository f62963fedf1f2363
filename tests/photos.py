"""Photos as phones save them: pixels as the sensor lay, and an EXIF orientation that says how to turn them."""

from pathlib import Path

from PIL import ExifTags, Image, ImageOps

ORIENTATIONS = range(1, 9)  # all that the EXIF standard has
COLOURS = ("red", "green", "blue", "yellow")  # of the quarters: top left, top right, bottom left, bottom right


def save_photo(path: Path, orientation: int) -> Image.Image:
    """Writes a photo of 96 × 64 stored pixels, each quarter of its own colour; returns it upright, by Pillow."""
    stored = Image.new("RGB", (96, 64))
    for i, colour in enumerate(COLOURS):
        stored.paste(colour, (48 * (i % 2), 32 * (i // 2), 48 + 48 * (i % 2), 32 + 32 * (i // 2)))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored.save(path, exif=exif, quality=95)
    with Image.open(path) as photo:
        return ImageOps.exif_transpose(photo).convert("RGB")
