"""Clips on the command line, on models of tiny size."""

import csv
import json

import numpy as np
import pytest
import torch
from house import save_tiny_adapter
from PIL import Image

from foresight.cli.main import main
from foresight.data.clips import load_clip, write_clip
from foresight.data.images import load_image, to_tensor
from foresight.metrics.video import CONTROLS, TRUST


@pytest.fixture
def options(house):
    models = ["--model", str(house / "vlm"), "--vae", str(house / "vae")]
    return [*models, "--adapter", str(house / "bundled/post-merge-1-linear")]


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    frames = torch.ones(7, 3, 56, 84)
    for t in range(7):
        frames[t, :, 16:36, 8 + 6 * t : 28 + 6 * t] = torch.tensor([0.8, 0.1, 0.1]).view(3, 1, 1)
    return write_clip(tmp_path_factory.mktemp("videos") / "red.mp4", frames, 8.0)


def test_reconstruct(clip, options, tmp_path, capsys):
    picture = tmp_path / "still.png"
    Image.new("RGB", (60, 60), "white").save(picture)
    assert main(["reconstruct", str(clip), str(picture), *options, "--out", str(tmp_path / "out"), "--json"]) == 0
    still, line = lines(capsys.readouterr().out)
    assert still["image"] == str(picture)
    assert (line["clip"], line["frames"], line["fps"], line["notice"]) == (str(clip), 7, 8.0, None)
    assert set(TRUST) < set(line) and len(line["by_frame"]["lpips"]) == 7 and len(line["by_pair"]["tlpips"]) == 6
    assert list(line["controls"]) == ["still", "held", "shuffled", "lag", "oracle"]
    assert set(line["controls"]["still"]) == set(TRUST)
    assert load_clip(line["reconstruction"], fps=None).frames.shape == (7, 3, 196, 280)
    assert main(["reconstruct", str(clip), *options, "--out", str(tmp_path), "--frames", "3", "--start", "0.2"]) == 0
    output = capsys.readouterr().out
    assert "3 frames at 8 a second, at post-merge/1" in output and "still" in output and "lasts 0.9 s" in output


def test_pixels_are_how_large_the_model_sees_frames(clip, options, tmp_path, capsys):
    out = ["--out", str(tmp_path), "--frames", "3", "--json", "--pixels", "112²"]
    assert main(["reconstruct", str(clip), *options, *out]) == 0
    [line] = lines(capsys.readouterr().out)
    assert line["size"] == [140, 84] and line["notice"].endswith("the adapter was fitted at 224², here 140 × 84 pixels")
    assert load_clip(line["reconstruction"], fps=None).frames.shape == (3, 3, 84, 140)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (60, 60), "white").save(tmp_path / "photos/still.png")
    for of in (["--clips", str(clip)], ["--scenes", "1"], ["--images", str(tmp_path / "photos")]):
        folder = tmp_path / of[0]
        motion = [] if "--clips" in of else ["--motion"]
        assert main(["evaluate", *of, *motion, *options, *out, "--out", str(folder)]) == 0
        [_, *rows] = (folder / "clips.csv").read_text().splitlines()
        assert len(rows) == 1 and "fitted at 224², here 1" in rows[0]
        assert json.loads((folder / "summary.json").read_text())["data"]["pixels"] == "112²"
        capsys.readouterr()


def test_bad_clips_are_reported_and_the_others_read(clip, options, tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("hello")
    assert main(["reconstruct", str(tmp_path / "text.mp4"), str(clip), *options, "--out", str(tmp_path), "--json"]) == 2
    out, err = capsys.readouterr()
    assert len(lines(out)) == 1 and "1 of 2 left out: “text.mp4” is no mp4" in err
    for wrong in (["--frames", "0"], ["--fps", "fast"], ["--start", "-1"]):
        with pytest.raises(SystemExit):
            main(["reconstruct", str(clip), *options, *wrong])
    assert main(["reconstruct", str(clip), *options, "--mask", str(tmp_path / "m.png")]) == 2


def test_scenes_in_motion(tmp_path, capsys):
    command = ["scenes", "--motion", "--n", "2", "--frames", "5", "--motions", "translation,bounce"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    clips = lines((tmp_path / "clips.jsonl").read_text())
    for line in clips:
        truth = np.load(tmp_path / line["truth"])
        count = len(line["scene"]["objects"])
        assert 1 <= count <= 3 and truth["visible"].shape == (5, count, 224, 224)
        assert truth["flow"].shape == (4, 2, 224, 224) and truth["occluded"].shape == (4, 224, 224)
        assert {o["motion"] for o in line["scene"]["objects"]} <= {"translation", "bounce"}
        exact = to_tensor(load_image(tmp_path / line["frames"] / "04.png"))
        coded = load_clip(tmp_path / line["clip"], fps=None).frames[4].float() / 255
        assert (exact - coded).abs().mean() < 0.01
    assert main([*command, "--out", str(tmp_path)]) == 2 and "holds clips already" in capsys.readouterr().err
    assert main(["scenes", "--motion", "--motions", "flying", "--out", str(tmp_path / "x")]) == 2


def test_evaluate(clip, options, house, tmp_path, capsys):
    common = [*options, "--frames", "4", "--json"]
    assert main(["evaluate", "--scenes", "2", "--motion", *common, "--out", str(tmp_path / "a")]) == 0
    *rows, last = lines(capsys.readouterr().out)
    summary = json.loads((tmp_path / "a/summary.json").read_text())
    assert last["summary"] == summary and summary["clips"] == len(rows) == 2 and summary["data"]["frames"] == 4
    assert (
        len(summary["scores"]["lpips"]) == 3 and summary["scores"]["lag_ssim"] and set(summary["trust"]) == set(TRUST)
    )
    table = list(csv.DictReader((tmp_path / "a/clips.csv").open(newline="")))
    assert float(table[1]["still_lpips"]) == pytest.approx(rows[1]["still_lpips"])
    assert {f"{of}_psnr" for of in CONTROLS} <= set(table[0])
    assert main(["evaluate", "--scenes", "2", "--motion", *common, "--out", str(tmp_path / "a")]) == 2

    (clip.parent / "broken.webm").write_bytes(b"x")
    assert main(["evaluate", "--clips", str(clip.parent), *common, "--out", str(tmp_path / "b")]) == 0
    *_, last = lines(capsys.readouterr().out)
    assert last["summary"]["broken"][0]["clip"] == "broken.webm"

    photos = tmp_path / "photos"
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photos / "noise.png")
    assert main(["evaluate", "--images", str(photos), "--motion", *common, "--out", str(tmp_path / "c")]) == 0
    row, _ = lines(capsys.readouterr().out)
    assert row["clip"] == "over noise.png" and row["warp_error"] is not None and row["centroid_error"] is None


def test_an_adapter_that_gives_each_frame(clip, house, options, tmp_path, capsys):
    """Both frames of a step come from one latent: with one frame a step they are alike, with two they are not."""
    from foresight.adapters.checkpoint import describe_adapter, save_adapter
    from foresight.adapters.modules import LinearProbe

    torch.manual_seed(1)
    card = describe_adapter(house / "bundled/post-merge-1-linear")["card"]
    folder = save_adapter(LinearProbe(48, 4, 1, 4, card=card, frames=2).eval(), tmp_path / "pair")
    for adapter, alike in (
        (folder, False),
        (save_tiny_adapter(tmp_path / "one", "linear", "post-merge/1", house), True),
    ):
        command = ["reconstruct", str(clip), *options[:4], "--adapter", str(adapter), "--out", str(tmp_path), "--json"]
        assert main(command) == 0
        (line,) = lines(capsys.readouterr().out)
        frames = load_clip(line["reconstruction"], fps=None).frames.float()
        assert ((frames[0] - frames[1]).abs().mean() < 1) == alike
