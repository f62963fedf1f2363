"""An adapter is known by what its latents depend on: it follows a moved model, and refuses another of its name."""

import json
import shutil

import pytest
import torch
from house import save_tiny_adapter, save_vae
from safetensors.torch import load_file, save_file

from benchmarks.local_hub import COMMIT
from foresight.adapters.checkpoint import describe_adapter
from foresight.adapters.identity import KEY
from foresight.adapters.registry import AdapterRegistry
from foresight.errors import InputError
from foresight.models import digests
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm
from training.bundle.build import stamp


@pytest.fixture
def house(tiny, tmp_path):
    """Adapters, and a copy of their VLM in a shard of the vision tower and one of the language model."""
    (tmp_path / "vlm").mkdir()
    for file in tiny.folder.iterdir():
        shutil.copy(file, tmp_path / "vlm")
    weights = load_file(tmp_path / "vlm/model.safetensors")
    (tmp_path / "vlm/model.safetensors").unlink()
    parts = {True: "vision.safetensors", False: "language.safetensors"}
    places = {name: parts["visual." in name] for name in weights}
    for part in parts.values():
        save_file({n: w for n, w in weights.items() if places[n] == part}, tmp_path / "vlm" / part, {"format": "pt"})
    (tmp_path / "vlm/model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    save_vae(tmp_path / "vae")
    save_tiny_adapter(tmp_path / "runs/deep", "linear", "post-merge/1", tmp_path)
    save_tiny_adapter(tmp_path / "runs/early", "linear", "pre-merge/2", tmp_path)
    return tmp_path


def open_registry(house, vlm="vlm", vae="vae", dtype=None):
    models = load_vlm(house / vlm, "cpu", dtype), load_vae(house / vae, "cpu")
    return AdapterRegistry(*models, [house / "bundled", house / "runs"])


def look(house, vlm="vlm", vae="vae"):
    """The names of what fits, and why others do not."""
    registry = open_registry(house, vlm, vae)
    fitting = [record.name for record in registry.adapters()]
    return fitting, {folder.name: reason for folder, reason in registry.rejected().items()}


def test_adapters_follow_a_moved_model(house):
    for name in ("vlm", "vae"):
        (house / name).rename(house / f"moved-{name}")
    assert look(house, "moved-vlm", "moved-vae") == (["early", "deep"], {})


def test_a_retrained_model_of_the_same_name_is_refused(house):
    shard = house / "vlm/language.safetensors"
    save_file({name: weight * 1.01 for name, weight in load_file(shard).items()}, shard, {"format": "pt"})
    fitting, refused = look(house)
    assert fitting == ["early"]  # its latents come from the vision tower, whose weights are the same
    assert refused["deep"].startswith("it was fitted with other weights of the VLM (")
    save_vae(house / "vae", seed=1)
    fitting, refused = look(house)
    assert not fitting and refused["early"].startswith("it was fitted with another VAE (")


def change(path, values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_every_other_part_is_named(house):
    name = "processor_config.json"
    processor = json.loads((house / "vlm" / name).read_text())["image_processor"]
    change(house / "vlm" / name, {"image_processor": processor | {"image_mean": [0.5, 0.5, 0.5]}})
    template = house / "vlm/chat_template.jinja"
    template.write_text(template.read_text().replace("user", "human").replace("message['role']", "'human'"))
    text = json.loads((house / "vlm/config.json").read_text())["text_config"]
    change(house / "vlm/config.json", {"text_config": text | {"rms_norm_eps": 1e-3}})
    change(house / "vae/config.json", {"scaling_factor": 0.5})
    _, refused = look(house)
    for words in ("settings of the VLM", "mean of colours", "text before the picture", "scale of the VAE's latents"):
        assert words in refused["deep"]
    assert "text before" not in refused["early"]
    assert "weights" not in refused["deep"] and "another VAE (" not in refused["deep"]


def test_what_changes_latents_by_rounding_is_reported(house):
    save_tiny_adapter(house / "runs/old", "linear", "post-merge/2", house, fitted={"torch": "2.0.1"})
    registry = AdapterRegistry(
        load_vlm(house / "vlm", "cpu", torch.bfloat16), load_vae(house / "vae"), [house / "runs"]
    )
    notices = {record.folder.name: record.notices for record in registry.adapters()}
    assert notices["deep"] == ("another dtype ('float32', here 'bfloat16')",)
    assert notices["old"][1].startswith("another torch ('2.0', here '2.")


def test_versions_known_to_be_wrong_are_refused(house, monkeypatch):
    save_tiny_adapter(house / "runs/deep", "linear", "post-merge/1", house, fitted={"transformers": "5.4.0"})
    _, refused = look(house)
    assert refused["deep"] == "it was fitted with transformers 5.4.0, which gives images wrong positions"
    monkeypatch.setattr("foresight.models.vlm.version", lambda name: "5.5.3")
    with pytest.raises(InputError, match="this machine has transformers 5.5.3, which gives images wrong positions"):
        load_vlm(house / "vlm", "cpu")


def test_a_card_that_does_not_say_is_refused_until_it_is_stamped(house):
    path = house / "runs/deep/config.json"
    config = json.loads(path.read_text())
    fitted, weights = config["card"].pop(KEY), (path.parent / "model.safetensors").read_bytes()
    path.write_text(json.dumps(config))
    _, refused = look(house)
    assert "its card does not say which weights it was fitted with" in refused["deep"]
    assert stamp(house / "runs", house / "vlm", house / "vae") == [house / "runs/deep", house / "runs/early"]
    assert look(house) == (["early", "deep"], {})
    assert describe_adapter(path.parent)["card"][KEY] == fitted
    assert (path.parent / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("bad", [{"weights": 1}, {"unknown": 1}, {"mean": "red"}])
def test_an_identity_from_anybody_is_read_with_suspicion(house, bad):
    path = house / "runs/deep/config.json"
    config = json.loads(path.read_text())
    config["card"][KEY] = config["card"][KEY] | bad
    path.write_text(json.dumps(config))
    _, refused = look(house)
    assert "the identity in its card cannot be read" in refused["deep"]


def test_a_commit_stands_for_weights_that_are_not_downloaded(house, hub):
    hub.repositories["owner/vlm"] = house / "vlm"
    fitted = {"commit": COMMIT, "weights": "f" * 64}
    save_tiny_adapter(house / "runs/same", "linear", "post-merge/2", house, fitted=fitted)
    save_tiny_adapter(house / "runs/other", "linear", "post-merge/3", house, fitted={"weights": "0" * 64})
    registry = AdapterRegistry(load_vlm("owner/vlm", "cpu"), load_vae(house / "vae", "cpu"), ["none", house / "runs"])
    # Those fitted with a copy in a folder fit too: the hub tells what its files are.
    assert [record.name for record in registry.adapters()] == ["early", "deep", "same"]
    assert "other weights of the VLM" in registry.rejected()[house / "runs/other"]
    assert not [name for _, name, _ in hub.log if name.endswith(".safetensors")]


def test_digests_are_computed_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(digests.paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(digests, "LARGE", 1)
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    first = digests.file_digest(file)
    digests._digest.cache_clear()  # as in another process
    with monkeypatch.context() as patch:
        patch.setattr(digests.hashlib, "sha256", None)  # nothing is read
        assert digests.file_digest(file) == first
    file.write_bytes(b"other")
    assert digests.file_digest(file) != first
    (tmp_path / "cache/digests.json").write_text("{")
    digests._digest.cache_clear()
    file.write_bytes(b"one")
    assert digests.file_digest(file) == first
    blob = tmp_path / "blobs" / ("f" * 64)
    blob.parent.mkdir()
    blob.write_bytes(b"not read")
    (tmp_path / "link").symlink_to(blob)
    assert digests.file_digest(tmp_path / "link") == "f" * 64
