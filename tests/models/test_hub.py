"""Folders and hub ids, with the hub's own cache layout and no network."""

import pytest
from huggingface_hub import constants

from foresight.errors import InputError
from foresight.models.hub import folder_of


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An offline machine whose cache has owner/name, one file of it."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    repository = tmp_path / "cache" / "models--owner--name"
    snapshot = repository / "snapshots" / ("a" * 40)
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    return snapshot


def test_a_folder_is_itself(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert folder_of(tmp_path, ["config.json"], "VAE") == tmp_path
    assert folder_of("owner/name", ["config.json"], "VAE").resolve() == tmp_path / "owner" / "name"


def test_a_hub_id_is_its_snapshot(cache):
    assert folder_of("owner/name", ["config.json"], "VAE") == cache


@pytest.mark.parametrize("name", ["owner/other", "other", "./other/folder", "/other", "a word", "a-file"])
def test_what_is_nowhere_is_one_sentence(cache, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("")
    with pytest.raises(InputError, match=f"VAE '{name}'"):
        folder_of(name, ["config.json"], "VAE")
