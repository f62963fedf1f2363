"""Floors of one picture: what is remembered are training scenes, and the nearest in latents is found again."""

import pytest
import torch
from house import build_house, save_tiny_adapter

from foresight.data.images import resize
from foresight.data.render import render
from foresight.data.scenes import Scenes, take
from foresight.inspection.baselines import MIXTURE, Baselines, mixture
from foresight.metrics.scores import SCORES, compare
from foresight.models.points import ExtractionPoint
from foresight.ui.inspect.baselines import ResultSummary, baselines_html

POINTS = [ExtractionPoint("pre-merge", 2), ExtractionPoint("post-merge", 1)]
COUNT = 12


@pytest.fixture(scope="module")
def house(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    return folder, build_house(tiny.folder, folder)


@pytest.fixture(scope="module")
def memory(house):
    baselines = Baselines(house[1], COUNT)
    assert list(baselines.gather()) == [0, 3, 6, 9]  # a batch of each part of the mixture
    assert list(baselines.gather()) == []  # once is enough
    return baselines


def remembered(size=(224, 224)):
    """The scenes, as anybody draws them from seed, split and factors."""
    parts = [take(COUNT // 4, k, spec, "train").resized(size) for k, spec in enumerate(MIXTURE)]
    return torch.cat([render(part).images.float() / 255 for part in parts])


@pytest.mark.parametrize("point", POINTS)
def test_a_remembered_scene_is_its_own_nearest(memory, point):
    for picture in remembered()[::5]:
        recalled = memory.recall(picture, point, None)
        assert torch.equal(recalled.nearest.image, picture) and recalled.count == COUNT
        assert recalled.nearest.scores["lpips"] == pytest.approx(0, abs=1e-5)
        assert Scenes.from_description(recalled.scene).split() == ["train"]


def test_the_floors_are_scored_as_any_picture_is(memory):
    scene = take(1, 9, MIXTURE[3], "test")
    drawn = render(scene)
    original, mask = drawn.images[0].float() / 255, drawn.mask[0]
    recalled = memory.recall(original, POINTS[1], mask)
    pictures = torch.stack([remembered().mean(0), recalled.nearest.image])
    assert torch.allclose(recalled.mean.image, pictures[0], atol=1e-5)
    assert not torch.equal(recalled.nearest.image, original)  # no test scene is among those remembered
    expected = compare(original[None], pictures, mask[None]).scores
    for name in SCORES:
        values = [recalled.mean.scores[name], recalled.nearest.scores[name]]
        assert values == pytest.approx(expected[name].tolist(), abs=1e-4) or values == [None, None], name
    assert recalled.mean.scores["edge_f1"] is None is recalled.nearest.scores["edge_f1"]  # the objects are known


def test_a_picture_of_another_shape_has_its_nearest_in_that_shape(memory):
    wide = remembered((168, 308))[4]
    recalled = memory.recall(wide, POINTS[1], None)
    assert recalled.nearest.image.shape == recalled.mean.image.shape == wide.shape
    assert torch.equal(
        recalled.mean.image, resize(memory.recall(remembered()[0], POINTS[1], None).mean.image[None], (168, 308))[0]
    )


def test_a_point_that_got_an_adapter_later_is_gathered_too(house, memory):
    folder, _ = house
    save_tiny_adapter(folder / "runs/late", "tokens", "post-merge/3", folder)
    assert list(memory.gather()) == [0, 3, 6, 9]
    picture = remembered()[7]
    assert torch.equal(memory.recall(picture, ExtractionPoint("post-merge", 3), None).nearest.image, picture)


def test_the_mixture_is_the_same_whoever_draws_it_and_of_its_split():
    parts = mixture(10, 3, "train")
    assert [len(part) for part in parts] == [3] * 4 and {s for part in parts for s in part.split()} == {"train"}
    assert torch.equal(parts[2].place, take(3, 14, MIXTURE[2], "train").place)


def test_the_panel_says_whether_an_adapter_reads_or_remembers(memory, house):
    picture = remembered()[0]
    report = house[1].inspect(picture, POINTS[1], "linear")
    summary, recalled = ResultSummary.of(report, None), memory.recall(picture, POINTS[1], None)
    html = baselines_html(summary, recalled, lambda image: "a.webp")  # of a remembered scene: it is its own nearest
    assert "⚠ linear is no better than a memory here" in html and f"the nearest of {COUNT} training scenes" in html
    better = ResultSummary(None, POINTS[1], "<b>", {"<b>": dict.fromkeys(SCORES, -1.0)})
    html = baselines_html(better, recalled, lambda image: "a.webp")
    assert "&lt;b&gt; reads this picture" in html and "<b> reads" not in html
