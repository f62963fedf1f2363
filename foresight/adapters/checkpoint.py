"""An adapter's folder: model.safetensors and config.json. Written whole or not at all; read with suspicion.

A folder may come from anybody, so files are measured before they are read, and what they hold must be exactly
what the config builds: the safetensors library itself takes NaN, twin keys and headers of 100 MB.
"""

import copy
import inspect
import math
import os
import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save_file
from torch import Tensor

from foresight.adapters.eight_bits import SCALE, matrices, to_eight_bits, to_floats
from foresight.adapters.modules import KINDS, Adapter
from foresight.errors import InputError
from foresight.metrics.intervals import Interval
from foresight.models.hub import folder_of
from foresight.models.points import ExtractionPoint
from foresight.models.untrusted import parse_json, read_file, read_json
from foresight.paths import sync

WEIGHTS, CONFIG = "model.safetensors", "config.json"
MAX_WEIGHTS = 512 << 20  # bytes; a TokenAdapter for the 7B model has 40 MB
MAX_HEADER = 64 << 10  # bytes; about 500 tensors
MAX_CONFIG = 64 << 10  # bytes
MAX_SIZE = 1 << 16  # of any whole number in a config
DTYPES = ("F16", "BF16", "F32")
EIGHT_BITS = "I8"  # of a matrix beside its scales
ABSENT = {"frames": 1, "steps": 1}  # what a config from before clips leaves out, and means


def save_adapter(adapter: Adapter, folder: str | Path, eight_bits: bool = False) -> Path:
    """Writes an adapter in float16; a reader sees each file as it was or as it is now, never a part of it.

    eight_bits: writes its matrices as `to_eight_bits` makes them, which `load_adapter` reads and the hub's own mixin
    does not. InputError, with the folder as it was, where a weight is not finite in float16 (±65504).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    half = copy.deepcopy(adapter).cpu().half()
    tensors = half.state_dict()
    if eight_bits:
        for key, matrix in matrices(adapter).items():
            tensors[key], tensors[key + SCALE] = (part.cpu() for part in to_eight_bits(matrix))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as name:
        stage = Path(name)
        # What PyTorchModelHubMixin recorded of the constructor's arguments; the card may have grown since.
        arguments = cast(dict[str, Any], adapter._hub_mixin_config)
        config = {"kind": adapter.kind, **arguments, "card": adapter.card}
        half.save_pretrained(stage, config=config)  # and a README.md, which is left behind
        if eight_bits:
            save_file(tensors, stage / WEIGHTS, {"format": "pt"})
        read_back = _load(stage, f"adapter {str(folder)!r}").state_dict()
        for key, value in to_floats(tensors).items():
            if not torch.equal(read_back[key], value):
                raise OSError(f"{key} of adapter {str(folder)!r} reads back otherwise than it was written.")
        for file in (WEIGHTS, CONFIG):
            sync(stage / file)
            os.replace(stage / file, folder / file)
    sync(folder)
    return folder


def load_adapter(name: str | Path) -> Adapter:
    """The adapter of a folder or hub id, in float32 on the CPU, in eval mode.

    InputError names what is wrong: a file that is missing, too large, cut short or no safetensors; a config
    that builds no adapter; a tensor that is missing, unknown, of another shape or dtype, or not finite.
    """
    return _load(folder_of(name, [WEIGHTS, CONFIG], "adapter"), f"adapter {str(name)!r}")


def describe_adapter(name: str | Path) -> dict[str, Any]:
    """The checked config of an adapter's folder or hub id, without its weights: kind, sizes and card."""
    return _read_config(folder_of(name, [CONFIG], "adapter"), f"adapter {str(name)!r}")


def build_empty(config: dict[str, Any], label: str) -> Adapter:
    """The adapter that a checked config builds, shapes alone: it may ask for more memory than there is.

    InputError, which begins with `label`, where its tensors are too large to be counted.
    """
    with torch.device("meta"):
        return _build(config, label)


def check_weights(folder: Path, adapter: Adapter, label: str) -> None:
    """Raises InputError, which begins with `label`, unless a folder's weights are those of an adapter and all there.

    The numbers are not read: whether they are finite, loading tells.
    """
    head = read_file(folder / WEIGHTS, label, count=8 + MAX_HEADER)
    length, header = _read_header(head, _shapes(adapter), label)
    size = (folder / WEIGHTS).stat().st_size
    ends = [entry.get("data_offsets", [0, -1])[-1] for entry in header.values()]
    if not all(type(end) is int for end in ends) or size != 8 + length + max(ends):
        raise InputError(f"{label}: {WEIGHTS} is cut short or too long.")


def list_adapters(root: str | Path) -> list[Path]:
    """Every adapter's folder under `root`, sorted; nothing in them is read, and hidden ones are left out."""
    # Unlike rglob, os.walk passes over folders that are deleted or renamed while it looks.
    folders = [Path(place) for place, _, files in os.walk(root) if {WEIGHTS, CONFIG} <= {*files}]
    return sorted(folder for folder in folders if not folder.name.startswith("."))


def score_tables(scores: Any) -> dict[str, dict[str, Interval]]:
    """What a card's "scores" tell of held-out pictures: {their title: {score: interval}}, finite, by the alphabet.

    low and high are None where the mean is of one picture.

    A card may come from anybody and hold anything: what is of another form is left out.
    """
    tables = sorted(scores.items(), key=lambda pair: str(pair[0])) if isinstance(scores, dict) else ()
    return {
        title: {name: Interval(*interval) for name, interval in table.items() if _is_interval(interval)}
        for title, table in tables
        if isinstance(table, dict)
    }


def held_out_count(scores: Any, title: str | None = None) -> int | None:
    """Over how many held-out pictures a card's means are; None where it tells no such number.

    title: of one set of them; else, or where the card does not tell sets apart, of the smallest.
    """
    of_title = _count(_within(scores, title, "measured", "lpips"))  # which every picture has
    return _count(_within(scores, "n")) if of_title is None else of_title


def measured(scores: Any, title: str, score: str) -> int | None:
    """How many of the held-out pictures of that title have the score, so that it is their mean.

    A mask IoU cannot be measured in every reconstruction. All of them where the card tells nothing else.
    """
    count = _count(_within(scores, title, "measured", score))
    return held_out_count(scores, title) if count is None else count


def measured_share(scores: Any, title: str, score: str) -> str:
    """ "97 of 128", where a card's mean is of fewer than all its held-out pictures; else empty."""
    count, known = held_out_count(scores, title), measured(scores, title, score)
    return "" if count is None or known is None or known >= count else f"{known:,} of {count:,}"


def reference_mean(scores: Any, title: str, which: str, score: str) -> float | None:
    """The mean of "blank" or "oracle" over the same held-out pictures; None where the card does not tell it."""
    value = _within(scores, title, which, score)
    return value if isinstance(value, float) and math.isfinite(value) else None


def gain_on_blank(scores: Any, title: str, score: str) -> Interval | None:
    """By how much a held-out picture's score is better than its blank page's; None where the card does not tell it."""
    interval = _within(scores, title, "gain", score)
    return Interval(*interval) if _is_interval(interval) else None


def no_better_than_blank(scores: Any) -> list[str]:
    """The titles of held-out pictures on which the LPIPS is no better than that of a blank page.

    It is better where the whole 95 % interval of its gain is above 0.
    """
    gains = {title: gain_on_blank(scores, title, "lpips") for title in score_tables(scores)}
    return [t for t, gain in gains.items() if gain and (gain.mean if gain.low is None else gain.low) <= 0]


def _within(value: Any, *keys: str | None) -> Any:
    """What objects inside each other hold under these keys; None where one is no object, or lacks its key."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 10**15 else None


def _is_interval(interval: Any) -> bool:
    if not isinstance(interval, list) or len(interval) != 3:
        return False
    ends = interval[:1] if interval[1:] == [None, None] else interval
    return all(isinstance(v, float) and math.isfinite(v) for v in ends)


def misfits(
    config: dict[str, Any],
    *,
    width: int,
    channels: int,
    downscale: int,
    frames_per_latent: int = 1,
) -> list[str]:
    """Sizes that keep the adapter of this config from serving a VLM and a VAE; empty where all are right.

    config: as from `describe_adapter`. width: of the VLM's latents at the adapter's point. channels, downscale,
    frames_per_latent: the VAE's. InputError where the card names no extraction point.
    """
    point = ExtractionPoint.parse(str(config["card"].get("point")))
    side = (16 if point.stage == "pre-merge" else 32) * config["fold"]  # pixels of the VAE under one token
    compared = [
        (f"takes at {point} a width of", config["width"], width),
        ("makes latents whose channels are", config["channels"], channels),
        ("paints a token as squares of VAE cells with the side", config["cells"], side / downscale),
    ]
    if config["steps"] > 1:  # others serve every VAE, a video VAE image by image
        compared.append(("joins as frames in one latent of the VAE", 2 * config["steps"], frames_per_latent))
    return [f"it {what} {its}, not {here}" for what, its, here in compared if its != here]


# Below, `label` begins every sentence: adapter 'runs/tokens'.


def _load(folder: Path, label: str) -> Adapter:
    config = _read_config(folder, label)
    weights = _read_weights(folder / WEIGHTS, _shapes(build_empty(config, label)), label)
    adapter = _build(config, label)
    adapter.load_state_dict(weights)
    return adapter.eval()


def _read_config(folder: Path, label: str) -> dict[str, Any]:
    config = read_json(folder / CONFIG, label, MAX_CONFIG)
    kind = config.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"{label}: its kind is {kind!r}; known are {', '.join(KINDS)}.")
    config = ABSENT | config
    if wrong := sorted(config.keys() ^ {"kind", *inspect.signature(KINDS[kind]).parameters}):
        fault = "has the unknown key" if wrong[0] in config else "lacks the key"
        raise InputError(f"{label}: {CONFIG} {fault} {wrong[0]!r}.")
    if not isinstance(config["card"], dict):
        raise InputError(f"{label}: the card in its {CONFIG} is not an object.")
    for key, value in config.items():
        if key not in ("kind", "card") and not (type(value) is int and 0 < value <= MAX_SIZE):
            raise InputError(f"{label}: {key} is {value!r}; allowed are whole numbers from 1 to {MAX_SIZE}.")
    return config


def _build(config: dict[str, Any], label: str) -> Adapter:
    try:
        return KINDS[config["kind"]](**{key: value for key, value in config.items() if key != "kind"})
    except RuntimeError as error:  # more numbers than torch can count
        raise InputError(f"{label}: {CONFIG} asks for tensors that are too large.") from error


def _shapes(adapter: Adapter) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in adapter.state_dict().items()}


def _read_weights(path: Path, shapes: dict[str, list[int]], label: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, exactly those of `shapes`."""
    data = read_file(path, label, MAX_WEIGHTS)
    _read_header(data, shapes, label)
    try:
        weights = to_floats(parse_safetensors(data))
    except SafetensorError as error:
        raise InputError(f"{label}: {WEIGHTS} is broken: {error}.") from error
    for key, value in weights.items():
        if not value.isfinite().all():
            raise InputError(f"{label}: {key!r} has values that are not finite.")
    return weights


def _read_header(data: bytes, shapes: dict[str, list[int]], label: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The length in bytes of a safetensors file's header and its entries, exactly those of `shapes`."""
    length = int.from_bytes(data[:8], "little")
    if data[8:9] != b"{" or length > MAX_HEADER:
        pickled = data[:2] == b"PK" or data[:1] == b"\x80"  # torch.save's zip, or a bare pickle
        fault = "is a pickle and not opened" if pickled else "has no safetensors header, or one too long"
        raise InputError(f"{label}: {WEIGHTS} {fault}.")
    header = parse_json(data[8 : 8 + length], f"{label}: the header of {WEIGHTS}")
    header.pop("__metadata__", None)
    dtypes = {key: entry.get("dtype") for key, entry in header.items() if isinstance(entry, dict)}
    eight_bits = [key for key, shape in shapes.items() if dtypes.get(key) == EIGHT_BITS and len(shape) > 1]
    shapes = shapes | {key + SCALE: shapes[key][:1] for key in eight_bits}
    if missing := sorted(shapes.keys() - header.keys()):
        raise InputError(f"{label}: {WEIGHTS} lacks {missing[0]!r}, which its config builds.")
    for key, entry in header.items():
        if key not in shapes:
            raise InputError(f"{label}: {WEIGHTS} has {key!r}, which its config does not build.")
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if shape != shapes[key]:
            raise InputError(f"{label}: {key!r} has the shape {shape}; its config says {shapes[key]}.")
        if (dtype := dtypes[key]) not in DTYPES and key not in eight_bits:
            raise InputError(f"{label}: {key!r} is of dtype {dtype}; allowed are {', '.join(DTYPES)}.")
    return length, header
