"""Pictures of another tab that Inspect steps through one after the other, with tags and a note on each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from foresight.data.names import shortened
from foresight.errors import InputError
from foresight.ui.error_handling import error_place, show_errors, show_errors_in
from foresight.ui.navigation import Navigation
from foresight.ui.notes import Note, Notes
from foresight.ui.services import QUIET, plain_html

_BACK = "() => { document.querySelector('#tab-failures-button').click(); }"


@dataclass(frozen=True, eq=False)  # by identity, for Gradio hashes what a State holds
class Series:
    """The pictures, in order.

    Attributes:
        view: Gives the view in Inspect of the picture at a place, as `open_view` does.
        titles: What each is called.
        keys: What each one's note is kept by.
        notes: Has these.
    """

    view: Callable[[int], dict[str, Any]]
    titles: Sequence[str]
    keys: Sequence[str]
    notes: Notes

    def open(self, place: int) -> dict[str, Any]:
        """The view in Inspect of the picture at a place, as one of this series."""
        return self.view(place) | {"series": (self, place)}


class SeriesBar:
    """Previous, next, and the note, above what Inspect shows; there only while that is one of a series."""

    def __init__(self, navigation: Navigation) -> None:
        """Adds the bar to the current layout.

        Args:
            navigation: Brings views of a series, and takes the next one.
        """
        self.navigation = navigation
        self.current = gr.State()
        self.key = gr.Textbox(visible="hidden")
        with gr.Column(visible=False, elem_id="series") as self.bar:
            with gr.Row():
                self.previous = gr.Button("◀ Previous", size="sm", min_width=90, elem_id="series-previous")
                self.next = gr.Button("Next ▶", size="sm", min_width=90, elem_id="series-next")
                self.title = plain_html("", "series-title")
                self.tags = _line("Tags, separated by commas", "series-tags")
                self.note = _line("Note, kept with the picture", "series-note")
                back = gr.Button("Back to Failures", size="sm", min_width=120, elem_id="series-back")
            self.error = error_place("series-error")
        steps = [self.previous, self.next]
        fields = [self.key, self.tags, self.note]
        navigation.inspect.change(
            self.enter, navigation.inspect, [self.current, self.bar, self.title, *steps, *fields, self.error], **QUIET
        )
        for button, by in ((self.previous, -1), (self.next, 1)):
            button.click(lambda current, by=by: self.step(current, by), self.current, navigation.inspect, **QUIET)
        back.click(None, None, None, js=_BACK, api_visibility="private")
        # With the key from the page: by the time it is saved, the next picture may be there.
        leaving = [event for field in (self.tags, self.note) for event in (field.blur, field.submit)]
        gr.on(leaving, show_errors_in(self.error)(self.save), [self.current, *fields], self.error, **QUIET)

    def enter(self, view: dict[str, Any]) -> list[Any]:
        """Shows the bar for a view of a series, and hides it for another one."""
        if "series" not in view:
            return [gr.skip(), gr.Column(visible=False), *[gr.skip()] * 6, ""]
        series, place = view["series"]
        note, last = series.notes.get(series.keys[place]), len(series.titles) - 1
        name = series.titles[place]
        title = f'<p role="status" title="{escape(name)}">{place + 1} of {last + 1}: {escape(shortened(name))}</p>'
        steps = [gr.Button(interactive=place > 0), gr.Button(interactive=place < last)]
        fields = [series.keys[place], ", ".join(note.tags), note.text]
        return [(series, place), gr.Column(visible=True), title, *steps, *fields, ""]

    @show_errors
    def step(self, current: tuple[Series, int] | None, by: int) -> dict[str, Any]:
        """The view of the next picture, or of the one before."""
        if current is None:
            raise InputError("these pictures are no longer here: open one in Failures.")
        series, place = current
        return series.open(min(max(place + by, 0), len(series.titles) - 1))

    def save(self, current: tuple[Series, int] | None, key: str, tags: str, text: str) -> dict[Any, Any]:
        """Keeps the note of the picture with that key."""
        if current is not None:
            current[0].notes.put(key, Note.of(tags, text))
        return {self.error: ""}

    def leave(self) -> gr.Column:
        """Hides the bar: a picture is shown that is none of the series. A note may still be on its way."""
        return gr.Column(visible=False)


def _line(label: str, elem_id: str) -> gr.Textbox:
    """A line to type into, whose label only screen readers are told."""
    looks: dict[str, Any] = {"show_label": False, "container": False, "max_lines": 1, "min_width": 150}
    return gr.Textbox(label=label, placeholder=label, elem_id=elem_id, **looks)
