"""The fast forward: transformers' numbers at every point and size, nothing kept twice, kernels like plain steps."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from test_vlm import noise, prepare, reference, to_raster

from foresight.data.images import to_tensor
from foresight.errors import InputError
from foresight.models import qwen2_5_vl as qwen
from foresight.models import steps
from foresight.models.vlm import load_vlm

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = [(168, 280), (224, 224), (56, 84), (28, 140), (140, 252)]  # pixels; windows are 112 a side


def apart(a, b):
    """The distance of two tensors beside the second's norm."""
    return ((a.float() - b.float()).norm() / b.float().norm()).item()


def truth(tiny, image):
    """{point: (H, W, D) or (h·w, D)} of transformers' own forward."""
    known = reference(tiny, image)
    height, width = image.height // 14, image.width // 14
    states = {f"pre-merge/{k}": to_raster(known.vision.hidden_states[k], height, width) for k in range(4)}
    states |= {f"post-merge/{k}": known.language[k][0][known.image] for k in range(3)}
    return states | {"post-merge/3": known.last[0][known.image]}


@pytest.fixture(scope="module")
def vlm(tiny):
    return load_vlm(tiny.folder, "cpu")


@pytest.mark.parametrize("size", SIZES)
def test_every_point_is_transformers_in_float32(tiny, vlm, size):
    image = noise(*size)
    latents = vlm.latents(to_tensor(image)[None], vlm.points)
    for point, expected in truth(tiny, image).items():
        assert apart(latents[point].view(expected.shape), expected) < 1e-5, point


def test_bfloat16_is_as_near_the_truth_as_transformers_own(tiny):
    image, exact = noise(), truth(tiny, noise())
    theirs = truth(SimpleNamespace(model=deepcopy(tiny.model).bfloat16(), processor=tiny.processor), image)
    vlm = load_vlm(tiny.folder, "cpu", torch.bfloat16)
    for point, latents in vlm.latents([image], vlm.points).items():
        ours = latents.view(exact[point].shape)
        assert apart(ours, exact[point]) < 1.02 * apart(theirs[point], exact[point]) < 2e-2, point


def test_8_bits_are_within_a_few_percent(tiny):
    """Each product of numbers with 3 bits behind the leading one adds an error of about 3 %."""
    image, exact = noise(), truth(tiny, noise())
    vlm = load_vlm(tiny.folder, "cpu", torch.bfloat16, fp8=True)
    latents = vlm.latents([image], vlm.points)
    errors = {p: apart(latents[p].view(x.shape), x) for p, x in exact.items()}
    assert 0.02 < errors["pre-merge/1"] < 0.05
    assert max(errors.values()) < 0.12
    assert latents["post-merge/3"].dtype == torch.bfloat16


def test_8_bits_want_bfloat16(tiny):
    with pytest.raises(InputError, match="beside bfloat16, not float32"):
        load_vlm(tiny.folder, "cpu", torch.float32, fp8=True)


def test_gradients_are_transformers_own(tiny):
    """The bundled model is trained through these lines."""
    inputs = prepare(tiny, noise())
    cells = inputs["pixel_values"].view(6, 10, 2, 2, -1).transpose(1, 2).reshape(1, 12, 20, -1)  # raster order
    gradients = []
    for ours in (True, False):
        visual = deepcopy(tiny.model.model.visual).requires_grad_(True)
        if ours:
            merged = qwen.merge(visual, qwen.vision_states(visual, cells, {3})[3]).flatten(0, 2)
        else:
            merged = visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"]).pooler_output
        merged.square().sum().backward()
        gradients.append({name: p.grad for name, p in visual.named_parameters()})
    for name, expected in gradients[1].items():
        assert apart(gradients[0][name], expected) < 1e-4, name


def test_bytes_are_pixels_in_0_to_1(vlm):
    pixels = torch.randint(256, (2, 3, 112, 140), dtype=torch.uint8)
    [a], [b] = (vlm.latents(x, ["post-merge/2"]).values() for x in (pixels, pixels / 255))
    assert torch.equal(a, b)


def test_joined_weights_are_the_parameters_themselves(tiny, vlm):
    """Nothing lies in memory twice, padding aside, and the modules still hold what was loaded."""
    vlm.latents([noise()], ["post-merge/3"])
    kept = {
        p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in vlm.model.parameters() if not p.is_meta
    }
    joined = [
        t for weights in (*vlm._engine._blocks, *vlm._engine._layers) for t in weights if isinstance(t, torch.Tensor)
    ]
    assert {t.untyped_storage().data_ptr() for t in joined} <= kept.keys()
    assert joined[6].shape == (2 * 128, 32)  # gate and up, 40 wide, padded
    spare = 3 * (128 - 40) * (3 * 32 + 2) * 4
    assert sum(kept.values()) == sum(p.numel() * 4 for p in vlm.model.parameters() if not p.is_meta) + spare
    for (name, a), b in zip(vlm.model.named_parameters(), tiny.model.parameters(), strict=True):
        assert a.is_meta or torch.equal(a, b), name


def test_deeper_points_and_another_model(tiny, vlm):
    """What was prepared for shallow points serves deep ones; a replaced model is not answered from the old one."""
    expected = vlm.latents([noise()], ["post-merge/1", "post-merge/3"])
    grown = load_vlm(tiny.folder, "cpu")
    for point in ("pre-merge/1", "post-merge/1", "post-merge/3"):
        latents = grown.latents([noise()], [point])
    assert torch.equal(latents["post-merge/3"], expected["post-merge/3"])
    other = load_vlm(tiny.folder, "cpu")
    other.latents([noise()], ["post-merge/3"])
    other.model, grown.model = grown.model, other.model
    with torch.inference_mode():
        other.model.model.language_model.embed_tokens.weight.mul_(2)
    assert apart(other.latents([noise()], ["post-merge/3"])["post-merge/3"], expected["post-merge/3"]) > 1e-3


@pytest.fixture
def kernels():
    """The Triton kernels; without a GPU they are interpreted (conftest.py)."""
    pytest.importorskip("triton")
    from foresight.models import kernels

    return kernels


def test_kernels_are_the_plain_steps(kernels):
    draw = torch.Generator().manual_seed(0)
    x, update, gate_up = (torch.randn(5, n, generator=draw).to(DEVICE) for n in (48, 48, 2 * 2100))
    weight = torch.rand(48, generator=draw).to(DEVICE)
    for one, other in ((steps.PLAIN, kernels.FUSED), (steps.PLAIN_FP8, kernels.FUSED_FP8)):
        for add in (None, update):
            pairs = zip(one.add_norm(x, add, weight, 1e-6), other.add_norm(x, add, weight, 1e-6), strict=True)
            assert all(equal(a, b) for a, b in pairs)
        assert equal(one.swiglu(gate_up), other.swiglu(gate_up))
        assert equal(one.operand(x), other.operand(x))


@pytest.mark.parametrize("longest", [512, 0])
def test_kernels_attend_like_plain_steps(kernels, monkeypatch, longest):
    """70 rows are two blocks of queries; 6 query heads share 2 of keys; heads are 12 wide, which is no power of 2."""
    monkeypatch.setattr(kernels, "LONGEST_WINDOW", longest)
    monkeypatch.setattr(kernels, "LONGEST_CAUSAL", longest)
    draw = torch.Generator().manual_seed(0)
    cos, sin = torch.rand(2, 70, 6, generator=draw).to(DEVICE)
    angles = cos, sin
    qkv, opening = (torch.randn(b, n, h, 12, generator=draw).to(DEVICE) for b, n, h in ((2, 70, 12), (1, 5, 4)))
    for windows in (((1, 70),), ((3, 20), (1, 10)), ((2, 35),)):
        assert equal(*(s.window_attention(qkv.clone(), angles, windows) for s in (steps.PLAIN, kernels.FUSED)))
    for text in (opening, None):
        qkv = qkv[:, :, :10].contiguous()
        assert equal(*(s.causal_attention(qkv.clone(), angles, 6, text) for s in (steps.PLAIN, kernels.FUSED)))


def equal(a, b):
    if isinstance(a, steps.Quantised):  # Triton's interpreter rounds wrongly at powers of two: 31.9 becomes 16
        alike = (a.values.float() - b.values.float()).abs() <= a.values.float().abs() * (1 / 8)
        return torch.allclose(a.scale, b.scale) and alike.float().mean() > 0.9
    return torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_whole_forward_on_kernels(tiny, vlm, kernels):
    fused = load_vlm(tiny.folder, DEVICE, torch.float32, kernels=True)
    images, points = [noise(seed=1), noise(seed=2)], vlm.points
    expected = vlm.latents(images, points)
    for point, latents in fused.latents(images, points).items():
        assert apart(latents.cpu(), expected[point]) < 1e-5, point


@pytest.mark.skipif(not torch.cuda.is_available(), reason="graphs are CUDA's")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu_recorded_or_not(tiny, dtype):
    fused, plain = (load_vlm(tiny.folder, "cuda", dtype, kernels=k) for k in (True, False))
    limit = 1e-5 if dtype == torch.float32 else 2e-2  # transformers' own bfloat16 is 1.5e-2 away
    for size in SIZES:
        image, other = noise(*size), noise(*size, seed=1)
        expected = truth(tiny, image)
        for time in range(3):  # the first runs, the second is recorded, the third replayed
            latents = fused.latents(to_tensor(image)[None], fused.points)
            assert max(apart(latents[p].view(x.shape).cpu(), x) for p, x in expected.items()) < limit, (size, time)
            fused.latents(to_tensor(other)[None], fused.points)  # which must not touch what was latents before
            assert (
                apart(latents["post-merge/3"], plain.latents(to_tensor(image)[None], ["post-merge/3"])["post-merge/3"])
                < limit
            )
    assert fused._engine._graphs._recorded


def test_windows_cover_every_patch_once():
    config = type("Config", (), {"window_size": 112, "patch_size": 14, "hidden_size": 32, "num_heads": 2})
    place = qwen.patch_order(12, 20, config, torch.device("cpu"))
    assert place.windows == ((2, 64), (1, 32), (2, 32), (1, 16))
    assert torch.equal(place.order[place.raster], torch.arange(240))
    assert place.order[:9].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 20]
    assert place.order[128:133].tolist() == [16, 17, 18, 19, 36]
    assert place.order[-5:].tolist() == [219, 236, 237, 238, 239]
