"""Numbers as people and programs hand them in: taken as they are or refused, never rounded."""

from __future__ import annotations

from typing import TypeGuard

from foresight.errors import InputError

MAX_SEED = 999_999  # that a person or a client may ask for


def whole(value: object, noun: str, least: int, most: int) -> int:
    """The value as an int. Raises InputError unless it is a whole number from `least` to `most`."""
    if not is_number(value) or not least <= value <= most or value != int(value):
        raise InputError(f"{noun} must be a whole number from {least:,} to {most:,}{instead(value)}.")
    return int(value)


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is an int or a float; True and False are neither."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def instead(value: object) -> str:
    """The end of a refusal: what was given; nothing where a field was left empty."""
    return "" if value is None else f", not {value:,}" if is_number(value) else f", not {value!r}"
