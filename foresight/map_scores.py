"""Scores of the scenes on a map, by an adapter; what was scored is kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterator

from foresight.evaluation import Row, Sample, evaluate
from foresight.inspector import Inspector, Scores, prepare
from foresight.latent_map import LatentMap
from foresight.map_data import MapSpec, Progress
from foresight.render import render
from foresight.scenes import Scenes
from foresight.shelf import Entry

KEPT = 16  # tables: scenes, read by one adapter


class MapScores:
    """The scores of a map's scenes, from its first scene on, as far as they were asked for."""

    def __init__(self, inspector: Inspector) -> None:
        self.inspector = inspector
        self._tables: OrderedDict[tuple[MapSpec, str], list[Scores]] = OrderedDict()

    def score(self, found: LatentMap, entry: Entry, count: int) -> Generator[Progress, None, None]:
        """Scores the first `count` scenes with an adapter; begins where an earlier call has stopped."""
        key = _scenes_alone(found.spec), f"{entry.name} at {entry.point}"
        table = self._tables.setdefault(key, [])
        while len(self._tables) > KEPT:
            self._tables.popitem(last=False)
        stage, count = f"scores by {key[1]}", min(count, len(found.data.scenes))
        yield Progress(stage, len(table), count)
        for row in evaluate(self.inspector, entry, _samples(found.data.scenes[len(table) : count])):
            if isinstance(row, Row):
                table.append(row.scores["adapter"])
                yield Progress(stage, len(table), count)

    def known(self, found: LatentMap) -> dict[str, list[Scores]]:
        """{"tokens at post-merge/6": the first scenes' scores}, for every adapter that read some of them."""
        scenes = _scenes_alone(found.spec)
        return {reader: table for (of, reader), table in self._tables.items() if of == scenes and table}


def _scenes_alone(spec: MapSpec) -> MapSpec:
    """The same for all maps of the same scenes, whatever was made of them."""
    return MapSpec(("scenes",), spec.scenes, spec.seed, spec.objects, spec.backgrounds, neighbours=2)


def _samples(scenes: Scenes) -> Iterator[Sample]:
    for part in scenes.chunks(8):
        drawn = render(part)
        for i in range(len(part)):
            picture, mask = prepare(drawn.images[i].float() / 255, drawn.mask[i])
            yield Sample(part.digest(i), picture, mask, part.describe(i))
