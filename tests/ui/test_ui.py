"""The parts of the page that are made of a report or a card: escaped, true to their numbers, in equal tiles."""

import json
import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch

from foresight.adapters.registry import AdapterRecord
from foresight.errors import InputError
from foresight.inspection.inspector import Report
from foresight.inspection.readout import Reconstruction
from foresight.metrics.masks import NOT_MEASURABLE
from foresight.models.points import ExtractionPoint
from foresight.ui import cards, generate
from foresight.ui import view_link as link
from foresight.ui.gradio_internals import ImageData
from foresight.ui.image_maps import heat, masks_over, sheet, tile_grid, tiles
from foresight.ui.inputs import FreeCheckboxGroup, FreeDropdown, FreeRadio, FreeSlider, RawImage
from foresight.ui.inspect.diagram import diagram
from foresight.ui.inspect.words import colour_difference, in_words
from foresight.ui.train.charts import curves
from foresight.ui.train.table import rows, seed_spread, table_html
from foresight.ui.train.views import adapter_details, progress
from training.data import HELD_OUT

EVIL = '<img src=x onerror="alert(1)">'
POINTS = [ExtractionPoint("pre-merge", k) for k in range(4)] + [ExtractionPoint("post-merge", k) for k in range(9)]
HERE = ExtractionPoint("post-merge", 4)


def scored(name: str, lpips: float, ssim: float, iou: float | None) -> Reconstruction:
    scores: dict[str, float | None] = {"lpips": lpips, "haarpsi": ssim, "ssim": ssim, "psnr": 20.0, "mask_iou": iou}
    scores["edge_f1"] = None
    mask = torch.zeros(56, 56, dtype=torch.bool)
    mask[:, :28] = True
    flat = torch.full((56, 56), 0.25)
    reason = None if iou is not None else EVIL
    return Reconstruction(name, torch.rand(3, 56, 56), scores, dict(scores), flat, flat, mask, reason)


def carded(card: dict[str, Any]) -> AdapterRecord:
    return AdapterRecord(Path("x"), True, {"kind": "linear", "card": card}, 1)


def report(name: str = "tokens", iou: float | None = 0.5, distance: float = 0.9) -> Report:
    mask = torch.zeros(56, 56, dtype=torch.bool)
    mask[:28] = True
    return Report(
        original=torch.rand(3, 56, 56),
        point=HERE,
        reconstructions=[replace(scored(name, 0.4, 0.8, iou), distance=distance, far=1.2)],
        oracle=scored("oracle", 0.001, 0.999, 0.99),
        blank=scored("blank", 0.3, 0.9, 0.0),
        mask=mask,
        mask_reason=None if iou is not None else EVIL,
        seconds={"latents": 0.1, "decode": 0.2, "total": 0.3},
    )


def test_verdicts_say_in_words_whether_the_target_is_met_and_whether_that_means_anything() -> None:
    one = generate.make_scene("star", "red", 1, "any", "any", "white", True, 5)
    lpips, haarpsi, ssim, iou, psnr = cards.metric_cards(report(), one).split('<div class="fs-card">')[1:]
    assert "✗ Fail: the target is &lt;&nbsp;0.35" in lpips and "0.400" in lpips and "blank 0.300" in lpips
    assert "✓ Pass: meets &gt;&nbsp;0.75; yet a blank page is better" in ssim
    assert "✗ Fail: the target is &gt;&nbsp;0.60" in iou and "oracle 0.990" in iou
    for card in (haarpsi, psnr):
        assert "Pass" not in card and "Fail" not in card
    assert "A blank page is better" in haarpsi and "20.0 dB" in psnr


def test_targets_are_shown_for_scenes_like_the_seed_study_s_alone() -> None:
    two = generate.make_scene("star", "red", 2, "any", "any", "white", True, 5)
    grey = generate.make_scene("star", "red", 1, "any", "any", "plain", True, 5)
    for source in (two, grey, "/tmp/photo.png", None):
        html = cards.metric_cards(report(), source)
        assert "verdict" not in html and "A blank page is better" in html


def test_a_photo_has_a_card_of_its_edges_in_place_of_that_of_its_masks() -> None:
    photo = replace(report(iou=None).chosen, scores={**scored("tokens", 0.4, 0.8, None).scores, "edge_f1": 0.43})
    of_photo = replace(report(iou=None), reconstructions=[photo])
    titles = [name for name in cards.NAMES.values() if f">{name}<" in cards.metric_cards(of_photo, "/tmp/photo.png")]
    assert titles == ["LPIPS", "HaarPSI", "SSIM", "Edge F1", "PSNR"]
    assert "Edge F1" not in cards.metric_cards(report())


def test_better_is_to_the_right_on_every_scale() -> None:
    for card, name in zip(cards.metric_cards(report()).split("<svg")[1:], "LHSMP", strict=True):
        blank = float(card.split('class="blank" cx="')[1].split('"')[0])
        oracle = float(card.split('class="oracle" d="M')[1].split(" ")[0])
        this = float(card.split('class="this" d="M')[1].split(" ")[0])
        assert 0 <= blank <= 200 and 0 <= this <= 200 and (blank < oracle <= 200 or name == "P"), name


def test_no_objects_is_a_reason_not_a_number() -> None:
    html = cards.metric_cards(report(iou=None))
    assert "Not scored: &lt;img" in html and "<img" not in html


def test_an_iou_of_0_says_that_nothing_was_found() -> None:
    lost = replace(scored("tokens", 0.4, 0.8, 0.0), mask=torch.zeros(56, 56, dtype=torch.bool))
    sentence = "No object stands out from the reconstruction"
    assert sentence in cards.metric_cards(replace(report(), reconstructions=[lost]))
    assert sentence not in cards.metric_cards(report(iou=0.0))  # it shows one, elsewhere


def test_not_measurable_is_no_0_on_the_card_and_no_tile() -> None:
    missing = replace(scored("tokens", 0.4, 0.8, None), mask_reason=NOT_MEASURABLE)
    without = replace(report(), reconstructions=[missing])
    card = cards.metric_cards(without).split('<div class="fs-card">')[4]
    assert f"Not measurable: {NOT_MEASURABLE}" in card and "0.000" not in card and "Fail" not in card
    [tile] = [tile for tile in tiles(without) if tile.title == "masks"]
    assert tile.picture is None and tile.note == NOT_MEASURABLE
    oracle = replace(scored("oracle", 0.001, 0.999, None), mask_reason=NOT_MEASURABLE)
    card = cards.metric_cards(replace(report(), oracle=oracle)).split('<div class="fs-card">')[4]
    assert "0.500" in card and "oracle not measurable" in card
    table = cards.object_table([("red star", True, None, 0.9), ("blue ring", False, None, None)])
    assert "red star</b> not measurable<span>oracle 0.90" in table and "blue ring</b> hidden" in table


def test_a_held_out_mean_tells_its_share() -> None:
    table = {"mask_iou": [0.5, 0.4, 0.6], "lpips": [0.1, 0.05, 0.15], "measured": {"mask_iou": 97, "lpips": 128}}
    card = {"scores": {"n": 128, cards.ANY_SCENES: table}}
    note = cards.adapter_note(AdapterRecord(Path("x"), True, {"kind": "linear", "card": card}, 1))
    assert note.count("97 of 128") == 1 and "128 of 128" not in note
    case = generate.make_scene("star", "red", 2, "any", "any", "white", True, 5)
    mine = replace(report().chosen, record=carded(card))
    html = cards.metric_cards(replace(report(), reconstructions=[mine]), case)
    assert "97 of 128" in html and f"± {0.2 / 3.92 * 97**0.5:.3f}" in html
    row = {"name": "x", "point": "post-merge/4", "kind": "linear", "parameters": 1, "card": card}
    assert "0.500 [0.400, 0.600]</b> (n = 97)" in adapter_details(row)
    run = {"name": "r", "log": [{"step": 5, "losses": {"x": 1.0}}]}
    drawn = json.loads(curves([run | {"held_out": [{"step": 5, "scores": {"x": card["scores"]}}]}]))
    assert drawn["lines"][0]["mask_iou"] == [[5, 0.5, 0.4, 0.6, 97]]


def test_a_headline_has_its_link_and_what_is_to_be_known_of_it() -> None:
    assert link.link_html("?a", None) in cards.headline(report(), address="?a", link=link.link_html("?a", None))
    assert "24 hours" in link.link_html("?a", "/tmp/cat.png") and "24 hours" not in link.link_html("?a", {})
    assert link.link_html("", "/home/cat.png") == "no link: the picture is a file of this machine"


def test_the_banner_comes_for_what_is_beyond_the_limit_and_read_wrong() -> None:
    other = AdapterRecord(Path("<b>"), False, {"kind": "linear", "card": {"point": "pre-merge/2"}}, 1)
    steps = cards.next_steps(HERE, other, trains=True)
    assert 'data-point="pre-merge/2" data-adapter="&lt;b&gt;"' in steps and "Fit one on your pictures" in steps
    assert cards.next_steps(HERE, None, trains=False) == ""
    wrong = cards.headline(report(distance=1.3), steps=steps)
    assert "⚠" in wrong and "has not learned pictures like this one" in wrong and steps in wrong
    lost = cards.headline(report(distance=1.1), steps=steps)  # LPIPS 0.4
    assert "⚠" not in lost and "Much of this picture is not read here" in lost and steps in lost
    for distance, words in (
        (1.3, "its LPIPS is within 0.35 all the same"),
        (1.1, "Like what this adapter was trained on"),
    ):
        right = replace(report().chosen, distance=distance, scores=report().chosen.scores | {"lpips": 0.1})
        html = cards.headline(replace(report(), reconstructions=[right]), steps=steps)
        assert words in html and "⚠" not in html and steps not in html


def test_names_and_cards_from_anybody_are_escaped() -> None:
    card = {"data": EVIL, "scores": {EVIL: {"lpips": [EVIL, 1, 2], "ssim": [0.9, 0.8, 1.0]}, "n": 512}}
    record = AdapterRecord(Path("x"), False, {"kind": "tokens", "card": {"point": "post-merge/4", **card}}, 123_456)
    row = {"name": EVIL, "point": "post-merge/4", "kind": "tokens", "parameters": 1, "card": card}
    table = table_html(rows([], {EVIL: row}), "", EVIL, []) + adapter_details(row)
    for html in (
        cards.headline(report(EVIL)),
        tile_grid(tiles(report(EVIL)), lambda _: "x.webp"),
        cards.adapter_note(record),
        table,
    ):
        assert "<img src=x" not in html and "&lt;img src=x" in html
    assert "0.900" in cards.adapter_note(record) and "123,456" in cards.adapter_note(record)


@pytest.mark.parametrize(
    "scores",
    [None, [1], 3, *({cards.ANY_SCENES: table} for table in (
        [], {"lpips": "b"}, {"lpips": 3}, {"lpips": [0.1, 0.2]}, {"lpips": [10**400] * 3}, {"lpips": [math.inf] * 3},
        {"mask_iou": []}, {"mask_iou": {"0": 1}}, {"mask_iou": [True] * 3},
    )), *({"n": n, cards.ANY_SCENES: {"lpips": [0.25] * 3}} for n in (10**400, -4, 0, True, "many"))],
)  # fmt: skip
def test_a_card_may_hold_nothing_of_use(scores: Any) -> None:
    card = {"scores": scores}
    note = cards.adapter_note(carded(card))
    assert "parameters" in note and "n =" not in note
    row = {"name": "x", "point": "post-merge/4", "kind": "linear", "parameters": 1, "card": card}
    card["config"] = {"recipe": {"steps": True, "lr": 10**400, "seed": [1]}}
    assert table_html(rows([], {"x": row}), "", "x", []).count(">–</td>") >= 6  # Steps, Rate, Seed, Loss, Data, Time
    case = generate.make_scene("star", "red", 2, "any", "any", "white", True, 5)
    mine = replace(report().chosen, record=carded(card))
    assert "held out" not in cards.metric_cards(replace(report(), reconstructions=[mine]), case)


def test_a_card_may_tell_of_more_data_than_there_are_numbers_for() -> None:
    card = {"data": f"scenes:{'9' * 5000}"}
    assert "scenes:999" in cards.adapter_note(AdapterRecord(Path("x"), True, {"kind": "linear", "card": card}, 1))


def test_a_scene_stands_beside_held_out_scenes_of_its_kind() -> None:
    scores = {
        "n": 400,
        "one object on white": {"lpips": [0.1, 0.0902, 0.1098]},
        "1-5 objects, all backgrounds": {"lpips": [0.3, 0.2, 0.4]},
        "photos": {"lpips": [0.9, 0.8, 1.0]},
    }
    assert [*HELD_OUT] == [cards.ONE_ON_WHITE, cards.ANY_SCENES]
    made_by = replace(report(), reconstructions=[replace(report().chosen, record=carded({"scores": scores}))])
    one = generate.make_scene("star", "red", 1, "any", "any", "white", True, 5)
    many = generate.make_scene("star", "red", 2, "any", "any", "white", True, 5)
    assert "held out 0.100 ± 0.100" in cards.metric_cards(made_by, one)  # 0.0196 / 3.92 · √400
    assert "held out 0.300 ± 1.020" in cards.metric_cards(made_by, many)
    assert "held out" not in cards.metric_cards(made_by, "photo.png") + cards.metric_cards(report(), one)
    del scores["one object on white"], scores["1-5 objects, all backgrounds"]
    assert "held out" not in cards.metric_cards(made_by, one) + cards.metric_cards(made_by, many)


def test_the_curves_of_a_training_that_goes_wrong_are_drawn_as_far_as_they_go() -> None:
    log = [{"step": step, "losses": {"a": loss}} for step, loss in ((1, 2.0), (2, math.inf), (3, math.nan))]
    scores = {"a": {"n": 9, "white": {"lpips": [math.nan, 0.0, 1.0], "mask_iou": [0.5, 0.4, 0.6], "measured": {}}}}
    scores["a"]["white"] |= {"blank": {"mask_iou": 0.0}, "oracle": {"mask_iou": 0.9}}
    run = {"name": "r", "log": log, "held_out": [{"step": 3, "scores": scores}]}
    drawn = json.loads(curves([run]))
    assert [line["name"] for line in drawn["lines"]] == ["a"] and drawn["lines"][0]["loss"] == [[1, 2.0]]
    assert drawn["lines"][0]["mask_iou"] == [[3, 0.5, 0.4, 0.6, 9]]
    assert [chart["key"] for chart in drawn["charts"]] == ["loss", "mask_iou"]  # no held-out image has an LPIPS
    assert (drawn["charts"][1]["blank"], drawn["charts"][1]["oracle"]) == (0.0, 0.9)
    assert [line["name"] for line in json.loads(curves([run, run | {"name": "s"}]))["lines"]] == ["r", "s"]
    begun = json.loads(curves([run | {"log": [], "held_out": []}]))
    assert [chart["key"] for chart in begun["charts"]] == ["loss", "lpips", "mask_iou"] and not begun["lines"]


def test_the_table_has_a_row_for_each_adapter_and_for_each_run_without_any() -> None:
    settings = {"points": ["post-merge/1"], "kinds": ["tokens"], "data": "mixture", "scenes": 2000, "steps": 30}
    settings |= {"lr": 1e-3, "seed": 7, "loss": "latents"}
    run = {"settings": settings, "pictures": {}, "note": "", "message": "", "losses": {"post-merge/1-tokens": 0.25}}
    done = run | {"name": "mine", "state": "done", "adapters": ["mine"], "seconds": 65.0, "note": "<b>"}
    worse = {"n": 9, "white": {"lpips": [0.3, 0.2, 0.4], "gain": {"lpips": [-0.01, -0.02, 0.0]}}}
    of = {"point": "post-merge/1", "kind": "tokens", "parameters": 5}
    adapters = {
        "mine": of | {"name": "mine", "card": {"scores": worse}},
        "theirs": of | {"name": "theirs", "card": {"config": {"recipe": {"steps": "many", "lr": 0.5}}}},
        "broken": {"name": "broken", "problem": "it takes 3, not 4"},
    }
    stopped = run | {"name": "half", "state": "stopped", "done": 3, "total": 30}
    listed = rows([done, stopped], adapters)
    assert [(row.run, row.adapter) for row in listed] == [
        ("mine", "mine"), ("half", None), (None, "theirs"), (None, "broken"),
    ]  # fmt: skip
    first = {column: cell.text for column, cell in listed[0].cells.items()}
    assert first["Status"] == "⚠ no better than a blank page" and first["LPIPS ↓"] == "0.300"
    assert (first["Loss"], first["Time"], first["Data"]) == ("0.25", "1 min 5 s", "2,000 scenes")
    assert "Steps" not in listed[2].cells and listed[2].cells["Rate"].text == "0.5"
    other = done | {"name": "other", "settings": settings | {"seed": 8}, "adapters": ["theirs"]}
    adapters["theirs"]["card"] = {"scores": {"n": 9, "white": {"lpips": [0.2, 0.1, 0.3]}}}
    both = rows([done, other], adapters)
    assert seed_spread("mine", [done, other], both) == "2 seeds of these settings: LPIPS ↓ 0.200 to 0.300"
    assert seed_spread("mine", [done, stopped], listed) == seed_spread("", [done, other], both) == ""
    assert "⚠ <b>mine</b> is no better than a blank page on white: LPIPS 0.300, n = 9." in adapter_details(
        adapters["mine"]
    )
    html = table_html(listed, "mine", "theirs", ["half"])
    assert html.count('class="chosen"') == 1 and html.count(" checked") == 1 and "<b>" not in html
    assert 'data-adapter="theirs" data-key="None theirs" aria-pressed="true"' in table_html(listed, "", "theirs", [])


def test_a_note_tells_n_intervals_training_size_and_what_it_stands_in_for() -> None:
    card = {
        "point": "post-merge/4",
        "data": "scenes:32768+photos:mine*0.5",
        "scores": {"a": {"lpips": [0.5, 0.4, 0.6]}, "n": 512},
    }
    note = cards.adapter_note(AdapterRecord(Path("x"), True, {"kind": "linear", "card": card}, 7), "tokens")
    for words in (
        "32,768 scenes, photos × 0.5",
        "n = 512",
        "0.400–0.600",
        "No tokens adapter here: linear in its place",
    ):
        assert words in note


def test_a_layer_without_adapters_offers_the_nearest_of_its_stage() -> None:
    html = cards.missing_note(HERE, [POINTS[2], POINTS[7], POINTS[12]])
    assert html.index('data-point="post-merge/3"') < html.index('data-point="post-merge/8"')
    assert "pre-merge" not in html


@pytest.mark.parametrize("points", [POINTS, [ExtractionPoint(p.stage, p.layer * 7) for p in POINTS]])
def test_the_diagram_marks_one_layer_and_all_that_have_adapters(points: list[ExtractionPoint]) -> None:
    svg = ET.fromstring(diagram(points, points[::3], points[5]))
    cells = {g.get("data-point"): g for g in svg.iter("g")}
    assert list(cells) == [str(p) for p in points]
    assert [p for p, g in cells.items() if "here" in str(g[2].get("class"))] == [str(points[5])]
    assert sum(e.get("class") == "dot" for e in svg.iter("circle")) == len(points[::3])


def test_tiles_are_the_eight_of_the_strip_and_say_what_is_missing() -> None:
    drawn = tiles(report())
    assert [t.title for t in drawn] == [
        "original", "oracle", "linear", "pooled", "tokens", "difference", "LPIPS map", "masks",
    ]  # fmt: skip
    assert [t.title for t in drawn if t.picture is None] == ["linear", "pooled"]
    assert drawn[2].note == "none at this layer" and [t.title for t in drawn if t.marked] == ["tokens"]
    assert sheet(drawn, "heading").width > 8 * 150
    assert [t.title for t in tiles(report("mine"))][5] == "mine"


def test_an_own_adapter_is_offered_and_read_when_it_is_asked_for() -> None:
    own = AdapterRecord(Path("runs/mine"), False, {"kind": "linear", "card": {"point": str(HERE)}}, 1, Path("runs"))
    [tile] = [tile for tile in tiles(report(), [own]) if tile.offer]
    assert tile.title == "mine" and tile.picture is None
    html = tile_grid([tile], str)
    assert 'data-point="post-merge/4" data-adapter="mine"' in html and "<img" not in html


def test_what_survives_is_said_in_words_by_the_scores() -> None:
    seen = report(iou=0.96)
    same = replace(seen, reconstructions=[replace(seen.chosen, image=seen.original)])
    assert ">Colours survive; shapes survive; fine texture survives.<" in in_words(same)
    dark = replace(seen, reconstructions=[replace(scored("tokens", 0.4, 0.5, 0.7), image=seen.original * 0.5)])
    assert ">Colours are lost; shapes are lost; fine texture is lost.<" in in_words(dark)
    photo = replace(seen.chosen, scores=seen.chosen.scores | {"mask_iou": None, "edge_f1": 0.6, "haarpsi": 0.7})
    shifted = replace(seen, reconstructions=[replace(photo, image=seen.original + 0.04)])
    assert ">Colours drift; outlines are soft; fine texture is blurred.<" in in_words(shifted)
    assert colour_difference(seen.original, seen.original + 0.04) == pytest.approx(0.04)


@pytest.mark.parametrize("name", ["tokens", "mine"])
def test_adapters_of_one_name_are_all_shown_and_one_is_marked(name: str) -> None:
    first, second = scored(name, 0.4, 0.8, 0.5), scored(name, 0.3, 0.8, 0.5)
    marked = [t for t in tiles(replace(report(), reconstructions=[first, second])) if t.title == name]
    assert [(t.note[:11], t.marked) for t in marked] == [("LPIPS 0.400", True), ("LPIPS 0.300", False)]


def test_heat_is_dark_at_nothing_and_bright_at_the_top() -> None:
    pixels = heat(torch.tensor([[0.0, 0.5, 1.0, 7.0]]), 1.0).load()
    assert pixels is not None
    assert [pixels[i, 0] for i in (0, 2, 3)] == [(0, 34, 78), (254, 232, 56), (254, 232, 56)]
    assert pixels[1, 0] == (125, 124, 116)  # halfway between the two middle colours


def test_masks_tell_both_lost_and_added_apart() -> None:
    original, other = torch.zeros(24, 24, dtype=torch.bool), torch.zeros(24, 24, dtype=torch.bool)
    original[:12], other[:, :12] = True, True
    overlay = masks_over(original, other)
    corners = [set(overlay.crop(box).getdata()) for box in ((0, 0, 12, 12), (12, 0, 24, 12), (0, 12, 12, 24))]
    assert corners == [{(120, 130, 140)}, {(0, 114, 178), (255, 255, 255)}, {(213, 94, 0), (255, 255, 255)}]
    assert set(overlay.crop((12, 12, 24, 24)).getdata()) == {(255, 255, 255)}


def test_a_scene_is_the_same_each_time_and_holds_what_was_chosen() -> None:
    chosen = ("star", "red", 2, "large", "top left", "texture", True, 5)
    scene = generate.make_scene(*chosen)
    assert scene == generate.make_scene(*chosen) != generate.make_scene(*chosen[:-1], 6)
    assert [(o["shape"], o["color"]) for o in scene["objects"]] == [("star", "red")] * 2
    picture, mask = generate.draw(scene)
    assert picture.size == (224, 224) and mask.shape == (224, 224) and 0 < mask.float().mean() < 1


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, "heart"), (1, "mauve"), (2, 0), (2, 6), (2, 1.5), (3, "huge"), (4, "above"), (5, "photo"), (7, -1), (7, None)],
)
def test_an_impossible_scene_is_one_sentence(place: int, value: Any) -> None:
    values: list[Any] = ["any", "any", 1, "any", "any", "white", True, 0]
    values[place] = value
    with pytest.raises(InputError, match=r"\.$"):
        generate.make_scene(*values)


def test_inputs_keep_our_rules_in_the_copies_that_gradio_makes_for_a_session() -> None:
    with gr.Blocks():
        ours = [RawImage(), FreeSlider(), FreeDropdown(), FreeRadio(), FreeCheckboxGroup()]
        image, slider, *choices = copies = [component.__class__(**component.constructor_args) for component in ours]
        names = ["image", "slider", "dropdown", "radio", "checkboxgroup"]
        assert [copy.get_config()["name"] for copy in copies] == names
        assert [choice.preprocess("gone since") for choice in choices] == ["gone since"] * 3
        assert image.preprocess(ImageData(path="no picture.txt")) == "no picture.txt" and slider.preprocess(999) == 999


def test_a_run_stopped_while_extracting_tells_pictures_and_one_with_own_ones_its_split() -> None:
    run = {"name": "mine", "message": "", "log": [], "done": 128, "total": 2000, "seconds": 3.0}
    html = progress(run | {"state": "stopped", "unit": "pictures"}, {})
    assert "128 of 2,000 pictures" in html and "stopped while extracting, 6 %" in html
    split = {"learn": 11, "held_out": 3, "asked": 32}
    html = progress(run | {"state": "stopped", "pictures": split}, {})
    assert "128 of 2,000 steps" in html
    assert "learns from 11 pictures, 3 held out instead of 32: at most a quarter" in html
