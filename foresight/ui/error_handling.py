"""How the library's InputErrors reach the user: each as one sentence, and nothing else on the page changes.

Gradio takes messages for HTML, so sentences are escaped.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, ParamSpec, TypeVar, cast

import gradio as gr

from foresight.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")


def show_errors(handler: Callable[P, R]) -> Callable[P, R]:
    """Wraps an event handler, so that its InputErrors are shown in a corner of the page and sent to API clients.

    Args:
        handler: A function, or a generator, whose values up to the error stay on the page.
    """

    def stream(*args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
        with _as_gradio_errors():
            yield from cast(Iterator[Any], handler(*args, **kwargs))

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with _as_gradio_errors():
            return handler(*args, **kwargs)

    # Gradio tells a generator by its function, so that one wrapper cannot serve both.
    wrapper = stream if inspect.isgeneratorfunction(inspect.unwrap(handler)) else call
    return cast(Callable[P, R], functools.wraps(handler)(wrapper))


@contextmanager
def _as_gradio_errors() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise gr.Error(user_error(error), print_exception=False) from error


def show_errors_in(place: gr.HTML) -> Callable[[Callable[P, Any]], Callable[P, Iterator[Any]]]:
    """Wraps an event handler, so that its InputErrors are shown in `place`, beside the control that caused them.

    Events that follow on success are not run then, and all other outputs stay as they are.

    Args:
        place: Made by `error_place`, and among the event's outputs. The handler, which may be a generator, gives it a
            value too; it is emptied first.
    """

    def wrap(handler: Callable[P, Any]) -> Callable[P, Iterator[Any]]:
        @functools.wraps(handler)
        def stream(*args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
            yield {place: ""}
            try:
                updates = handler(*args, **kwargs)
                if isinstance(updates, Iterator):
                    yield from updates
                else:
                    yield updates
            except InputError as error:
                yield {place: f'<p class="fs-error" role="alert">{user_error(error)}</p>'}
                raise silent_error(error) from error

        return stream

    return wrap


def error_place(elem_id: str) -> gr.HTML:
    """An HTML block for `show_errors_in`, which takes no room while it is empty."""
    return gr.HTML("", elem_id=elem_id, elem_classes="fs-plain fs-errors", apply_default_css=False)


def silent_error(error: InputError) -> gr.Error:
    """An error that ends an event without a message, where the page shows the reason already."""
    return gr.Error(user_error(error), visible=False, print_exception=False)


def user_error(error: InputError | str) -> str:
    """The error's sentence for HTML, with a capital."""
    return escape(str(error)[:1].upper() + str(error)[1:], quote=False)
