"""What a person does in the Latent map tab, in headless Chromium: hover, click, lasso, layers, and from Inspect."""

import csv
import io
import itertools
import json
import re
import zipfile
from dataclasses import replace
from threading import Event

import gradio as gr
import pytest
from browsing import PATIENCE, expect, needs_chromium
from gradio_client import Client
from house import build_house
from PIL import Image

from foresight.data.resolution import DEFAULT
from foresight.maps import worker
from foresight.settings import Settings
from foresight.ui import examples, view_link
from foresight.ui.latent_map.tab import LatentMapTab
from foresight.ui.navigation import Navigation, open_view
from foresight.ui.shell import launch

READY = "#map-draw"
TRACES = "() => document.querySelector('#map .fs-map-plot').data.filter(t => t.type === 'scattergl')"
LOOKS = "document.querySelector('#map .fs-map-plot').data.map(t => [t.marker.color, t.marker.symbol])"
POINTS = """() => { const plot = document.querySelector('#map .fs-map-plot'), full = plot._fullLayout,
  box = plot.getBoundingClientRect();
  return plot.data.filter(t => t.type === 'scattergl').flatMap(t => Array.from(t.x, (x, i) => ({
    x: box.x + full.xaxis._offset + full.xaxis.d2p(x),
    y: box.y + full.yaxis._offset + full.yaxis.d2p(t.y[i]), name: t.name}))); }"""


pytestmark = needs_chromium


@pytest.fixture(scope="module")
def url(tiny, tmp_path_factory):
    """The tab alone, with a second tab that brings a picture in and shows what goes out."""
    inspector = build_house(tiny.folder, tmp_path_factory.mktemp("house"))
    with gr.Blocks() as app:
        navigation = Navigation(gr.State(), gr.State())
        tab = LatentMapTab(inspector, navigation, Settings(public=True))
        tab.limits = replace(tab.limits, links=True)
        gr.HTML("", js_on_load=view_link.HISTORY)
        with gr.Tabs():
            with gr.Tab("Map"):
                tab.build()
            with gr.Tab("Elsewhere"):
                bring, gone = gr.Button("Show on map"), gr.JSON(elem_id="gone")
                follow = gr.Button("Follow a link")
        scene = examples.example("five-on-texture")
        follow.click(
            lambda: {"tab": "map", "points": "pre-merge/2", "scenes": "40", "tokens": "2"}, None, navigation.latent_map
        )
        bring.click(lambda: open_view(scene, "post-merge/1", "tokens"), None, navigation.latent_map)
        navigation.inspect.change(lambda view: view, navigation.inspect, gone)
        navigation.failures.change(shown_selection, navigation.failures, gone)
        tab.add_endpoints()
    _, address, _ = launch(app.queue(), Settings(), prevent_thread_lock=True, quiet=True)
    yield address.rstrip("/")
    app.close()


def shown_selection(view):
    names = [sample.name for sample in view["selection"].samples(DEFAULT)]
    return {"point": view["point"], "adapter": view["adapter"], "names": names}


def draw(page, scenes=30):
    number = page.locator("#map-scenes input[type=number]")
    number.fill(str(scenes))
    number.press("Tab")
    page.locator("#map-draw").click()
    expect(page.locator("#map-status")).to_contain_text(
        re.compile(r"at (post-merge/1|\d points)(: fitted|\.)"), timeout=PATIENCE
    )
    expect(page.locator("#map .fs-map-count")).to_contain_text(str(scenes))
    page.wait_for_function("document.querySelector('#map .fs-map-plot').data")


def drag(page, corners):
    """Along the corners, as fractions of the map, with the button held down."""
    box = page.locator("#map .fs-map-plot").bounding_box()
    spots = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in corners]
    page.mouse.move(*spots[0])
    page.mouse.down()
    for spot in spots[1:]:
        page.mouse.move(*spot, steps=8)
    page.mouse.up()
    return spots


def test_before_a_map_it_says_what_to_do(visit):
    page = visit()
    expect(page.locator("#map-status")).to_contain_text("No map yet")
    expect(page.locator("#map-gallery")).to_contain_text("Nothing is selected")
    expect(page.locator("#map-stop")).to_be_disabled()
    expect(page.locator("#map-save")).to_be_disabled()
    page.locator("#map-score").click()
    expect(page.locator("#map-status")).to_contain_text("Draw a map first. Nothing else has changed.")


def test_umap_is_compiled_from_the_opening_of_the_tab_on(visit, monkeypatch):
    begun = Event()
    monkeypatch.setattr(worker, "_idle", [])
    monkeypatch.setattr(worker, "Worker", lambda compiled: begun.set() or compiled)
    page = visit()
    page.get_by_role("tab", name="Elsewhere").click()
    page.get_by_role("tab", name="Map", exact=True).click()
    assert begun.wait(PATIENCE / 1000)
    assert worker._idle == [True]


def test_what_the_map_is_doing_stands_in_the_first_view(visit):
    status = visit(1280, 720).locator("#map-status").bounding_box()
    assert 0 < status["y"] + status["height"] < 720


def test_hover_click_and_neighbours(visit):
    page = visit()
    draw(page)
    expect(page.locator("#map-silhouettes")).to_contain_text("floor")
    spot = page.evaluate(POINTS)[5]
    page.mouse.move(spot["x"], spot["y"], steps=3)
    tip = page.locator("#map .fs-map-tip")
    expect(tip.locator("img")).to_have_js_property("naturalWidth", 112)
    expect(tip).to_contain_text(spot["name"])
    page.mouse.click(spot["x"], spot["y"])
    detail = page.locator("#map-detail")
    expect(detail.locator("h4")).to_contain_text(spot["name"])
    expect(detail.locator(".fs-map-tiles button")).to_have_count(8)
    expect(detail.get_by_alt_text("The reconstruction")).to_be_visible()
    expect(detail).to_contain_text("LPIPS")
    title = detail.locator("h4").inner_text()
    detail.locator(".fs-map-tiles button").first.click()  # its neighbour is looked at next
    expect(detail.locator("h4")).not_to_have_text(title)
    page.locator("#map-inspect").click()
    page.get_by_role("tab", name="Elsewhere").click()
    expect(page.locator("#gone")).to_contain_text("post-merge/1")


def test_lasso_greys_the_rest_and_exports(visit):
    page = visit()
    draw(page)
    edge, right = widest_gap(page)
    inside = [p for p in page.evaluate(POINTS) if p["x"] < edge]
    drag(page, ((0.01, 0.01), (right, 0.01), (right, 0.99), (0.01, 0.99), (0.01, 0.02)))
    count = page.locator("#map .fs-map-count")
    expect(count).to_have_text(f"{len(inside)} / 30 scenes")
    expect(page.locator("#map-gallery .fs-map-tiles button")).to_have_count(len(inside))
    greyed = f"({TRACES})().reduce((n, t) => n + t.x.length - t.selectedpoints.length, 0)"
    assert page.evaluate(greyed) == 30 - len(inside)
    page.locator("#map .fs-map-colour").select_option("size")  # the selection outlives other colours
    expect(count).to_have_text(f"{len(inside)} / 30 scenes")
    with page.expect_download() as download:
        page.locator("#map-save").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("points.csv").decode())))
        assert len(rows) == len(inside) and set(archive.namelist()) >= {row["picture"] for row in rows}
        assert json.loads(archive.read("map.json"))["selected"] == len(inside)
    page.locator("#map-evaluate").click()
    page.get_by_role("tab", name="Elsewhere").click()
    names = page.locator("#gone").get_by_text(re.compile(r"scene \d+ \("))
    expect(names).to_have_count(len(inside))
    expect(names.first).to_contain_text(f"scene {rows[0]['scene']} ({rows[0]['hash']})")
    page.get_by_role("tab", name="Map", exact=True).click()
    page.locator("#map .fs-map-clear").click()
    expect(count).to_have_text("30 scenes")
    expect(page.locator("#map-gallery")).to_contain_text("Nothing is selected")
    expect(page.locator("#map-save")).to_have_text("Export all 30 scenes (zip)")
    with page.expect_download() as download:  # without a lasso
        page.locator("#map-save").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert len(list(csv.DictReader(io.StringIO(archive.read("points.csv").decode())))) == 30


def widest_gap(page):
    """Where no point is near: a place in pixels of the page, and as a share of the plot's width."""
    box, xs = page.locator("#map .fs-map-plot").bounding_box(), sorted(p["x"] for p in page.evaluate(POINTS))
    middle = xs[len(xs) // 4 : -len(xs) // 4]
    edge = max((b - a, (a + b) / 2) for a, b in itertools.pairwise(middle))[1]
    return edge, (edge - box["x"]) / box["width"]


def test_a_name_selects_its_points_by_keyboard(visit):
    page = visit()
    draw(page)
    first = page.locator("#map .fs-map-legend button").first
    number = first.locator("span").inner_text()
    first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#map .fs-map-count")).to_have_text(f"{number} / 30 scenes")
    expect(page.locator("#map-gallery .fs-map-tiles button")).to_have_count(int(number))


def test_stop_keeps_the_last_map_and_another_can_be_drawn_at_once(visit):
    page = visit()
    draw(page)
    status, stop, go = (page.locator(name) for name in ("#map-status", "#map-stop", "#map-draw"))
    for scenes in (2000, 1990):
        number = page.locator("#map-scenes input[type=number]")
        number.fill(str(scenes))
        number.press("Tab")
        go.click()
        expect(status).to_contain_text(f" of {scenes:,}")
        expect(go).to_be_disabled()
        expect(page.locator("#map-score")).to_be_disabled()
        stop.click()
        expect(status).to_contain_text("Stopped. The last map and all scores so far stay.")
        expect(stop).to_be_disabled()
    expect(page.locator("#map .fs-map-count")).to_have_text("30 scenes")
    draw(page, 40)


def test_layers_move_and_a_picture_is_brought_in(visit):
    page = visit()
    page.get_by_role("button", name="Through the layers").click()
    expect(page.locator("#map-status")).to_contain_text("300 scenes at 4 points")
    page.locator("#map-stop").click()
    expect(page.locator("#map-status")).to_contain_text("Stopped")
    draw(page)
    reader = page.locator("#map-reader")
    expect(reader).to_contain_text("No adapter reads post-merge/0 yet.")
    places = page.evaluate(POINTS)
    page.locator("#map .fs-map-slider").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#map .fs-map-layer")).to_have_text("post-merge/1")
    expect(reader).to_contain_text("Read latents of post-merge/1 with")
    expect(reader.get_by_label("pooled")).to_be_visible()
    page.wait_for_function(f"a => ({POINTS})()[0].x !== a", arg=places[0]["x"])
    expect(page.locator("#map-silhouettes")).to_contain_text("Procrustes")
    page.get_by_role("tab", name="Elsewhere").click()
    page.get_by_role("button", name="Show on map").click()
    page.get_by_role("tab", name="Map", exact=True).click()
    expect(page.locator("#map-draw")).to_have_text("Draw the map")
    detail = page.locator("#map-detail")
    expect(detail.locator("h4")).to_have_text("Your picture at post-merge/1")
    expect(detail.locator(".warn")).to_contain_text("your picture has 5 objects on texture")
    star = "() => document.querySelector('#map .fs-map-plot').data.filter(t => t.name === 'your picture').length"
    page.wait_for_function(star)
    expect(page.locator("#map .fs-map-legend")).to_contain_text("★your picture")
    expect(page.locator("#map .fs-map-layer")).to_have_text("post-merge/1")
    expect(detail.get_by_alt_text("The reconstruction")).to_be_visible()


def test_a_link_draws_its_map_and_fills_the_form(visit):
    page = visit()
    page.locator("#map-source").get_by_text("Upload").click()
    expect(page.locator("#map-scenes")).to_be_hidden()
    page.get_by_role("tab", name="Elsewhere").click()
    page.get_by_role("button", name="Follow a link").click()
    page.get_by_role("tab", name="Map", exact=True).click()
    expect(page.locator("#map .fs-map-count")).to_have_text("80 tokens")
    expect(page.locator("#map-scenes input[type=number]")).to_have_value("40")
    expect(page.locator("#map-unit").get_by_label("a token")).to_be_checked()
    expect(page.get_by_label("Generated scenes")).to_be_checked()
    expect(page.locator("#map-silhouettes")).to_contain_text("of 80 tokens, which show only background")
    link = page.locator("#map-status").get_by_role("link", name="link to this map")
    expect(link).to_have_attribute("href", "?tab=map&points=pre-merge/2&scenes=40&seed=0&tokens=2")
    page.wait_for_function("new URLSearchParams(location.search).get('points') === 'pre-merge/2'")


def test_own_pictures_by_pca_and_a_range_of_scores(visit, tmp_path):
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        for number in range(24):
            file = io.BytesIO()
            Image.new("RGB", (90, 60 if number % 3 else 90), (number * 10, 99, 99)).save(file, "PNG")
            archive.writestr(f"{'cats' if number % 2 else 'dogs'}/{number:02d}.png", file.getvalue())
    page = visit()
    status = page.locator("#map-status")
    page.locator("#map-source").get_by_text("Upload").click()
    page.locator("#map-draw").click()
    expect(status).to_contain_text("Choose pictures or a zip archive first. Nothing else has changed.")
    page.locator("#map-files input[type=file]").set_input_files(tmp_path / "own.zip")
    expect(page.locator("#map-files")).to_contain_text("own")
    page.get_by_role("radio", name="PCA").click()
    page.locator("#map-draw").click()
    expect(page.locator("#map .fs-map-count")).to_have_text("24 pictures")
    expect(status).to_contain_text("24 pictures at post-merge/1, by PCA")
    expect(page.locator("#map .fs-map-legend")).to_contain_text("cats 12")
    page.wait_for_function("document.querySelector('#map .fs-map-plot').data")
    spot = page.evaluate(POINTS)[5]
    page.mouse.click(spot["x"], spot["y"])
    expect(page.locator("#map-detail h4")).to_contain_text(".png")
    expect(page.locator("#map-detail").get_by_alt_text("The reconstruction")).to_be_visible()
    page.locator("#map-score").click()
    expect(status).to_contain_text("Scored by tokens at post-merge/1")
    expect(page.locator("#map .fs-map-colour")).to_have_value("lpips tokens at post-merge/1")
    low = page.get_by_label("LPIPS, tokens at post-merge/1 from")
    low.fill("0")
    low.press("Enter")
    expect(page.locator("#map .fs-map-count")).to_have_text("24 / 24 pictures")
    low.fill("900")
    low.press("Enter")
    expect(page.locator("#map .fs-map-count")).to_have_text("0 / 24 pictures")
    page.locator("#map-inspect").click()
    page.get_by_role("tab", name="Elsewhere").click()
    expect(page.locator("#gone")).to_contain_text(".png")


def test_tokens_scores_and_three_dimensions(visit):
    page = visit()
    page.locator("#map-unit").get_by_text("a token").click()
    page.locator("#map-dimensions").get_by_text("3-D").click()
    number = page.locator("#map-scenes input[type=number]")
    number.fill("20")
    number.press("Tab")
    page.locator("#map-draw").click()
    expect(page.locator("#map .fs-map-count")).to_have_text("160 tokens")
    page.wait_for_function("document.querySelector('#map .fs-map-plot').data?.[0].type === 'scatter3d'")
    page.locator("#map-score").click()
    expect(page.locator("#map-status")).to_contain_text("Scored by tokens at post-merge/1")
    expect(page.locator("#map .fs-map-colour")).to_have_value("lpips tokens at post-merge/1")
    expect(page.locator("#map .fs-map-scale")).to_be_visible()


@pytest.mark.parametrize("dimensions", ["2-D", "3-D"])
def test_no_two_classes_look_alike(visit, dimensions):
    page = visit()
    page.locator("#map-dimensions").get_by_text(dimensions).click()
    draw(page, 100)
    for column, least in (("position", 9), ("shape", 8), ("cluster post-merge/1", 8)):
        page.locator("#map .fs-map-colour").select_option(column)
        keys = page.locator("#map .fs-map-legend button")
        expect(keys.first).to_have_attribute("title", re.compile("Select all"))
        page.wait_for_function(f"document.querySelector('#map .fs-map-plot').data.length === {keys.count()}")
        looks = page.evaluate(LOOKS)
        assert len(looks) == keys.count() >= least
        assert len({color for color, _ in looks}) == len(looks)


def test_too_much_is_one_sentence_and_nothing_is_lost(visit):
    page = visit()
    draw(page)
    page.locator("#map-scenes input[type=number]").fill("5000")
    page.locator("#map-unit").get_by_text("a token").click()
    page.locator("#map-draw").click()
    expect(page.locator("#map-status")).to_contain_text("A map here has at most 5,000 points, not 40,000")
    expect(page.locator("#map .fs-map-count")).to_have_text("30 scenes")


def test_a_phone_scrolls_down_only(visit):
    page = visit(390, 844, dark=True)
    draw(page)
    expect(page.locator("#map .fs-map-legend")).to_be_in_viewport()  # it has come up by itself
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator("#map [data-mode=lasso]")).to_have_attribute("aria-pressed", "false")  # a finger scrolls


def test_the_endpoint(url):
    client = Client(url, verbose=False)
    job = client.submit("post-merge/1, pre-merge/2", 40, api_name="/latent_map")
    drawn = job.result()
    assert job.outputs()[0] == {"stage": "latents", "done": 0, "of": 40}  # it can be cancelled between two steps
    assert list(drawn["layers"]) == ["pre-merge/2", "post-merge/1"]
    assert len(drawn["layers"]["post-merge/1"]["coordinates"]) == len(drawn["labels"]["shape"]) == 40
    assert drawn["layers"]["post-merge/1"]["silhouettes"]["shape"]["floor"] < 0.5
    with pytest.raises(Exception, match="at most 5,000 points"):
        client.predict("post-merge/1", 9000, api_name="/latent_map")
