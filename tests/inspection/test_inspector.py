"""One inspection against its parts, called one by one."""

import json

import pytest
import torch
import torch.nn.functional as F
from house import build_house, save_tiny_adapter
from PIL import Image

from foresight.adapters.checkpoint import load_adapter
from foresight.data.images import resize, to_pil
from foresight.data.render import render
from foresight.data.scenes import SceneSpec, sample
from foresight.errors import InputError
from foresight.inspection.inspector import Inspector
from foresight.inspection.readout import Clock, prepare
from foresight.metrics.baselines import skill
from foresight.metrics.scores import SCORES, score

SPEC = SceneSpec(objects=(1, 2), backgrounds=("white",))


@pytest.fixture(scope="module")
def inspector(tiny, tmp_path_factory):
    return build_house(tiny.folder, tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="module")
def drawn():
    return render(sample(range(3), 0, SPEC))


@pytest.fixture(scope="module")
def pictures(drawn):
    return drawn.images.float() / 255


@pytest.fixture(scope="module")
def report(inspector, pictures):
    return inspector.inspect(pictures[0], "post-merge/1", "linear")


def test_pictures_are_what_the_parts_make(report, inspector, pictures):
    vae, x = inspector.vae, pictures[:1]
    assert [r.name for r in report.reconstructions] == ["linear", "tokens", "pooled"]
    latents = inspector.vlm.latents(x, ["post-merge/1"])["post-merge/1"]
    for reconstruction in report.reconstructions:
        z = load_adapter(reconstruction.record.folder)(latents)
        torch.testing.assert_close(reconstruction.image, resize(vae.decode(z), (224, 224))[0])
        assert reconstruction.card["point"] == "post-merge/1"
    z = vae.encode(resize(x, (256, 256)))
    torch.testing.assert_close(report.oracle.image, resize(vae.decode(z), (224, 224))[0])
    assert torch.equal(report.blank.image, torch.ones(3, 224, 224))
    assert torch.equal(report.original, x[0])


def test_scores_are_those_of_each_picture_alone(report, pictures):
    for reconstruction in (*report.reconstructions, report.oracle, report.blank):
        assert reconstruction.scores == pytest.approx(score(pictures[0], reconstruction.image), abs=1e-4)
        torch.testing.assert_close(reconstruction.difference, (reconstruction.image - pictures[0]).abs().mean(0))
        assert reconstruction.lpips_map.shape == reconstruction.mask.shape == (224, 224)
    # This VAE was never trained: a blank page beats its oracle, so there is nothing to gain.
    assert report.oracle.scores["lpips"] > report.blank.scores["lpips"]
    assert report.reconstructions[0].skill == dict.fromkeys(report.blank.scores)


def test_skills_lie_between_the_blank_page_and_the_oracle():
    blank = {"lpips": 0.5, "ssim": 0.8, "psnr": 10.0, "mask_iou": 0.0}
    oracle = {"lpips": 0.1, "ssim": 1.0, "psnr": 30.0, "mask_iou": 0.8}
    scores = {"lpips": 0.2, "ssim": 0.7, "psnr": 15.0, "mask_iou": None}
    skills = {name: skill(name, scores[name], blank[name], oracle[name]) for name in scores}
    assert skills == {"lpips": pytest.approx(0.75), "ssim": pytest.approx(-0.5), "psnr": 0.25, "mask_iou": None}


def test_tells_how_far_the_latents_are(report, inspector, pictures):
    latents = inspector.vlm.latents(pictures[:1], ["post-merge/1"])["post-merge/1"]
    adapter = load_adapter(report.chosen.record.folder)
    assert report.chosen.distance == pytest.approx(float(adapter.distance(latents)), rel=1e-4)
    assert report.chosen.far == 0.5


def test_the_line_of_json(report):
    line = json.loads(json.dumps(report.as_json("a.png", "b.png")))
    due = {"image", "point", "adapter", *SCORES, "skill", "oracle", "blank", "reconstruction", "seconds"}
    assert due <= line.keys()
    assert (line["point"], line["adapter"], line["reconstruction"]) == ("post-merge/1", "linear", "b.png")
    assert set(line["oracle"]) == set(line["blank"]) == set(SCORES)
    stages = {k: v for k, v in report.seconds.items() if k != "total"}
    assert set(stages) == {"latents", "adapter", "oracle", "decode", "scores"}
    assert sum(stages.values()) < line["seconds"]


def test_another_picture_gets_its_own_oracle(inspector, pictures):
    first, second, again = (inspector.inspect(pictures[i], adapter="linear", others=()) for i in (1, 2, 1))
    assert not torch.equal(first.oracle.image, second.oracle.image)
    assert torch.equal(first.oracle.image, again.oracle.image)
    assert [r.name for r in first.reconstructions] == ["linear"]


def test_a_picture_of_lately_needs_no_second_oracle(inspector, pictures, monkeypatch):
    first = inspector.inspect(pictures[1], adapter="linear", others=())
    inspector.inspect(pictures[2], adapter="linear", others=())
    empty = torch.zeros(224, 224, dtype=torch.bool)

    def refuse(*_):
        raise RuntimeError("encoded")

    monkeypatch.setattr(inspector, "round_trip", refuse)
    again = inspector.inspect(pictures[1], adapter="linear", others=())
    assert again.chosen.scores == first.chosen.scores and again.oracle.scores == first.oracle.scores
    for other in ({"image": pictures[1], "mask": empty}, {"image": 1 - pictures[1]}, {"image": pictures[1][:, 28:]}):
        with pytest.raises(RuntimeError, match="encoded"):
            inspector.inspect(adapter="linear", others=(), **other)


def test_a_batch_is_its_pictures(inspector, pictures, report):
    record = inspector.registry.find("linear", "post-merge/1")
    [decoded] = inspector.reconstruct(pictures, [record], Clock(inspector.vae.device))
    oracle = inspector.round_trip(pictures)
    torch.testing.assert_close(decoded.images[0], report.reconstructions[0].image, atol=1e-4, rtol=0)
    torch.testing.assert_close(oracle[0], report.oracle.image, atol=1e-4, rtol=0)


def test_a_given_mask_is_what_counts(inspector, drawn, pictures):
    left = torch.zeros(224, 224, dtype=torch.bool)
    left[:, :112] = True
    report = inspector.inspect(pictures[0], adapter="linear", mask=left, others=())
    assert torch.equal(report.mask, left) and report.mask_reason is None
    oracle_mask = report.oracle.mask
    iou = float((oracle_mask & left).sum() / (oracle_mask | left).sum())
    assert report.oracle.scores["mask_iou"] == pytest.approx(iou)
    nothing = inspector.inspect(pictures[0], adapter="linear", mask=torch.zeros_like(left), others=())
    assert nothing.oracle.scores["mask_iou"] is None and nothing.mask_reason == "the given mask is empty"


def test_no_object_no_mask_iou(inspector):
    report = inspector.inspect(torch.full((3, 224, 224), 0.9), adapter="linear")
    assert report.mask_reason == "no object stands out"
    assert report.reconstructions[0].scores["mask_iou"] is None is report.as_json()["skill"]["mask_iou"]


def test_any_size_and_shape(inspector, drawn):
    scene = render(sample(range(1), 0, SceneSpec(size=(300, 500))))
    picture = to_pil(scene.images[0] / 255)
    report = inspector.inspect(picture, "pre-merge/2", mask=scene.mask[0])
    assert report.original.shape == (3, 168, 280) == report.reconstructions[0].image.shape
    small = F.interpolate(scene.mask[None].float(), (168, 280), mode="area")[0, 0] >= 0.5
    assert (small != report.mask).float().mean() < 0.005  # a pixel's edge at most
    assert [r.name for r in report.reconstructions] == ["linear"]


def test_bad_input_is_reported(inspector, pictures):
    with pytest.raises(InputError, match="the mask is 7 × 5 pixels and its picture 224 × 224"):
        inspector.inspect(pictures[0], mask=torch.ones(5, 7, dtype=torch.bool))
    with pytest.raises(InputError, match="too narrow"):
        inspector.inspect(Image.new("RGB", (5000, 8)))
    with pytest.raises(InputError, match=r"must be \(3, H, W\)"):
        prepare(torch.zeros(224, 224))
    with pytest.raises(InputError, match="within 0 to 1"):
        inspector.inspect(pictures[0] * 255)


def test_fast_is_near(inspector, pictures, report):
    quick = Inspector(inspector.vlm, inspector.vae, inspector.registry.roots, fast=True)
    quick_report = quick.inspect(pictures[0], "post-merge/1", "linear")
    for ours, theirs in (
        (quick_report.oracle, report.oracle),
        (quick_report.reconstructions[0], report.reconstructions[0]),
    ):
        torch.testing.assert_close(ours.image, theirs.image, atol=0.02, rtol=0)
        assert ours.image.dtype == torch.float32


def test_training_adds_adapters_at_any_time(tiny, tmp_path, pictures):
    inspector = build_house(tiny.folder, tmp_path)
    assert len(inspector.inspect(pictures[0]).reconstructions) == 3
    save_tiny_adapter(tmp_path / "runs/mine", "linear", "post-merge/1", tmp_path, seed=1)
    for others, names in ((None, []), (inspector.adapters("post-merge/1"), ["mine"])):
        report = inspector.inspect(pictures[0], adapter="linear", others=others)
        assert [r.name for r in report.reconstructions] == ["linear", "tokens", "pooled", *names]


def test_the_nearest_adapter_that_reads_a_picture_is_suggested(inspector, monkeypatch):
    report = inspector.inspect(torch.rand(3, 56, 56, generator=torch.Generator().manual_seed(0)), "post-merge/1")
    assert inspector.suggest(report) is None  # none was trained
    for module in ("inspector", "readout"):
        monkeypatch.setattr(f"foresight.inspection.{module}.READ_WRONG", 0.0 if module == "readout" else 10.0)
    for record in inspector.adapters():  # so that each knows the picture
        monkeypatch.setattr(inspector.registry.load(record), "far", torch.full((1,), 1e9))
    better = inspector.suggest(report)
    assert better is not None and better.point != report.point  # those at its point are known to read it wrong
