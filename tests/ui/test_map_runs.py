"""The Latent map's runs and addresses, without a page: Stop reaches a run between any two of its steps."""

from dataclasses import replace
from urllib.parse import parse_qs

import gradio as gr
import numpy as np
import pytest

from foresight.data.scenes import BACKGROUNDS
from foresight.errors import InputError
from foresight.maps.data import MapSpec, Progress
from foresight.ui import generate, stopping
from foresight.ui.latent_map import address, form, panels, tiles
from foresight.ui.latent_map.runs import STOPPED, Run, Runs, paced, told

HERE, OTHER = gr.Request(session_hash="here"), gr.Request(session_hash="other")
SPEC = MapSpec(("post-merge/6",))
GOING, IDLE = stopping.going(2), stopping.idle(2)


def begin(runs, request=HERE):
    ((status, run, *then),) = runs.start(lambda: Run(SPEC), request)
    assert "400 scenes at post-merge/6: waiting" in status and then == GOING
    return run


def follow(runs, run, steps, others=0):
    """What is told, without the first, which changes nothing: a page empties all outputs where nothing is yielded."""
    told_here = runs.follow(run, steps, HERE, others)
    assert next(told_here) == [gr.skip()] * (4 + others)
    return told_here


def two_steps(closed):
    try:
        yield ["first"]
        yield ["second"]
    finally:
        closed.append(True)


def test_a_stop_ends_a_run_between_two_steps_and_closes_what_was_going_on():
    runs, closed = Runs(2), []
    run, others = begin(runs), begin(runs, OTHER)
    told_here = follow(runs, run, two_steps(closed))
    assert next(told_here)[0] == "first"
    assert runs.stop(HERE) == stopping.stopping()
    assert list(told_here) == [[told(STOPPED), *IDLE]] and closed == [True]
    assert not others.stopped


def test_a_stop_between_two_events_of_a_chain_is_not_lost():
    runs, closed = Runs(2), []
    run = begin(runs)
    assert len(list(follow(runs, run, two_steps(closed)))) == 2
    runs.stop(HERE)
    ((status, other, *then),) = follow(runs, run, two_steps([]), others=1)
    assert status == told(STOPPED) and other == gr.skip() and then == IDLE
    assert list(follow(runs, run, two_steps([]))) == []  # the chain's later events do nothing
    assert runs.stop(HERE) == gr.skip()


def test_what_is_refused_says_so_in_the_status_and_the_buttons_are_free():
    runs = Runs(2)

    def refused():
        raise InputError("too many points.")
        yield

    steps = follow(runs, begin(runs), refused())
    assert next(steps) == [told("Too many points. Nothing else has changed."), *IDLE]
    with pytest.raises(gr.Error, match="Too many points"):
        next(steps)


def test_a_new_run_stops_the_one_before_which_says_nothing_more():
    runs = Runs(2)
    first, second = begin(runs), begin(runs)
    ((status, *then),) = follow(runs, first, two_steps([]))
    assert status == gr.skip() and then == GOING
    runs.leave(HERE)
    assert second.stopped


def test_progress_is_closed_with_its_status():
    closed = []

    def progress():
        try:
            yield Progress("latents", 1, 2)
            yield Progress("latents", 2, 2)
        finally:
            closed.append(True)

    steps = paced(progress())
    assert "Latents: 1 of 2" in next(steps)[0]
    steps.close()
    assert closed == [True]


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        MapSpec(("pre-merge/6", "post-merge/6"), 200, 7, (1, 5), BACKGROUNDS, 16, 3, 30, 0.25, 12),
        MapSpec(("post-merge/6",), backgrounds=("texture",)),
    ],
)
def test_an_address_and_the_form_give_the_same_map_again(spec):
    link = address.query(spec)
    asked = {name: values[0] for name, values in parse_qs(link[1:]).items()}
    assert address.spec_of(asked, "post-merge/0") == spec
    assert form.spec_of(*form.values_of(spec)) == spec
    assert address.query(SPEC) == "?tab=map&points=post-merge/6&scenes=400&seed=0"
    assert address.spec_of({"tab": "map"}, "post-merge/6") == SPEC


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"scenes": "many"}, "scenes must be a whole number"),
        ({"scenes": "1"}, "scenes must be"),
        ({"objects": "3"}, "unknown objects '3'"),
        ({"background": "sea"}, "unknown background"),
        ({"min_dist": "near"}, "min_dist must be a number"),
        ({"min_dist": "nan"}, "least distance"),
    ],
)
def test_an_address_that_asks_for_no_map_is_one_sentence(asked, sentence):
    with pytest.raises(InputError, match=sentence):
        address.spec_of(asked, "post-merge/6")


def test_numbers_are_taken_as_typed_or_refused_but_never_rounded():
    values = form.values_of(SPEC)
    assert form.spec_of(*values[:2], 400.0, *values[3:]).id == SPEC.id
    assert replace(SPEC, min_dist=0).id == replace(SPEC, min_dist=0.0).id
    for place, typed, sentence in (
        (2, 20.5, "scenes must be a whole number from 20 to 20,000, not 20.5"),
        (7, None, "the seed must be a whole number from 0 to 999,999."),
        (8, True, "neighbours must be a whole number from 2 to 200, not True"),
        (9, "near", "the least distance must be from 0 to below 1, not 'near'"),
        (10, float("nan"), "clusters must be a whole number"),
    ):
        with pytest.raises(InputError, match=sentence):
            form.spec_of(*values[:place], typed, *values[place + 1 :])
    with pytest.raises(InputError, match="tokens a scene must be a whole number from 1 to 64, not 0"):
        form.spec_of(values[0], form.TOKENS, 400, 0, *values[4:])


def test_a_picture_of_another_kind_is_warned_of():
    one, five = generate.examples()[0][1], generate.examples()[2][1]
    assert tiles.stranger(SPEC, one) == ""
    assert "one object on white, and your picture has 5 objects on texture" in tiles.stranger(SPEC, five)
    assert tiles.stranger(MapSpec(SPEC.points, objects=(1, 5), backgrounds=BACKGROUNDS), five) == ""
    assert "your picture is none" in tiles.stranger(SPEC, "/tmp/photo.png")


@pytest.mark.parametrize("count", [20, 400])
def test_one_outlier_does_not_take_all_colours(count):
    values = np.append(np.linspace(0.1, 0.2, count - 1), 9.0)
    low, high = panels.color_range(values)
    assert 0.1 < low < high <= 0.2
    assert panels.color_range(np.array([0.5, 0.7])) == (0.5, 0.7) and panels.color_range(np.full(9, 0.3)) == (0.3, 0.3)
