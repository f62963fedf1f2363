"""The Latent map with 20,000 points in headless Chromium: first draw, hover, click, lasso, colours.

    python -m benchmarks.latent_map [--points 20000] [--repeats 5]

The scenes, labels, silhouettes, thumbnails, galleries and the page are the app's own. Latents and coordinates are
synthetic (drawn around a centre for each shape and colour), so that nothing waits for a model or a fit: those are
measured apart, by --fit, on the bundled model. The peer is plotly's SVG scatter of the same points on the same page.
"""

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
import numpy as np
from playwright.sync_api import Page, sync_playwright

from foresight.data.scenes import take
from foresight.inspection.inspector import Inspector
from foresight.maps.data import MapData, MapSpec, extract, scene_facts, split_facts
from foresight.maps.fit import LatentMap, Layer, Maps, align
from foresight.maps.pictures import ScenePictures
from foresight.maps.separability import cluster, silhouettes
from foresight.models.points import ExtractionPoint
from foresight.models.vae import load_vae
from foresight.models.vlm import VLM, load_vlm
from foresight.settings import Settings
from foresight.ui.latent_map.tab import LatentMapTab
from foresight.ui.navigation import Navigation
from foresight.ui.shell import launch

POINT = ExtractionPoint("post-merge", 6)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PLACE = """i => { const plot = document.querySelector('#map .fs-map-plot'), full = plot._fullLayout,
  box = plot.getBoundingClientRect(), trace = plot.data[0];
  return [box.x + full.xaxis._offset + full.xaxis.d2p(trace.x[i]),
          box.y + full.yaxis._offset + full.yaxis.d2p(trace.y[i])]; }"""
SVG = """async () => { const from = document.querySelector('#map .fs-map-plot'), to = document.createElement('div');
  to.style.cssText = 'position: fixed; inset: 0; width: 800px; height: 520px'; document.body.append(to);
  const data = from.data.filter(t => t.type === 'scattergl').map(t => ({...t, type: 'scatter'}));
  const start = performance.now();
  await Plotly.newPlot(to, data, {showlegend: false});
  const took = performance.now() - start; to.remove(); return took; }"""


def synthetic(spec: MapSpec) -> LatentMap:
    """A map of real scenes whose latents and places are made up."""
    scenes = take(spec.scenes, spec.seed, spec.scene_spec(), "test")
    labels, measures = split_facts(scene_facts(scenes))
    draw = np.random.default_rng(0)
    centres = {name: draw.normal(size=64) for column in ("shape", "colour") for name in set(labels[column])}
    middle = np.stack([centres[s] + centres[c] for s, c in zip(labels["shape"], labels["colour"], strict=True)])
    latents = (middle + draw.normal(size=(spec.scenes, 64))).astype(np.float32)
    data = MapData(spec, ScenePictures(scenes), np.arange(spec.scenes), None, {str(POINT): latents}, labels, measures)
    shift, scale, turn, places, change = align(latents @ draw.normal(size=(64, 2)), None)
    clusters = cluster(latents[:2000], spec.clusters)[np.arange(spec.scenes) % 2000]
    scores = silhouettes(latents, labels, clusters)
    return LatentMap(spec, data, {str(POINT): Layer(b"", shift, scale, turn, places, change, clusters, scores)})


def page_of(latent_map: LatentMap, inspector: Inspector) -> gr.Blocks:
    """The tab alone, with the one map at hand and no adapter."""
    with gr.Blocks() as app:
        tab = LatentMapTab(inspector, Navigation(gr.State(), gr.State()), Settings())
        tab.maps.add(latent_map)
        tab.build()
    return app


def timed(act: Callable[[], Any], until: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    until()
    return time.perf_counter() - start


def drawn(page: Page) -> dict[str, Any]:
    return page.evaluate("JSON.parse(document.querySelector('#map [data-drawn]')?.dataset.drawn || 'null')")


def lasso(page: Page) -> None:
    """Around the left half of the map; ends where the button is let go."""
    box = page.locator("#map .fs-map-plot").bounding_box()
    assert box
    corners = ((0.5, 0.02), (0.5, 0.98), (0.02, 0.98), (0.02, 0.02))
    page.mouse.move(box["x"] + 20, box["y"] + 10)
    page.mouse.down()
    for x, y in corners:
        page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y, steps=6)


def open_view(page: Page, scenes: int) -> dict[str, float]:
    """Seconds of each interaction on a fresh page."""
    page.locator("#map-scenes input[type=number]").fill(str(scenes))
    page.wait_for_function("window.Plotly")  # loads with the tab, before anybody can press its button
    board, menu = page.locator("#map [data-drawn]"), page.locator("#map .fs-map-colour")
    times = {"click → drawn": timed(page.locator("#map-draw").click, board.wait_for)}
    times["first draw"] = drawn(page)["milliseconds"] / 1e3
    x, y = page.evaluate(PLACE, 7)
    picture, near = page.locator("#map .fs-map-tip img[src]"), page.locator("#map-detail .fs-map-tiles")
    times["hover → picture"] = timed(lambda: page.mouse.move(x, y, steps=2), picture.wait_for)
    times["click → neighbours"] = timed(lambda: page.mouse.click(x, y), near.wait_for)
    lasso(page)
    times["lasso → gallery"] = timed(page.mouse.up, page.locator("#map-gallery .fs-map-tiles").wait_for)
    before = drawn(page)["at"]
    changed = "at => JSON.parse(document.querySelector('#map [data-drawn]').dataset.drawn).at !== at"
    times["other colours"] = timed(
        lambda: menu.select_option("colour"), lambda: page.wait_for_function(changed, arg=before)
    )
    return times | {"peer: SVG draw": page.evaluate(SVG) / 1e3}


def measure(url: str, scenes: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each interaction, once for each of `repeats` fresh pages."""
    times: dict[str, list[float]] = {}
    with sync_playwright() as driver:
        path = next(p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n)))
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        for _ in range(repeats):
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            page.set_default_timeout(60_000)
            page.goto(url)
            for name, seconds in open_view(page, scenes).items():
                times.setdefault(name, []).append(seconds)
            page.close()
        browser.close()
    return times


def fit_times(vlm: VLM, scenes: int) -> None:
    """What a person waits for on the bundled model: latents and fit, first and again."""
    spec = MapSpec((str(POINT),), scenes)
    start = time.perf_counter()
    for _ in extract(vlm, spec.latents_spec):
        pass
    print(f"latents of {scenes} scenes {time.perf_counter() - start:.1f} s")
    maps = Maps(vlm)
    for seed in (0, 1):
        spec = MapSpec((str(POINT),), scenes, seed)
        for _ in maps.extract(spec):
            pass
        start = time.perf_counter()
        for _ in maps.fit(spec):
            pass
        print(f"map {('first', 'again')[seed]} {time.perf_counter() - start:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--fit", action="store_true", help="measure latents and fit of 400 scenes too")
    args = parser.parse_args()
    spec = MapSpec((str(POINT),), args.points)
    inspector = Inspector(load_vlm(device="cpu"), load_vae(device="cpu"), ())
    app = page_of(synthetic(spec), inspector)
    _, url, _ = launch(app, Settings(), prevent_thread_lock=True, quiet=True)
    times = measure(url, args.points, args.repeats)
    app.close()
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    print(
        f"{args.points:,} synthetic points, {os.cpu_count()} cores, load {load:.1f} a core; medians of {args.repeats}"
    )
    for name, seconds in times.items():
        print(f"  {name:20} {statistics.median(seconds):6.2f} s   best {min(seconds):.2f} s")
    peer, first_draw = (statistics.median(times[name]) for name in ("peer: SVG draw", "first draw"))
    print(f"  first draw against SVG: {peer / first_draw:.1f} times as fast")
    if args.fit:
        fit_times(inspector.vlm, 400)


if __name__ == "__main__":
    main()
