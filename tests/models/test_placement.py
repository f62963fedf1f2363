"""Devices and dtypes by their names, and what is said of a model that does not fit."""

import pytest
import torch

from foresight.errors import InputError
from foresight.models import placement
from foresight.models.placement import device_of, dtype_of
from foresight.models.vlm import load_vlm

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_defaults():
    assert device_of(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert (dtype_of(None, CPU), dtype_of(None, GPU)) == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("name", ["tpu", "meta", "cpu or so", ""])
def test_other_devices_are_refused(name):
    with pytest.raises(InputError, match="the device must be cpu, cuda, or one of several GPUs such as cuda:1"):
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
