"""What a person may set before a run, declared once for form, API and job; presets; what the choice will cost."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any

import torch
from torch import Tensor

from foresight.adapters.modules import KINDS, ONE_POINT, TokenAdapter
from foresight.data.factors import MAX_OBJECTS, Backgrounds, Colors, Objects, SceneFactors, SceneSpec, Shapes
from foresight.data.sources import DataSpec, PhotoPart, ScenePart
from foresight.errors import InputError
from foresight.models.points import ExtractionPoint
from foresight.models.vae import VAE
from foresight.models.vlm import VLM
from foresight.schemas import MAX_SEED, Choice, Names, Number, Range, Whole, schema
from training.data import scene_data
from training.fit import FitConfig, new_adapter, sides_of
from training.loop import Recipe

Points = Sequence[ExtractionPoint]

DATA = ("mixture", "factors", "pictures", "mixture and pictures")
LOSSES: dict[str, dict[str, Any]] = {
    "latents": {"images_from": 1.0},
    "latents, then pixels": {"images_from": 0.3, "perceptual_weight": 0.0},
    "latents, then pixels and LPIPS": {"images_from": 0.3},
}
KEPT = ("the best", "the last")
VALIDATED = {"cpu": 8, "cuda": 32}  # pictures of each kind by which the best state is chosen
FEW_PHOTOS = 250  # as many as an upload may have
ACTIVATIONS = 60  # bytes that a token adapter keeps for each cell of the VAE and each number of its hidden width
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}")
_POINTS_HELP = "Several share one pass through the model and train side by side."
_START_HELP = "None: from random weights. A lower learning rate keeps more of what one knows."
_PIXELS_HELP = "How large the model sees each picture to learn from; of several sizes at every one."
_HIDDEN_HELP = "Of pooled and tokens. 0 is a quarter of the latents' width, at least 128."


@schema
class TrainingSettings:
    """What a person may set before a run. Of shapes, colours and backgrounds none chosen means any."""

    points: Annotated[tuple[str, ...], Names("extraction points", at_least_one=True, help=_POINTS_HELP)]
    kinds: Annotated[tuple[str, ...], Names("kinds", ONE_POINT, at_least_one=True)] = ("tokens",)
    hidden: Annotated[int, Whole("the hidden width", 0, 4096, _HIDDEN_HELP)] = 0
    start: Annotated[tuple[str, ...], Names("adapters to begin from", help=_START_HELP)] = ()
    """Each as "post-merge/6 tokens": a point and an adapter's name. It keeps its own hidden width."""
    data: Annotated[str, Choice("kind of data", DATA)] = "mixture"
    scenes: Annotated[int, Whole("scenes", 16, 1_000_000)] = 2000
    photos_weight: Annotated[float, Number("the photos' weight", 0.01, 100)] = 1.0
    """Photos for each scene, where both are learned from."""
    objects: Objects = (1, MAX_OBJECTS)
    """The fewest and the most of a scene, where `data` is "factors", as with all that follow up to backgrounds."""
    shapes: Shapes = ()
    colors: Colors = ()
    radius: Annotated[tuple[float, float], Range("radius", 12, 64)] = (12, 64)
    """Pixels at a shorter side of 224."""
    backgrounds: Backgrounds = ()
    steps: Annotated[int, Whole("steps", 1, 1_000_000)] = 2000
    batch: Annotated[int, Whole("the batch", 1, 4096)] = 32
    lr: Annotated[float, Number("the learning rate", 1e-7, 1)] = 1e-3
    loss: Annotated[str, Choice("loss", tuple(LOSSES))] = "latents, then pixels and LPIPS"
    keep: Annotated[str, Choice("state to keep", KEPT)] = "the best"
    """The best at 40, 60, 80 or 100 % of the steps, by the LPIPS of a few validation pictures."""
    pixels: Annotated[tuple[str, ...], Names("sizes", at_least_one=True, help=_PIXELS_HELP)] = ("224²",)
    seed: Annotated[int, Whole("the seed", 0, MAX_SEED)] = 0
    held_out: Annotated[int, Whole("held-out pictures", 1, 4096)] = 64

    @property
    def uses_photos(self) -> bool:
        return "pictures" in self.data


def quick_look(points: Points) -> TrainingSettings:
    """A token adapter for one object on white at the end of the vision tower: about a minute on two CPU cores."""
    last = max((p for p in points if p.stage == "pre-merge"), key=lambda p: p.layer)
    return TrainingSettings(
        points=(str(last),),
        hidden=64,
        data="factors",
        scenes=160,
        objects=(1, 1),
        backgrounds=("white",),
        steps=400,
        batch=8,
        lr=6e-3,
        loss="latents",
        held_out=32,
    )


def linear_probe(points: Points) -> TrainingSettings:
    """What one linear map for each token can read off, without any processing; solved exactly, in no steps."""
    return TrainingSettings(points=_middle(points), kinds=("linear",))


def tokens(points: Points) -> TrainingSettings:
    """The design of the bundled adapters: hidden width a quarter of the latents', 20M parameters at 7B's 3584."""
    return TrainingSettings(points=_middle(points), scenes=20_000, steps=4000, batch=64, lr=1.5e-3)


def seeds_own(points: Points) -> TrainingSettings:
    """The seed study's: 100 epochs on 200 images of one shape, the mean of all tokens, a loss on latents alone."""
    return TrainingSettings(
        points=_middle(points),
        kinds=("pooled",),
        hidden=2048,
        data="factors",
        scenes=200,
        objects=(1, 1),
        shapes=("circle", "square", "triangle"),
        radius=(25, 60),
        backgrounds=("white",),
        steps=625,
        loss="latents",
    )


def _middle(points: Points) -> tuple[str]:
    """The point half-way through the language model, as in the seed study."""
    return (str(ExtractionPoint("post-merge", max(p.layer for p in points if p.stage == "post-merge") // 2)),)


PRESETS: dict[str, Callable[[Points], TrainingSettings]] = {
    "quick look": quick_look,
    "linear probe": linear_probe,
    "tokens, 20M at 7B": tokens,
    "seed's own: pooled MLP, 2048": seeds_own,
}


def fit_config(settings: TrainingSettings, vlm: VLM, photos: str | None = None) -> FitConfig:
    """Settings → what to fit.

    Args:
        settings: What a person chose.
        vlm: The model that the points are of.
        photos: The folder that an upload was unpacked into.

    Raises:
        InputError: A point or a factor is unknown, or photos are to be learned from and there are none.
    """
    return FitConfig(
        points=tuple(dict.fromkeys(str(vlm.point(point)) for point in settings.points)),
        kinds=settings.kinds,
        data=_data(settings, photos),
        hidden=settings.hidden or None,
        start=settings.start,
        chosen_by=VALIDATED.get(vlm.device.type, 8) if settings.keep == "the best" else 0,
        recipe=Recipe(settings.steps, settings.batch, settings.lr, min(100, settings.steps // 10), seed=settings.seed),
        factors=_factors(settings) if settings.data == "factors" else None,
        held_out=settings.held_out,
        sides=sides_of(settings.pixels),
        **LOSSES[settings.loss],
    )


def _data(settings: TrainingSettings, photos: str | None) -> DataSpec:
    """Scenes, an upload's photos, or both."""
    if not settings.uses_photos:
        return scene_data(settings.scenes)
    if photos is None:
        raise InputError("choose a zip of pictures first, or let scenes be generated.")
    if settings.data == "pictures":
        return DataSpec(None, (PhotoPart((photos,), 1.0),))
    return DataSpec(ScenePart(settings.scenes), (PhotoPart((photos,), settings.photos_weight),))


def _factors(settings: TrainingSettings) -> SceneSpec:
    factors = SceneFactors(settings.objects, settings.shapes, settings.colors, backgrounds=settings.backgrounds)
    return replace(factors.spec(), radius=settings.radius)


def checked_name(name: str, used: set[str]) -> str:
    """A name for a run or an adapter: small letters, digits, dots, dashes; not taken, and no kind's name."""
    if not _NAME.fullmatch(name):
        raise InputError(f"the name {name!r} must be 1 to 60 of a-z, 0-9, dot, dash and _, beginning with a-z or 0-9.")
    if name in KINDS:
        raise InputError(f"the name {name!r} is what bundled adapters go by: choose another.")
    if name in used:
        raise InputError(f"the name {name!r} is taken: choose another.")
    return name


def new_name(title: str, used: set[str]) -> str:
    """A free name like `title`: "quick look" → "quick-look", or "quick-look-2"."""
    stem = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:50] or "run"
    names = [stem, *(f"{stem}-{k}" for k in range(2, len(used) + 3))]
    return next(name for name in names if name not in used and name not in KINDS)


def estimate_cost(config: FitConfig, vlm: VLM, vae: VAE) -> dict[str, Any]:
    """What a config asks for: {"parameters": {"post-merge/6-tokens": n, …}, "bytes": about as much memory}.

    Bytes are those of whichever takes more: the models beside latents, targets and images; or these beside
    weights, gradients, two moments and averages, and the activations of a batch through adapters and, where
    the loss is on images too, the decoder. The libraries' own come on top.
    """
    sizes: dict[str, int] = {}
    saved = 0  # bytes of an image, by all adapters, for the backward pass
    cells = [(side * 8 // 7 // vae.downscale) ** 2 for side in config.sides]
    # An image's targets, pixels and mask, at all sizes.
    row = sum(4 * vae.channels * count + 4 * side**2 for count, side in zip(cells, config.sides, strict=True))
    for point in map(vlm.point, config.points):
        token = 14 if point.stage == "pre-merge" else 28
        row += sum((side // token) ** 2 for side in config.sides) * vlm.width(point) * vlm.dtype.itemsize
        for kind in config.kinds:
            with torch.device("meta"):  # shapes alone
                adapter = new_adapter(kind, point, vlm, vae, config.hidden, side=config.sides[0])
            sizes[f"{point}-{kind}"] = adapter.parameter_count
            if isinstance(adapter, TokenAdapter):
                saved += ACTIVATIONS * sum(cells) // len(cells) * adapter.stem.out_features
    models = sum(p.numel() * m.dtype.itemsize for m in (vlm, vae) for p in m.model.parameters())
    decoder = _decoder_bytes(vae, config.window, max(config.sides)) if config.images_from < 1 else 0
    activations = config.recipe.batch * (saved + len(sizes) * decoder)
    learning = 5 * 4 * sum(sizes.values()) + activations
    return {"parameters": sizes, "bytes": learned_rows(config.data) * row + max(models, learning)}


def learned_rows(data: DataSpec) -> int:
    """How many images a config learns from; of photos alone, whose number is not known yet, as if they were few."""
    scenes = 0 if data.scenes is None else data.scenes.count
    return scenes + sum(data.photo_rows([FEW_PHOTOS] * len(data.photos)))


@lru_cache(maxsize=4)
def _decoder_bytes(vae: VAE, window: int | None, side: int) -> int:
    """What the decoder keeps of one image, or of a window of it, for its backward pass, measured on one."""
    whole = side * 8 // 7 // vae.downscale
    side = min(window or whole, whole)
    saved: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        saved[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    z = torch.zeros(1, vae.channels, side, side, device=vae.device, requires_grad=True)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        vae.decode(z, clamp=False)
    weights = {p.untyped_storage().data_ptr() for p in vae.model.parameters()}
    return sum(size for address, size in saved.items() if address not in weights)
