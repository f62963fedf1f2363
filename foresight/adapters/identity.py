"""What an adapter depends on: the latents that it reads and those that it writes, known by digests, not by names."""

import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from foresight.errors import InputError
from foresight.models.points import ExtractionPoint
from foresight.models.vae import VAE
from foresight.models.vlm import VLM, wrong_transformers
from foresight.schemas import from_json, schema

KEY = "identity"  # in a card


@schema
class Identity:
    """In an adapter's card: what it was fitted with. What must be the same where it is used, `FIXED` names.

    weights: digest of the files with the weights that latents at its point depend on. commit: the hub's, where the
    model came from there: equal commits have equal weights. config: digest of the settings that the forward reads.
    mean, std: of the processor's colours. opening: the text before the picture, empty where the point lies before it.
    dtype: of the latents. pixels: of the images that it was fitted on, about. vae, vae_scale, vae_shift: digest of
    the VAE's weights and config, and how its latents are scaled. torch, transformers: versions.
    """

    weights: str
    config: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    opening: str
    dtype: str
    vae: str
    vae_scale: tuple[float, ...]
    vae_shift: tuple[float, ...]
    torch: str
    transformers: str
    commit: str | None = None
    pixels: tuple[int, ...] = (224 * 224,)


FIXED = {
    "weights": "other weights of the VLM",
    "config": "other settings of the VLM",
    "mean": "another mean of colours",
    "std": "another spread of colours",
    "opening": "another text before the picture",
    "vae": "another VAE",
    "vae_scale": "another scale of the VAE's latents",
    "vae_shift": "another shift of the VAE's latents",
}
ROUNDED = {  # what changes latents by rounding alone
    "dtype": "another dtype",
    "torch": "another torch",
    "transformers": "another transformers",
}


def identity_of(vlm: VLM, vae: VAE, point: ExtractionPoint, weights: str | None = None) -> Identity:
    """Of an adapter that is fitted here to a VLM's latents at a point and to a VAE's.

    weights: digest of the VLM's, where it is known.
    """
    before = point.stage == "pre-merge" or point.layer == 0  # the text does not matter there
    scale, shift = vae.statistics
    return Identity(
        weights=weights or vlm.weights_digest(point),
        commit=vlm.commit,
        opening="" if before else vlm.opening,
        vae=vae.digest,
        vae_scale=scale,
        vae_shift=shift,
        torch=version("torch"),
        transformers=version("transformers"),
        **vlm.conditions,
    )


def read_identity(card: Mapping[str, Any]) -> Identity:
    """What a card says. Raises InputError where it says nothing, or what cannot be read."""
    if not isinstance(card.get(KEY), dict):
        raise InputError(
            "its card does not say which weights it was fitted with: fit it again or, if you know them, write them "
            "into it with `python -m training bundle stamp`."
        )
    try:
        return from_json(Identity, card[KEY])
    except InputError as error:
        raise InputError(f"the identity in its card cannot be read ({str(error).rstrip('.')}).") from error


def compare(fitted: Identity, vlm: VLM, vae: VAE, point: ExtractionPoint) -> tuple[list[str], list[str]]:
    """How a VLM and a VAE differ from what an adapter was fitted with: what forbids its use, and what is rounding."""
    # Equal commits are not looked into: what is not downloaded yet has no digest here.
    same = fitted.commit is not None and fitted.commit == vlm.commit
    current = identity_of(vlm, vae, point, fitted.weights if same else None)

    def differing(parts: Mapping[str, str]) -> list[str]:
        values = {
            words: (_release(getattr(fitted, part)), _release(getattr(current, part))) for part, words in parts.items()
        }
        return [f"{words} ({_short(a)}, here {_short(b)})" for words, (a, b) in values.items() if a != b]

    wrong = wrong_transformers(fitted.transformers)
    return differing(FIXED) + ([wrong] if wrong else []), differing(ROUNDED)


def _release(value: Any) -> Any:
    """A version without its last part, which changes no numbers; anything else as it is."""
    version_parts = re.match(r"(\d+\.\d+)\.\d", value) if isinstance(value, str) else None
    return version_parts[1] if version_parts else value


def _short(value: Any) -> str:
    """A digest's beginning; a text or numbers, but not all of a video VAE's hundreds."""
    if isinstance(value, str):
        return value[:12] if re.fullmatch("[0-9a-f]{64}", value) else repr(value)
    numbers = [f"{number:g}" for number in value]
    return ", ".join(numbers[:4] + ["…"] * (len(numbers) > 4))
