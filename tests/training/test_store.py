"""The store of latents: what is put in comes out, whole or not at all, and never for anything else."""

import json
import shutil

import pytest
import torch
from house import save_vae
from safetensors import safe_open

from foresight.errors import InputError
from foresight.models.digests import revision
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm
from training.store import KEY, Store, key_of, name_of, picture_hashes

MINE = {"format": 1, "weights": "a", "dtype": "float32"}


def pictures(count, seed=0, side=28):
    return torch.randint(
        0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


@pytest.fixture
def filled(tmp_path):
    """Five pictures in two shards, with values of two names."""
    store, images = Store(tmp_path / "store", MINE), pictures(5)
    hashes = picture_hashes(images)
    values = {"post-merge/6": torch.randn(5, 1, 2, 2, 3).bfloat16(), "targets/x": torch.randn(5, 4, 2, 2)}
    store.put(hashes[:2], ["a", "b"], {name: v[:2] for name, v in values.items()})
    store.put(hashes[2:], ["c", "d", "e"], {name: v[2:] for name, v in values.items()})
    return store, hashes, values


def test_what_is_put_in_comes_out_in_any_order(filled):
    store, hashes, values = filled
    for opened in (store, Store(store.folder, MINE)):
        for name, value in values.items():
            order = [3, 0, 4, 4, 1]
            assert torch.equal(opened.get([hashes[i] for i in order], name), value[order])
        assert opened.lacks(hashes, ["targets/x", "post-merge/6", "post-merge/7"]) == ["post-merge/7"]
        assert opened.lacks([*hashes, "unknown"], ["targets/x"]) == ["targets/x"]


def test_shards_can_be_read_without_us(filled):
    store, hashes, values = filled
    seen = {}
    for shard in store.folder.glob("*.safetensors"):
        with safe_open(shard, "pt") as file:
            for row, (key, image) in enumerate(json.loads(file.metadata()["pictures"])):
                seen[image] = key, file.get_tensor("targets/x")[row]
    assert sorted(seen) == ["a", "b", "c", "d", "e"]
    assert seen["d"][0] == hashes[3] and torch.equal(seen["d"][1], values["targets/x"][3])


def test_a_picture_is_known_by_its_pixels_and_size():
    one = pictures(1)
    other = one.clone()
    other[0, 2, 27, 27] ^= 1
    taller = one.reshape(1, 3, 14, 56)
    assert len({picture_hashes(x)[0] for x in (one, other, taller)}) == 3
    assert picture_hashes(one.clone()) == picture_hashes(one)


@pytest.mark.parametrize("other", [{"dtype": "bfloat16"}, {"weights": "b"}, {"format": 2}, {"opening": "new"}])
def test_latents_of_another_key_are_refused(filled, other):
    store, *_ = filled
    with pytest.raises(InputError, match=f"holds other latents .{next(iter(other))} .*choose another folder"):
        Store(store.folder, MINE | other)
    Store(store.folder, MINE)


def test_a_killed_write_leaves_nothing_that_counts(filled):
    store, hashes, values = filled
    whole = next(store.folder.glob("*.safetensors"))
    (store.folder / f".{'0' * 32}.safetensors.1.partial").write_bytes(whole.read_bytes()[:100])
    assert torch.equal(Store(store.folder, MINE).get(hashes, "targets/x"), values["targets/x"])


def test_what_cannot_be_used_is_reported(filled, tmp_path):
    store, *_ = filled
    shard = next(store.folder.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(InputError, match=f"shard .*{shard.name} cannot be read .*delete it"):
        Store(store.folder, MINE)
    (store.folder / KEY).write_text("no JSON")
    with pytest.raises(InputError, match="key.json cannot be read"):
        Store(store.folder, MINE)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        Store(tmp_path / "file/store", MINE)


def test_a_full_disk_keeps_what_is_there(filled, monkeypatch):
    store, hashes, values = filled

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("foresight.paths.os.fsync", full)
    with pytest.raises(InputError, match="No space left on device.*stays"):
        store.put(picture_hashes(pictures(2, seed=1)), ["f", "g"], {"targets/x": torch.zeros(2, 4, 2, 2)})
    assert [p for p in store.folder.iterdir() if p.suffix == ".partial"] == []
    assert torch.equal(Store(store.folder, MINE).get(hashes, "targets/x"), values["targets/x"])


def test_a_model_is_known_by_its_weights(tiny, tmp_path):
    for name in ("same", "other"):
        (tmp_path / name).mkdir()
        for file in tiny.folder.iterdir():
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "other/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert revision(tmp_path / "same") == revision(tiny.folder) != revision(tmp_path / "other")
    commit = tmp_path / "hub/snapshots" / ("0123456789" * 4)
    assert revision(commit) == commit.name
    key, half = key_of(load_vlm(tiny.folder, "cpu")), key_of(load_vlm(tiny.folder, "cpu", torch.bfloat16))
    assert key == key_of(load_vlm(tmp_path / "same", "cpu"))
    assert {name for name in key if key[name] != half[name]} == {"dtype"}


def test_a_vae_is_known_by_its_weights_scale_and_dtype(tmp_path):
    save_vae(tmp_path / "vae")
    first, half = (name_of(load_vae(tmp_path / "vae", "cpu", dtype)) for dtype in (None, torch.bfloat16))
    assert name_of(load_vae(shutil.copytree(tmp_path / "vae", tmp_path / "moved"), "cpu")) == first
    config = tmp_path / "moved/config.json"
    config.write_text(config.read_text().replace('"scaling_factor": 1.0', '"scaling_factor": 2.0'))
    scaled = name_of(load_vae(tmp_path / "moved", "cpu"))
    save_vae(tmp_path / "moved", seed=1)
    assert len({first, half, scaled, name_of(load_vae(tmp_path / "moved", "cpu"))}) == 4
