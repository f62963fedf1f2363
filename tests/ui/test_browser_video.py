"""What a person does in the Video tab, in headless Chromium."""

import re

import pytest
import torch
from browsing import expect, needs_chromium
from house import build_house
from serving import serve

from foresight.adapters.checkpoint import describe_adapter, save_adapter
from foresight.adapters.modules import LinearProbe
from foresight.data.clips import load_clip, write_clip

READY = "#video-adapter input"

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def url(tiny, tmp_path_factory):
    house = tmp_path_factory.mktemp("house")
    inspector = build_house(tiny.folder, house)
    torch.manual_seed(1)
    card = describe_adapter(house / "bundled/post-merge-1-linear")["card"]
    save_adapter(LinearProbe(48, 4, 1, 4, card=card, frames=2).eval(), house / "runs/pairs")
    with serve(inspector) as address:
        yield address


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A red square that moves to the right, 20 frames at 8 a second."""
    frames = torch.ones(20, 3, 56, 84)
    for t in range(20):
        frames[t, :, 16:36, 4 + 3 * t : 24 + 3 * t] = torch.tensor([0.8, 0.1, 0.1]).view(3, 1, 1)
    return write_clip(tmp_path_factory.mktemp("videos") / "red.mp4", frames, 8.0)


def scored(page, frames=8):
    expect(page.locator("#video-head")).to_contain_text(f"{frames} frames at 8 a second")
    expect(page.locator("#video-head")).to_contain_text("Worst frame by LPIPS")


def frame(page):
    return page.locator("#video-player .fs-video-time")


def pixels(page, role):
    """A digest of what a canvas of the player shows."""
    return page.evaluate(f"document.querySelector('#video-player [data-role={role}]').toDataURL()")


def test_a_moving_scene_plays_steps_seeks_and_opens_again(visit, tmp_path):
    page = visit(asked="tab=video")
    scored(page, 16)  # a first clip is there without a click
    assert "seed=7" in page.url
    expect(page.locator("#video-head")).to_contain_text("The direction is right for ")
    expect(page.locator("#video-adapter label").first).to_contain_text("pairs: an image for each frame")
    page.locator("#video-frames-drawn input[type=number]").fill("8")
    page.locator("#video-generate").click()
    scored(page)
    expect(page.locator("#video-player canvas[data-role]")).to_have_count(3)
    expect(page.locator("#video-scores")).to_contain_text("a still copy of a slow clip scores well")

    expect(frame(page)).to_have_text("frame 1 / 8 · 0.00 s")
    first = pixels(page, "original")
    slider = page.get_by_role("slider", name="Frame", exact=True)
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    expect(frame(page)).to_have_text("frame 3 / 8 · 0.25 s")
    assert pixels(page, "original") != first
    slider.press("Home")
    assert pixels(page, "original") == first

    box = page.locator(".fs-video-curve svg").nth(1).bounding_box()
    page.mouse.click(box["x"] + box["width"] * 5.5 / 8, box["y"] + 20)
    expect(frame(page)).to_contain_text("frame 6 / 8")
    page.keyboard.press("ArrowLeft")
    expect(frame(page)).to_contain_text("frame 5 / 8")
    page.locator(".fs-video-curve button").first.click()
    worst = re.search(r"frame (\d+),", page.locator(".fs-video-curve button").first.inner_text())[1]
    expect(frame(page)).to_contain_text(f"frame {worst} / 8")

    half, play = page.get_by_role("button", name="½ speed"), page.get_by_role("button", name="Play")
    half.click()
    expect(half).to_have_attribute("aria-pressed", "true")
    slider.press("Home")
    slider.press(" ")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(frame(page)).to_contain_text("frame 3 / 8")
    slider.press(" ")
    expect(play).to_be_visible()

    expect(page.locator("#video-player svg circle.true").first).to_be_attached()
    page.get_by_label("Tracks").uncheck()
    expect(page.locator("#video-player svg circle")).to_have_count(0)
    wipe = page.locator(".fs-video-wipe .frame")
    box = wipe.bounding_box()
    wipe.scroll_into_view_if_needed()
    box = wipe.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.2, box["y"] + 40)
    expect(page.locator("[data-wipe=right]")).to_have_css("clip-path", "inset(0px 0px 0px 20%)")

    with page.expect_download() as mp4:
        page.locator("#video-mp4").click()
    mp4.value.save_as(tmp_path / "clip.mp4")
    assert load_clip(tmp_path / "clip.mp4", fps=None).frames.shape == (8, 3, 224, 672)
    with page.expect_download() as table:
        page.locator("#video-csv").click()
    table.value.save_as(tmp_path / "scores.csv")
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 9

    link = page.locator("#video-head a").get_attribute("href")
    assert "tab=video" in page.url and "frames=8" in page.url
    again = visit(asked=link.lstrip("?"))
    scored(again)
    assert pixels(again, "original") == first
    expect(again.locator("#video-frames-drawn input[type=number]")).to_have_value("8")


def test_the_first_clip_gives_way_to_a_link_and_comes_when_the_tab_is_opened(visit):
    page = visit(asked="tab=video&frames=8&seed=3")
    scored(page)
    page.get_by_role("tab", name="Inspect").click()
    page.get_by_role("tab", name="Video").click()
    expect(page.locator("#video-head h3")).to_contain_text("moving-scene-3")
    other = visit(ready="#tab-inspect")
    other.get_by_role("tab", name="Video").click()
    scored(other, 16)


def test_an_upload_is_cut_with_a_notice_and_bad_ones_lose_nothing(visit, clip, tmp_path):
    page = visit(asked="tab=video")
    page.get_by_role("tab", name="Upload").click()
    page.locator("#video-file input[type=file]").set_input_files(clip)
    scored(page, 16)
    expect(page.locator("#video-head")).to_contain_text("lasts 2.5 s: the clip is 2.0 s of it from 0.0 s on")
    expect(page.locator("#video-scores")).to_contain_text("Centroid error cannot be measured")
    before = pixels(page, "original")
    for name, content, sentence in (
        ("text.mp4", b"hello", "is no mp4, mov, webm, mkv or gif video"),
        ("empty.webm", b"", "is empty (zero bytes)"),
        ("cut.mp4", clip.read_bytes()[:400], "“cut.mp4” is of an unknown kind"),
    ):
        (tmp_path / name).write_bytes(content)
        page.locator("#video-file").get_by_label("Clear").click()
        page.locator("#video-file input[type=file]").set_input_files(tmp_path / name)
        expect(page.locator("#video-file-error")).to_contain_text(sentence)
        expect(page.locator("#video-file")).to_contain_text("red")  # the last good one is back
    assert pixels(page, "original") == before
    page.locator("#video-frames input").fill("99")
    page.locator("#video-again").click()
    expect(page.locator("#video-file-error")).to_contain_text("Frames must be a whole number from 1 to 32, not 99")
    page.locator("#video-frames input").fill("4")
    page.locator("#video-again").click()
    scored(page, 4)
    expect(page.locator("#video-file-error")).to_be_hidden()
    page.locator("#video-stage").get_by_text("Vision tower").click()
    expect(page.locator("#video-head h3")).to_contain_text("pre-merge/2")
    scored(page, 4)
    expect(page.locator("#video-head")).to_contain_text("both frames of a step one image")
    again = visit(asked=page.locator("#video-head a").get_attribute("href").lstrip("?"))
    scored(again, 4)
    expect(again.locator("#video-frames input")).to_have_value("4")


def test_a_phone_scrolls_down_only(visit):
    page = visit(390, 844, dark=True, asked="tab=video&frames=8&seed=3")
    scored(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator(".fs-video-panes")).to_be_in_viewport()  # though it lies below its form
