"""How the library's refusals, its InputErrors, reach the user: each as one sentence, and nothing else changes.

Gradio takes messages for HTML, so sentences are escaped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from html import escape
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from foresight.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")


def telling(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, whose refusals are shown in a corner of the page, and told to clients of the API."""

    @functools.wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except InputError as error:
            raise gr.Error(sentence(error), print_exception=False) from error

    return told


def telling_each(function: Callable[P, Iterator[R]]) -> Callable[P, Iterator[R]]:
    """`telling` for a generator; what it yielded before stays."""

    @functools.wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        try:
            yield from function(*args, **kwargs)
        except InputError as error:
            raise gr.Error(sentence(error), print_exception=False) from error

    return told


def telling_in(place: gr.HTML) -> Callable[[Callable[P, Any]], Callable[P, Iterator[Any]]]:
    """For an event with `place` among its outputs, beside the control that it belongs to: a refusal is told there.

    What follows on success does not happen then, and all other outputs stay as they are. The function, which may be
    a generator, gives `place` a value too; it begins empty.
    """

    def wrap(function: Callable[P, Any]) -> Callable[P, Iterator[Any]]:
        @functools.wraps(function)
        def told(*args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
            yield {place: ""}
            try:
                made = function(*args, **kwargs)
                if isinstance(made, Iterator):
                    yield from made
                else:
                    yield made
            except InputError as error:
                yield {place: f'<p class="fs-refusal" role="alert">{sentence(error)}</p>'}
                raise unseen(error) from error

        return told

    return wrap


def refusal_place(name: str) -> gr.HTML:
    """Where refusals are told; takes no room while there is none. name: its elem_id."""
    return gr.HTML("", elem_id=name, elem_classes="fs-plain fs-refusals", apply_default_css=False)


def unseen(error: InputError) -> gr.Error:
    """Ends an event as refused, where the page tells already why."""
    return gr.Error(sentence(error), visible=False, print_exception=False)


def sentence(told: InputError | str) -> str:
    """Its words for HTML, with a capital."""
    return escape(str(told)[:1].upper() + str(told)[1:], quote=False)
