"""What a person does in the Findings tab, in headless Chromium: a study, its charts, the way to Inspect."""

import re
from contextlib import suppress
from threading import Event

import pytest
from browsing import PATIENCE, TooLate, expect, needs_chromium
from house import build_house
from serving import serve
from test_findings import POINT, study, write

from foresight.ui.findings import parts
from foresight.ui.findings.tab import FindingsTab

READY = "#tiles img"
OPENED = "#findings-why"  # for a page that opens here: it leaves Inspect, maybe before its first picture
LISTED: list[object] = []  # an entry each time that studies are listed
# Keeps what a screen reader is told, which the page takes back after a second.
HEAR = """() => {
  window.heard = [];
  const listen = () => document.querySelectorAll("[aria-live=polite][aria-atomic=true]")
    .forEach((element) => heard.push(element.textContent));
  new MutationObserver(listen).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def url(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where the app looks for runs
        list_studies = FindingsTab.list_studies
        patch.setattr(FindingsTab, "list_studies", lambda *given: LISTED.append(given) or list_studies(*given))
        write(folder / "runs/mine", study())
        other = study() | {
            "experiments": {"e9": study()["experiments"]["e1_2"] | {"title": "E9 Another", "charts": []}}
        }
        write(folder / "runs/other", other)
        write(folder / "runs/two", study() | {"experiments": study()["experiments"] | other["experiments"]})
        points = {"name": "silhouette", "x": ["pre-merge/2", "post-merge/0"], "y": [0.1, 0.2]}  # of no adapter
        chart = {"title": "A map", "kind": "line", "x": "point", "y": "silhouette", "series": [points]}
        alike = {"e1_1_map": study()["experiments"]["e1_2"] | {"charts": [chart]}}
        write(folder / "runs/map", study() | {"experiments": alike})
        (folder / "runs/broken").mkdir()
        (folder / "runs/broken/results.yaml").write_text("a: [")
        with serve(build_house(tiny.folder, folder)) as address:
            yield address


@pytest.fixture
def page(visit):
    opened = visit()
    opened.get_by_role("tab", name="Findings").click()
    return opened


def choose(page, label, name):
    field = page.get_by_label(label)
    for _ in range(20):
        field.blur()
        field.click()
        with suppress(TooLate):  # the list of studies may come anew just then, which closes it
            return page.get_by_role("option", name=name).click(timeout=PATIENCE // 20)
    raise AssertionError(f"{name!r} cannot be chosen of {page.get_by_role('option').all_inner_texts()}")


def hit(page, mark):
    """A click in the middle of a mark, which plotly takes on a layer above it."""
    box = mark.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_a_study_its_charts_and_the_way_to_inspect(page):
    choose(page, "Study", "runs/mine")
    expect(page.locator("#findings-summary")).to_contain_text("✗ not here")
    expect(page.locator("#findings-summary")).to_contain_text("LPIPS 0.331")
    expect(page.locator(".fs-findings-plot .main-svg").first).to_be_visible()
    expect(page.locator("#findings-tables")).to_contain_text("0.100 to 0.400")
    bars = page.locator(".fs-findings-plot").nth(1).locator(".point path")
    expect(bars).to_have_count(2)
    bars.nth(1).scroll_into_view_if_needed()
    hit(page, bars.nth(1))  # the blank page's, which is at no point
    mark = page.locator(".fs-findings-plot").first.locator(".points .point").first
    mark.scroll_into_view_if_needed()
    hit(page, mark)
    expect(page.locator("#headline h3")).to_have_text("pre-merge/2 read by linear")
    expect(page.get_by_role("tab", name="Inspect")).to_have_attribute("aria-selected", "true")


def test_other_studies_a_broken_one_and_a_point_without_a_kind(page):
    choose(page, "Study", "runs/other")
    expect(page.locator("#findings-text")).to_contain_text("E9 Another")
    expect(page.locator(".fs-findings-plot")).to_have_count(0)
    choose(page, "Study", "runs/broken")
    expect(page.locator("#findings-error")).to_contain_text("cannot be read as YAML")
    expect(page.locator("#findings-text")).to_contain_text("E9 Another")
    choose(page, "Study", "runs/map")
    offered = page.get_by_label("Open a point of this chart in Inspect")
    expect(offered.locator("option")).to_have_text(["Open in Inspect …", "pre-merge/2 linear"])
    offered.select_option("pre-merge/2 linear")
    expect(page.locator("#headline h3")).to_have_text("pre-merge/2 read by linear")


def test_an_experiment_is_chosen_in_the_overview_linked_and_taken_away(visit):
    page = visit(asked="tab=findings&study=runs/two&experiment=e9", ready=OPENED)
    expect(page.locator("#findings-text h3")).to_have_text("E9 Another")
    page.get_by_role("button", name="E1.2").click()
    expect(page.locator("#findings-text h3")).to_contain_text("E1.2")
    expect(page).to_have_url(re.compile(r"\?tab=findings&study=runs%2Ftwo&experiment=e1_2"))
    with page.expect_download() as download:
        page.locator("#findings-file").click()
    assert download.value.suggested_filename == "results.yaml"
    for query, sentence in (("study=runs/none", "There is no study"), ("experiment=e7", "The study has no experiment")):
        page = visit(asked="tab=findings&" + query, ready=OPENED)
        expect(page.locator("#findings-error")).to_contain_text(sentence)
    choose(page, "Study", "runs/other")
    expect(page.locator("#findings-text h3")).to_have_text("E9 Another")


@pytest.mark.parametrize("asked", ["", "tab=findings", "tab=findings&study=runs/two&experiment=e1_2"])
def test_studies_are_listed_once_when_the_tab_is_opened(visit, asked):
    LISTED.clear()
    page = visit(asked=asked, ready=OPENED if asked else READY)
    if asked:
        expect(page.locator("#findings-text h3")).to_be_visible()
    else:
        assert not LISTED
    page.get_by_role("tab", name="Findings").click()
    expect(page.locator("#findings-text h3")).to_be_visible()
    choose(page, "Study", "runs/two")
    page.get_by_role("button", name="E9").click()
    expect(page.locator("#findings-text h3")).to_have_text("E9 Another")
    assert len(LISTED) == 1


def test_what_was_asked_last_is_shown_though_an_answer_before_is_late(visit, monkeypatch):
    page = visit(asked="tab=findings&study=runs/two&experiment=e9", ready=OPENED)
    expect(page.locator("#findings-text h3")).to_have_text("E9 Another")
    page.get_by_role("button", name="E1.2").click()
    expect(page.locator("#findings-text h3")).to_contain_text("E1.2")
    begun, gate, first, overview = Event(), Event(), iter([True]), parts.overview

    def late(*given):
        begun.set()
        assert not next(first, False) or gate.wait(PATIENCE / 1000)
        return overview(*given)

    monkeypatch.setattr(parts, "overview", late)
    page.go_back()
    assert begun.wait(PATIENCE / 1000)
    choose(page, "Study", "runs/mine")
    page.wait_for_timeout(5000)  # for an answer that does not wait for the one before
    gate.set()
    expect(page).to_have_url(re.compile(r"\?tab=findings&study=runs%2Fmine&experiment=e1_2"))
    expect(page.locator("#findings-text h3")).to_contain_text("E1.2")
    page.locator("#findings-compare").click()
    expect(page.locator("#findings-pairs img")).to_have_count(9)
    expect(page.get_by_label("Study")).to_have_value("runs/mine")
    expect(page.locator("#findings-text h3")).to_contain_text("E1.2")


def test_pooled_and_tokens_side_by_side(page):
    page.evaluate(HEAR)
    page.locator("#findings-compare").click()
    expect(page.locator("#findings-pairs img")).to_have_count(9)
    expect(page.locator("#findings-pairs")).to_contain_text(f"Latents at {POINT}")
    page.wait_for_function("heard.includes('Done')")
    assert not [told for told in page.evaluate("heard") if "common." in told]
