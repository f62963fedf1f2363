"""Folders and hub ids: what is fetched from a hub at this machine's own address, and every way in which it fails."""

import errno
import io
import re
import shutil
from contextlib import redirect_stderr

import pytest
import torch
from huggingface_hub import constants, file_download
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from benchmarks.local_hub import COMMIT
from foresight.errors import InputError
from foresight.models import hub as hub_module
from foresight.models.hub import folder_of
from foresight.models.vlm import load_vlm

IMAGE = torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))


def fetched(hub):
    """The files that were asked for since the last call."""
    names = {name for method, name, _ in hub.log if method == "GET"}
    hub.log.clear()
    return names


@pytest.fixture
def sharded(hub, tiny, tmp_path):
    """owner/vlm in shards that begin to be needed at pre-merge/0, post-merge/1 and for answers."""
    folder = shutil.copytree(tiny.folder, tmp_path / "sharded")
    tiny.model.save_pretrained(folder, max_shard_size="30KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    hub.repositories["owner/vlm"] = folder
    return folder


def test_a_folder_is_itself(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner/vlm").mkdir(parents=True)
    assert folder_of(tmp_path, ["config.json"], "VAE") == tmp_path
    assert folder_of("owner/vlm", ["config.json"], "VAE").resolve() == tmp_path / "owner/vlm"
    assert not hub.log


def test_only_what_a_point_needs_is_fetched_and_only_once(hub, sharded, tiny):
    vlm, points = load_vlm("owner/vlm", "cpu"), ("pre-merge/1", "post-merge/1")
    known, before = load_vlm(tiny.folder, "cpu").latents(IMAGE, points), set[str]()
    assert "config.json" in fetched(hub)
    for point in points:
        assert torch.equal(vlm.latents(IMAGE, [point])[point], known[point])
        needed = vlm._files(vlm.point(point))
        assert fetched(hub) == needed - before
        before |= needed
    assert len(before) < len({*vlm._stored.values()})
    load_vlm("owner/vlm", "cpu").latents(IMAGE, points)
    assert not fetched(hub)


def test_a_cut_connection_goes_on_where_it_was(hub, sharded, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    [first, *_] = sorted(load_vlm("owner/vlm", "cpu")._files(load_vlm("owner/vlm", "cpu").point("pre-merge/0")))
    hub.cuts[first] = 3000
    folder = folder_of("owner/vlm", [first], "model")
    assert [start for method, name, start in hub.log if (method, name) == ("GET", first)] == [0, 3000]
    assert (folder / first).read_bytes() == (sharded / first).read_bytes()


def test_a_revision_is_named_behind_the_id(hub):
    for name in ("owner/vlm", "owner/vlm@main", f"owner/vlm@{COMMIT}"):
        assert load_vlm(name, "cpu").commit == COMMIT
    load_vlm("owner/vlm", "cpu").latents(IMAGE, ["pre-merge/0"])
    hub.repositories.clear()  # what is here already of a commit is not asked for
    load_vlm(f"owner/vlm@{COMMIT}", "cpu").latents(IMAGE, ["pre-merge/0"])


def test_progress_tells_bytes_and_rate_of_what_takes_time(hub, monkeypatch):
    with redirect_stderr(io.StringIO()) as quick:
        folder_of("owner/vlm", ["config.json"], "model")
    monkeypatch.setattr(hub_module._Bytes, "patience", 0)
    with redirect_stderr(io.StringIO()) as slow:
        folder_of("owner/vlm", ["*.safetensors"], "model")
    assert not quick.getvalue() and re.search(r"100%.*\d[kM]/\d.*B/s", slow.getvalue())
    hub.gated.add("owner/vlm")
    with pytest.raises(InputError), redirect_stderr(io.StringIO()):
        folder_of("owner/vlm@other", ["tokenizer.json"], "model")
    with tqdm(file=io.StringIO()) as later:
        assert later.pos == 0, "a download left its bar open"


def offline(hub, monkeypatch):
    folder_of("owner/vlm", ["config.json"], "model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def unreachable(hub, monkeypatch):
    hub.shutdown()
    hub.server_close()


def gated(hub, monkeypatch):
    hub.gated.add("owner/vlm")


def read_only(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "a-file/cache")


def full(hub, monkeypatch):
    def no_space(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file_download, "http_get", no_space)


def cut_for_good(hub, monkeypatch):
    def cut(*args, **options):
        raise OSError("Consistency check failed")

    monkeypatch.setattr(file_download, "http_get", cut)


def as_it_is(hub, monkeypatch):
    pass


BAD = {
    "offline": (offline, "owner/vlm", "HF_HUB_OFFLINE keeps this machine off the network, and not all of it"),
    "unreachable": (
        unreachable,
        "owner/vlm",
        "the hub cannot be reached, and not all of it is in",
    ),
    "gated": (gated, "owner/vlm", "it is gated: accept its terms on its page there, then run `hf auth login` here"),
    "404": (as_it_is, "owner/other", "the hub knows none of that name, or it is private"),
    "revision": (as_it_is, "owner/vlm@other", "it has no such revision"),
    "read-only cache": (
        read_only,
        "owner/vlm",
        "its cache a-file/cache cannot be written: HF_HOME names",
    ),
    "full disk": (full, "owner/vlm", "is full: HF_HOME names another place"),
    "cut for good": (cut_for_good, "owner/vlm", "the download broke off .*: try again, what is complete stays"),
    "no name": (as_it_is, "a word", "'a word' is neither a folder nor a hub id"),
    "a path": (as_it_is, "./other/folder", "'./other/folder' is neither a folder nor a hub id"),
    "a file": (as_it_is, "a-file", "'a-file' is no folder here"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_had_is_one_sentence(hub, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("")
    spoil, name, sentence = BAD[case]
    spoil(hub, monkeypatch)
    with pytest.raises(InputError, match=sentence) as refusal:
        folder_of(name, ["*.json"], "model")
    assert "\n" not in str(refusal.value)


def test_what_is_cached_needs_no_network(hub, monkeypatch):
    known = load_vlm("owner/vlm", "cpu").latents(IMAGE, ["post-merge/1"])["post-merge/1"]
    offline(hub, monkeypatch)
    assert torch.equal(load_vlm("owner/vlm", "cpu").latents(IMAGE, ["post-merge/1"])["post-merge/1"], known)


def test_a_truncated_shard_is_reported_with_its_place(hub, sharded):
    vlm = load_vlm("owner/vlm", "cpu")
    [file, *_] = sorted(vlm._files(vlm.point("pre-merge/0")))
    path = folder_of("owner/vlm", [file], "model") / file
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=f"the weights in .*{file} are cut short .* delete them, and get them again"):
        vlm.latents(IMAGE, ["pre-merge/0"])


def test_a_weight_that_its_index_puts_elsewhere_is_missed(sharded):
    vlm = load_vlm(sharded, "cpu")
    [file, *_] = sorted(vlm._files(vlm.point("pre-merge/0")))
    weights = load_file(sharded / file)
    save_file({n: w for n, w in weights.items() if "patch_embed" not in n}, sharded / file)
    with pytest.raises(InputError, match=r"lacks the weight model\.visual\.patch_embed"):
        vlm.latents(IMAGE, ["pre-merge/0"])
