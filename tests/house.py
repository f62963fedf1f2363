"""A whole house at tiny sizes, of the real classes: a VLM, a VAE, and adapters for two points."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import diffusers
import torch

from foresight.adapters.checkpoint import save_adapter
from foresight.adapters.identity import KEY, identity_of
from foresight.adapters.modules import KINDS, ONE_POINT, SEVERAL_POINTS
from foresight.inspection.inspector import Inspector
from foresight.models.points import ExtractionPoint
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm
from foresight.schemas import to_json

WIDTHS = (8, 8, 8, 8)
SIZES = {"linear": {}, "tokens": {"hidden": 16}, "pooled": {"hidden": 16, "canvas": 8}}
SIZES |= {kind: {"hidden": 16, "layers": 2} for kind in SEVERAL_POINTS}


def save_vae(folder: Path, seed: int = 0) -> None:
    torch.manual_seed(seed)
    one = (1,) * 4
    diffusers.AutoencoderTiny(
        encoder_block_out_channels=WIDTHS,
        decoder_block_out_channels=WIDTHS,
        num_encoder_blocks=one,
        num_decoder_blocks=one,
        latent_channels=4,
    ).save_pretrained(folder)


@lru_cache
def _identity(vlm: Path, vae: Path, at: str) -> dict[str, Any]:
    return to_json(identity_of(load_vlm(vlm, "cpu"), load_vae(vae, "cpu"), ExtractionPoint.parse(at)))


def save_tiny_adapter(
    folder: Path, kind: str, at: str, house: Path, seed: int = 0, fitted: dict[str, Any] | None = None, **card: Any
) -> Path:
    """An adapter with random weights and statistics that fits the models in `house`.

    fitted: what its card's identity says otherwise.
    """
    torch.manual_seed(seed)
    width, fold = (32, 2) if at.startswith("pre-merge") else (48, 1)
    width *= SIZES[kind].get("layers", 1)
    facts = {"point": at, "model": str(house / "vlm"), "vae": str(house / "vae")}
    facts |= {KEY: _identity(house / "vlm", house / "vae", at) | (fitted or {})} | card
    adapter = KINDS[kind](width, 4, fold, 4, **SIZES[kind], card=facts)
    adapter.far.fill_(0.5)
    return save_adapter(adapter.eval(), folder)


def build_house(tiny_vlm: Path, house: Path) -> Inspector:
    """Models and adapters on disk under `house`: all kinds at post-merge/1, a linear probe at pre-merge/2."""
    house.mkdir(parents=True, exist_ok=True)
    (house / "vlm").symlink_to(tiny_vlm)
    save_vae(house / "vae")
    for kind in ONE_POINT:
        save_tiny_adapter(house / "bundled" / f"post-merge-1-{kind}", kind, "post-merge/1", house)
    save_tiny_adapter(house / "bundled/pre-merge-2-linear", "linear", "pre-merge/2", house)
    vlm, vae = load_vlm(house / "vlm", device="cpu"), load_vae(house / "vae", device="cpu")
    return Inspector(vlm, vae, [house / "bundled", house / "runs"])
