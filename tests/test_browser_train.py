"""What a person does in the Train tab, in headless Chromium: a run from the slider to the adapter, with a reload."""

import os
import re
import signal
import zipfile

import gradio as gr
import pytest
from browsing import expect, needs_chromium
from gradio_client import Client, handle_file
from house import build_house
from PIL import Image

from foresight.inspector import Inspector
from foresight.settings import Settings
from foresight.ui import train
from foresight.ui.doors import Doors
from foresight.ui.shell import launch
from training.desk import Desk

READY = "#train-cost:has-text('Parameters')"

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def desk(tiny, tmp_path_factory):
    house = tmp_path_factory.mktemp("house")
    bundled = build_house(tiny.folder, house)
    made = Desk(Inspector(bundled.vlm, bundled.vae, [house / "bundled", house / "made/adapters"]), house / "made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield made
    for run in made.line.runs():
        if run.alive():
            os.kill(int((run.folder / "pid").read_text()), signal.SIGKILL)


@pytest.fixture(scope="module")
def url(desk):
    calls = train.TrainCalls.of(desk)
    with gr.Blocks() as app:
        train.build(calls, Doors(gr.State(), gr.State()))
        train.endpoint(calls)
    _, address, _ = launch(app.queue(), Settings(), prevent_thread_lock=True, quiet=True)
    yield address.rstrip("/")
    app.close()


def fill(page, name, value):
    page.locator(f"#train-{name} input").fill(str(value))
    page.locator(f"#train-{name} input").press("Tab")


def heading(page):
    return page.locator("#train-progress h3")


def test_a_run_from_start_over_a_reload_to_an_adapter(visit, desk):
    page = visit()
    expect(page.locator("#train-runs")).to_contain_text("No run yet")
    expect(page.locator("#train-stop")).to_be_disabled()
    cost = page.locator("#train-cost")
    before = cost.inner_text()
    page.locator("#train-hidden input[type=range]").focus()
    page.keyboard.press("ArrowRight")  # the slider by keyboard: 64 → 72
    expect(cost).not_to_have_text(before)
    fill(page, "scenes", 16)
    fill(page, "steps", 20_000)
    fill(page, "name", "mine")
    page.locator("#train-start").click()
    expect(heading(page)).to_contain_text("mine")
    expect(heading(page)).to_contain_text("training")
    expect(page.locator("#train-progress")).to_contain_text("samples/s")
    expect(page.locator("#train-progress")).to_contain_text("left")
    expect(page.locator("#train-samples img")).to_be_visible()

    page.reload()
    expect(heading(page)).to_contain_text("training")
    expect(page.locator("#train-samples img")).to_be_visible()
    expect(page.locator("#train-curves polyline").first).to_be_attached()
    place = page.locator("#train-samples").bounding_box()["y"]
    facts = page.locator("#train-progress .facts")
    expect(facts).not_to_have_text(facts.inner_text())  # it goes on, and nothing moves
    assert page.locator("#train-samples").bounding_box()["y"] == place
    page.locator("#train-stop").click()
    expect(heading(page)).to_contain_text("stopped")

    expect(page.locator("#train-resume")).to_be_enabled()
    page.locator("#train-remove").click()
    expect(page.locator("#train-runs")).to_contain_text("No run yet")


def test_a_short_run_is_renamed_and_deleted(visit, desk):
    page = visit(390, 844, dark=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_label("linear probe").check()
    expect(page.locator("#train-steps input")).to_have_value("1000")
    fill(page, "scenes", 16)
    fill(page, "steps", 3)
    page.get_by_label("latents", exact=True).check()
    page.locator("#train-start").click()
    expect(page.locator("#train-progress")).to_contain_text("Made: linear-probe")
    expect(page.locator("#trained")).to_contain_text("linear-probe")
    assert "linear-probe" in [entry.name for entry in desk.inspector.adapters("post-merge/1")]
    expect(page.locator("#train-open")).to_be_enabled()
    with page.expect_download() as download:
        page.locator("#trained-download").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert "linear-probe/config.json" in archive.namelist()
    page.locator("#trained-name input, #trained-name textarea").fill("fine-one")
    page.locator("#trained-rename").click()
    expect(page.locator("#trained")).to_contain_text("fine-one")
    page.locator("#trained-delete").click()
    page.locator("#trained-really").click()
    expect(page.locator("#trained")).to_contain_text("None yet")
    assert desk.adapters() == []


def test_bad_input_is_told_and_nothing_is_lost(visit, tmp_path):
    page = visit()
    fill(page, "steps", 0)
    expect(page.locator("#train-cost")).to_contain_text("Steps must be from 1")
    page.locator("#train-start").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("Steps must be from 1")
    expect(page.locator("#train-steps input")).to_have_value("0")
    fill(page, "steps", 3)
    page.get_by_label("My pictures").check()
    page.locator("#train-start").click()
    expect(page.get_by_test_id("toast-body").last).to_contain_text("Choose a zip of pictures first")
    bad = tmp_path / "<b>.zip"
    bad.write_bytes(b"no zip")
    page.locator("#train-archive input[type=file]").set_input_files(bad)
    expect(page.locator("#train-archive")).to_contain_text(".zip")
    page.locator("#train-start").click()
    expect(page.get_by_test_id("toast-body").last).to_contain_text(re.compile("no zip archive"))


def test_the_endpoint_tells_the_broken_files(url, desk, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
        for k in range(10):
            Image.new("RGB", (64, 64), (k, 2 * k, 255 - k)).save(tmp_path / "x.png")
            file.write(tmp_path / "x.png", f"{k}.png")
        file.writestr("bad.png", b"no picture")
    client = Client(url, verbose=False)
    settings = {"data": "pictures", "steps": 2, "points": ["pre-merge/0"]}
    sent = handle_file(tmp_path / "photos.zip")
    found = client.predict("linear probe", settings, "by-api", sent, False, api_name="/train")
    assert found["name"] == "by-api" and found["state"] in ("waiting", "starting")
    assert [name for name, _ in found["broken"]] == ["bad.png"]
    with pytest.raises(Exception, match="not in the list of choices"):
        client.predict("magic", {}, "", None, False, api_name="/train")
    desk.stop("by-api")
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/train"]
