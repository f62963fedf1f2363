"""Images of several sizes: how large the VLM sees them, which adapters can read that, and what memory holds."""

import pytest
import torch
from house import build_house, save_tiny_adapter
from PIL import Image

from foresight.data.archive import Broken
from foresight.data.render import render
from foresight.data.resolution import Resolution
from foresight.data.scenes import SceneSpec, take
from foresight.errors import InputError
from foresight.inspection import inspector as inspector_module
from foresight.inspection.evaluation import evaluate, file_samples, scene_baselines, scene_samples
from foresight.inspection.readout import prepare

AT = "post-merge/1"


@pytest.fixture(scope="module")
def inspector(tiny, tmp_path_factory):
    house = tmp_path_factory.mktemp("house")
    inspector = build_house(tiny.folder, house)
    save_tiny_adapter(house / "runs/small", "linear", AT, house, fitted={"pixels": (112**2, 168**2)})
    return inspector


def photo(width, height, seed=0):
    return Image.effect_noise((width, height), 60 + seed).convert("RGB")


def test_an_image_is_read_at_any_size_and_shape(inspector):
    image = photo(300, 200)
    for pixels, (height, width) in [("448²", (364, 560)), ("native", (196, 308)), (None, (196, 280))]:
        report = inspector.inspect(image, AT, "tokens", pixels=pixels)
        assert report.original.shape == report.chosen.image.shape == (3, height, width)
        assert report.chosen.lpips_map.shape == (height, width)
        assert torch.equal(report.original, prepare(image, None, inspector.vlm.resolution(pixels))[0])
        latents = inspector.vlm.latents([image], [AT], pixels=pixels)[AT]
        z = inspector.registry.load(report.chosen.record)(latents)
        torch.testing.assert_close(report.chosen.image, inspector.decode(z, (height, width))[0])


def test_another_size_than_it_was_fitted_at_is_reported(inspector):
    image = photo(300, 200)
    usual, large = (inspector.inspect(image, AT, "tokens", others=(), pixels=p).chosen for p in (None, "448²"))
    assert usual.notice is None is usual.as_json()["notice"]
    assert large.notice == large.as_json()["notice"] == "fitted at 224², here 560 × 364 pixels"
    [record] = [r for r in inspector.adapters(AT) if r.name == "small"]
    own = inspector.inspect(image, AT, record.folder, others=())  # the first that it was fitted at
    assert own.original.shape == (3, 84, 140) and own.chosen.notice is None
    assert record.size_notice((168, 168)) is None
    assert record.size_notice((224, 224)) == "fitted at 112² and 168², here 224 × 224 pixels"


def test_the_pooled_adapter_paints_one_size(inspector):
    image = photo(300, 200)
    assert "pooled" in [r.name for r in inspector.inspect(image, AT, "tokens").reconstructions]
    assert "pooled" not in [r.name for r in inspector.inspect(image, AT, "tokens", pixels="448²").reconstructions]
    sentence = r"the pooled adapter 'pooled' paints pictures of one size alone \(fitted at 224², here "
    with pytest.raises(InputError, match=sentence):
        inspector.inspect(image, AT, "pooled", pixels="448²")
    with pytest.raises(InputError, match=sentence):
        next(inspector.sweep_layers(image, inspector.adapters(AT), pixels="448²"))
    with pytest.raises(InputError, match=sentence):
        scenes = scene_samples(1, 0, SceneSpec(), Resolution.area(448**2))
        next(evaluate(inspector, inspector.registry.find("pooled", AT), scenes))


def test_what_memory_does_not_hold_is_refused(inspector, monkeypatch, tmp_path):
    monkeypatch.setattr(inspector_module, "free_memory", lambda device: 2e8)
    image = photo(1500, 1000)
    with pytest.raises(InputError, match=r"1792 × 1792 pixels needs about 1\.7 GB of memory, and 0\.2 GB are free"):
        inspector.inspect(image, AT, "tokens", pixels="1792²")
    with pytest.raises(InputError, match="1512 × 1008 pixels needs"):
        inspector.inspect(image, AT, "tokens", pixels="3136-12845056")
    image.save(tmp_path / "large.png")
    photo(200, 200).save(tmp_path / "small.png")
    files = [tmp_path / "large.png", tmp_path / "small.png"]
    record = inspector.registry.find("tokens", AT)
    large, small = evaluate(inspector, record, file_samples(files, Resolution(3136, 12845056)))
    assert isinstance(large, Broken) and "“large.png”: a picture of 1512 × 1008" in large.reason
    assert small.size == (196, 196)
    monkeypatch.setattr(inspector, "most_pixels", 224**2)
    inspector.check_size((224, 224), 4)
    with pytest.raises(InputError, match="clip of 2 frames of 448 × 448 pixels is too large here, .*: choose 224²"):
        inspector.check_size((448, 448), 2)
    with pytest.raises(InputError, match="448 × 448 pixels is too large here, where others wait for it: choose 224²"):
        inspector.inspect(image, AT, "tokens", pixels="448²")


def test_sizes_are_batched_apart_and_rows_keep_their_order(inspector, tmp_path, monkeypatch):
    shapes = [(200, 200), (300, 200), (200, 200), (100, 60), (300, 200), (200, 200), (1000, 1000), (100, 60)]
    for number, shape in enumerate(shapes):
        photo(*shape, number).save(tmp_path / f"{number}.png")
    (tmp_path / "4-broken.png").write_bytes(b"no picture")
    files, native = sorted(tmp_path.iterdir()), Resolution(3136, 448**2)
    batches, real = [], inspector.reconstruct
    monkeypatch.setattr(inspector, "reconstruct", lambda x, *rest: batches.append(tuple(x.shape)) or real(x, *rest))
    rows = list(evaluate(inspector, inspector.registry.find("linear", AT), file_samples(files, native), batch=3))
    assert [row.name for row in rows] == [file.name for file in files]
    assert batches == [(2, 3, 196, 308), (3, 3, 196, 196), (1, 3, 448, 448), (2, 3, 56, 112)]
    for row, file in zip(rows, files, strict=True):
        if not isinstance(row, Broken):
            report = inspector.inspect(Image.open(file), AT, "linear", others=(), pixels="native")
            assert row.size == tuple(report.original.shape[1:]) == (row.flat()["height"], row.flat()["width"])
            assert row.scores["adapter"] == pytest.approx(report.chosen.scores, abs=1e-3)


def test_scenes_are_drawn_at_the_size_that_is_seen():
    resolution = Resolution.area(448**2)
    [sample] = scene_samples(1, 3, SceneSpec(), resolution)
    scene = take(1, 3, SceneSpec(), "test")
    drawn = render(scene.resized((448, 448)))
    assert torch.equal(sample.image, drawn.images[0] / 255) and torch.equal(sample.mask, drawn.mask[0])
    assert torch.equal(sample.objects, drawn.visible[0, : int(scene.count)])
    assert sample.source == scene.describe(0)  # which any size can be made of
    assert scene_baselines(0, SceneSpec(), resolution).images.shape == (64, 3, 448, 448)
