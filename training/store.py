"""Latents on disk: shards in which what was taken from a picture is found again by the hash of its pixels.

A store is a folder. Its key.json says whose latents lie there; a shard is a safetensors file with what was taken
from n pictures of one size, {"post-merge/6": (n, 1, H, W, D), …}, and the hash and name of each in its metadata.
Shards are named after what they hold and written whole or not at all: several processes write side by
side, and one that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from foresight.adapters.checkpoint import sync
from foresight.errors import InputError
from foresight.models.vlm import VLM

FORMAT = 1  # to be raised whenever the same key comes to mean other numbers
KEY = "key.json"
_PICTURES = "pictures"  # in a shard's metadata: [[hash, name], …], row by row


def picture_hashes(pictures: Tensor) -> list[str]:
    """SHA-256 of each picture's size and pixels, (B, 3, H, W) uint8, as 32 hexadecimal digits."""
    size = str(tuple(pictures.shape[1:])).encode()
    return [hashlib.sha256(size + x.numpy().tobytes()).hexdigest()[:32] for x in pictures.cpu()]


def revision(folder: Path) -> str:
    """What tells a checkpoint from all others: the hub's commit, or a digest of its configs and weights' files."""
    if folder.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", folder.name):
        return folder.name
    digest = hashlib.sha256()
    for path in [*sorted(folder.rglob("config.json")), *sorted(folder.rglob("*.safetensors"))]:
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()[:40]


def weights_digest(model: nn.Module) -> str:
    """A digest of a model's weights as they lie in memory, dtype included, and of its config."""
    config: Any = model.config
    digest = hashlib.sha256(str(sorted((k, v) for k, v in config.items() if not k.startswith("_"))).encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def key_of(vlm: VLM) -> dict[str, Any]:
    """All that latents depend on beside the picture and the point: JSON values."""
    return {
        "format": FORMAT,
        "model revision": revision(vlm.folder),
        "processor": {name: vlm._image_settings[name] for name in ("image_mean", "image_std")},
        "opening": vlm.opening,
        "dtype": str(vlm.dtype).removeprefix("torch."),
        **({"products": "8 bits"} if vlm.fp8 else {}),
    }


class Store:
    """Opens the store in `folder`, or begins one there.

    key: what all its latents must have in common, JSON values. Raises InputError where the folder holds
    latents of another key, cannot be written, or has a shard that cannot be read.
    """

    def __init__(self, folder: str | Path, key: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self._places: dict[str, dict[str, tuple[Path, int]]] = {}  # {"post-merge/6": {hash: (shard, row)}}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"the folder {str(folder)!r} cannot be made: {error.strerror}.") from error
        self._check(key)
        for shard in sorted(self.folder.glob("*.safetensors")):
            self._enter(shard)

    def _check(self, key: dict[str, Any]) -> None:
        path = self.folder / KEY
        if not path.exists():
            self._write(path, json.dumps(key, indent=1).encode())
        try:
            stored = json.loads(path.read_bytes())
            other = [name for name in sorted(key.keys() | stored.keys()) if key.get(name) != stored.get(name)]
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"{path} cannot be read: choose another folder for these latents.") from error
        if other:
            differences = "; ".join(f"{name} {stored.get(name)!r} there, {key.get(name)!r} now" for name in other)
            raise InputError(f"{str(self.folder)!r} holds other latents ({differences}): choose another folder.")

    def _enter(self, shard: Path) -> None:
        """Notes which pictures a shard holds; only its header is read."""
        try:
            with safe_open(shard, "pt") as file:
                hashes = [key for key, _ in json.loads((file.metadata() or {})[_PICTURES])]
                names = list(file.keys())
                if any(file.get_slice(name).get_shape()[0] != len(hashes) for name in names):
                    raise ValueError("it has other rows than hashes")
                for name in names:
                    self._places.setdefault(name, {}).update({h: (shard, row) for row, h in enumerate(hashes)})
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InputError(f"the shard {shard} cannot be read ({error}): delete it, and run this again.") from error

    def lacks(self, hashes: Sequence[str], names: Iterable[str]) -> list[str]:
        """Those of `names` of which some picture has nothing yet."""
        return [name for name in names if not self._places.get(name, {}).keys() >= set(hashes)]

    def put(self, hashes: Sequence[str], images: Sequence[str], values: dict[str, Tensor]) -> None:
        """Writes a shard: values {"post-merge/6": (n, …), …} of n pictures, with their hashes and names.

        When it returns they are on the disk, whatever happens next. Raises InputError where the disk refuses.
        """
        stem = hashlib.sha256(json.dumps([sorted(values), hashes]).encode()).hexdigest()[:32]
        metadata = {_PICTURES: json.dumps(list(zip_longest(hashes, images, fillvalue="")))}
        shard = self.folder / f"{stem}.safetensors"
        self._write(shard, save({name: value.cpu().contiguous() for name, value in values.items()}, metadata))
        self._enter(shard)

    def get(self, hashes: Sequence[str], name: str, device: torch.device | str = "cpu") -> Tensor:
        """What is kept under `name` of these pictures of one size, (n, …), in their order."""
        rows: dict[Path, list[tuple[int, int]]] = {}
        for i, key in enumerate(hashes):
            shard, row = self._places[name][key]
            rows.setdefault(shard, []).append((i, row))
        parts: list[Tensor] = []
        for shard, pairs in rows.items():
            with safe_open(shard, "pt") as file:
                parts.append(file.get_tensor(name)[[row for _, row in pairs]])
        order = torch.tensor([i for pairs in rows.values() for i, _ in pairs])
        return torch.cat(parts)[order.argsort()].to(device)

    def _write(self, path: Path, data: bytes) -> None:
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
            sync(self.folder)
        except OSError as error:
            raise InputError(
                f"{str(self.folder)!r} cannot be written ({error.strerror}); what lies there stays of use."
            ) from error
        finally:
            partial.unlink(missing_ok=True)
