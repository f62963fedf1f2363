"""The Failures tab's endpoint over HTTP, and its HTML and controls."""

import csv
import io
import json
import re
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from house import build_house
from PIL import Image
from tabs import serve_tab

from foresight.data.archive import Broken
from foresight.data.factors import EvaluationSettings, SceneFactors
from foresight.data.images import to_pil
from foresight.data.render import render
from foresight.data.scenes import BACKGROUNDS, SceneSpec, sample, take
from foresight.errors import InputError
from foresight.inspection.evaluation import evaluate, scene_samples, summarise
from foresight.maps.pictures import ScenePictures
from foresight.metrics.masks import NOT_MEASURABLE
from foresight.metrics.matching import SIZES
from foresight.settings import Settings
from foresight.ui import uploads
from foresight.ui.failures import filters, form, galleries, runs
from foresight.ui.failures import tab as failures
from foresight.ui.failures.runs import ImageSet, Row, Run
from foresight.ui.navigation import Selection
from foresight.ui.notes import Note, Notes
from foresight.ui.services import duration

SPEC = {"objects": [1, 2], "backgrounds": ["white"], "size": "large"}
LOCAL, PUBLIC = Settings(), Settings(public=True)
EVERY = [*filters.FILTERS.values()]


@pytest.fixture(scope="module")
def inspector(tiny, tmp_path_factory):
    return build_house(tiny.folder, tmp_path_factory.mktemp("house"))


def serve(inspector, settings=LOCAL):
    return serve_tab(lambda navigation: failures.FailuresTab(inspector, navigation, settings))


@pytest.fixture(scope="module")
def client(inspector):
    with serve(inspector) as url:
        yield Client(url, verbose=False)


@pytest.fixture(scope="module")
def rows(inspector):
    spec = SceneSpec(objects=(1, 2), backgrounds=("white",), radius=(40, 64))
    return list(evaluate(inspector, inspector.registry.find("linear"), scene_samples(3, 4, spec)))


def run_of(inspector, rows, broken=()):
    evaluated = [Row(i, row.without_pixels(), f"/{i}.png", f"/{i}-decoded.png") for i, row in enumerate(rows)]
    images = ImageSet((), len(rows) + len(broken), {"scenes": len(rows)})
    run = Run(inspector.registry.find("linear"), images, rows=evaluated, broken=list(broken))
    run.end()
    return run


def worst(rows, score):
    return runs.select(rows, [score, *EVERY[1:]])


def test_generated_scenes_are_scored_as_the_library_scores_them(client, rows):
    results = client.predict("post-merge/1", "linear", None, 3, 4, SPEC, api_name="/evaluate")
    assert [p["image"] for p in results["pictures"]] == [row.name for row in rows]
    for theirs, ours in zip(results["pictures"], rows, strict=True):
        assert theirs["lpips"] == pytest.approx(ours.flat()["lpips"], abs=1e-4)
        assert theirs["object_shape"] == ours.flat()["object_shape"]
    expected = summarise([row.flat() for row in rows])["scores"]["ssim"]
    assert results["summary"]["scores"]["ssim"] == pytest.approx(expected, abs=1e-4)
    assert results["data"]["split"] == "test" and results["data"]["objects"] == [1, 2] and results["broken"] == []


def test_a_zip_with_twenty_files_of_which_five_are_broken(client, tmp_path):
    file = io.BytesIO()
    to_pil(render(sample(range(1), 0, SceneSpec())).images[0] / 255).save(file, "PNG")
    good, path = file.getvalue(), tmp_path / "twenty.zip"
    bad = {1: b"no picture", 4: b"", 7: good[:400], 12: b"\x89PNG\r\n\x1a\n" + bytes(50), 19: good[:60]}
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(20):
            archive.writestr(f"pictures/{i:03d}.png", bad.get(i, good))
    results = client.predict("post-merge/1", "linear", [handle_file(path)], api_name="/evaluate")
    assert len(results["pictures"]) == results["summary"]["pictures"] == 15
    assert [b["image"] for b in results["broken"]] == [f"pictures/{i:03d}.png" for i in bad]
    assert all(b["reason"].endswith(".") for b in results["broken"])
    names = [p["image"] for p in results["pictures"]]
    assert names == [f"pictures/{i:03d}.png" for i in range(20) if i not in bad]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("post-merge/9", "linear"), "no post-merge/9: the post-merge layers are 0 to 3"),
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
    local, remote = (failures.FailuresTab(inspector, None, Settings(host=host)) for host in (None, "0.0.0.0"))
    images = local.image_set("Folder", None, f" {tmp_path} ", {})
    assert images.total == 2 and images.data == {"folder": str(tmp_path), "pixels": "224²"}
    assert images.settings is None
    assert [(s.name, isinstance(s, Broken)) for s in images.samples] == [("a.png", False), ("folder.png", True)]
    with pytest.raises(InputError, match="come from: Generated scenes, Upload\\."):
        remote.image_set("Folder", None, str(tmp_path), {})
    with pytest.raises(InputError, match="choose pictures or a zip"):
        runs.uploaded_set(LOCAL, None, None)


def test_what_was_chosen_on_the_map_is_evaluated_and_its_link_is_of_what_is_kept(inspector, rows):
    drawn = ScenePictures(take(9, 4, SceneSpec(objects=(1, 2)), "test"))
    factors = SceneFactors(objects=(1, 2))
    selection = Selection(
        lambda r: drawn.samples([2, 5], r), 2, {"pictures": [2, 5]}, EvaluationSettings(2, 4, factors)
    )
    local, public = (failures.FailuresTab(inspector, None, settings) for settings in (LOCAL, PUBLIC))
    images = local.image_set(form.CHOSEN, None, "", {}, selection=selection)
    assert [s.name.split(" (")[0] for s in images.samples] == ["scene 2", "scene 5"] and images.data["pixels"] == "224²"
    run = run_of(inspector, rows)
    run.images = images
    assert f"uploaded={run.token}" in galleries.view_link(run, EVERY) and "scenes=" not in galleries.view_link(
        run, EVERY
    )
    with pytest.raises(InputError, match="it takes 64 pictures at a time"):
        public.image_set(form.CHOSEN, None, "", {}, selection=replace(selection, total=65))
    with pytest.raises(InputError, match="choose points on the latent map first"):
        local.image_set(form.CHOSEN, None, "", {})


def test_a_file_opened_in_inspect_is_a_copy_that_is_deleted_in_time(inspector, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    path, keeper = tmp_path / "a.png", failures.gr.HTML()
    path.write_bytes(b"a picture")
    row = Row(0, replace(rows[0].without_pixels(), source=str(path)), "", "")
    row = replace(row, scores=replace(row.scores, name="my photos/the kitchen.png"))  # unpacked, under a number
    opened = runs.image_source(row, keeper)
    assert keeper.temp_files == {opened} and opened.endswith("/the kitchen.png")
    path.unlink()
    with pytest.raises(InputError, match="“my photos/the kitchen.png” can no longer be read"):
        runs.image_source(row, keeper)


def test_a_long_name_is_whole_on_hover_and_shows_both_its_ends(rows):
    name = f"holiday/{'x' * 90}/kitchen-2024.jpg"
    row = Row(0, replace(rows[0].without_pixels(), name=name, source="/tmp/3.jpg"), "a", "b")
    html = galleries.gallery([row], "lpips", 24)
    label = re.search(f'title="{name}">([^<]+)<', html)[1]
    assert len(label) <= 48 and label.startswith("holiday/") and label.endswith("/kitchen-2024.jpg") and "…" in label
    assert galleries.table([row], scenes=False)[0][1] == name


def test_archives_of_one_upload_share_their_room(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(uploads.archive, "MAX_BYTES", 10)
    for name in ("a", "b"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr(f"{name}.png", b"6 byte")
    files = uploads.handed_in([str(tmp_path / "a.zip"), str(tmp_path / "b.zip")], failures.gr.HTML(), print)
    assert [isinstance(item, Broken) for item in files] == [False, True] and "together" in files[1].reason


def test_the_gallery_has_the_worst_first_and_escapes_names(inspector, rows):
    evil = "<img src=x onerror=alert(1)>"
    run = run_of(inspector, rows, [Broken(evil, evil)])
    ordered_rows = worst(run.rows, "lpips")
    scores = [row.scores.scores["adapter"]["lpips"] for row in ordered_rows]
    assert scores == sorted(scores, reverse=True)
    html = galleries.gallery(ordered_rows, "lpips", 2)
    assert html.count("data-number") == 2 and "Show 1 more of 1" in html
    assert "<img src=x" not in galleries.status(run) and "1 file left out" in galleries.status(run)
    assert "All 4 of 4 files" in galleries.status(run)
    table = galleries.table(ordered_rows)
    assert [cells[0] for cells in table] == [row.number for row in ordered_rows]
    assert len(table[0]) == len(galleries.SCENE_HEADERS)
    assert "Means of 2 of 3 pictures" in galleries.summary(run.scores[:2], 3)
    assert galleries.summary([], 3) == galleries.gallery([], "lpips", 2) == galleries.NOTHING


def test_an_iou_of_0_is_marked_as_nothing_found(inspector, rows):
    row = run_of(inspector, rows).rows[0]
    scores = row.scores.scores | {"adapter": row.scores.scores["adapter"] | {"mask_iou": 0.0}}
    lost = replace(row, scores=replace(row.scores, scores=scores))
    assert "no object is found where one was" in galleries.gallery([lost], "lpips", 1)
    scores["adapter"]["mask_iou"] = 0.01
    assert "no object is found where one was" not in galleries.gallery([lost], "lpips", 1)


def unmeasurable(row):
    scores = row.scores.scores | {"adapter": row.scores.scores["adapter"] | {"mask_iou": None}}
    return replace(row, scores=replace(row.scores, scores=scores, mask_reason=NOT_MEASURABLE))


def test_what_cannot_be_measured_stands_apart_and_is_reported_beside_the_mean(inspector, rows):
    first, *rest = run_of(inspector, rows).rows
    for i, row in enumerate(rest):
        row.scores.scores["adapter"]["mask_iou"] = 0.2 * i
    ordered_rows = worst([unmeasurable(first), *rest], "mask_iou")
    assert [row.number for row in ordered_rows] == [1, 2, 0]
    ranked, apart = galleries.gallery(ordered_rows, "mask_iou", 24).split("Not in this order: 1 without Mask IoU")
    assert "not measurable" not in ranked and "no object is found where one was" in ranked
    assert f"mask IoU not measurable: {NOT_MEASURABLE}" in apart and "no object is found" not in apart
    assert "Not in this order" not in galleries.gallery(ordered_rows, "lpips", 24)
    html = galleries.summary([row.scores for row in ordered_rows], 3)
    assert "In 1 the mask IoU is not measurable" in html and html.count("2 of 3 pictures") == 1


def test_filters_keep_and_order_rows(inspector, rows):
    run = run_of(inspector, rows)
    shape = run.scores[0].objects[0].shape
    kept = runs.select(run.rows, ["ssim", "best first", "", "", [shape], *EVERY[5:]])
    assert kept and all(shape in {o.shape for o in row.scores.objects} for row in kept)
    value = run.scores[1].scores["adapter"]["ssim"]
    above = runs.select(run.rows, ["ssim", "worst first", f"{value}", *EVERY[3:]])
    assert above[0].number == 1 and len(above) == sum(s.scores["adapter"]["ssim"] >= value for s in run.scores)
    with pytest.raises(InputError, match="numbers such as 0.35, not 'much'"):
        runs.select(run.rows, ["ssim", "worst first", "much", *EVERY[3:]])
    assert filters.bound(" 0,5 ") == 0.5 and filters.bound("") is None
    with pytest.raises(InputError):
        filters.bound("nan")


def test_only_what_a_set_has_is_offered_and_kept_among_the_filters():
    settings = EvaluationSettings(factors=SceneFactors(objects=(2, 3), shapes=("star",), size="small"))
    levels = filters.levels(settings)
    assert levels["only-shape"] == ["star"] and levels["only-objects"] == ["2", "3"]
    assert levels["only-size"] == ["small"] and levels["only-background"] == list(BACKGROUNDS)
    assert not any(filters.levels(None).values())
    assert filters.levels(EvaluationSettings())["only-size"] == list(SIZES)
    chosen = [
        "ssim",
        "best first",
        "0.1",
        "",
        ["star", "ring"],
        ["red"],
        ["large"],
        ["5", "2"],
        ["white"],
        ["odd"],
        "",
        "",
    ]
    kept = ["ssim", "best first", "0.1", "", ["star"], ["red"], [], ["2"], ["white"], ["odd"], "", ""]
    assert filters.within(settings, chosen) == kept
    assert filters.within(None, chosen) == [*chosen[:4], [], [], [], [], [], ["odd"], "", ""]
    with failures.gr.Blocks():
        updates = filters.FilterForm().offer(settings, kept).values()
    assert [update["visible"] for update in updates] == [False, True, False, True, True]


def test_settings_are_the_same_in_form_and_address():
    settings = EvaluationSettings(16, 3, SceneFactors(objects=(2, 3), shapes=("star",), size="small", overlap=False))
    assert form.settings_of(form.values_of(settings)) == settings
    with pytest.raises(InputError, match="scenes must be a whole number from 1 to 1,024, not 1.5"):
        form.settings_of(form.DEFAULTS | {"scenes": 1.5})


def test_evaluations_are_kept_by_their_token_and_the_oldest_forgotten(inspector, rows):
    first, second, third = (run_of(inspector, rows) for _ in range(3))
    kept = runs.KeptRuns(most=2)
    kept.add(first)
    kept.add(second)
    assert kept.find(first.token) is first and kept.find(None) is None is kept.find("nothing")
    kept.add(third)
    assert kept.find(second.token) is None  # the one that was asked for the longest ago
    assert kept.find(first.token) is first and kept.find(third.token) is third
    assert f"uploaded={first.token}" in galleries.view_link(first, EVERY)
    first.images = replace(first.images, settings=EvaluationSettings())
    assert f"evaluation={first.token}" in galleries.view_link(first, EVERY)


def test_what_is_exported_is_what_the_filters_keep(inspector, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    keeper = failures.gr.HTML()
    run = Run(inspector.registry.find("linear"), ImageSet((), 4, {"scenes": 4}))
    for item in [*rows, Broken("x.png", "it is no picture.")]:
        run.add(item, keeper)
    table, data, packed = (Path(runs.export(run, kind, EVERY, keeper)) for kind in failures.DOWNLOADS)
    record = json.loads(data.read_text())
    assert (
        record["summary"]["pictures"] == record["evaluated"] == record["selected"] == 3
        and record["filtered_by"] is None
    )
    assert record["asked"] == 4 and len(record["broken"]) == 1 and table.name == "foresight-failures.csv"
    with zipfile.ZipFile(packed) as archive:
        assert len(archive.namelist()) == 2 + 2 * 3 and archive.testzip() is None
        assert archive.read("table.csv").decode() == table.read_bytes().decode()
        with Image.open(archive.open("00000-original.png")) as original:
            assert original.size == (224, 224)
    assert {str(table), str(data), str(packed)} <= keeper.temp_files  # so that they are deleted in time

    least = worst(run.rows, "ssim")[1].scores.scores["adapter"]["ssim"]
    some = ("ssim", "worst first", f"{least}", *EVERY[3:])
    table, data, packed = (Path(runs.export(run, kind, some, keeper)) for kind in failures.DOWNLOADS)
    record = json.loads(data.read_text())
    assert (
        record["selected"] == len(record["pictures"]) == record["summary"]["pictures"] == 2 and record["broken"] == []
    )
    assert record["filtered_by"] == f"SSIM from {least}" and packed.name == "foresight-failures-2-of-3.zip"
    with zipfile.ZipFile(packed) as archive:
        assert len(archive.namelist()) == 2 + 2 * 2
    shape = ("lpips", "best first", "", "0.5", ["star", "cross"], [], [], [], ["white"], ["odd"], "", "")
    assert filters.in_words(shape) == "shape star or cross; background white; tag odd; LPIPS to 0.5"


def tagged(**change):
    return [*(filters.FILTERS | change).values()]


def test_tags_and_notes_are_kept_filtered_by_and_exported(inspector, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    keeper = failures.gr.HTML()
    run = Run(inspector.registry.find("linear"), ImageSet((), 3, {}), notes=Notes(tmp_path / "some/notes.json"))
    for item in rows:
        run.add(item, keeper)
    run.notes.put(run.rows[1].key, Note.of(" odd,  one  of many, odd,", "its <b>edge</b>\nis lost"))
    run.notes = Notes(tmp_path / "some/notes.json")  # read again
    assert run.notes.tags(row.key for row in run.rows) == ["odd", "one of many"]
    assert [row.number for row in run.select(tagged(tags=["odd"]))] == [1]
    assert "<i>odd</i>" in (html := galleries.gallery(run.rows, "lpips", 3, run.notes)) and "&lt;b&gt;edge" in html
    (line,) = csv.DictReader(io.StringIO(Path(runs.export(run, "csv", tagged(tags=["odd"]), keeper)).read_text()))
    assert (line["tags"], line["note"]) == ("odd; one of many", "its <b>edge</b> is lost")
    run.notes.put(run.rows[1].key, Note())
    assert json.loads((tmp_path / "some/notes.json").read_text()) == {}
    with pytest.raises(InputError, match="up to 500 characters"):
        Note.of("", "a" * 501)
    (tmp_path / "notes.json").write_text("[]")
    with pytest.raises(InputError, match="cannot be read: move that file away"):
        Notes(tmp_path / "notes.json").get("a")


def test_two_adapters_on_the_same_pictures_and_where_one_is_worse(inspector, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    keeper, kept = failures.gr.HTML(), runs.KeptRuns()
    pooled = inspector.registry.find("pooled")
    spec = SceneSpec(objects=(1, 2), backgrounds=("white",), radius=(40, 64))
    theirs = [*evaluate(inspector, pooled, scene_samples(3, 4, spec))]
    one, other = (Run(record, ImageSet((), 3, {})) for record in (inspector.registry.find("linear"), pooled))
    for run, items in ((one, rows[:2]), (other, theirs)):
        kept.add(run)
        for item in items:
            run.add(item, keeper)
    assert kept.of_same_pictures(one) == [other] and kept.of_same_pictures(other) == [one]
    one.others = [other]
    values = tagged(beside=other.token)
    beside = one.beside(values)
    gains = [own.flat()["lpips"] - their.flat()["lpips"] for own, their in zip(rows[:2], theirs, strict=False)]
    assert [beside.gain(row, "lpips") for row in one.rows] == pytest.approx(gains)
    order = [row.number for row in one.select(values)]
    assert order == sorted(range(2), key=lambda i: -gains[i])
    html = galleries.gallery(one.select(values), "lpips", 3, beside=beside)
    assert f"LPIPS: worse than <b>{other.title}</b> in {sum(g > 0 for g in gains)} of 2 pictures" in html
    assert html.count("by the other adapter") == 2
    assert json.loads(Path(runs.export(one, "json", values, keeper)).read_text())["pictures"][0]["beside_lpips"]
    assert one.beside(tagged(beside="nothing")) is None


def test_pictures_alike_in_latents_come_first(inspector, rows):
    run = run_of(inspector, rows)
    alike = run.select(tagged(like="2"))
    latents = torch.nn.functional.normalize(torch.stack([row.latents.float() for row in rows]))
    assert [row.number for row in alike] == (latents @ latents[2]).argsort(descending=True).tolist()
    assert alike[0].number == 2 and "cosine 1.000" in galleries.gallery(alike, "lpips", 3, like=alike[0])
    means = inspector.vlm.latents(rows[0].original[None], ["post-merge/1"])["post-merge/1"].mean((1, 2, 3))[0]
    torch.testing.assert_close(rows[0].latents.float(), means, atol=2e-3, rtol=1 / 256)
    large = torch.tensor(1e5)  # beyond float16, which a large model's last vision blocks pass
    assert large.to(rows[0].latents.dtype).isfinite()


def test_strangers_evaluate_a_few_pictures_at_a_time(tmp_path, monkeypatch):
    assert runs.scene_set(PUBLIC, EvaluationSettings(64)).total == 64
    assert runs.scene_set(LOCAL, EvaluationSettings(65)).total == 65
    with pytest.raises(InputError, match="it takes 64 pictures at a time"):
        runs.scene_set(PUBLIC, EvaluationSettings(65))
    with pytest.raises(InputError, match="it takes 64 pictures at a time"):
        runs.uploaded_set(PUBLIC, [str(tmp_path / f"{i}.png") for i in range(65)], None)
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for i in range(70):
            archive.writestr(f"{i}.png", b"a picture")
    monkeypatch.setattr(uploads, "get_upload_folder", lambda: str(tmp_path / "uploads"))
    with pytest.raises(InputError, match="it takes 64 pictures at a time"):
        runs.uploaded_set(PUBLIC, [str(tmp_path / "many.zip")], None)
    assert not any((tmp_path / "uploads").iterdir())  # what was unpacked by then is gone


def test_an_evaluation_over_the_api_ends_when_it_is_cancelled(inspector, monkeypatch):
    begun, ended, names = threading.Event(), threading.Event(), []

    def watched(*given):
        try:
            for item in evaluate(*given):
                names.append(item.name)
                begun.set()
                yield item
        finally:
            ended.set()

    monkeypatch.setattr(failures, "evaluate", watched)
    with serve(inspector) as url:
        client = Client(url, verbose=False)
        job = client.submit("post-merge/1", "linear", None, 1000, 0, SPEC, api_name="/evaluate")
        assert begun.wait(60)
        job.cancel()
        assert ended.wait(60) and len(names) < 1000
        results = client.predict("post-merge/1", "linear", None, 2, 0, SPEC, api_name="/evaluate")
        assert len(results["pictures"]) == 2  # and the next one is not in its way


def test_time_in_words():
    assert [duration(s) for s in (0.2, 8.4, 200, 7500)] == ["1 s", "8 s", "3 min 20 s", "2 h 5 min"]
