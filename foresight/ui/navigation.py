"""How a tab is opened: by another tab that asks for a view of it, by an address, or by hand."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from foresight.data.archive import Broken
from foresight.data.factors import EvaluationSettings
from foresight.data.resolution import Resolution
from foresight.errors import InputError
from foresight.inspection.evaluation import Sample
from foresight.inspection.inspector import Inspector
from foresight.ui import examples
from foresight.ui import view_link as link
from foresight.ui.error_handling import show_errors
from foresight.ui.gradio_internals import current_page, current_tab
from foresight.ui.services import CLICKS, QUIET, ImageSource


@dataclass(frozen=True, eq=False)  # by identity, for Gradio hashes what a State holds
class Selection:
    """Pictures that were chosen on the latent map, to be evaluated in Failures.

    Attributes:
        samples: They, as large as the VLM is to see them.
        total: How many.
        data: What they are, as JSON values.
        settings: Of scenes, what factors they may have; None for other pictures.
    """

    samples: Callable[[Resolution], Iterable[Sample | Broken]]
    total: int
    data: dict[str, Any]
    settings: EvaluationSettings | None


@dataclass(frozen=True)
class Navigation:
    """One state a tab: an event that writes a view into it opens that tab on that view.

    inspect takes what `open_view` returns; latent_map and compare that, or the query of an address (a "second" in what
    compare takes asks for that picture beside the one there); video and findings such a query, failures too, or
    {"selection": Selection, "point", "adapter", "at"}; train the name of a run. `inspected` is no view: it is the
    source of the image that Inspect read last, None on a page without that tab.
    """

    inspect: gr.State
    latent_map: gr.State
    train: gr.State = field(default_factory=gr.State)
    compare: gr.State = field(default_factory=gr.State)
    failures: gr.State = field(default_factory=gr.State)
    video: gr.State = field(default_factory=gr.State)
    findings: gr.State = field(default_factory=gr.State)
    inspected: gr.State = field(default_factory=gr.State)


def open_view(source: ImageSource, point: str, adapter: str | None, pixels: str | None = None) -> dict[str, Any]:
    """The view of an image at a point by an adapter, to be written into a state of `Navigation`.

    pixels: how large the model sees the image, None as the adapter was fitted. Its time makes it a new value each time,
    so that the same view can be asked for again.
    """
    return {"source": source, "point": point, "adapter": adapter, "pixels": pixels, "at": time.time()}


def updated_choices(component: Callable[..., Any], choices: Sequence[Any], current: Any, value: Any) -> Any:
    """New choices for a component; its value only if it must change, for the user may have chosen again meanwhile."""
    return component(choices) if value == current else component(choices, value=value)


def opening() -> Any:
    """The trigger of an event that comes whenever the tab that is being built is opened, by a link too.

    Not when the page is loaded: of every event that has ended, Gradio's page keeps a status of each input, and goes
    through all of them at each message of any other event. On a page without tabs it is the loading.
    """
    tab = current_tab()
    return tab.select if tab else current_page().load  # type: ignore[attr-defined]


def on_open(function: Callable[..., Any], inputs: Any, outputs: Any) -> Any:
    """The event that runs a function whenever the tab that is being built is opened."""
    return gr.on(opening(), function, inputs, outputs, **QUIET)


class Router:
    """Opens a tab where a view is written into its state of `Navigation`, an address asks for it, or Back returns."""

    def __init__(self, navigation: Navigation, tabs: gr.Tabs, names: Sequence[str], inspector: Inspector) -> None:
        """Adds its events to the current page.

        Args:
            navigation: The states.
            tabs: All tabs.
            names: Theirs, as addresses have them.
            inspector: Has the point and the adapter of an address that names none.
        """
        self.navigation, self.tabs, self.names, self.inspector = navigation, tabs, names, inspector
        self.states = {
            "inspect": navigation.inspect,
            "compare": navigation.compare,
            "failures": navigation.failures,
            "map": navigation.latent_map,
            "video": navigation.video,
            "train": navigation.train,
            "findings": navigation.findings,
        }
        self.outputs = [tabs, *self.states.values()]
        current_page().load(self.load, None, self.outputs, **QUIET)
        for name, state in self.states.items():
            if name in names:
                open_tab = functools.partial(gr.Tabs, selected=name)
                state.change(open_tab, None, tabs, js="() => { scrollTo(0, 0); }", **QUIET)

    def follow(self, history: gr.HTML) -> None:
        """Answers Back and Forward. history: is clicked with what `view_link.HISTORY` tells of them."""
        history.click(self.travel, None, self.outputs, **CLICKS)

    @show_errors
    def load(self, request: gr.Request) -> Any:
        """The view of the address that the page is opened with."""
        parameters = _own(request.query_params)
        if parameters.keys() & {link.TAB, link.RUN, *link.NAMES}:
            return self.open_address(parameters)
        return {self.tabs: gr.skip()}

    @show_errors
    def travel(self, event: gr.EventData) -> Any:
        """The view of the address that Back or Forward leads to; the tab alone where it shows that view still."""
        parameters = _own(dict(parse_qsl(event.query.lstrip("?"))))
        if event.stays:
            return {self.tabs: gr.Tabs(selected=_tab_of(parameters))}
        if not parameters:  # the address that the page began with
            point = self.inspector.default_point
            adapter = next((record.name for record in self.inspector.adapters(point)), None)
            return {self.navigation.inspect: open_view(examples.examples()[examples.FIRST], str(point), adapter)}
        return self.open_address(parameters)

    def open_address(self, parameters: dict[str, str]) -> dict[Any, Any]:
        """What an address asks for, written into a state; of a tab alone, the tab as it is. Raises InputError."""
        name = _tab_of(parameters)
        if name not in self.names:
            raise InputError(f"there is no view of a tab {name!r}: choose from {', '.join(self.names)}.")
        if parameters.keys() == {link.TAB} or name not in self.states:
            return {self.tabs: gr.Tabs(selected=name)}
        if name == "train":
            return {self.navigation.train: parameters.get(link.RUN)}
        if name == "inspect":
            point = parameters.get("point", str(self.inspector.default_point))
            view = open_view(link.source_of(parameters), point, parameters.get("adapter"), parameters.get("pixels"))
            return {self.navigation.inspect: view}
        return {
            self.states[name]: {**parameters, "at": time.time()}
        }  # a new value, also when it is the same view again


def _own(parameters: Mapping[str, str]) -> dict[str, str]:
    """An address's parameters without Gradio's, such as __theme."""
    return {name: value for name, value in parameters.items() if not name.startswith("__")}


def _tab_of(parameters: Mapping[str, str]) -> str:
    return parameters.get(link.TAB, "train" if link.RUN in parameters else "inspect")
