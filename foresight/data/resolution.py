"""How large a picture is to the VLM: the one owner of that size. Sizes are (height, width)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from foresight.data.images import MAX_ASPECT, MAX_PIXELS, PATCH
from foresight.errors import InputError

SMALLEST = 56 * 56  # pixels; the least of Qwen2.5-VL's own processor
NATIVE = "native"
FORMS = "such as 448², 100000, 3136-1003520 or native"


@dataclass(frozen=True)
class Resolution:
    """An area in pixels to which every picture is scaled, or a least and a most one, within which it keeps its size.

    least, most: equal for one area. Two are the `min_pixels` and `max_pixels` of Qwen2.5-VL's own processor.
    Raises InputError under 28² pixels, and where the least is above the most.
    """

    least: int
    most: int

    def __post_init__(self) -> None:
        if self.least < PATCH**2:
            raise InputError(f"a picture needs at least {PATCH} × {PATCH} = {PATCH**2} pixels, not {self.least}.")
        if self.least > self.most:
            raise InputError(f"the least pixels, {self.least:,}, are more than the most, {self.most:,}.")

    @classmethod
    def area(cls, pixels: int) -> Resolution:
        """Every picture scaled to about so many pixels, up or down."""
        return cls(pixels, pixels)

    @classmethod
    def parse(cls, text: str | int, native: Resolution | None = None) -> Resolution:
        """What a person writes: a number of pixels, a square such as 448² or 448^2, 640x480, or LEAST-MOST.

        native: what the word means; None where no model is known yet, so that the word stands for `DEFAULT`.
        Raises InputError, in one sentence, for anything else, under 56² pixels and above the 24 million of a picture.
        """
        words = str(text).strip().lower().replace("×", "x")
        if words == NATIVE:
            return native or DEFAULT
        if square := re.fullmatch(r"(\d{1,9})(?:²|\^2)", words):
            return cls.area(_allowed(int(square[1]) ** 2, text))
        if sides := re.fullmatch(r"(\d{1,9})\s*x\s*(\d{1,9})", words):
            return cls.area(_allowed(int(sides[1]) * int(sides[2]), text))
        if ends := re.fullmatch(r"(\d{1,9})\s*[-–]\s*(\d{1,9})", words):
            return cls(*(_allowed(int(end), text) for end in ends.groups()))
        if re.fullmatch(r"\d{1,12}", words):
            return cls.area(_allowed(int(words), text))
        raise InputError(f"{text!r} is no number of pixels: write it {FORMS}.")

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The (H, W) at which the VLM sees a picture: multiples of 28, as near to its shape as they come.

        With one area the picture is scaled to it at its own aspect ratio, then each side is rounded to the nearest
        multiple of 28, halves to the even one, and at least 28: what transformers' `smart_resize` leaves as it is. So
        224 × 224 for a square at 224² and 196 × 252 for 3:4. With two it is `smart_resize` itself. Raises InputError
        where one side is more than 200 times the other, which that refuses too.
        """
        if max(height, width) > MAX_ASPECT * min(height, width):
            raise InputError(f"a picture of {width} × {height} is too narrow: the limit is 1:{MAX_ASPECT}.")
        scale = math.sqrt(self.most / (height * width)) if self.least == self.most else 1.0
        h, w = round(height * scale / PATCH), round(width * scale / PATCH)  # in tokens
        if self.least == self.most:
            h, w = max(1, h), max(1, w)
        elif h * w * PATCH**2 > self.most:
            beta = math.sqrt(height * width / self.most)
            h, w = (max(1, math.floor(side / beta / PATCH)) for side in (height, width))
        elif h * w * PATCH**2 < self.least:
            beta = math.sqrt(self.least / (height * width))
            h, w = (math.ceil(side * beta / PATCH) for side in (height, width))
        return h * PATCH, w * PATCH

    def __str__(self) -> str:
        """As `parse` reads it: "224²", "100000" or "3136-1003520"."""
        if self.least != self.most:
            return f"{self.least}-{self.most}"
        side = math.isqrt(self.most)
        return f"{side}²" if side**2 == self.most else str(self.most)


def _allowed(pixels: int, text: str | int) -> int:
    if pixels < SMALLEST:
        side = f"; a side of {pixels} is written {pixels}²" if pixels**2 >= SMALLEST else ""
        raise InputError(f"{text} pixels are too few: at least 56² = {SMALLEST:,} are needed{side}.")
    if pixels > MAX_PIXELS:
        raise InputError(f"{text} pixels are too many: no picture has more than {MAX_PIXELS // 10**6} million.")
    return pixels


DEFAULT = Resolution.area(224 * 224)
