"""Numbers from a command line, refused in one sentence where they make no sense."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from foresight.errors import InputError


def at_least(low: float) -> Callable[[str], int]:
    """For argparse's `type`: a whole number, `low` or more."""

    def whole(text: str) -> int:
        if not text.lstrip("-").isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"must be a whole number, {low} or more, not {text!r}.")
        return int(text)

    return whole


def above(low: float) -> Callable[[str], float]:
    """For argparse's `type`: a finite number larger than `low`."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = low
        if not low < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be a number above {low}, not {text!r}.")
        return value

    return number


def pixels(text: str) -> str:
    """For argparse's `type`: what `Resolution.parse` reads; the word native depends on the model."""
    from foresight.data.resolution import Resolution  # imports torch

    try:
        Resolution.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text
