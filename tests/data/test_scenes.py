"""Scenes: the same for ever and everywhere, independent factors, room for every object, splits that share nothing."""

import json
import math
from dataclasses import replace

import pytest
import torch

from foresight.data import scenes
from foresight.data.render import render
from foresight.data.scenes import BACKGROUNDS, COLORS, SHAPES, SPLITS, Scenes, SceneSpec, sample, take
from foresight.errors import InputError

WIDE = SceneSpec(size=(168, 280))


def tensors(batch):
    return {k: v for k, v in vars(batch).items() if isinstance(v, torch.Tensor)}


def same(a, b):
    return all(torch.equal(v, tensors(b)[k]) for k, v in tensors(a).items())


def pixels(batch):
    """Centres (B, N, 2) and radii (B, N) in pixels, and which slots are used."""
    height, width = batch.size
    centres = batch.place[..., :2] * torch.tensor([width, height])
    return centres, batch.place[..., 2] * min(height, width), torch.arange(5) < batch.count[:, None]


def test_random_bits_are_splitmix64():
    """The first numbers of the reference implementation from state 1234567."""
    state = (torch.arange(1, 6) * -0x61C8864680B583EB) + 1234567
    bits = [int(b) & 0xFFFF_FFFF_FFFF_FFFF for b in scenes.mix_hash(state)]
    assert bits == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_a_scene_depends_on_its_number_alone():
    many = sample(range(40), 7, SceneSpec())
    few = sample(torch.tensor([31, 5]), 7, SceneSpec())
    assert same(few[0], many[31]) and same(few[1], many[5])
    assert not set(many.hashes().tolist()) & set(sample(range(40), 8, SceneSpec()).hashes().tolist())
    assert len(set(many.hashes().tolist())) == 40


def test_json_gives_the_very_same_picture():
    for batch in (sample(range(8), 0, SceneSpec()), sample(range(4), 1, WIDE)):
        pictures = render(batch).images
        for i in range(len(batch)):
            again = Scenes.from_description(json.loads(json.dumps(batch.describe(i))))
            assert torch.equal(render(again).images[0], pictures[i])
            assert again.digest(0) == batch.digest(i)


THING = {"shape": "circle", "color": "red", "x": 0, "y": 1, "radius": 0.2, "rotation": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"objects": [{"shape": "circle"}]},
        {"size": "big"},
        {"background": {"kind": "sea", "tones": [[1, 1, 1]] * 2, "pattern": [0] * 6}},
        {"background": {"kind": "white", "tones": [1, 1], "pattern": [0] * 6}},
        {"background": {"kind": "white", "tones": [[1, 1, 1.1]] * 2, "pattern": [0] * 6}},
        {"background": {"kind": "white", "tones": [[1, 1, 1]] * 2, "pattern": [math.inf] * 6}},
        {"size": [math.inf, 224]},
        *({"objects": [THING | {"x": x}]} for x in (math.nan, -0.1, 1.1, 10**400, "1")),
        *({"objects": [THING | change]} for change in ({"y": 1.1}, {"radius": 0}, {"rotation": math.inf})),
    ],
)
def test_other_descriptions_are_refused(change):
    assert len(Scenes.from_description(sample(range(1), 0, SceneSpec()).describe(0) | {"objects": [THING]})) == 1
    with pytest.raises(InputError, match="scene's description"):
        Scenes.from_description(sample(range(1), 0, SceneSpec()).describe(0) | change)


def test_splits_share_no_scene():
    names = sample(range(4000), 0, SceneSpec(objects=(1, 1))).split()
    assert [round(names.count(s) / 4000, 2) for s in SPLITS] == pytest.approx([0.4, 0.04, 0.06], abs=0.02)
    scenes = {name: take(60, seed, SceneSpec(), name) for seed, name in enumerate(SPLITS)}
    for name, batch in scenes.items():
        assert len(batch) == 60 and set(batch.split()) == {name}
        assert batch.resized((448, 448)).split() == batch.split()
        assert same(take(20, SPLITS.index(name), SceneSpec(), name), batch[:20])
    hashes = [set(batch.hashes().tolist()) for batch in scenes.values()]
    assert len(set.union(*hashes)) == 180


def test_a_hash_tells_what_is_shown_and_not_what_is_not():
    one = sample(range(1), 3, SceneSpec(objects=(2, 2)))
    spare = replace(
        one,
        shape=torch.cat([one.shape, one.shape[:, :1]], 1),
        color=torch.cat([one.color, one.color[:, :1]], 1),
        place=torch.cat([one.place, one.place[:, :1] + 0.1], 1),
    )
    assert spare.digest(0) == one.digest(0)  # an empty slot
    assert replace(one, color=(one.color + 1) % len(COLORS)).digest(0) != one.digest(0)
    swapped = replace(one, shape=one.shape.flip(1), color=one.color.flip(1), place=one.place.flip(1))
    assert swapped.digest(0) != one.digest(0)  # another z-order


@pytest.mark.parametrize("ground", ["white", "plain", "gradient", "texture"])
def test_scenes_of_equal_pixels_have_one_hash_and_one_split(ground):
    scenes = sample(range(40), 5, SceneSpec(objects=(2, 2), backgrounds=(ground,)))
    sectors = torch.tensor([0.7, math.pi / 2, math.tau / 3, math.tau / 5, math.pi, math.pi / 2, math.pi, 0.7])
    alike = {
        "another pattern": replace(scenes, pattern=scenes.pattern + torch.tensor([0.4, 1, 1, 1, 1, 1])),
        "another pattern, one angle": replace(scenes, pattern=scenes.pattern + torch.tensor([0.0, 1, 1, 1, 1, 1])),
        "turned": replace(scenes, place=scenes.place + sectors[scenes.shape][..., None] * torch.tensor([0.0, 0, 0, 1])),
    }
    for change, others in alike.items():
        apart = (render(scenes).images.int() - render(others).images.int()).abs().flatten(1).amax(1)
        assert (scenes.hashes() == others.hashes()).tolist() == (apart <= 2).tolist(), change
        triples = zip(scenes.split(), others.split(), apart.tolist(), strict=True)
        assert all(gap > 2 or len({a, b} - {"none"}) < 2 for a, b, gap in triples), change


@pytest.mark.parametrize("spec", [SceneSpec(objects=(1, 1), backgrounds=("white",)), SceneSpec()])
def test_no_test_scene_is_nearly_one_that_is_learned_from(spec):
    small = replace(spec, size=(56, 56))
    known, unseen = (render(take(count, 7, small, name)).images for name, count in (("train", 1000), ("test", 200)))
    apart = torch.cdist(unseen.float().flatten(1), known.float().flatten(1), p=1) / known[0].numel()
    assert int((apart < 0.5).sum()) == 0  # of 200,000 pairs, by the mean difference of values of 255


def chi_square(a, b):
    """Pearson's statistic over its degrees of freedom: 1 on average where a and b are independent."""
    table = torch.zeros(int(a.max()) + 1, int(b.max()) + 1).index_put((a, b), torch.ones(len(a)), accumulate=True)
    expected = table.sum(1, True) * table.sum(0, True) / table.sum()
    assert expected.min() > 5
    return ((table - expected) ** 2 / expected).sum() / ((table.shape[0] - 1) * (table.shape[1] - 1))


def test_factors_are_independent_and_even():
    batch = sample(range(4000), 11, SceneSpec(objects=(1, 2)))
    x, y, radius, turn = batch.place[:, 0].unbind(-1)
    cut = {
        "shape": batch.shape[:, 0],
        "color": batch.color[:, 0],
        "second shape": batch.shape[:, 1],
        "count": batch.count - 1,
        "background": batch.background,
        "side": (x > 0.5).long(),
        "height": (y > 0.5).long(),
        "size": (radius * 224 > 38).long(),
        "turn": (turn > torch.pi).long(),
    }
    names = list(cut)
    for i, a in enumerate(names):
        counts = cut[a].bincount()
        assert ((counts - counts.float().mean()).abs() < 5 * counts.float().mean().sqrt()).all(), a
        for b in names[i + 1 :]:
            # One degree of freedom: 10.8 is the 99.9th percentile. 63 of them (shape by colour): 1.64.
            few = len(cut[a].unique()) == len(cut[b].unique()) == 2
            assert chi_square(cut[a], cut[b]) < (10.8 if few else 5.4), (a, b)
    assert chi_square(cut["shape"], cut["color"]) < 1.64
    assert chi_square(cut["shape"][1:], cut["shape"][:-1]) < 1.75  # 49 degrees: scene after scene


@pytest.mark.parametrize("size", [(224, 224), (168, 280)])
@pytest.mark.parametrize("overlap", [True, False])
def test_there_is_room_for_every_object(size, overlap):
    batch = sample(range(300), 5, SceneSpec(overlap=overlap, size=size))
    centres, radii, used = pixels(batch)
    unit, slack = min(size) / 224, 1e-3
    assert (radii[used] >= 12 * unit - slack).all() and (radii[used] <= 64 * unit + slack).all()
    border = torch.minimum(centres, torch.tensor([size[1], size[0]]) - centres).amin(-1)
    assert (border - radii >= 3 * unit - slack)[used].all()
    touching = 0
    for i in range(5):
        for j in range(i):
            both = used[:, i] & used[:, j]
            apart = (centres[:, i] - centres[:, j]).norm(dim=-1)
            both_radii = torch.stack([radii[:, i], radii[:, j]])
            least = both_radii.amax(0) if overlap else both_radii.sum(0)
            assert (apart >= least + 3 * unit - slack)[both].all()
            touching += int((apart < both_radii.sum(0))[both].sum())
    assert (touching > 50) == overlap


def test_no_centre_is_covered():
    batch = sample(range(120), 2, SceneSpec(objects=(5, 5), shapes=("circle", "square", "star"), radius=(24, 64)))
    visible = render(batch).visible
    column, row = (pixels(batch)[0].long()).unbind(-1)
    i, j = torch.meshgrid(torch.arange(120), torch.arange(5), indexing="ij")
    assert visible[i, j, row, column].all()


def test_a_region_holds_the_centres():
    batch = sample(range(100), 0, SceneSpec(objects=(1, 1), radius=(12, 24), region=(0.5, 0.1, 0.8, 0.5)))
    x, y = batch.place[:, 0, :2].unbind(-1)
    assert (x >= 0.5).all() and (x <= 0.8).all() and (y >= 0.1).all() and (y <= 0.5).all()
    assert x.max() - x.min() > 0.25 and y.max() - y.min() > 0.3


def test_a_spec_limits_what_is_drawn():
    spec = SceneSpec(objects=(2, 3), shapes=("star", "ring"), colors=("pink",), backgrounds=("white", "texture"))
    batch = sample(range(60), 0, spec)
    assert set(batch.count.tolist()) == {2, 3}
    assert {SHAPES[k] for k in batch.shape.flatten().tolist()} == {"star", "ring"}
    assert set(batch.color.flatten().tolist()) == {list(COLORS).index("pink")}
    assert {BACKGROUNDS[k] for k in batch.background.tolist()} == {"white", "texture"}
    assert batch.label(0, 0) in ("pink star", "pink ring")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"objects": (0, 2)}, "objects"),
        ({"objects": (3, 2)}, "objects"),
        ({"objects": (1, 6)}, "objects"),
        ({"radius": (11, 20)}, "radius"),
        ({"radius": (30, 20)}, "radius"),
        ({"radius": (12, float("nan"))}, "radius"),
        ({"region": (0.5, 0, 0.4, 1)}, "region"),
        ({"region": (0, 0, 1, 1.1)}, "region"),
        ({"size": (224, 55)}, "56"),
        ({"shapes": ("circle", "hexagon")}, "unknown shape"),
        ({"colors": ()}, "unknown colour"),
        ({"backgrounds": ("sea",)}, "unknown background"),
    ],
)
def test_impossible_specs_are_refused(change, sentence):
    with pytest.raises(InputError, match=sentence):
        SceneSpec(**change)


def test_too_much_for_the_room_is_refused():
    with pytest.raises(InputError, match="no room"):
        sample(range(20), 0, SceneSpec(objects=(5, 5), radius=(64, 64), overlap=False))
