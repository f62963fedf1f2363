"""Batches of descriptions as tensors: what scenes, moving scenes and camera paths share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from typing_extensions import Self


class Batch:
    """A frozen dataclass whose tensors, also those of batches in it, have B rows. Indexing gives a smaller batch."""

    def _parts(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor | Batch)}

    def _map(self, function: Callable[[Any], Any]) -> Self:
        parts = {name: function(part) for name, part in self._parts().items()}
        return replace(self, **parts)  # type: ignore[type-var]

    def __len__(self) -> int:
        return len(next(iter(self._parts().values())))

    def __getitem__(self, rows: Any) -> Self:
        rows = slice(rows, rows + 1) if isinstance(rows, int) else rows
        return self._map(lambda part: part[rows])

    def chunks(self, length: int) -> list[Self]:
        return [self[i : i + length] for i in range(0, len(self), length)]

    def to(self, device: torch.device | str) -> Self:
        return self._map(lambda part: part.to(device))

    @classmethod
    def cat(cls, batches: Sequence[Self]) -> Self:
        """Batches that are alike but for their rows as one."""
        columns = {name: [batch._parts()[name] for batch in batches] for name in batches[0]._parts()}
        joined = {n: torch.cat(c) if isinstance(c[0], Tensor) else type(c[0]).cat(c) for n, c in columns.items()}
        return replace(batches[0], **joined)  # type: ignore[type-var]


class SampledBatch(Batch, ABC):
    """A batch that was drawn by numbers, of which each row has a hash, and by that a split."""

    @abstractmethod
    def hashes(self) -> Tensor:
        """(B,) int64, a hash of what each row shows."""

    @abstractmethod
    def split(self) -> list[str]:
        """The split each row belongs to: a function of its hash alone, so splits can never share a row."""

    def digest(self, i: int) -> str:
        """Row i's hash as 16 hexadecimal digits."""
        return f"{int(self[i].hashes()) & 0xFFFF_FFFF_FFFF_FFFF:016x}"


D = TypeVar("D", bound=SampledBatch)
_DRAWS = 16_384  # at a time: a scene takes 10 KB while it is placed


def take_split(draw: Callable[[range], D], count: int, split: str | None) -> D:
    """The first `count` rows that belong to `split` (None: any). draw: makes the rows of a range of numbers."""
    if split is None:
        return draw(range(count))
    start, parts = 0, list[D]()
    while (missing := count - sum(map(len, parts))) > 0:
        batch = draw(range(start, start + min(4 * missing + 64, _DRAWS)))
        start += len(batch)
        rows = [i for i, name in enumerate(batch.split()) if name == split]
        parts.append(batch[torch.tensor(rows[:missing], dtype=torch.long)])
    return type(parts[0]).cat(parts)
