"""What a person does in the Compare tab, in headless Chromium."""

import re
import threading
from pathlib import Path

import pytest
from browsing import expect, needs_chromium, serious_faults
from house import build_house, save_tiny_adapter
from PIL import Image
from tabs import serve_tab

from foresight.inspection.inspector import Inspector
from foresight.settings import Settings
from foresight.ui.compare.tab import CompareTab

READY = "#compare-grid:has-text('No comparison yet')"

pytestmark = needs_chromium


class GatedInspector(Inspector):
    """Makes no more than one adapter's tile while its gate is closed: so a test can look at what there is by then."""

    gate = threading.Event()

    def sweep_layers(self, *args):
        for i, tile in enumerate(super().sweep_layers(*args)):
            yield tile
            if i == 2:  # after oracle, blank page and the first adapter
                self.gate.wait(60)


@pytest.fixture(scope="module")
def gate():
    GatedInspector.gate.set()
    return GatedInspector.gate


@pytest.fixture(scope="module")
def url(tiny, gate, tmp_path_factory):
    house = tmp_path_factory.mktemp("house")
    ungated = build_house(tiny.folder, house)
    save_tiny_adapter(house / "bundled/post-merge-3-tokens", "tokens", "post-merge/3", house, seed=1)
    save_tiny_adapter(house / "bundled/pre-merge-0-tokens", "tokens", "pre-merge/0", house, seed=2)
    inspector = GatedInspector(ungated.vlm, ungated.vae, ungated.registry.roots)
    with serve_tab(lambda navigation: CompareTab(inspector, navigation, Settings())) as address:
        yield address


def tiles(page):
    return page.locator("#compare-grid td img")


def compared(page, count=3):
    page.locator("#compare-go").click()
    expect(page.locator("#compare-head")).to_contain_text(f"{count} of {count} tiles in")


def test_tiles_come_one_by_one_and_nothing_moves(visit, gate):
    page = visit()
    for empty in ("chart", "left"):  # before there is anything to show
        expect(page.locator(f"#compare-{empty}")).to_be_hidden()
    gate.clear()
    page.locator("#compare-go").click()
    expect(tiles(page)).to_have_count(1)
    expect(page.locator("#compare-grid .waiting")).to_have_count(2)
    height = "document.querySelector('#compare-grid').getBoundingClientRect().height"
    before = page.evaluate(height)
    gate.set()
    expect(tiles(page)).to_have_count(3)
    expect(page.locator("#compare-grid th[scope=row]")).to_have_count(2)
    expect(page.locator("#compare-grid th[scope=col]")).to_have_text(
        ["stage, adapter", "layer 0", "layer 1", "layer 3"]
    )
    expect(page.locator("#compare-chart .js-plotly-plot")).to_be_visible()
    expect(page.locator("#compare-chart")).to_contain_text("ceiling: oracle")
    assert abs(page.evaluate(height) - before) < 8


def test_one_slider_moves_both_sides_and_two_adapters_make_more_rows(visit):
    page = visit()
    compared(page)
    over, slider = page.locator("#compare-pair .over"), page.locator("#compare-pair input[type=range]")
    expect(over).to_have_count(2)
    slider.focus()
    for _ in range(10):
        slider.press("ArrowRight")
    for i in (0, 1):
        expect(over.nth(i)).to_have_css("clip-path", "inset(0px 0px 0px 60%)")
    box = page.locator("#compare-pair .fs-wipe").nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 60, steps=4)
    page.mouse.up()
    for i in (0, 1):
        expect(over.nth(i)).to_have_css("clip-path", "inset(0px 0px 0px 20%)")
    expect(slider).to_have_value("20")
    page.get_by_role("button", name="Show left post-merge/1 · tokens").click()
    expect(page.locator("#compare-pair b").first).to_have_text("post-merge/1 · tokens")
    expect(over.first).to_have_css("clip-path", "inset(0px 0px 0px 20%)")  # another tile, the same place

    page.locator("#compare-adapters").get_by_text("linear").click()
    compared(page, 5)
    expect(page.locator("#compare-grid th[scope=row]")).to_have_count(4)
    page.get_by_role("button", name="Inspect pre-merge/2 · linear").click()
    expect(page.locator("#door textarea")).to_have_value(re.compile("^pre-merge/2 linear {'size'"))


def test_two_pictures_are_read_side_by_side_at_the_same_point(visit):
    page = visit()
    compared(page)
    page.get_by_role("button", name="A second picture beside it").click()
    page.locator("#compare-second-examples").get_by_role("button", name="cat").click()
    expect(page.locator("#compare-head")).to_contain_text("All 6 of 6 tiles in")
    expect(page.locator("#compare-grid th i")).to_have_text(["first picture", "second picture"] * 2)
    expect(page.locator(".fs-compare-verdict")).to_contain_text("LPIPS of at most 0.35, by tokens: the first picture")
    page.get_by_role("button", name="Show both pictures at post-merge/1 · tokens").first.click()
    sides = page.locator("#compare-pair b")
    expect(sides).to_have_text(["post-merge/1 · tokens", "post-merge/1 · tokens · second"])
    expect(page.locator("#compare-right input")).to_have_value("post-merge/1 · tokens · second")
    originals = page.locator("#compare-pair img[alt=original]")
    assert originals.first.get_attribute("src") != originals.last.get_attribute("src")
    expect(
        page.locator("#compare-head [data-link*='&second-example=cat&adapters=tokens&left=post-merge/1']")
    ).to_have_count(1)
    assert not serious_faults(page)
    page.locator("#compare-second").get_by_role("button", name="Remove Image").click()
    expect(page.locator("#compare-stale")).to_contain_text("the picture was removed")
    compared(page)
    expect(sides.last).to_have_text("post-merge/3 · tokens")


def test_layers_are_chosen_and_pictures_and_scores_taken_away(visit):
    page = visit()
    page.locator("#compare-points input").fill("post-merge/1")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")  # closes the list
    page.locator("#compare-adapters").get_by_text("linear").click()
    compared(page, 2)
    expect(page.locator("#compare-head [data-link*='&points=post-merge/1']")).to_have_count(1)
    for name, start in (("csv", b"point,adapter,LPIPS"), ("png", b"\x89PNG")):
        with page.expect_download() as download:
            page.locator(f"#compare-{name}").click()
        content = Path(download.value.path()).read_bytes()
        assert content.lower().startswith(start.lower())
        if name == "csv":
            rows = [line.split(",")[:2] for line in content.decode().splitlines()[1:]]
            assert rows == [["", "oracle"], ["", "blank"], ["post-merge/1", "tokens"], ["post-merge/1", "linear"]]


def test_stop_keeps_what_is_done_and_the_last_comparison_is_dimmed_beside_a_new_picture(visit, gate):
    page = visit()
    gate.clear()
    page.locator("#compare-go").click()
    expect(tiles(page)).to_have_count(1)
    page.locator("#compare-stop").click()
    expect(page.locator("#compare-stop")).to_have_text("Stopping…")  # until the tile under way is done
    gate.set()
    expect(page.locator("#compare-head")).to_contain_text("Stopped: 2 of 3 tiles")
    expect(tiles(page)).to_have_count(2)
    expect(page.locator("#compare-pair .over")).to_have_count(2)
    expect(page.locator("#compare-stop")).to_be_disabled()
    compared(page)  # and another run is not in its way

    gate.clear()
    page.get_by_role("button", name="one on white").click()
    expect(page.locator("#compare-pair")).to_have_css("opacity", "0.4")  # of the last picture, until the run ends
    expect(page.locator("#compare-grid .waiting")).to_have_count(2)
    expect(page.locator("#compare-grid")).to_have_css("opacity", "1")
    gate.set()
    expect(page.locator("#compare-head")).to_contain_text("3 of 3 tiles in")
    expect(page.locator("#compare-pair")).to_have_css("opacity", "1")
    page.locator("#compare-source").get_by_role("button", name="Remove Image").click()
    expect(page.locator("#compare-stale")).to_contain_text("the picture was removed")
    expect(page.locator("#compare-grid")).to_have_css("opacity", "0.4")


def test_uploads_good_and_broken_and_no_adapter(visit, tmp_path):
    page = visit()
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("RGB", (300, 200), "teal").save(good)
    bad.write_bytes(b"no picture")
    page.locator("#compare-source input[type=file]").set_input_files(good)
    expect(page.locator("#compare-head")).to_contain_text("3 of 3 tiles in")
    expect(page.locator("#compare-head")).to_contain_text("No mask IoU: no object stands out")
    page.locator("#compare-source input[type=file]").set_input_files(bad)
    expect(page.locator("#compare-refused")).to_contain_text("is not a JPEG, PNG")
    expect(page.locator("#compare-source img")).to_have_js_property("naturalWidth", 300)  # the last good one is back
    expect(tiles(page)).to_have_count(3)
    page.locator("#compare-adapters").get_by_text("tokens").click()
    page.locator("#compare-go").click()
    expect(page.locator("#compare-stuck")).to_contain_text("Choose at least one adapter")
    expect(tiles(page)).to_have_count(3)
    page.locator("#compare-adapters").get_by_text("tokens").click()
    page.locator("#compare-dice").click()
    for place in ("#compare-refused", "#compare-stuck"):
        expect(page.locator(place)).to_be_hidden()
    compared(page)


def test_a_phone_scrolls_down_only(visit):
    page = visit(390, 844, dark=True)
    page.get_by_role("button", name="one on white").click()
    expect(page.locator("#compare-pair .over")).to_have_count(2)
    assert page.locator(".fs-compared").evaluate("e => e.scrollWidth <= innerWidth")


def test_on_a_phone_tiles_follow_the_button(visit):
    page = visit(390, 844)
    compared(page)
    go, head, points = (page.locator(f"#compare-{name}").bounding_box() for name in ("go", "head", "points"))
    assert go["y"] < head["y"] < points["y"]
    assert page.locator(".fs-compared").evaluate("e => e.scrollWidth <= innerWidth")
