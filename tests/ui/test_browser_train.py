"""What a person does in the Train tab, in headless Chromium: a run from the slider to the adapter, with a reload."""

import os
import re
import shutil
import signal
import zipfile
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import gradio as gr
import numpy as np
import pytest
from browsing import expect, needs_chromium, serious_faults
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from house import build_house
from PIL import Image
from serving import serve
from tabs import serve_tab

from foresight.inspection.inspector import Inspector
from foresight.settings import Settings
from foresight.ui.navigation import Navigation
from foresight.ui.train.tab import TrainTab
from training.service.queue import DONE, Run, write_json
from training.service.service import TrainingService

READY = "#train-cost:has-text('Parameters')"

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def service(tiny, tmp_path_factory):
    house = tmp_path_factory.mktemp("house")
    bundled = build_house(tiny.folder, house)
    service = TrainingService(
        Inspector(bundled.vlm, bundled.vae, [house / "bundled", house / "made/adapters"]), house / "made"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield service
    for run in service.queue.runs():
        if run.alive():
            os.kill(int((run.folder / "pid").read_text()), signal.SIGKILL)


@pytest.fixture(scope="module")
def url(service):
    with serve_tab(lambda navigation: TrainTab(service, navigation, Settings())) as address:
        yield address


def fill(page, name, value):
    page.locator(f"#train-{name} input").fill(str(value))
    page.locator(f"#train-{name} input").press("Tab")


def unfold(page):
    for part in ("adapters", "data", "learning"):
        page.locator(f"#train-{part}-more > button, #train-{part}-more > .label-wrap").first.click()
    expect(page.locator("#train-steps input")).to_be_visible()


def heading(page):
    return page.locator("#train-progress h3")


def test_a_run_from_start_over_a_reload_to_an_adapter(visit, service):
    page = visit(asked="tab=train")
    expect(page.locator("#train-runs")).to_contain_text("No run yet")
    for idle in ("train-stop", "trained-download", "trained-rename", "trained-delete", "trained-add", "trained-push"):
        expect(page.locator(f"#{idle}")).to_be_disabled()
    assert page.locator("#train-start").bounding_box()["y"] < 600
    unfold(page)
    least, most = (page.get_by_label(f"Objects, {end}").bounding_box() for end in ("least", "most"))
    assert least["y"] == most["y"]
    cost = page.locator("#train-cost")
    before = cost.inner_text()
    expect(page.locator("#train-time")).to_contain_text("about")
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

    expect(page).to_have_url(re.compile("run=mine"))
    page.close()
    page = visit(asked="run=mine", ready="#train-samples img")
    expect(heading(page)).to_contain_text("training")
    expect(page.locator("#train-samples img")).to_be_visible()
    expect(page.locator("#train-curves .js-line").first).to_be_attached()
    place = page.locator("#train-samples").bounding_box()["y"]
    facts = page.locator("#train-progress .facts")
    expect(facts).not_to_have_text(facts.inner_text())  # it goes on, and nothing moves
    assert page.locator("#train-samples").bounding_box()["y"] == place
    page.locator("#train-stop").click()
    expect(heading(page)).to_contain_text("stopped")

    expect(page.locator("#train-resume")).to_be_enabled()
    page.locator("#train-remove").click()
    expect(page.locator("#train-really")).to_have_text("Really remove mine and its curves")
    page.locator("#train-keep").click()
    expect(page.locator("#train-really")).to_be_hidden()
    expect(heading(page)).to_contain_text("mine")
    page.locator("#train-remove").click()
    page.locator("#train-really").click()
    expect(page.locator("#train-runs")).to_contain_text("No run yet")
    expect(page.locator("#train-remove")).to_be_disabled()


def test_a_short_run_is_renamed_and_deleted(visit, service):
    page = visit(390, 844, dark=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    unfold(page)
    page.get_by_label("linear probe").check()
    expect(page.locator("#train-steps input")).to_have_value("2000")
    fill(page, "scenes", 16)
    fill(page, "steps", 3)
    page.get_by_label("latents", exact=True).check()
    page.locator("#train-start").click()
    expect(page.locator("#train-progress")).to_contain_text("choose post-merge/1 and linear-probe in Compare")
    expect(page.locator("#train-progress")).to_contain_text("no better than a blank page")  # with random weights
    table = page.locator("#train-runs")
    expect(table.locator("tr.chosen")).to_contain_text("linear-probe")
    assert "linear-probe" in [record.name for record in service.inspector.adapters("post-merge/1")]
    expect(page.locator("#train-open")).to_be_enabled()
    page.locator("#train-open").click()
    expect(page.locator("#door textarea, #door input")).to_have_value(
        re.compile("post-merge/1 linear-probe.*'objects'")
    )
    with page.expect_download() as download:
        page.locator("#trained-download").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert "linear-probe/config.json" in archive.namelist()
    page.locator("#trained-name input, #trained-name textarea").fill("fine-one")
    page.locator("#trained-rename").click()
    expect(table).to_contain_text("fine-one")
    expect(page.locator("#train-progress")).to_contain_text("and fine-one in Compare")  # the run knows its new name
    expect(page.locator("#train-open")).to_be_enabled()
    page.locator("#trained-delete").click()
    page.locator("#trained-really").click()
    expect(table).not_to_contain_text("fine-one")
    assert service.adapters() == []


def test_runs_are_compared_noted_and_copied(visit, service):
    """The run of the test before and its twin: their curves in one chart, a CSV of both, a note, settings copied."""
    twin = Run(service.queue.folder / "a-twin")
    shutil.copytree(service.queue.folder / "linear-probe", twin.folder)
    twin.write_state(DONE, done=3, total=3, seconds=1.0)
    write_json(twin.folder / "job.json", twin.job | {"ticket": 0, "settings": twin.job["settings"] | {"lr": 0.5}})
    page = visit(ready="#train-curves path.point")
    names, table = page.locator("#train-runs tbody th"), page.locator("#train-runs")
    table.get_by_role("button", name="Name", exact=True).click()
    expect(names).to_have_text(["a-twin", "linear-probe"])
    table.get_by_role("button", name="Name", exact=True).click()
    expect(names).to_have_text(["linear-probe", "a-twin"])
    table.get_by_label("Draw the curves of a-twin too").check()
    expect(page.locator("#train-curves li")).to_have_text([re.compile("linear-probe"), re.compile("a-twin")])
    assert serious_faults(page) == []
    with page.expect_download() as download:
        page.get_by_role("button", name="Curves as CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert lines[0] == "run,adapter,value,step,mean,low,high,n"
    assert {line.split(",")[0] for line in lines[1:]} == {"linear-probe", "a-twin"}
    assert {line.split(",")[2] for line in lines[1:]} >= {"loss", "lpips"}
    names.get_by_text("a-twin").click()
    expect(heading(page)).to_contain_text("a-twin")
    expect(names).to_have_text(["linear-probe", "a-twin"])  # the order stays
    unfold(page)
    page.locator("#train-copy").click()
    expect(page.locator("#train-lr input")).to_have_value("0.5")
    page.locator("#train-note input, #train-note textarea").fill("rate 0.5, to see it fail")
    page.locator("#train-note input, #train-note textarea").press("Enter")
    expect(table.locator("tr.chosen")).to_contain_text("to see it fail")
    service.remove("a-twin")


def test_bad_input_is_told_and_nothing_is_lost(visit, tmp_path):
    page = visit()
    unfold(page)
    page.locator("#train-hidden input[type=number]").fill("9999")
    expect(page.locator("#train-cost")).to_contain_text("The hidden width must be a whole number from 0 to 4,096")
    page.locator("#train-hidden input[type=number]").press("Tab")  # leaves it at the slider's end, which is told
    expect(page.locator("#train-cost")).to_contain_text("Parameters")
    page.locator("#train-name input, #train-name textarea").fill("../../evil")
    page.locator("#train-start").click()
    expect(page.locator("#train-error")).to_contain_text("The name '../../evil' must be 1 to 60 of a-z")
    page.locator("#train-name input, #train-name textarea").fill("")
    fill(page, "steps", 0)
    expect(page.locator("#train-cost")).to_contain_text("Steps must be a whole number from 1")
    page.locator("#train-start").click()
    expect(page.locator("#train-error")).to_contain_text("Steps must be a whole number from 1")
    expect(page.locator("#train-steps input")).to_have_value("0")
    fill(page, "steps", 3)
    page.get_by_label("My pictures").check()
    page.locator("#train-start").click()
    expect(page.locator("#train-error")).to_contain_text("Choose a zip of pictures first")
    bad = tmp_path / "<b>.zip"
    bad.write_bytes(b"no zip")
    page.locator("#train-archive input[type=file]").set_input_files(bad)
    expect(page.locator("#train-archive")).to_contain_text(".zip")
    page.locator("#train-start").click()
    expect(page.locator("#train-error")).to_contain_text(re.compile("no zip archive"))


def test_the_endpoint_tells_the_broken_files(url, service, tmp_path):
    draw = np.random.default_rng(0)  # noise, since nearly alike images would count as one
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
        for k in range(10):
            Image.fromarray(draw.integers(256, size=(64, 64, 3), dtype=np.uint8)).save(tmp_path / "x.png")
            file.write(tmp_path / "x.png", f"{k}.png")
        file.writestr("bad.png", b"no picture")
    client = Client(url, verbose=False)
    settings = {"data": "pictures", "steps": 2, "points": ["pre-merge/0"]}
    sent = handle_file(tmp_path / "photos.zip")
    request = {"recipe": "quick look", "settings": settings, "archive": sent, "wait": False}
    started = client.predict(**request, api_name="/train")
    assert started["name"] == "quick-look" and started["state"] in ("waiting", "starting")
    service.stop("quick-look")
    assert [name for name, _ in started["broken"]] == ["bad.png"]
    assert started["pictures"] == {"learn": 7, "held_out": 2, "asked": 32}
    with pytest.raises(AppError, match="Unknown recipe 'magic': choose from quick look"):
        client.predict("magic", {}, "", None, False, api_name="/train")
    with pytest.raises(AppError, match="must be a JSON object"):
        client.predict(**request | {"settings": [2]}, api_name="/train")
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/train"]


def test_an_address_opens_its_run(browser, service):
    for name in ("an-earlier-run", "the-latest-run"):
        service.start(name, {"points": ["pre-merge/0"], "scenes": 16, "steps": 2, "loss": "latents"})
    with serve(service.inspector, service) as address:
        page = browser.new_page()
        page.goto(f"{address}/?run=an-earlier-run")
        expect(heading(page)).to_contain_text("an-earlier-run")
        expect(page.get_by_role("tab", name="Train")).to_have_attribute("aria-selected", "true")
        page.close()


def test_over_a_network_no_folder_can_be_named_and_nothing_is_pushed(service):
    with gr.Blocks() as app:
        TrainTab(service, Navigation(gr.State(), gr.State()), Settings(host="0.0.0.0")).build()
    built = {block.elem_id for block in app.blocks.values()}
    assert "trained-delete" in built and not built & {"trained-source", "trained-add", "trained-push"}


def test_whoever_calls_a_local_app_by_another_name_is_turned_away(url):
    port = url.rpartition(":")[2]
    for host in (f"localhost:{port}", f"[::1]:{port}"):
        assert urlopen(Request(f"{url}/config", headers={"Host": host})).status == 200
    for host in ("evil.example", f"127.0.0.1.evil.example:{port}", "[", "10.0.0.1"):
        with pytest.raises(HTTPError) as refused:
            urlopen(Request(f"{url}/config", headers={"Host": host}))
        assert refused.value.code == 403 and "Start it with --host" in refused.value.read().decode()
