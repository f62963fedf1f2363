"""Answers end where the visitor moves on, and only that visitor's."""

from __future__ import annotations

import threading
import time

import gradio as gr
import pytest
from house import build_house
from PIL import Image

from foresight.ui.calls import Calls
from foresight.ui.inspect.speech import Speech

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
    speech, me, other = Speech(calls), gr.Request(session_hash="me"), gr.Request(session_hash="other")
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
