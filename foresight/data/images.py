"""Pictures in and out: safe decoding, tensors, sizes.

A picture is 8-bit sRGB as a PIL image, or a float tensor (…, 3, H, W) in [0, 1]. Sizes are (height, width).
"""

import io
import math
import os
import struct
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from foresight.data.names import shortened
from foresight.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 24_000_000  # decoded
MAX_JPEG_PIXELS = 89_000_000  # in a JPEG file, which is scaled while it is decoded; where Pillow begins to warn
MIN_SIDE = 8  # pixels; less shows nothing that could be read back
MAX_ASPECT = 200  # Qwen2.5-VL's own limit
PATCH = 28  # pixels a side of what becomes one token after the 2×2 merger

# What Pillow's readers raise on broken files: 100,000 mutations gave the first three; its sources the rest.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)

_UPRIGHT = {  # the EXIF standard's orientations, and what turns each upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(
    source: str | Path | bytes | Image.Image, side: int | None = None, name: str | None = None
) -> Image.Image:
    """An image as viewers show it: 8-bit RGB, upright, over white where transparent, first frame only.

    A JPEG file of more than 24 million pixels is halved while it is decoded, and takes the memory of no more.

    Args:
        source: A file's path, a file's bytes, or a PIL image. Files may be JPEG, PNG, WebP, GIF, BMP or TIFF.
            16-bit grey is scaled to 8 bits; floating-point images must lie in [0, 1].
        side: A shorter side of so many pixels is enough: JPEG is decoded at the smallest such scale of 1, 1/2, 1/4
            and 1/8, which is several times as fast. None: all pixels.
        name: What errors call it; None: by its path.

    Returns:
        An RGB image without any metadata (EXIF, XMP, ICC profile, …): its orientation is in its pixels, so
        `load_image(load_image(file))` is the same image.

    Raises:
        InputError: For anything unreadable, over 24 million pixels (89 million as JPEG), or under 8 on a side.
    """
    known = name or (Path(source).name if isinstance(source, str | Path) else None)
    name = f"“{shortened(known)}”" if known else "the picture"
    try:
        if isinstance(source, Image.Image):
            return _decode(source, name, side)
        with Image.open(_file(source, name), formats=FORMATS) as image:
            return _decode(image, name, side)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{name} is not a JPEG, PNG, WebP, GIF, BMP or TIFF picture.") from error
    except PermissionError as error:
        raise InputError(f"{name} may not be read: permission denied.") from error
    except _BOMB as error:
        raise InputError(_too_large(name)) from error
    except _BROKEN as error:
        raise InputError(f"{name} is broken or cut short, and cannot be decoded.") from error


def _file(source: str | Path | bytes, name: str) -> Path | io.BytesIO:
    if not isinstance(source, str | Path | bytes):
        raise InputError(f"a picture is a path, a file's bytes or a PIL image, not {type(source).__name__}.")
    if not isinstance(source, bytes) and not os.path.isfile(source):  # opening a pipe would wait for ever
        raise InputError(f"there is no file {name}.")
    if not (len(source) if isinstance(source, bytes) else os.path.getsize(source)):
        raise InputError(f"{name} is empty (zero bytes).")
    return io.BytesIO(source) if isinstance(source, bytes) else Path(source)


def _too_large(name: str) -> str:
    millions = MAX_PIXELS // 1_000_000, MAX_JPEG_PIXELS // 1_000_000
    return f"{name} is too large: at most {millions[0]} million pixels are allowed, or {millions[1]} million as JPEG."


def _decode(image: Image.Image, name: str, side: int | None) -> Image.Image:
    width, height = image.size
    if width * height > (MAX_JPEG_PIXELS if isinstance(image, JpegImageFile) else MAX_PIXELS):
        raise InputError(_too_large(name))
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{name} is {width} × {height} pixels: each side needs at least {MIN_SIDE}.")
    if isinstance(image, JpegImageFile):
        by = math.ceil(math.sqrt(width * height / MAX_PIXELS))
        if side is not None:
            by = max(by, min(8, min(width, height) // side))
        image.draft(None, (width // by, height // by))  # to the largest of 1, 2, 4 and 8 that is no more than `by`
    image.load()
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    upright = _to_rgb(image, name)
    if orientation in _UPRIGHT:
        upright = upright.transpose(_UPRIGHT[orientation])
    upright.info = {}  # Pillow copies EXIF and XMP into each new image: whoever reads it next would turn it again
    return upright


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # NaN fails both
            raise InputError(f"{name} holds floating-point values that are not all within 0 to 1.")
        return Image.fromarray((values * 255).round().astype(np.uint8)).convert("RGB")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # "I" in older Pillows
        deep = np.array(image)
        deep[deep == image.info.get("transparency", -1)] = 65535
        return Image.fromarray((deep / np.float32(257)).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "LAB"):
        kind = {"I": "32-bit integers", "LAB": "CIELAB colours"}[image.mode]
        raise InputError(f"{name} holds {kind}: save it as 8-bit RGB.")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def load_mask(source: str | Path | bytes | Image.Image) -> Tensor:
    """A mask from a picture: (H, W) bool, true where lighter than mid-grey. Raises as `load_image` does."""
    return torch.from_numpy(np.array(load_image(source).convert("L"))) >= 128


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB picture's values: (3, H, W) float32 in [0, 1]."""
    return to_bytes(image).float() / 255


def to_bytes(image: Image.Image) -> Tensor:
    """An RGB picture's values: (3, H, W) uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def to_pil(x: Tensor) -> Image.Image:
    """A tensor (3, H, W) in [0, 1] as an 8-bit RGB picture; InputError outside that range or on NaN."""
    if not (x.min() >= 0 and x.max() <= 1):
        raise InputError("a picture's values must all lie within 0 to 1.")
    return Image.fromarray((x.detach().float() * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def vae_size(size: tuple[int, int]) -> tuple[int, int]:
    """The VAE's size for a VLM size: 8/7 of it, so that a 28-pixel token is 32 × 32 pixels there."""
    if size[0] % PATCH or size[1] % PATCH:
        raise InputError(f"the sides of a VLM size are multiples of {PATCH}, not {size[0]} × {size[1]}.")
    return size[0] * 8 // 7, size[1] * 8 // 7


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) in [0, 1] → (B, 3, *size): bicubic, anti-aliased, clamped to [0, 1]; differentiable.

    A uint8 picture on the CPU stays one, and is the very picture that transformers' processor makes.
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    if x.dtype == torch.uint8:
        return F.interpolate(x, size, mode="bicubic", antialias=True)
    return F.interpolate(x, size, mode="bicubic", antialias=True).clamp(0, 1)


@lru_cache(maxsize=8)
def resize_weights(source: int, target: int, device: torch.device) -> Tensor:
    """The matrix (target, source) that `resize` applies to a column of pixels, before it clamps.

    Two products with such matrices have a far faster backward pass on a GPU than `resize`, whose kernel adds
    every gradient atomically.
    """
    column = torch.eye(source, device=device)[None, None]  # interpolated downwards; across it stays as it is
    return F.interpolate(column, (target, source), mode="bicubic", antialias=True)[0, 0]
