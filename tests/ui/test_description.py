"""Answers end where the visitor moves on, and only that visitor's."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import gradio as gr
import pytest
from house import build_house
from PIL import Image

from foresight.errors import InputError
from foresight.ui.inspect import tab
from foresight.ui.inspect.description import Conversations
from foresight.ui.navigation import Navigation
from foresight.ui.services import Calls

PICTURE = Image.new("RGB", (224, 224), "white")


@pytest.fixture(scope="module")
def calls(tiny, tmp_path_factory):
    return Calls.of(build_house(tiny.folder, tmp_path_factory.mktemp("house")))


def test_an_answer_ends_after_the_word_at_which_it_is_told_to(calls):
    asked = []

    def after_three():
        asked.append(time.perf_counter())
        return len(asked) == 3

    whole = calls.describe(PICTURE, "What is it?", None)
    part = calls.describe(PICTURE, "What is it?", after_three)
    assert len(asked) == 3 and len(part) < len(whole) and whole.startswith(part)


def test_moving_on_ends_ones_own_answer_alone(calls):
    speech, me, other = Conversations(calls), gr.Request(session_hash="me"), gr.Request(session_hash="other")
    answers = {}

    def ask(request):
        answers[request.session_hash] = speech.say(PICTURE, "", request)

    speech.hush(me)  # nothing is being said
    threads = [threading.Thread(target=ask, args=(who,)) for who in (me, other)]
    for thread in threads:
        thread.start()
    while "me" not in speech._ends:
        time.sleep(0.001)
    speech.hush(me)
    for thread in threads:
        thread.join()
    assert answers["me"].endswith("(ended here: ask again)")
    assert not answers["other"].endswith("(ended here: ask again)") and not speech._ends


def test_an_answer_that_fails_leaves_nothing(calls):
    def fail(*_):
        raise InputError("no weights.")

    speech = Conversations(replace(calls, describe=fail))
    with pytest.raises(InputError):
        speech.say(PICTURE, "", gr.Request(session_hash="me"))
    assert not speech._ends


@pytest.mark.parametrize(("name", "values"), [("choose", ("post-merge", 1, "linear")), ("roll", ())])
def test_dice_and_another_adapter_are_moving_on(calls, monkeypatch, name, values):
    with gr.Blocks() as page:
        tab.build(calls, Navigation(gr.State(), gr.State()))
    heard = []
    monkeypatch.setattr(Conversations, "hush", lambda self, request: heard.append(request))
    [handler] = [f.fn for f in page.fns.values() if f.fn is not None and f.fn.__qualname__.endswith(f"<locals>.{name}")]
    handler(*values, gr.Request(session_hash="me"))
    assert len(heard) == 1
