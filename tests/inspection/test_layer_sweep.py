"""One picture at many points, against the inspector that sees one point at a time."""

import pytest
import torch
from house import build_house, save_tiny_adapter

from foresight.data.render import render
from foresight.data.scenes import SceneSpec, sample
from foresight.errors import InputError


@pytest.fixture(scope="module")
def inspector(tiny, tmp_path_factory):
    house = tmp_path_factory.mktemp("house")
    inspector = build_house(tiny.folder, house)
    save_tiny_adapter(house / "runs/mine", "tokens", "post-merge/3", house, seed=1)
    return inspector


@pytest.fixture(scope="module")
def scene():
    drawn = render(sample(range(1), 3, SceneSpec(objects=(2, 2), backgrounds=("white",), size=(84, 112))))
    return drawn.images[0] / 255, drawn.mask[0]


@pytest.mark.parametrize("masked", [True, False])
def test_each_tile_is_what_an_inspection_finds(inspector, scene, masked):
    picture, mask = scene[0], scene[1] if masked else None
    records = inspector.adapters()
    oracle, blank, *tiles = inspector.sweep_layers(picture, records, mask)
    assert [(tile.name, tile.record) for tile in tiles] == [(e.name, e) for e in records]
    assert {str(t.record.point) for t in tiles} == {"pre-merge/2", "post-merge/1", "post-merge/3"}
    for tile in tiles:
        report = inspector.inspect(picture, tile.record.point, tile.record.folder, mask, others=())
        [alone] = report.reconstructions
        torch.testing.assert_close(tile.image, alone.image, atol=1e-4, rtol=0)
        assert tile.scores == pytest.approx(alone.scores, abs=1e-4)
        assert tile.skill == pytest.approx(alone.skill, abs=1e-2)
        assert (tile.distance, tile.far) == pytest.approx((alone.distance, alone.far), rel=1e-3)
        assert oracle.scores == pytest.approx(report.oracle.scores, abs=1e-4)
        assert blank.scores == pytest.approx(report.blank.scores, abs=1e-4)
        assert tile.mask_reason is report.mask_reason is None
    assert tiles[0].as_json()["point"] == "pre-merge/2" and "point" not in oracle.as_json()


def test_latents_of_all_points_come_from_one_pass_and_tiles_one_by_one(inspector, scene, monkeypatch):
    requested, decoded = [], []
    latents, decode = inspector.vlm.latents, inspector.decode
    monkeypatch.setattr(inspector.vlm, "latents", lambda x, points: requested.append(len(points)) or latents(x, points))
    monkeypatch.setattr(inspector, "decode", lambda z, size: decoded.append(len(z)) or decode(z, size))
    stream = inspector.sweep_layers(scene[0], inspector.adapters())
    next(stream), next(stream), next(stream)
    before = len(decoded)
    assert requested == [3] and before <= 2  # at most the oracle's and the first tile's: no other was waited for
    rest = list(stream)
    assert requested == [3] and len(decoded) == before + len(rest)


def test_no_object_is_a_reason_and_no_adapter_one_sentence(inspector):
    grey = torch.full((3, 84, 84), 0.5)
    tiles = list(inspector.sweep_layers(grey, inspector.adapters("post-merge/1")))
    assert {tile.mask_reason for tile in tiles} == {"no object stands out"}
    assert {tile.scores["mask_iou"] for tile in tiles} == {None}
    with pytest.raises(InputError, match="at least one adapter"):
        next(inspector.sweep_layers(grey, []))
