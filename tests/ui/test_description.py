"""Answers end where the visitor moves on, and only that visitor's."""

import threading

import gradio as gr
import pytest
from house import build_house
from PIL import Image

from foresight.errors import InputError
from foresight.ui.inspect.description import Conversations
from foresight.ui.inspect.tab import InspectTab
from foresight.ui.navigation import Navigation

IMAGE = Image.new("RGB", (224, 224), "white")
ME, OTHER = gr.Request(session_hash="me"), gr.Request(session_hash="other")


@pytest.fixture(scope="module")
def inspector(tiny, tmp_path_factory):
    return build_house(tiny.folder, tmp_path_factory.mktemp("house"))


def test_an_answer_ends_after_the_word_at_which_it_is_told_to(inspector):
    calls = []

    def after_three():
        calls.append(True)
        return len(calls) == 3

    whole = inspector.vlm.describe(IMAGE, "What is it?")
    part = inspector.vlm.describe(IMAGE, "What is it?", stop=after_three)
    assert len(calls) == 3 and len(part) < len(whole) and whole.startswith(part)


def test_moving_on_ends_ones_own_answer_alone(inspector, monkeypatch):
    describe, begun = inspector.vlm.describe, threading.Semaphore(0)

    def watched(*args, **kwargs):
        begun.release()
        return describe(*args, **kwargs)

    monkeypatch.setattr(inspector.vlm, "describe", watched)
    conversations, answers = Conversations(inspector.vlm), {}

    def ask(request):
        answers[request.session_hash] = conversations.say(IMAGE, "", request)

    conversations.hush(ME)  # nothing is being said
    threads = [threading.Thread(target=ask, args=(who,)) for who in (ME, OTHER)]
    for thread in threads:
        thread.start()
    for _ in threads:
        begun.acquire()
    conversations.hush(ME)
    for thread in threads:
        thread.join()
    assert answers["me"].endswith("(ended here: ask again)")
    assert not answers["other"].endswith("(ended here: ask again)")


def test_an_answer_after_one_that_failed_is_whole(inspector, monkeypatch):
    def fail(*_, **__):
        raise InputError("no weights.")

    conversations = Conversations(inspector.vlm)
    with monkeypatch.context() as patch, pytest.raises(InputError):
        patch.setattr(inspector.vlm, "describe", fail)
        conversations.say(IMAGE, "", ME)
    conversations.hush(ME)
    assert not conversations.say(IMAGE, "", ME).endswith("(ended here: ask again)")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("choose_adapter", ("post-merge", 1, "linear", ME)),
        ("draw_another", (ME, "any", "any", 1, "any", "any", "white", True, 0)),
    ],
)
def test_dice_and_another_adapter_are_moving_on(inspector, monkeypatch, name, values):
    with gr.Blocks():
        tab = InspectTab(inspector, Navigation(gr.State(), gr.State()))
        tab.build()
    hushed = []
    monkeypatch.setattr(Conversations, "hush", lambda self, request: hushed.append(request))
    getattr(tab, name)(*values)
    assert hushed == [ME]
