"""Settings are taken as they are or refused in one sentence, and tell forms their limits."""

from typing import Annotated

import pytest

from foresight.data.factors import SceneFactors
from foresight.data.scenes import SceneSpec
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


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ({"objects": 5}, "objects must be two numbers such as [1, 5], not 5."),
        ({"objects": [1, 6]}, "objects must be a whole number from 1 to 5, not 6."),
        ({"shapes": "star"}, "shapes must be a list of names, not 'star'."),
        ({"size": ["small"]}, "size must be a name, not ['small']."),
        ({"position": "left"}, "unknown position 'left': choose from any, top left, top right, centre, bottom left, "),
        ({"overlap": 1}, "overlap must be true or false, not 1."),
    ],
)
def test_scene_factors_are_refused_in_one_sentence(chosen, sentence):
    with pytest.raises(InputError) as refused:
        SceneFactors(**chosen)
    assert str(refused.value).startswith(sentence)


def test_scene_factors_make_what_is_sampled():
    assert SceneFactors().spec() == SceneSpec()
    spec = SceneFactors([1, 2], ["star"], size="small", position="centre", overlap=False).spec()
    assert spec == SceneSpec((1, 2), ("star",), radius=(12, 24), region=(0.3, 0.3, 0.7, 0.7), overlap=False)
