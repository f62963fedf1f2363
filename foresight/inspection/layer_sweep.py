"""One picture at many extraction points, read by many adapters: how knowledge of it changes with depth.

Shapes: H × W pixels, the size at which the VLM sees the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from foresight.adapters.registry import AdapterRecord
from foresight.errors import InputError
from foresight.inspection.inspector import Inspector, Scores, prepare, score_rows, skills
from foresight.metrics.scores import compare


@dataclass(frozen=True)
class Tile:
    """A picture and its scores; tensors on the CPU.

    name: a record's, "oracle" or "blank". record: its adapter, None for oracle and blank. picture: (3, H, W) in
    [0, 1]. scores, skill: by the names in SCORES, None where there is none. mask_reason: why there is no mask IoU:
    the original's reason, or `masks.NOT_MEASURABLE`. distance: of the latents to the adapter's training latents; beyond
    `far` the scores speak of the adapter.
    """

    name: str
    record: AdapterRecord | None
    picture: Tensor
    scores: Scores
    skill: Scores
    mask_reason: str | None
    distance: float = 0.0
    far: float = float("inf")

    def as_json(self) -> dict[str, object]:
        """Plain JSON values: point, adapter, scores, skill, mask_reason; distance and far of an adapter's."""
        found: dict[str, object] = {
            "adapter": self.name,
            **self.scores,
            "skill": self.skill,
            "mask_reason": self.mask_reason,
        }
        if self.record is None:
            return found
        return {"point": str(self.record.point), **found, "distance": self.distance, "far": self.far}


@torch.inference_mode()
def sweep_layers(
    inspector: Inspector,
    picture: Image.Image | Tensor,
    records: Sequence[AdapterRecord],
    mask: Tensor | None = None,
) -> Iterator[Tile]:
    """Reads one picture at every record's point, and yields each tile when it is done: oracle, blank, then `records`.

    picture: PIL, or (3, h, w) in [0, 1], of any size. mask: (h, w) bool, what it shows; without it, the objects
    found there. The latents of all points come from one pass. Raises InputError.
    """
    if not records:
        raise InputError("choose at least one adapter to read the picture with.")
    prepared, known = prepare(picture, mask)
    original = prepared.to(inspector.vae.device)[None]
    shown = None if known is None else known.to(original.device)[None]
    size = original.shape[2], original.shape[3]

    pictures = torch.cat([inspector.round_trip(original), torch.ones_like(original)])
    found = compare(original, pictures, shown)
    oracle, blank = score_rows(found)
    yield Tile("oracle", None, pictures[0].cpu(), oracle, skills(oracle, blank, oracle), found.reasons[0])
    yield Tile("blank", None, pictures[1].cpu(), blank, skills(blank, blank, oracle), found.reasons[1])

    latents = inspector.vlm.latents(original, {record.point for record in records})
    for record in records:
        here, adapter = latents[str(record.point)].to(original.device), inspector.registry.load(record)
        made = inspector.decode(adapter(here), size)
        found = compare(original, made, shown)
        [scores] = score_rows(found)
        yield Tile(
            name=record.name,
            record=record,
            picture=made[0].cpu(),
            scores=scores,
            skill=skills(scores, blank, oracle),
            mask_reason=found.reasons[0],
            distance=float(adapter.distance(here)),
            far=float(adapter.far),
        )
