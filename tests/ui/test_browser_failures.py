"""What a person does in the Failures tab, in headless Chromium."""

import io
import json
import re
import threading
import zipfile
from dataclasses import replace

import pytest
from browsing import expect, needs_chromium, serious_faults
from house import build_house
from PIL import Image
from tabs import serve_tab

from foresight.inspection.evaluation import evaluate as evaluate_images
from foresight.metrics.masks import NOT_MEASURABLE
from foresight.settings import Settings
from foresight.ui.failures import galleries
from foresight.ui.failures import tab as failures

READY = "#failures-status:has-text('Nothing evaluated yet')"

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def gate():
    """While it is closed, no more than three pictures are evaluated: so a test can look at what there is by then."""
    event = threading.Event()
    event.set()
    return event


@pytest.fixture(scope="module")
def unmeasured():
    """Numbers of pictures whose mask IoU cannot be measured; all others score 0.5."""
    return set()


@pytest.fixture(scope="module")
def url(tiny, tmp_path_factory, gate, unmeasured):
    inspector = build_house(tiny.folder, tmp_path_factory.mktemp("house"))

    def gated(*given):
        for i, item in enumerate(evaluate_images(*given)):
            yield scored(item, None if i in unmeasured else 0.5) if unmeasured else item
            if i == 2:
                gate.wait(60)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failures, "evaluate", gated)
        with serve_tab(lambda navigation: failures.FailuresTab(inspector, navigation, Settings())) as address:
            yield address


def scored(row, iou):
    scores = row.scores | {"adapter": row.scores["adapter"] | {"mask_iou": iou}}
    return replace(row, scores=scores, mask_reason=None if iou is not None else NOT_MEASURABLE)


def shots(page):
    return page.locator("#failures-gallery [data-number]")


def press(page, mark):
    """Clicks on a mark of a chart, once that has its label: until then the chart may be drawn anew."""
    mark.scroll_into_view_if_needed()
    for attempt in range(300):
        box = mark.bounding_box()
        spot = box["x"] + box["width"] / 2 + attempt % 2, box["y"] + box["height"] / 2
        page.mouse.move(*spot)
        page.wait_for_timeout(100)
        if page.locator("g.hovertext").count():
            break
    page.mouse.click(*spot)


def evaluate(page, count=8):
    field = page.locator("#failures-count input[type=number]")
    field.fill(str(count))
    field.press("Enter")
    page.locator("#failures-go").click()


def evaluated(page, count=8):
    expect(page.locator("#failures-status")).to_contain_text(f"All {count} of {count} pictures in")
    expect(page.locator("#failures-means")).to_contain_text(f"Means of {count} of {count} pictures")
    expect(page.locator("#failures-go")).to_be_enabled()  # the choices, too, are those of this run by now


def test_worst_first_sort_filter_and_open_in_inspect(visit, monkeypatch):
    page, calls, real = visit(), [], galleries.summary
    monkeypatch.setattr(galleries, "summary", lambda *given: calls.append(given) or real(*given))
    page.get_by_role("button", name="Five on texture").click()
    expect(page.get_by_label("Objects, least").first).to_have_value("5")
    evaluate(page)
    evaluated(page)
    values = [float(re.search(r"LPIPS (\S+)", text)[1]) for text in shots(page).locator("b").all_inner_texts()]
    assert len(values) == 8 and values == sorted(values, reverse=True)
    page.get_by_text("best first").click()
    expect(shots(page).locator("b").first).to_have_text(f"LPIPS {values[-1]:.3f}")
    # The pictures are those of the captions at once: an image that loads late would keep the one before it.
    page.wait_for_function(
        "[...document.querySelectorAll('#failures-gallery img')].every(i => i.complete && i.currentSrc === i.src)"
    )
    assert len(calls) == 1  # the order changes no mean
    page.set_viewport_size({"width": 1080, "height": 720})
    assert page.evaluate("document.documentElement.scrollWidth") <= 1080
    middle = sorted(values)[3]
    low = page.locator("#failures-low input, #failures-low textarea")
    low.fill("-")  # no number yet: nobody has asked for anything
    low.fill(f"{middle - 0.0005}")
    low.press("Tab")
    expect(page.locator("#failures-means")).to_contain_text("of 8 pictures")
    expect(shots(page)).to_have_count(sum(value >= middle - 0.0005 for value in values))
    low.fill("much")
    low.press("Enter")
    expect(page.locator("#failures-filter-error")).to_contain_text("numbers such as 0.35, not 'much'")
    expect(shots(page)).to_have_count(sum(value >= middle - 0.0005 for value in values))  # nothing is lost
    low.fill("900")
    low.press("Enter")
    expect(page.locator("#failures-gallery")).to_contain_text("No picture meets these filters")
    expect(page.locator("#failures-csv")).to_be_disabled()
    low.fill("")
    low.press("Enter")
    page.locator("#failures-sort input").click()
    page.get_by_role("option", name="PSNR").click()
    expect(page.get_by_label("PSNR from")).to_be_visible()
    shots(page).first.click()
    expect(page.locator("#door textarea")).to_have_value(re.compile("^post-merge/1 tokens {'size'"))


def test_what_cannot_be_measured_is_no_0_and_its_share_is_told(visit, unmeasured):
    unmeasured.update((1, 4, 6))
    page = visit()
    evaluate(page)
    evaluated(page)
    unmeasured.clear()
    means = page.locator("#failures-means")
    expect(means).to_contain_text("In 3 the mask IoU is not measurable")
    expect(means.locator("tbody tr").first).to_contain_text(re.compile(r"0\.500\s*0\.500 to 0\.500\s*5 of 8 pictures"))
    expect(shots(page).filter(has_text="mask IoU not measurable")).to_have_count(3)
    expect(shots(page).filter(has_text="no object is found")).to_have_count(0)
    page.locator("#failures-sort input").click()
    page.get_by_role("option", name="Mask IoU").click()
    expect(page.locator(".fs-failures-unranked")).to_have_text("Not in this order: 3 without Mask IoU")
    expect(page.locator(".fs-failures-unranked ~ div [data-number]")).to_have_count(3)


def test_filters_are_those_of_the_set_and_can_be_cleared(visit, tmp_path):
    page = visit()
    page.get_by_role("button", name="One on white").click()
    expect(page.get_by_label("Objects, most").first).to_have_value("1")
    evaluate(page)
    evaluated(page)
    expect(page.locator("#failures-background")).to_be_hidden()  # all are white, and have one object
    expect(page.locator("#failures-objects")).to_be_hidden()
    chips = page.locator("#failures-chips button")
    expect(page.locator("#failures-chips")).to_be_hidden()
    page.locator("#failures-color input").click()
    for color in ("red", "blue"):
        page.get_by_role("option", name=color, exact=True).click()
    page.keyboard.press("Tab")  # closes the list
    page.get_by_label("LPIPS from").fill("0.001")
    page.get_by_label("LPIPS from").press("Enter")
    expect(chips).to_have_text(["colour red×", "colour blue×", "LPIPS from 0.001×", "Clear all"])
    assert not serious_faults(page)
    chips.nth(1).press("Enter")
    expect(chips).to_have_text(["colour red×", "LPIPS from 0.001×", "Clear all"])
    expect(chips.nth(1)).to_be_focused()  # the next one: keys go on from there
    expect(page.locator("#failures-color")).not_to_contain_text("blue")
    expect(page.locator("#failures-csv")).to_contain_text("of 8")
    chips.last.press("Enter")
    expect(page.locator("#failures-chips")).to_be_hidden()
    expect(page.locator("#failures-order input:checked")).to_be_focused()
    expect(page.locator("#failures-csv")).to_have_text("Download CSV")
    expect(shots(page)).to_have_count(8)
    low = page.locator("#failures-low input, #failures-low textarea")
    low.fill("900")
    low.press("Enter")
    expect(page.locator("#failures-gallery")).to_contain_text("No picture meets these filters")
    evaluate(page)  # the same pictures again, under the same filters
    expect(page.locator("#failures-status")).to_contain_text("All 8 of 8 pictures in")
    expect(page.locator("#failures-gallery")).to_contain_text("No picture meets these filters")
    page.get_by_role("tab", name="What fails").click()
    Image.new("RGB", (60, 60), "teal").save(tmp_path / "a.png")
    page.locator("#failures-source").get_by_text("Upload").click()
    page.locator("#failures-files input[type=file]").set_input_files(tmp_path / "a.png")
    expect(page.locator("#failures-files")).to_contain_text(re.compile(r"a\s*\.png"))
    page.locator("#failures-go").click()
    evaluated(page, 1)
    expect(shots(page)).to_have_count(1)
    expect(low).to_have_value("")
    for name in ("shape", "color", "size", "objects", "background"):
        expect(page.locator(f"#failures-{name}")).to_be_hidden()
    expect(page.get_by_role("tab", name="Gallery")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("tab", name="Where")).to_be_hidden()
    expect(page.get_by_role("tab", name="What fails")).to_be_visible()  # pictures are grouped by what they are like
    expect(page.locator("#failures-gallery rect")).to_have_count(6)  # where it is read worst, in both pictures
    page.get_by_role("tab", name="Histograms").click()
    expect(page.locator("#failures-histograms .js-plotly-plot")).to_contain_text("LPIPS")
    expect(page.locator("#failures-histograms .js-plotly-plot")).not_to_contain_text("Mask IoU")  # it has none
    page.get_by_role("tab", name="Table").click()
    expect(page.locator("#failures-table")).not_to_contain_text("background")


def test_filters_act_while_pictures_are_still_evaluated(visit, gate, monkeypatch):
    monkeypatch.setattr(failures, "GALLERY_SECONDS", 0.0)
    monkeypatch.setattr(failures, "STATUS_SECONDS", 0.0)
    page = visit()
    gate.clear()
    evaluate(page, 16)
    expect(shots(page)).to_have_count(3)
    low = page.locator("#failures-low input, #failures-low textarea")
    low.fill("900")
    low.press("Enter")
    expect(page.locator("#failures-gallery")).to_contain_text("No picture meets these filters")
    expect(page.locator("#failures-status")).to_contain_text("of 16 pictures")
    gate.set()
    expect(page.locator("#failures-status")).to_contain_text("All 16 of 16 pictures in")
    expect(shots(page)).to_have_count(0)
    page.locator("#failures-clear").click()
    evaluated(page, 16)


def test_table_charts_and_downloads(visit):
    page = visit(1440)
    page.get_by_role("button", name="Five on texture").click()
    expect(page.get_by_label("Objects, least").first).to_have_value("5")
    evaluate(page)
    evaluated(page)
    page.get_by_role("tab", name="Table").click()
    expect(
        page.locator("#failures-table").get_by_role("gridcell").filter(has_text=re.compile("(.*,){4}"))
    ).to_have_count(8)
    assert page.locator("#failures-table .virtual-table-viewport").evaluate("e => e.scrollWidth <= e.clientWidth")
    page.locator("#failures-table").get_by_role("gridcell").filter(has_text="scene").first.click()
    expect(page.locator("#door textarea")).to_have_value(re.compile("^post-merge/1 tokens {'size'"))
    for tab, chart, words in (
        ("What fails", "factors", "colour"),
        ("Where", "where", "IoU"),
        ("Histograms", "histograms", "oracle"),
    ):
        page.get_by_role("tab", name=tab).click()
        expect(page.locator(f"#failures-{chart} .js-plotly-plot")).to_contain_text(words)
    expect(page.locator("#failures-zip")).to_have_text("Download zip with pictures")
    bars = page.locator("#failures-histograms .barlayer").first.locator(".point path")
    press(page, bars.first)  # a bar keeps its own pictures alone
    expect(page.locator("#failures-zip")).to_have_text(re.compile("pictures: [1-7] of 8"))
    expect(page.get_by_label("LPIPS to")).to_have_value(re.compile(r"[01]\.\d+"))
    page.locator("#failures-clear").click()
    expect(page.locator("#failures-zip")).to_have_text("Download zip with pictures")
    page.get_by_role("tab", name="What fails").click()
    press(page, page.locator("#failures-factors .scatterlayer").first.locator(".point").first)  # and a level its own
    expect(page.locator("#failures-shape")).to_contain_text(re.compile("circle|square|triangle|star|diamond|cross"))
    page.locator("#failures-clear").click()
    expect(page.locator("#failures-zip")).to_have_text("Download zip with pictures")
    for kind, start in (("csv", b"image,"), ("json", b"{\n  "), ("zip", b"PK\x03\x04")):
        with page.expect_download() as download:
            page.locator(f"#failures-{kind}").click()
        with open(download.value.path(), "rb") as file:
            assert file.read(len(start)) == start


def test_a_zip_with_broken_files(visit, tmp_path):
    page = visit()
    file = io.BytesIO()
    Image.new("RGB", (60, 60), "teal").save(file, "PNG")
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for name in ("a.png", "<b>c.png"):
            archive.writestr(name, file.getvalue())
        archive.writestr("broken.png", b"no picture")
    (tmp_path / "no.zip").write_bytes(b"no archive")
    page.locator("#failures-source").get_by_text("Upload").click()
    page.locator("#failures-go").click()
    expect(page.locator("#failures-error")).to_contain_text("Choose pictures or a zip archive first")
    expect(page.locator("#failures-status")).to_contain_text("Nothing evaluated yet")
    page.locator("#failures-files input[type=file]").set_input_files(tmp_path / "some.zip")
    expect(page.locator("#failures-files")).to_contain_text("some")
    page.locator("#failures-go").click()
    status = page.locator("#failures-status")
    for words in ("All 3 of 3 files in", "1 file left out", "broken.png: the picture is not a JPEG"):
        expect(status).to_contain_text(words)
    expect(shots(page)).to_have_count(2)
    expect(shots(page).filter(has_text="<b>c.png")).to_have_count(1)
    shots(page).first.click()
    expect(page.locator("#door textarea")).to_have_value(re.compile(r"^post-merge/1 tokens /.*\.png$"))


def test_stop_keeps_what_is_done(visit, gate):
    page = visit()
    gate.clear()
    evaluate(page, 16)
    expect(page.locator("#failures-status")).to_contain_text("of 16 pictures")
    page.locator("#failures-stop").click()
    expect(page.locator("#failures-go")).to_be_disabled()
    gate.set()
    status = page.locator("#failures-status")
    expect(status).to_contain_text(re.compile(r"Stopped: \d+ of 16 pictures"))
    kept = int(re.search(r"Stopped: (\d+)", status.inner_text())[1])
    assert 1 <= kept < 16
    expect(shots(page)).to_have_count(kept)
    expect(page.locator("#failures-stop")).to_be_disabled()
    evaluate(page, 8)
    evaluated(page)
    # The same pictures by another adapter, and where it is worse; then those like one of them.
    expect(page.locator("#failures-beside")).to_be_hidden()
    page.locator("#failures-adapter input").click()
    page.get_by_role("option", name="linear").click()
    page.locator("#failures-go").click()
    expect(status).to_contain_text("read by linear")
    evaluated(page)
    page.locator("#failures-beside input").click()
    page.get_by_role("option", name="tokens at post-merge/1").click()
    expect(page.locator("#failures-gallery")).to_contain_text(re.compile(r"LPIPS: worse than .* in \d of 8 pictures"))
    expect(page.get_by_alt_text("by the other adapter")).to_have_count(8)
    page.locator("#failures-gallery [data-like]").last.click()
    expect(shots(page).locator("b").first).to_contain_text("cosine 1.000")
    page.locator("#failures-clear").click()
    expect(page.locator("#failures-gallery")).not_to_contain_text(re.compile("cosine|worse than"))


def test_a_folder_that_is_none_loses_nothing_and_a_part_is_downloaded_as_a_part(visit):
    page = visit()
    expect(page.locator("#failures-json")).to_be_disabled()
    evaluate(page)
    evaluated(page)
    page.locator("#failures-source").get_by_text("Folder").click()
    page.locator("#failures-folder input, #failures-folder textarea").fill("/nowhere/at/all")
    page.locator("#failures-go").click()
    expect(page.locator("#failures-error")).to_contain_text("There is no folder '/nowhere/at/all'")
    expect(page.locator("#failures-go")).to_be_enabled()
    evaluated(page)

    values = [float(re.search(r"LPIPS (\S+)", text)[1]) for text in shots(page).locator("b").all_inner_texts()]
    page.get_by_label("LPIPS from").fill(f"{values[2] - 0.0005}")
    page.get_by_label("LPIPS from").press("Enter")
    expect(page.locator("#failures-json")).to_contain_text("of 8")
    with page.expect_download() as download:
        page.locator("#failures-json").click()
    with open(download.value.path()) as file:
        record = json.load(file)
    assert record["filtered_by"].startswith("LPIPS from") and record["selected"] == len(record["pictures"]) < 8
    assert download.value.suggested_filename == f"foresight-failures-{record['selected']}-of-8.json"


def test_a_phone_scrolls_down_only(visit):
    page = visit(390, 844, dark=True)
    evaluate(page)
    evaluated(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
