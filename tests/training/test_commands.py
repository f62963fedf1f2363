"""python -m training: the commands as a user runs them, at tiny sizes; killed, and spread over processes."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from foresight.data.clips import load_clip, write_clip
from foresight.data.images import to_pil
from foresight.data.render import render
from foresight.data.resolution import Resolution
from foresight.data.scenes import SceneSpec, sample
from foresight.inspection.inspector import Inspector
from foresight.models.vae import load_vae
from foresight.models.vlm import VLM, load_vlm
from training.__main__ import main
from training.loop import STATE

POINTS = "pre-merge/2,post-merge/1"


@pytest.fixture(scope="module")
def models(house):
    return ["--model", str(house / "vlm"), "--vae", str(house / "vae"), "--points", POINTS, "--device", "cpu"]


@pytest.fixture(scope="module")
def fitting(models):
    sizes = ["--hidden", "8", "--steps", "8", "--batch", "2", "--images-from", "0.75", "--held-out", "0"]
    return ["fit", *models, *sizes, "--adapter", "linear,tokens", "--data", "scenes:12"]


@pytest.fixture(scope="module")
def fitted(fitting, tmp_path_factory):
    out = tmp_path_factory.mktemp("fitted")
    assert main([*fitting, "--out", str(out)]) == 0
    return out


def weights(out):
    return {file.parent.name: load_file(file) for file in sorted(out.glob("*/model.safetensors"))}


def equal(a, b):
    assert list(a) == list(b) and len(a) == 4
    return all(torch.equal(a[name][key], b[name][key]) for name in a for key in a[name])


def start(arguments, launcher=("-m", "training")):
    return subprocess.Popen(
        [sys.executable, *launcher, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def test_an_adapter_is_fitted_at_another_size_and_reads_there(models, fitting, house, tmp_path, capsys):
    out = house / "runs" / "small"
    kinds = ["--points", "post-merge/1", "--adapter", "linear,tokens,pooled", "--pixels", "112²", "--held-out", "2"]
    assert main([*fitting, *kinds, "--out", str(out)]) == 0
    inspector = Inspector(load_vlm(house / "vlm", "cpu"), load_vae(house / "vae", "cpu"), [out])
    for record in inspector.adapters("post-merge/1"):
        report = inspector.inspect(torch.rand(3, 200, 200), record.point, record.folder, others=())
        assert report.original.shape == (3, 112, 112) and report.chosen.notice is None
        assert record.card["identity"]["pixels"] == [112**2] and record.card["config"]["sides"] == [112]
    assert inspector.registry.find("pooled", "post-merge/1").config["canvas"] == 128 // inspector.vae.downscale
    shutil.rmtree(out)
    for pixels, sentence in [("native", "an adapter is fitted at chosen sizes"), ("3136-90000", "leaves each image")]:
        assert main([*fitting, "--pixels", pixels, "--out", str(tmp_path)]) == 2
        assert sentence in capsys.readouterr().err
    assert main([*fitting, "--data", "motion:8", "--pixels", "448²", "--out", str(tmp_path)]) == 2
    assert "clips are learned at 224² pixels" in capsys.readouterr().err


def test_photos_are_extracted_at_the_model_s_own_size(models, house, tmp_path):
    photos, store = tmp_path / "photos", tmp_path / "store"
    photos.mkdir()
    for number, size in enumerate([(300, 200), (60, 90), (300, 200)]):
        to_pil(torch.rand(3, *size)).save(photos / f"{number}.png")
    assert main(["extract", *models, "--data", str(photos), "--pixels", "native", "--out", str(store)]) == 0
    grids = [load_file(shard)["post-merge/1"].shape for shard in store.glob("*.safetensors")]
    assert sorted(tuple(grid[:4]) for grid in grids) == [(1, 1, 2, 3), (2, 1, 11, 7)]


def test_extracting_twice_computes_once(models, fitting, fitted, tmp_path, capsys, monkeypatch):
    store, out = tmp_path / "store", tmp_path / "out"
    command = ["extract", *models, "--data", "scenes:12", "--batch", "5", "--out", str(store)]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith(f"12 pictures at {POINTS} in {store}")
    shards = {p.name: p.read_bytes() for p in store.glob("*.safetensors")}

    latents, seen = VLM.latents, []

    def count(self, images, points):
        seen.append(len(images))
        return latents(self, images, points)

    monkeypatch.setattr(VLM, "latents", count)
    assert main(command) == 0
    assert not seen and {p.name: p.read_bytes() for p in store.glob("*.safetensors")} == shards
    assert main([*fitting, "--latents", str(store), "--out", str(out)]) == 0
    assert sum(seen) == 16  # the validation scenes alone, which linear probes ask for
    for name, values in weights(fitted).items():
        for key, value in weights(out)[name].items():  # from batches of another size
            torch.testing.assert_close(value, values[key], rtol=1e-2, atol=1e-3)


def test_a_folder_with_broken_files(models, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k, x in enumerate(render(sample(range(3), 0, SceneSpec())).images):
        to_pil(x / 255).save(folder / f"{k}.png")
    (folder / "1b.png").write_bytes(b"no picture")
    assert main(["extract", *models, "--data", str(folder), "--out", str(tmp_path / "store")]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("3 pictures at ") and "1 files left out" in output.out
    assert "left out: 1b.png: “1b.png” is not a JPEG" in output.err


def test_clips_are_extracted_with_their_times(models, house, tmp_path, capsys):
    """A file, cut with a notice; a folder of one that is broken; moving scenes and a camera over a photo."""
    videos, photos, store = tmp_path / "videos", tmp_path / "photos", tmp_path / "store"
    videos.mkdir(), photos.mkdir()
    grey = torch.linspace(0, 1, 7)[:, None, None, None].expand(-1, 3, 56, 84)
    file = write_clip(tmp_path / "grey.mp4", grey, 8.0)
    (videos / "none.webm").write_bytes(b"x")
    to_pil(torch.rand(3, 90, 120)).save(photos / "noise.png")
    data = f"{file}+clips:{videos}+motion:4+pans:{photos}"
    command = ["extract", *models, "--data", data, "--frames", "3", "--pixels", "112²", "--out", str(store)]
    assert main([*command, "--fps", "4"]) == 0
    output = capsys.readouterr()
    assert output.out.startswith(f"4 clips at {POINTS} in {store} (") and "1 files left out" in output.out
    assert "“grey.mp4” lasts 0.9 s: the clip is 0.8 s of it" in output.err and "left out: none.webm: " in output.err

    def shards():
        found = {}
        for path in store.glob("*.safetensors"):
            with safe_open(path, "pt") as shard:
                names = [name for _, name in json.loads(shard.metadata()["pictures"])]
                found |= {name: (path, row, load_file(path)) for row, name in enumerate(names)}
        return found

    kept = shards()
    names = [re.sub("[0-9a-f]{16}", "", name) for name in kept]
    assert sorted(names) == ["grey.mp4", "moving scene ", "moving scene ", "over noise.png"]
    for _, row, values in kept.values():
        assert values["times"][row].tolist() == [0, 0.25, 0.5] and values["second_per_grid"][row] == 0.5
        (targets,) = (value for name, value in values.items() if name.startswith("targets/"))
        assert targets.shape[1] == 3 and values["pre-merge/2"].shape[1] == 2  # frames, and steps of two
    clip = load_clip(file, 4.0, 3).pixels(Resolution.area(112**2))
    _, row, values = kept["grey.mp4"]
    expected = load_vlm(house / "vlm", "cpu").latents((clip[None] * 255).round() / 255, ["post-merge/1"], fps=4.0)
    torch.testing.assert_close(values["post-merge/1"][row], expected["post-merge/1"][0], rtol=1e-4, atol=1e-5)

    before = {path: path.stat().st_mtime_ns for path in store.iterdir()}
    assert main([*command, "--fps", "4"]) == 0
    assert {path: path.stat().st_mtime_ns for path in store.iterdir()} == before
    assert main([*command, "--fps", "all"]) == 0
    later = [values for path, _, values in shards().values() if path not in before]
    assert {float(values["second_per_grid"][0]) for values in later} == {0.25}  # positions in time are others


def test_killed_while_it_extracts_and_while_it_trains(fitting, fitted, tmp_path):
    """kill -9 of the real command, twice; then the same command ends with the same bits."""
    store, out = tmp_path / "store", tmp_path / "out"
    command = [*fitting, "--latents", store, "--save-every", "1e-9", "--out", out]
    for sign in (lambda: len(list(store.glob("*.safetensors"))) > 0, (out / STATE).exists):
        child = start(command)
        while child.poll() is None and not sign():
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert 0 < torch.load(out / STATE)["step"] < 8 and not weights(out)
    assert main([str(a) for a in command]) == 0
    assert equal(weights(out), weights(fitted))
    assert main([*map(str, command), "--resume"]) == 0  # nothing is left to do, and nothing is lost
    assert equal(weights(out), weights(fitted))


def test_two_processes_do_what_one_does(fitting, fitted, tmp_path):
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29517", "-m", "training")
    child = start([*fitting, "--latents", tmp_path / "store", "--out", tmp_path / "out"], launcher)
    output = child.communicate(timeout=120)[0].decode()
    assert child.returncode == 0, output
    for name, values in weights(fitted).items():
        for key, value in weights(tmp_path / "out")[name].items():
            torch.testing.assert_close(value, values[key], rtol=1e-2, atol=1e-3)


BAD = {
    "a point too deep": (["extract", "MODELS", "--points", "post-merge/9", "--out", "x"], "layers are 0 to 3"),
    "no folder": (["extract", "MODELS", "--data", "nowhere", "--out", "x"], "there is no folder or zip 'nowhere'"),
    "no picture": (["extract", "MODELS", "--data", "bad", "--out", "x"], "none of the 1 files in 'bad'"),
    "no clip": (["extract", "MODELS", "--data", "clips:bad", "--out", "x"], "the folder 'bad' has no clips"),
    "no such clip": (
        ["extract", "MODELS", "--data", "a.mp4", "--out", "x"],
        "there is no clip or folder of clips 'a.mp4'",
    ),
    "clips too long": (
        ["extract", "MODELS", "--data", "motion:4", "--frames", "65", "--out", "x"],
        "1 to 64 frames, not 65",
    ),
    "no rate": (["extract", "MODELS", "--data", "motion:4", "--fps", "0", "--out", "x"], "must be a number above 0"),
    "a file for a folder": (["extract", "MODELS", "--data", "scenes:4", "--out", "bad/a.png"], "is a file"),
    "another's latents": (["extract", "MODELS", "--data", "scenes:4", "--out", "other"], "dtype 'int8' there"),
    "too few to learn from": (["fit", "MODELS", "--data", "bad", "--out", "x"], "0 different pictures are too few"),
    "no such kind": (["fit", "MODELS", "--adapter", "magic", "--data", "scenes:4", "--out", "x"], "no kind of adapter"),
    "another run": (["FIT", "--lr", "0.5", "--out", "fitted"], "is of another run (other lr)"),
    "other data": (["FIT", "--data", "scenes:16", "--out", "fitted"], "is of another run (other data)"),
    "no tracker": (["FIT", "--log-with", "NEITHER", "--out", "x"], "which is not installed here"),
    "no GPU": (["FIT", "--device", "cuda", "--out", "x"], "PyTorch finds no CUDA GPUs"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_exit_2(case, models, fitting, fitted, tmp_path, capsys, monkeypatch):
    if case == "no GPU" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_text("no picture")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/key.json").write_text(json.dumps({"dtype": "int8"}))
    shutil.copytree(fitted, tmp_path / "fitted")
    missing = [name for name in ("trackio", "wandb") if not _installed(name)]
    if case == "no tracker" and not missing:
        pytest.skip("both are installed")
    given = []
    for word in BAD[case][0]:
        whole = {"MODELS": models, "FIT": fitting, "NEITHER": missing[:1]}
        given += whole.get(word, [word])
    try:
        code = main(given)
    except SystemExit as ended:  # argparse's own
        code = ended.code
    output = capsys.readouterr()
    assert code == 2 and output.out == ""
    last = output.err.splitlines()[-1]
    assert BAD[case][1] in last and last.startswith("error: ")


def _installed(name):
    from importlib.util import find_spec

    return find_spec(name) is not None


@pytest.mark.parametrize("command", ["fit", "extract", "bundle"])
def test_help_shows_examples(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"python -m training {command}" in capsys.readouterr().out
