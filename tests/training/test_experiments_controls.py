"""Controls, probes, neighbours, Shapley values and motion, each against what is known of it beforehand."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from small_study import TINY

from foresight.adapters.modules import fold_tokens
from foresight.errors import InputError
from foresight.models.vae import load_vae
from foresight.models.vlm import VLM, load_vlm
from training.experiments import attribution, command, cost, e1_6_depth, neighbours, parallel, probes, trials, v1
from training.experiments.bench import Bench
from training.experiments.controls import projections
from training.experiments.e1_1 import SPEC
from training.experiments.ladder import choose_rates
from training.experiments.report.parts import difference
from training.experiments.statistics import paired, shapley
from training.experiments.trials import Trial


@pytest.fixture(scope="module")
def bench(house, tmp_path_factory):
    vlm, vae = load_vlm(house / "vlm", "cpu"), load_vae(house / "vae", "cpu")
    return Bench(vlm, vae, TINY, tmp_path_factory.mktemp("artifacts"), model=str(house / "vlm"))


@pytest.fixture(scope="module")
def layers(bench):
    return e1_6_depth.measure(bench)


def test_shapley_values_are_the_means_over_all_orders_and_add_up():
    draw = np.random.default_rng(0)
    values = {s: draw.normal() for s in map(frozenset, ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)))}
    for player in range(3):
        orders = [set(order[: order.index(player)]) for order in permutations(range(3))]
        worth = [values[frozenset(before | {player})] - values[frozenset(before)] for before in orders]
        assert shapley(player, 3, values) == pytest.approx(np.mean(worth))
    total = sum(shapley(player, 3, values) for player in range(3))
    assert total == pytest.approx(values[frozenset({0, 1, 2})] - values[frozenset()])


def test_subsets_of_choices_that_come_to_the_same_are_trained_once():
    rows = {attribution.condition(s) for s in attribution.subsets()}
    assert len(attribution.subsets()) == 64 and len(rows) == 40  # 20 trainings, each tested on two sets
    first = attribution.condition(())
    assert first == "pooled, mean of all tokens, one colour a shape, few scenes, pictures that it learned from"


def test_the_last_layers_grid_has_the_mean_that_the_seed_took_without_its_text(bench):
    images = torch.randint(0, 256, (2, 3, 56, 84), dtype=torch.uint8)
    alone = attribution.last_state(bench, images, text=False)
    torch.testing.assert_close(attribution.last_grid(bench, images).mean((1, 2, 3)), alone, rtol=1e-3, atol=1e-3)


def test_a_pca_of_the_mergers_inputs_keeps_more_than_a_random_projection_of_as_many_numbers():
    spread = torch.linspace(3, 0.1, 16)
    x = torch.randn(40, 1, 4, 4, 4) * spread[:4] + 5
    principal, random = projections(x, 6, 0)
    assert principal.shape == random.shape == (40, 1, 2, 2, 6)
    joined = fold_tokens(x.flatten(0, 1), 2).flatten(0, -2)
    largest = torch.linalg.eigvalsh(torch.cov(joined.T)).flip(0)[:6].sum()
    assert principal.flatten(0, -2).var(0).sum() == pytest.approx(float(largest), rel=0.05)
    assert random.flatten(0, -2).var(0).sum() < principal.flatten(0, -2).var(0).sum()


def test_permuted_weights_are_the_same_numbers_elsewhere(bench):
    permuted = bench.permuted_vlm(0)
    name, own = next((n, p) for n, p in bench.vlm.model.named_parameters() if "language_model.layers.0.mlp.up" in n)
    other = dict(permuted.model.named_parameters())[name]
    assert torch.equal(own.flatten().sort().values, other.flatten().sort().values) and not torch.equal(own, other)
    x = torch.rand(1, 3, 56, 56)
    a, b = (vlm.latents(x, ["post-merge/3"])["post-merge/3"] for vlm in (bench.vlm, permuted))
    assert not torch.allclose(a, b)


def test_a_rate_that_moves_nothing_is_not_chosen(bench):
    few = replace(bench, scale=replace(TINY, rates=(1e-9, 1e-2), rungs=(20, 20, 20), batch=8))
    trial = Trial("x", "tokens", (bench.recommended,), bench.train(), bench.test())
    assert choose_rates(few, [trial], "test") == {"x": 1e-2}


def test_a_difference_is_told_only_where_more_steps_leave_it_and_probes_are_beaten():
    noise = np.random.default_rng(0).normal(scale=1e-4, size=(2, 40))

    def rung(a, b):
        return {"a": {"lpips": noise + a}, "b": {"lpips": noise + b}}

    linear = [{"lpips": noise[:1] + 0.3}] * 2
    assert difference(rung(0.14, 0.10), rung(0.12, 0.0805), "a", "b", linear).stands
    moved = difference(rung(0.14, 0.10), rung(0.12, 0.09), "a", "b", linear)
    assert not moved.stands and "open" in str(moved)
    assert not difference(rung(0.14, 0.10), rung(0.12, 0.08), "a", "b", [{"lpips": noise[:1] + 0.1}] * 2).stands


def test_conditions_of_other_numbers_of_seeds_are_compared_by_their_means():
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros((3, 2))
    assert paired(a, b)[0] == pytest.approx(2.5)


def test_probes_tell_a_label_that_is_there_and_know_one_by_chance_by_heart_alone():
    draw = torch.Generator().manual_seed(0)
    label, types = torch.randint(0, 3, (600,), generator=draw), torch.randint(0, 40, (600,), generator=draw)
    x = torch.nn.functional.one_hot(label, 3).float() + 0.1 * torch.randn(600, 3, generator=draw)
    chance = torch.randint(0, 3, (40,), generator=draw)[types]
    tasks = [probes.Task("there", label[:400], label[400:], 3), probes.Task("chance", chance[:400], chance[400:], 3)]
    there, by_chance = probes.probe(x[:400], x[400:], tasks)
    assert there["accuracy"].mean() > 0.98 and there["V-information, bits"].mean() > 1.4  # of log2(3) = 1.58
    assert by_chance["accuracy"].mean() < 0.5 and abs(by_chance["V-information, bits"].mean()) < 0.15
    assert there["code"].shape == (1, probes.STRETCHES) and there["code"].mean() < 0.4 < 1.4 < by_chance["code"].mean()


def test_each_control_task_gives_a_pair_of_shape_and_colour_one_label(bench):
    known, unseen = (bench.scenes(200, 1, SPEC, split) for split in ("train", "test"))
    for task in probes.tasks_of(known, unseen, 2):
        if probes.CONTROL in task.name:
            pairs = known.shape[:, 0] * 100 + known.color[:, 0]
            assert all(len(task.train[pairs == pair].unique()) == 1 for pair in pairs.unique())


def test_neighbours_that_stay_by_hand():
    line = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.3], [0.0, 1.0]])
    assert neighbours.nearest(line, 1)[:, 0].tolist() == [1, 0, 1, 2]
    moved = line[[0, 3, 2, 1]]  # the second and the last change places
    assert neighbours.overlap(line, line, 2).tolist() == [1, 1, 1, 1]
    assert neighbours.overlap(line, moved, 1).tolist() == [0, 0, 0, 0]


def test_displacements_are_foretold_from_latents_that_hold_them():
    draw = torch.Generator().manual_seed(0)
    moved, noise = torch.randn(80, 2, generator=draw) * 20, torch.randn(80, 300, generator=draw)
    rows = noise * 0.1 + moved @ torch.randn(2, 300, generator=draw) * 0.05
    predicted = v1.foretell(rows[:64], moved[:64], rows[64:])
    assert (predicted - moved[64:]).norm(dim=1).mean() < 2
    assert (v1.foretell(noise[:64], moved[:64], noise[64:]) - moved[64:]).norm(dim=1).mean() > 10


def test_a_pair_is_told_apart_by_direction_alone():
    moved = torch.tensor([[10.0, 0.0], [0.0, 10.0], [-10.0, 0.0], [0.0, -10.0]])  # two clips, then their reverses
    predicted = torch.tensor([[3.0, 4.0], [torch.nan, 0.0], [2.0, 0.0], [0.0, -9.0]])
    scores = v1.judged(predicted, moved)
    assert scores[v1.PAIR].tolist() == [1, 0, 1, 0]  # further along than its reverse; one is lost
    assert v1.judged(torch.zeros(4, 2), moved)[v1.PAIR].tolist() == [0.5] * 4  # a still copy
    assert scores[v1.DIRECTION].tolist() == [0, 0, 0, 1]
    assert scores[v1.ERROR][[0, 3]] == pytest.approx([65**0.5, 1]) and np.isnan(scores[v1.ERROR][1])


def test_test_clips_are_followed_by_their_reverses_and_objects_are_tracked_in_them(bench):
    clips = v1.scenes(bench, 3, "test")
    taken = v1.take(bench, clips, [bench.recommended], bench.vlm)
    assert torch.equal(taken.frames[3:], taken.frames[:3].flip(1)) and set(clips.split()) == {"test"}
    torch.testing.assert_close(taken.moved[3:], -taken.moved[:3])
    tracks = torch.stack([v1.tracked(frames.float() / 255) for frames in taken.frames])
    assert (tracks - taken.moved).norm(dim=1).max() < 1


@pytest.mark.parametrize("name", [name for name in command.ALL if name != "e1_1_map"])
def test_the_work_that_is_told_beforehand_is_what_is_done(bench, layers, name, monkeypatch, tmp_path):
    """To a third. layers: what E1.6's depth measured."""
    done = dict.fromkeys(("extracted", "learned", "scored"), 0.0)
    latents, learn, compare, decoded = VLM.latents, parallel.train, trials.compare, v1.decode

    def count(what, function, amount):
        def counted(*given, **named):
            done[what] += amount(*given, **named)
            return function(*given, **named)

        return counted

    monkeypatch.setattr(
        VLM,
        "latents",
        count(
            "extracted",
            latents,
            lambda _, x, *rest, **named: len(x) * (4 if x.ndim == 5 else 1) * (x.shape[-1] / 84) ** 2,
        ),
    )
    monkeypatch.setattr(
        parallel,
        "train",
        count("learned", learn, lambda task, recipe, *rest: sum(recipe.steps * recipe.batch for _ in task.learners)),
    )
    monkeypatch.setattr(trials, "compare", count("scored", compare, lambda x, *rest: len(x)))
    monkeypatch.setattr(v1, "decode", count("scored", decoded, lambda vae, z, *rest: len(z)))
    experiment = command.ALL[name]
    if not experiment.pooled:  # which takes none of these
        bench.train(), bench.test(), bench.baselines
    done.update(dict.fromkeys(done, 0.0))
    experiment.measure(bench, *([layers] if experiment.needs else []))
    predicted = vars(cost.WORK[name](bench))
    for what, amount in done.items():
        assert predicted[what] == pytest.approx(amount, rel=0.35, abs=16), what


def test_what_works_on_means_needs_no_memory_for_latents(bench, monkeypatch):
    monkeypatch.setattr(cost, "free_memory", lambda device: 0)
    cost.check_memory(bench, [command.ALL["probes"], command.ALL["neighbours"]])
    with pytest.raises(InputError, match="ask for fewer by --scenes or --points"):
        cost.check_memory(bench, [command.ALL["probes"], command.ALL["e1_2"]])
