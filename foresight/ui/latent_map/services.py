"""What the Latent map tab may ask of the library, and how much."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from torch import Tensor

from foresight.adapters.registry import AdapterRecord, pick_adapter
from foresight.errors import InputError
from foresight.inspection.inspector import Inspector, Report
from foresight.maps.data import MapSpec, Progress, in_depth_order
from foresight.maps.fit import LatentMap, Maps, Projected
from foresight.maps.scores import MapScores
from foresight.metrics.scores import Scores
from foresight.models.points import ExtractionPoint

Steps = Generator[Progress, None, None]


@dataclass(frozen=True)
class Limits:
    """The most that one map may ask of this machine.

    scored: scenes; pictures: in an exported zip; links: an address alone may have a map drawn.
    """

    points: int = 20_000
    layers: int = 64
    scored: int = 20_000
    pictures: int = 2_000
    links: bool = True

    def check(self, spec: MapSpec) -> MapSpec:
        """The spec itself. Raises InputError beyond the limits."""
        if spec.size > self.points:
            raise InputError(f"a map here has at most {self.points:,} points, not {spec.size:,}: take fewer scenes.")
        if len(spec.points) > self.layers:
            raise InputError(f"a map here has at most {self.layers} layers, not {len(spec.points)}.")
        return spec


PUBLIC = Limits(points=5_000, layers=6, scored=100, pictures=200, links=False)


@dataclass(frozen=True)
class MapCalls:
    """The library as callables. Long ones are generators that tell their progress and can be closed.

    in_order: points in order of depth, each once. gather, fit: make sure that a map's latents, then the map
    itself, are at hand. find: the map, or InputError. named: the map with that id, or None. project: a picture
    (3, H, W) → its place on a map. adapters: those that fit, at a point or (None) all. inspect: picture, adapter,
    mask → report. score: reads a map's first scenes with an adapter. scores: what was scored so far, by reader.
    """

    points: list[ExtractionPoint]
    default: ExtractionPoint
    limits: Limits
    in_order: Callable[[tuple[str, ...]], tuple[str, ...]]
    gather: Callable[[MapSpec], Steps]
    fit: Callable[[MapSpec], Steps]
    find: Callable[[MapSpec | None], LatentMap]
    named: Callable[[str], LatentMap | None]
    project: Callable[[MapSpec, Tensor], Projected]
    adapters: Callable[[ExtractionPoint | None], list[AdapterRecord]]
    inspect: Callable[[Tensor, AdapterRecord, Tensor | None], Report]
    score: Callable[[LatentMap, AdapterRecord, int], Steps]
    scores: Callable[[LatentMap], dict[str, list[Scores]]]

    @classmethod
    def of(cls, inspector: Inspector, public: bool = False) -> MapCalls:
        """The calls of one inspector and its models. public: within the limits for strangers."""
        maps, table = Maps(inspector.vlm), MapScores(inspector)

        def inspect(picture: Tensor, record: AdapterRecord, mask: Tensor | None) -> Report:
            return inspector.inspect(picture, record.point, record.folder, mask, others=False)

        return cls(
            points=inspector.vlm.points,
            default=inspector.default_point,
            limits=PUBLIC if public else Limits(),
            in_order=lambda points: in_depth_order(inspector.vlm, points),
            gather=maps.gather,
            fit=maps.fit,
            find=maps.find,
            named=maps.named,
            project=maps.project,
            adapters=inspector.adapters,
            inspect=inspect,
            score=table.score,
            scores=table.known,
        )

    def find_adapter(self, point: str, name: str | None) -> AdapterRecord:
        """The adapter of that name at a point. Raises InputError."""
        return pick_adapter(self.adapters(None), point, name)
