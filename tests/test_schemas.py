"""Settings are taken as they are or refused in one sentence, and tell forms their limits."""

from typing import Annotated

import pytest

from foresight.errors import InputError
from foresight.schemas import Below, Whole, default_of, limits_of, schema


@schema
class Settings:
    names: tuple[str, ...]
    count: Annotated[int, Whole("the count", 1, 2_000, "How many.")] = 5
    share: Annotated[float, Below("the share", 0, 1)] = 0.5

    def __post_init__(self) -> None:
        if self.count < len(self.names):
            raise InputError("fewer than there are names.")


def test_values_are_taken_as_they_are():
    assert Settings(("a",), 7.0) == Settings(["a"], count=7) != Settings(("a",))
    assert hash(Settings(("a",), 7.0)) == hash(Settings(("a",), 7))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"count": 2_001}, "the count must be a whole number from 1 to 2,000, not 2,001."),
        ({"count": 1.5}, "the count must be a whole number from 1 to 2,000, not 1.5."),
        ({"count": True}, "the count must be a whole number from 1 to 2,000, not True."),
        ({"count": None}, "the count must be a whole number from 1 to 2,000."),
        ({"share": 1}, "the share must be from 0 to below 1, not 1."),
        ({"names": ("a", "b"), "count": 1}, "fewer than there are names."),
        ({"names": 5}, "names: input should be a valid tuple."),
    ],
)
def test_what_is_wrong_is_one_sentence(values, sentence):
    with pytest.raises(InputError) as refused:
        Settings(**{"names": ("a",), **values})
    assert str(refused.value) == sentence


def test_a_form_reads_limits_help_and_defaults():
    limits = limits_of(Settings, "count")
    assert (limits.least, limits.most, limits.help, default_of(Settings, "count")) == (1, 2_000, "How many.", 5)
