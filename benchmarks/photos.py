"""python -m benchmarks.photos: photos a second, from files to the views that training sees, beside plain Pillow.

Photos are drawn for it: small ones, of 500 × 375, and a phone's, of 4032 × 3024; or they are those of --photos.
Pillow's way: open, decode all pixels, crop, resize, one file after the other.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from foresight.data.sources import Photo, open_photos, photo_views, random_view

SIDE = 224  # pixels a side of a view
SIZES = {"small": ((500, 375), 400), "a phone's": ((4032, 3024), 24)}


def draw(folder: Path, size: tuple[int, int], count: int) -> None:
    """Writes photos: a smooth random pattern under fine noise, as JPEG of usual quality."""
    for k in range(count):
        noise = np.random.default_rng(k)
        coarse = Image.fromarray(noise.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        grain = noise.normal(0, 6, (size[1], size[0], 1))
        pixels = (np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{k:04}.jpg", quality=90)


def plain(photos: Sequence[Photo]) -> None:
    """Pillow's way, with the very crops that training sees."""
    for row, photo in enumerate(photos):
        with Image.open(photo.path) as image:
            np.asarray(random_view(image.convert("RGB"), SIDE, 0, 0, row))


def rate(work: Callable[[], object], count: int, repeats: int) -> float:
    """Photos a second, the best of several."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return count / min(seconds)


def measure(title: str, folder: Path, repeats: int) -> None:
    photos = open_photos([str(folder)]).photos
    looked = rate(lambda: open_photos([str(folder)]), len(photos), repeats)
    pillow = rate(lambda: plain(photos), len(photos), repeats)
    views = rate(lambda: list(photo_views(photos, range(len(photos)), SIDE, 0)), len(photos), repeats)
    print(
        f"{title:12} {len(photos):4} photos: looked at {looked:6.0f}/s, views {views:6.0f}/s, "
        f"plain Pillow {pillow:6.0f}/s, ×{views / pillow:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of photos to read instead")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many is printed")
    args = parser.parse_args()
    if args.photos:
        measure(args.photos.name, args.photos, args.repeats)
        return
    for title, (size, count) in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            draw(Path(folder), size, count)
            measure(title, Path(folder), args.repeats)


if __name__ == "__main__":
    main()
