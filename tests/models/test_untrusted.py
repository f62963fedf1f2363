"""Models' folders from anybody: each fault is one sentence, within a second and 100 MB."""

import json
import os
import re
import resource
import shutil
import time

import pytest
import torch
from house import save_vae
from safetensors.torch import load_file, save_file

from foresight.data.images import to_pil
from foresight.errors import InputError
from foresight.models.untrusted import VAEConfig, VLMConfig, check_config
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm

INDEX, SHARD = "model.safetensors.index.json", "model.safetensors"
VAE_SHARD = "diffusion_pytorch_model.safetensors"
DEEP = "[" * 100_000
ONE = to_pil(torch.rand(3, 56, 56, generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """Good folders of both, read once, so that no import counts."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(tiny.folder, folder / "vlm")
    save_vae(folder / "vae")
    read_vlm(folder / "vlm")
    load_vae(folder / "vae", "cpu")
    return folder


def read_vlm(folder):
    vlm = load_vlm(folder, "cpu")
    vlm.latents([ONE], ["post-merge/3"])


def edited(place, value, file="config.json"):
    """Spoils a JSON file at a place such as "vision_config.depth"."""

    def spoil(folder):
        values = json.loads((folder / file).read_text())
        *path, last = place.split(".")
        inner = values
        for name in path:
            inner = inner[name]
        inner[last] = value
        (folder / file).write_text(json.dumps(values))

    return spoil


def written(file, data):
    return lambda folder: (folder / file).write_bytes(data if isinstance(data, bytes) else data.encode())


def removed(file):
    return lambda folder: (folder / file).unlink()


def piped(file):
    def spoil(folder):
        (folder / file).unlink(missing_ok=True)
        os.mkfifo(folder / file)

    return spoil


def grown(file):
    def spoil(folder):
        with (folder / file).open("r+b") as opened:
            opened.truncate(1 << 31)  # nothing of it lies on the disk

    return spoil


def filled(file, value):
    def spoil(folder):
        weights = load_file(folder / file)
        for tensor in weights.values():
            tensor.view(-1)[-1] = value
        save_file(weights, folder / file)

    return spoil


def header(file, length):
    return written(file, length.to_bytes(8, "little") + b"{" + bytes(64))


T, V = "text_config", "vision_config"
NUMBER = "should be|beyond|valid"
VLMS = {
    **{
        f"{place} {value!r:.12}": (edited(place, value), NUMBER)
        for place in (f"{T}.num_hidden_layers", f"{T}.hidden_size", f"{T}.vocab_size", f"{V}.depth", f"{V}.num_heads")
        for value in (-1, 0, "many", 10**6 if "vocab" not in place else 10**12, 1.5, [], True)
    },
    **{
        f"{place} {value!r:.12}": (edited(place, value), sentence)
        for place, value, sentence in (
            (f"{T}.num_attention_heads", 0, NUMBER),
            (f"{T}.num_key_value_heads", 10**9, NUMBER),
            (f"{T}.intermediate_size", -1, NUMBER),
            (f"{T}.hidden_size", 47, "builds no Qwen2.5-VL|cannot compute"),
            (f"{T}.rms_norm_eps", 0, NUMBER),
            (f"{T}.rope_parameters", {"rope_theta": "ten", "mrope_section": [1, 2, 3]}, NUMBER),
            (f"{T}.rope_parameters", {"rope_theta": -1.0, "mrope_section": [1, 2, 3]}, NUMBER),
            (f"{T}.rope_parameters.mrope_section", [-6, 6, 6], NUMBER),
            (f"{T}.rope_parameters", 7, NUMBER),
            (f"{T}.layer_types", ["full_attention"] * 10**4, "more than 10,000 values"),
            (f"{V}.window_size", 0, NUMBER),
            (f"{V}.window_size", 10**9, NUMBER),
            (f"{V}.patch_size", 0, NUMBER),
            (f"{V}.spatial_merge_size", -2, NUMBER),
            (f"{V}.tokens_per_second", 0, NUMBER),
            (f"{V}.fullatt_block_indexes", [-1], NUMBER),
            (f"{V}.fullatt_block_indexes", "all", NUMBER),
            (f"{V}.out_hidden_size", 10**6, NUMBER),
            (V, [], NUMBER),
            (T, "large", NUMBER),
            ("image_token_id", -5, NUMBER),
            ("initializer_range", 1e300, NUMBER),
            ("architectures", ["x" * 10**5], "a text of 100,000 characters"),
            ("extra", json.loads("[" * 20 + "]" * 20), "nested more than 8 deep"),
            ("model_type", ["qwen2_5_vl"], "Foresight reads qwen2_5_vl"),
        )
    },
    "config absent": (removed("config.json"), "has no config.json"),
    "config deep": (written("config.json", DEEP), "is not JSON"),
    "config deep inside": (written("config.json", '{"a":' * 100_000), "is not JSON"),
    "config a list": (written("config.json", "[]"), "is not a JSON object"),
    "config empty": (written("config.json", ""), "is not JSON"),
    "config no text": (written("config.json", b"\xff\xfe\x00"), "is not JSON"),
    "config twice": (written("config.json", '{"a": 1, "a": 2}'), "has a key twice"),
    "config NaN": (written("config.json", '{"a": NaN}'), "has the number NaN"),
    "config huge": (grown("config.json"), "larger than the 1,024 kB allowed"),
    "config a pipe": (piped("config.json"), "config.json is no file"),
    "tokenizer a pipe": (piped("tokenizer.json"), "tokenizer.json is no file|has no tokenizer.json"),
    "tokenizer huge": (grown("tokenizer.json"), "larger than the 65,536 kB allowed"),
    "tokenizer absent": (removed("tokenizer.json"), "has no tokenizer.json or vocab.json"),
    "tokenizer's config absent": (removed("tokenizer_config.json"), "has no tokenizer_config.json"),
    "tokenizer empty": (written("tokenizer.json", "{}"), "has a tokenizer that cannot be read"),
    "tokenizer deep": (written("tokenizer.json", DEEP), "has a tokenizer that cannot be read"),
    "tokenizer's class": (
        edited("tokenizer_class", ["os", "system"], "tokenizer_config.json"),
        "has a tokenizer that cannot be read",
    ),
    "processor absent": (removed("processor_config.json"), "has no processor_config.json"),
    "processor empty": (written("processor_config.json", "{}"), "image_mean: field required"),
    **{
        f"image {name} {value!r:.20}": (edited(f"image_processor.{name}", value, "processor_config.json"), NUMBER)
        for name, value in (
            ("image_std", [0.2, 0.0, 0.2]),
            ("image_std", [0.2, -0.2, 0.2]),
            ("image_std", [0.2]),
            ("image_std", 0.2),
            ("image_std", ["a", "b", "c"]),
            ("image_mean", [0.1, 0.1, 1e30]),
            ("size", {"shortest_edge": -1}),
            ("size", {"longest_edge": 10**12}),
            ("min_pixels", 0),
        )
    },
    "image std NaN": (
        edited("image_processor.image_std", [float("nan")] * 3, "processor_config.json"),
        "has the number NaN",
    ),
    "index a list": (written(INDEX, "[]"), "is not a JSON object"),
    "index without map": (written(INDEX, "{}"), "has no readable weight_map"),
    "index of numbers": (written(INDEX, '{"weight_map": {"a": 1}}'), "has no readable weight_map"),
    **{
        f"index to {file!r:.20}": (
            written(INDEX, json.dumps({"weight_map": {"a": file}})),
            "no safetensors file beside",
        )
        for file in ("../../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "pytorch_model.bin", "", "a\0b")
    },
    "weights absent": (removed(SHARD), "has no model.safetensors"),
    "weights a pipe": (piped(SHARD), "has no model.safetensors"),
    "weights cut": (lambda f: os.truncate(f / SHARD, 5000), "cannot be read"),
    "weights empty": (written(SHARD, b""), "cut short or no safetensors file"),
    "weights pickled": (written(SHARD, b"\x80\x04pickle, not weights"), "cut short or no safetensors file"),
    "weights' header huge": (header(SHARD, 1 << 40), "cut short or no safetensors file"),
    "weights' header no JSON": (header(SHARD, 20), "cannot be read"),
    "weights NaN": (filled(SHARD, torch.nan), "values that are not finite"),
    "weights infinite": (filled(SHARD, -torch.inf), "values that are not finite"),
}
VAES = {
    **{
        f"{place} {value!r:.12}": (edited(place, value), NUMBER)
        for place, value in (
            ("latent_channels", 0),
            ("latent_channels", -4),
            ("latent_channels", "four"),
            ("latent_channels", 10**12),
            ("encoder_block_out_channels", 7),
            ("encoder_block_out_channels", []),
            ("encoder_block_out_channels", [10**6] * 4),
            ("decoder_block_out_channels", [8] * 1000),
            ("num_decoder_blocks", [10**6] * 4),
            ("num_encoder_blocks", [-1] * 4),
            ("upsampling_scaling_factor", 0),
            ("scaling_factor", 0),
            ("scaling_factor", -1),
            ("scaling_factor", "one"),
            ("latents_std", [0.0] * 4),
            ("shift_factor", [1]),
        )
    },
    "config absent": (removed("config.json"), "has no config.json"),
    "config deep": (written("config.json", DEEP), "is not JSON"),
    "config a list": (written("config.json", "[]"), "is not a JSON object"),
    "config cut": (written("config.json", "{"), "is not JSON"),
    "config a pipe": (piped("config.json"), "has no config.json|is no file"),
    "class": (edited("_class_name", {"a": 1}), "supported are"),
    "scale NaN": (edited("scaling_factor", float("nan")), "has the number NaN"),
    "shift infinite": (edited("shift_factor", float("inf")), "has the number Infinity"),
    "weights a pipe": (piped(VAE_SHARD), "has no diffusion_pytorch_model.safetensors"),
    "a shard a pipe": (
        lambda f: (
            removed(VAE_SHARD)(f),
            written(f"{VAE_SHARD}.index.json", '{"weight_map": {"a": "b.safetensors"}}')(f),
            os.mkfifo(f / "b.safetensors"),
        ),
        "is no file",
    ),
    "weights cut": (lambda f: os.truncate(f / VAE_SHARD, 5000), "cannot be loaded"),
    "weights pickled": (written(VAE_SHARD, b"PK\x03\x04archive"), "cut short or no safetensors file"),
    "weights NaN": (filled(VAE_SHARD, torch.nan), "values that are not finite"),
    "index outside": (
        lambda f: (removed(VAE_SHARD)(f), written(f"{VAE_SHARD}.index.json", '{"weight_map": {"a": "../x"}}')(f)),
        "no safetensors file beside",
    ),
}
CASES = [("vlm", name) for name in VLMS] + [("vae", name) for name in VAES]


@pytest.mark.parametrize(("kind", "case"), CASES, ids=map(" ".join, CASES))
def test_a_fault_is_one_sentence_at_once(whole, tmp_path, kind, case):
    spoil, sentence = (VLMS if kind == "vlm" else VAES)[case]
    spoil(folder := shutil.copytree(whole / kind, tmp_path / kind))
    read = read_vlm if kind == "vlm" else lambda place: load_vae(place, "cpu")
    began, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as refused:
        read(folder)
    message = str(refused.value)
    assert re.search(sentence, message), message
    assert message.endswith((".", "again.")) and "\n" not in message and len(message) < 500, message
    assert time.process_time() - began < 5  # under one, but on a slow machine; what hangs or reads all takes minutes
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100_000  # kB


def test_no_code_is_named_by_a_config(whole, tmp_path, monkeypatch):
    """transformers takes an implementation of attention from a repository on the hub where a config names one."""
    folder = shutil.copytree(whole / "vlm", tmp_path / "vlm")
    for place in ("attn_implementation", "_attn_implementation", "vision_config.attn_implementation", "auto_map"):
        edited(place, "owner/kernel")(folder)
    vlm = load_vlm(folder, "cpu")
    assert "owner/kernel" not in str(vlm.config) + str(vlm.config.vision_config._attn_implementation)


def test_released_configs_are_within_the_limits():
    """Qwen2.5-VL-72B's sizes, as before transformers 5, and Stable Diffusion's and FLUX's VAEs."""
    rope = {"type": "mrope", "mrope_section": [16, 24, 24]}
    vision = {
        "depth": 32,
        "hidden_size": 1280,
        "in_chans": 3,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "num_heads": 16,
    }
    vision |= {"intermediate_size": 3456, "out_hidden_size": 8192, "window_size": 112, "tokens_per_second": 2}
    text = {"hidden_size": 8192, "intermediate_size": 29568, "num_hidden_layers": 80, "num_attention_heads": 64}
    text |= {"num_key_value_heads": 8, "vocab_size": 152064, "rms_norm_eps": 1e-06, "max_position_embeddings": 128000}
    other = {"rope_theta": 1000000.0, "rope_scaling": rope, "vision_config": vision, "sliding_window": 32768}
    check_config(VLMConfig, text | other, "72B")
    for channels, scale, shift in ((4, 0.18215, None), (16, 0.3611, 0.1159)):
        statistics = {"latent_channels": channels, "scaling_factor": scale, "shift_factor": shift, "latents_mean": None}
        check_config(VAEConfig, {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2} | statistics, "VAE")


def test_the_bundled_model_is_asked_for_as_a_whole_at_once(tiny, tmp_path, monkeypatch):
    """As where Git LFS has yet to fetch it."""
    folder = tmp_path / "vlm"
    shutil.copytree(tiny.folder, folder)
    monkeypatch.setattr("foresight.models.vlm.BUNDLED", folder)
    names = dict.fromkeys(load_file(folder / SHARD), SHARD)
    (folder / INDEX).write_text(json.dumps({"weight_map": names | {"lm_head.weight": "gone.safetensors"}}))
    with pytest.raises(InputError, match=r"^model 'bundled' has no gone.safetensors\.$"):
        load_vlm(device="cpu")
    (folder / INDEX).unlink()
    (folder / SHARD).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match="model.safetensors is cut short"):
        load_vlm(device="cpu")
