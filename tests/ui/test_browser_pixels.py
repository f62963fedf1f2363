"""How large the model sees an image, chosen in headless Chromium."""

import re

import pytest
from browsing import PATIENCE, expect, needs_chromium
from house import build_house
from serving import serve

READY = "#tiles img"

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def url(tiny, tmp_path_factory):
    with serve(build_house(tiny.folder, tmp_path_factory.mktemp("house"))) as address:
        yield address


def choose(page, dropdown, text):
    page.locator(f"{dropdown} input").fill(text)
    page.locator(f"{dropdown} input").press("Enter")


def test_a_size_is_chosen_linked_and_taken_to_compare(visit):
    page = visit(asked="example=one-on-white&point=post-merge/1&adapter=tokens")
    headline = page.locator("#headline")
    expect(headline).to_contain_text("224 × 224 px")
    choose(page, "#pixels", "112²")
    expect(headline).to_contain_text("112 × 112 px", timeout=PATIENCE)
    expect(headline).to_contain_text("This adapter was fitted at 224², here 112 × 112 pixels.")
    assert "pixels=112" in page.url
    page.locator("#to-compare").click()
    expect(page.locator("#compare-head")).to_contain_text("fitted at 224², here 112 × 112 pixels", timeout=PATIENCE)
    expect(page.locator("#compare-pixels input")).to_have_value("112²")


def test_a_link_holds_the_size_and_a_wrong_one_is_one_sentence(visit):
    page = visit(asked="example=wide&point=post-merge/1&adapter=tokens&pixels=native")
    expect(page.locator("#headline")).to_contain_text("308 × 168 px", timeout=PATIENCE)
    expect(page.locator("#pixels input")).to_have_value(re.compile("^native"))
    choose(page, "#pixels", "55²")
    expect(page.get_by_text("at least 56² = 3,136 are needed")).to_be_visible(timeout=PATIENCE)
