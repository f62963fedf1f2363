"""What a map of latents is made of: pictures, their latents at several points, and labels for each of them.

Shapes: B scenes, N points on the map (a scene each, or several tokens of each), D numbers a latent.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foresight import zero_gpu
from foresight.data.factors import ANY
from foresight.data.images import PATCH
from foresight.data.render import Rendered, render
from foresight.data.resolution import DEFAULT, Resolution
from foresight.data.scenes import BACKGROUNDS, COLOR_NAMES, MAX_OBJECTS, SHAPES, Scenes, SceneSpec, take
from foresight.errors import InputError
from foresight.maps.pictures import FilePictures, Pictures, ScenePictures
from foresight.maps.separability import Array
from foresight.metrics.matching import position_name, size_name
from foresight.metrics.patches import traits
from foresight.models.points import STAGES, ExtractionPoint
from foresight.models.vlm import VLM
from foresight.schemas import MAX_SEED, Below, Choice, Whole, schema

SPLIT = "test"  # no adapter was trained on these scenes, so their scores are honest
BACKGROUND = "background"  # the label of a token that shows no object
METHODS = ("umap", "pca", "t-sne")
KINDS = ("shape", "colour", "size", "position", "background", "objects")
MEASURES = ("radius", "x", "y")
_COVER = 0.25  # of a token's cell that an object must fill to be what the token shows
_BATCH = 16  # scenes of 224² through the model at a time
MOST = 2 * 10**9  # bytes of a map's latents, at all its points together


@schema
class MapSpec:
    """A map's settings, which the form, the address and the API take alike, and the key under which it is kept.

    Raises:
        InputError: A setting is beyond its limits, or they do not go together.
    """

    points: tuple[str, ...]
    """Extraction points, one layer of the map each."""
    scenes: Annotated[int, Whole("scenes", 20, 20_000, "How many, drawn by the seed.")] = 400
    seed: Annotated[int, Whole("the seed", 0, MAX_SEED)] = 0
    tokens: Annotated[int, Whole("tokens a scene", 0, 64, "Drawn by the seed. None: the mean of all.")] = 0
    dimensions: Annotated[int, Whole("dimensions", 2, 3)] = 2
    objects: Annotated[int, Whole("objects", 1, MAX_OBJECTS, "In a scene, up to so many.")] = 1
    """With several, labels are those of the largest."""
    background: Annotated[str, Choice("background", (ANY, *BACKGROUNDS))] = "white"
    neighbours: Annotated[int, Whole("neighbours", 2, 200, "Few: fine structure. Many: the broad picture.")] = 15
    min_dist: Annotated[float, Below("the least distance", 0, 1, "How close points may be drawn.")] = 0.1
    clusters: Annotated[int, Whole("clusters", 2, 30, "k-means on the latents.")] = 8
    method: Annotated[str, Choice("method", METHODS)] = METHODS[0]
    """How latents become places on the map. Neighbours are t-SNE's perplexity; PCA has none."""
    pixels: str = str(DEFAULT)
    """How large the model sees each picture, as `Resolution.parse` reads it."""
    pictures: str = ""
    """The id of a person's own pictures, `scenes` of them; empty for drawn scenes."""

    def __post_init__(self) -> None:
        if not self.points:
            raise InputError("choose at least one extraction point.")
        Resolution.parse(self.pixels)
        if self.neighbours >= self.size:
            raise InputError(f"{self.neighbours} neighbours need more than the map's {self.size} points.")

    @property
    def size(self) -> int:
        """N, the points on the map."""
        return self.scenes * max(1, self.tokens)

    @property
    def id(self) -> str:
        """12 hexadecimal digits that stand for it on a page."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]

    @property
    def latents_spec(self) -> MapSpec:
        """The spec of the latents alone: the same for all maps that can be drawn of them."""
        return replace(self.scenes_spec, points=self.points, tokens=self.tokens)

    @property
    def scenes_spec(self) -> MapSpec:
        """The spec of the scenes alone: the same for all maps of them, whatever is drawn."""
        names = ("scenes", "seed", "objects", "background", "pixels", "pictures")
        shared = {name: getattr(self, name) for name in names}
        return MapSpec(points=("scenes",), neighbours=2, **shared)

    def scene_spec(self) -> SceneSpec:
        """What the sampler of scenes takes."""
        backgrounds = BACKGROUNDS if self.background == ANY else (self.background,)
        return SceneSpec(objects=(1, self.objects), backgrounds=backgrounds)


def noun(spec: MapSpec, count: int) -> str:
    """What a number of the map's points are."""
    return ("token" if spec.tokens else "picture" if spec.pictures else "scene") + ("" if count == 1 else "s")


@dataclass(frozen=True)
class Progress:
    """How far a stage is; total is 0 where nobody knows."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class MapData:
    """Latents of pictures and what they are of.

    Attributes:
        rows: (N,) the picture of each point of the map.
        cells: (N, 2) row and column of its token, None where pooled.
        latents: {point: (N, D) float32}.
        labels: {name: (N,) names}, of scenes those in KINDS.
        measures: {name: (N,) float32}, of scenes those in MEASURES: the radius in pixels, x and y as fractions; NaN for
            a token that shows no object.
    """

    spec: MapSpec
    pictures: Pictures
    rows: Array
    cells: Array | None
    latents: dict[str, Array]
    labels: dict[str, Array]
    measures: dict[str, Array]

    @property
    def bytes(self) -> int:
        """What its columns take in memory."""
        return sum(column.nbytes for table in (self.latents, self.labels, self.measures) for column in table.values())


def in_depth_order(vlm: VLM, points: tuple[str, ...]) -> tuple[str, ...]:
    """The points, each once, in order of depth. Raises InputError for those that the VLM lacks."""
    return tuple(str(p) for p in sorted({vlm.point(p) for p in points}, key=lambda p: p.depth))


def extract(vlm: VLM, spec: MapSpec, own: FilePictures | None = None) -> Generator[Progress, None, MapData]:
    """Takes the latents of a spec's pictures at all its points, in one pass.

    own: a person's own pictures; None for scenes.

    Yields:
        Progress, in pictures.

    Returns:
        The latents and what they are of.

    Raises:
        InputError: They would be over MOST bytes; nothing was taken then.
    """
    size = 4 * spec.size * sum(vlm.width(point) for point in spec.points)
    if size > MOST:
        fewer = f"{'pictures' if own else 'scenes'}{', tokens' if spec.tokens else ''} or layers"
        raise InputError(
            f"the latents of this map would take {size / 1e9:.1f} GB, of {MOST / 1e9:g} at most: take fewer {fewer}."
        )
    resolution = vlm.resolution(spec.pixels)
    if own is not None:
        return (yield from _extract_files(vlm, spec, replace(own, resolution=resolution)))
    scenes = take(spec.scenes, spec.seed, spec.scene_spec(), SPLIT)
    seen = scenes.resized(resolution.size(*scenes.size))
    batch = max(1, _BATCH * DEFAULT.most // max(DEFAULT.most, math.prod(seen.size)))
    random = np.random.default_rng(spec.seed)
    latents: dict[str, list[Array]] = {point: [] for point in spec.points}
    facts: list[dict[str, Array]] = []
    cells: list[Array] = []
    yield Progress("latents", 0, spec.scenes)
    for start, part in zip(range(0, spec.scenes, batch), seen.chunks(batch), strict=True):
        chosen = token_cells(random, len(part), part.size, spec.tokens) if spec.tokens else None
        rows, batch_facts = _of_scenes(vlm, part, spec.points, chosen)
        for point, values in rows.items():
            latents[point].append(values)
        facts.append(batch_facts)
        cells += [] if chosen is None else [chosen.reshape(-1, 2)]
        yield Progress("latents", min(start + batch, spec.scenes), spec.scenes)
    labels, measures = split_facts({name: np.concatenate([part[name] for part in facts]) for name in facts[0]})
    return MapData(
        spec=spec,
        pictures=ScenePictures(scenes, resolution),
        rows=np.repeat(np.arange(spec.scenes), max(1, spec.tokens)),
        cells=np.concatenate(cells) if cells else None,
        latents={point: np.concatenate(parts) for point, parts in latents.items()},
        labels=labels,
        measures=measures,
    )


def _extract_files(vlm: VLM, spec: MapSpec, own: FilePictures) -> Generator[Progress, None, MapData]:
    """`extract` of files, one by one, for each has a size of its own. Raises InputError where one cannot be read."""
    random = np.random.default_rng(spec.seed)
    latents: dict[str, list[Array]] = {point: [] for point in spec.points}
    cells: list[Array] = []
    facts: list[dict[str, str]] = []
    yield Progress("latents", 0, len(own))
    for number in range(len(own)):
        image, _ = own.pixels(number)
        chosen = token_cells(random, 1, (image.shape[1], image.shape[2]), spec.tokens) if spec.tokens else None
        for point, values in rows_at(vlm, image, spec.points, chosen).items():
            latents[point].append(values)
        cells += [] if chosen is None else [chosen[0]]
        facts.append({"folder": own.folder(number), **traits(image)})
        yield Progress("latents", number + 1, len(own))
    rows = np.repeat(np.arange(len(own)), max(1, spec.tokens))
    return MapData(
        spec=spec,
        pictures=own,
        rows=rows,
        cells=np.concatenate(cells) if cells else None,
        latents={point: np.concatenate(parts) for point, parts in latents.items()},
        labels={name: np.array([picture_facts[name] for picture_facts in facts])[rows] for name in facts[0]},
        measures={},
    )


@zero_gpu.computes(zero_gpu.PICTURE)
def _of_scenes(
    vlm: VLM, scenes: Scenes, points: tuple[str, ...], cells: Array | None
) -> tuple[dict[str, Array], dict[str, Array]]:
    """`rows_of` scenes at each point, and what they or their tokens show."""
    rendered = render(scenes.to(vlm.device))
    grids = vlm.latents(rendered.images.float() / 255, points)
    facts = scene_facts(scenes) if cells is None else token_facts(scenes, rendered, cells)
    return {point: rows_of(grids[point], point, cells) for point in points}, facts


@zero_gpu.computes(zero_gpu.PICTURE)
def rows_at(vlm: VLM, image: Tensor, points: tuple[str, ...], cells: Array | None) -> dict[str, Array]:
    """`rows_of` an image (3, H, W) at each point."""
    grids = vlm.latents(image[None], points)
    return {point: rows_of(grids[point], point, cells) for point in points}


def split_facts(facts: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Labels and measures, as MapData has them."""
    return {name: facts[name] for name in KINDS}, {name: facts[name].astype(np.float32) for name in MEASURES}


def token_cells(random: np.random.Generator, scenes: int, size: tuple[int, int], count: int) -> Array:
    """(B, count, 2) rows and columns of different cells of 28 pixels, evenly drawn."""
    height, width = size[0] // PATCH, size[1] // PATCH
    if count > height * width:
        raise InputError(f"a picture of {size[1]} × {size[0]} pixels has {height * width} tokens, not {count}.")
    flat = np.stack([np.sort(random.permutation(height * width)[:count]) for _ in range(scenes)])
    return np.stack([flat // width, flat % width], -1)


def rows_of(latents: Tensor, point: str, cells: Array | None) -> Array:
    """Latents (B, 1, h, w, D) → (N, D): their mean, or those at `cells` (B, count, 2).

    Before the merger, a cell is the mean of the 2 × 2 patches that become one token: so a point of the map
    stays the same part of the picture at every layer.
    """
    values = latents[:, 0].float()  # (B, h, w, D)
    if cells is None:
        return values.mean((1, 2)).cpu().numpy()
    if ExtractionPoint.parse(point).stage == STAGES[0]:
        values = F.avg_pool2d(values.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    rows, columns = torch.from_numpy(cells).to(values.device).unbind(-1)  # (B, count) each
    return values[torch.arange(len(values), device=values.device)[:, None], rows, columns].flatten(0, 1).cpu().numpy()


def _object_facts(scenes: Scenes, slots: Tensor) -> dict[str, Array]:
    """What scenes (B) show at one slot each (B,) or several (B, n), flattened."""
    index = torch.arange(len(scenes))[(...,) + (None,) * (slots.ndim - 1)].expand_as(slots)
    x, y, radius, _ = scenes.place[index, slots].flatten(0, -2).numpy().T
    return {
        "shape": np.array(SHAPES)[scenes.shape[index, slots].flatten()],
        "colour": np.array(COLOR_NAMES)[scenes.color[index, slots].flatten()],
        "size": np.array([size_name(r) for r in radius.tolist()]),
        "position": positions(x, y),
        "background": np.array(BACKGROUNDS)[scenes.background[index].flatten()],
        "objects": scenes.count[index].flatten().numpy().astype(str),
        "radius": radius * 224,
        "x": x,
        "y": y,
    }


def positions(x: Array, y: Array) -> Array:
    """The third of the picture, down and across, that fractions (N,) lie in: "top left" …"""
    return np.array([position_name(*place) for place in zip(x.tolist(), y.tolist(), strict=True)])


def scene_facts(scenes: Scenes) -> dict[str, Array]:
    """What each scene shows: its largest object."""
    used = torch.arange(scenes.shape.shape[1]) < scenes.count[:, None]
    return _object_facts(scenes, torch.where(used, scenes.place[..., 2], -1.0).argmax(1))


def token_facts(scenes: Scenes, rendered: Rendered, cells: Array) -> dict[str, Array]:
    """What each token shows: the object that fills most of its cell, if it fills a quarter; and where it lies."""
    cover = F.avg_pool2d(rendered.visible.float(), PATCH).cpu()  # (B, slots, h, w)
    rows, columns = torch.from_numpy(cells).unbind(-1)
    covers = cover[torch.arange(len(scenes))[:, None], :, rows, columns]  # (B, count, slots)
    most, slots = covers.max(-1)
    facts, empty = _object_facts(scenes, slots), (most < _COVER).flatten().numpy()
    for name in ("shape", "colour", "size"):
        facts[name] = np.where(empty, BACKGROUND, facts[name])
    facts["radius"] = np.where(empty, np.nan, facts["radius"])
    facts["x"] = (cells[..., 1].flatten() + 0.5) / cover.shape[-1]
    facts["y"] = (cells[..., 0].flatten() + 0.5) / cover.shape[-2]
    facts["position"] = positions(facts["x"], facts["y"])
    return facts
