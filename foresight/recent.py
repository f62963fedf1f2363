"""Keeping what was used last, as far as there is room."""

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(OrderedDict[K, V]):
    """The values that were set or asked for last: those of `most` in all, but always the newest.

    `get` and `in` leave the order as it is.
    """

    def __init__(self, most: float, size: Callable[[V], float] = lambda _: 1) -> None:
        """size: how much of `most` a value takes."""
        super().__init__()
        self.most, self._size = most, size

    def __getitem__(self, key: K) -> V:
        self.move_to_end(key)
        return super().__getitem__(key)

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > 1 and sum(map(self._size, list(self.values()))) > self.most:
            del self[next(iter(self))]
