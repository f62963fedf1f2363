"""The whole app on bundled weights in headless Chromium: weight of the page, first draw, what each tab answers with.

    python -m benchmarks.tabs [--repeats 3]

Peers, in the same run: for the page, Gradio's own with one picture and one button; for an interaction, the library
doing the same without a page, so that the ratio tells what the page costs.
"""

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.latent_map import FLAGS, timed
from foresight.adapters.registry import BUNDLED
from foresight.data.motion import MotionSpec
from foresight.data.scenes import SceneSpec
from foresight.inspection.clip_readout import clip_records, decode_clip, motion_sample
from foresight.inspection.evaluation import evaluate, scene_samples
from foresight.inspection.inspector import Inspector
from foresight.models.points import ExtractionPoint
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm
from foresight.settings import Settings
from foresight.ui import examples, generate
from foresight.ui.shell import build_app, launch
from training.service.service import TrainingService

READY = "#tiles img"
TABS = {  # a selector, and the text to be found in one of its elements
    "Compare": ("#compare-go", ""),
    "Failures": ("#failures-go", ""),
    "Latent map": ("#map-draw", ""),
    "Video": (".fs-video-bar", ""),
    "Train": ("#train-cost", "arameters"),
    "Findings": (".fs-findings-empty, #findings-charts", ""),
    "About": (".fs-about h3", ""),
}
SEEN = """([selector, text]) => [...document.querySelectorAll(selector)].some(
    e => e.checkVisibility() && e.innerText.includes(text))"""
COUNT, OTHER = 16, ExtractionPoint("pre-merge", 6)  # scenes evaluated; where Inspect goes


def weigh(page: Page, url: str, ready: str) -> dict[str, float]:
    """Opens a page: seconds until it is ready, kB over the wire and requests until it has settled."""
    sizes, wire = list[float](), page.context.new_cdp_session(page)
    wire.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    wire.send("Network.enable")
    seconds = timed(lambda: page.goto(url), page.locator(ready).first.wait_for)
    page.wait_for_timeout(3000)  # what comes after the first picture is weighed too
    return {"seconds": seconds, "kB": sum(sizes) / 1e3, "requests": len(sizes)}


def steps(page: Page) -> Iterator[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """What a person does in each tab: its name, the doing, and the waiting until it is answered."""

    def appears(selector: str, text: str = "") -> Callable[[], Any]:  # at each frame; a locator looks twice a second
        return lambda: page.wait_for_function(SEEN, arg=[selector, text])

    def changed(script: str) -> Callable[[], Any]:
        before = page.evaluate(script)
        return lambda: page.wait_for_function(f"before => {script} !== before", arg=before)

    def tab(name: str) -> Callable[[], Any]:
        return page.get_by_role("tab", name=name, exact=True).click

    for name, landmark in TABS.items():
        yield f"{name}: opened", tab(name), appears(*landmark)
    tab("Inspect")()
    tab("Generate")()
    yield "Inspect: new scene", page.locator("#dice").click, changed(f"document.querySelector('{READY}').src")
    cell = page.locator(f"#diagram [data-point='{OTHER}']")
    yield "Inspect: other point", cell.click, appears("#headline h3", str(OTHER))
    yield "Inspect: baselines", page.get_by_role("button", name="Baselines:").click, appears("#baselines", str(OTHER))
    tab("Compare")()
    yield "Compare: all tiles", page.locator("#compare-go").click, appears("#compare-head", "All")
    yield "Compare: left", page.locator("[data-do=left]").nth(2).click, appears("#compare-pair b", str(OTHER))
    tab("Failures")()
    page.locator("#failures-count input[type=number]").fill(str(COUNT))
    yield f"Failures: {COUNT} scenes", page.locator("#failures-go").click, appears("#failures-means", "Means of")
    best, first = page.get_by_text("best first"), "document.querySelector('#failures-gallery img').src"
    yield "Failures: other order", best.click, changed(first)
    yield "Failures: by factor", tab("What fails"), appears("#failures-factors .js-plotly-plot")
    tab("Latent map")()
    page.locator("#map-scenes input[type=number]").fill("100")
    yield "Latent map: 100 scenes", page.locator("#map-draw").click, appears("#map [data-drawn]")
    tab("Video")()
    clip, scored = "document.querySelector('[data-clip]').dataset.clip", appears("#video-head", "Worst")
    scored()
    yield "Video: 16 frames play", page.locator("#video-dice").click, changed(clip)
    yield "Video: and are scored", lambda: None, scored
    tab("Train")()
    page.get_by_role("button", name="Extraction points and adapters").click()
    width, cost = page.locator("#train-hidden input[type=range]"), "document.querySelector('#train-cost').innerText"
    yield "Train: other width", lambda: width.press("ArrowRight"), changed(cost)


def alone(inspector: Inspector, repeats: int) -> dict[str, float]:
    """Median seconds of the library doing the same as the page was asked for."""
    records = [record for record in inspector.adapters() if record.name == "tokens"]
    record = inspector.registry.find("tokens")
    fresh = (sample.image for sample in scene_samples(5 * repeats, 1, SceneSpec()))
    clips = (motion_sample(seed, MotionSpec()) for seed in count())
    clip_record = next(r for r in clip_records(inspector) if r.point == inspector.default_point)
    jobs: dict[str, Callable[[], Any]] = {
        "Video: 16 frames play": lambda: decode_clip(inspector, clip_record, next(clips)),
        "Inspect: new scene": lambda: inspector.inspect(next(fresh)),
        "Inspect: other point": lambda: inspector.inspect(next(fresh), OTHER),
        "Compare: all tiles": lambda: list(inspector.sweep_layers(next(fresh), records)),
        f"Failures: {COUNT} scenes": lambda: list(evaluate(inspector, record, scene_samples(COUNT, 0, SceneSpec()))),
    }
    return {name: statistics.median(timed(job, lambda: None) for _ in range(repeats)) for name, job in jobs.items()}


def measure(browser: Browser, url: str, repeats: int) -> dict[str, list[float]]:
    """Seconds of each step, once for each of `repeats` fresh pages."""
    times: dict[str, list[float]] = {}
    for _ in range(repeats):
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(120_000)
        page.goto(url)
        page.locator(READY).first.wait_for()
        for name, act, until in steps(page):
            times.setdefault(name, []).append(timed(act, until))
        page.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="fresh pages")
    repeats = parser.parse_args().repeats
    inspector = Inspector(load_vlm(device="cpu"), load_vae(device="cpu"), (BUNDLED,), fast=True)
    inspector.warm_up()
    quiet: dict[str, Any] = {"prevent_thread_lock": True, "quiet": True}
    with tempfile.TemporaryDirectory() as runs, sync_playwright() as driver:
        app = build_app(inspector, Settings(), TrainingService(inspector, runs))
        with gr.Blocks() as peer:
            gr.Image(generate.image_and_mask(examples.example("one-on-white"))[0], elem_id="picture", format="png")
            gr.Button("Reconstruct")
        url, bare = (launch(blocks, Settings(), **quiet)[1] for blocks in (app, peer))
        path = next(p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n)))
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        weights = weigh(browser.new_page(), url, READY)
        bare_weights = weigh(browser.new_page(), bare, "#picture img")
        times = measure(browser, url, repeats)
        for opened in (browser, app, peer):
            opened.close()
    peers = alone(inspector, repeats)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    print(f"{os.cpu_count()} cores, load {load:.1f} a core; medians of {repeats} pages")
    for what, weight in weights.items():
        peer_weight = bare_weights[what]
        ratio = weight / peer_weight
        print(f"  first page, {what:12} {weight:8.1f}   bare Gradio {peer_weight:8.1f}   ratio {ratio:.1f}")
    for name, seconds in times.items():
        middle, first = statistics.median(seconds), seconds[0]
        peer_note = f"   library alone {peers[name]:5.2f} s   ratio {middle / peers[name]:.1f}" if name in peers else ""
        print(f"  {name:24} {middle:6.2f} s   first {first:6.2f} s{peer_note}")


if __name__ == "__main__":
    main()
