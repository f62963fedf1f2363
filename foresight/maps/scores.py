"""Scores of the scenes on a map, by an adapter; what was scored is kept."""

from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

from foresight.adapters.registry import AdapterRecord
from foresight.errors import InputError
from foresight.inspection.evaluation import Evaluated, evaluate
from foresight.inspection.inspector import Inspector
from foresight.maps.data import MapSpec, Progress
from foresight.maps.fit import LatentMap
from foresight.metrics.scores import SCORES, Scores
from foresight.recent import Recent

KEPT = 16  # tables: scenes, read by one adapter
Reader = tuple[Path, int]  # an adapter's folder, and when its weights were written: others may follow there


class MapScores:
    """The scores of a map's scenes, from its first scene on, as far as they were asked for."""

    def __init__(self, inspector: Inspector) -> None:
        self.inspector = inspector
        self._tables = Recent[tuple[MapSpec, Reader], list[Scores]](KEPT)

    def score(self, latent_map: LatentMap, record: AdapterRecord, count: int) -> Generator[Progress, None, None]:
        """Scores the first `count` scenes with an adapter; begins where an earlier call has stopped.

        Raises InputError where the adapter's weights are written anew meanwhile.
        """
        key = latent_map.spec.scenes_spec, self._reader(record)
        table = self._tables.setdefault(key, [])
        stage, count = f"scores by {_name(record)}", min(count, len(latent_map.data.pictures))
        yield Progress(stage, len(table), count)
        resolution = self.inspector.resolution(latent_map.spec.pixels, record)
        samples = latent_map.data.pictures.samples(range(len(table), count), resolution)
        for row in evaluate(self.inspector, record, samples):
            if self._reader(record) != key[1]:
                raise InputError(f"{_name(record)} was trained anew meanwhile: score once more.")
            # Else it is of a size that the adapter cannot read.
            table.append(row.scores["adapter"] if isinstance(row, Evaluated) else dict.fromkeys(SCORES))
            yield Progress(stage, len(table), count)

    def known(self, latent_map: LatentMap) -> dict[str, list[Scores]]:
        """{"tokens at post-merge/6": the first scenes' scores}, for every adapter there is that read some of them."""
        scenes = latent_map.spec.scenes_spec
        tables: dict[str, list[Scores]] = {}
        for record in self.inspector.adapters():
            with suppress(InputError):  # it was deleted or renamed
                tables[_name(record)] = self._tables.get((scenes, self._reader(record)), [])
        return {name: table for name, table in tables.items() if table}

    def _reader(self, record: AdapterRecord) -> Reader:
        return record.folder, self.inspector.registry.written(record)


def _name(record: AdapterRecord) -> str:
    return f"{record.name} at {record.point}"
