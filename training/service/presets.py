"""What a person may set before a run, as plain JSON values: presets, checks, and what the choice will cost."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from foresight.adapters.modules import KINDS, TokenAdapter
from foresight.data.scenes import BACKGROUNDS, COLOR_NAMES, MAX_OBJECTS, SHAPES, SceneSpec
from foresight.data.sources import DataSpec, PhotoPart, ScenePart
from foresight.errors import InputError
from foresight.models.points import ExtractionPoint
from foresight.models.vae import VAE
from foresight.models.vlm import VLM
from foresight.schemas import MAX_SEED, instead, is_number, whole
from training.data import SIDE, scene_data
from training.fit import FitConfig, new_adapter
from training.loop import Recipe

Settings = dict[str, Any]  # by the names in DEFAULTS
Points = Sequence[ExtractionPoint]

DATA = ("mixture", "factors", "pictures", "mixture and pictures")
LOSSES: dict[str, dict[str, Any]] = {
    "latents": {"images_from": 1.0},
    "latents, then pixels": {"images_from": 0.3, "perceptual_weight": 0.0},
    "latents, then pixels and LPIPS": {"images_from": 0.3},
}
DEFAULTS: Settings = {  # hidden 0: a quarter of the latents' width; an empty list of shapes: all of them
    "points": [],
    "kinds": ["tokens"],
    "hidden": 0,
    "data": "mixture",
    "scenes": 2000,
    "photos_weight": 1.0,
    "objects": [1, 5],
    "shapes": [],
    "colors": [],
    "radius": [12, 64],
    "backgrounds": [],
    "steps": 2000,
    "batch": 32,
    "lr": 1e-3,
    "loss": "latents, then pixels and LPIPS",
    "seed": 0,
    "held_out": 64,
}
LIMITS: dict[str, tuple[int, int]] = {
    "hidden": (0, 4096),
    "scenes": (16, 1_000_000),
    "steps": (1, 1_000_000),
    "batch": (1, 4096),
    "seed": (0, MAX_SEED),
    "held_out": (1, 4096),
}
ONE_ON_WHITE: Settings = {"data": "factors", "objects": [1, 1], "backgrounds": ["white"]}
FEW_PHOTOS = 250  # as many as an upload may have
ACTIVATIONS = 60  # bytes that a token adapter keeps for each cell of the VAE and each number of its hidden width
NOUNS = {"hidden": "the hidden width", "held_out": "held-out pictures", "batch": "the batch", "seed": "the seed"}
LISTS = ("points", "kinds", "shapes", "colors", "backgrounds")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}")


def quick_look(points: Points) -> Settings:
    """A token adapter for one object on white at the end of the vision tower: about a minute on two CPU cores."""
    last = max((p for p in points if p.stage == "pre-merge"), key=lambda p: p.layer)
    sizes = {"hidden": 64, "scenes": 160, "steps": 400, "batch": 8, "lr": 6e-3, "held_out": 32}
    return DEFAULTS | ONE_ON_WHITE | sizes | {"points": [str(last)], "loss": "latents"}


def linear_probe(points: Points) -> Settings:
    """What one linear map for each token can read off, without any processing; solved exactly, in no steps."""
    return DEFAULTS | _middle(points) | {"kinds": ["linear"]}


def tokens(points: Points) -> Settings:
    """The design of the bundled adapters: hidden width a quarter of the latents', 20M parameters at 7B's 3584."""
    return DEFAULTS | _middle(points) | {"scenes": 20_000, "steps": 4000, "batch": 64, "lr": 1.5e-3}


def seeds_own(points: Points) -> Settings:
    """The seed study's: 100 epochs on 200 pictures of one shape, the mean of all tokens, no picture looked at."""
    sizes = {"hidden": 2048, "scenes": 200, "steps": 625, "batch": 32, "lr": 1e-3}
    shapes = {"shapes": ["circle", "square", "triangle"], "radius": [25, 60]}
    return DEFAULTS | _middle(points) | ONE_ON_WHITE | shapes | sizes | {"kinds": ["pooled"], "loss": "latents"}


def _middle(points: Points) -> Settings:
    """The point half-way through the language model, as in the seed study."""
    return {
        "points": [str(ExtractionPoint("post-merge", max(p.layer for p in points if p.stage == "post-merge") // 2))]
    }


PRESETS: dict[str, Callable[[Points], Settings]] = {
    "quick look": quick_look,
    "linear probe": linear_probe,
    "tokens, 20M at 7B": tokens,
    "seed's own: pooled MLP, 2048": seeds_own,
}


def config_of(settings: Settings, vlm: VLM, pictures: str | None = None) -> FitConfig:
    """Settings → what to fit.

    Args:
        settings: by the names in DEFAULTS; what is left out is as there.
        vlm: that the points are of.
        pictures: the folder that an upload was unpacked into.

    Raises:
        InputError: names the first setting that is not possible.
    """
    if unknown := sorted(settings.keys() - DEFAULTS.keys()):
        raise InputError(f"there is no setting {unknown[0]!r}: choose from {', '.join(DEFAULTS)}.")
    chosen = DEFAULTS | settings
    numbers = {name: whole(chosen[name], NOUNS.get(name, name), *limits) for name, limits in LIMITS.items()}
    for name in LISTS:
        if not isinstance(chosen[name], list | tuple) or not all(isinstance(n, str) for n in chosen[name]):
            raise InputError(f"{name} must be a list of names, not {chosen[name]!r}.")
    if not chosen["points"]:
        raise InputError("choose at least one extraction point.")
    for noun, given, known in (
        ("kind", chosen["kinds"], KINDS),
        ("kind of data", [chosen["data"]], DATA),
        ("loss", [chosen["loss"]], tuple(LOSSES)),
    ):
        if not given or not all(name in known for name in given):
            wrong = f"unknown {noun} in {list(given)}" if given else f"no {noun} is chosen"
            raise InputError(f"{wrong}: choose from {'; '.join(known)}.")
    steps, lr = numbers["steps"], _rate(chosen["lr"])
    return FitConfig(
        points=tuple(dict.fromkeys(str(vlm.point(p)) for p in chosen["points"])),
        kinds=tuple(dict.fromkeys(chosen["kinds"])),
        data=_data(chosen, numbers["scenes"], pictures),
        hidden=numbers["hidden"] or None,
        recipe=Recipe(steps, numbers["batch"], lr, min(100, steps // 10), seed=numbers["seed"]),
        factors=_factors(chosen) if chosen["data"] == "factors" else None,
        held_out=numbers["held_out"],
        **LOSSES[chosen["loss"]],
    )


def _data(chosen: Settings, scenes: int, pictures: str | None) -> DataSpec:
    """The settings' data: scenes, an upload's photos, or both; "photos_weight" is of photos beside scenes."""
    if "pictures" not in chosen["data"]:
        return scene_data(scenes)
    if pictures is None:
        raise InputError("choose a zip of pictures first, or let scenes be generated.")
    weight = chosen["photos_weight"]
    if not is_number(weight) or not 0.01 <= weight <= 100:
        raise InputError(f"the photos' weight must be from 0.01 to 100{instead(weight)}.")
    mixed = chosen["data"] != "pictures"
    return DataSpec(ScenePart(scenes) if mixed else None, (PhotoPart((pictures,), float(weight) if mixed else 1.0),))


def _factors(chosen: Settings) -> SceneSpec:
    for name in ("objects", "radius"):
        ends = chosen[name]
        if not isinstance(ends, list | tuple) or len(ends) != 2 or not all(is_number(end) for end in ends):
            raise InputError(f"{name} must be a least and a largest number.")
    objects, radius = [whole(n, "objects", 1, MAX_OBJECTS) for n in chosen["objects"]], chosen["radius"]
    return SceneSpec(
        objects=(objects[0], objects[1]),
        shapes=tuple(chosen["shapes"]) or SHAPES,
        colors=tuple(chosen["colors"]) or COLOR_NAMES,
        radius=(float(radius[0]), float(radius[1])),
        backgrounds=tuple(chosen["backgrounds"]) or BACKGROUNDS,
    )


def _rate(value: Any) -> float:
    if not is_number(value) or not 1e-7 <= value <= 1:
        raise InputError(f"the learning rate must be from 0.0000001 to 1{instead(value)}.")
    return float(value)


def checked_name(name: str, taken: set[str]) -> str:
    """A name for a run or an adapter: small letters, digits, dots, dashes; not taken, and no kind's name."""
    if not _NAME.fullmatch(name):
        raise InputError(f"the name {name!r} must be 1 to 60 of a-z, 0-9, dot, dash and _, beginning with a-z or 0-9.")
    if name in KINDS:
        raise InputError(f"the name {name!r} is what bundled adapters go by: choose another.")
    if name in taken:
        raise InputError(f"the name {name!r} is taken: choose another.")
    return name


def new_name(wish: str, taken: set[str]) -> str:
    """A free name like `wish`: "quick look" → "quick-look", or "quick-look-2"."""
    stem = re.sub(r"[^a-z0-9]+", "-", wish.lower()).strip("-")[:50] or "run"
    names = [stem, *(f"{stem}-{k}" for k in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken and name not in KINDS)


def cost(config: FitConfig, vlm: VLM, vae: VAE) -> dict[str, Any]:
    """What a config asks for: {"parameters": {"post-merge/6-tokens": n, …}, "bytes": about as much memory}.

    Bytes are those of whichever takes more: the models beside latents, targets and pictures; or these beside
    weights, gradients, two moments and averages, and the activations of a batch through adapters and, where
    pictures are looked at, the decoder. The libraries' own come on top.
    """
    sizes: dict[str, int] = {}
    kept = 0  # of a picture, by all adapters, for the backward pass
    cells = SIDE * 8 // 7 // vae.downscale
    row = 4 * vae.channels * cells**2 + 4 * SIDE**2  # a picture's targets, pixels and mask
    for point in map(vlm.point, config.points):
        side = SIDE // (14 if point.stage == "pre-merge" else 28)
        row += side**2 * vlm.width(point) * vlm.dtype.itemsize
        for kind in config.kinds:
            with torch.device("meta"):  # shapes alone
                adapter = new_adapter(kind, point, vlm, vae, config.hidden)
            sizes[f"{point}-{kind}"] = adapter.parameter_count
            if isinstance(adapter, TokenAdapter):
                kept += ACTIVATIONS * cells**2 * adapter.stem.out_features
    models = sum(p.numel() * m.dtype.itemsize for m in (vlm, vae) for p in m.model.parameters())
    looked = _decoder_bytes(vae, config.window) if config.images_from < 1 else 0
    activations = config.recipe.batch * (kept + len(sizes) * looked)
    learning = 5 * 4 * sum(sizes.values()) + activations
    return {"parameters": sizes, "bytes": _rows(config.data) * row + max(models, learning)}


def _rows(data: DataSpec) -> int:
    """How many images a config learns from; of photos alone, whose number is not known yet, as if they were few."""
    scenes = 0 if data.scenes is None else data.scenes.count
    return scenes + sum(data.photo_rows([FEW_PHOTOS] * len(data.photos)))


@lru_cache(maxsize=4)
def _decoder_bytes(vae: VAE, window: int | None) -> int:
    """What the decoder keeps of one picture, or of a window of it, for its backward pass, measured on one."""
    whole = SIDE * 8 // 7 // vae.downscale
    side = min(window or whole, whole)
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    z = torch.zeros(1, vae.channels, side, side, device=vae.device, requires_grad=True)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        vae.decode(z, clamp=False)
    weights = {p.untyped_storage().data_ptr() for p in vae.model.parameters()}
    return sum(size for address, size in kept.items() if address not in weights)
