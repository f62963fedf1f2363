"""The Latent map's tasks and addresses, without a page: Stop reaches a task between any two of its steps."""

from dataclasses import replace
from urllib.parse import parse_qs

import gradio as gr
import numpy as np
import pytest

from foresight.errors import InputError
from foresight.maps.data import MapSpec, Progress
from foresight.settings import Settings
from foresight.ui import examples, stopping
from foresight.ui.latent_map import address, form, panels, tiles
from foresight.ui.latent_map.limits import MapLimits
from foresight.ui.latent_map.tasks import STOPPED, MapTask, Tasks, status_line

HERE, OTHER = gr.Request(session_hash="here"), gr.Request(session_hash="other")
SPEC = MapSpec(("post-merge/6",))
STATUS, STARTS, STOP = gr.HTML(), [gr.Button(), gr.Button()], gr.Button()
RUNNING, IDLE = (dict(zip([*STARTS, STOP], state(2), strict=True)) for state in (stopping.going, stopping.idle))


@pytest.fixture
def tasks():
    return Tasks(STATUS, STARTS, STOP)


def begin(tasks, steps, request=HERE):
    task = MapTask(SPEC, steps)
    ((status, spec, *buttons),) = tasks.start(lambda: task, request)
    assert "400 scenes at post-merge/6: waiting" in status and spec == SPEC and buttons == list(RUNNING.values())
    return task


def follow(tasks, step, request=HERE):
    """The updates, without the first, which changes nothing: a page empties all outputs where nothing is yielded."""
    updates = tasks.step(step)(request)
    assert next(updates) == {STATUS: gr.skip()}
    return updates


def first(task):
    yield {STATUS: "first"}
    if not task.stopped:
        yield {STATUS: "first, more"}


def second(task):
    yield {STATUS: "second"}


BOTH = (first, second)


def test_a_task_goes_through_its_steps_and_frees_the_buttons(tasks):
    begin(tasks, BOTH)
    assert list(follow(tasks, first)) == [{STATUS: "first"}, {STATUS: "first, more"}]
    assert list(follow(tasks, second)) == [{STATUS: "second"}, IDLE]
    assert tasks.stop(HERE) == gr.skip()


def test_a_stop_ends_a_task_within_a_step(tasks):
    begin(tasks, BOTH)
    others = begin(tasks, BOTH, OTHER)
    updates = follow(tasks, first)
    assert next(updates) == {STATUS: "first"}
    assert tasks.stop(HERE) == stopping.stopping()
    assert list(updates) == [{STATUS: status_line(STOPPED)} | IDLE]
    assert list(follow(tasks, second)) == []
    assert not others.stopped


def test_a_stop_between_two_events_of_a_chain_is_not_lost(tasks):
    begin(tasks, BOTH)
    assert len(list(follow(tasks, first))) == 2
    tasks.stop(HERE)
    assert list(follow(tasks, second)) == [{STATUS: "second"}, {STATUS: status_line(STOPPED)} | IDLE]


def test_late_events_of_a_stopped_task_leave_the_next_one_alone(tasks):
    begin(tasks, BOTH)
    tasks.stop(HERE)
    assert list(follow(tasks, first))[-1] == {STATUS: status_line(STOPPED)} | IDLE
    begin(tasks, BOTH)
    assert list(follow(tasks, second)) == []  # of the first task's chain
    updates = follow(tasks, first)
    assert next(updates) == {STATUS: "first"}
    assert list(follow(tasks, first)) == list(follow(tasks, second)) == []  # while the step goes on
    assert list(updates) == [{STATUS: "first, more"}]
    assert list(follow(tasks, second)) == [{STATUS: "second"}, IDLE]


def test_an_error_is_shown_in_the_status_and_the_buttons_are_free(tasks):
    def failing(task):
        raise InputError("too many points.")
        yield

    begin(tasks, (failing, second))
    updates = follow(tasks, failing)
    assert next(updates) == {STATUS: status_line("Too many points. Nothing else has changed.")} | IDLE
    with pytest.raises(gr.Error, match="Too many points"):
        next(updates)
    assert list(follow(tasks, second)) == []


def test_a_fault_frees_the_buttons_too(tasks):
    def faulty(task):
        raise ZeroDivisionError
        yield

    begin(tasks, (faulty, second))
    with pytest.raises(ZeroDivisionError):
        next(follow(tasks, faulty))
    assert tasks.button_updates(HERE) == IDLE


def test_a_new_task_stops_the_one_before_which_says_nothing_more(tasks):
    begin(tasks, BOTH)
    updates = follow(tasks, first)
    assert next(updates) == {STATUS: "first"}
    task = begin(tasks, BOTH)
    assert list(updates) == [] and tasks.button_updates(HERE) == RUNNING
    tasks.leave(HERE)
    assert task.stopped


def test_a_link_that_may_not_draw_only_fills_the_form(tasks):
    ((status, spec, *buttons),) = tasks.start(lambda: MapTask(SPEC), HERE)
    assert "press “Draw the map”" in status and spec == SPEC and buttons == [gr.skip()] * 3
    assert list(follow(tasks, first)) == []


def test_a_stop_closes_what_makes_progress(tasks):
    closed, task = [], MapTask(SPEC)

    def progress():
        try:
            yield Progress("latents", 1, 2)
            yield Progress("latents", 2, 2)
        finally:
            closed.append(True)

    steps = tasks.progress(task, progress())
    assert "Latents: 1 of 2" in next(steps)[STATUS]
    task.stopped = True
    assert list(steps) == [] and closed == [True]


def test_strangers_have_less(tasks):
    public, own = MapLimits.of(Settings(public=True)), MapLimits.of(Settings())
    many = MapSpec(("post-merge/6",), 10_000)
    assert own.check(many) == many and own.links and not public.links
    with pytest.raises(InputError, match="at most 5,000 points, not 10,000"):
        public.check(many)
    with pytest.raises(InputError, match="at most 6 layers, not 7"):
        public.check(MapSpec(tuple(f"post-merge/{layer}" for layer in range(7))))


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        MapSpec(("pre-merge/6", "post-merge/6"), 200, 7, 16, 3, 5, "any", 30, 0.25, 12, "t-sne", "448²"),
        MapSpec(("post-merge/6",), background="texture"),
    ],
)
def test_an_address_and_the_form_give_the_same_map_again(spec):
    link = address.query(spec)
    values = {name: value[0] for name, value in parse_qs(link[1:]).items()}
    assert address.spec_of(values, "post-merge/0") == spec
    assert form.spec_of(*form.values_of(spec)) == spec
    assert address.query(SPEC) == "?tab=map&points=post-merge/6&scenes=400&seed=0"
    assert address.spec_of({"tab": "map"}, "post-merge/6") == SPEC
    assert address.spec_of({"objects": "1-5"}, "post-merge/6").objects == 5  # as older links have it


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"scenes": "many"}, "scenes must be a whole number"),
        ({"scenes": "1"}, "scenes must be"),
        ({"objects": "3"}, "unknown objects '3'"),
        ({"background": "sea"}, "unknown background"),
        ({"min_dist": "near"}, "min_dist must be a number"),
        ({"min_dist": "nan"}, "least distance"),
    ],
)
def test_an_address_that_asks_for_no_map_is_one_sentence(values, sentence):
    with pytest.raises(InputError, match=sentence):
        address.spec_of(values, "post-merge/6")


def test_numbers_are_taken_as_typed_or_refused_but_never_rounded():
    values = form.values_of(SPEC)
    assert form.spec_of(*values[:3], 400.0, *values[4:]).id == SPEC.id
    assert replace(SPEC, min_dist=0).id == replace(SPEC, min_dist=0.0).id
    for place, typed, sentence in (
        (3, 20.5, "scenes must be a whole number from 20 to 20,000, not 20.5"),
        (7, None, "the seed must be a whole number from 0 to 999,999."),
        (8, True, "neighbours must be a whole number from 2 to 200, not True"),
        (9, "near", "the least distance must be from 0 to below 1, not 'near'"),
        (10, float("nan"), "clusters must be a whole number"),
    ):
        with pytest.raises(InputError, match=sentence):
            form.spec_of(*values[:place], typed, *values[place + 1 :])
    with pytest.raises(InputError, match="tokens a scene must be a whole number from 1 to 64, not 0"):
        form.spec_of(values[0], form.TOKENS, 0, *values[3:])


def test_a_picture_of_another_kind_is_warned_of():
    one, five = examples.example("one-on-white"), examples.example("five-on-texture")
    assert tiles.mismatch(SPEC, one) == ""
    assert "one object on white, and your picture has 5 objects on texture" in tiles.mismatch(SPEC, five)
    assert tiles.mismatch(MapSpec(SPEC.points, objects=5, background="any"), five) == ""
    assert "your picture is none" in tiles.mismatch(SPEC, "/tmp/photo.png")


@pytest.mark.parametrize("count", [20, 400])
def test_one_outlier_does_not_take_all_colours(count):
    values = np.append(np.linspace(0.1, 0.2, count - 1), 9.0)
    low, high = panels.color_range(values)
    assert 0.1 < low < high <= 0.2
    assert panels.color_range(np.array([0.5, 0.7])) == (0.5, 0.7) and panels.color_range(np.full(9, 0.3)) == (0.3, 0.3)
