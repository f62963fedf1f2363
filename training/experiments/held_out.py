"""Beyond: scenes of kinds that the adapter never saw: pairs, sizes, backgrounds, crowds, photos."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from foresight.evaluation import folder_files
from foresight.metrics import skill
from foresight.render import render
from foresight.scenes import COLORS, Scenes, SceneSpec
from training.data import collect, picture_source
from training.experiments.bank import SCORES, Entry, oracle, reconstruct, run_grid, score, stack
from training.experiments.bench import Bench
from training.experiments.result import (
    Result,
    chart,
    finite,
    said,
    score_table,
    series,
    shown,
    table,
    write_grid,
    write_scores,
)
from training.experiments.statistics import apart
from training.latents import Latents

KNOWN = SceneSpec(objects=(1, 3), radius=(20.0, 44.0), backgrounds=("white", "plain"))
SCENES = 700  # its seed
MARGIN = 0.02  # LPIPS: what is worse by less than that is as good
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


def splits(bench: Bench) -> dict[str, Scenes]:
    """Test scenes: as trained on, then with one thing new at a time, then crowds."""
    n = bench.scale.test
    made = {
        "as trained on": _filtered(bench, n, SCENES + 1, KNOWN, "test", False),
        "new pairs of shape and colour": _filtered(bench, n, SCENES + 2, KNOWN, "test", True),
    }
    specs = {
        "smaller objects": replace(KNOWN, radius=(12.0, 18.0)),
        "larger objects": replace(KNOWN, radius=(48.0, 64.0), objects=(1, 2)),
        "new backgrounds": replace(KNOWN, backgrounds=("gradient", "texture")),
    }
    specs |= {f"{k} overlapping objects": replace(KNOWN, objects=(k, k)) for k in range(2, 6)}
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
    files = folder_files(bench.photos)[: bench.scale.test]
    found = collect(bench.vlm, bench.vae, picture_source(files, bench.batch, bench.scale.side), points)
    return replace(found, masks=torch.ones_like(found.masks))  # nobody knows what is an object there


def run(bench: Bench) -> Result:
    points = list(dict.fromkeys([bench.merger[0], bench.recommended]))
    known = _filtered(bench, bench.scale.train, SCENES, KNOWN, "train", False)
    learn = bench.latents([known], points)
    sets = {name: (bench.latents([s], points), hidden_share(s.to(bench.device))) for name, s in splits(bench).items()}
    first = sets["as trained on"][0]
    entries = [Entry(f"{p} tokens", "tokens", (p,), learn, first) for p in points]
    grid = run_grid(bench, entries, "Held out")
    tests = {name: latents for name, (latents, _) in sets.items()}
    if (outside := photos(bench, points)) is not None:
        tests["photos"] = outside
    samples, rows, pictures = {}, [], []
    kept = bench.scale.kept
    for name, test in tests.items():
        ceiling, blank = (
            stack([score(bench, x, test)]) for x in (oracle(bench, test), torch.ones_like(test.pictures.float()))
        )
        for entry in entries:
            made = [reconstruct(bench, m, [test.points[str(entry.points[0])]]) for m in grid.modules[entry.name]]
            found = samples[f"{entry.name}, {name}"] = stack([score(bench, y, test) for y in made])
            means = [float(s["lpips"].mean()) for s in (found, blank, ceiling)]
            rows.append(
                [
                    entry.name,
                    name,
                    *(finite(found[s]) for s in ("lpips", "ssim")),
                    None if name == "photos" else finite(found["mask_iou"]),
                    skill(*means),
                ]
            )
            if entry is entries[-1] and name in (
                "new pairs of shape and colour",
                "new backgrounds",
                "5 overlapping objects",
                "photos",
            ):
                which = torch.linspace(0, len(test) - 1, min(kept, len(test))).long().to(bench.device)
                pictures += [test.pictures[which].float() / 255, made[0][which]]
    write_scores(bench.artifacts / "held_out.csv", samples)
    short = min(len(x) for x in pictures)
    write_grid(bench.artifacts / "held_out.png", [x[:short] for x in pictures])
    names, at = list(tests), f"{bench.recommended} tokens"
    base, pairs = (samples[f"{at}, {n}"]["lpips"] for n in ("as trained on", "new pairs of shape and colour"))
    worse = apart(pairs, base)
    lines = [series(e.name, names, [samples[f"{e.name}, {n}"]["lpips"] for n in names]) for e in entries]
    worst = max((n for n in names if n != "photos"), key=lambda n: samples[f"{at}, {n}"]["lpips"].mean())
    covered = [[name, round(share, 4)] for name, (_, share) in sets.items()]
    return {
        "title": "Beyond: what the adapter never saw",
        "question": "Does an adapter read out new pairs, sizes, backgrounds and crowds as well as what it was "
        "trained on?",
        "verdict": "holds" if worse[2] < MARGIN else "does not hold" if worse[1] > MARGIN else "open",
        "verdict_reason": f"Asked of new pairs of shape and colour at {bench.recommended}: LPIPS {said(pairs)} "
        f"beside {said(base)} on pairs as trained on, other pictures: worse by {shown(worse)}. It holds where that is "
        f"under {MARGIN}.",
        "paragraph": f"Trained on 1 to 3 objects of 20 to 44 px on even backgrounds without one in {HELD} pairs of "
        f"the {len(COLORS)} colours and "
        f"8 shapes ({grid.steps} steps). Only the adapter is kept from them; the VLM may have seen them. Hardest at "
        f"{bench.recommended}: {worst} "
        f"({said(samples[f'{at}, {worst}']['lpips'])})."
        + ("" if outside is None else f" On photos: {said(samples[f'{at}, photos']['lpips'])}."),
        "seed": {},
        "tables": [
            table("By split", ["adapter", "split", "LPIPS", "SSIM", "mask IoU", "skill (LPIPS)"], rows),
            table("Share of objects' pixels that others cover", ["split", "covered"], covered),
            score_table("All scores", samples, SCORES),
        ],
        "charts": [chart("LPIPS by split", "bar", ("split", "LPIPS"), lines)],
        "pictures": [
            {
                "title": "Pairs of rows, original and reconstruction: new pairs, new backgrounds, 5 overlapping objects"
                + ("" if outside is None else ", photos"),
                "file": "held_out.png",
                "point": str(bench.recommended),
                "adapter": "tokens",
            }
        ],
        "facts": {},
    }
