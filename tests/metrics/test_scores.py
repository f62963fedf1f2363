import json
import warnings
from pathlib import Path

import pytest
import torch
from scipy.ndimage import distance_transform_cdt
from skimage.feature import canny
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from benchmarks.scores import lpips_package
from foresight.data.images import to_pil
from foresight.data.render import render
from foresight.data.scenes import SceneSpec, sample
from foresight.errors import InputError
from foresight.metrics import perceptual
from foresight.metrics.fidelity import psnr, ssim
from foresight.metrics.masks import EMPTY_MASK, NO_OBJECT, NOT_MEASURABLE
from foresight.metrics.perceptual import LPIPS, TRUNK, haarpsi, lpips_model
from foresight.metrics.scores import Originals, compare, score


def scene_pictures(count, size=(224, 224)):
    """Scenes and worse and worse copies of them: (count, 3, H, W) each."""
    drawn = render(sample(range(count), 5, SceneSpec(size=size)))
    x = drawn.images.float() / 255
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    y = x.roll(3, -1) + torch.linspace(0, 0.3, count)[:, None, None, None] * noise
    return x, y.clamp(0, 1), drawn.mask


def package(spatial=False):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lpips_package(spatial)


@pytest.mark.parametrize("size", [(224, 224), (84, 140)])
def test_lpips_equals_the_package(size):
    x, y, _ = scene_pictures(6, size)
    with torch.no_grad():
        golden = package()(2 * x - 1, 2 * y - 1).flatten()
        ours = lpips_model()(x, y)
    assert golden.min() > 0.01
    assert torch.allclose(ours, golden, atol=1e-5)


def test_spatial_lpips_equals_the_package():
    x, y, _ = scene_pictures(3)
    model = lpips_model()
    with torch.no_grad():
        golden = package(spatial=True)(2 * x - 1, 2 * y - 1)[:, 0]
        ours = model.spatial(model.features(x), model.features(y), (224, 224))
    assert ours.shape == (3, 224, 224) and torch.allclose(ours, golden, atol=1e-5)


def test_one_original_serves_many():
    _, y, _ = scene_pictures(4)
    model = lpips_model()
    with torch.no_grad():
        one, many = model.features(y[:1]), model.features(y)
        assert torch.allclose(model.distance(one, many), model(y[:1].expand(4, -1, -1, -1), y), atol=1e-6)
    assert model.distance(one, many)[0] < 1e-6
    alone = compare(y[:1].expand(4, -1, -1, -1), y).scores
    for name, value in compare(y[:1], y).scores.items():
        assert torch.allclose(value, alone[name], atol=1e-5, equal_nan=True), name


def test_lpips_trains_what_is_before_it():
    with torch.inference_mode():  # where the app may have built it first
        lpips_model.cache_clear()
        lpips_model()
    x = torch.full((1, 3, 64, 64), 0.5, requires_grad=True)
    lpips_model()(x, torch.zeros(1, 3, 64, 64)).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in lpips_model().parameters())


def test_a_layer_without_an_active_channel_is_no_distance():
    model = LPIPS()
    model.trunk[-1].bias.fill_(-1e6)  # silences the last layer
    x = torch.rand(1, 3, 64, 64, requires_grad=True)
    distance = model(x, torch.zeros(1, 3, 64, 64)).sum()
    distance.backward()
    assert distance > 0 and x.grad is not None and x.grad.isfinite().all()


def test_lpips_takes_a_side_of_one_token():
    x = torch.rand(1, 3, 28, 140, generator=torch.Generator().manual_seed(0))
    assert compare(x, torch.ones_like(x)).scores["lpips"] > 0.1
    assert compare(x, x).lpips_map.shape == (1, 28, 140)


@pytest.mark.parametrize("size", [(224, 224), (56, 91)])
def test_ssim_and_psnr_equal_scikit_image(size):
    x, y, _ = scene_pictures(5, size)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 0}
    for other in (y, torch.ones_like(x), (x + 0.01).clamp(0, 1)):  # flat areas are where rounding would show
        for a, b, similarity, ratio in zip(x, other, ssim(x, other), psnr(x, other), strict=True):
            pair = a.double().numpy(), b.double().numpy()
            golden = structural_similarity(*pair, data_range=1, **options)
            assert similarity.item() == pytest.approx(golden, abs=1e-5)
            assert ratio.item() == pytest.approx(peak_signal_noise_ratio(*pair, data_range=1), abs=1e-3)


def waves(height, width):
    """A picture of three waves, one a colour: (3, height, width)."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([0.5 + 0.5 * torch.sin(a * x + b * y) for a, b in ((9, 4), (23, -11), (3, 40))])


@pytest.mark.parametrize(
    ("size", "golden"),
    [((64, 96), [0.548966, 0.650482, 0.017484, 1]), ((57, 83), [0.509091, 0.663789, 0.025627, 1])],
)
def test_haarpsi_equals_piq(size, golden):
    x = waves(*size)
    others = torch.stack([x.roll(2, -1), 0.8 * x.flip(0), torch.ones_like(x), x])
    assert haarpsi(x[None], others).tolist() == pytest.approx(golden, abs=2e-5)  # of piq 0.8.0 in float64


def test_haarpsi_of_pictures_without_a_coefficient():
    black = torch.zeros(1, 3, 28, 28)
    assert haarpsi(black, black).item() == pytest.approx(1, abs=1e-4)


def test_edge_f1_is_the_share_of_canny_s_edges_that_lie_near():
    x, y, _ = scene_pictures(3)
    for a, b, value in zip(x, y, compare(x, y).scores["edge_f1"].tolist(), strict=True):
        own, other = (
            canny((p * torch.tensor([0.2125, 0.7154, 0.0721]).view(3, 1, 1)).sum(0).numpy(), 3) for p in (a, b)
        )
        near = [distance_transform_cdt(~edges, "chessboard") <= 2 for edges in (own, other)]
        precision, recall = near[0][other].mean(), near[1][own].mean()
        assert value == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-3)
    blank = torch.ones_like(x)
    assert compare(x, x).scores["edge_f1"].tolist() == compare(blank, blank).scores["edge_f1"].tolist() == [1] * 3
    assert compare(x, blank).scores["edge_f1"].tolist() == [0] * 3


def test_edges_are_looked_for_where_no_objects_are_known():
    x, y, masks = scene_pictures(3)
    masks[1] = False
    given = compare(x, y, masks).scores["edge_f1"]
    assert given.isnan().tolist() == [True, False, True]
    assert given[1] == compare(x, y).scores["edge_f1"][1]
    assert compare(x[1:2], y, masks[1:2]).scores["edge_f1"].isfinite().all()


def test_identical_pictures():
    x, _, mask = scene_pictures(2)
    scores = compare(x, x, mask).scores
    assert scores["lpips"].abs().max() < 1e-6 and (scores["ssim"] - 1).abs().max() < 1e-6
    assert (scores["psnr"] == 100).all() and scores["mask_iou"].min() > 0.98
    assert json.loads(json.dumps(score(x[0], x[0]), allow_nan=False))["psnr"] == 100


def test_psnr_by_hand():
    assert psnr(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.1)).item() == pytest.approx(20, abs=1e-4)


def square(left):
    x = torch.ones(1, 3, 64, 64)
    x[..., 20:40, left : left + 20] = 0.1
    return x


def test_mask_iou_of_found_objects():
    result = compare(square(20), torch.cat([square(20), square(30), torch.ones(1, 3, 64, 64)]))
    assert result.scores["mask_iou"].tolist() == pytest.approx([1, 200 / 600, 0])
    assert result.reasons == [None] * 3
    assert Originals(square(20)).masks.shape == (1, 64, 64) and result.masks.shape == (3, 64, 64)


def test_a_given_mask_comes_before_what_is_found():
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, 20:40, 20:30] = True  # the left half of the square
    assert compare(square(20), square(20), mask).scores["mask_iou"].item() == 0.5
    assert score(square(20)[0], square(20)[0], mask[0])["mask_iou"] == 0.5


def test_mask_iou_is_null_with_a_reason_where_the_original_shows_nothing():
    blank = torch.ones(1, 3, 64, 64)
    result = compare(torch.cat([blank, square(20)]), torch.cat([square(20), square(20)]))
    assert result.scores["mask_iou"].isnan().tolist() == [True, False]
    assert result.reasons == [NO_OBJECT, None]
    empty = compare(square(20), square(20), torch.zeros(1, 64, 64, dtype=torch.bool))
    assert empty.reasons == [EMPTY_MASK] and empty.scores["mask_iou"].isnan()
    assert score(blank[0], square(20)[0])["mask_iou"] is None


def blotches(x):
    """The picture with a border of coarse random colours, in which no even background is found."""
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.nn.functional.interpolate(noise, (64, 64))
    y[..., 16:48, 16:48] = x[..., 16:48, 16:48]
    return y


@pytest.mark.parametrize("given", [True, False])
def test_one_reconstruction_serves_many_originals(given):
    x, y, mask = scene_pictures(3, (84, 84))
    mask[1] = False
    originals = Originals(x, mask if given else None)
    shared, repeated = originals.compare(y[:1]), originals.compare(y[:1].expand(3, -1, -1, -1))
    assert shared.reasons == repeated.reasons and (EMPTY_MASK in shared.reasons) == given
    for name, golden in repeated.scores.items():
        assert torch.allclose(shared.scores[name], golden, atol=1e-5, equal_nan=True), name
        assert len(golden.unique()) > 1
    assert torch.allclose(shared.lpips_map, repeated.lpips_map, atol=1e-5) and torch.equal(shared.masks, repeated.masks)


@pytest.mark.parametrize("given", [True, False])
def test_no_background_in_a_reconstruction_is_not_measurable_and_no_object_is_0(given):
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, 20:40, 20:40] = True
    reconstructions = torch.cat([square(20), torch.ones(1, 3, 64, 64), blotches(square(20))])
    result = compare(square(20), reconstructions, mask if given else None)
    assert result.scores["mask_iou"][:2].tolist() == [1, 0] and result.scores["mask_iou"][2].isnan()
    assert result.reasons == [None, None, NOT_MEASURABLE] and Originals(
        square(20), mask if given else None
    ).reasons == [None]
    assert score(square(20)[0], blotches(square(20))[0])["mask_iou"] is None


def test_scores_are_exact_under_autocast_too():
    x, y, mask = scene_pictures(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = compare(x, y, mask).scores
    for name, value in compare(x, y, mask).scores.items():
        torch.testing.assert_close(coarse[name], value, rtol=0, atol=0, equal_nan=True)


def test_score_takes_pictures_and_tensors_alike():
    x, y, _ = scene_pictures(2)
    x, y = (p.mul(255).round() / 255 for p in (x, y))
    assert score(to_pil(x[1]), to_pil(y[1])) == pytest.approx(score(x[1], y[1]), abs=1e-5)
    assert set(score(x[1], y[1])) == {"lpips", "haarpsi", "ssim", "psnr", "mask_iou", "edge_f1"}


@pytest.mark.parametrize(
    ("a", "b", "mask", "sentence"),
    [
        (torch.ones(1, 3, 10, 50), torch.ones(1, 3, 10, 50), None, "11 pixels on each side, not 50 × 10"),
        (torch.ones(1, 3, 64, 64), torch.ones(1, 3, 64, 32), None, "differ in size: 64 × 64 and 32 × 64"),
        (torch.ones(1, 3, 64, 64) * 2, torch.ones(1, 3, 64, 64), None, "within 0 to 1"),
        (torch.ones(1, 3, 64, 64), torch.full((1, 3, 64, 64), torch.nan), None, "within 0 to 1"),
        (torch.ones(1, 1, 64, 64), torch.ones(1, 3, 64, 64), None, r"\(B, 3, H, W\)"),
        (torch.ones(2, 3, 64, 64), torch.ones(3, 3, 64, 64), None, "need 1 or 3 originals, not 2"),
        (torch.ones(1, 3, 64, 64), torch.ones(1, 3, 64, 64), torch.ones(1, 32, 32) > 0, "masks must be bool"),
        (torch.ones(1, 3, 64, 64), torch.ones(1, 3, 64, 64), torch.ones(1, 64, 64), "masks must be bool"),
    ],
)
def test_bad_input_is_one_clear_sentence(a, b, mask, sentence):
    with pytest.raises(InputError, match=sentence):
        compare(a, b, mask)


def test_nothing_is_downloaded_and_nothing_is_said(monkeypatch, capsys):
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *a, **k: pytest.fail("download"))
    lpips_model.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lpips_model()
    assert capsys.readouterr() == ("", "")
    assert Path(TRUNK).stat().st_size < 10_000_000


def test_weights_of_lpips_that_are_not_there_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(perceptual, "TRUNK", tmp_path / "trunk.safetensors")
    for content in (None, b"version https://git-lfs.github.com/spec/v1", TRUNK.read_bytes()[:-9]):
        if content is not None:
            (tmp_path / "trunk.safetensors").write_bytes(content)
        with pytest.raises(InputError, match=r"^the weights of LPIPS, .*, are missing or cut short: get them again\.$"):
            LPIPS()
