"""The Compare tab's endpoint over HTTP, and its HTML: the library's numbers, nothing from outside unescaped."""

from dataclasses import replace

import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from house import build_house, save_tiny_adapter
from tabs import serve_tab

from foresight.data.images import load_image, load_mask, to_pil
from foresight.data.render import render
from foresight.data.scenes import SceneSpec, sample
from foresight.inspection.readout import Reconstruction
from foresight.metrics.masks import NOT_MEASURABLE
from foresight.metrics.scores import SCORES
from foresight.settings import Settings
from foresight.ui.compare import grids
from foresight.ui.compare.grids import ComparedImage, Comparison, title
from foresight.ui.compare.tab import CompareTab
from foresight.ui.plots import depth_chart


@pytest.fixture(scope="module")
def inspector(tiny, tmp_path_factory):
    house = tmp_path_factory.mktemp("house")
    inspector = build_house(tiny.folder, house)
    save_tiny_adapter(house / "runs/<b>mine", "tokens", "post-merge/3", house, seed=1)
    return inspector


@pytest.fixture(scope="module")
def client(inspector, tmp_path_factory):
    with serve_tab(lambda navigation: CompareTab(inspector, navigation, Settings())) as url:
        yield Client(url, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    drawn = render(sample(range(1), 3, SceneSpec(objects=(2, 2), backgrounds=("white",))))
    to_pil(drawn.images[0] / 255).save(folder / "image.png")
    to_pil(drawn.mask[0].float().expand(3, -1, -1)).save(folder / "mask.png")
    return folder


def test_all_points_are_scored_as_the_library_scores_them(client, inspector, picture):
    scores, pictures = client.predict(
        handle_file(picture / "image.png"), None, handle_file(picture / "mask.png"), api_name="/compare"
    )
    oracle, blank, *tiles = inspector.sweep_layers(
        load_image(picture / "image.png"), inspector.adapters(), load_mask(picture / "mask.png")
    )
    assert {k: scores["oracle"][k] for k in SCORES} == pytest.approx(oracle.scores, abs=1e-4)
    assert {k: scores["blank"][k] for k in SCORES} == pytest.approx(blank.scores, abs=1e-4)
    assert [(t["point"], t["adapter"]) for t in scores["tiles"]] == [(str(t.record.point), t.name) for t in tiles]
    for theirs, ours in zip(scores["tiles"], tiles, strict=True):
        assert {k: theirs[k] for k in SCORES} == pytest.approx(ours.scores, abs=1e-4)
    assert [p["caption"] for p in pictures] == [title(t.record) for t in tiles]


def test_some_adapters_only(client, picture):
    scores, pictures = client.predict(handle_file(picture / "image.png"), ["linear"], api_name="/compare")
    assert [(t["point"], t["adapter"]) for t in scores["tiles"]] == [
        ("pre-merge/2", "linear"),
        ("post-merge/1", "linear"),
    ]
    assert len(pictures) == 2


def test_the_endpoint_tells_how_far_it_is_so_that_it_can_be_cancelled(client, picture):
    job = client.submit(handle_file(picture / "image.png"), ["linear"], api_name="/compare")
    job.result()
    assert [progress for progress, _ in job.outputs()[:-1]] == [{"done": n, "of": 4} for n in (1, 2, 3, 4)]


def test_bad_input_is_one_sentence(client, picture, tmp_path):
    (tmp_path / "text.png").write_bytes(b"no picture")
    with pytest.raises(AppError, match="“text.png” is not a JPEG"):
        client.predict(handle_file(tmp_path / "text.png"), api_name="/compare")
    with pytest.raises(AppError, match="There is no adapter 'huge'"):
        client.predict(handle_file(picture / "image.png"), ["huge"], api_name="/compare")


def comparison(records, done, far=False):
    lpips = 0.4 if far else 0.1
    scores = {"lpips": lpips, "haarpsi": 0.5, "ssim": 0.9, "psnr": 20.0, "mask_iou": None, "edge_f1": None}
    none = torch.empty(0)
    one = Reconstruction("oracle", none, scores, scores, none, none, none, "no <i>object</i> stands out")
    tiles = [replace(one, name=r.name, record=r, distance=2.0, far=1.0 if far else 3.0) for r in records[:done]]
    image = ComparedImage(None, "/original.png")
    for i, tile in enumerate([one, replace(one, name="blank"), *tiles]):
        image.add(tile, f"/{i}.png")
    return Comparison([image], records)


def test_the_grid_keeps_room_for_every_tile_and_escapes_names(inspector):
    records = inspector.adapters()
    early, full = (grids.grid(comparison(records, n)) for n in (1, len(records)))
    assert early.count("waiting") == len(records) - 1 and full.count("waiting") == 0
    assert early.count("<tr>") == full.count("<tr>") == 1 + 5  # linear before the merger, three kinds and mine after
    assert full.count("data-do=") == 3 * len(records)
    assert "<b>mine" not in full and "&lt;b&gt;mine" in full
    assert "1 of 5 tiles" in grids.head(comparison(records, 1)) and "<i>object" not in grids.head(
        comparison(records, 1)
    )
    assert "⚠ 5 of them unlike" in grids.head(comparison(records, 5, far=True)) and "⚠" not in grids.head(
        comparison(records, 5)
    )


def test_what_cannot_be_measured_is_counted_in_the_head(inspector):
    compared = comparison(inspector.adapters(), 2)
    reasons = [NOT_MEASURABLE, None, NOT_MEASURABLE, None]  # oracle, blank page, two adapters
    for i, reason in enumerate(reasons):
        tile = compared.tiles[i]
        compared.images[0].tiles[i] = replace(tile, reconstruction=replace(tile.reconstruction, mask_reason=reason))
    head = grids.head(compared)
    assert f"Mask IoU not measurable in 1 of 2 tiles: {NOT_MEASURABLE}" in head and "No mask IoU" not in head
    assert f'<abbr title="{NOT_MEASURABLE}">–</abbr>' in grids.grid(compared)


def test_two_sides_or_none(inspector):
    records = inspector.adapters()
    compared = comparison(records, 2)
    html = grids.pair(compared)
    assert html.count('class="over"') == 2 and html.count("/original.png") == 2 and html.count('type="range"') == 1
    assert compared.sides == (title(records[0]), title(records[1]))  # the first and the last that were made
    compared.left, compared.right = "blank", title(records[-1])  # the latter is not made yet
    assert compared.sides == ("blank", title(records[1])) and "right=" in grids.head(compared)
    del compared.images[0].tiles[2:]
    assert grids.pair(compared) == ""


def test_two_pictures_stand_at_the_point_where_they_differ_most(inspector):
    records = inspector.adapters()
    compared = comparison(records, len(records))
    second = ComparedImage(None, "/second.png", second=True)
    for i, tile in enumerate(compared.tiles):
        worse = {"lpips": 0.1 + 0.1 * i}  # read right by the first two adapters alone
        second.add(replace(tile.reconstruction, scores=tile.reconstruction.scores | worse), f"/second-{i}.png")
    compared.images.append(second)
    assert compared.sides == (title(records[-1]), title(records[-1], second=True))
    html = grids.pair(compared)
    assert html.count("/original.png") == html.count("/second.png") == 1
    assert grids.grid(compared).count("<tr>") == 1 + 2 * 5 and "10 of 10 tiles" in grids.head(compared)
    linear = [str(record.point) for record in records if record.name == "linear"]
    assert f"the first picture at every layer, the second up to {linear[0]} and no deeper" in grids.verdict(compared)
    assert {trace.name for trace in depth_chart([tile.named for tile in compared.tiles]).data} >= {
        "linear · second",
        "floor: blank page, second",
    }
    second.tiles.pop()
    assert grids.verdict(compared) == ""  # nobody knows yet


def test_the_chart_has_a_line_for_each_adapter_and_stage_and_both_ends(inspector):
    tiles = [tile.reconstruction for tile in comparison(inspector.adapters(), 5).tiles]
    figure = depth_chart(tiles)
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(named) == sorted(["linear", "tokens", "pooled", "<b>mine", "floor: blank page", "ceiling: oracle"])
    linear = [trace for trace in figure.data if trace.name == "linear" and trace.yaxis == "y"]
    assert [list(trace.x) for trace in linear] == [["pre 2"], ["post 1"]]
    titles = [note.text for note in figure.layout.annotations]
    assert titles == ["LPIPS ↓", "HaarPSI ↑", "SSIM ↑", "PSNR, dB ↑"]  # none has a mask IoU, so there is no chart of it
    assert len(list(figure.select_xaxes())) == 4
