"""What holds of all scenes, grids, scores and files of adapters, on a few dozen of each that hypothesis chooses.

The same ones at every run: a new choice is a change of this file, of what it tests, or of hypothesis.
"""

import json
import struct

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from foresight.adapters.checkpoint import CONFIG, WEIGHTS, load_adapter, save_adapter
from foresight.adapters.modules import Adapter, LinearProbe, fold_tokens, unfold_tokens
from foresight.data.render import render
from foresight.data.resolution import MAX_ASPECT, Resolution
from foresight.data.scenes import BACKGROUNDS, COLORS, SHAPES, Scenes, SceneSpec, sample
from foresight.errors import InputError
from foresight.metrics.baselines import skill
from foresight.metrics.edges import edge_f1
from foresight.metrics.fidelity import psnr, ssim
from foresight.metrics.intervals import bootstrap
from foresight.metrics.masks import mask_iou
from foresight.metrics.perceptual import haarpsi, lpips_model
from foresight.models.qwen2_5_vl import patch_order, patchify

settings.register_profile("same", max_examples=60, deadline=None, derandomize=True, database=None)
settings.load_profile("same")

seeds = st.integers(0, 2**31 - 1)


# Scenes

some = st.integers(1, 5)
specs = st.builds(
    lambda a, b, shapes, backgrounds, overlap, height, width: SceneSpec(
        objects=(min(a, b), max(a, b)), shapes=shapes, backgrounds=backgrounds, overlap=overlap, size=(height, width)
    ),
    some,
    some,
    st.lists(st.sampled_from(SHAPES), min_size=1, unique=True).map(tuple),
    st.lists(st.sampled_from(BACKGROUNDS), min_size=1, unique=True).map(tuple),
    st.booleans(),
    st.sampled_from([56, 84, 112]),
    st.sampled_from([56, 84, 112]),
)


@given(specs, seeds)
def test_masks_boxes_and_labels_agree(spec, seed):
    scenes = sample(range(2), seed, spec)
    drawn = render(scenes)
    assert ((spec.objects[0] <= scenes.count) & (scenes.count <= spec.objects[1])).all()
    assert not (drawn.visible & ~drawn.full).any() and (drawn.visible.sum(1) <= 1).all()
    assert (drawn.mask == drawn.full.any(1)).all()
    for i in range(2):
        described = scenes.describe(i)["objects"]
        assert len(described) == scenes.count[i] and not drawn.full[i, len(described) :].any()
        for j, one in enumerate(described):
            assert scenes.label(i, j) == f"{one['color']} {one['shape']}"
            seen, (left, top, right, bottom) = drawn.visible[i, j], drawn.boxes[i, j].tolist()
            within = torch.zeros_like(seen)
            within[top:bottom, left:right] = True
            assert not (seen & ~within).any()
            if seen.any():
                box = seen[top:bottom, left:right]
                assert all(edge.any() for edge in (box[0], box[-1], box[:, 0], box[:, -1]))
            inner = F.avg_pool2d(seen[None].float(), 5, 1, 2)[0] == 1  # none of its pixels is mixed with another
            assert (drawn.images[i][:, inner] == torch.tensor(COLORS[one["color"]])[:, None]).all()


@given(specs, seeds)
def test_a_description_makes_the_same_scene(spec, seed):
    scenes = sample(range(1), seed, spec)
    again = Scenes.from_description(json.loads(json.dumps(scenes.describe(0))))
    assert torch.equal(render(again).images, render(scenes).images)
    assert again.hashes().tolist() == scenes.hashes().tolist()


# Grids: rows and columns in raster order

sides = st.integers(1, 6)


@given(sides, sides, st.integers(1, 3), seeds)
def test_a_row_of_patches_is_its_patch_twice(height, width, patch, seed):
    images = torch.rand(2, 3, height * patch, width * patch, generator=torch.Generator().manual_seed(seed))
    rows = patchify(images, patch)
    for i in range(height):
        for j in range(width):
            here = images[:, :, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
            assert torch.equal(rows[:, i, j], here[:, :, None].expand(-1, -1, 2, -1, -1).flatten(1))


@given(sides, sides, st.integers(1, 3), st.integers(1, 4))
def test_folding_is_undone_by_unfolding(height, width, by, channels):
    x = torch.arange(float(height * width * by**2 * channels)).view(1, height * by, width * by, channels)
    folded = fold_tokens(x, by)
    assert folded.shape == (1, height, width, by**2 * channels) and torch.equal(unfold_tokens(folded, by), x)
    assert torch.equal(folded[0, -1, -1].view(by, by, channels), x[0, -by:, -by:])


@given(st.integers(1, 12), st.integers(1, 12))
def test_windows_hold_every_patch_once(height, width):
    class Config:
        window_size, patch_size, hidden_size, num_heads = 56, 14, 16, 2

    place = patch_order(height, width, Config, torch.device("cpu"))
    assert torch.equal(place.order[place.raster], torch.arange(height * width))
    start = 0
    for count, size in place.windows:
        for _ in range(count):
            rows, columns = place.order[start : start + size] // width, place.order[start : start + size] % width
            assert len({*zip((rows // 4).tolist(), (columns // 4).tolist(), strict=True)}) == 1
            start += size
    assert start == height * width


@given(sides, sides, st.sampled_from([1, 2]), st.data())
def test_a_token_is_read_at_its_own_place(height, width, fold, data):
    torch.manual_seed(0)
    probe = LinearProbe(3, 2, fold, 2)
    x = torch.zeros(1, 1, height * fold, width * fold, 3)
    i, j = data.draw(st.integers(0, height * fold - 1)), data.draw(st.integers(0, width * fold - 1))
    before = probe(x)
    x[0, 0, i, j] = 1
    changed = (probe(x) != before)[0].any(0)
    row, column = i // fold * 2, j // fold * 2
    assert changed[row : row + 2, column : column + 2].all() and changed.sum() == 4


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(784, 10**6), st.integers(784, 10**6))
def test_a_size_is_of_whole_tokens_and_turns_with_the_picture(height, width, one, other):
    assume(max(height, width) <= MAX_ASPECT * min(height, width))
    for resolution in (Resolution.area(one), Resolution(min(one, other), max(one, other))):
        h, w = resolution.size(height, width)
        assert h % 28 == w % 28 == 0 and min(h, w) >= 28
        assert resolution.size(width, height) == (w, h)


# Scores

LOWEST = {"lpips": (0, 2), "haarpsi": (0, 1), "ssim": (-1, 1), "psnr": (0, 100), "edge_f1": (0, 1)}
SAME = {"lpips": 0, "haarpsi": 1, "ssim": 1, "psnr": 100, "edge_f1": 1}


@st.composite
def images(draw):
    """Two images (1, 3, H, W) of one size: noise, blots or one colour."""
    size, random = (draw(st.integers(11, 40)), draw(st.integers(11, 40))), torch.Generator().manual_seed(draw(seeds))

    def image(kind):
        if kind == "even":
            return torch.rand(1, 3, 1, 1, generator=random).round(decimals=1).expand(1, 3, *size)
        coarse = torch.rand(1, 3, *(size if kind == "noise" else (4, 4)), generator=random)
        return F.interpolate(coarse, size, mode="bilinear").clamp(0, 1)

    kinds = st.sampled_from(["noise", "blots", "even"])
    return image(draw(kinds)), image(draw(kinds))


def scores(x, y):
    lpips = lpips_model()
    with torch.no_grad():
        values = {"lpips": lpips(x, y), "haarpsi": haarpsi(x, y), "ssim": ssim(x, y), "psnr": psnr(x, y)}
        return {name: float(value) for name, value in values.items()} | {
            "edge_f1": float(edge_f1(x[:, 0] > 0.5, y[:, 0] > 0.5))
        }


@given(images())
@example((torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)))
def test_scores_have_their_ranges_know_the_same_image_and_take_either_first(pair):
    x, y = pair
    there, back, same = scores(x, y), scores(y, x), scores(x, x)
    for name, (low, high) in LOWEST.items():
        assert low - 1e-5 <= there[name] <= high + 1e-5, name
        assert there[name] == pytest.approx(back[name], abs=1e-4), name
        assert same[name] == pytest.approx(SAME[name], abs=1e-4), name


@given(st.floats(0, 1), st.floats(0, 1), seeds)
def test_masks_overlap_by_a_share(dense, other, seed):
    random = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(1, 4, 4, generator=random) < share for share in (dense, other))
    there, back, same = mask_iou(a, b), mask_iou(b, a), mask_iou(a, a)
    assert torch.equal(there.nan_to_num(-1), back.nan_to_num(-1)) and not (there < 0).any() and not (there > 1).any()
    assert same.isnan().item() != (same == 1).item() == a.any().item()


finite = st.floats(-100, 100).map(lambda value: round(value, 3))


@given(st.sampled_from(["lpips", "ssim"]), finite, finite, finite)
def test_skill_is_0_of_a_blank_page_and_1_of_the_oracle(name, score, blank, oracle):
    better = blank > oracle if name == "lpips" else oracle > blank
    ends = [skill(name, value, blank, oracle) for value in (blank, oracle)]
    assert ends == ([pytest.approx(0), pytest.approx(1)] if better else [None, None])
    if better:
        closer = skill(name, score, blank, oracle) >= skill(name, blank, blank, oracle)
        assert closer == (score <= blank if name == "lpips" else score >= blank)


@settings(max_examples=10)
@given(st.lists(finite, min_size=2, max_size=20))
def test_an_interval_lies_around_its_mean_within_its_values(values):
    mean, low, high = bootstrap(values)
    assert min(values) - 1e-9 <= low <= mean + 1e-9 and mean - 1e-9 <= high <= max(values) + 1e-9


# Files of adapters: any bytes are an adapter, or one sentence

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def adapter_files(tmp_path_factory):
    """A folder to write into, and what a good one has there."""
    torch.manual_seed(0)
    folder = save_adapter(LinearProbe(3, 2, 1, 2, card={"point": "post-merge/1"}), tmp_path_factory.mktemp("adapter"))
    return folder, {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}


def read(adapter_files, name, data):
    """What a folder whose file of that name has these bytes gives: an adapter, or None after one sentence."""
    folder, good = adapter_files
    for file in good:
        (folder / file).write_bytes(data if file == name else good[file])
    try:
        return load_adapter(folder)
    except InputError as error:
        sentence = str(error)
        assert sentence.endswith(".") and "\n" not in sentence, sentence
        return None


@example(WEIGHTS, b"\xff\xff\xff\xff", 0.95, 4)  # no number, in float16
@given(st.sampled_from([CONFIG, WEIGHTS]), st.binary(max_size=64), st.floats(0, 1), st.integers(0, 64))
def test_any_bytes_in_a_file_of_an_adapter(adapter_files, name, new, place, length):
    good = adapter_files[1][name]
    start = int(place * len(good))
    for data in (new, good[:start] + new + good[start + length :]):
        one = read(adapter_files, name, data)
        assert one is None or all(value.isfinite().all() for value in one.state_dict().values())


@given(st.data())
def test_any_values_in_an_adapter_s_config(adapter_files, data):
    config = json.loads(adapter_files[1][CONFIG])
    keys = st.sampled_from([*config, "other"])
    config |= data.draw(st.dictionaries(keys, json_values | st.integers(1, 2**16), min_size=1, max_size=2))
    one = read(adapter_files, CONFIG, json.dumps(config).encode())
    assert one is None or (isinstance(one, Adapter) and one.card == config["card"])


@given(st.data())
def test_any_values_in_the_header_of_weights(adapter_files, data):
    good = adapter_files[1][WEIGHTS]
    (length,) = struct.unpack("<Q", good[:8])
    header = json.loads(good[8 : 8 + length])
    entry = header[data.draw(st.sampled_from(sorted(header.keys() - {"__metadata__"})))]
    entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(json_values | st.lists(st.integers(0, 99), max_size=3))
    text = json.dumps(header).encode()
    one = read(adapter_files, WEIGHTS, struct.pack("<Q", len(text)) + text + good[8 + length :])
    assert one is None or all(value.isfinite().all() for value in one.state_dict().values())
