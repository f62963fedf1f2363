"""An adapter's folder: written and read again, and every way in which a foreign one can be wrong."""

import json
import pickle
import re
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from foresight.adapters import checkpoint
from foresight.adapters.checkpoint import (
    CONFIG,
    WEIGHTS,
    describe_adapter,
    list_adapters,
    load_adapter,
    misfits,
    save_adapter,
)
from foresight.adapters.eight_bits import round_to_eight_bits
from foresight.adapters.modules import LinearProbe
from foresight.errors import InputError


def adapter():
    torch.manual_seed(0)
    probe = LinearProbe(6, 4, fold=1, cells=4)
    probe.card = {"point": "post-merge/3", "model": "a model", "vae": "a VAE", "scores": {"lpips": 0.01}}
    probe.mean.uniform_(-1, 1)
    probe.std.uniform_(1, 2)
    return probe


def latents():
    return torch.randn(2, 1, 3, 4, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path):
    return save_adapter(adapter(), tmp_path / "adapter")


def content(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_round_trip(folder, tmp_path):
    written, read = adapter(), load_adapter(folder)
    assert type(read) is type(written) and read.card == written.card and not read.training
    assert all(value.dtype is torch.float32 for value in read.state_dict().values())
    torch.testing.assert_close(read(latents()), written(latents()), atol=1e-2, rtol=1e-2)
    assert content(save_adapter(read, tmp_path / "again")) == content(folder)


def test_the_folder_holds_two_files_in_float16(folder):
    assert sorted(content(folder)) == ["config.json", "model.safetensors"]
    assert {value.dtype for value in load_file(folder / WEIGHTS).values()} == {torch.float16}


def test_matrices_in_eight_bits_are_those_of_torchs_own_rounding(tmp_path):
    written = adapter()
    weight = written.linear.weight.detach()
    weight[3] = 0
    folder = save_adapter(written, tmp_path / "eight", eight_bits=True)
    assert {value.dtype for value in load_file(folder / WEIGHTS).values()} == {torch.float16, torch.float32, torch.int8}
    scale, zero = weight.abs().amax(1) / 127, torch.zeros(len(weight), dtype=torch.int32)
    scale[3] = 1
    read = load_adapter(folder)
    rounded = torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -127, 127)
    torch.testing.assert_close(read.linear.weight, rounded, atol=1e-7, rtol=1e-6)
    assert torch.equal(read.linear.bias, written.linear.bias.half().float())
    round_to_eight_bits(written)
    assert torch.equal(written.linear.weight, read.linear.weight)
    assert content(save_adapter(read, tmp_path / "again", eight_bits=True)) == content(folder)


def test_the_mixin_reads_it_too(folder):
    theirs = LinearProbe.from_pretrained(folder)
    torch.testing.assert_close(theirs(latents()), load_adapter(folder)(latents()))


def test_saving_leaves_the_adapter_alone(tmp_path):
    original = adapter()
    save_adapter(original, tmp_path)
    assert all(torch.equal(value, original.state_dict()[key]) for key, value in adapter().state_dict().items())


@pytest.mark.parametrize("value", [torch.nan, 1e6])  # 1e6 is infinite in float16
def test_a_failed_save_leaves_the_folder_as_it_was(folder, value):
    before, broken = content(folder), adapter()
    broken.mean[0] = value
    with pytest.raises(InputError, match="'mean' has values that are not finite"):
        save_adapter(broken, folder)
    assert content(folder) == before


def test_config_is_read_without_weights(folder):
    (folder / WEIGHTS).write_bytes(b"")
    sizes = {"width": 6, "channels": 4, "fold": 1, "cells": 4, "frames": 1, "steps": 1}
    assert describe_adapter(folder) == {"kind": "linear", **sizes, "card": adapter().card}


def test_a_config_from_before_clips_is_read(folder):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({k: v for k, v in config.items() if k not in ("frames", "steps")}))
    assert load_adapter(folder).frames == 1 and describe_adapter(folder)["steps"] == 1


def test_an_adapter_for_clips_is_read_as_it_was_written(tmp_path):
    probe = LinearProbe(6, 4, fold=1, cells=4, frames=2, card=adapter().card)
    read = load_adapter(save_adapter(probe, tmp_path))
    torch.testing.assert_close(read.for_clip(latents(), 2), probe.for_clip(latents(), 2), atol=1e-2, rtol=1e-2)


def test_listing(folder, tmp_path):
    other = save_adapter(adapter(), tmp_path / "a" / "b")
    save_adapter(adapter(), tmp_path / ".unfinished")
    (save_adapter(adapter(), tmp_path / "half") / CONFIG).unlink()
    assert list_adapters(tmp_path) == [other, folder]


FITTING = {"width": 6, "channels": 4, "downscale": 8}


def test_what_fits(folder):
    """A post-merge token, or four pre-merge ones, cover 32 x 32 px of the VAE's picture: 4 x 4 cells of 8."""
    config = describe_adapter(folder)
    assert not misfits(config, **FITTING)
    assert not misfits(config | {"fold": 2, "card": {"point": "pre-merge/0"}}, **FITTING)
    assert not misfits(config | {"cells": 1}, **FITTING | {"downscale": 32})
    assert misfits(config | {"card": {"point": "pre-merge/0"}}, **FITTING)
    assert misfits(config | {"steps": 4}, **FITTING) == ["it joins as frames in one latent of the VAE 8, not 1"]
    assert not misfits(config | {"steps": 4}, **FITTING, frames_per_latent=8)
    assert not misfits(config | {"frames": 2}, **FITTING)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"width": 7}, "takes at post-merge/3 a width of 6, not 7"),
        ({"channels": 16}, "makes latents whose channels are 4, not 16"),
        ({"downscale": 32}, "with the side 4, not 1"),
    ],
)
def test_what_does_not_fit_is_named(folder, other, sentence):
    [fault] = misfits(describe_adapter(folder), **FITTING | other)
    assert sentence in fault


def test_an_adapter_without_a_point_fits_nowhere(folder):
    with pytest.raises(InputError, match="not an extraction point"):
        misfits(describe_adapter(folder) | {"card": {}}, **FITTING)


def rewrite(change):
    """Spoils the tensors."""

    def spoil(folder):
        weights = load_file(folder / WEIGHTS)
        change(weights)
        save_file(weights, folder / WEIGHTS)

    return spoil


def recode(change):
    """Spoils the header's text."""

    def spoil(folder):
        path = folder / WEIGHTS
        data = path.read_bytes()
        end = 8 + struct.unpack("<Q", data[:8])[0]
        header = change(data[8:end])
        path.write_bytes(struct.pack("<Q", len(header)) + header + data[end:])

    return spoil


def reconfigure(**changes):
    def spoil(folder):
        config = json.loads((folder / CONFIG).read_text()) | changes
        kept = {key: value for key, value in config.items() if value is not ...}
        (folder / CONFIG).write_text(json.dumps(kept))

    return spoil


def replace(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def cut(length):
    def spoil(folder):
        path = folder / WEIGHTS
        path.write_bytes(path.read_bytes()[:length])

    return spoil


def torch_pickle(folder):
    torch.save(adapter().state_dict(), folder / WEIGHTS)


BAD = {
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "has no model.safetensors"),
    "no config": (lambda folder: (folder / CONFIG).unlink(), "has no config.json"),
    "empty": (replace(WEIGHTS, b""), "no safetensors header"),
    "text": (replace(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\n"), "no safetensors header"),
    "pickle": (replace(WEIGHTS, pickle.dumps({"mean": [0.0]})), "is a pickle and not opened"),
    "torch pickle": (torch_pickle, "is a pickle and not opened"),
    "cut in the header": (cut(40), "not JSON"),
    "cut in the data": (cut(-2), "is broken"),
    "long header": (recode(lambda text: text + b" " * (64 << 10)), "header, or one too long"),
    "lying header": (replace(WEIGHTS, struct.pack("<Q", 1 << 40) + b"{}"), "header, or one too long"),
    "twin keys": (recode(lambda text: text.replace(b'"mean":', b'"std":')), "header .* has a key twice"),
    "overlap": (recode(lambda text: text.replace(b"[0,", b"[1,", 1)), "is broken"),
    "no entry": (recode(lambda text: re.sub(rb"{[^{}]*}", b"[]", text)), "has the shape None"),
    "nan": (rewrite(lambda w: w["std"].fill_(torch.nan)), "'std' has values that are not finite"),
    "infinite": (rewrite(lambda w: w["std"].fill_(-torch.inf)), "'std' has values that are not finite"),
    "missing": (rewrite(lambda w: w.pop("std")), "lacks 'std', which its config builds"),
    "extra": (rewrite(lambda w: w.update(more=torch.ones(1))), "has 'more', which its config does not build"),
    "shape": (rewrite(lambda w: w.update(std=torch.ones(7))), r"'std' .* shape \[7\]; its config says \[6\]"),
    "dtype": (rewrite(lambda w: w.update(std=torch.ones(6, dtype=torch.int64))), "'std' is of dtype I64"),
    "whole numbers": (rewrite(lambda w: w.update(std=torch.ones(6, dtype=torch.int8))), "'std' is of dtype I8"),
    "no scale": (
        rewrite(lambda w: w.update({"linear.weight": torch.ones(64, 6, dtype=torch.int8)})),
        "lacks 'linear.weight.scale'",
    ),
    "one scale": (
        rewrite(
            lambda w: w.update(
                {"linear.weight": torch.ones(64, 6, dtype=torch.int8), "linear.weight.scale": torch.ones(1)}
            )
        ),
        r"'linear.weight.scale' has the shape \[1\]; its config says \[64\]",
    ),
    "huge scale": (
        rewrite(
            lambda w: w.update(
                {
                    "linear.weight": torch.full((64, 6), 2, dtype=torch.int8),
                    "linear.weight.scale": torch.full((64,), 3e38),
                }
            )
        ),
        "'linear.weight' has values that are not finite",
    ),
    "scale of floats": (
        rewrite(lambda w: w.update({"linear.weight.scale": torch.ones(64)})),
        "has 'linear.weight.scale', which its config does not build",
    ),
    "other kind": (reconfigure(kind="Pickle"), "its kind is 'Pickle'; known are linear"),
    "no kind": (reconfigure(kind=...), "its kind is None"),
    "kind a list": (reconfigure(kind=["linear"]), "its kind is"),
    "unknown key": (reconfigure(code="import os"), "has the unknown key 'code'"),
    "absent key": (reconfigure(width=...), "lacks the key 'width'"),
    "other width": (reconfigure(width=8), "its config says"),
    "large width": (reconfigure(width=1 << 16, fold=64, cells=64), "has the shape"),
    "huge width": (reconfigure(width=1 << 16, fold=1 << 16, cells=1 << 16), "too large"),
    "size over all": (reconfigure(width=(1 << 16) + 1), "whole numbers from 1 to 65536"),
    "size zero": (reconfigure(width=0), "width is 0"),
    "size a fraction": (reconfigure(width=6.0), "width is 6.0"),
    "size a word": (reconfigure(width="six"), "width is 'six'"),
    "three frames": (reconfigure(frames=3), "1 or 2 frames a step"),
    "frames and steps": (reconfigure(frames=2, steps=4), "1 or 2 frames a step"),
    "size a truth": (reconfigure(fold=True), "fold is True"),
    "card a list": (reconfigure(card=[]), "the card in its config.json is not an object"),
    "config text": (replace(CONFIG, b"hello"), "not JSON"),
    "config list": (replace(CONFIG, b"[]"), "not a JSON object"),
    "config twins": (replace(CONFIG, b'{"kind": "linear", "kind": "linear"}'), "has a key twice"),
    "config nan": (replace(CONFIG, b'{"kind": NaN}'), "has the number NaN"),
    "config deep": (replace(CONFIG, b"[" * 50_000), "not JSON"),
    "config long": (replace(CONFIG, b" " * (65 << 10)), "larger than the 64 kB allowed"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_foreign_folder_is_refused_in_one_sentence(folder, case):
    spoil, sentence = BAD[case]
    spoil(folder)
    with pytest.raises(InputError, match=sentence):
        load_adapter(folder)


def test_a_large_file_is_refused_before_it_is_read_whole(folder, monkeypatch):
    monkeypatch.setattr(checkpoint, "MAX_WEIGHTS", 200)
    with pytest.raises(InputError, match="larger than"):
        load_adapter(folder)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_other_floats_are_read(folder, dtype):
    weights = {key: value.to(dtype) for key, value in load_file(folder / WEIGHTS).items()}
    (folder / WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))
    read = load_adapter(folder).state_dict()
    assert all(torch.equal(read[key], value.float()) for key, value in weights.items())
