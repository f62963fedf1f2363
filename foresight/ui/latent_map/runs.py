"""What is under way on each page of the Latent map tab: how it is told, and how Stop reaches it between any two steps.

Gradio's `cancels` would not do: the page drops what is started anew while a step is still being cancelled, and between
two events of a chain nothing is cancelled at all. So each step looks whether its run was stopped, and says so itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
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
from foresight.ui.navigation import ImageSource

STOPPED = "Stopped. The last map and all scores so far stay."


@dataclass(frozen=True)
class Mark:
    """A picture brought in from elsewhere. projected: its place on the map, once that is known."""

    case: ImageSource
    point: str
    projected: Projected | None = None


@dataclass(eq=False)
class Run:
    """A map on its way to one page, or scores; the page's state and the steps that run share this very object.

    spec, mark: what is to be shown. seconds: what the fit took. ended: it is done, was refused, or has stopped.
    """

    spec: MapSpec
    mark: Mark | None = None
    seconds: float = 0.0
    stopped: bool = False
    ended: bool = False


class Runs:
    """The runs under way, by page. starts: how many buttons start one; they come before Stop."""

    def __init__(self, starts: int) -> None:
        self.starts = starts
        self._of: dict[str | None, list[Run]] = {}

    def start(self, make: Callable[[], Run], request: gr.Request) -> Iterator[list[Any]]:
        """Status, the run and the buttons, once it has begun; what the page did before is stopped.

        A run that has ended already only fills the form.
        """
        try:
            run = make()
        except InputError as error:
            yield [_refusal(error), gr.skip(), *self._same()]
            raise silent_error(error) from error
        if run.ended:
            yield [told("The form is as the link asks: press “Draw the map”."), run, *self._same()]
            return
        self.stop(request)
        self._of.setdefault(request.session_hash, []).append(run)
        yield [told(f"{what(run.spec)}: waiting for the model.", 0, 0), run, *self._buttons(request)]

    def follow(
        self, run: Run, steps: Generator[list[Any], None, None], request: gr.Request, others: int = 0
    ) -> Iterator[list[Any]]:
        """A part of a run, unless that has ended: what each step yields, status and `others`, and the buttons."""
        rest = [gr.skip()] * others
        yield [gr.skip(), *rest, *self._same()]  # Gradio's page empties all outputs where nothing is yielded
        if run.ended:
            return
        try:
            with closing(steps):
                while not run.stopped and (values := next(steps, None)):
                    yield [*values, *(self._buttons(request) if run.ended else self._same())]
        except InputError as error:
            self.end(run, request)
            yield [_refusal(error), *rest, *self._buttons(request)]
            raise silent_error(error) from error
        if run.stopped and not run.ended:
            self.end(run, request)
            yield [gr.skip() if request.session_hash in self._of else told(STOPPED), *rest, *self._buttons(request)]

    def end(self, run: Run, request: gr.Request) -> None:
        """Nothing more will come of a run."""
        run.ended = True
        left = [other for other in self._of.pop(request.session_hash, []) if other is not run]
        if left:
            self._of[request.session_hash] = left

    def give_up(self, run: Run, request: gr.Request) -> list[Any]:
        """The buttons after an error that nobody foresaw."""
        self.end(run, request)
        return self._buttons(request)

    def stop(self, request: gr.Request) -> Any:
        """Stops what the page does after its next step; what the Stop button then is."""
        under_way = self._of.get(request.session_hash, [])
        for run in under_way:
            run.stopped = True
        return stopping.stopping() if under_way else gr.skip()

    def leave(self, request: gr.Request) -> None:
        """The page is gone."""
        self.stop(request)
        self._of.pop(request.session_hash, None)

    def _buttons(self, request: gr.Request) -> list[Any]:
        return stopping.going(self.starts) if request.session_hash in self._of else stopping.idle(self.starts)

    def _same(self) -> list[Any]:
        return [gr.skip()] * (self.starts + 1)


def noun(spec: MapSpec, count: int) -> str:
    return ("token" if spec.tokens else "scene") + ("" if count == 1 else "s")


def what(spec: MapSpec) -> str:
    """A map in words."""
    where = spec.points[0] if len(spec.points) == 1 else f"{len(spec.points)} points"
    return f"{spec.size:,} {noun(spec, spec.size)} at {where}"


def paced(steps: Generator[Progress, None, None]) -> Generator[list[str], None, None]:
    """Progress as status with the remaining time, at most four a second."""
    stage, start, first, last = "", 0.0, 0, 0.0
    with closing(steps):
        for step in steps:
            now = time.perf_counter()
            if step.stage != stage:
                stage, start, first, last = step.stage, now, step.done, 0.0
            if now - last < 0.25:
                continue
            last, made = now, step.done - first
            left = (now - start) / made * (step.total - step.done) if made > 0 else None
            rest = "" if left is None else f", {left:.0f} s left" if left < 100 else f", {left / 60:.0f} min left"
            number = f"{step.done:,} of {step.total:,}{rest}" if step.total else "at work"
            yield [told(f"{step.stage[0].upper()}{step.stage[1:]}: {number}", step.done, step.total)]


def told(text: str, done: int | None = None, total: int = 0, link: str = "") -> str:
    """A line of status, with a bar while something runs: of unknown length where total is 0; link: to what is shown."""
    bar, known = "", f' max="{total}" value="{done}"' if total else ""
    if done is not None:
        bar = f'<progress{known} aria-label="progress of the map"></progress>'
    anchor = f' · <a href="{escape(link)}">link to this map</a>' if link else ""
    data = f' data-link="{escape(link)}"' if link else ""
    return f'<div class="fs-map-status"{data}><p role="status">{escape(text)}{anchor}</p>{bar}</div>'


def _refusal(error: InputError) -> str:
    sentence = str(error)
    return told(f"{sentence[0].upper()}{sentence[1:]} Nothing else has changed.")
