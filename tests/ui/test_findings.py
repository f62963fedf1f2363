"""A study as it is read and shown: true to the file, escaped, and refused in one sentence where it is of no use."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import yaml
from house import build_house, save_tiny_adapter
from PIL import Image

from foresight.adapters.checkpoint import describe_adapter, list_adapters
from foresight.adapters.modules import KINDS
from foresight.adapters.registry import BUNDLED as BUNDLED_ADAPTERS
from foresight.adapters.registry import AdapterRecord
from foresight.data.scenes import SHAPES
from foresight.errors import InputError
from foresight.models.points import ExtractionPoint
from foresight.ui.findings import parts
from foresight.ui.findings.study import (
    BUNDLED,
    adapter_pairs,
    load_study,
    openable_adapters,
    picture_path,
    place_of,
    places,
    studies,
)
from foresight.ui.findings.tab import FindingsTab
from foresight.ui.navigation import Navigation

EVIL = '<img src=x onerror="alert(1)">'
POINT = "post-merge/1"


def study() -> dict[str, Any]:
    """A small study of the form that training.experiments writes."""
    line = {"name": "linear", "x": ["pre-merge/2", POINT], "y": [0.2, None], "low": [0.1, None], "high": [0.4, None]}
    bars = {"name": "LPIPS", "x": [f"{POINT} tokens", "blank"], "y": [0.1, 0.3]}
    size = {"name": "tokens", "x": [64, 4096], "y": [0.3, 0.1], "points": [POINT, POINT]}
    common = {"baseline": 0.3, "oracle": 0.001, "target": 0.35, "x": "point", "y": "LPIPS"}
    experiment = {
        "title": f"E1.2 {EVIL}",
        "question": "How much can be read off?",
        "verdict": "does not hold",
        "verdict_reason": f"LPIPS 0.2 [0.1, 0.4] {EVIL}",
        "paragraph": "A linear probe.",
        "seed": {"lpips": 0.331},
        "tables": [{"title": "Scores", "columns": ["what", "LPIPS", "n"], "rows": [[EVIL, [0.2, 0.1, 0.4], None]]}],
        "charts": [
            {"title": "By depth", "kind": "line", "series": [line], **common},
            {"title": "Whole", "kind": "bar", "series": [bars], **common},
            {"title": "By size", "kind": "line", "series": [size], **common},
        ],
        "pictures": [{"title": "Some", "file": "some.png", "point": POINT, "adapter": "tokens"}],
        "mood": ["more than is known here"],
    }
    return {"study": "c1", "model": "bundled", "vae": "bundled", "created": "today", "device": "cpu", "seconds": 1.0,
            "commands": [], "experiments": {"e1_2": experiment}, "surprises": [EVIL], "caveats": [],
            "recommendations": ["Take post-merge/0."]}  # fmt: skip


def write(folder: Path, content: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_a_study_is_read_whole(tmp_path: Path) -> None:
    loaded = load_study(write(tmp_path, study()))
    experiment = loaded.experiments["e1_2"]
    assert (experiment.verdict, experiment.seed) == ("does not hold", {"lpips": 0.331})
    depth, whole, size = (places(chart, chart.series[0]) for chart in experiment.charts)
    here = ExtractionPoint.parse(POINT)
    assert depth == [(ExtractionPoint("pre-merge", 2), "linear"), (here, "linear")]
    assert whole == [(here, "tokens"), None] and size == [(here, "tokens")] * 2


def test_a_picture_that_a_link_leads_out_of_the_folder_is_not_there(tmp_path: Path) -> None:
    file, artifacts = write(tmp_path, study()), tmp_path / "artifacts"
    [picture] = load_study(file).experiments["e1_2"].pictures
    artifacts.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (artifacts / "some.png").symlink_to(tmp_path / "secret.png")
    assert picture_path(file, picture) is None
    (artifacts / "some.png").unlink()
    (artifacts / "some.png").write_bytes(b"own")
    assert picture_path(file, picture) == artifacts / "some.png"


def test_nothing_of_a_study_becomes_markup(tmp_path: Path) -> None:
    file = write(tmp_path, study())
    experiment = (loaded := load_study(file)).experiments["e1_2"]
    for html in (parts.overview(loaded), parts.experiment_text(experiment), parts.experiment_tables(experiment, file)):
        assert "<img src=x" not in html and "&lt;img src=x" in html


def test_numbers_stand_with_their_intervals_and_claims_with_words(tmp_path: Path) -> None:
    file = write(tmp_path, study())
    experiment = (loaded := load_study(file)).experiments["e1_2"]
    assert "0.200<small>0.100 to 0.400</small></td><td>–</td>" in parts.experiment_tables(experiment, file)
    for words in ("LPIPS 0.331", "✗ not here", "LPIPS 0.2 [0.1, 0.4]"):
        assert words in parts.overview(loaded)


def test_a_question_that_is_no_claim_has_no_verdict(tmp_path: Path) -> None:
    content = study()
    content["experiments"]["e1_2"]["verdict"] = None
    loaded = load_study(write(tmp_path, content))
    assert 'class="verdict' not in parts.overview(loaded) + parts.experiment_text(loaded.experiments["e1_2"])


def test_charts_are_plain_json_with_error_bars_marks_and_a_place_behind_each_point(tmp_path: Path) -> None:
    experiment = load_study(write(tmp_path, study())).experiments["e1_2"]
    depth, whole, size = json.loads(parts.charts_json(experiment, {(ExtractionPoint.parse(POINT), "tokens"): "mine"}))
    [trace] = depth["figure"]["data"]
    assert trace["y"] == [0.2, None] and trace["error_y"]["array"] == pytest.approx([0.2, None])
    assert trace["error_y"]["arrayminus"] == pytest.approx([0.1, None])
    assert [mark["y0"] for mark in depth["figure"]["layout"]["shapes"]] == [0.3, 0.001, 0.35]
    assert depth["places"] == [[None, None]]  # no linear probe is at hand
    assert whole["places"] == [[[POINT, "mine"], None]]
    assert [c["figure"]["layout"]["xaxis"]["type"] for c in (depth, whole, size)] == ["category", "category", "log"]


@pytest.mark.parametrize("name", load_study(BUNDLED).experiments)
def test_the_bundled_study_offers_what_a_bundled_adapter_reads(name: str) -> None:
    records = [AdapterRecord(f, True, describe_adapter(f), 0) for f in list_adapters(BUNDLED_ADAPTERS)]
    openable = openable_adapters(records)
    experiment = load_study(BUNDLED).experiments[name]
    for chart, drawn in zip(experiment.charts, json.loads(parts.charts_json(experiment, openable)), strict=True):
        for series, row in zip(chart.series, drawn["places"], strict=True):
            for place, opened in zip(places(chart, series), row, strict=True):
                point, wish = place or (None, None)
                folders = {kind: BUNDLED_ADAPTERS / f"{point}-{kind}".replace("/", "-") for kind in KINDS}
                served = [kind for kind, folder in folders.items() if folder.is_dir() and wish in (None, kind)]
                assert opened is None if not served else opened == [str(point), opened[1]] and opened[1] in served


def test_a_point_alone_opens_with_the_first_adapter_there(tiny, tmp_path: Path) -> None:
    openable = openable_adapters(build_house(tiny.folder, tmp_path).adapters())
    here, other = ExtractionPoint.parse(POINT), ExtractionPoint.parse("post-merge/0")
    assert openable[here, None] == "tokens" and (other, None) not in openable
    assert openable[ExtractionPoint.parse("pre-merge/2"), "linear"] == "linear"


def test_dots_of_objects_look_like_them(tmp_path: Path) -> None:
    assert set(parts.OBJECT_MARKS) == set(SHAPES)
    content = study()
    series = [{"name": name, "x": [0.0], "y": [1.0]} for name in ("red triangle", "tokens")]
    content["experiments"]["e1_2"]["charts"] = [
        {"title": "A map", "kind": "scatter", "x": "1", "y": "2", "series": series}
    ]
    experiment = load_study(write(tmp_path, content)).experiments["e1_2"]
    own, other = (trace["marker"] for trace in json.loads(parts.charts_json(experiment, {}))[0]["figure"]["data"])
    assert (own["color"], own["symbol"]) == ("rgb(220, 30, 30)", "triangle-up")
    assert (other["color"], other["symbol"]) == (parts.COLORS[1], parts.MARKS[1])


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("post-merge/6 tokens, size 64", ("post-merge/6", "tokens")),
        ("blank", None),
        ("pre-merge/3", ("pre-merge/3", None)),
    ],
)
def test_places_are_read_off_names(text: str, place: tuple[str, str | None] | None) -> None:
    read = place_of(text)
    assert (read and (str(read[0]), read[1])) == place


def test_the_bundled_study_is_read_whole() -> None:
    experiments = load_study(BUNDLED).experiments
    kept = {path.stem for path in (BUNDLED.parent.parent / "docs/study/experiments").glob("*.json")}
    assert experiments.keys() == kept and all(e.tables and e.charts and e.question for e in experiments.values())
    assert all(picture_path(BUNDLED, picture) for e in experiments.values() for picture in e.pictures)


def test_own_studies_are_listed_the_newest_first(tmp_path: Path) -> None:
    assert studies(tmp_path / "none.yaml", tmp_path) == []
    old, new = write(tmp_path / "runs/a", study()), write(tmp_path / "runs/b/c", study())
    import os

    os.utime(old, (1, 1))
    (tmp_path / "runs/gone").mkdir()
    (tmp_path / "runs/gone/results.yaml").symlink_to("nowhere")  # as one that is deleted while they are listed
    assert studies(tmp_path / "none.yaml", tmp_path / "runs") == [new, old]


def broken(change: str) -> Any:
    content = copy.deepcopy(study())
    experiment = content["experiments"]["e1_2"]
    match change:
        case "no title":
            del experiment["title"]
        case "verdict":
            experiment["verdict"] = "perhaps"
        case "kind":
            experiment["charts"][0]["kind"] = "pie"
        case "lengths":
            experiment["charts"][0]["series"][0]["y"] = [1.0]
        case "outside":
            experiment["pictures"][0]["file"] = "../../secret.png"
        case "list":
            return [1, 2]
    return content


@pytest.mark.parametrize("change", ["no title", "verdict", "kind", "lengths", "outside", "list"])
def test_what_is_no_study_is_one_sentence(tmp_path: Path, change: str) -> None:
    with pytest.raises(InputError, match=r"results\.yaml is not of a study's form: .*\.$"):
        load_study(write(tmp_path, broken(change)))


def test_what_is_no_yaml_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "results.yaml"
    for text in ("a: [", "!!python/object/apply:os.system ['true']"):
        path.write_text(text)
        with pytest.raises(InputError, match="cannot be read as YAML"):
            load_study(path)
    with pytest.raises(InputError, match="cannot be read"):
        load_study(tmp_path / "none.yaml")


def test_an_experiment_of_the_study_before_gives_way_to_the_first(tiny, tmp_path: Path) -> None:
    inspector = build_house(tiny.folder, tmp_path)
    with gr.Blocks():
        tab = FindingsTab(inspector, Navigation(gr.State(), gr.State()), write(tmp_path, study()))
        tab.build()
        asked = {"study": "bundled", "experiment": "e1_6", "at": 0.0}
        _, control, _, _, text, *_ = tab.show(asked, "bundled", "e1_2")
    assert control.value == "e1_2" and "E1.2" in text


def test_own_adapters_are_shown_side_by_side_too(tiny, tmp_path: Path) -> None:
    inspector = build_house(tiny.folder, tmp_path)
    for kind in ("pooled", "tokens"):
        save_tiny_adapter(tmp_path / f"runs/my-{kind}", kind, "pre-merge/2", tmp_path)
    own, bundled = adapter_pairs(inspector.adapters())
    assert [record.name for record in (*own, *bundled)] == ["my-pooled", "my-tokens", "pooled", "tokens"]
    report = inspector.inspect(Image.new("RGB", (56, 56), "white"), None, own[1].folder, others=own[:1])
    assert parts.pair_grid(own, [report], 2).count("<img") == 3
    with pytest.raises(InputError, match="'my-pooled' was deleted"):
        parts.pair_grid(own, [replace(report, reconstructions=report.reconstructions[:1])], 2)
