"""Whose turn it is at the models: clicks first, batches between them, one step at a time."""

import threading
import time

import gradio as gr
import pytest

from foresight.ui import turns
from foresight.ui.services import BATCH_QUEUE, MODEL_QUEUE
from foresight.ui.turns import Turns, take_turns


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_clicks_go_before_a_batch_s_next_step_and_one_at_a_time():
    models, log, within = Turns(), [], threading.Event()

    def batch():
        within.set()
        wait_for(lambda: models._clicks == 2)  # both come during the first step
        for step in range(3):
            log.append(f"step {step}")
            yield step

    def click(name):
        within.wait()
        with models.click():
            log.append(name)

    clicks = [threading.Thread(target=click, args=("click",)) for _ in range(2)]
    for thread in clicks:
        thread.start()
    assert list(models.steps(batch())) == [0, 1, 2]
    assert log == ["step 0", "click", "click", "step 1", "step 2"]


def test_a_batch_goes_on_however_many_clicks_there_are(monkeypatch):
    monkeypatch.setattr(turns, "PATIENCE", 0.1)
    models, log, ended = Turns(), [], threading.Event()

    def clicks():
        while not ended.is_set():
            with models.click():
                log.append("click")
                time.sleep(0.005)

    crowd = [threading.Thread(target=clicks) for _ in range(3)]
    for thread in crowd:
        thread.start()
    wait_for(lambda: log)
    with models.batch():
        log.append("step")
    ended.set()
    for thread in crowd:
        thread.join()
    assert "step" in log


def test_every_event_of_the_models_takes_turns_and_ends_as_it_would_alone():
    closed = []

    def batch(x):
        try:
            yield x + 1
            yield x + 2
        finally:
            closed.append(x)

    def wrong(x):
        raise ValueError(x)

    with gr.Blocks() as app:
        number, button = gr.Number(), gr.Button()
        button.click(batch, number, number, **BATCH_QUEUE)
        button.click(wrong, number, number, **MODEL_QUEUE)
        button.click(lambda x: x, number, number)
    take_turns(app)
    steps, click, light = (event.fn for event in app.fns.values())
    assert list(steps(1)) == [2, 3] and light(5) == 5
    with pytest.raises(ValueError):
        click(1)
    some = steps(7)
    assert next(some) == 8
    with turns.MODELS.click():  # between two steps the models are free
        some.close()
    assert closed == [1, 7]
    held = []
    with turns.MODELS.click():
        thread = threading.Thread(target=lambda: held.extend(steps(1)))
        thread.start()
        thread.join(0.05)
        assert not held
    thread.join()
    assert held == [2, 3]
