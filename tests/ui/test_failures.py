"""The Failures tab's endpoint over HTTP, and its HTML and controls."""

import io
import json
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from house import build_house
from PIL import Image
from tabs import serve_tab

from foresight.data.archive import Broken
from foresight.data.images import to_pil
from foresight.data.render import render
from foresight.data.scenes import SceneSpec, sample
from foresight.errors import InputError
from foresight.inspection.evaluation import evaluate, scene_samples, summarise
from foresight.metrics.masks import NOT_MEASURABLE
from foresight.ui import uploads
from foresight.ui.failures import choices, galleries, runs
from foresight.ui.failures import tab as failures
from foresight.ui.failures.galleries import clock
from foresight.ui.failures.runs import Run, Shot

SPEC = {"objects": [1, 2], "backgrounds": ["white"], "size": "large"}


@pytest.fixture(scope="module")
def inspector(tiny, tmp_path_factory):
    return build_house(tiny.folder, tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="module")
def client(inspector):
    with serve_tab(failures.build, failures.endpoint, runs.FailuresCalls.of(inspector)) as url:
        yield Client(url, verbose=False)


@pytest.fixture(scope="module")
def rows(inspector):
    spec = SceneSpec(objects=(1, 2), backgrounds=("white",), radius=(40, 64))
    return list(evaluate(inspector, inspector.registry.find("linear"), scene_samples(3, 4, spec)))


def run_of(inspector, rows, broken=()):
    shots = [Shot(i, row.without_pixels(), f"/{i}.png", f"/{i}-made.png") for i, row in enumerate(rows)]
    total, data = len(shots) + len(broken), {"scenes": len(rows)}
    made = Run(inspector.registry.find("linear"), total, data, shots=shots, broken=list(broken))
    made.end()
    return made


def worst(shots, score):
    return runs.select(shots, score, "worst first", "", "", (), (), (), (), ())


def test_generated_scenes_are_scored_as_the_library_scores_them(client, rows):
    told = client.predict("post-merge/1", "linear", None, 3, 4, SPEC, api_name="/evaluate")
    assert [p["image"] for p in told["pictures"]] == [row.name for row in rows]
    for theirs, ours in zip(told["pictures"], rows, strict=True):
        assert theirs["lpips"] == pytest.approx(ours.flat()["lpips"], abs=1e-4)
        assert theirs["object_shape"] == ours.flat()["object_shape"]
    expected = summarise([row.flat() for row in rows])["scores"]["ssim"]
    assert told["summary"]["scores"]["ssim"] == pytest.approx(expected, abs=1e-4)
    assert told["data"]["split"] == "test" and told["data"]["objects"] == [1, 2] and told["broken"] == []


def test_a_zip_with_a_hundred_files_of_which_five_are_broken(client, tmp_path):
    file = io.BytesIO()
    to_pil(render(sample(range(1), 0, SceneSpec())).images[0] / 255).save(file, "PNG")
    good, path = file.getvalue(), tmp_path / "hundred.zip"
    bad = {7: b"no picture", 20: b"", 33: good[:400], 58: b"\x89PNG\r\n\x1a\n" + bytes(50), 99: good[:60]}
    with zipfile.ZipFile(path, "w") as made:
        for i in range(100):
            made.writestr(f"pictures/{i:03d}.png", bad.get(i, good))
    told = client.predict("post-merge/1", "linear", [handle_file(path)], api_name="/evaluate")
    assert len(told["pictures"]) == told["summary"]["pictures"] == 95
    assert [b["image"] for b in told["broken"]] == [f"pictures/{i:03d}.png" for i in bad]
    assert all(b["reason"].endswith(".") for b in told["broken"])
    names = [p["image"] for p in told["pictures"]]
    assert names == [f"pictures/{i:03d}.png" for i in range(100) if i not in bad]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("post-merge/9", "linear"), "adapter reads post-merge/9: there are some for"),
        (("post-merge/1", "/etc"), "adapter '/etc' reads post-merge/1: choose from tokens, linear, pooled"),
        (("post-merge/1", "linear", None, 0), "Scenes must be a whole number from 1 to"),
        (("post-merge/1", "linear", None, 2, 0, {"mood": 1}), "Unknown factor 'mood'"),
        (("post-merge/1", "linear", None, 2, 0, {"objects": [4, 2]}), "within 1 to 5, not 4 to 2"),
        (("post-merge/1", "linear", None, 2, 0, {"objects": "many"}), "two numbers such as"),
        (("post-merge/1", "linear", None, 2, 0, {"shapes": ["heart"]}), "Unknown shape"),
        (("post-merge/1", "linear", None, 2, 0, {"shapes": 5}), "Shapes must be a list of names, not 5"),
        (("post-merge/1", "linear", None, 2, 0, {"size": ["small"]}), "Size must be a name"),
        (("post-merge/1", "linear", [handle_file("http://127.0.0.1/a.png")]), "addresses are not fetched"),
    ],
)
def test_bad_input_is_one_sentence(client, given, sentence):
    with pytest.raises(AppError, match=sentence):
        client.predict(*given, api_name="/evaluate")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"no archive", "is no zip archive"), (b"", "zip archive|empty"), (None, "no picture in what was uploaded")],
)
def test_an_archive_of_nothing_is_one_sentence(client, tmp_path, content, sentence):
    path = tmp_path / "a.zip"
    if content is None:
        zipfile.ZipFile(path, "w").close()
    else:
        path.write_bytes(content)
    with pytest.raises(AppError, match=sentence):
        client.predict("post-merge/1", "linear", [handle_file(path)], api_name="/evaluate")


def test_a_folder_is_for_local_runs_only(inspector, tmp_path):
    Image.new("RGB", (60, 60)).save(tmp_path / "a.png")
    (tmp_path / "folder.png").mkdir()
    local, public = (runs.FailuresCalls.of(inspector, local=on) for on in (True, False))
    items, total, data = runs.samples(local, "Folder", None, f" {tmp_path} ", [], None)
    assert total == 2 and data == {"folder": str(tmp_path)}
    assert [(s.name, isinstance(s, Broken)) for s in items] == [("a.png", False), ("folder.png", True)]
    with pytest.raises(InputError, match="come from: Generated scenes, Upload"):
        runs.samples(public, "Folder", None, str(tmp_path), [], None)
    with pytest.raises(InputError, match="choose pictures or a zip"):
        runs.samples(public, "Upload", None, "", [], None)


def test_a_file_opened_in_inspect_is_a_copy_that_is_deleted_in_time(inspector, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    path, keeper = tmp_path / "a.png", failures.gr.HTML()
    path.write_bytes(b"a picture")
    shot = Shot(0, replace(rows[0].without_pixels(), case=str(path)), "", "")
    assert keeper.temp_files == {runs.opened(shot, keeper)}
    path.unlink()
    with pytest.raises(InputError, match="“a.png” can no longer be read"):
        runs.opened(shot, keeper)


def test_archives_of_one_upload_share_their_room(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(uploads.archive, "MAX_BYTES", 10)
    for name in ("a", "b"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as made:
            made.writestr(f"{name}.png", b"6 byte")
    found = uploads.handed_in([str(tmp_path / "a.zip"), str(tmp_path / "b.zip")], failures.gr.HTML(), print)
    assert [isinstance(item, Broken) for item in found] == [False, True] and "together" in found[1].reason


def test_the_gallery_has_the_worst_first_and_escapes_names(inspector, rows):
    evil = "<img src=x onerror=alert(1)>"
    run = run_of(inspector, rows, [Broken(evil, evil)])
    shots = worst(run.shots, "lpips")
    found = [shot.line.scores["adapter"]["lpips"] for shot in shots]
    assert found == sorted(found, reverse=True)
    html = galleries.gallery(shots, "lpips", 2)
    assert html.count("data-number") == 2 and "Show 1 more of 1" in html
    assert "<img src=x" not in galleries.status(run) and "1 file left out" in galleries.status(run)
    assert "All 4 of 4 files" in galleries.status(run)
    table = galleries.table(shots)
    assert [row[0] for row in table] == [shot.number for shot in shots] and len(table[0]) == len(galleries.HEADERS)
    assert "Means of 2 of 3 pictures" in galleries.summary(run.lines[:2], 3)
    assert galleries.summary([], 3) == galleries.gallery([], "lpips", 2) == galleries.NOTHING


def test_an_iou_of_0_is_marked_as_nothing_found(inspector, rows):
    shot = run_of(inspector, rows).shots[0]
    scores = shot.line.scores | {"adapter": shot.line.scores["adapter"] | {"mask_iou": 0.0}}
    lost = replace(shot, line=replace(shot.line, scores=scores))
    assert "no object is found where one was" in galleries.gallery([lost], "lpips", 1)
    scores["adapter"]["mask_iou"] = 0.01
    assert "no object is found where one was" not in galleries.gallery([lost], "lpips", 1)


def unmeasurable(shot):
    scores = shot.line.scores | {"adapter": shot.line.scores["adapter"] | {"mask_iou": None}}
    return replace(shot, line=replace(shot.line, scores=scores, mask_reason=NOT_MEASURABLE))


def test_what_cannot_be_measured_stands_apart_and_is_told_beside_the_mean(inspector, rows):
    first, *rest = run_of(inspector, rows).shots
    for i, shot in enumerate(rest):
        shot.line.scores["adapter"]["mask_iou"] = 0.2 * i
    shots = worst([unmeasurable(first), *rest], "mask_iou")
    assert [shot.number for shot in shots] == [1, 2, 0]
    ranked, apart = galleries.gallery(shots, "mask_iou", 24).split("Not in this order: 1 without Mask IoU")
    assert "not measurable" not in ranked and "no object is found where one was" in ranked
    assert f"mask IoU not measurable: {NOT_MEASURABLE}" in apart and "no object is found" not in apart
    assert "Not in this order" not in galleries.gallery(shots, "lpips", 24)
    told = galleries.summary([shot.line for shot in shots], 3)
    assert "In 1 the mask IoU is not measurable" in told and told.count("2 of 3 pictures") == 1


def test_filters_keep_and_order_shots(inspector, rows):
    shots = run_of(inspector, rows).shots
    shape = shots[0].line.objects[0].shape
    kept = runs.select(shots, "ssim", "best first", "", "", [shape], [], [], [], [])
    assert kept and all(shape in {o.shape for o in shot.line.objects} for shot in kept)
    value = shots[1].line.scores["adapter"]["ssim"]
    above = runs.select(shots, "ssim", "worst first", f"{value}", "", [], [], [], [], [])
    assert above[0].number == 1 and len(above) == sum(s.line.scores["adapter"]["ssim"] >= value for s in shots)
    with pytest.raises(InputError, match="numbers such as 0.35, not 'much'"):
        runs.select(shots, "ssim", "worst first", "much", "", [], [], [], [], [])
    assert choices.bound(" 0,5 ") == 0.5 and choices.bound("") is None
    with pytest.raises(InputError):
        choices.bound("nan")


def test_only_what_a_set_has_is_offered_and_kept_among_the_filters():
    fields = choices.FACTORS | {"shapes": ["star"], "least": 2, "most": 3, "size": "small"}
    found = choices.levels_of(fields)
    assert found["only-shape"] == ["star"] and found["only-objects"] == ["2", "3"] and found["only-size"] == ["small"]
    assert found["only-background"] == list(choices.BACKGROUNDS) and not any(choices.levels_of({}).values())
    assert choices.levels_of(choices.FACTORS)["only-size"] == list(choices.SIZES)
    chosen = ["ssim", "best first", "0.1", "", ["star", "ring"], ["red"], ["large"], ["5", "2"], ["white"]]
    kept = ["ssim", "best first", "0.1", "", ["star"], ["red"], [], ["2"], ["white"]]
    assert choices.within(fields, chosen) == kept
    assert choices.within({}, chosen) == [*chosen[:4], [], [], [], [], []]
    assert [update["visible"] for update in choices.offer_filters(fields, kept)] == [False, True, False, True, True]


def test_evaluations_are_kept_by_their_token_and_the_oldest_forgotten(inspector, rows):
    first, second, third = (run_of(inspector, rows) for _ in range(3))
    kept = runs.KeptRuns(most=2)
    kept.add(first)
    kept.add(second)
    assert kept.find(first.token) is first and kept.find(None) is None is kept.find("nothing")
    kept.add(third)
    assert kept.find(second.token) is None  # the one that was asked for the longest ago
    assert kept.find(first.token) is first and kept.find(third.token) is third
    assert f"uploaded={first.token}" in galleries.view(first, [*choices.FILTERS.values()])
    first.fields = dict(choices.FACTORS)
    assert f"evaluation={first.token}" in galleries.view(first, [*choices.FILTERS.values()])


def test_what_is_exported_is_what_the_filters_keep(inspector, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    keeper = failures.gr.HTML()
    run = Run(inspector.registry.find("linear"), 4, {"scenes": 4})
    for item in [*rows, Broken("x.png", "it is no picture.")]:
        runs.take(run, item, keeper)
    every = ("lpips", "worst first", "", "", [], [], [], [], [])
    table, data, packed = (Path(runs.export(run, kind, every, keeper)) for kind in failures.DOWNLOADS)
    told = json.loads(data.read_text())
    assert told["summary"]["pictures"] == told["evaluated"] == told["selected"] == 3 and told["filtered_by"] is None
    assert told["asked"] == 4 and len(told["broken"]) == 1 and table.name == "foresight-failures.csv"
    with zipfile.ZipFile(packed) as archive:
        assert len(archive.namelist()) == 2 + 2 * 3 and archive.testzip() is None
        assert archive.read("table.csv").decode() == table.read_bytes().decode()
        with Image.open(archive.open("00000-original.png")) as original:
            assert original.size == (224, 224)
    assert {str(table), str(data), str(packed)} <= keeper.temp_files  # so that they are deleted in time

    least = worst(run.shots, "ssim")[1].line.scores["adapter"]["ssim"]
    some = ("ssim", "worst first", f"{least}", "", [], [], [], [], [])
    table, data, packed = (Path(runs.export(run, kind, some, keeper)) for kind in failures.DOWNLOADS)
    told = json.loads(data.read_text())
    assert told["selected"] == len(told["pictures"]) == told["summary"]["pictures"] == 2 and told["broken"] == []
    assert told["filtered_by"] == f"SSIM from {least}" and packed.name == "foresight-failures-2-of-3.zip"
    with zipfile.ZipFile(packed) as archive:
        assert len(archive.namelist()) == 2 + 2 * 2
    shape = ("lpips", "best first", "", "0.5", ["star", "cross"], [], [], [], ["white"])
    assert runs.filtered_by(*shape) == "shape star or cross; background white; LPIPS to 0.5"


def test_strangers_evaluate_a_few_pictures_at_a_time(inspector, tmp_path, monkeypatch):
    public = runs.FailuresCalls.of(inspector, public=True)
    choice = [0, 1, 1, [], [], "any", "any", [], True]
    assert runs.samples(public, "Generated scenes", None, "", [64, *choice], None)[1] == 64
    with pytest.raises(InputError, match="it takes 64 pictures at a time"):
        runs.samples(public, "Generated scenes", None, "", [65, *choice], None)
    with pytest.raises(InputError, match="it takes 64 pictures at a time"):
        runs.samples(public, "Upload", [str(tmp_path / f"{i}.png") for i in range(65)], "", [], None)
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for i in range(70):
            archive.writestr(f"{i}.png", b"a picture")
    monkeypatch.setattr(uploads, "get_upload_folder", lambda: str(tmp_path / "uploads"))
    with pytest.raises(InputError, match="it takes 64 pictures at a time"):
        runs.samples(public, "Upload", [str(tmp_path / "many.zip")], "", [], None)
    assert not any((tmp_path / "uploads").iterdir())  # what was unpacked by then is gone


def test_an_evaluation_over_the_api_ends_when_it_is_cancelled(inspector):
    real, begun, ended, made = runs.FailuresCalls.of(inspector), threading.Event(), threading.Event(), []

    def watched(record, samples):
        try:
            for item in real.evaluate(record, samples):
                made.append(item.name)
                begun.set()
                yield item
        finally:
            ended.set()

    calls = runs.FailuresCalls(real.adapters, real.default, watched)
    with serve_tab(failures.build, failures.endpoint, calls) as url:
        client = Client(url, verbose=False)
        job = client.submit("post-merge/1", "linear", None, 1000, 0, SPEC, api_name="/evaluate")
        assert begun.wait(60)
        job.cancel()
        assert ended.wait(60) and len(made) < 1000
        told = client.predict("post-merge/1", "linear", None, 2, 0, SPEC, api_name="/evaluate")
        assert len(told["pictures"]) == 2  # and the next one is not in its way


def test_time_in_words():
    assert [clock(s) for s in (0.2, 8.4, 200)] == ["1 s", "8 s", "3 min 20 s"]
