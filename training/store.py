"""Latents on disk: shards in which what was taken from a picture is found again by the hash of its pixels.

A store is a folder. Its key.json says whose latents lie there; a shard is a safetensors file with what was taken
from n pictures of one size, {"post-merge/6": (n, 1, H, W, D), "targets/…": (n, C, h, w)}, and the hash and name of
each in its metadata. A shard of n clips of F frames holds {"post-merge/6": (n, T, H, W, D), "targets/…": (n, J, C, h,
w), "times": (n, F), "second_per_grid": (n,)}: T = ceil(F / 2) steps; J = F for an image VAE; times in seconds from the
clip's first frame, and the seconds between its steps, both float64.
Shards are named after what they hold and written whole or not at all: several processes write side by
side, and one that was killed goes on where it was.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from foresight.errors import InputError
from foresight.models.digests import json_digest, revision
from foresight.models.vae import VAE
from foresight.models.vlm import VLM
from foresight.paths import make_folder, replacing

FORMAT = 2  # to be raised whenever the same key comes to mean other numbers
KEY = "key.json"
_PICTURES = "pictures"  # in a shard's metadata: [[hash, name], …], row by row


def picture_hashes(pictures: Tensor, fps: float | None = None) -> list[str]:
    """SHA-256 of each picture's size and pixels, (B, 3, H, W) uint8, as 32 hexadecimal digits.

    fps: of clips (B, F, 3, H, W), frames a second, on which their latents depend too.
    """
    size = (str(tuple(pictures.shape[1:])) + ("" if fps is None else f" {fps}")).encode()
    return [hashlib.sha256(size + x.numpy().tobytes()).hexdigest()[:32] for x in pictures.cpu()]


def key_of(vlm: VLM) -> dict[str, Any]:
    """All that latents depend on beside the picture and the point: JSON values."""
    return {"format": FORMAT, "weights": revision(vlm.folder), "opening": vlm.opening, **vlm.conditions}


def name_of(vae: VAE) -> str:
    """What a store keeps a VAE's latents under: others for another VAE, another scale and another dtype."""
    return f"targets/{json_digest([vae.digest, vae.statistics, str(vae.dtype)])[:12]}"


class Store:
    """Opens the store in `folder`, or begins one there.

    key: what all its latents must have in common, JSON values. Raises InputError where the folder holds
    latents of another key, cannot be written, or has a shard that cannot be read.
    """

    def __init__(self, folder: str | Path, key: dict[str, Any]) -> None:
        self.folder = make_folder(Path(folder))
        self._places: dict[str, dict[str, tuple[Path, int]]] = {}  # {"post-merge/6": {hash: (shard, row)}}
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
        try:
            with replacing(path, durable=True, shared=True) as partial:
                partial.write_bytes(data)
        except OSError as error:
            raise InputError(
                f"{str(self.folder)!r} cannot be written ({error.strerror}); what lies there stays of use."
            ) from error
