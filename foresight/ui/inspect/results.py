"""The right half of the Inspect tab: what an inspection found, in words, pictures and files."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr
import torch.nn.functional as F
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from foresight.inspection.inspector import Report
from foresight.inspection.readout import Reconstruction
from foresight.metrics.matching import score_objects
from foresight.metrics.scores import SCORES
from foresight.ui import cards, generate
from foresight.ui import view_link as link
from foresight.ui.image_maps import png, strip, tile_grid, tiles
from foresight.ui.inspect import baselines as floors
from foresight.ui.inspect.description import QUESTION
from foresight.ui.navigation import ImageSource
from foresight.ui.services import Calls

# An object's label, whether any of it is visible, its mask IoU, and the oracle's.
ObjectIoU = tuple[str, bool, float | None, float | None]

PICTURE_HEIGHT = 380
SCENES_ONLY = "The bundled model has only ever seen drawn scenes: what it says of a photo means nothing."

_SIDES = '<p class="fs-sides"><span>◀ original</span><span>drag the line</span><span>reconstruction ▶</span></p>'


def present(calls: Calls, report: Report, case: ImageSource, cold: bool = False) -> tuple[Any, ...]:
    """A report as the values of `build`'s components. cold: the first one, whose time would tell nothing."""
    shown = tiles(report)
    original, made = shown[0], next(tile for tile in shown if tile.marked)
    name = f"{link.name_of(case)}-{report.point.stage}-{report.point.layer}-{made.title}".replace("/", "-")
    heading = f"{link.name_of(case)} at {report.point}, {made.title} adapter: {_scores(report.reconstructions[0])}"
    address, objects = link.query(case, str(report.point), made.title), _objects(report, case)
    return (
        (_file(original.png, "original.png"), _file(made.png, "reconstruction.png")),
        cards.headline(report, cold, address, link.link_html(address, case)),
        cards.metric_cards(report, case),
        tile_grid(shown),
        cards.object_table(objects),
        _file(png(strip(shown, heading)), f"foresight-{name}.png"),
        _file(json.dumps(record(calls, report, case, objects), indent=2).encode(), f"foresight-{name}.json"),
        floors.Asked.of(report, case),
        "",
    )


def record(calls: Calls, report: Report, case: ImageSource, objects: list[ObjectIoU]) -> dict[str, Any]:
    """All that is needed to repeat a result: the scores, the models, the adapter's card, the scene."""
    chosen, facts = report.reconstructions[0], calls.facts()
    models = {"model": facts["model"], "vae": facts["vae"]["name"]}  # a card has their folders' whole paths
    return {
        **report.as_json(link.name_of(case)),
        "model": facts["model"],
        "vae": facts["vae"],
        "adapter_card": {key: models.get(key, value) for key, value in chosen.card.items()},
        "scene": case if isinstance(case, dict) else None,
        "objects": [{"object": label, "iou": made, "oracle_iou": best} for label, _, made, best in objects],
        "others": {r.name: r.scores for r in report.reconstructions[1:]},
        "versions": facts["versions"],
    }


def _objects(report: Report, case: ImageSource) -> list[ObjectIoU]:
    """Each object of a scene, front ones last."""
    if not isinstance(case, dict):
        return []
    seen = generate.visible(case)
    if seen.shape[1:] != report.mask.shape:  # the VLM sees another size
        seen = F.interpolate(seen[None].float(), report.mask.shape, mode="bilinear", antialias=True)[0] >= 0.5

    def ious(made: Reconstruction) -> list[float | None]:
        found = None if made.mask_reason else made.mask
        return [o.iou for o in score_objects(case, seen, found, made.lpips_map)]

    labels = [f"{thing['color']} {thing['shape']}" for thing in case["objects"]]
    visible = seen.flatten(1).any(1).tolist()
    return list(zip(labels, visible, ious(report.reconstructions[0]), ious(report.oracle), strict=True))


def _scores(made: Reconstruction) -> str:
    told = {name: made.scores[name] for name in SCORES}
    return ", ".join(f"{cards.NAMES[name]} {cards.number(name, v)}" for name, v in told.items() if v is not None)


def _file(data: bytes, name: str) -> str:
    return save_bytes_to_cache(data, name, get_upload_folder())


def build(first: tuple[Any, ...] | None) -> list[Any]:
    """The components; first: `present`'s values, None where there is no adapter to begin with."""
    values = first or (None, f'<p class="fs-head">{cards.NO_RESULT}</p>', "", "", "", None, None, None, "")
    headline = html(values[1], "headline", js_on_load=link.ADDRESS, padding=False)
    stale = html(values[8], "stale")
    with gr.Row(equal_height=False, elem_classes="fs-shown"):
        with gr.Column(scale=1, min_width=300, elem_classes="fs-view"):
            slider = gr.ImageSlider(
                values[0],
                show_label=False,
                format="png",
                max_height=PICTURE_HEIGHT,
                buttons=["fullscreen"],
                interactive=False,
                elem_id="slider",
            )
            html(_SIDES, "sides")
        with gr.Column(scale=1, min_width=300):
            metrics = html(values[2], "metrics")
    grid = html(values[3], "tiles")
    objects = html(values[4], "objects")
    with gr.Row(elem_classes="fs-files"):
        picture = gr.DownloadButton("Download pictures (PNG)", values[5], size="sm", elem_id="download-png")
        data = gr.DownloadButton("Download scores (JSON)", values[6], size="sm", elem_id="download-json")
    return [slider, headline, metrics, grid, objects, picture, data, gr.State(values[7]), stale]


def build_answer(bundled: bool) -> tuple[gr.Textbox, gr.Textbox]:
    """What the model says, and the question; bundled: the model knows scenes only, which is said beside it."""
    answer = gr.Textbox(
        label="What the model says of the picture",
        info=SCENES_ONLY if bundled else None,
        placeholder="Ask below. The answer comes after the picture, since words take longer.",
        lines=4,
        max_lines=4,
        interactive=False,
        elem_id="answer",
    )
    question = gr.Textbox(QUESTION, label="Ask the model", submit_btn="Ask", max_length=500, elem_id="question")
    return answer, question


def html(value: str, name: str, **more: Any) -> gr.HTML:
    """An HTML block of ours; without more, one that keeps no space around itself."""
    plain = None if "container" in more else "fs-plain"
    return gr.HTML(value, elem_id=name, elem_classes=plain, apply_default_css=False, **more)
