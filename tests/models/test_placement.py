"""Devices and dtypes by their names, and what is said of a model that does not fit."""

import pytest
import torch

from foresight.data.images import to_pil
from foresight.errors import InputError
from foresight.models import placement
from foresight.models import qwen2_5_vl as qwen
from foresight.models import vlm as vlm_module
from foresight.models.placement import device_of, devices_of, dtype_of, spread
from foresight.models.vlm import load_vlm

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_defaults():
    assert device_of(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert (dtype_of(None, CPU), dtype_of(None, GPU)) == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("name", ["tpu", "meta", "cpu or so", ""])
def test_other_devices_are_refused(name):
    with pytest.raises(InputError, match="the device must be cpu, cuda, one of several GPUs such as cuda:1, or auto"):
        device_of(name)


def test_a_gpu_that_is_not_here_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="there is no cuda here: PyTorch finds no CUDA GPUs"):
        device_of("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="there is no cuda:1 here: PyTorch finds 1 CUDA GPU."):
        device_of("cuda:1")


def test_bfloat16_is_for_cpus_that_have_it(monkeypatch):
    for native in (True, False):
        monkeypatch.setattr(placement, "native_bfloat16", lambda native=native: native)
        assert dtype_of("bfloat16", GPU) == dtype_of(torch.bfloat16, CPU) == torch.bfloat16
        if native:
            assert dtype_of("bfloat16", CPU) == torch.bfloat16
        else:
            with pytest.raises(InputError, match="computes bfloat16 in software, slower than float32: take float32"):
                dtype_of("bfloat16", CPU)


GPUS = (torch.device("cuda", 0), torch.device("cuda", 1))
WHOLE = ("Qwen2_5_VisionTransformerPretrainedModel", "Qwen2_5_VLDecoderLayer")


def test_auto_is_every_gpu_or_the_one_device_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices_of("auto") == devices_of("cpu") == (CPU,)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices_of("auto") == GPUS and devices_of("cuda:1") == GPUS[1:]


@pytest.fixture
def two_gpus(tiny, monkeypatch):
    """The tiny model as if on two GPUs, of which nothing is there but the figures of their memory."""
    vlm, free = load_vlm(tiny.folder, "cpu"), dict.fromkeys(GPUS, 10**9)
    vlm.devices = GPUS
    for module in (placement, vlm_module):
        monkeypatch.setattr(module, "free_memory", lambda device: free[device])
    return vlm, free


def test_a_model_is_spread_over_gpus_in_the_order_of_its_parts(two_gpus):
    vlm, free = two_gpus
    layer = 4 * sum(p.numel() for p in vlm.model.model.language_model.layers[0].parameters())
    before = 4 * sum(p.numel() for p in vlm.model.model.visual.parameters())
    before += 4 * vlm.model.model.language_model.embed_tokens.weight.numel()
    free[GPUS[0]] = int((before + 2.5 * layer) / (1 - placement.RESERVE))  # accelerate leaves a layer's room there
    homes = [vlm._home(name) for name, _ in vlm.model.named_parameters()]
    assert homes == sorted(homes, key=GPUS.index) and {*homes} == {*GPUS}
    assert vlm._home("model.language_model.layers.0.mlp.up_proj.weight") == GPUS[0]
    assert vlm._home("model.language_model.layers.2.mlp.up_proj.weight") == vlm._home("lm_head.weight") == GPUS[1]
    assert spread(vlm.model, GPUS, torch.bfloat16, WHOLE) == {"": GPUS[0]}  # in 16 bits it fits on one
    vlm.__dict__["_homes"] = {"": GPUS[0]}
    assert {vlm._home(name) for name, _ in vlm.model.named_parameters()} == {GPUS[0]}


def test_what_several_gpus_do_not_hold_says_what_would_fit(two_gpus):
    vlm, free = two_gpus
    held = ("visual", "language_model.embed_tokens", "language_model.layers.0")
    vlm.__dict__["_homes"] = {f"model.{part}": GPUS[0] for part in held}  # as `spread` leaves out what fits on none
    free[GPUS[1]] = 0
    with pytest.raises(
        InputError, match="for answers in float32, and cuda:0 and cuda:1 have 1.0 and 0.0 GB free: "
    ) as no:
        vlm._load(None)
    assert "points up to post-merge/1 would fit" in str(no.value) and all(p.is_meta for p in vlm.model.parameters())


def test_a_model_too_large_for_one_gpu_is_offered_all_of_them(two_gpus, monkeypatch):
    vlm, free = two_gpus
    vlm.devices, vlm.device = GPUS[:1], GPUS[0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    free[CPU] = 0
    for size, offered in ((0.6, True), (0.4, False)):
        free.update(dict.fromkeys(GPUS, int(size * vlm._bytes(None, torch.float32))))
        with pytest.raises(InputError, match="for answers in float32, and cuda:0 has 0.0 GB free") as refused:
            vlm._refuse_too_large(None)
        assert ("--device auto, over 2 GPUs" in str(refused.value)) == offered


def test_the_state_follows_layers_to_another_device(tiny):
    """Device "meta" stands for the other GPU: there is nothing to compute, and what was not moved is refused."""
    language = tiny.model.model.language_model
    layers = [qwen.decoder_layer(layer) for layer in language.layers]
    elsewhere = [x.to("meta") if isinstance(x, torch.Tensor) else x for x in layers[2]]
    x = torch.randn(1, 5, 48, generator=torch.Generator().manual_seed(0))
    angles = qwen.language_angles(torch.arange(5).expand(3, -1), language.config)
    known = qwen.run_language(layers, x, angles, {2, 3})
    states = qwen.run_language([*layers[:2], qwen.DecoderLayer(*elsewhere)], x, angles, {2, 3})
    assert torch.equal(states[2], known[2])
    assert states[3].is_meta and states[3].shape == known[3].shape


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_latents_and_answers_over_two_gpus_are_those_of_one(tiny, monkeypatch):
    one, two = load_vlm(tiny.folder, "cuda:0"), load_vlm(tiny.folder, "auto")
    homes = {"model.visual": 0, "model.language_model.embed_tokens": 0, "model.language_model.layers.0": 0}
    homes |= {"model.language_model.layers.1": 1, "model.language_model.layers.2": 1}
    homes |= {"model.language_model.norm": 1, "model.language_model.rotary_emb": 1, "lm_head": 1}
    two.__dict__["_homes"] = {name: GPUS[k] for name, k in homes.items()}
    images = torch.rand(2, 3, 112, 168, generator=torch.Generator().manual_seed(0))
    for _ in range(3):  # the third is a graph's on one GPU
        known, latents = one.latents(images, one.points), two.latents(images, two.points)
    for point in known:
        assert latents[point].device == GPUS[0]
        torch.testing.assert_close(latents[point], known[point])
    assert {layer.norm1.device for layer in two._engine._layers} == {*GPUS}
    picture = to_pil(images[0])
    assert two.describe(picture, max_tokens=8) == one.describe(picture, max_tokens=8)


@pytest.mark.parametrize("dtype", ["float16", torch.float64, "int8"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(InputError, match="the dtype must be float32 or bfloat16, not "):
        dtype_of(dtype, CPU)


def test_a_model_that_does_not_fit_says_what_would(tiny, monkeypatch):
    """The tiny model has 0.2 MB in float32, half of it for pictures up to post-merge/1."""
    vlm, image = load_vlm(tiny.folder, "cpu"), torch.rand(1, 3, 56, 56)
    free = {"bytes": vlm._bytes(vlm.point("post-merge/1"), torch.float32)}
    monkeypatch.setattr("foresight.models.vlm.free_memory", lambda device: free["bytes"])
    monkeypatch.setattr("foresight.models.vlm.native_bfloat16", lambda: True)
    with pytest.raises(InputError, match="GB for post-merge/3 in float32, and cpu has .* GB free: --dtype bfloat16"):
        vlm.latents(image, ["post-merge/3"])
    with pytest.raises(InputError, match="or the points up to post-merge/1 would fit"):
        vlm.latents(image, ["post-merge/3"])
    assert all(p.is_meta for p in vlm.model.parameters())
    vlm.latents(image, ["post-merge/1"])
    free["bytes"] = 0
    vlm.latents(image, ["post-merge/1"])  # what is here already needs no more
    with pytest.raises(InputError, match="for answers in float32, and cpu has 0.0 GB free: none of it fits"):
        load_vlm(tiny.folder, "cpu")._load(None)
