"""Draws docs/clip.webp: six frames of a real clip, through the VAE alone, and read back at two points.

    PYTHONPATH=. python docs/make_clip.py nasa_13013.mp4

The clip is a test resource of torchcodec (BSD-3-Clause), filmed by NASA, and too large to lie here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

import foresight
from foresight.adapters.registry import pick_adapter
from foresight.data.images import to_pil
from foresight.inspection.clip_readout import ClipSample, add_oracle, clip_records, decode_clip

POINTS = ("pre-merge/3", "post-merge/6")
START, FPS, FRAMES = 4.6, 1.0, 6  # across a dissolve and a cut
GAP, LEFT = 6, 110  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clip", type=Path)
    path = parser.parse_args().clip
    inspector = foresight.Inspector(foresight.load_vlm(None, "cpu"), foresight.load_vae(None, "cpu"))
    clip = foresight.load_clip(path, FPS, FRAMES, START)
    sample, records = ClipSample(path.name, clip.pixels(), clip.fps), clip_records(inspector)
    decoded = [
        decode_clip(inspector, pick_adapter(records, inspector.vlm.point(point), "tokens"), sample) for point in POINTS
    ]
    oracle = add_oracle(inspector, decoded[0]).oracle
    rows: dict[str, torch.Tensor] = {"original": sample.frames, "VAE alone\n(oracle)": oracle}
    rows |= {point: one.reconstruction for point, one in zip(POINTS, decoded, strict=True)}
    height, width = sample.frames.shape[2:]
    page = Image.new("RGB", (LEFT + FRAMES * (width + GAP), len(rows) * (height + GAP)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(17)
    for row, (title, frames) in enumerate(rows.items()):
        top = row * (height + GAP)
        draw.text((LEFT / 2, top + height / 2), title, "black", font, anchor="mm", align="center")
        for column, frame in enumerate(frames):
            page.paste(to_pil(frame.float()), (LEFT + column * (width + GAP), top))
    page.save(Path(__file__).with_name("clip.webp"), quality=82, method=6)


if __name__ == "__main__":
    main()
