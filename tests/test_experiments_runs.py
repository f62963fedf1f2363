"""Every experiment of the study at a tiny size, on a tiny Qwen2.5-VL and a tiny VAE of the real classes."""

import argparse
import csv
from dataclasses import replace

import pytest
import torch
import yaml
from house import save_vae

from foresight.adapters import LinearProbe, TokenAdapter
from foresight.errors import InputError
from foresight.images import to_pil, to_tensor
from foresight.scenes import SceneSpec, take
from foresight.vae import load_vae
from foresight.vlm import load_vlm
from training.experiments import blends, command, e1_3, e1_5, findings, kept
from training.experiments.bank import Blend, Entry, fresh, hidden_for, run_grid
from training.experiments.bench import Bench
from training.experiments.held_out import KNOWN, _filtered, photos, splits, unseen_pair
from training.experiments.scale import QUICK
from training.experiments.seed_protocol import pooled_with_text, stages
from training.experiments.side_by_side import TRIAL, SideBySide, adapter_member
from training.experiments.together import together

TINY = replace(
    QUICK, points=2, side=84, train=8, test=1, steps=2, batch=4, hidden=8, clusters=36, boxes=8, crowds=2,
    widths=(0.5, 1.0), pooled=(8, 16), amounts=(4, 8), amount_steps=2, sides=(84, 112), side_train=4, seed_train=16,
    seed_test=4, seed_epochs=1, kept=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def house(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    save_vae(folder / "vae")
    (folder / "vlm").symlink_to(tiny.folder)
    return folder


@pytest.fixture(scope="module")
def bench(house, tmp_path_factory):
    vlm, vae = load_vlm(house / "vlm", "cpu"), load_vae(house / "vae", "cpu")
    return Bench(vlm, vae, TINY, tmp_path_factory.mktemp("artifacts"), model=str(house / "vlm"))


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


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def study(run, tmp_path_factory):
    """The folder of a whole study that was killed in its fourth experiment, and when the third was written."""
    out = tmp_path_factory.mktemp("study")

    def killed(bench):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(e1_3, "run", killed)
        with pytest.raises(Killed):
            run(out, "--skip", "e1_1_map")
    assert kept.names(out) == ["e1_1", "e1_2"]
    written = (out / "experiments/e1_2.json").stat().st_mtime_ns
    run(out, "--skip", "e1_1_map")
    return out, written


@pytest.mark.parametrize(
    ("make", "width", "fold"),
    [(lambda w, f: LinearProbe(w, 4, f, 4), 6, 2), (lambda w, f: TokenAdapter(w, 4, f, 4, 16), 5, 1)],
)
def test_adapters_together_are_the_adapters_alone(make, width, fold):
    adapters, latents, goals = [], [], torch.randn(3, 4, 4, 8, 8)
    for seed in range(3):
        torch.manual_seed(seed)
        adapter, x = make(width, fold), torch.randn(4, 1, 2 * fold, 2 * fold, width)
        adapter.fit_statistics(x + seed, goals[seed] * (seed + 1))
        adapters.append(adapter)
        latents.append(x)
    members = {
        f"{k}": adapter_member(a, a, [x], z, 4)
        for k, (a, x, z) in enumerate(zip(adapters, latents, goals, strict=True))
    }
    task = SideBySide(members, torch.device("cpu"), stacked=True)
    assert len(task._groups) == 1
    losses = task.loss(torch.arange(4), torch.Generator(), 0.0)
    torch.stack(list(losses.values())).sum().backward()
    for k, adapter in enumerate(adapters):
        grouped = [p.grad.clone() for p in adapter.parameters()]
        adapter.zero_grad()
        alone = members[f"{k}"].loss((torch.arange(4) + task._shift[f"{k}"]) % 4)
        alone.backward()
        torch.testing.assert_close(losses[f"{k}"], alone)
        torch.testing.assert_close(grouped, [p.grad for p in adapter.parameters()])
    z = together(adapters, torch.stack(latents))
    own = [(a(x) - a.z_mean.view(-1, 1, 1)) / a.z_std.view(-1, 1, 1) for a, x in zip(adapters, latents, strict=True)]
    torch.testing.assert_close(z, torch.stack(own), rtol=1e-4, atol=1e-4)


def test_points_are_both_ends_and_the_middle_of_both_stages(bench):
    names = [str(p) for p in bench.points]
    assert {"pre-merge/0", "pre-merge/3", "post-merge/0", "post-merge/1", "post-merge/3"} <= set(names)
    assert [str(p) for p in Bench(bench.vlm, bench.vae, replace(TINY, points=24), bench.artifacts).points] == [
        str(p) for p in bench.vlm.points
    ]


def test_no_scene_is_both_learned_from_and_tested_on(bench):
    known = torch.cat([s.hashes() for s in bench.mixture(200, "train")])
    known = torch.cat([known, _filtered(bench, 50, 700, SceneSpec(), "train", False).hashes()])
    unseen = [s.hashes() for s in bench.mixture(100, "test")] + [s.hashes() for s in splits(bench).values()]
    assert not set(known.tolist()) & set(torch.cat(unseen).tolist())


def test_held_out_splits_hold_what_they_say(bench):
    made = splits(bench)
    assert unseen_pair(made["new pairs of shape and colour"]).all()
    assert not any(unseen_pair(s).any() for name, s in made.items() if name != "new pairs of shape and colour")
    assert (made["5 overlapping objects"].count == 5).all()
    assert made["smaller objects"].place[:, 0, 2].max() * 224 < 18.1


def test_scenes_with_and_without_a_held_out_pair_have_as_many_objects(bench):
    sets = [_filtered(bench, 30, 700, KNOWN, "test", pairs) for pairs in (False, True)]
    assert [s.count.bincount().tolist() for s in sets] == [[0, 10, 10, 10]] * 2


def test_photos_are_middle_squares_of_the_studys_size(bench, tmp_path):
    x = torch.zeros(3, 100, 300)
    x[0, :, 100:200] = 1.0  # the middle square is red
    to_pil(x).save(tmp_path / "a.png")
    found = photos(replace(bench, photos=tmp_path), [bench.recommended])
    assert found.pictures.shape == (1, 3, 84, 84) and found.masks.all()
    assert found.pictures[0, :, 10, 10].tolist() == [255, 0, 0] == found.pictures[0, :, 80, 80].tolist()


def test_blends_of_few_points_are_compared_each_with_its_own(bench):
    few = Bench(bench.vlm, bench.vae, replace(TINY, points=5), bench.artifacts)
    few.points = [p for p in bench.points if str(p) in ("post-merge/0", "post-merge/3")]  # none within the window
    found = blends.run(few)
    assert [row[0] for row in found["tables"][1]["rows"]] == ["blend of all after the merger"]
    assert "blend of all after the merger" in found["verdict_reason"]


def test_a_random_vlm_has_the_same_config_and_other_latents(bench):
    x = torch.rand(1, 3, 56, 56)
    ours, theirs = (v.latents(x, ["post-merge/3"])["post-merge/3"] for v in (bench.vlm, bench.random_vlm))
    assert ours.shape == theirs.shape and not torch.allclose(ours, theirs)


def test_a_blend_begins_as_the_mean_of_standardised_layers(bench):
    points = [p for p in bench.points if p.stage == "post-merge"]
    entry = Entry("blend", "linear", tuple(points), bench.train(), bench.test())
    blend = fresh(bench, entry, 0)
    assert isinstance(blend, Blend)
    assert sum(p.numel() for p in blend.parameters()) == blend.adapter.parameter_count + len(points)
    x = [(v - v.mean((0, 1, 2, 3))) / v.flatten(0, -2).std(0) for v in entry.inputs()]
    torch.testing.assert_close(blend.mix(*entry.inputs()), torch.stack(x).mean(0), rtol=1e-3, atol=1e-3)


def test_capacities_on_both_sides_of_the_merger_are_alike(bench):
    before, after = (Entry("", "tokens", (p,), bench.train(), bench.test()) for p in bench.merger)
    goal = 100_000
    for entry in (before, after):
        adapter = fresh(bench, replace(entry, hidden=hidden_for(goal, entry, bench)), 0)
        assert sum(p.numel() for p in adapter.parameters()) == pytest.approx(goal, rel=0.05)


def test_seeds_differ_and_a_seed_repeats_to_the_bit(bench):
    two = Bench(bench.vlm, bench.vae, replace(TINY, seeds=2), bench.artifacts)
    entry = Entry("x", "linear", (two.recommended,), bench.train(), bench.test())
    first, again = (run_grid(two, [entry], "test").samples["x"]["lpips"] for _ in range(2))
    assert (first == again).all() and (first[0] != first[1]).any()


def test_the_seeds_latents_are_transformers_own(bench, tiny):
    pictures = torch.randint(0, 256, (1, 3, 56, 84), dtype=torch.uint8)
    found = pooled_with_text(bench, pictures, "What is it?")
    image = to_pil(pictures[0].float() / 255)
    assert torch.equal(to_tensor(image), pictures[0].float() / 255)
    prompt = bench.vlm.prompt("What is it?")
    inputs = tiny.processor(text=[prompt], images=[image], return_tensors="pt", do_resize=False)
    with torch.no_grad():
        hidden = tiny.model.model(**inputs).last_hidden_state  # (1, tokens, D), after the final norm
    torch.testing.assert_close(found, hidden.mean(1), rtol=1e-3, atol=1e-3)


def test_the_seeds_test_pictures_are_its_first_training_pictures_and_later_stages_share_none(bench):
    first, second = (s.entry for s in stages(bench)[:2])
    assert torch.equal(first.test.pictures, first.learn.pictures[: len(first.test)])
    known = first.learn.pictures.flatten(1)
    assert not any((known == picture).all(1).any() for picture in second.test.pictures.flatten(1))


STUDIED = [name for name in command.ALL if name != "e1_1_map"]  # its UMAP alone takes 20 s to compile


@pytest.mark.parametrize("name", STUDIED)
def test_an_experiment_gives_what_the_findings_need(name, study):
    folder, _ = study
    result = kept.read(folder, name)["result"]
    keys = {
        "title",
        "question",
        "verdict",
        "verdict_reason",
        "paragraph",
        "seed",
        "tables",
        "charts",
        "pictures",
        "facts",
    }
    assert keys == set(result)
    assert result["verdict"] in ("holds", "does not hold", "open")
    for table in result["tables"]:
        assert table["rows"] and all(len(row) == len(table["columns"]) for row in table["rows"])
    for line in (line for chart in result["charts"] for line in chart["series"]):
        assert len(line["x"]) == len(line["y"]) == len(line["low"]) == len(line["high"])
        for y, low, high in zip(line["y"], line["low"], line["high"], strict=True):
            assert y is None or (low <= y + 1e-6 and y <= high + 1e-6)
    for picture in result["pictures"]:
        assert (folder / "artifacts" / picture["file"]).is_file()


def test_what_was_finished_before_a_kill_is_kept_as_it_was(study):
    folder, written = study
    assert (folder / "experiments/e1_2.json").stat().st_mtime_ns == written
    assert kept.names(folder) == sorted(STUDIED)


def test_other_settings_are_refused_in_the_same_folder(study, run):
    with pytest.raises(InputError, match="made with seed 0, not 1"):
        run(study[0], "--seed", "1")


def test_results_and_findings_tell_all_experiments(study):
    folder, _ = study
    results = yaml.safe_load((folder / "results.yaml").read_text())
    assert list(results["experiments"]) == [name for name in findings.ORDER if name in STUDIED]
    text = (folder / "FINDINGS.md").read_text()
    headings = ("The Question", "The Answer", "Key Results", "Sub-experiment Summaries", "Surprising Findings",
                "Caveats & Limitations", "Recommendations for Phase 2", "Artifacts")  # fmt: skip
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(headings)
    assert all(e["title"] in text and e["paragraph"] in text for e in results["experiments"].values())
    for figure in results["experiments"]["e1_2"]["figures"]:
        assert (folder / "artifacts" / figure["png"]).stat().st_size > 1000
        assert "plotly" in (folder / "artifacts" / figure["html"]).read_text()


def test_every_pictures_scores_are_on_disk(study):
    with (study[0] / "artifacts/e1_2.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["what"] for row in rows} >= {"post-merge/1", "blank", "mean", "nearest", "oracle"}
    assert all(-1 <= float(row["ssim"]) <= 1.001 for row in rows)


def test_e1_5_is_at_the_best_points_that_e1_6_found(study):
    folder, _ = study
    best = kept.read(folder, "e1_6")["result"]["facts"]["best"]
    names = [row[0] for row in kept.read(folder, "e1_5")["result"]["tables"][0]["rows"]]
    assert f"{best} tokens" in names and "oracle" in names and "nearest" in names


def test_e1_5_goes_on_with_decoded_pictures(bench, study):
    adapters = {"0-linear": fresh(bench, Entry("", "linear", (bench.recommended,), bench.train(), bench.test()), 0)}
    before = [p.clone() for p in adapters["0-linear"].parameters()]
    more = replace(bench, scale=replace(TINY, picture_steps=2, picture_batch=2))
    assert e1_5._with_pictures(more, adapters, bench.recommended) == 2
    assert not all(torch.equal(a, b) for a, b in zip(before, adapters["0-linear"].parameters(), strict=True))


def test_a_cap_cuts_steps_and_never_below_a_trial(bench):
    capped = replace(bench, cap=0.0)
    entry = Entry("x", "linear", (bench.recommended,), bench.train(), bench.test())
    assert run_grid(capped, [entry], "test", 100).steps == TRIAL


def test_scenes_of_splits_are_drawn_by_hash():
    assert set(take(50, 1, SceneSpec(), "test").split()) == {"test"}
