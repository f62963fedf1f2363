"""The VAE wrapper against diffusers' own classes at tiny sizes, called by hand."""

import json
import shutil
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from foresight.errors import InputError
from foresight.models.vae import KINDS, load_vae

torch.set_num_threads(1)  # these sizes gain nothing from more, and lose much where cores are shared

WIDTHS = (8, 8, 8, 8)
WEIGHTS = "diffusion_pytorch_model.safetensors"
KL = {
    "block_out_channels": WIDTHS,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "norm_num_groups": 4,
}
FLUX = {"latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159}
LTX = {
    "latent_channels": 12,
    "block_out_channels": WIDTHS,
    "decoder_block_out_channels": WIDTHS,
    "layers_per_block": (1,) * 5,
    "decoder_layers_per_block": (1,) * 5,
}


def tiny_model():
    return diffusers.AutoencoderTiny(
        encoder_block_out_channels=WIDTHS,
        decoder_block_out_channels=WIDTHS,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
        latent_channels=16,
    )


def ltx_model(**config):
    model = diffusers.AutoencoderKLLTXVideo(**LTX, **config)
    model.latents_mean.copy_(torch.linspace(-1, 1, 12))
    model.latents_std.copy_(torch.linspace(0.5, 2, 12))
    return model


MODELS = {
    "tiny": tiny_model,
    "kl": lambda: diffusers.AutoencoderKL(**KL),
    "kl-by-channel": lambda: diffusers.AutoencoderKL(
        **KL, scaling_factor=0.5, latents_mean=[0.0, 1.0, 2.0, 3.0], latents_std=[1.0, 2.0, 4.0, 8.0]
    ),
    "flux": lambda: diffusers.AutoencoderKL(**KL, **FLUX, use_quant_conv=False, use_post_quant_conv=False),
    "ltx": lambda: ltx_model(scaling_factor=0.8),
    "ltx-timed": lambda: ltx_model(timestep_conditioning=True),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One saved model of every kind."""
    root = tmp_path_factory.mktemp("vaes")
    for seed, (name, build) in enumerate(MODELS.items()):
        torch.manual_seed(seed)
        build().save_pretrained(root / name)
    return root


@pytest.fixture
def folder(folders, tmp_path):
    """A KL VAE's folder that a test may spoil."""
    return Path(shutil.copytree(folders / "kl", tmp_path / "kl"))


def picture(height=64, width=96):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "kind", "channels", "downscale"),
    [
        ("tiny", "AutoencoderTiny", 16, 8),
        ("kl", "AutoencoderKL", 4, 8),
        ("flux", "AutoencoderKL", 16, 8),
        ("ltx", "AutoencoderKLLTXVideo", 12, 32),
    ],
)
def test_facts_and_shapes(folders, name, kind, channels, downscale):
    vae = load_vae(folders / name, device="cpu")
    assert (vae.kind, vae.channels, vae.downscale) == (kind, channels, downscale)
    assert (vae.name, vae.device, vae.dtype) == (str(folders / name), torch.device("cpu"), torch.float32)
    z = vae.encode(picture())
    assert z.shape == (2, channels, 64 // downscale, 96 // downscale)
    x = vae.decode(z)
    assert x.shape == (2, 3, 64, 96)
    assert x.min() >= 0 and x.max() <= 1
    assert not vae.model.training and not any(p.requires_grad for p in vae.model.parameters())


def test_tiny_sees_and_gives_pixels_from_0_to_1_inside(folders):
    """TAESD's own convention: its layers work on [0, 1], with tanh(z / 3) * 3 before the decoder."""
    vae, x = load_vae(folders / "tiny", device="cpu"), picture()
    z = vae.model.encoder.layers(x)
    torch.testing.assert_close(vae.encode(x), z)
    torch.testing.assert_close(vae.decode(z, clamp=False), vae.model.decoder.layers(torch.tanh(z / 3) * 3))


@pytest.mark.parametrize(
    ("name", "mean", "scale"),
    [
        ("kl", 0.0, 0.18215),
        ("flux", 0.1159, 0.3611),
        ("kl-by-channel", torch.tensor([0.0, 1, 2, 3]), 0.5 / torch.tensor([1.0, 2, 4, 8])),
        ("ltx", torch.linspace(-1, 1, 12), 0.8 / torch.linspace(0.5, 2, 12)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])  # the statistics are float32 in either
def test_latents_are_the_shifted_and_scaled_mode(folders, name, mean, scale, dtype):
    vae, x = load_vae(folders / name, "cpu", dtype), picture()
    pixels = (2 * x - 1 if vae.downscale == 8 else (2 * x - 1)[:, :, None]).to(dtype)
    raw = vae.model.encode(pixels).latent_dist.mean.reshape(2, vae.channels, -1).float()
    mean, scale = (torch.as_tensor(value).reshape(-1, 1) for value in (mean, scale))
    torch.testing.assert_close(vae.encode(x).flatten(2), (raw - mean) * scale)


@pytest.mark.parametrize("name", ["kl", "kl-by-channel", "flux", "ltx", "ltx-timed"])
def test_decode_of_encode_is_the_models_own_round_trip(folders, name):
    vae, x = load_vae(folders / name, device="cpu"), picture()
    pixels = 2 * x - 1 if vae.downscale == 8 else (2 * x - 1)[:, :, None]
    time = {"temb": torch.zeros(2)} if name == "ltx-timed" else {}
    own = vae.model(pixels, sample_posterior=False, **time).sample.reshape(x.shape)
    torch.testing.assert_close(vae.decode(vae.encode(x)), (own / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_decode_has_a_gradient_and_encode_has_none(folders, name):
    vae = load_vae(folders / name, device="cpu")
    z = vae.encode(picture(32, 32).requires_grad_())
    assert not z.requires_grad
    z = z.requires_grad_()
    vae.decode(z).sum().backward()
    assert z.grad.abs().sum() > 0


def test_clamp_can_be_left_to_the_caller(folders):
    vae = load_vae(folders / "tiny", device="cpu")
    z = 9 * torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    free = vae.decode(z, clamp=False)
    assert free.min() < 0 or free.max() > 1
    assert torch.equal(vae.decode(z), free.clamp(0, 1))


def test_half_precision(folders, tmp_path):
    """fp16 on disk is upcast on the CPU; another dtype is there for the asking, float32 in and out."""
    torch.manual_seed(0)
    tiny_model().half().save_pretrained(tmp_path)
    vae = load_vae(tmp_path, device="cpu")
    assert vae.dtype is torch.float32
    low = load_vae(tmp_path, device="cpu", dtype=torch.bfloat16)
    x = picture()
    assert low.dtype is torch.bfloat16 and low.encode(x).dtype is torch.float32
    torch.testing.assert_close(low.decode(low.encode(x)), vae.decode(vae.encode(x)), atol=0.02, rtol=0)


def test_a_pipelines_subfolder(folders, tmp_path):
    shutil.copytree(folders / "kl", tmp_path / "vae")
    x = picture()
    assert torch.equal(load_vae(tmp_path, "cpu").encode(x), load_vae(folders / "kl", "cpu").encode(x))


@pytest.mark.parametrize("shape", [(1, 3, 60, 64), (1, 3, 64, 4), (1, 4, 64, 64), (3, 64, 64), (0, 3, 8, 8)])
def test_pictures_that_do_not_fit(folders, shape):
    with pytest.raises(InputError, match="multiples of 8"):
        load_vae(folders / "kl", device="cpu").encode(torch.zeros(shape))


def test_latents_that_do_not_fit(folders):
    with pytest.raises(InputError, match=r"\(B, 4, h, w\), not \(1, 16, 8, 8\)"):
        load_vae(folders / "kl", device="cpu").decode(torch.zeros(1, 16, 8, 8))


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder, change):
    path = folder / WEIGHTS
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: edit_config(f, latent_channels=8), "cannot be loaded as AutoencoderKL"),
        (lambda f: edit_weights(f, lambda w: w.pop("quant_conv.bias")), "lacks the weight 'quant_conv.bias'"),
        (lambda f: edit_weights(f, lambda w: w.update(extra=torch.ones(1))), "has 'extra'"),
        (lambda f: edit_weights(f, lambda w: w["quant_conv.bias"].fill_(torch.nan)), "not finite in"),
    ],
)
def test_a_broken_folder_is_one_sentence(folder, spoil, sentence):
    spoil(folder)
    with pytest.raises(InputError, match=sentence):
        load_vae(folder, device="cpu")


def test_a_vae_that_cannot_serve(tmp_path):
    diffusers.AutoencoderKL(**KL, in_channels=4).save_pretrained(tmp_path / "four")
    with pytest.raises(InputError, match="not for RGB"):
        load_vae(tmp_path / "four", device="cpu")
    ltx_model(decoder_inject_noise=(True,) * 5).save_pretrained(tmp_path / "noise")
    with pytest.raises(InputError, match="draws noise"):
        load_vae(tmp_path / "noise", device="cpu")


def test_every_kind_is_a_class_of_diffusers():
    assert all(hasattr(diffusers, kind) for kind in KINDS)


def clip(frames=9):
    return torch.rand(2, frames, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["tiny", "kl-by-channel"])
def test_an_image_vae_takes_clips_frame_by_frame(folders, name):
    vae, x = load_vae(folders / name, device="cpu"), clip(3)
    z = vae.encode_clip(x)
    assert vae.frames_per_latent == 1 and z.shape[:2] == (2, 3)
    torch.testing.assert_close(z[:, 1], vae.encode(x[:, 1]))
    torch.testing.assert_close(vae.decode_clip(z, 3)[:, 2], vae.decode(z[:, 2]))


@pytest.mark.parametrize("name", ["ltx", "ltx-timed"])
def test_a_video_vae_joins_8_frames_behind_the_first(folders, name):
    vae, x = load_vae(folders / name, device="cpu"), clip(9)
    z = vae.encode_clip(x)
    assert vae.frames_per_latent == 8 and z.shape == (2, 2, 12, 2, 3)
    scale = vae.model.config.scaling_factor / vae.model.latents_std.view(1, -1, 1, 1, 1)
    raw = vae.model.encode(x.transpose(1, 2) * 2 - 1).latent_dist.mode()
    torch.testing.assert_close(z.transpose(1, 2), (raw - vae.model.latents_mean.view(1, -1, 1, 1, 1)) * scale)
    time = torch.zeros(2) if name == "ltx-timed" else None
    decoded = (vae.model.decode(raw, time).sample.transpose(1, 2) + 1) / 2
    torch.testing.assert_close(vae.decode_clip(z, 9, clamp=False), decoded, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(vae.decode_clip(z, 7), decoded.clamp(0, 1)[:, :7], atol=1e-4, rtol=1e-4)
    still = clip(4)  # filled with its last frame
    full = torch.cat([still, still[:, -1:].expand(-1, 5, -1, -1, -1)], 1)
    torch.testing.assert_close(vae.encode_clip(still), vae.encode_clip(full))
    torch.testing.assert_close(vae.encode_clip(x[:, :1])[:, 0], vae.encode(x[:, 0]))


@pytest.mark.parametrize("name", ["tiny", "ltx"])
def test_clips_of_other_forms_are_refused(folders, name):
    vae = load_vae(folders / name, device="cpu")
    for wrong in (torch.zeros(1, 3, 64, 64), torch.zeros(1, 0, 3, 64, 64), torch.zeros(1, 2, 3, 64, 65)):
        with pytest.raises(InputError, match="encodes"):
            vae.encode_clip(wrong)
    with pytest.raises(InputError, match=r"decodes 20 frames from latents"):
        vae.decode_clip(torch.zeros(1, 2, vae.channels, 2, 2), 20)
