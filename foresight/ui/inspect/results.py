"""The right half of the Inspect tab: a result in words, images and files."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import gradio as gr
import torch.nn.functional as F

from foresight.data.images import to_pil
from foresight.inspection.inspector import Inspector, Report
from foresight.inspection.readout import Reconstruction
from foresight.metrics.matching import score_objects, territories
from foresight.models.vlm import VLM
from foresight.ui import cards, examples, generate
from foresight.ui import view_link as link
from foresight.ui.gradio_internals import cached_file
from foresight.ui.image_maps import png, sheet, tile_grid
from foresight.ui.image_maps import tiles as report_tiles
from foresight.ui.inspect.baselines import ResultSummary
from foresight.ui.inspect.description import BUNDLED_SAYS, QUESTIONS
from foresight.ui.inspect.words import in_words
from foresight.ui.pictures import ENLARGE, OVERLAY, WIPE, beside
from foresight.ui.services import ImageSource, plain_html, public_facts
from foresight.ui.uploads import picture_address

# An object's label, whether any of it is visible, its mask IoU, and the oracle's.
ObjectIoU = tuple[str, bool, float | None, float | None]

# A button of the banner, or an empty tile, tells which adapter it offers.
_FOLLOW = """
element.addEventListener('click', event => {
  const button = event.target.closest('[data-adapter]');
  if (button) trigger('click', {point: button.dataset.point, adapter: button.dataset.adapter});
});"""


class ResultView:
    """A result in words, images and files, with the first example's as it begins.

    Attributes:
        summary: A State, the `ResultSummary` of what is shown.
        stale: Why the result below is dimmed; empty where it is not.
        outputs: What `values` gives values for; `stale` is not among them.
    """

    def __init__(self, inspector: Inspector, trains: bool = False) -> None:
        """Adds the view to the current layout; where there is no first result it begins empty, and says why.

        Args:
            inspector: Knows which other adapter may serve.
            trains: Whether the page has a Train tab.
        """
        self.inspector, self.trains = inspector, trains
        vlm = inspector.vlm
        why = cards.NO_RESULT
        if vlm.waits and inspector.adapters(inspector.default_point):
            why = cards.not_read_yet(vlm.size) if vlm.large else cards.NOT_ASKED
        self.keeper = gr.State()  # of the pictures' files
        nothing: list[Any] = ["", f'<p class="fs-head">{why}</p>', "", "", "", None, None, None]
        pictures, headline, metrics, tiles, objects, image_file, data_file, summary = self._first() or nothing
        self.keeper.keep_in_cache.update(self.keeper.temp_files)  # as long as the app runs
        heard = "element.setAttribute('aria-live', 'polite');"  # a result is read out when it comes
        self.headline = plain_html(headline, "headline", js_on_load=heard + link.ADDRESS + _FOLLOW, padding=False)
        self.stale = plain_html("", "stale")
        self.pictures = plain_html(pictures, "pictures", js_on_load=ENLARGE + OVERLAY + WIPE)
        self.metrics = plain_html(metrics, "metrics")
        self.tiles = plain_html(tiles, "tiles", js_on_load=ENLARGE + _FOLLOW)
        self.objects = plain_html(objects, "objects")
        with gr.Row(elem_classes="fs-files"):
            self.image_file = gr.DownloadButton(
                "Download pictures (PNG)", image_file, size="sm", elem_id="download-png"
            )
            self.data_file = gr.DownloadButton("Download scores (JSON)", data_file, size="sm", elem_id="download-json")
        self.summary = gr.State(summary)
        self.outputs: list[Any] = [self.pictures, self.headline, self.metrics, self.tiles, self.objects]
        self.outputs += [self.image_file, self.data_file, self.summary]

    def _first(self) -> list[Any] | None:
        """The values of the first example; None where no adapter reads the default point, or the model waits."""
        point = self.inspector.default_point
        if self.inspector.vlm.waits or not (records := self.inspector.adapters(point)):
            return None
        source = examples.examples()[examples.FIRST]
        image, mask = generate.image_and_mask(source)
        return self.values(self.inspector.inspect(image, point, records[0].folder, mask), source, first=True)

    def values(self, report: Report, source: ImageSource, first: bool = False, pixels: str | None = None) -> list[Any]:
        """A report as the values of `outputs`.

        Args:
            report: What is shown.
            source: Of its image.
            first: It was made while the app was starting, so that its time says nothing.
            pixels: That were chosen, for the link.
        """
        chosen, done = report.chosen, {one.record.folder for one in report.reconstructions if one.record}
        unread = [e for e in self.inspector.adapters(report.point) if e.folder not in done and not e.bundled]
        tiles = report_tiles(report, unread)
        title = link.name_of(source)
        name = f"foresight-{title}-{report.point.stage}-{report.point.layer}-{chosen.name}".replace("/", "-")
        heading = f"{title} at {report.point}, {chosen.name} adapter: {cards.said(chosen.scores)}"
        address = link.query(source, str(report.point), chosen.name, pixels)
        objects = object_ious(report, generate.at_size(source, report.resolution))
        record = json.dumps(result_record(self.inspector, report, source, objects), indent=2)
        steps, place = "", partial(picture_address, keeper=self.keeper)
        if not chosen.is_right:
            better = None if self.inspector.vlm.waits else self.inspector.suggest(report)  # it reads every point
            steps = cards.next_steps(report.point, better, self.trains)
        return [
            beside(to_pil(report.original), to_pil(chosen.image), chosen.name, place),
            cards.headline(report, first, address, link.link_html(address, source), steps),
            in_words(report) + cards.metric_cards(report, source),
            tile_grid(tiles, place),
            cards.object_table(objects),
            cached_file(png(sheet([tile for tile in tiles if not tile.offer], heading)), f"{name}.png"),
            cached_file(record.encode(), f"{name}.json"),
            ResultSummary.of(report, source),
        ]


def result_record(
    inspector: Inspector, report: Report, source: ImageSource, objects: list[ObjectIoU]
) -> dict[str, Any]:
    """All that is needed to repeat a result: the scores, the models, the adapter's card, the scene."""
    chosen, facts = report.chosen, public_facts(inspector)
    models = {"model": facts["model"], "vae": facts["vae"]["name"]}  # a card has their folders' whole paths
    return {
        **report.as_json(link.name_of(source)),
        "model": facts["model"],
        "vae": facts["vae"],
        "adapter_card": {key: models.get(key, value) for key, value in chosen.card.items()},
        "scene": source if isinstance(source, dict) else None,
        "objects": [{"object": label, "iou": iou, "oracle_iou": best} for label, _, iou, best in objects],
        "others": {other.name: other.scores for other in report.reconstructions[1:]},
        "versions": facts["versions"],
    }


def object_ious(report: Report, source: ImageSource) -> list[ObjectIoU]:
    """Each object of a scene, front ones last; none for an image that is no scene."""
    if not isinstance(source, dict):
        return []
    visible = generate.visible(source)  # (N, H, W)
    if visible.shape[1:] != report.mask.shape:  # the VLM sees another size
        resized = F.interpolate(visible[None].float(), report.mask.shape, mode="bilinear", antialias=True)
        visible = resized[0] >= 0.5

    parts = territories(visible)

    def ious(reconstruction: Reconstruction) -> list[float | None]:
        mask = None if reconstruction.mask_reason else reconstruction.mask
        return [scored.iou for scored in score_objects(source, parts, mask, reconstruction.lpips_map)]

    labels = [f"{item['color']} {item['shape']}" for item in source["objects"]]
    any_visible = visible.flatten(1).any(1).tolist()
    return list(zip(labels, any_visible, ious(report.chosen), ious(report.oracle), strict=True))


def build_answer(vlm: VLM) -> tuple[gr.Textbox, gr.Textbox, list[gr.Button]]:
    """The answer, the question, and buttons of questions to begin with. What the bundled model can say is told."""
    whole = f"The answer needs the whole model, {vlm.size / 1e9:.1f} GB."
    answer = gr.Textbox(
        label="What the model says of the picture",
        info=BUNDLED_SAYS if vlm.name == "bundled" else None,
        placeholder="Ask below. "
        + (whole if vlm.large else "" if vlm.waits else "The answer comes after the picture, since words take longer."),
        lines=4,
        max_lines=4,
        interactive=False,
        elem_id="answer",
    )
    with gr.Row(elem_id="questions"):
        samples = [gr.Button(question, size="sm", min_width=120) for question in QUESTIONS]
    question = gr.Textbox(QUESTIONS[0], label="Ask the model", submit_btn="Ask", max_length=500, elem_id="question")
    return answer, question, samples
