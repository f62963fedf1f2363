"""The parts of the study at a tiny size: what is trained side by side, on which scenes, from which latents."""

import itertools
from dataclasses import replace
from textwrap import dedent

import pytest
import torch
from small_study import TINY

from foresight.adapters.modules import LinearProbe, PooledMLP, TokenAdapter
from foresight.data.images import to_pil, to_tensor
from foresight.data.scenes import SceneSpec, take
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm
from training import experiments
from training.experiments import blends, e1_5, e1_6, e1_6_depth
from training.experiments.bench import Bench
from training.experiments.boxes import BoxError, PooledBox, TokenBox
from training.experiments.held_out import KNOWN, crowd_name, filtered, photos, splits, unseen_pair
from training.experiments.parallel import STRIDE, LatentError, Learner, ParallelTask
from training.experiments.report.answers import plain_answer
from training.experiments.report.beyond import blends as blends_answer
from training.experiments.report.parts import Run
from training.experiments.seed_protocol import last_state, stages
from training.experiments.trials import Trial, hidden_for, learner, run_trials, train_trials, untrained
from training.ridge import solve_linear


@pytest.fixture(scope="module")
def bench(house, tmp_path_factory):
    vlm, vae = load_vlm(house / "vlm", "cpu"), load_vae(house / "vae", "cpu")
    return Bench(vlm, vae, TINY, tmp_path_factory.mktemp("artifacts"), model=str(house / "vlm"))


@pytest.mark.parametrize(
    ("make", "width", "fold"),
    [
        (lambda w, f: LinearProbe(w, 4, f, 4), 6, 2),
        (lambda w, f: TokenAdapter(w, 4, f, 4, 16), 5, 1),
        (lambda w, f: PooledMLP(w, 4, f, 4, 16, 8), 5, 1),
    ],
)
def test_adapters_computed_as_one_have_the_losses_and_gradients_of_each_alone(make, width, fold):
    learners, latents, targets = [], torch.randn(2, 4, 1, 2 * fold, 2 * fold, width), torch.randn(2, 4, 4, 8, 8)
    for seed, (x, target) in enumerate([(latents[0], targets[0])] * 2 + [(latents[1], targets[1])]):  # two learn alike
        torch.manual_seed(seed)
        adapter = make(width, fold)
        adapter.fit_statistics(x + seed, target * (seed + 1))
        learners.append(Learner(adapter, torch.arange(4), [x], target, LatentError(adapter), seed))
    _computed_as_one(learners)


@pytest.mark.parametrize("new_head", [PooledBox, TokenBox])
def test_heads_computed_as_one_have_the_losses_and_gradients_of_each_alone(new_head):
    learners = []
    for seed in range(3):
        torch.manual_seed(seed)
        x, boxes = torch.randn(4, 1, 4, 4, 6) + seed, torch.rand(4, 4).sort(1).values
        head = new_head(x)
        learners.append(Learner(head, torch.arange(4), [x], boxes, BoxError(head), seed))
    _computed_as_one(learners)


def _computed_as_one(learners):
    task = ParallelTask(learners, torch.device("cpu"), stacked=True)
    assert task.groups == [[0, 1, 2]]
    losses = task.loss(torch.arange(4), torch.Generator(), 0.0)
    torch.stack(list(losses.values())).sum().backward()
    for k, one in enumerate(learners):
        stacked = [p.grad.clone() for p in one.module.parameters()]
        one.module.zero_grad()
        alone = one.loss((torch.arange(4) + STRIDE * k) % 4)
        alone.backward()
        torch.testing.assert_close(losses[str(k)], alone)
        torch.testing.assert_close(stacked, [p.grad for p in one.module.parameters()])


def test_points_are_both_ends_and_the_middle_of_both_stages(bench):
    names = [str(p) for p in bench.points]
    assert {"pre-merge/0", "pre-merge/3", "post-merge/0", "post-merge/1", "post-merge/3"} <= set(names)
    assert [str(p) for p in Bench(bench.vlm, bench.vae, replace(TINY, points=24), bench.artifacts).points] == [
        str(p) for p in bench.vlm.points
    ]


def test_no_scene_is_both_learned_from_and_tested_on(bench):
    known = torch.cat([s.hashes() for s in bench.mixture(200, "train")])
    known = torch.cat([known, filtered(bench, 50, 700, SceneSpec(), "train", False).hashes()])
    unseen = [s.hashes() for s in bench.mixture(100, "test")] + [s.hashes() for s in splits(bench).values()]
    assert not set(known.tolist()) & set(torch.cat(unseen).tolist())


def test_held_out_splits_hold_what_they_say(bench):
    parts = splits(bench)
    assert unseen_pair(parts["new pairs of shape and colour"]).all()
    assert not any(unseen_pair(s).any() for name, s in parts.items() if name != "new pairs of shape and colour")
    assert (parts[crowd_name(5)].count == 5).all()
    assert parts["smaller objects"].place[:, 0, 2].max() * 224 < 18.1


def test_scenes_with_and_without_a_held_out_pair_have_as_many_objects(bench):
    sets = [filtered(bench, 30, 700, KNOWN, "test", pairs) for pairs in (False, True)]
    assert [s.count.bincount().tolist() for s in sets] == [[0, 10, 10, 10]] * 2


def test_seeds_learn_from_other_pictures_of_as_many(bench):
    two = replace(bench, scale=replace(TINY, seeds=2))
    trial = Trial("four of eight", "tokens", (bench.recommended,), bench.train(), bench.test(), count=4)
    learners = [learner(two, trial, untrained(two, trial, seed), seed) for seed in range(2)]
    assert [one.rows.tolist() for one in learners] == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert not torch.equal(learners[0].module.mean, learners[1].module.mean)  # its own statistics


def test_photos_are_middle_squares_of_the_studys_size(bench, tmp_path):
    x = torch.zeros(3, 100, 300)
    x[0, :, 100:200] = 1.0  # the middle square is red
    to_pil(x).save(tmp_path / "a.png")
    [data] = photos(replace(bench, photos=tmp_path), [bench.recommended]).values()
    assert data.pictures.shape == (1, 3, 84, 84) and data.masks.all()
    assert data.pictures[0, :, 10, 10].tolist() == [255, 0, 0] == data.pictures[0, :, 80, 80].tolist()


def test_several_layers_are_compared_with_the_best_of_them(bench):
    layers = e1_6_depth.measure(bench)
    answer = blends_answer(Run(blends.measure(bench, layers), bench.names, {"batch": 4}))
    everywhere = layers.tables[layers.values["everywhere"]]
    for name, single, *_ in answer.tables[1].rows:
        stage = "pre-merge" if "before" in name else "post-merge"
        inside = {n: s for n, s in everywhere.items() if n.startswith(stage)}
        assert "all" not in name or single == min(inside, key=lambda n: inside[n]["lpips"].mean())
    assert [row[0] for row in answer.tables[1].rows][-1].startswith("routing over all")
    assert sum(row[2] for row in answer.tables[2].rows if "after" in row[0]) == pytest.approx(1, abs=1e-4)


def test_a_random_vlm_has_the_same_config_and_other_latents(bench):
    x = torch.rand(1, 3, 56, 56)
    vlms = bench.vlm, bench.random_vlm(0), bench.random_vlm(1), bench.random_vlm(0)
    ours, one, other, again = (v.latents(x, ["post-merge/3"])["post-merge/3"] for v in vlms)
    assert ours.shape == one.shape and not torch.allclose(ours, one)
    assert not torch.allclose(one, other) and torch.equal(one, again)


def test_capacities_on_both_sides_of_the_merger_are_alike(bench):
    before, after = (Trial("", "tokens", (p,), bench.train(), bench.test()) for p in bench.merger)
    goal = 100_000
    for trial in (before, after):
        adapter = untrained(bench, replace(trial, hidden=hidden_for(goal, trial, bench)), 0)
        assert sum(p.numel() for p in adapter.parameters()) == pytest.approx(goal, rel=0.05)


def test_seeds_differ_and_a_seed_repeats_to_the_bit(bench):
    two = Bench(bench.vlm, bench.vae, replace(TINY, seeds=2), bench.artifacts)
    trial = Trial("x", "tokens", (two.recommended,), bench.train(), bench.test())
    first, again = (run_trials(two, [trial], "test").table["x"]["lpips"] for _ in range(2))
    assert (first == again).all() and (first[0] != first[1]).any()
    alone = run_trials(two, [replace(trial, seeds=(1,))], "test").table["x"]["lpips"]
    assert alone.shape == (1, len(bench.test())) and (alone[0] != first[0]).any()


def test_the_seeds_latents_are_transformers_own(bench, tiny):
    pictures = torch.randint(0, 256, (1, 3, 56, 84), dtype=torch.uint8)
    with_text, alone = (last_state(bench, pictures, text, "What is it?") for text in (True, False))
    image = to_pil(pictures[0].float() / 255)
    assert torch.equal(to_tensor(image), pictures[0].float() / 255)
    prompt = bench.vlm.prompt("What is it?")
    inputs = tiny.processor(text=[prompt], images=[image], return_tensors="pt", do_resize=False)
    with torch.no_grad():
        hidden = tiny.model.model(**inputs).last_hidden_state  # (1, tokens, D), after the final norm
    torch.testing.assert_close(with_text, hidden.mean(1), rtol=1e-3, atol=1e-3)
    at_image = inputs["input_ids"][0] == bench.vlm.config.image_token_id
    torch.testing.assert_close(alone, hidden[:, at_image].mean(1), rtol=1e-3, atol=1e-3)


def test_the_seeds_test_pictures_are_its_first_training_pictures_and_later_stages_share_none(bench):
    first, second = stages(bench)[:2]
    assert torch.equal(first.test.pictures, first.train.pictures[: len(first.test)])
    known = first.train.pictures.flatten(1)
    assert not any((known == picture).all(1).any() for picture in second.test.pictures.flatten(1))


def test_each_stage_of_the_seeds_protocol_changes_one_thing(bench):
    plan = stages(bench)
    pictures = [(len(s.train), s.train.pictures.flatten(1).long().sum(), s.test.pictures.long().sum()) for s in plan]
    same = [(a[:2] == b[:2], a[2] == b[2]) for a, b in itertools.pairwise(pictures)]  # learned from, tested on
    assert same == [(True, False), (False, False), (False, False), *[(True, True)] * 2, (False, True), (True, True),
                    (False, False)]  # fmt: skip
    assert [s.kind for s in plan] == ["pooled"] * 7 + ["tokens"] * 2
    states = [bool((x[:, :, :1, :1] == x).all()) for x in (s.inputs(s.train)[0] for s in plan)]
    assert states == [True] * 5 + [False] * 4  # one state for all places


def test_a_linear_probe_is_solved_once_and_an_eighth_of_its_images_chooses_the_penalty(bench):
    two = replace(bench, scale=replace(TINY, seeds=2))
    trial = Trial("x", "linear", (bench.recommended,), bench.train(), bench.test())
    [probe] = train_trials(two, [trial], "test")["x"]
    [x], z = trial.inputs(trial.train), trial.train.targets
    again = untrained(two, trial, 0)
    solve_linear(again, (x[:7], z[:7]), (x[7:], z[7:]))  # of eight
    assert torch.equal(probe.linear.weight, again.linear.weight)
    halves = train_trials(two, [replace(trial, count=4)], "test")["x"]  # seeds have other images, and other solutions
    assert not torch.equal(halves[0].linear.weight, halves[1].linear.weight)


def test_e1_5_goes_on_with_decoded_images(bench):
    adapters = {"0-tokens": untrained(bench, Trial("", "tokens", (bench.recommended,), bench.train(), bench.test()), 0)}
    before = [p.clone() for p in adapters["0-tokens"].parameters()]
    more = replace(bench, scale=replace(TINY, picture_batch=2, picture_steps=2))
    e1_5.train_on_images(more, adapters, bench.recommended)
    assert not all(torch.equal(a, b) for a, b in zip(before, adapters["0-tokens"].parameters(), strict=True))


def test_the_experiment_in_the_docs_runs_and_is_reported(bench):
    code = dedent(experiments.__doc__.split("`noise.py`:")[1].split("With `NOISE`")[0])
    calls: dict = {}
    exec(code, calls)
    answer = plain_answer(Run(calls["NOISE"].measure(bench), bench.names, {}))
    assert [row[0] for row in answer.tables[0].rows][:3] == ["noise 0.0", "noise 0.1", "noise 1.0"]
    clean, *_, noisy = answer.tables[0].rows[:3]
    assert clean[1][0] < noisy[1][0] and answer.verdict is None and answer.charts


def test_adapters_of_all_widths_learn_for_as_many_steps(bench):
    widths = e1_6.width(bench)
    assert list(widths.table) == ["pooled 8", "tokens 8", "pooled 16", "tokens 16"] and widths.steps == TINY.steps


def test_scenes_of_splits_are_drawn_by_hash():
    assert set(take(50, 1, SceneSpec(), "test").split()) == {"test"}


def test_a_fourth_vlm_learns_from_the_rows_of_the_first_of_three(bench):
    trial = Trial("a", "tokens", (bench.recommended,), bench.train(), bench.test())
    assert trial.rows(3, 3).equal(trial.rows(0, 3))
