"""Beyond: scenes of kinds that the adapter never saw: pairs, sizes, backgrounds, crowds, photos."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from foresight.data.render import render
from foresight.data.scenes import COLORS, SHAPES, Scenes, SceneSpec
from foresight.inspection.evaluation import folder_files
from foresight.metrics.baselines import skill
from training.data import collect, picture_source, readable
from training.experiments.bank import AdapterTrial, oracle, reconstruct, run_grid, score, stack
from training.experiments.bench import Bench
from training.experiments.result import (
    ALONE,
    MEASURED,
    Result,
    chart,
    finite,
    key,
    measured,
    said,
    series,
    shown,
    table,
    write_grid,
    write_scores,
)
from training.experiments.statistics import paired
from training.latents import Latents

KNOWN = SceneSpec(objects=(1, 3), radius=(20.0, 44.0), backgrounds=("white", "plain"))
SCENES = 700  # its seed
MARGIN = 0.02  # LPIPS: what is worse by less than that is as good
BOTH = ("as trained on", "new pairs of shape and colour")  # the splits that the verdict compares
HELD = 5  # one pair of shape and colour in so many is held out


def unseen_pair(scenes: Scenes) -> Tensor:
    """(B,) bool: whether a scene has an object of a held-out pair of shape and colour."""
    used = torch.arange(scenes.shape.shape[1], device=scenes.count.device) < scenes.count[:, None]
    return (((scenes.shape + scenes.color) % HELD == 0) & used).any(1)


def _filtered(bench: Bench, count: int, seed: int, spec: SceneSpec, split: str, pairs: bool) -> Scenes:
    """`count` scenes, all with a held-out pair or all without one; every number of objects is as frequent as others.

    Else scenes with a held-out pair would have more objects than those without, and be harder for that alone.
    """
    numbers = range(spec.objects[0], spec.objects[1] + 1)
    shares = np.array_split(np.arange(count), len(numbers))
    missing = {number: len(share) for number, share in zip(numbers, shares, strict=True)}
    found: list[Scenes] = []
    while any(missing.values()):
        batch = bench.scenes(8 * count, seed + 20 * len(found), spec, split)
        right = unseen_pair(batch) == pairs
        for number, due in missing.items():
            rows = (right & (batch.count == number)).nonzero()[:due, 0]
            found.append(batch[rows])
            missing[number] -= len(rows)
    return Scenes.cat(found)


def crowd_name(count: int) -> str:
    return "1 object of 40 px and more" if count == 1 else f"{count} such objects, which may overlap"


def splits(bench: Bench) -> dict[str, Scenes]:
    """Test scenes: as trained on, then with one thing new at a time, then crowds."""
    n = bench.scale.test
    made = {
        BOTH[0]: _filtered(bench, n, SCENES + 1, KNOWN, "test", False),
        BOTH[1]: _filtered(bench, n, SCENES + 2, KNOWN, "test", True),
    }
    specs = {
        "smaller objects": replace(KNOWN, radius=(12.0, 18.0)),
        "larger objects": replace(KNOWN, radius=(48.0, 64.0), objects=(1, 2)),
        "new backgrounds": replace(KNOWN, backgrounds=("gradient", "texture")),
    }
    specs |= {crowd_name(k): replace(KNOWN, objects=(k, k), radius=(40.0, 44.0)) for k in range(1, 6)}
    for k, (name, spec) in enumerate(specs.items()):
        made[name] = _filtered(bench, n, SCENES + 3 + k, spec, "test", False)
    return made


def hidden_share(scenes: Scenes) -> float:
    """The share of all objects' pixels that others cover."""
    drawn = render(scenes)
    return 1 - float(drawn.visible.sum() / drawn.full.sum())


def photos(bench: Bench, points: list) -> Latents | None:
    """Centre squares of the photos in the bench's folder, at most `test` of them; None where no folder is given."""
    if bench.photos is None:
        return None
    files = readable(folder_files(bench.photos))[0][: bench.scale.test]
    found = collect(bench.vlm, bench.vae, picture_source(files, bench.batch, bench.scale.side), points)
    return replace(found, masks=torch.ones_like(found.masks))  # nobody knows what is an object there


def run(bench: Bench) -> Result:
    points = list(dict.fromkeys([bench.merger[0], bench.recommended]))
    known = _filtered(bench, bench.scale.train, SCENES, KNOWN, "train", False)
    learn = bench.latents([known], points)
    sets = {name: (bench.latents([s], points), hidden_share(s.to(bench.device))) for name, s in splits(bench).items()}
    first = sets[BOTH[0]][0]
    trials = [AdapterTrial(f"{p} tokens", "tokens", (p,), learn, first) for p in points]
    unfiltered = bench.latents([bench.scenes(bench.scale.train, SCENES, KNOWN, "train")], [bench.recommended])
    rival = AdapterTrial("all pairs", "tokens", (bench.recommended,), unfiltered, sets[BOTH[1]][0])
    grid = run_grid(bench, [*trials, rival], "Held out")
    tests = {name: latents for name, (latents, _) in sets.items()}
    if (outside := photos(bench, points)) is not None:
        tests["photos"] = outside
    samples, rows, pictures, keys = {}, [], [], {}
    kept = bench.scale.kept
    for name, test in tests.items():
        ceiling, blank = (
            stack([score(bench, x, test)]) for x in (oracle(bench, test), torch.ones_like(test.pictures.float()))
        )
        for trial in trials:
            made = [reconstruct(bench, m, [test.points[str(trial.points[0])]]) for m in grid.modules[trial.name]]
            found = samples[f"{trial.name}, {name}"] = stack([score(bench, y, test) for y in made])
            means = [float(s["lpips"].mean()) for s in (found, blank, ceiling)]
            three = [finite(x["lpips"]) for x in (found, blank, ceiling)]
            iou = None if name == "photos" else finite(found["mask_iou"])
            share = None if name == "photos" else measured(found["mask_iou"])
            rows.append([trial.name, name, *three, skill("lpips", *means), finite(found["ssim"]), iou, share])
            if trial is trials[-1]:
                page = "blank page", three[1]
                keys[name] = key(f"LPIPS, {name}, {trial.name}", three[0], None, page, three[2])
            if trial is trials[-1] and name in (
                BOTH[1],
                "new backgrounds",
                crowd_name(5),
            ):  # photos are somebody's own
                which = torch.linspace(0, len(test) - 1, min(kept, len(test))).long().to(bench.device)
                pictures += [test.pictures[which].float() / 255, made[0][which]]
    write_scores(bench.artifacts / "held_out.csv", samples)
    write_grid(bench.artifacts / "held_out.png", pictures)
    names, at = list(tests), f"{bench.recommended} tokens"
    pairs, knowing = samples[f"{at}, {BOTH[1]}"]["lpips"], grid.samples[rival.name]["lpips"]
    worse = paired(pairs, knowing)
    lines = [series(e.name, names, [samples[f"{e.name}, {n}"]["lpips"] for n in names]) for e in trials]
    worst = max((n for n in names if n != "photos"), key=lambda n: samples[f"{at}, {n}"]["lpips"].mean())
    covered = [[name, round(share, 4)] for name, (_, share) in sets.items()]
    return {
        "title": "Beyond: what the adapter never saw",
        "question": "Does an adapter read out new pairs, sizes, backgrounds and crowds as well as what it was "
        "trained on?",
        "verdict": "holds" if worse[2] < MARGIN else "does not hold" if worse[1] > MARGIN else "open",
        "verdict_reason": f"Asked of new pairs of shape and colour at {bench.recommended}: on the same pictures LPIPS "
        f"is {said(pairs)}, and {said(knowing)} with an adapter that was trained on all pairs, so worse by "
        f"{shown(worse)} (paired). It holds where that is under {MARGIN}; of the other splits the table tells.",
        "paragraph": f"Token adapters, {ALONE}, {grid.steps} steps on 1 to 3 objects of 20 to 44 px on even "
        f"backgrounds, without one in {HELD} pairs of the {len(COLORS)} colours and {len(SHAPES)} shapes. Only the "
        "adapter is kept from them: the VLM may have seen them. "
        f"Hardest of the drawn ones at {bench.recommended}: {worst} ({said(samples[f'{at}, {worst}']['lpips'])})."
        + ("" if outside is None else f" On photos, which no adapter saw: {said(samples[f'{at}, photos']['lpips'])}."),
        "seed": {},
        "key": [keys[n] for n in dict.fromkeys((*BOTH, worst, "photos")) if n in keys],
        "tables": [
            table(
                "By split",
                [
                    "adapter",
                    "split",
                    "LPIPS",
                    "blank page's",
                    "oracle's",
                    "skill (LPIPS)",
                    "SSIM",
                    "mask IoU",
                    MEASURED,
                ],
                rows,
            ),
            table("Share of objects' pixels that others cover", ["split", "covered"], covered),
        ],
        "charts": [chart("LPIPS by split", "bar", ("split", "LPIPS"), lines)],
        "pictures": [
            {
                "title": "Pairs of rows, original and reconstruction: new pairs, new backgrounds, 5 objects",
                "file": "held_out.png",
                "point": str(bench.recommended),
                "adapter": "tokens",
            }
        ],
        "facts": {},
    }
