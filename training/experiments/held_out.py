"""Beyond: scenes of kinds that the adapter never saw: pairs, sizes, backgrounds, crowds, photos."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from foresight.data.render import render
from foresight.data.scenes import Scenes, SceneSpec
from foresight.data.sources import open_photos
from foresight.models.points import ExtractionPoint
from training.data import collect, photo_source
from training.experiments.bench import Bench
from training.experiments.experiment import Experiment, Measurement, Samples, write_grid
from training.experiments.trials import Trial, decode_all, example_rows, round_trip, score_all, train_trials
from training.latents import Latents

KNOWN = SceneSpec(objects=(1, 3), radius=(20.0, 44.0), backgrounds=("white", "plain"))
SCENES = 700  # its seed
BOTH = ("as trained on", "new pairs of shape and colour")
PHOTOS = "photos"
ALL_PAIRS = "trained on all pairs"
HELD = 5  # one pair of shape and colour in so many is held out


def unseen_pair(scenes: Scenes) -> Tensor:
    """(B,) bool: whether a scene has an object of a held-out pair of shape and colour."""
    used = torch.arange(scenes.shape.shape[1], device=scenes.count.device) < scenes.count[:, None]
    return (((scenes.shape + scenes.color) % HELD == 0) & used).any(1)


def filtered(bench: Bench, count: int, seed: int, spec: SceneSpec, split: str, pairs: bool) -> Scenes:
    """`count` scenes, all with a held-out pair or all without one; every number of objects is as frequent as others.

    Else scenes with a held-out pair would have more objects than those without, and be harder for that alone.
    """
    numbers = range(spec.objects[0], spec.objects[1] + 1)
    shares = np.array_split(np.arange(count), len(numbers))
    missing = {number: len(share) for number, share in zip(numbers, shares, strict=True)}
    parts: list[Scenes] = []
    while any(missing.values()):
        batch = bench.scenes(8 * count, seed + 20 * len(parts), spec, split)
        right = unseen_pair(batch) == pairs
        for number, due in missing.items():
            rows = (right & (batch.count == number)).nonzero()[:due, 0]
            parts.append(batch[rows])
            missing[number] -= len(rows)
    return Scenes.cat(parts)


def crowd_name(count: int) -> str:
    return "1 object of 40 px and more" if count == 1 else f"{count} such objects, which may overlap"


def splits(bench: Bench) -> dict[str, Scenes]:
    """Test scenes: as trained on, then with one thing new at a time, then crowds."""
    n = bench.scale.test
    scenes = {
        BOTH[0]: filtered(bench, n, SCENES + 1, KNOWN, "test", False),
        BOTH[1]: filtered(bench, n, SCENES + 2, KNOWN, "test", True),
    }
    specs = {
        "smaller objects": replace(KNOWN, radius=(12.0, 18.0)),
        "larger objects": replace(KNOWN, radius=(48.0, 64.0), objects=(1, 2)),
        "new backgrounds": replace(KNOWN, backgrounds=("gradient", "texture")),
    }
    specs |= {crowd_name(k): replace(KNOWN, objects=(k, k), radius=(40.0, 44.0)) for k in range(1, 6)}
    for k, (name, spec) in enumerate(specs.items()):
        scenes[name] = filtered(bench, n, SCENES + 3 + k, spec, "test", False)
    return scenes


def hidden_share(scenes: Scenes) -> float:
    """The share of all objects' pixels that others cover."""
    drawn = render(scenes)
    return 1 - float(drawn.visible.sum() / drawn.full.sum())


def photos(bench: Bench, points: Sequence[ExtractionPoint]) -> dict[str, Latents]:
    """Centre squares of the photos in the bench's folder, at most `test` of them; empty where no folder is given."""
    if bench.photos is None:
        return {}
    files = open_photos([str(bench.photos)]).photos[: bench.scale.test]
    source = photo_source(files, len(files), bench.batch, None, bench.scale.side)
    latents = collect(bench.vlm, bench.vae, source, points)
    return {PHOTOS: replace(latents, masks=torch.ones_like(latents.masks))}  # nobody knows what is an object there


def measure(bench: Bench) -> Measurement:
    points, at = list(dict.fromkeys([bench.merger[0], bench.recommended])), bench.recommended
    scenes = splits(bench)
    tests = {name: bench.latents([s], points) for name, s in scenes.items()} | photos(bench, points)
    train = bench.latents([filtered(bench, bench.scale.train, SCENES, KNOWN, "train", False)], points)
    every_pair = bench.latents([bench.scenes(bench.scale.train, SCENES, KNOWN, "train")], [at])
    trials = [Trial(f"{p} tokens", "tokens", (p,), train, tests[BOTH[0]]) for p in points]
    rival = Trial(f"{at} tokens {ALL_PAIRS}", "tokens", (at,), every_pair, tests[BOTH[1]])
    modules = train_trials(bench, [*trials, rival], "Held out")
    table: dict[str, Samples] = {}
    examples: list[Tensor] = []
    for name, test in tests.items():
        original = test.pictures.float() / 255
        decoded = {t.name: decode_all(bench, modules[t.name], t, test) for t in trials}
        if name in (BOTH[1], "new backgrounds", crowd_name(5)):  # not photos, which are somebody's own
            rows = example_rows(bench, test)
            examples += [original[rows], decoded[f"{at} tokens"][0][rows]]
        decoded |= {"blank": [torch.ones_like(original)], "oracle": [round_trip(bench, test)]}
        if name == BOTH[1]:
            decoded[rival.name] = decode_all(bench, modules[rival.name], rival, test)
        table |= {f"{what}, {name}": score_all(bench, images, test) for what, images in decoded.items()}
    title = "Pairs of rows, original and reconstruction: new pairs, new backgrounds, 5 objects"
    covered = {name: hidden_share(s.to(bench.device)) for name, s in scenes.items()}
    return Measurement(
        {"scores": table},
        {"scores": bench.scale.steps},
        values={"covered": covered, "adapters": [t.name for t in trials], "splits": list(tests)},
        grids=[write_grid(bench.artifacts / "held_out.webp", examples, title, at)],
    )


HELD_OUT = Experiment(
    "held_out",
    "Beyond: what the adapter never saw",
    "Does an adapter read out new pairs, sizes, backgrounds and crowds as well as what it was trained on?",
    measure,
)
