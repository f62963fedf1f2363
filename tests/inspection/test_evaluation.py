"""Many pictures against one inspected by itself, and what is said of their means."""

from dataclasses import replace

import pytest
import torch
from house import build_house
from skimage.metrics import structural_similarity

from foresight.data.archive import Broken, File
from foresight.data.images import to_pil
from foresight.data.render import render
from foresight.data.scenes import Scenes, SceneSpec, sample, take
from foresight.data.sources import folder_files
from foresight.errors import InputError
from foresight.inspection.evaluation import Evaluated, evaluate, file_samples, scene_baselines, scene_samples, summarise
from foresight.metrics.baselines import TrainingBaselines
from foresight.metrics.fidelity import psnr
from foresight.metrics.masks import NOT_MEASURABLE
from foresight.metrics.matching import score_objects, territories
from foresight.metrics.scores import SCORES

SPEC = SceneSpec(objects=(1, 2), backgrounds=("white",), size=(84, 112))


@pytest.fixture(scope="module")
def inspector(tiny, tmp_path_factory):
    return build_house(tiny.folder, tmp_path_factory.mktemp("house"))


@pytest.fixture
def folder(tmp_path):
    """Three pictures of two sizes, a broken one among them, and a file that is none."""
    wide, square = (render(sample(range(2), 0, SceneSpec(size=s))).images for s in ((56, 112), (84, 84)))
    for name, picture in (("a.png", wide[0]), ("b.PNG", wide[1]), ("d.png", square[0])):
        to_pil(picture / 255).save(tmp_path / name)
    (tmp_path / "c.jpg").write_bytes((tmp_path / "a.png").read_bytes()[:300])
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_rows_are_inspections(inspector):
    record, samples = inspector.registry.find("linear"), list(scene_samples(3, 0, SPEC))
    samples[1].mask[:] = False  # not what would be found in the picture
    rows = list(evaluate(inspector, record, samples, batch=2))
    assert [row.name for row in rows] == [s.name for s in samples]
    assert [row.mask_reason for row in rows] == [None, "the given mask is empty", None]
    for row, given in zip(rows, samples, strict=True):
        report = inspector.inspect(given.image, "post-merge/1", "linear", given.mask, others=())
        assert row.scores["adapter"] == pytest.approx(report.chosen.scores, abs=1e-3)
        assert row.scores["oracle"] == pytest.approx(report.oracle.scores, abs=1e-3)
        assert row.scores["blank"] == pytest.approx(report.blank.scores, abs=1e-3)
        assert row.skill == pytest.approx(report.chosen.skill, abs=1e-2)
        torch.testing.assert_close(row.reconstruction, report.chosen.image, atol=1e-3, rtol=0)
        assert row.seconds > 0 and torch.equal(row.original, given.image)
        mask = None if row.mask_reason else report.chosen.mask
        objects = score_objects(given.source, territories(given.objects), mask, report.chosen.lpips_map)
        for part, golden in zip(row.objects, objects, strict=True):
            assert (part.iou, part.lpips) == (
                pytest.approx(golden.iou, abs=0.02),
                pytest.approx(golden.lpips, abs=1e-3),
            )
        assert (row.distance, row.far) == pytest.approx((report.chosen.distance, report.chosen.far), rel=1e-3)
        both, either = row.plane.double()  # 28 × 28 cells of one size each
        if row.mask_reason is None and float(either.sum()):
            assert float(both.sum() / either.sum()) == pytest.approx(row.scores["adapter"]["mask_iou"], abs=0.02)


def test_a_size_is_checked_once(inspector, monkeypatch):
    sizes = []
    monkeypatch.setattr(inspector, "check_size", sizes.append)
    samples = [*scene_samples(3, 0, SPEC), *scene_samples(1, 0, SceneSpec(size=(84, 84)))]
    assert len(list(evaluate(inspector, inspector.registry.find("linear"), samples))) == 4
    assert sizes == [samples[0].size, samples[3].size] and sizes[0] != sizes[1]


def test_a_batchs_rows_are_those_of_one_image_at_a_time(inspector):
    record, samples = inspector.registry.find("linear"), list(scene_samples(4, 0, SPEC))
    for i in (1, 2):  # without what is known of a scene, as a file is
        samples[i] = replace(samples[i], mask=None, source="a.png", objects=None)
    samples[3].mask[:] = False
    floors = scene_baselines(0, SPEC)
    together, alone = (list(evaluate(inspector, record, samples, floors, batch)) for batch in (4, 1))
    for row, golden in zip(together, alone, strict=True):
        assert row.scores.keys() == {"adapter", "oracle", "blank", "mean", "nearest"}
        for name, scores in golden.scores.items():
            assert row.scores[name] == pytest.approx(scores, abs=1e-3), name
        assert (row.name, row.mask_reason) == (golden.name, golden.mask_reason)
        assert row.distance == pytest.approx(golden.distance, rel=1e-3)
        torch.testing.assert_close(row.plane, golden.plane, atol=0.02, rtol=0)
        torch.testing.assert_close(row.reconstruction, golden.reconstruction, atol=1e-3, rtol=0)
        assert row.reconstruction.untyped_storage().nbytes() == row.reconstruction.nbytes  # it keeps no other


def test_a_row_knows_its_scene_and_each_of_its_objects(inspector):
    spec = SceneSpec(objects=(2, 3), backgrounds=("plain",))
    samples = list(scene_samples(2, 5, spec))
    for row, given in zip(evaluate(inspector, inspector.registry.find("linear"), samples), samples, strict=True):
        rendered = render(Scenes.from_description(row.source))
        assert torch.equal(rendered.images[0] / 255, row.original)
        assert torch.equal(rendered.visible[0], given.objects) and torch.equal(given.objects.any(0), given.mask)
        assert [(o.shape, o.color) for o in row.objects] == [(o["shape"], o["color"]) for o in row.source["objects"]]
        assert all(o.lpips is not None for o in row.objects)
        flat = row.flat()
        assert flat["objects"] == len(row.objects) and flat["background"] == row.background == "plain"
        assert flat["object_color"] == "; ".join(o.color for o in row.objects)
        line = row.without_pixels()
        assert line.flat() == flat and not hasattr(line, "original")


def test_files_out_of_an_archive_keep_their_names(inspector, folder):
    given = [File("deep/er.png", folder / "a.png"), Broken("x.png", "it is a link."), File("cut.jpg", folder / "c.jpg")]
    row, link, cut = evaluate(inspector, inspector.registry.find("linear"), file_samples(given))
    assert (row.name, row.source, row.objects) == ("deep/er.png", str(folder / "a.png"), ())
    assert row.flat()["background"] is None is row.flat()["object_iou"]
    assert link == given[1] and cut == Broken("cut.jpg", "the picture is broken or cut short, and cannot be decoded.")


def test_broken_files_are_reported_and_the_rest_evaluated(inspector, folder):
    files = folder_files(folder)
    rows = list(evaluate(inspector, inspector.registry.find("linear"), file_samples(files)))
    assert [row.name for row in rows] == ["a.png", "b.PNG", "c.jpg", "d.png"]
    assert [type(row) for row in rows] == [Evaluated, Evaluated, Broken, Evaluated]
    assert rows[2].reason == "“c.jpg” is broken or cut short, and cannot be decoded."
    assert "mean" not in rows[0].scores  # nothing is known of what was trained on


def test_folders_without_pictures_are_reported(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        folder_files(tmp_path / "none")
    with pytest.raises(InputError, match="has no pictures"):
        folder_files(tmp_path)


def test_scenes_are_the_test_splits_and_the_renderers_masks():
    samples, scenes = list(scene_samples(40, 7, SPEC)), take(40, 7, SPEC, "test")
    assert set(scenes.split()) == {"test"}
    assert [s.name for s in samples] == [f"scene {i} ({scenes.digest(i)})" for i in range(40)]
    again = list(scene_samples(34, 7, SPEC))
    assert all(torch.equal(a.image, b.image) for a, b in zip(samples, again, strict=False))
    square = next(scene_samples(1, 7, SceneSpec()))  # at 224², what was rendered is what is seen
    drawn = render(take(1, 7, SceneSpec(), "test"))
    assert torch.equal(square.image, drawn.images[0] / 255) and torch.equal(square.mask, drawn.mask[0])


def test_floors_know_only_the_training_split(inspector):
    floors, samples = scene_baselines(0, SPEC), list(scene_samples(2, 0, SPEC))
    train = take(len(floors.images), 0, SPEC, "train")
    assert set(train.split()) == {"train"}
    assert torch.equal(floors.images[:3], render(train[:3].resized((196, 252))).images / 255)
    row = next(evaluate(inspector, inspector.registry.find("linear"), samples, floors))
    x, mean = (p.permute(1, 2, 0).numpy() for p in (samples[0].image, floors.images.mean(0)))
    theirs = structural_similarity(
        x, mean, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2, data_range=1
    )
    assert row.scores["mean"]["ssim"] == pytest.approx(theirs, abs=1e-4)
    others = psnr(samples[0].image[None].expand_as(floors.images), floors.images)
    assert row.flat()["nearest_psnr"] == pytest.approx(float(others.max()), abs=1e-3)


def test_the_nearest_is_the_one_of_least_error():
    training = torch.rand(20, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    floors = TrainingBaselines(training)
    chosen = training[[0, 7, 19]]
    assert torch.equal(floors.nearest((chosen * 0.9 + 0.05).clamp(0, 1)), chosen)
    torch.testing.assert_close(floors.mean, sum(training) / 20)
    grey = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 3, 28, 28)
    assert torch.equal(TrainingBaselines(grey).nearest(torch.full((1, 3, 28, 28), 0.9)), grey[2:])


def flat(lpips, iou, reason=None):
    scores = {"lpips": lpips, "haarpsi": 0.5, "ssim": 1 - lpips, "psnr": 20.0, "mask_iou": iou, "edge_f1": 0.5}
    row = {"image": "a", **scores, **{f"skill_{name}": 9.0 for name in SCORES}}
    row |= {f"oracle_{name}": 0.0 if name == "lpips" else 1.0 for name in SCORES}
    row |= {f"blank_{name}": 0.5 for name in SCORES}
    if iou is None:
        row |= {"oracle_mask_iou": None, "blank_mask_iou": None}
    return row | {"mask_reason": reason, "seconds": 1.0}


def test_means_intervals_and_the_skill_of_means():
    summary = summarise([flat(0.1, 0.5), flat(0.3, 1.0), flat(0.2, None, "no object stands out")])
    assert summary["pictures"] == 3 and summary["without_mask"] == {"no object stands out": 1}
    mean, low, high = summary["scores"]["lpips"]
    assert mean == pytest.approx(0.2) and (low, high) == pytest.approx((0.1, 0.3))
    assert summary["scores"]["mask_iou"][0] == pytest.approx(0.75)  # of the two that have one
    assert summary["skill"]["lpips"] == pytest.approx((0.2 - 0.5) / (0 - 0.5))
    assert summary["skill"]["mask_iou"] == pytest.approx(0.5)
    assert not {name for name in summary["scores"] if "skill" in name or name == "seconds"}
    nobody = summarise([flat(0.1, None, "no object stands out")])
    assert nobody["scores"]["mask_iou"] is None is nobody["skill"]["mask_iou"]
    with pytest.raises(InputError, match="no picture"):
        summarise([])


def test_a_mask_iou_that_cannot_be_measured_is_counted_apart_and_in_no_mean():
    missing = flat(0.2, None, NOT_MEASURABLE) | {"oracle_mask_iou": 0.6, "blank_mask_iou": 0.0}
    scored = [flat(0.1, 0.0) | {"blank_mask_iou": 0.0}, flat(0.3, 0.5) | {"blank_mask_iou": 0.0}]
    summary = summarise([*scored, missing, flat(0.4, None, "no object stands out")])
    assert summary["not_measurable"] == 1 and summary["without_mask"] == {"no object stands out": 1}
    assert summary["scores"]["mask_iou"][0] == pytest.approx(0.25)  # a 0 that was measured counts
    assert summary["measured"] == dict.fromkeys(summary["scores"], 4) | {
        "mask_iou": 2,
        "oracle_mask_iou": 3,
        "blank_mask_iou": 3,
    }
    assert summary["skill"]["mask_iou"] == pytest.approx(0.25)  # the oracle's 0.6 is of a picture without the score


def test_what_cannot_be_measured_is_in_no_object_score_and_not_on_the_heat_map(inspector, monkeypatch):
    [given] = scene_samples(1, 0, SPEC)
    border = torch.rand(3, *given.image.shape[1:], generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(inspector, "round_trip", lambda originals: originals)
    monkeypatch.setattr(inspector, "decode", lambda z, size: border[None])
    [row] = evaluate(inspector, inspector.registry.find("linear"), [given])
    assert row.mask_reason == NOT_MEASURABLE and row.scores["oracle"]["mask_iou"] > 0.9
    assert row.scores["adapter"]["mask_iou"] is None is row.skill["mask_iou"]
    assert row.objects and {thing.iou for thing in row.objects} == {None} and not row.plane.any()
    assert row.flat()["mask_reason"] == NOT_MEASURABLE
