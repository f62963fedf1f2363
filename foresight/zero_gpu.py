"""ZeroGPU of Hugging Face Spaces, where a GPU is lent for a call at a time, to a process that is forked for it.

The app's own process has no GPU: there the `spaces` package lets PyTorch believe in one, on which weights lie until a
fork takes them to the real one. So every function that computes with them is marked by `computes`, and runs in the
fork; arguments and results are pickled. Elsewhere nothing of this happens, and `spaces` is not needed.
"""

import copyreg
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torch import Tensor
from torch.utils._pytree import tree_map_only

from foresight.errors import InputError

ACTIVE = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")  # as `spaces` reads it
PICTURE, BATCH = 30, 60  # seconds for which a call may have the GPU: of one picture, of many or of a clip

Function = TypeVar("Function", bound=Callable[..., Any])
_MARKED: dict[str, Callable[..., Any]] = {}
_SHARED: dict[int, Any] = {}


def computes(seconds: int) -> Callable[[Function], Function]:
    """Marks a function or generator whose work needs the models' device, for so many seconds at most.

    Of its arguments, models and what holds them must have been given to `share`. On ZeroGPU a result is a tensor on the
    CPU, or lists, tuples and dicts of some, or holds none that lie on the device.
    """
    return functools.partial(_in_fork, seconds=seconds) if ACTIVE else lambda function: function


def share(*values: Any) -> None:
    """Has forks know each of these by where it lies, since they were begun with it, in place of a copy."""
    for value in values:
        _SHARED[id(value)] = value
        copyreg.pickle(type(value), lambda value: (_shared, (id(value),)))


def _shared(place: int) -> Any:
    return _SHARED[place]


def _in_fork(function: Callable[..., Any], seconds: int) -> Any:
    name = f"{function.__module__}.{function.__qualname__}"
    _MARKED[name] = function

    @functools.wraps(function)
    def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for result, sentence in _lent(name, seconds, args, kwargs):
            if sentence is not None:
                raise InputError(sentence)
            yield result

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        [result] = stream(*args, **kwargs)
        return result

    return stream if inspect.isgeneratorfunction(function) else call


def _work(name: str, seconds: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[Any, str | None]]:
    """What a marked function gives, and an InputError's sentence: of others `spaces` tells the class alone."""
    function = _MARKED[name]
    try:
        steps = function(*args, **kwargs)
        for result in steps if inspect.isgeneratorfunction(function) else [steps]:
            yield tree_map_only(Tensor, Tensor.cpu, result), None
    except InputError as error:
        yield None, str(error)


if ACTIVE:
    import spaces

    # One function for all, since each has processes of its own, with the weights on the GPU once more.
    _lent = spaces.GPU(_work, duration=lambda name, seconds, *_: seconds)
