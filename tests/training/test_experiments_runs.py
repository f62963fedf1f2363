"""The whole study at a tiny size, on a tiny Qwen2.5-VL and a tiny VAE of the real classes, killed and resumed."""

import argparse
import filecmp
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import yaml
from sklearn.metrics import silhouette_score
from small_study import TINY

from foresight.errors import InputError
from foresight.ui.findings.study import load_study
from training.experiments import command
from training.experiments.e1_1 import FEATURES


@pytest.fixture(scope="module")
def run(house):
    """The command at a tiny size: run(out, "--only", "e1_2")."""

    def call(out, *words):
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        models = ["--model", str(house / "vlm"), "--vae", str(house / "vae"), "--device", "cpu"]
        command.run(parser.parse_args(["c1", "--quick", *models, "--out", str(out), *words]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "QUICK", TINY)
        yield call


def names(folder):
    return sorted(path.stem for path in (folder / "experiments").glob("*.json"))


MORTAL = """
import os, signal, sys
import torch
from small_study import TINY
from training.__main__ import main
from training.experiments import command, parallel

def killed_in_e1_3(steps, title, *_, **__):
    for step in steps:
        yield step
        if title.startswith("E1.3, 2 steps"):
            os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
command.QUICK, parallel.tqdm = TINY, killed_in_e1_3
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def study(run, house, tmp_path_factory):
    """The folder of a whole study that was killed (-9) while E1.3 trained, and when E1.2 was written."""
    out = tmp_path_factory.mktemp("study")
    words = ["experiments", "c1", "--quick", "--model", house / "vlm", "--vae", house / "vae", "--device", "cpu"]
    words += ["--skip", "e1_1_map", "--out", out]
    here = Path(__file__).parents[1]  # tests, where small_study lies
    path = os.pathsep.join(map(str, (here, here.parent)))
    child = subprocess.run(
        [sys.executable, "-c", MORTAL, *map(str, words)], env=os.environ | {"PYTHONPATH": path}, cwd=here.parent
    )
    assert child.returncode == -signal.SIGKILL
    assert names(out) == ["e1_1", "e1_2"]
    trained = {p.parent.name.split("-rate-")[0] for p in (out / "unfinished/e1_3").rglob("trained.pt")}
    assert "E1.3-1-steps" in trained and "E1.3-2-steps" not in trained
    written = (out / "experiments/e1_2.json").stat().st_mtime_ns
    run(out, "--skip", "e1_1_map")
    return out, written


STUDIED = [name for name in command.ALL if name != "e1_1_map"]  # its UMAP alone takes 20 s to compile


def experiments(folder):
    return load_study(folder / "results.yaml").experiments


@pytest.mark.parametrize("name", STUDIED)
def test_an_experiment_is_reported_whole(name, study):
    folder, _ = study
    reported = experiments(folder)[name]
    few = ("on white", "skill")  # of one object on white there is one picture; skill needs a certain gain
    assert all(line.ours is not None or any(word in line.what for word in few) for line in reported.key)
    for table in reported.tables:
        assert table.rows and all(len(row) == len(table.columns) for row in table.rows)
    for line in (line for chart in reported.charts for line in chart.series):
        for y, low, high in zip(line.y, line.low, line.high, strict=True):
            assert y is None or (low <= y + 1e-6 and y <= high + 1e-6)
    for picture in reported.pictures:
        assert (folder / "artifacts" / picture.file).is_file()


def test_what_was_finished_before_a_kill_is_kept_as_it_was(study):
    folder, written = study
    assert (folder / "experiments/e1_2.json").stat().st_mtime_ns == written
    assert names(folder) == sorted(STUDIED)
    assert not [*(folder / "unfinished").iterdir()]


def test_a_study_that_was_killed_ends_as_one_that_was_not(study, run, tmp_path):
    run(tmp_path, "--only", "e1_2,e1_3")
    ours, theirs = experiments(study[0]), experiments(tmp_path)
    for name in ("e1_2", "e1_3"):
        assert filecmp.cmp(study[0] / f"artifacts/{name}.csv.xz", tmp_path / f"artifacts/{name}.csv.xz", shallow=False)
        assert ours[name].tables == theirs[name].tables and ours[name].paragraph == theirs[name].paragraph


def test_e1_1s_silhouettes_are_scikit_learns_by_the_cosine(study):
    table, features = experiments(study[0])["e1_1"].tables[0], np.load(study[0] / "artifacts" / FEATURES)
    rows = {row[0]: row for row in table.rows}
    for k, factor in enumerate(table.columns[1:], 1):
        for point in ("pre-merge/3", "post-merge/1"):
            theirs = [
                silhouette_score(x, truth, metric="cosine")
                for x, truth in zip(features[point], features[factor], strict=True)
            ]
            assert rows[point][k][0] == pytest.approx(np.mean(theirs), abs=1e-4)


def test_other_settings_are_refused_in_the_same_folder(study, run):
    with pytest.raises(InputError, match="made with seed 0, not 1"):
        run(study[0], "--seed", "1")


def test_a_result_of_an_older_way_is_not_taken_for_todays(study, run, monkeypatch):
    newer = tuple(replace(e, version=9) if e.name == "e1_4" else e for e in command.EXPERIMENTS)
    monkeypatch.setattr(command, "EXPERIMENTS", newer)
    with pytest.raises(InputError, match="holds e1_4 made with version 2, not 9"):
        run(study[0])


def test_results_and_findings_tell_all_experiments(study):
    folder, _ = study
    results = yaml.safe_load((folder / "results.yaml").read_text())
    assert list(results["experiments"]) == STUDIED
    text = (folder / "FINDINGS.md").read_text()
    headings = ("The Question", "The Answer", "Key Results", "Sub-experiment Summaries", "Surprising Findings",
                "Caveats & Limitations", "Recommendations for Phase 2", "Artifacts")  # fmt: skip
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(headings)
    for e in results["experiments"].values():
        assert all(part in text for part in (e["title"], e["verdict_reason"], e["paragraph"]))
        assert all(f"| {line['what']} | " in text for line in e["key"])
    for figure in results["experiments"]["e1_2"]["figures"]:
        assert (folder / "artifacts" / figure["png"]).stat().st_size > 1000
        assert "plotly" in (folder / "artifacts" / figure["html"]).read_text()


def test_every_images_scores_are_on_disk(study):
    table = pandas.read_csv(study[0] / "artifacts/e1_2.csv.xz", index_col=["condition", "score", "seed"])
    assert set(table.index.unique("condition")) >= {"post-merge/1", "blank", "mean", "nearest", "oracle"}
    assert table.xs("ssim", level="score").stack().between(-1, 1).all()


def test_e1_5_is_at_the_best_points_that_e1_6_found(study):
    results = experiments(study[0])
    [best] = re.findall(r", ([a-z/0-9-]+) has the least LPIPS", results["e1_6_depth"].paragraph)
    rows = [row[0] for row in results["e1_5"].tables[0].rows]
    assert f"{best} tokens" in rows and "oracle" in rows and "nearest" in rows
