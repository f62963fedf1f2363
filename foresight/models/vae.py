"""The frozen VAE: pictures to latents and back. The only file that knows a VAE's scale, shift and range.

Shapes: B pictures, 3 channels, H x W pixels; C latent channels, h x w cells, h = H / downscale. Clips have F frames
and J latents in time.
"""

import json
import logging
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from safetensors import SafetensorError
from torch import Tensor

from foresight.errors import InputError
from foresight.models.digests import files_digest, joined, json_digest
from foresight.models.hub import folder_of, pinned
from foresight.models.placement import device_of, dtype_of
from foresight.models.untrusted import VAEConfig, check_config, check_weights, read_json, read_weight_map
from foresight.paths import ASSETS

BUNDLED = ASSETS / "vae"
_STEM = "diffusion_pytorch_model"  # one file; or shards and their index
_WEIGHTS = (f"{_STEM}.safetensors", f"{_STEM}.safetensors.index.json", f"{_STEM}-*.safetensors")


class VAE(ABC):
    """A frozen diffusers autoencoder whose latents are scaled as its diffusion models expect them.

    z = (raw - mean) * scaling_factor / std, per channel; each kind below says where it keeps these numbers.
    All kinds take and give pixels in [-1, 1] (AutoencoderTiny moves them to [0, 1] inside itself).
    """

    _layout = torch.channels_last  # a quarter less time than NCHW on two CPU cores

    def __init__(self, model: Any, name: str, device: torch.device, dtype: torch.dtype, folder: Path) -> None:
        self.model = model
        self.name = name
        self._folder = folder
        self.kind: str = type(model).__name__
        self.channels: int = model.config.latent_channels
        # In float32, so before the model is cast.
        mean, std = (torch.as_tensor(v).float().reshape(1, -1, 1, 1) for v in self._statistics())
        scale = model.config.scaling_factor / std
        if not (scale.isfinite().all() and (scale > 0).all() and mean.isfinite().all()):
            raise InputError(f"VAE {name!r} scales its latents by numbers that are not finite and above 0.")
        # The scale and the shift of its latents, z = (raw - shift) · scale: one number, or one per channel.
        self.statistics = tuple(scale.flatten().tolist()), tuple(mean.flatten().tolist())
        self._shift, self._scale = mean.to(device), scale.to(device)
        model.to(device, memory_format=self._layout)
        model.type(dtype)  # not .to(dtype), at which diffusers warns for nothing
        model.requires_grad_(False).eval()
        self.device: torch.device = model.device  # where the weights are; inputs are moved there

    @cached_property
    def digest(self) -> str:
        """A digest of the files that its weights come from and of its config, but for scale and shift."""
        single, shards = self._folder / _WEIGHTS[0], self._folder.glob(_WEIGHTS[2])
        statistics = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
        config = json.loads((self._folder / "config.json").read_bytes())
        config = {k: v for k, v in config.items() if not k.startswith("_") and k not in statistics}
        return joined([files_digest([single] if single.is_file() else shards), json_digest([self.kind, config])])

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in; latents and pictures are float32 all the same."""
        return self.model.dtype

    @property
    @abstractmethod
    def downscale(self) -> int:
        """Pixels along each side of one latent cell: 8, or 32 for LTX-Video."""

    @property
    @abstractmethod
    def widest(self) -> int:
        """Channels of the decoder where it is widest, counted for each pixel: what decoding needs memory for."""

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] to scaled latents (B, C, h, w), float32, without a gradient.

        Deterministic: the mode of the posterior, where the model has one. InputError where H or W is no
        multiple of `downscale`.
        """
        if x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape or any(n % self.downscale for n in x.shape[2:]):
            raise InputError(
                f"VAE {self.name!r} encodes pictures (B, 3, H, W) whose H and W are multiples of "
                f"{self.downscale}, not {tuple(x.shape)}."
            )
        x = x.to(self.device, torch.float32) * 2 - 1
        raw = self._encode(x.to(self.dtype))  # (B, C, h, w)
        return (raw.float() - self._shift) * self._scale

    def decode(self, z: Tensor, clamp: bool = True) -> Tensor:
        """Scaled latents (B, C, h, w) to pictures (B, 3, H, W) in [0, 1], float32, differentiable in z.

        `clamp=False` leaves values outside [0, 1] as they are, so that a training loss has a gradient there.
        InputError where C is not `channels`.
        """
        if z.ndim != 4 or z.shape[1] != self.channels or 0 in z.shape:
            raise InputError(f"VAE {self.name!r} decodes latents (B, {self.channels}, h, w), not {tuple(z.shape)}.")
        raw = z.to(self.device, torch.float32) / self._scale + self._shift
        x = (self._decode(raw.to(self.dtype)).float() + 1) / 2  # (B, 3, H, W)
        return x.clamp(0, 1) if clamp else x

    @property
    def frames_per_latent(self) -> int:
        """Frames of a clip that one latent joins, but for the first, which is a frame of its own: 1, or 8 for LTX."""
        return 1

    @torch.no_grad()
    def encode_clip(self, x: Tensor) -> Tensor:
        """Clips (B, F, 3, H, W) in [0, 1] to scaled latents (B, J, C, h, w), float32, without a gradient.

        J is F for an image VAE, which sees each frame by itself, and 1 + ceil((F - 1) / frames_per_latent) for a
        video VAE, which sees the last frame again where frames are missing. InputError as for `encode`.
        """
        self._check_clip(x, x.shape[2:3] == (3,), "encodes clips (B, F, 3, H, W)")
        return self.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def decode_clip(self, z: Tensor, frames: int, clamp: bool = True) -> Tensor:
        """Scaled latents (B, J, C, h, w) to clips of F frames (B, F, 3, H, W), as `decode` does.

        InputError where J is not what `encode_clip` gives for F frames.
        """
        self._check_latents(z, frames)
        return self.decode(z.flatten(0, 1), clamp).unflatten(0, z.shape[:2])

    def _check_clip(self, x: Tensor, right: bool, what: str) -> None:
        if x.ndim != 5 or 0 in x.shape or not right:
            raise InputError(f"VAE {self.name!r} {what}, not {tuple(x.shape)}.")

    def _check_latents(self, z: Tensor, frames: int) -> None:
        count = 1 - -(frames - 1) // self.frames_per_latent
        what = f"decodes {frames} frames from latents (B, {count}, {self.channels}, h, w)"
        self._check_clip(z, frames > 0 and z.shape[1:3] == (count, self.channels), what)

    @abstractmethod
    def _statistics(self) -> tuple[Any, Any]:
        """Mean and standard deviation of the raw latents: a number, or one per channel."""

    @abstractmethod
    def _encode(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [-1, 1] to raw latents (B, C, h, w)."""

    def _decode(self, raw: Tensor) -> Tensor:
        """Raw latents (B, C, h, w) to pixels (B, 3, H, W), about [-1, 1]."""
        return self.model.decode(raw).sample


@final
class TinyVAE(VAE):
    """AutoencoderTiny (TAESD and ours): no posterior; scaling_factor 1 and shift_factor 0 as a rule."""

    @property
    def downscale(self) -> int:
        return 2 ** (len(self.model.config.encoder_block_out_channels) - 1)

    @property
    def widest(self) -> int:
        return self.model.config.decoder_block_out_channels[-1]

    def _statistics(self) -> tuple[Any, Any]:
        return self.model.config.shift_factor, 1.0

    def _encode(self, x: Tensor) -> Tensor:
        return self.model.encode(x).latents


@final
class KLVAE(VAE):
    """AutoencoderKL: scaling_factor (Stable Diffusion), with shift_factor (Flux) or mean and std lists."""

    @property
    def downscale(self) -> int:
        return 2 ** (len(self.model.config.block_out_channels) - 1)

    @property
    def widest(self) -> int:
        return max(self.model.config.block_out_channels[:2])  # the last block begins with those of the one before

    def _statistics(self) -> tuple[Any, Any]:
        config = self.model.config
        if config.latents_mean is not None and config.latents_std is not None:
            return config.latents_mean, config.latents_std
        return config.shift_factor or 0.0, 1.0

    def _encode(self, x: Tensor) -> Tensor:
        return self.model.encode(x).latent_dist.mode()


@final
class LTXVideoVAE(VAE):
    """AutoencoderKLLTXVideo, of one frame or a clip; latents_mean and latents_std lie beside the weights."""

    _layout = torch.contiguous_format

    @property
    def downscale(self) -> int:
        return self.model.spatial_compression_ratio

    @property
    def widest(self) -> int:
        return max(1, max(self.model.config.decoder_block_out_channels) // self.model.config.patch_size**2)

    def _statistics(self) -> tuple[Any, Any]:
        return self.model.latents_mean, self.model.latents_std

    @property
    def frames_per_latent(self) -> int:
        return self.model.temporal_compression_ratio

    @torch.no_grad()
    def encode_clip(self, x: Tensor) -> Tensor:
        whole = x.shape[2:3] == (3,) and not any(n % self.downscale for n in x.shape[3:])
        self._check_clip(x, whole, f"encodes clips (B, F, 3, H, W) whose H and W are multiples of {self.downscale}")
        missing = -(x.shape[1] - 1) % self.frames_per_latent
        x = torch.cat([x, x[:, -1:].expand(-1, missing, -1, -1, -1)], 1).transpose(1, 2)  # (B, 3, F, H, W)
        x = x.to(self.device, torch.float32) * 2 - 1
        raw = self.model.encode(x.to(self.dtype)).latent_dist.mode()  # (B, C, J, h, w)
        return (raw.transpose(1, 2).float() - self._shift) * self._scale

    def decode_clip(self, z: Tensor, frames: int, clamp: bool = True) -> Tensor:
        self._check_latents(z, frames)
        raw = z.to(self.device, torch.float32) / self._scale + self._shift
        raw = raw.transpose(1, 2).to(self.dtype)
        x = (self.model.decode(raw, self._time(raw)).sample.float() + 1) / 2  # (B, 3, 1 + 8 (J - 1), H, W)
        x = x.transpose(1, 2)[:, :frames]
        return x.clamp(0, 1) if clamp else x

    def _encode(self, x: Tensor) -> Tensor:
        return self.model.encode(x.unsqueeze(2)).latent_dist.mode().squeeze(2)  # (B, C, 1, h, w) inside

    def _decode(self, raw: Tensor) -> Tensor:
        return self.model.decode(raw.unsqueeze(2), self._time(raw)).sample.squeeze(2)  # (B, 3, 1, H, W) inside

    def _time(self, raw: Tensor) -> Tensor | None:
        # From version 0.9.1 on the decoder is told how noisy its latents are; ours are clean: time 0.
        return raw.new_zeros(len(raw)) if self.model.config.timestep_conditioning else None


KINDS: dict[str, type[VAE]] = {
    "AutoencoderTiny": TinyVAE,
    "AutoencoderKL": KLVAE,
    "AutoencoderKLLTXVideo": LTXVideoVAE,
}


def load_vae(
    name: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> VAE:
    """Load a VAE from a folder or hub id, frozen; None is the bundled one.

    The folder or repository holds config.json and safetensors weights of one of `KINDS`, itself or, as a
    pipeline's (FLUX.1, LTX-Video), in its subfolder `vae`. `device`: None is the GPU where there is one.
    `dtype`: on a GPU bfloat16, which has the range that KL VAEs need; float32 on the CPU, and for
    AutoencoderTiny, which is small enough. InputError, in one sentence, for whatever cannot be found or used.
    """
    where = BUNDLED if name is None else name
    label = "bundled" if name is None else str(name)
    root = folder_of(where, ["config.json", "vae/config.json"], "VAE")
    inside = "" if (root / "config.json").is_file() else "vae/"
    kind = _read_kind(root / inside / "config.json", label)
    folder = folder_of(pinned(where, root), [inside + file for file in _WEIGHTS], "VAE") / inside

    on = device_of(device)
    dtype = dtype_of(dtype or (torch.float32 if kind == "AutoencoderTiny" else None), on)
    return KINDS[kind](_read_model(kind, folder, label), label, on, dtype, folder)


def _read_kind(path: Path, label: str) -> str:
    """The class that a config.json names, one of KINDS."""
    config = read_json(path, f"VAE {label!r}")
    kind = config.get("_class_name")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"VAE {label!r} is of class {str(kind)[:80]}; supported are {', '.join(KINDS)}.")
    check_config(VAEConfig, config, f"VAE {label!r}: config.json")
    return kind


def _read_model(kind: str, folder: Path, label: str) -> Any:
    """The model on the CPU, whole and finite."""
    if not any((folder / file).exists() for file in _WEIGHTS[:2]):
        raise InputError(f"VAE {label!r} has no {_WEIGHTS[0]}; weights in other formats are not read.")
    index = folder / _WEIGHTS[1]
    single = (folder / _WEIGHTS[0]).is_file()
    shards = {_WEIGHTS[0]} if single else set(read_weight_map(index, f"VAE {label!r}").values())
    for file in shards:
        check_weights(folder / file, f"VAE {label!r}")
    import diffusers  # here, because it takes 3 s

    # AutoencoderTiny writes an attribute into its config at which diffusers warns when it reads it back.
    logging.getLogger("diffusers.configuration_utils").setLevel(logging.ERROR)
    try:
        # In the dtype on disk: asking for another leaves torch's default dtype changed where loading fails.
        model, report = getattr(diffusers, kind).from_pretrained(folder, use_safetensors=True, output_loading_info=True)
    # What diffusers raises over a config that builds nothing, and over weights that are broken or do not fit.
    except (OSError, SafetensorError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"VAE {label!r} cannot be loaded as {kind}: {reason}") from error
    if report["missing_keys"]:
        raise InputError(f"VAE {label!r} lacks the weight {min(report['missing_keys'])!r} of its {kind}.")
    if report["unexpected_keys"]:
        raise InputError(f"VAE {label!r} has {min(report['unexpected_keys'])!r}, which its {kind} does not.")
    for key, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise InputError(f"VAE {label!r} has values that are not finite in {key!r}.")
    if (model.config.in_channels, model.config.out_channels) != (3, 3):
        raise InputError(f"VAE {label!r} is not for RGB pictures: its channels in and out are not 3.")
    if any(model.config.get("decoder_inject_noise", ())):
        raise InputError(f"VAE {label!r} draws noise while it decodes, so that no picture could be repeated.")
    return model
