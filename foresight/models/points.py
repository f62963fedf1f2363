"""Where in the model latents are taken."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from foresight.errors import InputError

Stage = Literal["pre-merge", "post-merge"]
STAGE_NAMES: dict[Stage, str] = {"pre-merge": "Vision tower", "post-merge": "Language model"}
STAGES: tuple[Stage, ...] = tuple(STAGE_NAMES)


@dataclass(frozen=True)
class ExtractionPoint:
    """A stage and a layer, written ``post-merge/6``.

    ``pre-merge`` is the vision tower: layer 0 the patch embedding, layer k the output of block k.
    ``post-merge`` follows the 2×2 merger: layer 0 is what the language model receives, layer k the raw
    output of its decoder layer k at the image tokens.
    """

    stage: Stage
    layer: int

    @classmethod
    def parse(cls, text: str | ExtractionPoint) -> ExtractionPoint:
        """``"post-merge/6"`` → ExtractionPoint("post-merge", 6). Raises InputError on anything else."""
        if isinstance(text, ExtractionPoint):
            return text
        match = re.fullmatch(r"(pre-merge|post-merge)/(\d{1,3})", text.strip()) if isinstance(text, str) else None
        if match is None:
            raise InputError(
                f"{text!r} is not an extraction point: write pre-merge/LAYER or post-merge/LAYER, such as post-merge/6."
            )
        return cls(cast(Stage, match[1]), int(match[2]))

    @property
    def depth(self) -> tuple[int, int]:
        """Sorts points in the order in which a picture meets them."""
        return STAGES.index(self.stage), self.layer

    def __str__(self) -> str:
        return f"{self.stage}/{self.layer}"
