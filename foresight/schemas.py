"""What settings may be: declared once as pydantic dataclasses, for forms, addresses, the API and the command line.

A field's annotation carries its limits and its help; `limits_of` gives them to whoever builds an input for it. Values
are taken as people and programs hand them in, as they are, or refused in one sentence: never rounded.
"""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar, get_type_hints

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import CoreSchema, core_schema, to_jsonable_python
from typing_extensions import dataclass_transform

from foresight.errors import InputError

MAX_SEED = 999_999  # that a person or a client may ask for

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def schema(cls: type[T]) -> type[T]:
    """A frozen pydantic dataclass, whose constructor raises InputError with the first thing that is wrong."""
    decorated = pydantic_dataclass(cls, frozen=True)
    construct = decorated.__init__

    @functools.wraps(construct)
    def __init__(self: Any, *args: Any, **values: Any) -> None:
        try:
            construct(self, *args, **values)
        except ValidationError as error:
            first = error.errors()[0]
            cause = first.get("ctx", {}).get("error")  # the sentence of a type below, or of __post_init__
            field = ".".join(str(part) for part in first["loc"])
            raise InputError(str(cause) if cause else f"{field}: {first['msg'].lower()}.") from None

    decorated.__init__ = __init__  # type: ignore[method-assign]
    return decorated  # type: ignore[return-value]


@dataclass(frozen=True)
class _Setting:
    """Annotates a field: what it is called in a sentence, and what values it takes."""

    noun: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def check(self, value: Any) -> Any:
        """The value. Raises InputError where it is none that the field takes."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Limits(_Setting):
    """Annotates a number: the least and the most, and what it means."""

    least: float
    most: float
    help: str = ""


@dataclass(frozen=True)
class Whole(_Limits):
    """A whole number."""

    def check(self, value: object) -> int:
        return whole(value, self.noun, int(self.least), int(self.most))


@dataclass(frozen=True)
class Below(_Limits):
    """A number from `least` to below `most`."""

    def check(self, value: object) -> float:
        if not is_number(value) or not self.least <= value < self.most:
            raise InputError(f"{self.noun} must be from {self.least:g} to below {self.most:g}{instead(value)}.")
        return float(value)


@dataclass(frozen=True)
class Number(_Limits):
    """A number from `least` to `most`."""

    def check(self, value: object) -> float:
        if not is_number(value) or not self.least <= value <= self.most:
            raise InputError(f"{self.noun} must be from {self.least:g} to {self.most:g}{instead(value)}.")
        return float(value)


@dataclass(frozen=True)
class Range(_Limits):
    """Two numbers, the least and the largest."""

    def check(self, value: Any) -> tuple[float, float]:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise InputError(f"{self.noun} must be a least and a largest number.")
        low, high = (Number(self.noun, self.least, self.most).check(end) for end in value)
        return low, high


@dataclass(frozen=True)
class Pair(_Limits):
    """Two whole numbers, such as the fewest and the most."""

    def check(self, value: Any) -> tuple[int, int]:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise InputError(f"{self.noun} must be two numbers such as [{self.least}, {self.most}], not {value!r}.")
        low, high = (whole(number, self.noun, int(self.least), int(self.most)) for number in value)
        return low, high


@dataclass(frozen=True)
class Names(_Setting):
    """Several names, each once, or none.

    known: the names there are; None leaves that check to whoever uses them.
    """

    known: tuple[str, ...] | None = None
    at_least_one: bool = False
    help: str = ""

    def check(self, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
            raise InputError(f"{self.noun} must be a list of names, not {value!r}.")
        if self.at_least_one and not value:
            raise InputError(f"choose at least one of the {self.noun}.")
        if self.known is not None:
            for word in value:
                Choice(self.noun.removesuffix("s"), self.known).check(word)
        return tuple(dict.fromkeys(value))


@dataclass(frozen=True)
class Choice(_Setting):
    """One of the names that are known."""

    known: tuple[str, ...]

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise InputError(f"{self.noun} must be a name, not {value!r}.")
        if value not in self.known:
            comma = "; " if any("," in name for name in self.known) else ", "
            raise InputError(f"unknown {self.noun} {value!r}: choose from {comma.join(self.known)}.")
        return value


@dataclass(frozen=True)
class Flag(_Setting):
    """True or false."""

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise InputError(f"{self.noun} must be true or false, not {value!r}.")
        return value


def limits_of(settings: type, field: str) -> Any:
    """The annotation of a schema's field that carries its limits or choices: such as a Whole or a Choice."""
    return get_type_hints(settings, include_extras=True)[field].__metadata__[0]


def default_of(settings: type, field: str) -> Any:
    """The default of a schema's field."""
    return next(part.default for part in dataclasses.fields(settings) if part.name == field)


def from_json(settings: type[T], values: Mapping[str, Any]) -> T:
    """A schema's settings from JSON values by their names. Raises InputError, also on names that it does not have."""
    known = [part.name for part in dataclasses.fields(settings)]  # type: ignore[arg-type]
    if unknown := sorted(values.keys() - set(known)):
        raise InputError(f"there is no setting {unknown[0]!r}: choose from {', '.join(known)}.")
    return settings(**values)


def to_json(settings: Any) -> dict[str, Any]:
    """A schema's settings as JSON values: tuples become lists."""
    values: dict[str, Any] = to_jsonable_python(dataclasses.asdict(settings))
    return values


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
