"""What a person does in the Inspect tab, in headless Chromium."""

import json
import re
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from browsing import PATIENCE, expect, needs_chromium, serious_faults
from house import build_house
from photos import ORIENTATIONS, save_photo
from PIL import Image
from serving import serve

from foresight.inspection.inspector import Inspector
from foresight.ui.failures import tab as failures

READY = "#tiles img"
QUARTERS = """async image => {
  await image.decode();
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight), paper = canvas.getContext('2d');
  paper.drawImage(image, 0, 0);
  return [1, 3].flatMap(y => [1, 3].map(x => [...paper.getImageData(
    x * canvas.width >> 2, y * canvas.height >> 2, 1, 1).data].slice(0, 3)));
}"""
SMALL = """() => [...document.querySelectorAll('.gradio-container main *')].filter(element =>
  element.checkVisibility() && parseFloat(getComputedStyle(element).fontSize) < 12
  && [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim())
).map(element => element.outerHTML.slice(0, 200))"""

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def url(tiny, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failures, "RUNS", tmp_path_factory.mktemp("runs"))  # of the notes
        with serve(build_house(tiny.folder, tmp_path_factory.mktemp("house"))) as address:
            yield address


def headline(page):
    return page.locator("#headline h3")


def original(page):
    return page.locator("#tiles img").first.evaluate("image => image.src")


def changed(page, before):
    """Waits until the results are of another picture."""
    page.wait_for_function("a => document.querySelector('#tiles img').src !== a", arg=before)


def test_the_first_page_has_an_example_reconstructed_and_another_moves_nothing(visit):
    page = visit()
    expect(headline(page)).to_have_text("post-merge/1 read by tokens")
    expect(page.locator("#metrics .fs-card")).to_have_count(5)
    expect(page.locator("#metrics")).to_contain_text("Edge F1")  # it is a photo
    expect(page.locator("#tiles figure")).to_have_count(8)
    expect(page.locator("#pictures img")).to_have_count(2)
    expect(page.locator("#metrics .fs-words")).to_contain_text("Colours")
    expect(page.locator("#answer textarea")).not_to_have_value("", timeout=PATIENCE)
    page.get_by_role("button", name="HaarPSI").press("Enter")
    expect(page.get_by_text("a second opinion, which no adapter is trained on")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("a second opinion, which no adapter is trained on")).to_be_hidden()

    on_page = "document.querySelector('#tiles').getBoundingClientRect().top + window.scrollY"  # a click may scroll
    before, place = original(page), page.evaluate(on_page)
    page.get_by_role("button", name="five on texture").click()
    changed(page, before)
    expect(page.locator("#headline .time")).to_contain_text("latents")
    assert page.evaluate(on_page) == place  # another picture, and nothing moves


def test_a_picture_read_wrong_offers_an_adapter_that_reads_it(visit, monkeypatch):
    monkeypatch.setattr(Inspector, "suggest", lambda self, report: self.adapters()[0])
    page = visit(asked="example=cat")
    offer = page.locator("#headline button")
    expect(offer).to_have_text("linear at pre-merge/2")
    offer.click()
    expect(headline(page)).to_have_text("pre-merge/2 read by linear")
    expect(page.locator("#layer input[type=number]")).to_have_value("2")


def test_pictures_of_failures_one_after_the_other_with_notes(visit):
    page = visit(asked="tab=failures&scenes=8", ready="#failures-csv:enabled")
    expect(page.locator("#failures-means")).to_contain_text("Means of 8 of 8 pictures")  # its order is the last one
    expect(page.locator("#series")).to_be_hidden()
    page.locator("#failures-gallery [data-number]").nth(1).click()
    title, tags = page.locator("#series-title"), page.locator("#series-tags").get_by_role("textbox")
    expect(title).to_contain_text("2 of 8: scene")
    first = original(page)
    tags.fill("odd, blurred")
    page.locator("#series-next").click()
    expect(title).to_contain_text("3 of 8")
    expect(tags).to_have_value("")
    changed(page, first)
    page.locator("#series-previous").click()
    expect(title).to_contain_text("2 of 8")
    expect(tags).to_have_value("odd, blurred")
    page.locator("#series-back").click()
    expect(page.locator("#failures-gallery .note")).to_have_text("oddblurred")
    page.locator("#failures-tags input").click()
    page.get_by_role("option", name="odd").click()
    expect(page.locator("#failures-gallery [data-number]")).to_have_count(1)
    page.get_by_role("tab", name="Inspect").click()
    page.get_by_role("button", name="five on texture").click()
    expect(page.locator("#series")).to_be_hidden()


def test_a_layer_without_adapters_says_so_and_stays_and_no_layer_becomes_the_nearest(visit):
    page = visit()
    layer, note = page.locator("#layer input[type=number]"), page.locator("#adapter-note")
    layer.fill("2")
    layer.press("Enter")
    expect(note).to_contain_text("No adapter reads post-merge/2")
    expect(layer).to_have_value("2")
    expect(headline(page)).to_have_text("post-merge/1 read by tokens")
    expect(page.locator("#stale")).to_contain_text("The last result, of the point named above")
    expect(page.locator("#tiles")).to_have_css("opacity", "0.4")
    expect(page.locator("#reconstruct")).to_be_disabled()
    note.get_by_role("button", name="post-merge/1").click()
    expect(note).to_contain_text("parameters")
    expect(layer).to_have_value("1")
    expect(page.locator("#tiles")).to_have_css("opacity", "1")
    expect(page.locator("#reconstruct")).to_be_enabled()

    layer.press("Control+a")
    layer.press_sequentially("12")
    expect(page.get_by_test_id("toast-body")).to_contain_text("layers are 0 to 3: this is post-merge/3")
    expect(layer).to_have_value("12")  # it may be typed into still
    layer.press("Tab")
    expect(layer).to_have_value("3")


def test_a_layer_keeps_what_is_typed_and_pressed_fast(visit):
    page = visit()
    layer, slider = (page.locator(f"#layer input[type={kind}]") for kind in ("number", "range"))
    drawing = page.locator("#diagram [aria-pressed=true]")
    layer.press("Control+a")
    layer.press_sequentially("3")
    layer.press("Backspace")
    layer.press_sequentially("2")
    expect(drawing).to_have_attribute("data-point", "post-merge/2")
    expect(layer).to_have_value("2")
    slider.press("Home")
    for _ in range(3):
        slider.press("ArrowRight")
    expect(drawing).to_have_attribute("data-point", "post-merge/3")
    slider.press("ArrowLeft")
    slider.press("ArrowLeft")
    expect(headline(page)).to_have_text("post-merge/1 read by tokens")
    expect(page.locator("#stale .fs-stale")).to_have_count(0)
    expect(slider).to_have_value("1")
    for name in ("linear", "pooled", "tokens", "pooled"):
        page.locator("#adapter").get_by_text(name).click()
    expect(headline(page)).to_have_text("post-merge/1 read by pooled")
    expect(page.get_by_role("radio", name="pooled")).to_be_checked()
    for stage in ("Vision tower", "Language model", "Vision tower"):
        page.locator("#stage").get_by_text(stage).click()
    expect(drawing).to_have_attribute("data-point", "pre-merge/1")
    expect(page.get_by_role("radio", name="Vision tower")).to_be_checked()
    expect(page.get_by_test_id("toast-body")).to_have_count(0)


def test_a_preferred_adapter_comes_back_and_choices_follow_the_stage(visit):
    page = visit()
    page.locator("#adapter").get_by_text("pooled").click()
    expect(headline(page)).to_have_text("post-merge/1 read by pooled")
    page.locator("#diagram [data-point='pre-merge/2']").click()
    expect(headline(page)).to_have_text("pre-merge/2 read by linear")
    expect(page.locator("#adapter-note")).to_contain_text("No pooled adapter here: linear in its place")
    page.locator("#diagram [data-point='post-merge/1']").click()
    expect(headline(page)).to_have_text("post-merge/1 read by pooled")

    page.locator("#stage").get_by_text("Vision tower").click()
    expect(page.locator("#adapter-note")).to_contain_text("No adapter reads pre-merge/1")
    page.locator("#diagram [data-point='pre-merge/2']").click()
    expect(headline(page)).to_have_text("pre-merge/2 read by linear")
    expect(page.locator("#adapter label")).to_have_count(1)
    expect(page.locator("#layer input[type=range]")).to_have_attribute("max", "3")
    expect(page.locator("#tiles figure", has_text="pooled")).to_contain_text("none at this layer")


def test_the_drawing_takes_keys(visit):
    page = visit()
    page.locator("#diagram [data-point='post-merge/1']").focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#diagram [data-point='pre-merge/2']")).to_be_focused()
    page.keyboard.press("Enter")
    expect(headline(page)).to_have_text("pre-merge/2 read by linear")
    expect(page.locator("#diagram [data-point='pre-merge/2']")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press(" ")
    page.locator("#adapter-note").get_by_role("button", name="pre-merge/2").press("Enter")
    expect(headline(page)).to_have_text("pre-merge/2 read by linear")
    expect(page.locator("#diagram [data-point='pre-merge/2']")).to_be_focused()


def test_a_link_opens_the_same_view_and_fills_its_form(visit):
    page = visit(asked="&seed=11&objects=2&shape=star&overlap=False&point=pre-merge/2")
    expect(headline(page)).to_have_text("pre-merge/2 read by linear")
    expect(page.locator("#objects li")).to_have_count(2)
    page.get_by_role("tab", name="Generate").click()
    expect(page.get_by_label("Seed")).to_have_value("11")
    expect(page.get_by_label("Shape")).to_have_value("star")
    expect(page.get_by_label("Objects may overlap")).not_to_be_checked()
    page.get_by_role("tab", name="Examples").click()
    page.get_by_role("button", name="five on texture").click()
    expect(page.locator("#objects li")).to_have_count(5)
    assert "example=five-on-texture&point=pre-merge%2F2&adapter=linear" in page.url
    again = visit(asked=page.url.split("?")[1].replace("__theme=light", ""))
    expect(headline(again)).to_have_text("pre-merge/2 read by linear")
    expect(again.locator("#objects li")).to_have_count(5)


def test_baselines_are_there_for_those_who_open_them_and_follow_the_point(visit):
    page = visit()
    page.get_by_role("button", name="Baselines:").click()
    expect(page.locator("#baselines tbody th")).to_have_text(
        ["blank page", "mean", "nearest scene", "tokens", "oracle"]
    )
    expect(page.locator("#baselines img")).to_have_count(2)
    expect(page.locator("#baselines")).to_contain_text("of 256 by its latents at post-merge/1")
    page.locator("#diagram [data-point='pre-merge/2']").click()
    expect(page.locator("#baselines")).to_contain_text("of 256 by its latents at pre-merge/2")
    page.get_by_role("button", name="Baselines:").click()
    expect(page.locator("#baselines")).to_be_hidden()


def test_a_link_opens_a_comparison_and_failures_as_they_were(visit):
    page = visit(asked="tab=compare&seed=11&objects=2&adapters=linear,pooled", ready="#compare-head")
    expect(page.locator("#compare-head")).to_contain_text("All 3 of 3 tiles")
    expect(page.get_by_role("tab", name="Compare")).to_have_attribute("aria-selected", "true")
    expect(page).to_have_url(re.compile("tab=compare&seed=11&objects=2&adapters=linear(,|%2C)pooled"))
    page.get_by_role("button", name="Show left post-merge/1 · linear").click()
    page.get_by_role("button", name="Show right post-merge/1 · pooled").click()
    expect(page.locator("#compare-pair b")).to_have_text(["post-merge/1 · linear", "post-merge/1 · pooled"])
    expect(page).to_have_url(re.compile(r"&left=post-merge%2F1%2Clinear&right=post-merge%2F1%2Cpooled"))
    again = visit(asked=page.url.split("?")[1], ready="#compare-head")
    expect(again.locator("#compare-pair b")).to_have_text(["post-merge/1 · linear", "post-merge/1 · pooled"])
    expect(again.locator("#compare-left input")).to_have_value("post-merge/1 · linear")
    again.close()
    page.close()
    query = "tab=failures&adapter=linear&scenes=8&shapes=star,bar&only-shape=star&sort=ssim"
    page = visit(asked=query, ready="#failures-status")
    expect(page.locator("#failures-status h3")).to_have_text("post-merge/1 read by linear")
    expect(page.locator("#failures-means")).to_contain_text("of 8 pictures")
    shots = page.locator("#failures-gallery [data-number]")
    expect(shots.first).to_contain_text("SSIM")
    expect(shots).to_have_count(shots.filter(has_text="star").count())
    expect(page.locator("#failures-csv")).to_have_text(f"Download CSV: {shots.count()} of 8")
    expect(page).to_have_url(
        re.compile(r"/\?tab=failures&point=post-merge%2F1&adapter=linear&scenes=8&shapes=star%2Cbar&")
    )
    page.close()
    page = visit(asked="tab=nowhere")
    expect(page.get_by_test_id("toast-body")).to_contain_text("no view of a tab 'nowhere'")


def selected(page, name):
    expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")


def test_back_and_forward_walk_through_views_and_tabs_and_find_an_evaluation_as_it_was(visit):
    page = visit()
    first = original(page)
    page.get_by_role("button", name="five on texture").click()
    changed(page, first)
    page.get_by_role("tab", name="Failures").click()
    field = page.locator("#failures-count input[type=number]")
    for count, done in (("8", "of 8 pictures"), ("16", "of 16 pictures")):
        field.fill(count)
        field.press("Enter")
        page.locator("#failures-go").click()
        expect(page.locator("#failures-means")).to_contain_text(done)
        expect(page).to_have_url(re.compile(f"scenes={count}"))
    page.get_by_role("tab", name="About").click()
    expect(page).to_have_url(re.compile("tab=about"))
    page.go_back()
    selected(page, "Failures")
    expect(page.locator("#failures-status")).to_contain_text("All 16 of 16 pictures in")
    status = page.locator("#failures-status").inner_text()
    page.go_back()  # the evaluation before, not made anew
    expect(page.locator("#failures-means")).to_contain_text("of 8 pictures")
    page.go_forward()
    expect(page.locator("#failures-means")).to_contain_text("of 16 pictures")
    expect(page.locator("#failures-status")).to_have_text(re.compile(re.escape(status.splitlines()[-1])))
    page.go_back()
    expect(page.locator("#failures-means")).to_contain_text("of 8 pictures")
    page.go_back()
    selected(page, "Inspect")
    expect(page.locator("#objects li")).to_have_count(5)
    page.go_back()
    expect(page.locator("#objects li")).to_have_count(0)  # a photo
    page.go_forward()
    expect(page.locator("#objects li")).to_have_count(5)
    page.go_forward()
    selected(page, "Failures")
    expect(page).to_have_url(re.compile("scenes=8"))


@pytest.fixture
def gate(monkeypatch):
    """What Inspect's results wait for."""
    gate, inspect = Event(), Inspector.inspect

    def late(*given, **named):
        assert gate.wait(PATIENCE / 1000)
        return inspect(*given, **named)

    monkeypatch.setattr(Inspector, "inspect", late)
    yield gate
    gate.set()


def test_a_result_that_comes_after_back_leaves_the_entry_of_another_tab_alone(visit, gate):
    page = visit(asked="tab=failures&scenes=8", ready="#failures-gallery [data-number]")
    before = page.locator("#headline [data-link]").get_attribute("data-link")
    page.locator("#failures-gallery [data-number]").first.click()
    selected(page, "Inspect")
    expect(page).to_have_url(re.compile("example=cup-of-coffee"))  # what it showed last
    # The server's answer to Back comes after the result.
    page.evaluate(
        "() => { const {travel} = viewHistory; viewHistory.travel = to => { window.go = () => travel(to); } }"
    )
    page.go_back()
    gate.set()
    expect(page.locator("#headline [data-link]")).not_to_have_attribute("data-link", before)
    page.evaluate("window.go()")
    selected(page, "Failures")
    expect(page).to_have_url(re.compile("tab=failures.*scenes=8"))
    page.get_by_role("tab", name="Inspect").click()
    expect(page).to_have_url(re.compile("[?&]scene="))  # of Failures, which had come meanwhile


def test_a_result_that_comes_after_back_leaves_the_entry_of_another_picture_alone(visit, gate):
    page = visit()
    gate.set()
    page.get_by_role("button", name="five on texture").click()
    expect(page).to_have_url(re.compile("example=five-on-texture"))
    page.get_by_role("button", name="one on white").click()
    expect(page).to_have_url(re.compile("example=one-on-white"))
    gate.clear()
    before = original(page)
    page.get_by_role("button", name="cat").click()
    expect(page.locator("#stale")).to_contain_text("of another picture")
    page.go_back()
    gate.set()
    changed(page, before)  # to the cat, or to what Back leads to
    expect(page.locator("#objects li")).to_have_count(5)
    expect(page.locator("#stale .fs-stale")).to_have_count(0)
    expect(page).to_have_url(re.compile("example=five-on-texture"))
    page.go_forward()
    expect(page).to_have_url(re.compile("example=one-on-white"))
    expect(page.locator("#objects li")).to_have_count(1)


def test_compare_takes_the_picture_of_inspect_while_it_has_none_of_its_own(visit):
    page = visit()
    origin, compare = page.locator("#compare-origin"), page.get_by_role("tab", name="Compare")
    for example in ("cat", "one on white"):
        page.locator("#examples").get_by_role("button", name=example).click()
        expect(page).to_have_url(re.compile("example=" + example.replace(" ", "-")))
        compare.click()
        expect(origin).to_contain_text("This is the picture of Inspect")
        page.get_by_role("tab", name="Inspect").click()
    compare.click()
    page.locator("#compare-go").click()
    expect(page).to_have_url(re.compile("tab=compare&example=one-on-white"))
    page.get_by_role("tab", name="Inspect").click()
    page.locator("#examples").get_by_role("button", name="cat").click()
    expect(page).to_have_url(re.compile("example=cat"))
    compare.click()
    page.locator("#compare-examples").get_by_role("button", name="five on texture").click()
    expect(page).to_have_url(re.compile("tab=compare&example=five-on-texture"))
    expect(origin).to_be_empty()


def test_a_link_to_compare_has_its_picture_and_not_that_of_inspect(visit):
    page = visit(asked="tab=compare&example=three-overlapping&adapters=linear", ready="#compare-head")
    expect(page.locator("#compare-head")).to_contain_text("All 2 of 2 tiles")
    expect(page.locator("#compare-origin")).to_be_empty()
    expect(page.locator("#compare-stale .fs-stale")).to_have_count(0)
    expect(page).to_have_url(re.compile("tab=compare&example=three-overlapping"))


def test_of_clicks_in_quick_succession_the_last_counts(visit):
    page = visit()
    for name in ("cat", "one on white", "five on texture"):
        page.locator("#examples").get_by_role("button", name=name).click()
    expect(page.locator("#objects li")).to_have_count(5)
    expect(page).to_have_url(re.compile("example=five-on-texture"))
    for point in ("post-merge/3", "post-merge/0", "pre-merge/2"):
        page.locator(f"#diagram [data-point='{point}']").click()
    expect(headline(page)).to_have_text("pre-merge/2 read by linear")
    expect(page.locator("#layer input[type=number]")).to_have_value("2")
    expect(page.locator("#diagram [aria-pressed=true]")).to_have_attribute("data-point", "pre-merge/2")


def test_a_link_to_nothing_says_so(visit):
    page = visit(asked="&example=nothing")
    expect(page.get_by_test_id("toast-body")).to_contain_text("There is no example 'nothing'")
    expect(headline(page)).to_have_text("post-merge/1 read by tokens")


def test_what_is_inspected_is_compared_at_all_layers(visit, tmp_path):
    page = visit()
    page.locator("#adapter").get_by_text("pooled").click()
    expect(headline(page)).to_have_text("post-merge/1 read by pooled")
    before = original(page)
    Image.new("RGB", (90, 60), "teal").save(tmp_path / "mine.png")
    page.locator("#source input[type=file]").set_input_files(tmp_path / "mine.png")
    changed(page, before)
    expect(page.locator("#headline")).to_contain_text("for the 24 hours that the upload is kept")
    page.get_by_role("button", name="Compare all layers").click()
    expect(page.get_by_role("tab", name="Compare")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#compare-head")).to_contain_text("All 1 of 1 tiles")
    expect(page.get_by_role("checkbox", name="pooled")).to_be_checked()
    expect(page.get_by_role("checkbox", name="tokens")).not_to_be_checked()
    expect(page).to_have_url(re.compile(r"/\?tab=compare&upload=[0-9a-f]+%2Fmine.png&adapters=pooled"))
    shared = page.url.split("?")[1]
    page.locator("#compare-grid [data-do='inspect']").first.click()
    expect(page.get_by_role("tab", name="Inspect")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#headline")).to_contain_text("that the upload is kept")
    expect(page).to_have_url(re.compile(r"/\?upload=[0-9a-f]+%2Fmine.png&point"))
    again = visit(asked=page.url.split("?")[1])
    expect(headline(again)).to_have_text("post-merge/1 read by pooled")
    expect(again.locator("#source img")).to_have_js_property("naturalWidth", 90)
    before = original(page)
    page.get_by_role("button", name="one on white").click()
    changed(page, before)
    page.get_by_role("button", name="Beside Compare's picture").click()
    expect(page.locator("#compare-head")).to_contain_text("All 2 of 2 tiles")
    expect(page).to_have_url(re.compile(r"&upload=[0-9a-f]+%2Fmine.png&second-example=one-on-white&adapters=pooled"))
    again = visit(asked=page.url.split("?")[1], ready="#compare-head")
    expect(again.locator("#compare-pair b")).to_have_text(["post-merge/1 · pooled", "post-merge/1 · pooled · second"])
    expect(again.locator("#compare-second img")).to_have_js_property("naturalWidth", 224)
    again = visit(asked=shared, ready="#compare-head")
    expect(again.locator("#compare-head")).to_contain_text("All 1 of 1 tiles")
    expect(again.locator("#compare-source img")).to_have_js_property("naturalWidth", 90)
    gone = visit(asked=re.sub("[0-9a-f]{64}", "0" * 64, shared), ready="#compare-refused")
    expect(gone.locator("#compare-refused")).to_contain_text("was an upload, and is no longer kept here")
    expect(gone.locator("#compare-grid")).to_contain_text("No comparison yet")


def test_a_photo_stands_upright_on_the_page(visit, tmp_path):
    page = visit()
    for orientation in (*ORIENTATIONS, ORIENTATIONS[0]):  # one a second time, too
        path, before = tmp_path / f"{orientation}.jpg", original(page)
        upright = save_photo(path, orientation)
        page.locator("#source input[type=file]").set_input_files(path)
        changed(page, before)
        corners = [upright.getpixel((x * upright.width // 4, y * upright.height // 4)) for y in (1, 3) for x in (1, 3)]
        quarters = page.locator("#tiles img").first.evaluate(QUARTERS)
        assert abs(np.array(quarters) - np.array(corners)).max() < 12, orientation


def test_pictures_are_wiped_and_enlarged_by_keyboard(visit):
    page = visit()
    pictures, before = page.locator("#pictures"), original(page)
    left, right = pictures.locator(".two > div").first, pictures.locator(".two > div").last
    assert left.bounding_box()["x"] + left.bounding_box()["width"] < right.bounding_box()["x"]
    pictures.get_by_role("button", name="◫ wipe").press("Enter")
    line = page.get_by_role("slider", name="Between original and reconstruction")
    line.press("Home")
    line.press("ArrowRight")
    expect(right).to_have_css("clip-path", "inset(0px 0px 0px 1%)")
    page.get_by_role("button", name="cat", exact=True).click()
    changed(page, before)
    expect(right).to_have_css("clip-path", "inset(0px 0px 0px 1%)")
    expect(line).to_have_value("1")
    large = page.locator(".fs-large")
    for button in (
        pictures.get_by_role("button", name="Both pictures in the whole window"),
        page.locator("#tiles").get_by_role("button", name="difference"),
    ):
        button.press("Enter")
        assert large.bounding_box() == {"x": 0, "y": 0, "width": 1280, "height": 900}
        assert large.evaluate("e => getComputedStyle(e).backgroundColor") != "rgba(0, 0, 0, 0)"
        expect(button).to_have_attribute("aria-expanded", "true")
        page.keyboard.press("Escape")
        expect(large).to_have_count(0)


@pytest.mark.parametrize("dark", [False, True])
def test_no_tab_has_a_serious_fault_of_access(visit, dark):
    page = visit(dark=dark)
    expect(page.locator("#answer textarea")).not_to_have_value("")  # the last to come; what waits is pale
    for tab in page.locator("[role=tab][id^='tab-']").all():
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")
        if tab.inner_text() == "Video":
            expect(page.locator("#video-head")).to_contain_text("Worst")  # a first clip is read and scored
        expect(page.locator(".pending:visible")).to_have_count(0)
        assert (tab.inner_text(), serious_faults(page)) == (tab.inner_text(), [])
        assert not page.evaluate(SMALL)


def test_generate_then_ask(visit):
    page = visit()
    page.get_by_role("tab", name="Generate").click()
    before = original(page)
    page.locator("#dice").click()
    changed(page, before)
    before = original(page)
    page.get_by_label("Objects may overlap").uncheck()
    page.get_by_label("Seed").fill("11")
    page.locator("#generate").click()
    changed(page, before)
    page.locator("#question textarea").fill("How many objects are there?")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("#answer textarea")).not_to_have_value("")
    page.get_by_role("button", name="What color is each part of the image?").click()
    expect(page.locator("#question textarea")).to_have_value("What color is each part of the image?")


def test_uploads_that_are_good_broken_and_too_narrow(visit, tmp_path):
    page = visit()
    good, bad = tmp_path / "good.tiff", tmp_path / "<b>bad.png"
    Image.new("RGB", (300, 200), "teal").save(good)
    bad.write_bytes(b"no picture")
    before = original(page)
    page.locator("#source input[type=file]").set_input_files(good)
    changed(page, before)
    expect(page.locator("#metrics")).to_contain_text("Edge F1")
    expect(page.locator("#source img")).to_have_js_property("naturalWidth", 300)  # TIFF, shown all the same
    before = original(page)
    page.locator("#source input[type=file]").set_input_files(bad)
    expect(page.locator("#refused")).to_contain_text("is not a JPEG, PNG")
    expect(page.locator("#source img")).to_have_js_property("naturalWidth", 300)  # the last good one is back
    assert original(page) == before
    page.locator("#source").get_by_role("button", name="Remove Image").click()
    expect(page.locator("#stale")).to_contain_text("the picture was removed")
    expect(page.locator("#reconstruct")).to_be_disabled()
    expect(page.locator("#refused")).to_be_hidden()
    page.locator("#source input[type=file]").set_input_files(bad)
    expect(page.locator("#refused")).to_contain_text("is not a JPEG, PNG")
    expect(page.locator("#source").get_by_role("button", name="Remove Image")).to_have_count(0)
    expect(page.locator("#stale")).to_contain_text("the picture was removed")
    page.locator("#source input[type=file]").set_input_files(good)
    expect(page.locator("#stale .fs-stale")).to_have_count(0)
    expect(page.locator("#refused")).to_be_hidden()

    Image.new("RGB", (1800, 8), "teal").save(tmp_path / "line.png")  # opens, but is too narrow for the model
    page.locator("#source input[type=file]").set_input_files(tmp_path / "line.png")
    expect(page.get_by_test_id("toast-body")).to_contain_text("too narrow")
    expect(page.locator("#stale")).to_contain_text("of another picture: this picture is not reconstructed yet")
    expect(page.locator("#tiles")).to_have_css("opacity", "0.4")
    page.get_by_role("button", name="five on texture").click()
    expect(page.locator("#tiles")).to_have_css("opacity", "1")


def test_downloads(visit):
    page, contents = visit(asked="example=one-on-white"), {}
    expect(page.locator("#metrics")).to_contain_text("the target is")
    for name in ("png", "json"):
        with page.expect_download() as download:
            page.locator(f"#download-{name}").click()
        assert download.value.suggested_filename == f"foresight-example-one-on-white-post-merge-1-tokens.{name}"
        contents[name] = Path(download.value.path()).read_bytes()
    assert contents["png"].startswith(b"\x89PNG")
    record = json.loads(contents["json"])
    assert record["scene"]["recipe"] == {"example": "one-on-white"} and record["vae"]["channels"] == 4
    assert record["adapter_card"]["point"] == record["point"] and record["objects"][0]["oracle_iou"] is not None


def choose(page, dropdown, text):
    page.locator(f"{dropdown} input").fill(text)
    page.locator(f"{dropdown} input").press("Enter")


def test_a_size_is_chosen_linked_and_taken_to_compare(visit):
    page = visit(asked="example=one-on-white&point=post-merge/1&adapter=tokens")
    expect(page.locator("#headline")).to_contain_text("224 × 224 px")
    choose(page, "#pixels", "112²")
    expect(page.locator("#headline")).to_contain_text("112 × 112 px")
    expect(page.locator("#headline")).to_contain_text("This adapter was fitted at 224², here 112 × 112 pixels.")
    assert "pixels=112" in page.url
    page.locator("#to-compare").click()
    expect(page.locator("#compare-head")).to_contain_text("fitted at 224², here 112 × 112 pixels")
    expect(page.locator("#compare-pixels input")).to_have_value("112²")


def test_a_link_holds_the_size_and_a_wrong_one_is_one_sentence(visit):
    page = visit(asked="example=wide&point=post-merge/1&adapter=tokens&pixels=native")
    expect(page.locator("#headline")).to_contain_text("308 × 168 px")
    expect(page.locator("#pixels input")).to_have_value(re.compile("^native"))
    choose(page, "#pixels", "55²")
    expect(page.get_by_text("at least 56² = 3,136 are needed")).to_be_visible(timeout=PATIENCE)


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_scrolls_down_only(visit, dark):
    page = visit(390, 844, dark)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ink = page.evaluate("getComputedStyle(document.querySelector('h1')).color.match(/\\d+/g).map(Number)")
    assert (sum(ink[:3]) > 384) is dark
    pictures, diagram = (page.locator(f"#{name}").bounding_box() for name in ("pictures", "diagram"))
    assert 0 < pictures["y"] < diagram["y"] < 844 - diagram["height"]  # a tap on a layer shows what it does
    assert page.locator("#diagram .finger").first.bounding_box()["height"] >= 44
