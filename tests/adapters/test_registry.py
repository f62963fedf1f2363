"""Which adapters fit, in which order, and what is said of the others."""

import os
import re
import shutil

import pytest
import torch
from house import build_house, save_tiny_adapter

from foresight.errors import InputError
from foresight.inspection.inspector import Inspector


@pytest.fixture
def house(tiny, tmp_path):
    return tmp_path, build_house(tiny.folder, tmp_path).registry


def names(records):
    return [(record.name, str(record.point)) for record in records]


def test_lists_what_fits_by_depth_and_kind(house):
    folder, registry = house
    save_tiny_adapter(folder / "runs/mine", "linear", "post-merge/1", folder)
    first, last = ("linear", "pre-merge/2"), ("mine", "post-merge/1")
    kinds = [(kind, "post-merge/1") for kind in ("tokens", "linear", "pooled")]
    assert names(registry.adapters()) == [first, *kinds, last]
    assert names(registry.adapters("post-merge/1")) == [*kinds, last]
    assert registry.adapters("pre-merge/2")[0].parameters == 4 * 32 * 64 + 64
    with pytest.raises(InputError, match="no post-merge/9"):
        registry.adapters("post-merge/9")


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ({"fitted": {"weights": "0" * 64}, "model": "another"}, "it is for 'another', not for"),
        ({"fitted": {"weights": "0" * 64}}, "it was fitted with other weights of the VLM (000000000000, here"),
        ({"point": "post-merge/7"}, "no post-merge/7: the post-merge layers are 0 to 3"),
        ({"point": "the middle"}, "'the middle' is not an extraction point"),
    ],
)
def test_tells_why_another_does_not_fit(house, card, reason):
    folder, registry = house
    where = save_tiny_adapter(folder / "runs/other", "linear", "post-merge/1", folder, **card)
    assert list(registry.rejected()) == [where] and reason in registry.rejected()[where]
    assert len(registry.adapters()) == 4
    with pytest.raises(InputError, match=re.escape(reason)):
        registry.find(where)


def test_adapters_that_were_used_last_stay_loaded(house, monkeypatch):
    _, registry = house
    first, second, third = registry.adapters("post-merge/1")[:3]
    loaded = [registry.load(record) for record in (first, second)]
    assert registry.load(first) is loaded[0]
    monkeypatch.setattr(registry._loaded, "most", 1)
    registry.load(third)
    assert [*registry._loaded] == [third.folder]  # the newest is kept, however large
    monkeypatch.undo()
    assert registry.load(first) is not loaded[0]
    assert [*registry._loaded] == [third.folder, first.folder]


def test_an_adapter_of_several_layers_is_read_at_the_last_of_them(tiny, house, tmp_path):
    folder, registry = house
    layers = ["post-merge/0", "post-merge/2"]
    where = save_tiny_adapter(folder / "bundled/post-merge-2-mix", "mix", layers[1], folder, layers=layers)
    record = registry.find("mix", "post-merge/2")
    assert (record.folder, record.name, list(map(str, record.points))) == (where, "mix", layers)
    inspector = Inspector(registry.vlm, registry.vae, registry.roots)
    x = torch.rand(1, 3, 224, 224)
    latents = registry.vlm.latents(x, layers)
    z = registry.load(record)(torch.cat([latents[p] for p in layers], -1))
    torch.testing.assert_close(inspector.inspect(x[0], "post-merge/2").chosen.image, inspector.decode(z, (224, 224))[0])
    assert inspector.suggest(inspector.inspect(x[0], "post-merge/1")) is None  # it is asked, and strange to all


@pytest.mark.parametrize(
    "layers", [["post-merge/2"], ["pre-merge/0", "post-merge/2"], ["post-merge/2", "post-merge/1"], 3]
)
def test_layers_that_cannot_be_meant_are_told(house, layers):
    folder, registry = house
    where = save_tiny_adapter(folder / "runs/mix", "mix", "post-merge/2", folder, layers=layers)
    assert "layers" in registry.rejected()[where]


def cut_short(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2])


def unreadable(folder):
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("/proc/self/mem")  # root may read what any mode forbids, but not this


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not JSON"),
        (cut_short, "model.safetensors is cut short or too long"),
        (unreadable, "config.json cannot be read"),
    ],
)
def test_a_broken_folder_hides_no_other(house, spoil, reason):
    folder, registry = house
    where = save_tiny_adapter(folder / "runs/broken", "linear", "post-merge/1", folder)
    spoil(where)
    assert list(registry.rejected()) == [where] and f"adapter {str(where)!r}: {reason}" in registry.rejected()[where]
    assert len(registry.adapters()) == 4


def test_a_kind_or_a_folder_means_one_adapter(house):
    folder, registry = house
    mine = save_tiny_adapter(folder / "runs/mine", "linear", "post-merge/1", folder)
    away = save_tiny_adapter(folder / "elsewhere", "linear", "pre-merge/2", folder)
    assert names([registry.find()]) == [("tokens", "post-merge/1")]  # the default point: half of 3 layers
    assert names([registry.find("pooled")]) == [("pooled", "post-merge/1")]
    assert names([registry.find(point="pre-merge/2")]) == [("linear", "pre-merge/2")]
    assert names([registry.find("linear", "post-merge/1")]) == [("linear", "post-merge/1")]  # the bundled one
    assert names([registry.find(mine)]) == [("mine", "post-merge/1")]
    assert names([registry.find(away)]) == [("elsewhere", "pre-merge/2")]
    assert registry.find(folder / "bundled/post-merge-1-pooled").bundled
    with pytest.raises(InputError, match="'tokens' reads pre-merge/2: choose from linear, or 'tokens' at post-merge/1"):
        registry.find("tokens", "pre-merge/2")
    with pytest.raises(InputError, match="is for post-merge/1, not for pre-merge/2"):
        registry.find(mine, "pre-merge/2")


def test_loads_once_until_the_file_changes(house):
    folder, registry = house
    record = registry.find("linear")
    first = registry.load(record)
    assert registry.load(record) is first and not first.training
    save_tiny_adapter(record.folder, "linear", "post-merge/1", folder, seed=1)
    os.utime(record.folder / "model.safetensors", ns=(1, 1))  # clocks of some file systems are coarse
    assert not torch.equal(registry.load(record).linear.weight, first.linear.weight)


def test_every_name_at_a_point_means_one_adapter(house):
    folder, registry = house
    for name in ("tokens", "a/mine", "b/mine", "b/tokens"):
        save_tiny_adapter(folder / "runs" / name, "linear", "post-merge/1", folder)
    names = [record.name for record in registry.adapters("post-merge/1")]
    assert names == ["tokens", "linear", "pooled", "a/mine", "b/mine", "b/tokens", "./tokens"]
    assert registry.find("tokens").bundled and not registry.find(folder / "runs/tokens").bundled


def test_what_is_deleted_while_it_is_listed_or_used(house):
    folder, registry = house
    record = registry.find(save_tiny_adapter(folder / "runs/mine", "linear", "post-merge/1", folder))
    registry.load(record)
    shutil.move(record.folder, folder / "runs/renamed")
    with pytest.raises(InputError, match="the adapter 'mine' was deleted or renamed"):
        registry.load(record)
    config = folder / "runs/renamed/config.json"
    config.unlink()
    config.symlink_to("nowhere")
    assert len(registry.adapters()) == 4 and not registry.rejected()
    registry.load(registry.find("linear"))
    assert len(registry._loaded) == 1  # nothing is kept of a folder that is gone
