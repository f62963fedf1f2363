"""How long a run will take, told by doing a little of it: a few pictures, a few rows of a batch."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from foresight.data.scenes import SceneSpec, take
from foresight.models.vae import VAE
from foresight.models.vlm import VLM
from training.data import SIDE, collect, scene_source
from training.fit import CANDIDATES, Fit, FitConfig, judge, new_adapter
from training.latents import Latents
from training.service.presets import learned_rows

T = TypeVar("T")
ROWS = {"cpu": 2, "cuda": 32}  # pictures to measure on: more would be longer steps, for which clicks wait
STARTUP = 8.0  # seconds in which a run's process imports and loads: as measured on two CPU cores with bundled models
SCORING_SHARE = 0.15  # of the time that held-out scores may take while training goes on


@dataclass(frozen=True)
class Pace:
    """Seconds for each picture: extracted; learned from by latents, and by images; and scored, by all adapters."""

    extract: float
    latents: float
    images: float
    score: float


def measure_pace(config: FitConfig, vlm: VLM, vae: VAE) -> Iterator[Pace | None]:
    """The pace of a config's points, kinds and loss on this device, at SIDE² pixels.

    The first pass of everything is not counted. Yields None after each step of below a second, so that others may have
    the models in between; the pace comes last.
    """
    device, rows = vlm.device, ROWS.get(vlm.device.type, 2)

    def extract(count: int) -> Latents:
        scenes = scene_source([take(count, 0, SceneSpec())], count, device)
        return collect(vlm, vae, scenes, config.points)

    extract(1)
    yield None
    extracting, latents = _timed(lambda: extract(rows), device)
    yield None
    adapters = {
        f"{point}-{kind}": new_adapter(kind, vlm.point(point), vlm, vae, config.hidden).to(device)
        for point in config.points
        for kind in config.kinds
    }
    task = Fit(adapters, [latents], vae, config, dict.fromkeys((n for n in adapters if n.endswith("-linear")), 0.0))

    learning = [0.0, 0.0]  # by latents, by images
    for by, done in enumerate((0.0, 1.0)):
        if task.modules and (by == 0 or config.images_from < 1):
            _learn(task, rows, done)
            yield None
            learning[by], _ = _timed(partial(_learn, task, rows, done), device)
            yield None

    def scoring(count: int) -> float:
        return _timed(lambda: judge(adapters, {"some": latents[:count]}, vae), device)[0]

    once = scoring(1)  # much of it is for the intervals, however many pictures there are
    yield None
    by_picture = max(0.0, scoring(rows) - once) / (rows - 1)
    yield Pace(extracting / rows, learning[0] / rows, learning[1] / rows, by_picture)


def _learn(task: Fit, rows: int, done: float) -> None:
    device = task.vae.device
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        losses = task.loss(torch.arange(rows), torch.Generator(device), done)
    torch.stack(list(losses.values())).sum().backward()


def _timed(work: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """Seconds that it takes, and what it gives."""
    start = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, result


def estimate_seconds(config: FitConfig, pace: Pace) -> dict[str, float]:
    """{"extract", "learn", "score", "total"} of a run; photos of an upload count as if they were few.

    Larger images are taken to need as many times longer as they have more pixels.
    """
    area = sum(side**2 for side in config.sides) / SIDE**2  # of one image at all sizes
    mean = area / len(config.sides)
    rows, recipe = learned_rows(config.data), config.recipe
    sets = 2 if config.data.scenes and config.factors is None else 1
    held_out = config.held_out * (sets + bool(config.data.scenes and config.data.photos))
    validation = rows / 8 if "linear" in config.kinds else 0
    row = config.images_from * pace.latents + (1 - config.images_from) * pace.images
    learn = recipe.steps * recipe.batch * row * (1 + SCORING_SHARE)
    if learn:  # each candidate for the best state is scored
        validation += (chosen := config.chosen_by * held_out / config.held_out)
        learn += len(CANDIDATES) * chosen * pace.score
    extract, score = (rows + validation + held_out) * pace.extract, held_out * pace.score
    parts = {"extract": area * extract, "learn": mean * learn, "score": area * score}
    return parts | {"total": STARTUP + sum(parts.values())}
