"""What each page of the Latent map tab is doing: its status, and how Stop reaches it between any two steps.

Gradio's `cancels` would not do: the page drops what is started anew while a step is still being cancelled, and between
two events of a chain nothing is cancelled at all. So each step looks whether its task was stopped, and says so itself.

The events of a task that was stopped go on coming after another one has begun. So each task knows which step it waits
for, and an event of another step does nothing.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from foresight.errors import InputError
from foresight.maps.data import MapSpec, Progress, noun
from foresight.maps.fit import Projected
from foresight.ui import stopping
from foresight.ui.error_handling import silent_error
from foresight.ui.services import QUIET, ImageSource

STOPPED = "Stopped. The last map and all scores so far stay."
Updates = dict[Any, Any]  # of components
Step = Callable[..., Generator[Updates, None, None]]  # of a task, then of values of the page


@dataclass(frozen=True)
class OwnImage:
    """An image brought in from another tab. projected: its place on the map, once that is known."""

    source: ImageSource
    point: str
    projected: Projected | None = None


@dataclass(eq=False)
class MapTask:
    """A map that is being drawn for one page, or scored.

    Attributes:
        spec: The map's.
        steps: What is still to be done, in order; empty while a step goes on.
        image: What is to be shown on it.
        seconds: What the fit took.
        stopped: The page has asked for its end.
    """

    spec: MapSpec
    steps: Sequence[Step] = ()
    image: OwnImage | None = None
    seconds: float = 0.0
    stopped: bool = False


class Tasks:
    """The task under way of each page."""

    def __init__(self, status: gr.HTML, starts: Sequence[gr.Button], stop: gr.Button) -> None:
        """Takes the components that show them.

        Args:
            status: A line of `status_line`.
            starts: The buttons that start a task.
            stop: The button that stops it.
        """
        self.status, self.stop_button = status, stop
        self.buttons = [*starts, stop]
        self._by_page: dict[str | None, MapTask] = {}
        self._claiming = threading.Lock()

    def connect(self, event: Any, step: Step, inputs: Sequence[Any], outputs: Sequence[Any], **queue: Any) -> Any:
        """The event of a step, on the success of the event before.

        Once a task was stopped, the page would drop such an event of the next one while this one's is under way, if
        it took them one at a time.
        """
        outputs = [self.status, *self.buttons, *outputs]
        done = event.success(self.step(step), inputs, outputs, **QUIET, **queue, trigger_mode="multiple")
        done.failure(self.button_updates, None, self.buttons, **QUIET)  # a fault in the step
        return done

    def starting(self, handler: Callable[..., MapTask]) -> Callable[..., Iterator[list[Any]]]:
        """Makes a handler that returns a task into an event that begins it."""

        def begin(request: gr.Request, *values: Any) -> Iterator[list[Any]]:
            yield from self.start(lambda: handler(*values), request)

        return begin

    def step(self, handler: Step) -> Callable[..., Iterator[Updates]]:
        """Makes a handler that takes a task, then other values, into an event: that step of the page's task."""

        def run(request: gr.Request, *values: Any) -> Iterator[Updates]:
            yield from self.follow(handler, request, *values)

        return run

    def start(self, make: Callable[[], MapTask], request: gr.Request) -> Iterator[list[Any]]:
        """Begins a task and stops what the page did before; one without steps only fills the form.

        Yields:
            Status, the task's spec, and the buttons.
        """
        unchanged = [gr.skip()] * len(self.buttons)
        try:
            task = make()
        except InputError as error:
            yield [error_line(error), gr.skip(), *unchanged]
            raise silent_error(error) from error
        if not task.steps:
            yield [status_line("The form is as the link asks: press “Draw the map”."), task.spec, *unchanged]
            return
        self.stop(request)
        self._by_page[request.session_hash] = task
        waiting = status_line(f"{describe(task.spec)}: waiting for the model.", 0, 0)
        yield [waiting, task.spec, *self.button_updates(request).values()]

    def follow(self, step: Step, request: gr.Request, *values: Any) -> Iterator[Updates]:
        """Runs a step of the page's task, if that is the one it waits for.

        Yields:
            What the step yields, as long as the page does nothing else; then, where nothing follows, the buttons.
        """
        yield {self.status: gr.skip()}  # Gradio's page empties all outputs where nothing is yielded
        with self._claiming:
            task = self._by_page.get(request.session_hash)
            if task is None or not task.steps or task.steps[0] != step:
                return
            rest, task.steps = task.steps[1:], ()
        try:
            with closing(step(task, *values)) as updates:
                for update in updates:
                    if self._by_page.get(request.session_hash) is not task:
                        return
                    yield update
            if self._by_page.get(request.session_hash) is task:
                if task.stopped:
                    yield {self.status: status_line(STOPPED)} | self.end(task, request)
                elif not rest:
                    yield self.end(task, request)
            task.steps = rest
        except InputError as error:
            if self._by_page.get(request.session_hash) is task:
                yield {self.status: error_line(error)} | self.end(task, request)
            raise silent_error(error) from error
        finally:
            if not task.steps:  # a fault
                self.end(task, request)

    def progress(self, task: MapTask, steps: Generator[Progress, None, None]) -> Generator[Updates, None, None]:
        """Progress as status with the remaining time, at most four a second, until the task is stopped."""
        stage, start, first, last = "", 0.0, 0, 0.0
        with closing(steps):
            while not task.stopped and (step := next(steps, None)):
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
        if self._by_page.get(request.session_hash) is task:
            del self._by_page[request.session_hash]
        return self.button_updates(request)

    def stop(self, request: gr.Request) -> Any:
        """Stops what the page does after its next step; what the Stop button then is."""
        task = self._by_page.get(request.session_hash)
        if task is None:
            return gr.skip()
        task.stopped = True
        return stopping.stopping()

    def leave(self, request: gr.Request) -> None:
        """The page is gone."""
        self.stop(request)
        self._by_page.pop(request.session_hash, None)

    def button_updates(self, request: gr.Request) -> Updates:
        """The buttons, by whether the page does something."""
        state = stopping.going if request.session_hash in self._by_page else stopping.idle
        return dict(zip(self.buttons, state(len(self.buttons) - 1), strict=True))


def describe(spec: MapSpec) -> str:
    """A map in words."""
    where = spec.points[0] if len(spec.points) == 1 else f"{len(spec.points)} points"
    by = {"umap": "", "pca": ", by PCA", "t-sne": ", by t-SNE"}[spec.method]
    return f"{spec.size:,} {noun(spec, spec.size)} at {where}{by}"


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
