"""Numbers from a command line, refused in one sentence where they make no sense."""

import argparse
from collections.abc import Callable

from foresight.errors import InputError


def at_least(low: int, most: int = 10_000_000) -> Callable[[str], int]:
    """For argparse's `type`: a whole number from `low` to `most`."""

    def whole(text: str) -> int:
        if not text.lstrip("-").isdecimal() or len(text) > 20 or not low <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low:,} to {most:,}, not {text[:40]!r}.")
        return int(text)

    return whole


def share(text: str) -> float:
    """For argparse's `type`: a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, not {text[:40]!r}.")
    return value


def above(low: float) -> Callable[[str], float]:
    """For argparse's `type`: a finite number larger than `low`."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = low
        if not low < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be a number above {low}, not {text[:40]!r}.")
        return value

    return number


def seconds(text: str) -> float:
    """For argparse's `type`: a finite number of 0 or more."""
    return 0.0 if text.strip() in ("0", "0.0") else above(0)(text)


def rate(text: str) -> float | None:
    """For argparse's `type`: frames a second; None for the word all."""
    return None if text.strip().lower() == "all" else above(0)(text)


def pixels(text: str) -> str:
    """For argparse's `type`: what `Resolution.parse` reads; the word native depends on the model."""
    from foresight.data.resolution import Resolution  # imports torch

    try:
        Resolution.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text
