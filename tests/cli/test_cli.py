"""The command line, run as a user does, on models of tiny size."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
import zipfile
from itertools import islice

import pytest
import torch
from house import save_tiny_adapter
from PIL import Image

import foresight
from foresight.cli.commands import summary_text
from foresight.cli.main import main
from foresight.data.images import load_image, load_mask, to_tensor
from foresight.data.render import render
from foresight.data.scenes import Scenes
from foresight.inspection import evaluation
from foresight.inspection.evaluation import evaluate as evaluate_images
from foresight.metrics.masks import NOT_MEASURABLE
from foresight.metrics.scores import SCORES, score


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("scenes")
    assert main(["scenes", "--n", "3", "--objects", "3-5", "--backgrounds", "white", "--out", str(out)]) == 0
    return out


@pytest.fixture
def models(house):
    return ["--model", str(house / "vlm"), "--vae", str(house / "vae")]


@pytest.fixture
def adapter(house):
    return ["--adapter", str(house / "bundled/post-merge-1-linear")]


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_importing_and_help_wait_for_no_library():
    code = "import foresight, foresight.cli.main, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert foresight.score is score and all(getattr(foresight, name) for name in foresight.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = foresight.nothing


@pytest.mark.parametrize("command", ["reconstruct", "scenes", "evaluate", "info"])
def test_help_shows_examples(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"examples:\n  python -m foresight {command}" in capsys.readouterr().out


def test_scenes_are_written_whole_and_drawn_again(scenes, tmp_path):
    scenes_written = lines((scenes / "scenes.jsonl").read_text())
    assert len(scenes_written) == 3
    covered = False
    for line in scenes_written:
        drawn = render(Scenes.from_description(line["scene"]))
        covered = covered or not torch.equal(drawn.full, drawn.visible)
        picture = to_tensor(Image.open(scenes / line["image"])) * 255
        assert torch.equal(picture.round().byte(), drawn.images[0])
        assert torch.equal(load_mask(scenes / line["mask"]), drawn.mask[0])
        for j, thing in enumerate(line["objects"]):
            assert torch.equal(load_mask(scenes / thing["mask"]), drawn.visible[0, j])
            assert thing["box"] == drawn.boxes[0, j].tolist()
    assert covered  # so that visible parts were told from full ones
    options = ["--objects", "3-5", "--backgrounds", "white", "--out", str(tmp_path)]
    assert main(["scenes", "--n", "2", *options]) == 0
    assert lines((tmp_path / "scenes.jsonl").read_text()) == scenes_written[:2]


def test_scenes_do_not_mix_with_others(tmp_path, capsys):
    many, few = (["scenes", "--n", n, "--seed", "1", "--out", str(tmp_path)] for n in ("3", "2"))
    assert main(many) == main(many) == 0
    before = (tmp_path / "scenes.jsonl").read_bytes()
    assert main(few) == 2
    assert "holds other scenes, such as images/00002.png" in capsys.readouterr().err
    assert (tmp_path / "scenes.jsonl").read_bytes() == before


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path):
    unread, pipe = os.pipe()
    os.close(unread)
    command = [sys.executable, "-m", "foresight", "scenes", "--n", "1", "--out", str(tmp_path)]
    ended = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE)
    os.close(pipe)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_scenes_hold_what_is_asked_for(tmp_path, capsys):
    options = ["--objects=2", "--shapes=star,ring", "--colors=red", "--radius=20-24", "--no-overlap"]
    assert main(["scenes", "--n", "4", "--split", "val", *options, "--out", str(tmp_path)]) == 0
    for line in lines((tmp_path / "scenes.jsonl").read_text()):
        assert line["split"] == "val"
        assert [thing["label"] in ("red star", "red ring") for thing in line["objects"]] == [True, True]
        assert all(20 <= thing["radius"] * 224 <= 24.01 for thing in line["scene"]["objects"])
    assert capsys.readouterr().out.startswith("4 scenes in ")
    options = ["--objects=1", "--size=small", "--position=top left", "--out", str(tmp_path / "small")]
    assert main(["scenes", "--n", "4", *options]) == 0
    for line in lines((tmp_path / "small/scenes.jsonl").read_text()):
        [thing] = line["scene"]["objects"]
        assert 12 <= thing["radius"] * 224 <= 24.01 and thing["x"] <= 0.5 and thing["y"] <= 0.5


def test_reconstruct_writes_the_picture_that_it_scores(scenes, models, adapter, tmp_path, capsys):
    images = [str(scenes / f"images/0000{i}.png") for i in range(2)]
    assert main(["reconstruct", *images, *models, *adapter, "--out", str(tmp_path), "--json"]) == 0
    results = lines(capsys.readouterr().out)
    assert [line["image"] for line in results] == images
    assert {line["adapter"] for line in results} == {"post-merge-1-linear"}
    for image, line in zip(images, results, strict=True):
        theirs = score(load_image(image), load_image(line["reconstruction"]))
        assert line["ssim"] == pytest.approx(theirs["ssim"], abs=2e-3)  # 8 bits
        assert line["lpips"] == pytest.approx(theirs["lpips"], abs=2e-2)


def test_pixels_are_how_large_the_model_sees_images(scenes, models, adapter, tmp_path, capsys):
    image = str(scenes / "images/00000.png")
    for pixels, side, notice in [("112²", 112, "fitted at 224², here 112 × 112 pixels"), ("native", 224, None)]:
        out = ["--pixels", pixels, "--out", str(tmp_path / pixels)]
        assert main(["reconstruct", image, *models, *adapter, *out, "--json"]) == 0
        [line] = lines(capsys.readouterr().out)
        assert line["notice"] == notice and load_image(line["reconstruction"]).size == (side, side)
    assert main(["evaluate", "--images", image, *models, *adapter, "--pixels", "112²", "--out", str(tmp_path)]) == 0
    assert "1 pictures are of another size than the adapter was fitted at" in capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["other_sizes"] == 1 and summary["data"]["pixels"] == "112²"
    with (tmp_path / "pictures.csv").open() as file:
        assert [(row["width"], row["height"]) for row in csv.DictReader(file)] == [("112", "112")]


@pytest.mark.parametrize(
    ("pixels", "sentence"),
    [("448", "a side of 448 is written 448²"), ("many", "'many' is no number of pixels"), ("6000²", "too many")],
)
def test_pixels_that_cannot_be_meant_are_refused(pixels, sentence, capsys):
    with pytest.raises(SystemExit):
        main(["reconstruct", "cat.jpg", "--pixels", pixels])
    output = capsys.readouterr()
    assert sentence in output.err and output.err.count("\n") == 1 and not output.out


def test_the_good_are_written_and_the_bad_listed(scenes, models, adapter, tmp_path, capsys):
    (tmp_path / "bad.png").write_text("no picture")
    images = [str(tmp_path / "bad.png"), str(scenes / "images/00000.png"), "nowhere.png"]
    assert main(["reconstruct", *images, *models, *adapter, "--out", str(tmp_path / "out"), "--json"]) == 2
    output = capsys.readouterr()
    assert [line["image"] for line in lines(output.out)] == images[1:2]
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert output.err.splitlines()[-1].startswith("error: 2 of 3 left out: “bad.png” is not a JPEG")


def test_pictures_of_one_name_keep_apart(scenes, models, adapter, tmp_path, capsys):
    image = str(scenes / "images/00000.png")
    assert main(["reconstruct", image, image, *models, *adapter, "--out", str(tmp_path)]) == 0
    assert len(list(tmp_path.iterdir())) == 2
    assert "mask IoU" in capsys.readouterr().out


def test_a_mask_is_what_counts(scenes, models, adapter, tmp_path, capsys):
    Image.new("L", (224, 224)).save(tmp_path / "black.png")
    image, mask = str(scenes / "images/00000.png"), str(tmp_path / "black.png")
    out = ["--out", str(tmp_path), "--json"]
    assert main(["reconstruct", image, "--mask", mask, *models, *adapter, *out]) == 0
    [line] = lines(capsys.readouterr().out)
    assert line["mask_iou"] is None and line["mask_reason"] == "the given mask is empty"


def test_evaluate_a_folder_with_a_broken_file(scenes, models, adapter, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("=a", "c"):
        (folder / f"{name}.png").symlink_to(scenes / "images/00000.png")
    (folder / "b.png").write_bytes(b"no picture")
    where = ["--images", str(folder), "--out", str(tmp_path / "out")]
    assert main(["evaluate", *where, *models, *adapter, "--json"]) == 0
    *rows, last = lines(capsys.readouterr().out)
    assert [row["image"] for row in rows] == ["=a.png", "b.png", "c.png"]
    assert "not a JPEG" in rows[1]["error"] and rows[0]["lpips"] == pytest.approx(rows[2]["lpips"], abs=1e-5)
    summary = last["summary"]
    assert summary == json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["pictures"] == 2 and [b["image"] for b in summary["broken"]] == ["b.png"]
    with (tmp_path / "out/pictures.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["image"] for row in table] == ["'=a.png", "c.png", "b.png"]  # no formula
    assert table[2]["error"]
    assert float(table[0]["oracle_ssim"]) == pytest.approx(summary["scores"]["oracle_ssim"][0])


def test_a_name_that_is_no_text_is_kept_as_it_is(scenes, models, adapter, tmp_path, capfd):
    folder = tmp_path / "pictures"
    folder.mkdir()
    shutil.copy(scenes / "images/00000.png", image := folder / os.fsdecode(b"a\xff.png"))
    assert main(["evaluate", "--images", str(folder), *models, *adapter, "--out", str(tmp_path / "out")]) == 0
    assert b"\na\xff.png," in (tmp_path / "out/pictures.csv").read_bytes()
    assert main(["reconstruct", str(image), *models, *adapter, "--out", str(tmp_path / "read")]) == 0
    assert os.listdir(os.fsencode(tmp_path / "read"))[0].startswith(b"a\xff-post-merge-1-")
    assert r"a\udcff.png" in capfd.readouterr().out


def test_evaluate_an_archive_and_keep_what_the_folder_holds(scenes, models, adapter, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(scenes / "images/00000.png", "holiday/beach.png")
        archive.writestr("notes.txt", "no picture")
    where = ["--images", str(tmp_path / "photos.zip"), "--out", str(tmp_path / "out")]
    assert main(["evaluate", *where, *models, *adapter, "--json"]) == 0
    *rows, last = lines(capsys.readouterr().out)
    assert [row["image"] for row in rows] == ["holiday/beach.png", "notes.txt"]
    assert last["summary"]["pictures"] == 1
    before = (tmp_path / "out/summary.json").read_bytes()
    assert main(["evaluate", "--scenes", "1", "--out", str(tmp_path / "out"), *models, *adapter]) == 2
    output = capsys.readouterr()
    assert "holds an evaluation already (pictures.csv, summary.json)" in output.err and not output.out
    assert (tmp_path / "out/summary.json").read_bytes() == before


def test_numbers_are_taken_as_the_app_takes_them(tmp_path):
    assert main(["scenes", "--n", "2.0", "--seed", "1e1", "--out", str(tmp_path / "a")]) == 0
    assert main(["scenes", "--n", "2", "--seed", "10", "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a/scenes.jsonl").read_bytes() == (tmp_path / "b/scenes.jsonl").read_bytes()


def test_evaluate_scenes_beside_all_floors(models, adapter, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("foresight.inspection.evaluation.TRAINING", 4)
    assert main(["evaluate", "--scenes", "2", *models, *adapter, "--out", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    for floor in ("blank page", "training mean", "nearest training image", "oracle", "skill"):
        assert floor in output
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["data"]["split"] == "test" and summary["data"]["objects"] == [1, 5]
    assert (summary["point"], summary["pictures"], summary["broken"]) == ("post-merge/1", 2, [])


def test_an_interrupted_evaluation_keeps_what_it_has(models, adapter, tmp_path, capsys, monkeypatch):
    def interrupted(*given):
        yield from islice(evaluate_images(*given), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr("foresight.inspection.evaluation.TRAINING", 4)
    monkeypatch.setattr("foresight.cli.commands.evaluate_images", interrupted)
    assert main(["evaluate", "--scenes", "3", *models, *adapter, "--out", str(tmp_path)]) == 130
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["pictures"], summary["interrupted_of"]) == (2, 3)
    assert "error: interrupted." in capsys.readouterr().err


def test_a_full_disk_is_one_sentence(tmp_path, capsys, monkeypatch):
    def full(image, path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Image.Image, "save", full)
    assert main(["scenes", "--n", "1", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("00000.png: no space left on device.\n")


def test_a_long_name_leaves_room_for_what_stands_behind_it(scenes, models, adapter, tmp_path, capsys):
    image = tmp_path / ("ä" * 120 + ".png")
    shutil.copy(scenes / "images/00000.png", image)
    assert main(["reconstruct", str(image), *models, *adapter, "--out", str(tmp_path / "out"), "--json"]) == 0
    [path] = (tmp_path / "out").iterdir()
    assert path.name.startswith("ä" * 60 + "-post-merge-1-")


def test_a_summary_tells_what_could_not_be_measured():
    row = {"image": "a", "mask_reason": None, **dict.fromkeys(SCORES, 0.5)}
    row |= {f"{of}_{name}": 0.5 for of in ("blank", "oracle") for name in SCORES}
    summary = evaluation.summarise([row, row | {"mask_iou": None, "mask_reason": NOT_MEASURABLE}])
    text = "\n".join(summary_text(summary | {"data": {"images": "x"}}))
    assert "target" not in text
    assert "0.500 (n = 1), 1 of 2" in text and text.count("1 of 2") == 1
    assert f"mask IoU not measurable in 1 pictures: {NOT_MEASURABLE}" in text


def test_info_names_points_adapters_and_versions(house, models, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("foresight.cli.commands.BUNDLED", house / "bundled")
    monkeypatch.chdir(tmp_path)
    odd = save_tiny_adapter(tmp_path / "runs/adapters/odd", "linear", "post-merge/1", house, fitted={"vae": "0" * 64})
    save_tiny_adapter(tmp_path / "runs/adapters/half", "linear", "post-merge/2", house, fitted={"dtype": "bfloat16"})
    assert main(["info", *models, "--json"]) == 0
    [facts] = lines(capsys.readouterr().out)
    points = {p["point"]: p for p in facts["points"]}
    first, *_, last = points
    assert (first, last) == ("pre-merge/0", "post-merge/3")
    assert points["post-merge/1"] == {
        "point": "post-merge/1",
        "width": 48,
        "adapters": ["tokens", "linear", "pooled"],
    }
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
    assert list(facts["refused"]) == [str(odd.relative_to(tmp_path))]
    assert main(["info", *models]) == 0
    output = capsys.readouterr().out
    assert "tokens, linear, pooled" in output
    assert "half at post-merge/2: fitted with another dtype ('bfloat16', here 'float32')" in output
