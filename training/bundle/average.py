"""The mean of adapters' weights before and after they learned on: often better than either (Wortsman et al. 2022)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from foresight.adapters.checkpoint import list_adapters, load_adapter, save_adapter
from foresight.adapters.eight_bits import round_to_eight_bits
from foresight.adapters.modules import Adapter
from foresight.data.sources import open_photos, parse_data
from foresight.errors import InputError
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm
from training.data import collect, open_data, photo_tests
from training.fit import judge

AVERAGED = "averaged"  # in a card, where the weights are such a mean
BATCH = 64  # images at a time


def average(before: Path, after: Path, photos: Path | None, held_out: int, device: torch.device) -> list[Path]:
    """Gives each adapter under `after` the mean of its weights and of those in `before`, and scores it anew.

    photos: a folder of others than they learned from, to be judged by beside `held_out` scenes of each kind and as many
    steps of moving ones. Raises InputError where `before` has none of its name and sizes, or it is such a mean already.
    """
    folders = list_adapters(after)
    if not folders:
        raise InputError(f"there is no adapter in {after}.")
    adapters = {}
    for folder in folders:
        adapter = load_adapter(folder)
        if AVERAGED in adapter.card:
            raise InputError(f"{folder} is a mean already.")
        mix(adapter, load_adapter(before / folder.name))
        round_to_eight_bits(adapter)
        adapters[f"{adapter.point}-{adapter.kind}"] = adapter.to(device)
    scores = _scores(adapters, photos, held_out, device)
    for (name, adapter), folder in zip(adapters.items(), folders, strict=True):
        adapter.card |= {"scores": scores[name], AVERAGED: True}
        save_adapter(adapter, folder, eight_bits=True)
    return folders


@torch.no_grad()
def mix(adapter: Adapter, other: Adapter) -> None:
    """Gives an adapter the mean of its parameters and another's; its statistics stay its own.

    Raises InputError where the other is of other sizes.
    """
    if [p.shape for p in adapter.parameters()] != [p.shape for p in other.parameters()]:
        raise InputError(f"adapters of {adapter.point} have other sizes than before: they have no mean.")
    for own, weights in zip(adapter.parameters(), other.parameters(), strict=True):
        own.lerp_(weights, 0.5)


def _scores(adapters: dict[str, Adapter], photos: Path | None, held_out: int, device: torch.device) -> dict:
    """The table of `judge` on what `training bundle adapters` judges by."""
    vlm, vae = load_vlm(None, device, torch.float32), load_vae(None, device, torch.float32)
    spec = parse_data("scenes:1+motion:1")  # which kinds; none of it is learned from
    sources = replace(open_data(spec, held_out=0), count=held_out).held_out(BATCH, device)
    if photos:
        pool = open_photos([str(photos)]).photos
        sources |= photo_tests(pool, pool, BATCH, device)
    points: Sequence[str] = list(dict.fromkeys(str(adapter.point) for adapter in adapters.values()))
    sets = {title: collect(vlm, vae, source, points, shared=True) for title, source in sources.items()}
    return judge(adapters, sets, vae)
