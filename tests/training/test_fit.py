"""Fitting at tiny sizes: data and splits, one pass for all points, losses, scores, and what settings may say."""

import shutil
from dataclasses import replace

import pytest
import torch
from house import build_house
from PIL import Image

from foresight.adapters.checkpoint import load_adapter, measured_share, no_better_than_blank, reference_mean
from foresight.adapters.modules import TokenAdapter
from foresight.data.images import resize
from foresight.data.scenes import SceneSpec
from foresight.data.sources import DataSpec, PhotoPart, ScenePart, parse_data
from foresight.errors import InputError
from foresight.inspection.inspector import Inspector
from foresight.inspection.readout import read_out
from foresight.metrics.scores import score
from foresight.models.points import ExtractionPoint
from foresight.schemas import from_json
from foresight.ui.train.views import blank_verdicts
from training.data import HELD_OUT, HELD_OUT_PHOTOS, open_data, scene_data
from training.fit import FitConfig, averaged, judge, locked, prepare, run_fit
from training.latents import Room
from training.loop import Recipe, rows_of_step
from training.ridge import normal_equations
from training.service.presets import (
    LOSSES,
    PRESETS,
    TrainingSettings,
    checked_name,
    estimate_cost,
    fit_config,
    new_name,
)

CPU = torch.device("cpu")
ONE = SceneSpec(objects=(1, 1), backgrounds=("white",))
RECIPE = Recipe(steps=60, batch=4, lr=0.02, warmup=5, save_every=1e9)
POINTS = ("pre-merge/0", "post-merge/1")
CONFIG = FitConfig(POINTS, ("tokens",), scene_data(12), ONE, 3, hidden=16, recipe=RECIPE, images_from=1.0)


@pytest.fixture(scope="module")
def house(tiny, tmp_path_factory):
    inspector = build_house(tiny.folder, tmp_path_factory.mktemp("house"))
    return inspector.vlm, inspector.vae


@pytest.fixture
def photos(tmp_path):
    """Twenty different pictures of several sizes, and a copy of each."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(20):
        picture = Image.new("RGB", (240 + k, 230), (255, 255, 255))
        picture.paste((12 * k, 0, 255 - 12 * k), (90, 90, 150, 150))
        picture.save(folder / f"{k}.png")
        shutil.copyfile(folder / f"{k}.png", folder / f"copy-{k}.png")
    return folder


def test_several_points_share_one_pass_and_learn_side_by_side(house, tmp_path, monkeypatch):
    vlm, vae = house
    point_counts, reported = [], []
    latents = vlm.latents
    monkeypatch.setattr(vlm, "latents", lambda x, points: point_counts.append(len(points)) or latents(x, points))
    task = prepare(CONFIG, vlm, vae, batch=5, progress=lambda done, total: reported.append((done, total)))
    assert point_counts == [2, 2, 2, 2] and reported == [(5, 12), (10, 12), (12, 12)]
    steps = list(run_fit(task, tmp_path))
    for name in ("pre-merge/0-tokens", "post-merge/1-tokens"):
        assert steps[-1].losses[name] < 0.9 * steps[0].losses[name]
        adapter = load_adapter(tmp_path / name.replace("/", "-"))
        assert adapter.card["data"] == "scenes:12 of chosen factors"
        assert adapter.card["config"]["factors"]["objects"] == [1, 1]
        assert adapter.card["scores"]["n"] == 3 and len(adapter.card["scores"]["one object on white"]["lpips"]) == 3


def test_a_run_of_other_scenes_is_not_resumed(house, tmp_path):
    vlm, vae = house
    short = replace(CONFIG, recipe=replace(RECIPE, steps=2, save_every=-1))
    next(run_fit(prepare(short, vlm, vae), tmp_path))
    other = replace(short, factors=SceneSpec(objects=(2, 2)))
    with pytest.raises(InputError, match="other factors"):
        next(run_fit(prepare(other, vlm, vae), tmp_path))


def test_a_mix_reads_all_points_of_a_stage_and_is_found_again(house, tmp_path):
    vlm, vae = house
    several = replace(CONFIG, points=("post-merge/2", "pre-merge/0", "post-merge/1"), kinds=("tokens", "mix"))
    with pytest.raises(InputError, match="several pre-merge points, not pre-merge/0 alone"):
        prepare(several, vlm, vae)
    task = prepare(replace(several, points=("post-merge/2", "post-merge/1"), kinds=("routing", "mix")), vlm, vae)
    steps = list(run_fit(task, tmp_path))
    assert steps[-1].losses["post-merge/2-mix"] < 0.9 * steps[0].losses["post-merge/2-mix"]
    inspector = Inspector(vlm, vae, [tmp_path])
    assert [(r.name, [str(p) for p in r.points]) for r in inspector.adapters()] == [
        (kind, ["post-merge/1", "post-merge/2"]) for kind in ("mix", "routing")
    ]
    assert task.adapters["post-merge/2-mix"].card["scores"]["n"] == 3


def test_two_runs_in_one_folder(tmp_path):
    with locked(tmp_path / "new"):
        with pytest.raises(InputError, match="another run fits in .* now"), locked(tmp_path / "new"):
            pass
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "new"):
        pass


def test_averaged_weights_are_there_within_and_gone_after(house):
    vlm, vae = house
    task = prepare(CONFIG, vlm, vae)
    from training.loop import train

    steps = train(task, RECIPE, CPU)
    for _ in range(30):
        step = next(steps)
    weight = task.adapters["pre-merge/0-tokens"].stem.weight
    now = weight.detach().clone()
    with averaged(task, step):
        inside = weight.detach().clone()
    assert torch.equal(weight, now) and (inside - now).abs().max() > 1e-4
    steps.close()  # which leaves the averaged weights
    assert torch.equal(weight, inside)


def test_the_best_of_four_states_is_kept_also_by_a_run_that_is_resumed(house, tmp_path, monkeypatch):
    vlm, vae = house
    config = replace(CONFIG, points=("post-merge/1",), chosen_by=2, recipe=replace(RECIPE, steps=10, save_every=-1))
    task = prepare(config, vlm, vae)
    (name,) = task.adapters
    (validation,), (held_out,) = task.validation.values(), task.held_out.values()
    assert len(validation) == 2 and not torch.equal(validation.pictures[:2], held_out.pictures[:2])
    tried = iter((0.5, 0.2, 0.4, 0.3))
    monkeypatch.setattr("training.fit._validate", lambda *_: next(tried))
    for step in run_fit(task, tmp_path):
        if step.number == 6:
            best = [p.clone() for p in step.average]
        if step.number == 7:
            break
    rest = prepare(config, vlm, vae)
    assert [step.number for step in run_fit(rest, tmp_path)] == [8, 9, 10]
    kept = load_adapter(tmp_path / "post-merge-1-tokens")
    assert kept.card["chosen"] == {"step": 6, "lpips": 0.2, "n": 2}
    assert all(torch.equal(p, q) for p, q in zip(rest.adapters[name].parameters(), best, strict=True))
    assert kept.card["scores"] == judge(rest.adapters, rest.held_out, vae)[name]


def test_linear_probes_are_solved_on_all_rows_and_others_learn_beside_them(house, tmp_path):
    vlm, vae = house
    config = replace(CONFIG, points=("post-merge/1",), kinds=("linear", "tokens"), recipe=replace(RECIPE, steps=2))
    task = prepare(config, vlm, vae)
    assert list(task.modules) == ["post-merge/1-tokens"] and list(task.solved) == ["post-merge/1-linear"]
    probe, [latents] = task.adapters["post-merge/1-linear"], task.latents
    before = probe.linear.weight.clone()
    equations = normal_equations(probe, latents.points["post-merge/1"], latents.targets)
    ((weights, bias),) = equations.solve([probe.card["ridge"]["penalty"]])
    torch.testing.assert_close(before, weights.T.float())
    torch.testing.assert_close(probe.linear.bias, bias.float())
    steps = list(run_fit(task, tmp_path))
    assert [list(step.losses) for step in steps] == [["post-merge/1-tokens"]] * 2
    assert torch.equal(probe.linear.weight, before)
    torch.testing.assert_close(
        load_adapter(tmp_path / "post-merge-1-linear").linear.weight, before, rtol=1e-3, atol=1e-4
    )
    alone = prepare(replace(config, kinds=("linear",)), vlm, vae)
    assert list(run_fit(alone, tmp_path / "alone")) == []  # there is nothing to train
    assert load_adapter(tmp_path / "alone/post-merge-1-linear").card["scores"]["n"] == 3


def test_several_sizes_are_learned_side_by_side_and_scored_apart(house, tmp_path):
    vlm, vae = house
    recipe = replace(RECIPE, steps=2)
    config = replace(CONFIG, points=("post-merge/1",), kinds=("linear", "tokens"), sides=(56, 112), recipe=recipe)
    reported = []
    task = prepare(config, vlm, vae, batch=8, progress=lambda *told: reported.append(told))
    assert reported == [(8, 24), (12, 24), (20, 24), (24, 24)] and task.rows == 24  # every scene at both sizes
    assert [tuple(x.pictures.shape[2:]) for x in task.latents] == [(56, 56), (112, 112)]
    small, large = ([x.points["post-merge/1"], x.targets] for x in task.latents)
    probe = task.adapters["post-merge/1-linear"]
    equations = normal_equations(probe, *map(list, zip(small, large, strict=True)))
    ((weights, _),) = equations.solve([probe.card["ridge"]["penalty"]])
    torch.testing.assert_close(probe.linear.weight, weights.T.float())
    assert equations.count == 12 * (2 * 2 + 4 * 4)
    one, other, both = (task.loss(torch.tensor(rows), torch.Generator(), 0.0) for rows in ([3], [20], [20, 3]))
    name = "post-merge/1-tokens"
    assert one[name] != other[name] and both[name].item() == pytest.approx((one[name] + other[name]).item() / 2)
    list(run_fit(task, tmp_path))
    card = load_adapter(tmp_path / "post-merge-1-tokens").card
    assert card["identity"]["pixels"] == [56**2, 112**2]
    assert {"one object on white at 56²", "one object on white at 112²"} < card["scores"].keys()
    with pytest.raises(InputError, match="a pooled adapter paints pictures of one size: choose one, not 56² and 112²"):
        replace(config, kinds=("pooled",))


def test_latents_beyond_their_room_lie_in_files_and_teach_the_same(house, tmp_path, monkeypatch):
    vlm, vae = house
    recipe, files = replace(RECIPE, steps=6), tmp_path / "files"
    config = replace(CONFIG, points=("post-merge/1",), kinds=("linear", "tokens"), sides=(56, 112), recipe=recipe)
    config, weights = replace(config, images_from=0.5), []
    for room in (None, Room(0, files), Room(20_000, files)):  # none in files, all, and the larger columns
        task = prepare(config, vlm, vae, room=room)
        assert {x.mapped for x in task.latents} == {room is not None}
        list(run_fit(task, tmp_path / str(len(weights))))
        weights.append([p.clone() for adapter in task.adapters.values() for p in adapter.parameters()])
    assert room.left < 20_000 and not [*files.iterdir()]  # they have no names
    assert all(torch.equal(p, q) for other in weights[1:] for p, q in zip(weights[0], other, strict=True))
    assert torch.equal(task._ahead[0], rows_of_step(5, 4, 24, 0))  # the last step's were read ahead

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.latents.os.posix_fallocate", full)
    with pytest.raises(InputError, match="cannot take 0.0 GB of latents .No space left on device.: choose"):
        prepare(config, vlm, vae, room=Room(0, files))


def test_judging_equals_scoring_one_by_one(house):
    vlm, vae = house
    task = prepare(CONFIG, vlm, vae)
    sets = task.held_out
    scores = judge(task.adapters, sets, vae, batch=2)["post-merge/1-tokens"]["one object on white"]
    held = sets["one object on white"]
    painted = read_out(task.adapters["post-merge/1-tokens"], vae, (224, 224), held.points["post-merge/1"])
    alone = [score(held.pictures[i] / 255, painted[i], held.masks[i]) for i in range(3)]
    for name in ("lpips", "ssim", "psnr"):
        assert scores[name][0] == pytest.approx(sum(row[name] for row in alone) / 3, rel=1e-3)


def test_held_out_means_tell_of_how_many_pictures_they_are(house, monkeypatch):
    vlm, vae = house
    task = prepare(CONFIG, vlm, vae)
    sets = task.held_out
    held = sets["one object on white"]
    noise = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    decoded = torch.cat([held.pictures[:1].float() / 255, torch.ones_like(noise), noise])  # found, lost, not measurable
    monkeypatch.setattr("training.fit.read_out", lambda *_: decoded)
    card = judge(task.adapters, {"one object on white": held}, vae)["post-merge/1-tokens"]
    assert card["n"] == 3 and card["one object on white"]["measured"] == {
        "lpips": 3,
        "haarpsi": 3,
        "ssim": 3,
        "psnr": 3,
        "mask_iou": 2,
        "edge_f1": 0,  # the objects are known
    }
    assert card["one object on white"]["mask_iou"][0] == pytest.approx(0.5, abs=0.01)  # of 1 and 0
    assert measured_share(card, "one object on white", "mask_iou") == "2 of 3"
    assert measured_share(card, "one object on white", "lpips") == ""
    assert reference_mean(card, "one object on white", "oracle", "lpips") < 1
    assert card["one object on white"]["blank"]["mask_iou"] == 0
    assert no_better_than_blank(card) == ["one object on white"]  # of three one is exact, and noise is worse
    monkeypatch.setattr("training.fit.read_out", lambda *_: held.pictures.float() / 255)
    assert no_better_than_blank(judge(task.adapters, sets, vae)["post-merge/1-tokens"]) == []
    monkeypatch.setattr("training.fit.read_out", lambda *_: torch.ones(3, 3, 224, 224))
    card = judge(task.adapters, {"one object on white": held}, vae)["post-merge/1-tokens"]
    assert card["one object on white"]["gain"]["lpips"] == [0, 0, 0]
    assert no_better_than_blank(card) == ["one object on white"]
    (clause,) = blank_verdicts(card)
    blank = f"{card['one object on white']['lpips'][0]:.3f}"
    assert clause == f"on one object on white: LPIPS {blank}, a blank page {blank}, n = 3"


def test_photos_are_learned_from_and_judged_by(house, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("foresight.data.sources.VIEWS", 2)
    (photos / "broken.png").write_text("no picture")
    vlm, vae = house
    spec = DataSpec(None, (PhotoPart((str(photos),)),))
    config = replace(
        CONFIG, kinds=("linear", "tokens"), data=spec, factors=None, held_out=2, recipe=replace(RECIPE, steps=2)
    )
    data = open_data(spec)
    assert [file.name for file in data.broken] == ["broken.png"]
    assert [len(part) for part in data.splits[0].values()] == [26, 4, 5]  # twenty photos, each with its copy
    few = open_data(spec, held_out=3)
    assert [len(part) for part in few.splits[0].values()] == [30, 4, 3]
    assert few.source("train", 4, CPU).count == 60 and few.source("val", 4, CPU).count == 8
    (source,) = few.held_out(2, CPU).values()
    pictures, masks, _ = source.parts[0]()
    assert pictures.shape == (2, 3, 224, 224) and pictures.dtype == torch.uint8 and source.count == 3
    assert masks.float().mean().item() == pytest.approx((60 / 230) ** 2, rel=0.1)  # the square that was painted
    task = prepare(config, vlm, vae)
    list(run_fit(task, tmp_path / "out"))
    card = load_adapter(tmp_path / "out/pre-merge-0-tokens").card
    assert card["data"] == card["config"]["data"] == "photos:photos"  # no path of this machine
    assert card["scores"].keys() == {"n", HELD_OUT_PHOTOS} and card["scores"]["n"] == 2
    Image.new("RGB", (240, 240)).save(photos / "another.png")
    with pytest.raises(InputError, match="other photos"):  # what was learned from might be held out now
        list(run_fit(prepare(config, vlm, vae), tmp_path / "out"))


def test_a_mixture_shares_rows_by_weight_and_repeats_them(photos):
    text = f"scenes:12+photos:{photos}*0.5"
    data, again, other = (open_data(parse_data(text), seed=seed) for seed in (3, 3, 4))
    assert str(data) == "scenes:12+photos:photos*0.5"
    source, validation = data.source("train", 8, CPU), data.source("val", 8, CPU)
    assert source.count == 12 + 6 and validation.count == 16 + 1
    assert sum(len(part()[0]) for part in source.parts) == 18
    views = [each.source("train", 8, CPU).parts[-1]()[0] for each in (data, again, other)]
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])
    assert list(data.held_out(4, CPU)) == [*HELD_OUT, HELD_OUT_PHOTOS]


def test_the_loss_on_pixels_is_what_it_says(house):
    vlm, vae = house
    config = replace(
        CONFIG, points=("pre-merge/0",), latent_weight=0.5, perceptual_weight=0.0, images_from=0.0, window=None
    )
    task, rows = prepare(config, vlm, vae), torch.arange(3)
    loss = task.loss(rows, torch.Generator(), 0.5)["pre-merge/0-tokens"]
    adapter, [latents] = task.adapters["pre-merge/0-tokens"], task.latents
    z = adapter(latents.points["pre-merge/0"][rows])
    squared = ((z - latents.targets[rows]) / adapter.z_std.view(-1, 1, 1)).square().mean()
    painted = torch.nn.functional.interpolate(vae.decode(z, clamp=False), 224, mode="bicubic", antialias=True)
    absolute = (painted.clamp(0, 1) - latents.pictures[rows] / 255).abs().mean()
    assert loss.item() == pytest.approx((0.5 * squared + 4 * absolute).item(), rel=1e-4)


def test_the_loss_on_clips_asks_what_changes_within_a_step(house):
    vlm, vae = house
    config = replace(CONFIG, points=("pre-merge/0",), data=parse_data("scenes:4+motion:8"), factors=None)
    task = prepare(replace(config, change_weight=3.0), vlm, vae)
    [latents], adapter = task.latents, task.adapters["pre-merge/0-tokens"]
    steps = torch.arange(len(latents))[latents.changes.flatten(1).any(1)]
    assert len(steps) == 8 and not latents.changes[:4].any()  # stills come first
    clips = next(iter(open_data(config.data, seed=config.recipe.seed).source("train", 64, CPU).parts[-1:]))()
    frames = clips[0].unflatten(1, (-1, 2)).flatten(0, 1) / 255  # (8, 2, 3, 224, 224)
    first, second = (vae.encode(resize(frames[:, k], (256, 256))) for k in range(2))
    torch.testing.assert_close(latents.changes[steps], second - first, rtol=1e-3, atol=1e-4)
    loss = task.loss(steps, torch.Generator(), 0.5)["pre-merge/0-tokens"]
    x, spread = latents.points["pre-merge/0"][steps], adapter.z_std.view(-1, 1, 1)
    y = [adapter.for_frames(x, torch.full((8,), k)) for k in range(2)]
    seen = torch.where(latents.frames[steps].view(-1, 1, 1, 1) == 0, *y)
    squared = ((seen - latents.targets[steps]) / spread).square().mean()
    change = ((y[1] - y[0] - (second - first)) / spread).square().mean()
    assert loss.item() == pytest.approx((squared + 3 * change).item(), rel=1e-4)


def config_of(values, vlm, photos=None):
    return fit_config(from_json(TrainingSettings, values), vlm, photos)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_be_meant(house, name):
    vlm, vae = house
    config = fit_config(PRESETS[name](vlm.points), vlm)
    assert config.points == (("pre-merge/3",) if name == "quick look" else ("post-merge/1",))
    adapters = prepare(replace(config, data=scene_data(4), held_out=1), vlm, vae).adapters
    cost = estimate_cost(config, vlm, vae)
    assert cost["parameters"] == {key: adapter.parameter_count for key, adapter in adapters.items()}
    assert cost["bytes"] > estimate_cost(replace(config, data=scene_data(10)), vlm, vae)["bytes"]


def test_twenty_million_at_7b():
    assert TokenAdapter(3584, 16, 1, 4, 3584 // 4).parameter_count == pytest.approx(20e6, rel=0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pixels": []}, "at least one of the sizes"),
        ({"pixels": ["448"]}, "a side of 448 is written 448²"),
        ({"pixels": ["native"]}, "fitted at chosen sizes, such as 448²: native leaves each image its own"),
        ({"points": []}, "at least one of the extraction points"),
        ({"points": ["post-merge/9"]}, "no post-merge/9"),
        ({"kinds": ["magic"]}, "unknown kind"),
        ({"loss": "none"}, "unknown loss"),
        ({"steps": 0}, "steps must be a whole number from 1 to 1,000,000, not 0"),
        ({"hidden": 9999}, "the hidden width must be a whole number from 0 to 4,096, not 9,999"),
        ({"scenes": float("inf")}, "scenes must be a whole number"),
        ({"batch": 2.5}, "batch must be a whole number"),
        ({"seed": None}, "the seed must be a whole number from 0 to 999,999\\."),
        ({"points": "post-merge/1"}, "points must be a list of names"),
        ({"loss": ["latents"]}, "loss must be a name"),
        ({"objects": [1.5, 2], "data": "factors"}, "objects must be a whole number from 1 to 5, not 1.5"),
        ({"lr": 0}, "learning rate must be from"),
        ({"objects": [3, 1], "data": "factors"}, "objects must be a range"),
        ({"radius": [12], "data": "factors"}, "a least and a largest"),
        ({"shapes": ["blob"], "data": "factors"}, "unknown shape"),
        ({"data": "pictures"}, "choose a zip"),
        ({"data": "mixture and pictures"}, "choose a zip"),
        ({"wings": 2}, "no setting 'wings'"),
    ],
)
def test_settings_that_cannot_be_meant(house, change, said):
    with pytest.raises(InputError, match=said):
        config_of({"points": ["post-merge/1"]} | change, house[0])


def test_an_upload_is_learned_from_alone_or_beside_scenes(house):
    asked = {"points": ["post-merge/1"], "scenes": 40, "photos_weight": 0.5}
    alone = config_of(asked | {"data": "pictures"}, house[0], "a+b").data
    assert alone == DataSpec(None, (PhotoPart(("a+b",)),))
    both = config_of(asked | {"data": "mixture and pictures"}, house[0], "a+b").data
    assert both == DataSpec(ScenePart(40), (PhotoPart(("a+b",), 0.5),)) and both.photo_rows([7]) == [20]
    with pytest.raises(InputError, match="weight must be from 0.01 to 100, not 0"):
        config_of(asked | {"data": "mixture and pictures", "photos_weight": 0}, house[0], "a+b")


def test_settings_become_what_is_fitted(house):
    config = config_of(
        {
            "points": [str(ExtractionPoint("post-merge", 1))] * 2,
            "data": "factors",
            "hidden": 24,
            "pixels": ["448^2", "224²"],
        },
        house[0],
    )
    assert config.sides == (448, 224)
    assert config.points == ("post-merge/1",) and config.factors == SceneSpec() and config.hidden == 24
    assert {config_of({"points": ["post-merge/1"], "loss": loss}, house[0]).perceptual_weight for loss in LOSSES} == {
        0,
        1,
    }


def test_names():
    assert new_name("seed's own: pooled MLP, 2048", set()) == "seed-s-own-pooled-mlp-2048"
    assert new_name("quick look", {"quick-look", "quick-look-2"}) == "quick-look-3"
    assert new_name("tokens", set()) == "tokens-2"  # what bundled adapters go by
    for bad in ("", "../x", "A", "a b", "tokens", "taken", ".x", "x" * 61):
        with pytest.raises(InputError, match="name"):
            checked_name(bad, {"taken"})
