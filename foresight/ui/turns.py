"""Whose turn it is at the models: what somebody waits for comes before batches, which give way between their steps."""

import functools
import inspect
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import gradio as gr

from foresight.ui.services import BATCH_QUEUE, MODEL_QUEUE

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 4.0  # seconds for which a batch gives way: however many clicks there are, it goes on
BETWEEN = 0.05  # seconds after a click in which the queue brings the next one
_TICK = 0.01  # seconds


class Turns:
    """One step at a time, of a click or of a batch; a batch's waits until there is no click."""

    def __init__(self) -> None:
        self._models, self._counting = threading.Lock(), threading.Lock()
        self._clicks = 0  # that wait or run
        self._last = -BETWEEN  # when the last one ended

    @contextmanager
    def click(self) -> Iterator[None]:
        """A step that goes before every batch's."""
        with self._counting:
            self._clicks += 1
        try:
            with self._models:
                yield
        finally:
            with self._counting:
                self._clicks -= 1
                self._last = time.monotonic()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """A step that gives way, for PATIENCE at most."""
        end = time.monotonic() + PATIENCE
        while (self._clicks or time.monotonic() - self._last < BETWEEN) and time.monotonic() < end:
            time.sleep(_TICK)
        with self._models:
            yield

    def steps(self, work: Generator[T, None, R]) -> Generator[T, None, R]:
        """A batch, which gives way before each of its steps."""
        return (yield from _each_within(self.batch, work))


MODELS = Turns()  # of this process, whichever models these are: they share its cores


def _each_within(turn: Callable[[], Any], work: Generator[T, None, R]) -> Generator[T, None, R]:
    try:
        while True:
            with turn():
                try:
                    item = next(work)
                except StopIteration as end:
                    return end.value
            yield item
    finally:
        work.close()


def take_turns(app: gr.Blocks) -> None:
    """Has the events of both queues of the models take turns, a generator's at each of its steps."""
    turns = {MODEL_QUEUE["concurrency_id"]: MODELS.click, BATCH_QUEUE["concurrency_id"]: MODELS.batch}
    for event in app.fns.values():
        if event.concurrency_id in turns and event.fn is not None:
            event.fn = _within(turns[event.concurrency_id], event.fn)


def _within(turn: Callable[[], Any], handler: Callable[..., Any]) -> Callable[..., Any]:
    def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
        yield from _each_within(turn, handler(*args, **kwargs))

    def call(*args: Any, **kwargs: Any) -> Any:
        with turn():
            return handler(*args, **kwargs)

    # Gradio tells a generator by its function.
    return functools.wraps(handler)(stream if inspect.isgeneratorfunction(inspect.unwrap(handler)) else call)
