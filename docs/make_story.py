"""Draws docs/story.png: a scene and a photograph, read back at five points of the bundled model.

    PYTHONPATH=. python docs/make_story.py

The photograph is scikit-image's own astronaut (public domain, NASA), which nothing here was trained on.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from skimage.data import astronaut

import foresight
from foresight.data.images import to_pil
from foresight.data.render import render
from foresight.data.scenes import SceneSpec, take

POINTS = ("pre-merge/0", "pre-merge/3", "pre-merge/6", "post-merge/0", "post-merge/6")
SIDE, GAP, HEAD = 224, 8, 30  # pixels


def main() -> None:
    inspector = foresight.Inspector(foresight.load_vlm(None, "cpu"), foresight.load_vae(None, "cpu"))
    scene = render(take(1, 11, SceneSpec(objects=(3, 3), backgrounds=("texture",)), "test")).images[0] / 255
    photo = Image.fromarray(astronaut()).crop((40, 0, 440, 400)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    titles = ["original", *POINTS, "VAE alone (oracle)"]
    width, height = len(titles) * (SIDE + GAP) + GAP, HEAD + 2 * (SIDE + GAP)
    page = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(16)
    for column, title in enumerate(titles):
        draw.text((GAP + column * (SIDE + GAP) + SIDE / 2, HEAD / 2), title, "black", font, anchor="mm")
    for row, image in enumerate((scene, photo)):
        reports = [inspector.inspect(image, point, "tokens", others=()) for point in POINTS]
        images: list[torch.Tensor] = [reports[0].original, *(r.reconstructions[0].image for r in reports)]
        for column, pixels in enumerate([*images, reports[0].oracle.image]):
            page.paste(to_pil(pixels), (GAP + column * (SIDE + GAP), HEAD + row * (SIDE + GAP)))
    page.quantize(256).save(Path(__file__).with_name("story.png"), optimize=True)


if __name__ == "__main__":
    main()
