"""What adapters learn from and are judged by: generated scenes of chosen factors, or a folder of pictures.

Shapes: B pictures of H × W pixels; uploads become squares of SIDE pixels, so that one tensor holds them all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from foresight.data.archive import Broken
from foresight.data.images import load_image, resize, to_tensor
from foresight.data.render import render
from foresight.data.scenes import Scenes, SceneSpec, take
from foresight.errors import InputError
from foresight.inspection.evaluation import folder_files
from foresight.metrics.masks import foreground
from foresight.models.points import ExtractionPoint
from foresight.models.vae import VAE
from foresight.models.vlm import VLM
from training.latents import WHITE, Batch, Extractor, Latents, gather, mixture
from training.store import Store

SIDE = 224  # pixels a side of an uploaded picture, cut to its middle square
LEAST_PICTURES = 10  # of which two can be held out
MOST_HELD_OUT = 4  # one in so many of a folder's pictures at most, so that most are learned from
ONE_ON_WHITE = SceneSpec(objects=(1, 1), backgrounds=WHITE)
HELD_OUT = {"one object on white": ONE_ON_WHITE, "1-5 objects, all backgrounds": SceneSpec()}
HELD_OUT_SEED = 2000

Tell = Callable[[int, int], None]  # how many pictures of how many are done


@dataclass(frozen=True)
class Source:
    """`count` pictures that are drawn or read as they are asked for, one part after the other."""

    count: int
    parts: list[Callable[[], Batch]]


def scene_source(groups: list[Scenes], batch: int, device: torch.device) -> Source:
    """Scenes, rendered on `device`, at most `batch` at a time."""

    def draw(part: Scenes) -> Batch:
        drawn = render(part.to(device), batch)
        return drawn.images, drawn.mask

    chunks = [part for group in groups for part in group.chunks(batch)]
    return Source(sum(map(len, chunks)), [partial(draw, part) for part in chunks])


def chosen_scenes(count: int, seed: int, factors: SceneSpec | None, split: str) -> list[Scenes]:
    """`count` scenes of a split: of the chosen factors, or (None) of the usual mixture."""
    return mixture(count, seed, split) if factors is None else [take(count, seed, factors, split)]


def picture_source(files: list[Path], batch: int, side: int = SIDE) -> Source:
    """Files of pictures, each cut to its middle square, of `side` pixels; a mask is what stands out there."""

    def read(part: list[Path]) -> Batch:
        x = torch.stack([_square(file, side) for file in part])
        return (x * 255).round().byte(), foreground(x)[0]

    parts = [files[i : i + batch] for i in range(0, len(files), batch)]
    return Source(len(files), [partial(read, part) for part in parts])


def _square(file: Path, side: int) -> Tensor:
    image = load_image(file)
    whole = min(image.size)
    left, top = (image.width - whole) // 2, (image.height - whole) // 2
    return resize(to_tensor(image.crop((left, top, left + whole, top + whole)))[None], (side, side))[0]


def readable(files: Sequence[Path]) -> tuple[list[Path], list[Broken]]:
    """Files of pictures, and those that are none, each with the reason."""
    good, broken = list[Path](), list[Broken]()
    for file in files:
        try:
            load_image(file)
        except InputError as error:
            broken.append(Broken(file.name, str(error)))
        else:
            good.append(file)
    return good, broken


def files_digest(files: Sequence[Path]) -> str:
    """What tells a set of files from all others: a digest of what they hold."""
    each = sorted(hashlib.sha256(file.read_bytes()).digest() for file in files)
    return hashlib.sha256(b"".join(each)).hexdigest()[:16]


def split_pictures(folder: str | Path, held_out: int) -> dict[str, list[Path]]:
    """A folder's pictures by split, chosen by a hash of what the files hold.

    Copies of one picture fall on one side, where they are held out as one; what is no picture is left out. A smaller
    `held_out` holds out some of what a larger one does.

    Args:
        folder: Where the pictures lie.
        held_out: How many different pictures to hold out; never more than one in MOST_HELD_OUT.

    Returns:
        "test": the files held out. "val": a tenth, to choose by. "train": the rest.

    Raises:
        InputError: There are too few different pictures to hold any out.
    """
    kinds: dict[str, list[Path]] = {}
    for file in readable(folder_files(folder))[0]:
        kinds.setdefault(hashlib.sha256(file.read_bytes()).hexdigest(), []).append(file)
    if len(kinds) < LEAST_PICTURES:
        raise InputError(f"{len(kinds)} different pictures are too few to train on: at least {LEAST_PICTURES}, please.")
    order = [kinds[digest] for digest in sorted(kinds)]
    test = min(held_out, len(order) // MOST_HELD_OUT)
    val = test + len(order) // 10
    files = {"val": order[test:val], "train": order[val:]}
    return {"test": [same[0] for same in order[:test]]} | {
        split: [file for same in part for file in same] for split, part in files.items()
    }


def collect(
    vlm: VLM,
    vae: VAE,
    source: Source,
    points: Sequence[str | ExtractionPoint],
    store: Store | None = None,
    tell: Tell | None = None,
    together: bool = False,
) -> Latents:
    """Latents of a source's pictures, all points in one pass.

    store: keeps them on disk, and has those that an earlier run took. tell: called after each batch.
    together: every process calls this, does its share, and ends with all latents.
    """
    with Extractor(vlm, vae, points, store) as extractor:
        return gather(extractor, source.parts, source.count, tell, together)


def held_out_sources(
    factors: SceneSpec | None, pictures: str | None, count: int, batch: int, device: torch.device
) -> dict[str, Source]:
    """What a run is judged by: {title: at most `count` pictures that it never learned from}.

    The held-out pictures of a folder; or scenes of the test split, of the run's own factors or of HELD_OUT.
    """
    if pictures is not None:
        return {"held-out pictures": picture_source(split_pictures(pictures, count)["test"], batch)}
    titles = {spec: title for title, spec in HELD_OUT.items()}
    specs = HELD_OUT if factors is None else {titles.get(factors, "scenes like its own"): factors}
    return {
        title: scene_source([take(count, HELD_OUT_SEED, spec, "test")], batch, device) for title, spec in specs.items()
    }
