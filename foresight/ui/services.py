"""What the tabs and the API may ask of the library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from foresight.adapters.registry import AdapterRecord, pick_adapter
from foresight.data.images import load_image
from foresight.errors import InputError
from foresight.inspection.baselines import Baselines
from foresight.inspection.inspector import Inspector, Report
from foresight.models.points import ExtractionPoint, Stage

MODEL_QUEUE: dict[str, Any] = {"concurrency_id": "gpu", "concurrency_limit": 1}  # one model event at a time
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}  # an event without name or spinner


@dataclass(frozen=True)
class Calls:
    """The library as callables, so that a tab holds no model code and runs alone.

    points: every extraction point, in order of depth. default: the one to begin with. adapters: those that fit,
    at a point or (None) all. inspect: picture, point, adapter's folder, mask → report. describe: picture,
    question, and what is asked after each word whether to stop → answer. facts: what `/info` tells, as JSON values.
    memory: the floors of what remembers training pictures, and no more.
    """

    points: list[ExtractionPoint]
    default: ExtractionPoint
    adapters: Callable[[ExtractionPoint | None], list[AdapterRecord]]
    inspect: Callable[[Image.Image, ExtractionPoint, Path, Tensor | None], Report]
    describe: Callable[[Image.Image, str, Callable[[], bool] | None], str]
    facts: Callable[[], dict[str, Any]]
    memory: Baselines

    @classmethod
    def of(cls, inspector: Inspector) -> Calls:
        """The calls of one inspector and its models."""
        return cls(
            points=inspector.vlm.points,
            default=inspector.default_point,
            adapters=inspector.adapters,
            inspect=inspector.inspect,
            describe=lambda picture, question, stop: str(inspector.vlm.describe(picture, question, stop=stop)),
            facts=lambda: facts(inspector),
            memory=Baselines(inspector),
        )

    def served(self) -> list[ExtractionPoint]:
        """The points that have adapters, in order of depth."""
        return sorted({record.point for record in self.adapters(None)}, key=lambda p: p.depth)

    def last(self, stage: Stage) -> int:
        """The deepest layer of a stage."""
        return max(p.layer for p in self.points if p.stage == stage)

    def point(self, text: str) -> ExtractionPoint:
        """Parses a point that this model has. Raises InputError."""
        point = ExtractionPoint.parse(text)
        if point not in self.points:
            raise InputError(f"there is no {point}: the {point.stage} layers are 0 to {self.last(point.stage)}.")
        return point

    def find(self, point: ExtractionPoint, name: str | None) -> AdapterRecord:
        """The adapter of that name at a point. Folders and hub ids are not taken from strangers."""
        return pick_adapter(self.adapters(None), point, name)


def facts(inspector: Inspector) -> dict[str, Any]:
    """`Inspector.facts` without folders, which are nobody else's business: a model's folder goes by its last name."""
    found = inspector.facts()
    adapters = [{k: v for k, v in a.items() if k != "folder"} for a in found["adapters"]]
    models = {"model": _public(found["model"]), "vae": found["vae"] | {"name": _public(found["vae"]["name"])}}
    return {k: v for k, v in found.items() if k != "refused"} | {"adapters": adapters, **models}


def _public(model: str) -> str:
    folder = Path(model).expanduser()
    return folder.absolute().name if folder.is_dir() else model


def open_picture(path: str | None) -> Image.Image:
    """An uploaded file, decoded by our own rules."""
    if path is None:
        raise InputError("choose a picture first: upload or paste one, take an example, or generate a scene.")
    return load_image(path)
