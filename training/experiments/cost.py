"""What a study takes, told before it begins: how much work there is, and how long a little of it takes here.

The work of each experiment follows from its sizes. It is meant to be right to a third, which a test checks; the
time, to a half.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product

import torch

from foresight.errors import InputError
from foresight.models.placement import free_memory
from training.experiments.attribution import condition, subsets, training_of
from training.experiments.bench import Bench
from training.experiments.controls import CONTROLS
from training.experiments.experiment import Experiment
from training.experiments.held_out import KNOWN
from training.experiments.parallel import ParallelTask, usual_recipe
from training.experiments.seed_protocol import BATCH
from training.experiments.trials import Trial, decode_all, learner, score_all, untrained
from training.latents import MIXTURE
from training.loop import train

DECODED = 10  # times what a picture costs an adapter, where it is decoded and compared as well
UMAP = 2.0  # seconds a map
TIMED = 5  # steps of which the time is taken, behind as many that are not


@dataclass(frozen=True)
class Work:
    """extracted: images through VLM and VAE. learned: pictures by token adapters of the usual width, one each. scored:
    images decoded and compared. seconds: of what is none of these."""

    extracted: float = 0
    learned: float = 0
    scored: float = 0
    seconds: float = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def _mixed(count: int) -> int:
    return len(MIXTURE) * -(-count // len(MIXTURE))


def _both(bench: Bench) -> int:
    return _mixed(bench.scale.train) + _mixed(bench.scale.test)


def _ladder(bench: Bench, trials: int, adapters: int, rungs: Sequence[int]) -> Work:
    s = bench.scale
    chosen = trials * len(s.rates) * s.rungs[0]
    return Work(learned=(chosen + adapters * sum(rungs)) * s.batch, scored=adapters * len(rungs) * _mixed(s.test))


def _clusters(bench: Bench) -> Work:
    return Work(extracted=2 * bench.scale.clusters)


def _maps(bench: Bench) -> Work:
    return Work(seconds=UMAP * len(bench.points) * bench.scale.seeds)


def _linear(bench: Bench) -> Work:
    return Work(scored=(len(bench.points) + 4) * _mixed(bench.scale.test))


def _merger(bench: Bench) -> Work:
    s = bench.scale
    pooled = Work(learned=2 * s.seeds * s.steps * s.batch, scored=(2 * s.seeds + 6) * _mixed(s.test))
    return _ladder(bench, 2, 2 * s.seeds, s.rungs[:-1]) + pooled


def _positions(bench: Bench) -> Work:
    s, points = bench.scale, len(bench.landmarks)
    boxes = Work(s.boxes + 4 * s.test, points * 2 * s.seeds * 2 * s.steps * s.batch)
    return boxes + Work(s.crowds, points * s.seeds * s.steps * s.batch, (points * s.seeds + 1) * s.crowds)


def _pipeline(bench: Bench) -> Work:
    s, points = bench.scale, 3
    learned = points * 2 * s.seeds * (s.steps * s.batch + DECODED * s.picture_steps * s.picture_batch)
    return Work(learned=learned, scored=(points * (2 * s.seeds + 1) + s.seeds + 4) * _mixed(s.test))


def _depth(bench: Bench) -> Work:
    s, few = bench.scale, len(bench.scale.rungs) // 2
    everywhere = _ladder(bench, len(bench.points), len(bench.points) * s.seeds, s.rungs[:few])
    longer = _ladder(bench, 0, len(bench.long_points) * s.seeds, s.rungs[few:])
    return everywhere + longer + _linear(bench)


def _sizes(bench: Bench) -> Work:
    s = bench.scale
    own = s.hidden or max(128, bench.vlm.width(bench.recommended) // 4)
    widths = [own] * (own not in s.widths) + 2 * list(s.widths)
    wide = sum(s.seeds * s.steps * s.width_batch * max(1.0, width / own) for width in widths)
    trials = len(widths) + len(s.amounts) + len(s.sides)
    learned = wide + s.seeds * (len(s.amounts) * s.amount_steps * s.amount_batch + len(s.sides) * s.steps * s.batch)
    larger = sum((side / s.side) ** 2 for side in s.sides) * (_mixed(s.side_train) + _mixed(s.test))
    scored = (trials * s.seeds + len(s.sides) + 4) * _mixed(s.test)
    return Work(_mixed(max(s.amounts)) + larger, learned, scored)


def _seed_protocol(bench: Bench) -> Work:
    s, stages = bench.scale, 9
    steps = max(1, s.seed_epochs * s.seed_train // BATCH)
    images = 7 * (s.seed_train + s.seed_test) + s.train + 2 * s.seed_train
    scored = (stages - 1) * (s.seeds + 3) * s.seed_test + (s.seeds + 3) * _mixed(s.test)
    return Work(images, stages * s.seeds * steps * BATCH, scored)


def _attribution(bench: Bench) -> Work:
    s, every = bench.scale, subsets()
    steps = max(1, s.seed_epochs * s.seed_train // BATCH)
    images = 3 * 2 * (s.seed_test + s.seed_train + s.train)
    trainings, rows = len({training_of(choices) for choices in every}), len({condition(choices) for choices in every})
    return Work(images, trainings * s.seeds * steps * BATCH, (rows * s.seeds + 16) * s.seed_test)


def _blends(bench: Bench) -> Work:
    s, trials = bench.scale, 5  # of the best single layers one or two are E1.6's
    return _ladder(bench, trials, trials * s.seeds, s.rungs[1:3]) + Work(scored=4 * _mixed(s.test))


def _held_out(bench: Bench) -> Work:
    s, splits = bench.scale, 10 + (bench.photos is not None)
    return Work(2 * s.train + splits * s.test, 3 * s.seeds * s.steps * s.batch, splits * (2 * s.seeds + 2) * s.test)


def _controls(bench: Bench) -> Work:
    s, after, points = bench.scale, 2, len(bench.landmarks)
    alone = s.seeds * (points + after) + len(bench.others) * points
    ladder = _ladder(bench, 3 + alone, 3 * s.seeds + alone, s.rungs[1:3])
    solved = Work(scored=(3 + alone + 4) * _mixed(s.test))
    return ladder + solved + Work((2 * s.seeds + len(bench.others)) * _both(bench))


def _probes(bench: Bench) -> Work:
    return Work(2 * (bench.scale.probes + bench.scale.test), seconds=5.0 * len(bench.points))


def _neighbours(bench: Bench) -> Work:
    return Work((1 + bench.scale.seeds) * bench.scale.clusters)


def _errors(bench: Bench) -> Work:
    s, points = bench.scale, len(bench.landmarks)
    scored = (points * s.seeds + 4) * _mixed(s.test)
    return Work(learned=points * s.seeds * s.steps * s.batch, scored=scored)


def _motion(bench: Bench) -> Work:
    s, steps, frames = bench.scale, 4, 8
    clips, tests = s.clips, 2 * max(2, s.test // 2)
    learned = len(bench.long_points) * s.seeds * s.steps * s.batch
    scored = (len(bench.long_points) * s.seeds + 2) * tests * frames
    return Work((1 + s.seeds) * (clips + tests) * steps, learned, scored)


WORK: dict[str, Callable[[Bench], Work]] = {
    "e1_1": _clusters,
    "e1_1_map": _maps,
    "e1_2": _linear,
    "e1_3": _merger,
    "e1_4": _positions,
    "e1_5": _pipeline,
    "e1_6_depth": _depth,
    "e1_6": _sizes,
    "seed_protocol": _seed_protocol,
    "attribution": _attribution,
    "blends": _blends,
    "held_out": _held_out,
    "controls": _controls,
    "probes": _probes,
    "neighbours": _neighbours,
    "errors": _errors,
    "v1": _motion,
}


def memory(bench: Bench, experiments: Sequence[Experiment]) -> int:
    """Bytes of what lies in memory beside the models: the latents of all points, pixels and VAE latents.

    Means over tokens take next to nothing.
    """
    if all(experiment.pooled for experiment in experiments):
        return 0
    side, itemsize = bench.scale.side, bench.vlm.dtype.itemsize
    cells = (side * 8 // 7 // bench.vae.downscale) ** 2
    tokens = {"pre-merge": (side // 14) ** 2, "post-merge": (side // 28) ** 2}

    def row(points: Sequence) -> int:
        latents = sum(tokens[p.stage] * bench.vlm.width(p) for p in points) * itemsize
        return latents + (4 + 12) * side**2 + 4 * bench.vae.channels * cells  # 12: as floats, for the baselines

    if CONTROLS not in experiments:
        return _both(bench) * row(bench.points)
    whole = (bench.scale.seeds + len(bench.others)) * row(bench.landmarks)  # random and other VLMs
    permuted = bench.scale.seeds * row([bench.merger[1], bench.recommended])
    return _both(bench) * (row(bench.points) + whole + permuted)


def check_memory(bench: Bench, experiments: Sequence[Experiment]) -> None:
    """Raises InputError where latents do not fit into memory."""
    free, needed = free_memory(bench.device), memory(bench, experiments)
    if needed > free:
        raise InputError(
            f"the latents of {_both(bench):,} scenes at {len(bench.points)} points take about {needed / 1e9:.0f} GB, "
            f"and {free / 1e9:.0f} GB are free: ask for fewer by --scenes or --points."
        )


def rates(bench: Bench) -> tuple[float, float, float]:
    """Seconds for an image extracted at all points, a picture learned by an adapter, an image scored; measured."""

    def clock() -> float:
        if bench.device.type == "cuda":
            torch.cuda.synchronize(bench.device)
        return time.perf_counter()

    few = replace(bench, unfinished=None, _cache={})
    count, points = 2 * bench.batch, list(dict.fromkeys([*bench.long_points, bench.recommended]))
    scenes = [bench.scenes(count, 1, KNOWN, "train")]
    few.latents([scenes[0][:8]], bench.points)  # reads weights, and sets libraries up
    start = clock()
    latents = few.latents(scenes, bench.points)
    extracted = (clock() - start) / count
    trials = [Trial(str(p), "tokens", (p,), latents, latents) for p in points]
    learners = [learner(few, t, untrained(few, t, seed), seed) for t, seed in product(trials, range(bench.scale.seeds))]
    recipe = usual_recipe(few, 2 * TIMED)
    steps = train(ParallelTask(learners, few.device), recipe, few.device)
    for _ in islice(steps, TIMED):  # sets an optimizer up
        pass
    start = clock()
    for _ in steps:
        pass
    learned = (clock() - start) / (TIMED * recipe.batch * len(learners))
    trial, adapter = trials[-1], learners[-1].module
    start = clock()
    score_all(few, decode_all(few, [adapter], trial, latents), latents)
    return extracted, learned, (clock() - start) / count


def estimate(bench: Bench, experiments: Sequence[Experiment]) -> list[tuple[str, float]]:
    """About how many seconds each experiment takes here; latents that several share are counted with the first."""
    extracted, learned, scored = rates(bench)
    shared = Work(_both(bench))
    first = next((e for e in experiments if not e.pooled), None)
    times = []
    for e in experiments:
        work = (WORK[e.name](bench) if e.name in WORK else Work()) + (shared if e is first else Work())
        seconds = work.extracted * extracted + work.learned * learned + work.scored * scored + work.seconds
        times.append((e.name, seconds))
    return times
