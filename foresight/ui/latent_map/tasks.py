"""What each page of the Latent map tab is doing: its status, and how Stop reaches it between any two steps.

Gradio's `cancels` would not do: the page drops what is started anew while a step is still being cancelled, and between
two events of a chain nothing is cancelled at all. So each step looks whether its task was stopped, and says so itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from foresight.errors import InputError
from foresight.maps.data import MapSpec, Progress
from foresight.maps.fit import Projected
from foresight.ui import stopping
from foresight.ui.error_handling import silent_error
from foresight.ui.services import ImageSource

STOPPED = "Stopped. The last map and all scores so far stay."
Updates = dict[Any, Any]  # of components


@dataclass(frozen=True)
class OwnImage:
    """An image brought in from another tab. projected: its place on the map, once that is known."""

    source: ImageSource
    point: str
    projected: Projected | None = None


@dataclass(eq=False)
class MapTask:
    """A map that is being drawn for one page, or scored; the page's state and the steps share this very object.

    Attributes:
        spec: The map's.
        image: What is to be shown on it.
        seconds: What the fit took.
        stopped: The page has asked for its end.
        ended: It is done, has failed, or has stopped.
    """

    spec: MapSpec
    image: OwnImage | None = None
    seconds: float = 0.0
    stopped: bool = False
    ended: bool = False


class Tasks:
    """The tasks under way, by page."""

    def __init__(self, status: gr.HTML, starts: Sequence[gr.Button], stop: gr.Button) -> None:
        """Takes the components that show them.

        Args:
            status: A line of `status_line`.
            starts: The buttons that start a task.
            stop: The button that stops it.
        """
        self.status, self.stop_button = status, stop
        self.buttons = [*starts, stop]
        self._by_page: dict[str | None, list[MapTask]] = {}

    def starting(self, handler: Callable[..., MapTask]) -> Callable[..., Iterator[list[Any]]]:
        """Makes a handler that returns a task into an event that begins it."""

        def begin(request: gr.Request, *values: Any) -> Iterator[list[Any]]:
            yield from self.start(lambda: handler(*values), request)

        return begin

    def step(self, handler: Callable[..., Generator[Updates, None, None]]) -> Callable[..., Iterator[Updates]]:
        """Makes a handler that takes a task, then other values, into an event that is a part of it."""

        def run(task: MapTask, request: gr.Request, *values: Any) -> Iterator[Updates]:
            yield from self.follow(task, handler(task, *values), request)

        return run

    def start(self, make: Callable[[], MapTask], request: gr.Request) -> Iterator[list[Any]]:
        """Begins a task and stops what the page did before; one that has ended already only fills the form.

        Yields:
            Status, the task, and the buttons. (A list, for each event has a state of its own for its task.)
        """
        unchanged = [gr.skip()] * len(self.buttons)
        try:
            task = make()
        except InputError as error:
            yield [error_line(error), gr.skip(), *unchanged]
            raise silent_error(error) from error
        if task.ended:
            yield [status_line("The form is as the link asks: press “Draw the map”."), task, *unchanged]
            return
        self.stop(request)
        self._by_page.setdefault(request.session_hash, []).append(task)
        waiting = status_line(f"{describe(task.spec)}: waiting for the model.", 0, 0)
        yield [waiting, task, *self._button_updates(request).values()]

    def follow(self, task: MapTask, steps: Generator[Updates, None, None], request: gr.Request) -> Iterator[Updates]:
        """Runs a part of a task, unless that has ended.

        Yields:
            What each step yields; with the buttons where the step has set the task's `ended`.
        """
        yield {self.status: gr.skip()}  # Gradio's page empties all outputs where nothing is yielded
        if task.ended:
            return
        try:
            with closing(steps):
                while not task.stopped and (updates := next(steps, None)):
                    yield updates | (self.end(task, request) if task.ended else {})
        except InputError as error:
            yield {self.status: error_line(error)} | self.end(task, request)
            raise silent_error(error) from error
        if task.stopped and not task.ended:
            buttons = self.end(task, request)
            status = gr.skip() if request.session_hash in self._by_page else status_line(STOPPED)
            yield {self.status: status} | buttons

    def progress(self, steps: Generator[Progress, None, None]) -> Generator[Updates, None, None]:
        """Progress as status with the remaining time, at most four a second."""
        stage, start, first, last = "", 0.0, 0, 0.0
        with closing(steps):
            for step in steps:
                now = time.perf_counter()
                if step.stage != stage:
                    stage, start, first, last = step.stage, now, step.done, 0.0
                if now - last < 0.25:
                    continue
                last, done = now, step.done - first
                left = (now - start) / done * (step.total - step.done) if done > 0 else None
                rest = "" if left is None else f", {left:.0f} s left" if left < 100 else f", {left / 60:.0f} min left"
                number = f"{step.done:,} of {step.total:,}{rest}" if step.total else "at work"
                yield {self.status: status_line(f"{_capital(step.stage)}: {number}", step.done, step.total)}

    def end(self, task: MapTask, request: gr.Request) -> Updates:
        """Nothing more will come of a task; the buttons then."""
        task.ended = True
        left = [other for other in self._by_page.pop(request.session_hash, []) if other is not task]
        if left:
            self._by_page[request.session_hash] = left
        return self._button_updates(request)

    def stop(self, request: gr.Request) -> Any:
        """Stops what the page does after its next step; what the Stop button then is."""
        under_way = self._by_page.get(request.session_hash, [])
        for task in under_way:
            task.stopped = True
        return stopping.stopping() if under_way else gr.skip()

    def leave(self, request: gr.Request) -> None:
        """The page is gone."""
        self.stop(request)
        self._by_page.pop(request.session_hash, None)

    def _button_updates(self, request: gr.Request) -> Updates:
        state = stopping.going if request.session_hash in self._by_page else stopping.idle
        return dict(zip(self.buttons, state(len(self.buttons) - 1), strict=True))


def noun(spec: MapSpec, count: int) -> str:
    """What a number of the map's points are."""
    return ("token" if spec.tokens else "scene") + ("" if count == 1 else "s")


def describe(spec: MapSpec) -> str:
    """A map in words."""
    where = spec.points[0] if len(spec.points) == 1 else f"{len(spec.points)} points"
    return f"{spec.size:,} {noun(spec, spec.size)} at {where}"


def status_line(text: str, done: int | None = None, total: int = 0, link: str = "") -> str:
    """A line of status.

    Args:
        text: Is escaped.
        done: Of `total`, as a bar beside it; None: no bar.
        total: 0 where it is not known.
        link: The address of the map that is shown.
    """
    bar, known = "", f' max="{total}" value="{done}"' if total else ""
    if done is not None:
        bar = f'<progress{known} aria-label="progress of the map"></progress>'
    anchor = f' · <a href="{escape(link)}">link to this map</a>' if link else ""
    data = f' data-link="{escape(link)}"' if link else ""
    return f'<div class="fs-map-status"{data}><p role="status">{escape(text)}{anchor}</p>{bar}</div>'


def error_line(error: InputError) -> str:
    """An error as a line of status."""
    return status_line(f"{_capital(str(error))} Nothing else has changed.")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
