"""Files of a model's folder, which may come from anybody: measured and checked before any library reads them.

Libraries build what a config says, whatever its sizes are, wait at a pipe for ever, and follow an index out of the
folder. Here every size has a limit, several times that of the largest model known, and each fault is one sentence.
"""

import json
import math
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foresight.errors import InputError

MAX_CONFIG = 1 << 20  # bytes of a config
MAX_JSON = 64 << 20  # bytes of a tokenizer or an index, the largest of the small files
MAX_HEADER = 16 << 20  # bytes of a safetensors file's header
MAX_NUMBER = 1e9  # of what no field below names
MAX_TEXT = 1000  # characters
MAX_VALUES = 10_000  # in a config
MAX_NESTED = 8

Width = Annotated[int, Field(ge=1, le=1 << 16)]
Channels = Annotated[int, Field(ge=1, le=1 << 13)]
Layers = Annotated[int, Field(ge=1, le=128)]
Blocks = Annotated[int, Field(ge=0, le=64)]
Heads = Annotated[int, Field(ge=1, le=512)]
Token = Annotated[int, Field(ge=0, lt=1 << 20)]
Pixels = Annotated[int, Field(ge=1, le=1 << 30)]
Positive = Annotated[float, Field(gt=0, le=MAX_NUMBER)]
Levels = Annotated[list[Channels], Field(min_length=1, max_length=8)]
Colours = Annotated[list[Annotated[float, Field(ge=-10, le=10)]], Field(min_length=3, max_length=3)]
Spreads = Annotated[list[Annotated[float, Field(gt=1e-6, le=10)]], Field(min_length=3, max_length=3)]


class _Config(BaseModel):
    """Fields whose value decides what is built or computed; others are bounded by `_bound`. None: the library's own."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Rope(_Config):
    rope_theta: Positive | None = None
    mrope_section: Annotated[list[Width], Field(max_length=3)] | None = None


class _Text(_Config):
    vocab_size: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    hidden_size: Width | None = None
    intermediate_size: Width | None = None
    num_hidden_layers: Layers | None = None
    num_attention_heads: Heads | None = None
    num_key_value_heads: Heads | None = None
    head_dim: Width | None = None
    max_position_embeddings: Annotated[int, Field(ge=1, le=1 << 24)] | None = None
    rms_norm_eps: Annotated[float, Field(gt=0, lt=1)] | None = None
    rope_theta: Positive | None = None
    rope_parameters: _Rope | None = None
    rope_scaling: _Rope | None = None
    layer_types: Annotated[list[str], Field(max_length=128)] | None = None


class _Vision(_Config):
    depth: Layers | None = None
    hidden_size: Width | None = None
    intermediate_size: Width | None = None
    num_heads: Heads | None = None
    out_hidden_size: Width | None = None
    patch_size: Annotated[int, Field(ge=1, le=128)] | None = None
    spatial_merge_size: Annotated[int, Field(ge=1, le=16)] | None = None
    temporal_patch_size: Annotated[int, Field(ge=1, le=16)] | None = None
    window_size: Annotated[int, Field(ge=28, le=1 << 14)] | None = None
    fullatt_block_indexes: Annotated[list[Annotated[int, Field(ge=0, lt=128)]], Field(max_length=128)] | None = None
    tokens_per_second: Positive | None = None
    rope_parameters: _Rope | None = None


class VLMConfig(_Text):
    """A Qwen2.5-VL's config.json; before transformers 5 the language model's fields stood beside `vision_config`."""

    text_config: _Text | None = None
    vision_config: _Vision | None = None
    image_token_id: Token | None = None
    video_token_id: Token | None = None


class _Pixels(_Config):
    shortest_edge: Pixels | None = None  # which are numbers of pixels all the same
    longest_edge: Pixels | None = None


class ImageProcessor(_Config):
    """What is read of preprocessor_config.json, or of processor_config.json's image_processor."""

    image_mean: Colours
    image_std: Spreads
    min_pixels: Pixels | None = None
    max_pixels: Pixels | None = None
    size: _Pixels | None = None


class VAEConfig(_Config):
    """The config.json of any kind of VAE."""

    in_channels: Channels | None = None
    out_channels: Channels | None = None
    latent_channels: Annotated[int, Field(ge=1, le=1024)] | None = None
    block_out_channels: Levels | None = None
    encoder_block_out_channels: Levels | None = None
    decoder_block_out_channels: Levels | None = None
    num_encoder_blocks: Annotated[list[Blocks], Field(max_length=8)] | None = None
    num_decoder_blocks: Annotated[list[Blocks], Field(max_length=8)] | None = None
    layers_per_block: Layers | Annotated[list[Blocks], Field(max_length=8)] | None = None
    decoder_layers_per_block: Annotated[list[Blocks], Field(max_length=8)] | None = None
    norm_num_groups: Channels | None = None
    patch_size: Annotated[int, Field(ge=1, le=32)] | None = None
    patch_size_t: Annotated[int, Field(ge=1, le=32)] | None = None
    upsampling_scaling_factor: Annotated[int, Field(ge=1, le=8)] | None = None
    latent_magnitude: Positive | None = None
    scaling_factor: Positive | None = None
    shift_factor: float | None = None
    latents_mean: list[float] | None = None
    latents_std: list[Positive] | None = None


def read_json(path: Path, label: str, most: int = MAX_CONFIG) -> dict[str, Any]:
    """The object in a JSON file of at most that many bytes, with every name once and finite numbers.

    Raises InputError, which begins with `label`, where it is not there, or no such file.
    """
    return parse_json(read_file(path, label, most), f"{label}: {path.name}")


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object without twin keys, NaN or infinity. Raises InputError, which begins with `what`."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            raise InputError(f"{what} has a key twice.")
        return values

    def refuse(constant: str) -> None:
        raise InputError(f"{what} has the number {constant}.")

    try:
        values = json.loads(data, object_pairs_hook=once, parse_constant=refuse)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} is not JSON.") from error
    if not isinstance(values, dict):
        raise InputError(f"{what} is not a JSON object.")
    return values


def check_config(schema: type[_Config], values: dict[str, Any], what: str) -> None:
    """Raises InputError, which begins with `what`, for the first value that the schema refuses."""
    _bound(values, what)
    try:
        schema.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        quoted = f", not {first['input']!r:.40}" if isinstance(first["input"], int | float | str) else ""
        raise InputError(f"{what}: {place[:80]}: {first['msg'].lower()}{quoted}.") from None


def without_loaders(values: dict[str, Any]) -> dict[str, Any]:
    """A config without what names code to load: an implementation of attention may be a repository on the hub."""
    return {
        name: without_loaders(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if not name.startswith("_") and name not in ("attn_implementation", "experts_implementation", "auto_map")
    }


def _bound(values: dict[str, Any], what: str) -> None:
    """Raises InputError where a config is larger than any, or has a number that can be no size."""
    level: list[tuple[str, Any]] = list(values.items())
    count = 0
    for _ in range(MAX_NESTED):
        below: list[tuple[str, Any]] = []
        for name, value in level:
            if isinstance(value, dict):
                below += value.items()
            elif isinstance(value, list):
                below += [(name, item) for item in value]
            elif isinstance(value, str) and len(value) > MAX_TEXT:
                raise InputError(f"{what}: {name[:80]!r} is a text of {len(value):,} characters.")
            elif isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= MAX_NUMBER):
                raise InputError(f"{what}: {name[:80]!r} is beyond {MAX_NUMBER:g}.")
        count += len(level)
        if count + len(below) > MAX_VALUES:
            raise InputError(f"{what} has more than {MAX_VALUES:,} values.")
        level = below
    if level:
        raise InputError(f"{what} is nested more than {MAX_NESTED} deep.")


def check_file(path: Path, label: str, most: int | None = None) -> None:
    """Raises InputError, which begins with `label`, unless there is a file there, of at most that many bytes."""
    try:
        there, size = path.is_file(), path.stat().st_size  # a pipe is none: opening it would wait for ever
    except FileNotFoundError as error:
        raise InputError(f"{label} has no {path.name}.") from error
    except OSError as error:
        raise InputError(f"{label}: {path.name[:80]} cannot be read ({error.strerror}).") from error
    if not there:
        raise InputError(f"{label}: {path.name} is no file.")
    if most is not None and size > most:
        raise InputError(f"{label}: {path.name} is larger than the {most >> 10:,} kB allowed.")


def read_file(path: Path, label: str, most: int | None = None, count: int = -1) -> bytes:
    """The first `count` bytes of a file (-1: all). Raises InputError as `check_file`, and where it cannot be read."""
    check_file(path, label, most)
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise InputError(f"{label}: {path.name} cannot be read ({error.strerror}).") from error


def check_small_files(folder: Path, label: str) -> None:
    """`check_file` of each small file that a library may open: JSON, text and templates."""
    for path in folder.iterdir():
        if path.suffix in (".json", ".jinja", ".txt"):
            check_file(path, label, MAX_JSON)


def check_weights(path: Path, label: str) -> None:
    """Raises InputError, which begins with `label`, unless a file begins as safetensors do, with a header of a size."""
    head = read_file(path, label, count=9)
    if head[8:] != b"{" or int.from_bytes(head[:8], "little") > MAX_HEADER:
        raise InputError(f"{label}: {path.name} is cut short or no safetensors file: delete it, and get it again.")


def read_weight_map(path: Path, label: str) -> dict[str, str]:
    """{weight: file} of an index of shards, which lie beside it. Raises InputError, which begins with `label`."""
    weight_map = read_json(path, label, MAX_JSON).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise InputError(f"{label}: {path.name} has no readable weight_map.")
    for file in set(weight_map.values()):
        if not re.fullmatch(r"[\w-][\w.-]{0,200}\.safetensors", file):
            raise InputError(f"{label}: {path.name} names {file[:80]!r}, which is no safetensors file beside it.")
    return weight_map
