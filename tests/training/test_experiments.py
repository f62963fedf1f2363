"""The study's numbers against independent sources, its splits, its folder, and what it says of bad input."""

import argparse
import itertools

import numpy as np
import pytest
import torch

from foresight.data.render import render
from foresight.data.scenes import COLOR_NAMES, SHAPES, SceneSpec, sample, take
from foresight.errors import InputError
from foresight.metrics.intervals import bootstrap
from foresight.paths import ASSETS
from foresight.ui.findings.study import load_study
from training.experiments import boxes, command, objects, statistics
from training.experiments import store as kept
from training.experiments.controls import shuffled
from training.experiments.e1_1 import labels
from training.experiments.errors import error_places, seams
from training.experiments.experiment import Measurement, StudyPoints
from training.experiments.held_out import unseen_pair
from training.experiments.report import findings
from training.experiments.report.answers import ANSWERS, plain_answer, positions
from training.experiments.report.figures import _bar_starts
from training.experiments.report.parts import MEASURED, Run, mean, score_table, skill
from training.experiments.seed_protocol import PAIRS, SEEDS_OWN, confounded, grey_ssim
from training.experiments.trials import SCORES


def test_an_interval_of_one_seed_is_the_percentile_bootstrap():
    from scipy.stats import bootstrap as scipy_bootstrap

    x = np.random.default_rng(1).gamma(2.0, size=60)
    theirs = scipy_bootstrap((x,), np.mean, method="percentile", n_resamples=20_000, rng=2).confidence_interval
    mean, low, high = statistics.interval(x)
    assert mean == pytest.approx(x.mean())
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.04)
    assert (low, high) == pytest.approx(bootstrap(x)[1:], abs=0.04)


def test_an_interval_over_seeds_is_wider_where_seeds_differ():
    x = np.random.default_rng(0).normal(size=(1, 100))
    alike, apart = np.repeat(x, 3, 0), x + np.array([[-1.0], [0.0], [1.0]])
    widths = [np.diff(statistics.interval(s)[1:])[0] for s in (alike, apart)]
    assert widths[0] == pytest.approx(np.diff(statistics.interval(x)[1:])[0], rel=0.1)
    # By hand: the mean of three draws of -1, 0, 1 has a spread of sqrt(2/3/3), and mostly lies within ±1.
    assert widths[1] > 3 * widths[0]


def test_a_paired_interval_forgets_what_pictures_have_in_common():
    hard = np.random.default_rng(0).normal(scale=5, size=(1, 50))
    noise = np.random.default_rng(1).normal(scale=0.01, size=(1, 50))
    assert statistics.paired(hard + 0.1 + noise, hard) == pytest.approx([0.1, 0.1, 0.1], abs=0.01)


def test_a_skill_is_a_ratio_of_means_and_that_of_the_oracle_is_exactly_one():
    draw = np.random.default_rng(0)
    oracle, blank = draw.uniform(0.0, 0.01, (1, 60)), draw.uniform(0.2, 0.8, (1, 60))
    assert statistics.skill_interval("lpips", np.repeat(oracle, 3, 0), blank, oracle) == [1.0, 1.0, 1.0]
    assert statistics.skill_interval("lpips", blank, blank, oracle) == [0.0, 0.0, 0.0]
    own = oracle + 0.1 * blank + draw.normal(0, 0.02, (1, 60))
    skill_ends = statistics.skill_interval("lpips", own, blank, oracle)
    rows = draw.integers(60, size=(20_000, 60))
    ratios = (own - blank)[0][rows].mean(1) / (oracle - blank)[0][rows].mean(1)
    assert skill_ends[0] == pytest.approx((own - blank).mean() / (oracle - blank).mean())
    assert skill_ends[1:] == pytest.approx(np.quantile(ratios, [0.025, 0.975]), abs=0.001)
    wide = statistics.interval((blank - own) / (blank - oracle).mean())  # what it was: the denominator held still
    assert skill_ends[2] - skill_ends[1] < (wide[2] - wide[1]) / 3


def test_where_nothing_can_be_gained_there_is_no_skill():
    noise = np.random.default_rng(0).normal(size=(1, 40))
    assert statistics.skill_interval("lpips", noise, noise * 0, noise) is None
    assert statistics.skill_interval("lpips", noise, noise * np.nan, noise) is None
    oracle, blank = np.full((1, 40), 0.1), np.full((1, 40), 0.3)  # by SSIM it is worse than a blank page
    assert statistics.skill_interval("ssim", oracle, blank, oracle) is None
    for name in ("object_lpips", "object_error"):
        assert statistics.skill_interval(name, oracle, blank, oracle) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("bad", [[], [float("nan"), 1.0]])
def test_no_interval_without_finite_values(bad):
    with pytest.raises(InputError, match="finite"):
        statistics.interval(bad)


def test_box_iou_by_hand():
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 1, 1]])
    b = torch.tensor([[1.0, 1, 3, 3], [0, 0, 2, 2], [2, 2, 3, 3]])
    assert boxes.box_iou(a, b).tolist() == pytest.approx([1 / 7, 1, 0])


def test_the_best_constant_box_is_the_one_nearest_to_all():
    given = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 0.9], [0, 0, 0.9, 1], [0.8, 0.8, 1, 1]])
    assert boxes.best_constant_box(given).tolist() == [0, 0, 1, 1]


def test_matching_equals_the_best_of_all_assignments():
    draw = torch.Generator().manual_seed(0)
    for n, m in ((3, 3), (2, 4), (4, 2)):
        iou = torch.rand(n, m, generator=draw)
        pairs, missed, extra = objects.match(iou)
        few, many = sorted((n, m))
        square = iou if n <= m else iou.T
        best = max(
            itertools.permutations(range(many), few), key=lambda p: sum(float(square[i, j]) for i, j in enumerate(p))
        )
        good = [float(square[i, j]) for i, j in enumerate(best) if square[i, j] >= objects.MATCH]
        assert sorted(pairs) == pytest.approx(sorted(good))
        assert (missed, extra) == (n - len(good), m - len(good))


def test_matching_prefers_the_largest_sum_to_the_largest_pair():
    pairs, missed, extra = objects.match(torch.tensor([[0.9, 0.8], [0.85, 0.1]]))
    assert sorted(pairs) == pytest.approx([0.8, 0.85])
    assert (missed, extra) == (0, 0)


def test_nothing_found_is_all_missed():
    assert objects.match(torch.zeros(3, 0)) == ([], 3, 0)


def test_saturation_is_the_first_setting_as_good_as_the_best():
    flat = np.random.default_rng(0).normal(scale=0.001, size=(1, 50))
    settings = [flat + level for level in (0.3, 0.12, 0.101, 0.1)]
    assert statistics.saturation(settings, 0.01) == 2
    assert statistics.saturation(settings, 0.1) == 1
    assert statistics.saturation([flat + level for level in (0.3, 0.2, 0.1)], 0.01) is None


def test_a_claim_needs_a_margin():
    assert statistics.verdict([-0.0013, -0.002, -0.0006]) == "does not hold"  # certain, and too little to count
    assert statistics.verdict([-0.05, -0.06, -0.04]) == "holds"
    assert statistics.verdict([-0.02, -0.05, 0.01]) == "open"
    assert statistics.verdict([-0.05, -0.06, -0.04], [0.02, 0.01, 0.03]) == "does not hold"
    assert statistics.verdict([-0.05, -0.06, -0.04], [-0.02, -0.05, 0.01]) == "open"


def test_a_difference_is_reported_once_more_steps_do_not_move_it_and_linear_probes_are_beaten():
    better, worse = [-0.02, -0.03, -0.01], [0.01, -0.01, 0.03]
    assert statistics.converged([0.054, 0.05, 0.06], [0.05, 0.04, 0.06], [better, better])
    assert not statistics.converged([0.056, 0.05, 0.06], [0.05, 0.04, 0.06], [better, better])  # moved by 12 %
    assert statistics.converged([0.0008, 0.0, 0.002], [0.0, -0.001, 0.001], [better, better])
    assert not statistics.converged([0.05, 0.04, 0.06], [0.05, 0.04, 0.06], [better, worse])


def test_objects_of_a_clean_picture_are_found_one_by_one():
    spec = SceneSpec(
        objects=(3, 3), shapes=("circle", "square"), overlap=False, backgrounds=("white",), radius=(20, 40)
    )
    drawn = render(sample(range(4), 5, spec))
    scores = objects.object_scores(drawn.images.float() / 255, drawn.visible)
    assert (scores["missed a picture"] == 0).all()
    assert (scores["extra a picture"] == 0).all()
    assert (scores["IoU an object, 0 if missed"] > 0.95).all()
    blank = objects.object_scores(torch.ones(4, 3, 224, 224), drawn.visible)
    assert (blank["missed a picture"] == 3).all()
    sliver = drawn.visible.clone()
    sliver[:, 0] = False
    sliver[:, 0, 0, : objects.LEAST_OBJECT - 1] = True  # of which too little is seen to be an object
    assert (objects.object_scores(torch.ones(4, 3, 224, 224), sliver)["missed a picture"] == 2).all()


def test_objects_in_front_of_no_even_background_are_not_counted_as_missed():
    drawn = render(sample(range(1), 5, SceneSpec(objects=(1, 1), backgrounds=("white",))))
    noise = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert all(np.isnan(values).all() for values in objects.object_scores(noise, drawn.visible).values())


def test_scores_that_some_images_lack_are_means_of_the_rest_with_their_share():
    own, blank, oracle = ({name: np.full((1, 4), value) for name in SCORES} for value in (0.5, 0.0, 1.0))
    own["mask_iou"], oracle["mask_iou"] = np.array([[0.2, 0.2, np.nan, 0.4]]), np.array([[0.5, 0.5, 0.1, np.nan]])
    table = score_table("Scores", {"linear": own}, ("lpips", "mask_iou"))
    assert table.columns == ["what", MEASURED, "LPIPS", "mask IoU"]
    [[_, share, _, iou]] = table.rows
    assert share == "3 of 4" and iou[0] == pytest.approx(0.8 / 3, abs=1e-6)
    assert score_table("Scores", {"blank": blank}, ("lpips", "mask_iou")).columns == ["what", "LPIPS", "mask IoU"]
    # The skill is of the two images that have all three.
    assert skill({"x": own, "blank": blank, "oracle": oracle}, "x", "mask_iou") == pytest.approx([0.2 / 0.5] * 3)
    assert mean(np.array([[np.nan, 1.0, 3.0]])) == 2.0 and mean(np.array([[np.nan, 1.0]])) is None


def test_a_waterfalls_bar_begins_where_the_one_before_it_ended():
    assert _bar_starts("waterfall", [0.1, None, 0.4]) == [0.0, 0.1, 0.0]
    assert _bar_starts("bar", [0.1, 0.3, 0.4]) == [0.0] * 3


def test_scores_of_boxes_by_hand():
    scores = boxes.box_scores(torch.tensor([[0.0, 0, 0.5, 0.5]]), torch.tensor([[0.0, 0, 0.5, 1.0]]))
    assert {k: float(v[0]) for k, v in scores.items()} == pytest.approx(
        {"mean IoU": 0.5, "IoU > 0.5": 0, "IoU > 0.75": 0, "centre error, px of 224": 56, "size error, px of 224": 56}
    )


def test_heads_learn_a_box_that_latents_tell():
    draw = torch.Generator().manual_seed(0)
    corners = torch.rand(64, 2, generator=draw) * 0.5
    truth = torch.cat([corners, corners + 0.3], 1)
    latents = truth[:, None, None, None].expand(64, 1, 4, 4, 4) + 0.01 * torch.randn(64, 1, 4, 4, 4, generator=draw)
    for make in (boxes.PooledBox, boxes.TokenBox):
        torch.manual_seed(0)
        head = make(latents)
        error = boxes.BoxError(head)
        optimizer = torch.optim.Adam(head.parameters(), 3e-3)
        before = error(latents, truth).item()
        for _ in range(60):
            optimizer.zero_grad()
            loss = error(latents, truth)
            loss.backward()
            optimizer.step()
        assert loss.item() < before / 3


def test_shuffled_tokens_are_the_same_tokens_elsewhere():
    x = torch.arange(2 * 9).float().view(2, 1, 3, 3, 1).expand(-1, -1, -1, -1, 4)
    y = shuffled(x, 0)
    assert torch.equal(y.flatten(1, 3).sort(1).values, x.flatten(1, 3).sort(1).values)
    assert not torch.equal(x, y)
    assert len(y.unique(dim=-1)) == 2  # a token moves whole


def test_seams_lie_on_both_sides_of_a_window():
    assert seams(8, 4)[0].tolist() == [False, False, False, True, True, False, False, False]


def test_where_all_errors_are_alike_no_correlation_is_told():
    correlation, at_seams = error_places(torch.ones(5, 8, 8), torch.rand(5, 8, 8), torch.zeros(5, 8, 8)).values()
    assert np.isnan(correlation).all() and statistics.finite(correlation) is None
    assert at_seams.tolist() == [[0] * 5]


def test_seams_are_not_blamed_for_the_objects_that_lie_on_them():
    covered = seams(8, 4).float().expand(5, 8, 8) * torch.rand(5, 8, 8).round()
    error = "error at seams minus elsewhere, like tokens"
    assert error_places(covered, torch.rand(5, 8, 8), covered)[error] == pytest.approx(np.zeros((1, 5)))
    worse = error_places(covered + 0.5 * seams(8, 4), torch.rand(5, 8, 8), covered)
    assert worse[error] == pytest.approx(np.full((1, 5), 0.5))


def test_errors_that_follow_norms_correlate_with_them():
    norms = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(0))
    places = error_places(norms**2, norms, torch.zeros(5, 8, 8))
    assert places["rank correlation of error and norm"] == pytest.approx(np.ones((1, 5)))


def test_the_seeds_scenes_have_one_colour_a_shape_and_ours_all():
    scenes = confounded(sample(range(200), 0, SEEDS_OWN))
    seen = {(SHAPES[s], COLOR_NAMES[c]) for s, c in zip(scenes.shape[:, 0], scenes.color[:, 0], strict=True)}
    assert seen == set(PAIRS.items())


def test_factors_of_e1_1_are_independent():
    truth = labels(sample(range(2000), 0, SceneSpec(objects=(1, 1))))
    for a, b in itertools.combinations(("shape", "colour", "size"), 2):
        joint = np.array(
            [[np.mean((truth[a] == i) & (truth[b] == j)) for j in np.unique(truth[b])] for i in np.unique(truth[a])]
        )
        assert joint == pytest.approx(np.outer(joint.sum(1), joint.sum(0)), abs=0.02)


def test_grey_ssim_does_not_see_a_change_of_colour_alone():
    red, blue = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    red[:, 0, 8:20, 8:20], blue[:, 2, 8:20, 8:20] = 1.0, 1.0
    assert grey_ssim(red, blue) == pytest.approx([1.0], abs=1e-5)


def test_train_and_test_scenes_share_none():
    known = take(400, 28_000, SceneSpec(), "train").hashes()
    unseen = take(100, 28_000, SceneSpec(), "test").hashes()
    assert not set(known.tolist()) & set(unseen.tolist())


def test_held_out_pairs_are_a_fifth_and_found_by_any_object():
    scenes = sample(range(500), 0, SceneSpec(objects=(1, 3)))
    flags = unseen_pair(scenes)
    for i in range(0, 500, 25):
        pairs = [int(scenes.shape[i, j] + scenes.color[i, j]) % 5 == 0 for j in range(int(scenes.count[i]))]
        assert bool(flags[i]) == any(pairs)


def test_the_docs_have_the_table_that_the_command_prints_of_the_bundled_study(capsys, tmp_path):
    with pytest.raises(InputError, match="results.yaml is missing"):
        command.run(arguments("--table", "--out", tmp_path))
    command.run(arguments("--table", "--out", ASSETS))
    table = capsys.readouterr().out
    assert table in (ASSETS.parent / "docs/study.md").read_text(encoding="utf-8")
    assert "| silhouette by shape and colour, post-merge/6 | – | 0.808 |" in table


@pytest.mark.parametrize("name", ["e1_3", "e1_5", "v1"])
def test_the_bundled_study_says_what_the_scores_of_its_images_say(name):
    folder = ASSETS.parent / "docs/study"
    record = kept.Record.model_validate_json((folder / f"experiments/{name}.json").read_text())
    answer, shipped = findings.answer_of(folder, name, record), load_study(ASSETS / "results.yaml").experiments[name]
    assert (answer.verdict, answer.paragraph, list(answer.key)) == (shipped.verdict, shipped.paragraph, shipped.key)


def arguments(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(["c1", *map(str, words)])


def names(*chosen):
    return [experiment.name for experiment in command.chosen(*chosen)]


def test_needed_experiments_come_first():
    assert names("e1_5", "", "both") == ["e1_6_depth", "e1_5"]
    assert names("beyond", "controls,probes,neighbours,errors", "both") == ["e1_6_depth", "blends", "held_out"]
    assert names(None, "", "seed") == ["seed_protocol", "attribution"]
    assert "seed_protocol" not in names(None, "", "sound")
    order = names(None, "", "both")
    assert sorted(order) == sorted(command.ALL) and order.index("e1_6_depth") < order.index("e1_5")


def test_every_experiment_has_an_answer():
    assert ANSWERS.keys() == command.ALL.keys()


def test_an_unknown_experiment_is_told_with_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"no experiment 'e1_9'.*e1_4"):
        command.run(arguments("--only", "e1_9", "--out", tmp_path))


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        command.run(arguments("--out", tmp_path / "file"))


def test_a_folder_of_photos_that_is_missing_is_told(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        command.run(arguments("--out", tmp_path, "--photos", tmp_path / "none"))


ABOUT = {"points": {"every": ["post-merge/0"], "recommended": "post-merge/0", "merger": [], "landmarks": []},
         "seconds": 1.0, "device": "CPU", "created": "today", "command": ""}  # fmt: skip


def test_a_result_of_other_settings_is_never_taken(tmp_path):
    kept.open_folder(tmp_path)
    kept.save(tmp_path, "e1_2", Measurement({}), ABOUT | {"settings": {"steps": 100, "widths": [1, 2]}})
    assert kept.load(tmp_path, "e1_2", {"steps": 100, "widths": [1, 2]}) is not None
    with pytest.raises(InputError, match="e1_2 made with steps 100, not 200"):
        kept.load(tmp_path, "e1_2", {"steps": 200, "widths": [1, 2]})
    assert kept.load(tmp_path, "e1_3", {"steps": 200}) is None


def test_tables_come_back_from_disk_as_they_were(tmp_path):
    kept.open_folder(tmp_path)
    own, blank = np.array([[0.25, np.nan, 1.5], [2.0, 3.0, -4.0]]), np.array([[1.0, 2.0, 3.0]])
    tables = {"scores": {"tokens, all": {"lpips": own, "ssim": own + 1}, "blank": {"lpips": blank, "ssim": blank}}}
    record = kept.save(tmp_path, "e9", Measurement(tables, {"scores": 7}), ABOUT | {"settings": {}})
    measurement = kept.measured(tmp_path, "e9", record)
    assert measurement.steps == {"scores": 7} and list(measurement.tables["scores"]) == ["tokens, all", "blank"]
    for name, samples in tables["scores"].items():
        for score, values in samples.items():
            np.testing.assert_array_equal(measurement.tables["scores"][name][score], values)


def run_of(tables, **more):
    return Run(Measurement(tables, **more), StudyPoints(**ABOUT["points"]), {"boxes": 8})


def test_an_experiment_without_an_answer_of_its_own_is_told_by_its_numbers():
    scores = {n: {"lpips": np.full((2, 3), v)} for n, v in (("pre-merge/0", 0.2), ("blank", 0.5), ("oracle", 0.01))}
    answer = plain_answer(run_of({"scores": scores, "other": {"noise 0.1": {"error": np.ones((1, 3))}}}))
    assert answer.tables[0].rows[0] == ["pre-merge/0", [0.2, 0.2, 0.2]]
    depth, bars = answer.charts
    assert (depth.kind, depth.baseline, depth.series[0].x) == ("line", 0.5, ["pre-merge/0"])
    assert (bars.kind, bars.series[0].name) == ("bar", "error")


@pytest.mark.parametrize(("tokens", "pooled", "advice"), [(0.9, 0.5, "Keep"), (0.5, 0.9, "is not needed")])
def test_advice_follows_the_numbers(tokens, pooled, advice):
    def of(iou):
        scores = boxes.box_scores(torch.rand(6, 4), torch.rand(6, 4))
        return {name: values[None] for name, values in scores.items()} | {"mean IoU": np.full((1, 6), iou)}

    drawn = torch.rand(2, 3, 56, 56)
    objects_ = {n: {k: v[None] for k, v in objects.object_scores(drawn, torch.ones(2, 1, 56, 56).bool()).items()}
                for n in ("post-merge/0 tokens", "oracle", "originals", "blank")}  # fmt: skip
    heads = {"post-merge/0 pooled head": of(pooled), "post-merge/0 token head": of(tokens), "constant box": of(0.2)}
    run = run_of({"scores": {}, "boxes": heads, "objects": objects_}, steps={"boxes": 2})
    assert advice in positions(run).advice[0]


def test_numbers_become_plain_ones():
    given = {"a": np.float64(0.1234567), "b": [float("nan"), np.int64(3)], "c": (True, None)}
    assert kept.plain(given) == {"a": 0.123457, "b": [None, 3], "c": [True, None]}
