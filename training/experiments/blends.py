"""Beyond: a learned softmax blend of layers against the best single one, with the same parameters."""

from __future__ import annotations

import numpy as np

from training.experiments.bank import AdapterTrial, Blend, floors_and_ceiling, run_grid
from training.experiments.bench import Bench
from training.experiments.result import (
    ALONE,
    Result,
    chart,
    finite,
    key,
    said,
    score_table,
    series,
    shown,
    table,
    verdict_of,
    write_scores,
)
from training.experiments.statistics import paired


def run(bench: Bench) -> Result:
    last = bench.vlm.points[-1].layer
    low, high = round(7 * last / 28), max(1, round(14 * last / 28))  # the seed's layers 7 to 14 of 28
    every = [p for p in bench.points if p.stage == "post-merge"]
    window = [p for p in every if low <= p.layer <= high]
    learn, test = bench.train(), bench.test()
    inside = ", ".join(str(p.layer) for p in window)
    blends = {f"blend of layers {inside}": tuple(window), f"blend of all {len(every)} after the merger": tuple(every)}
    trials = [AdapterTrial(str(p), "tokens", (p,), learn, test) for p in every]
    trials += [AdapterTrial(name, "tokens", points, learn, test) for name, points in blends.items() if len(points) > 1]
    grid = run_grid(bench, trials, "Blends")
    marks = floors_and_ceiling(bench)
    write_scores(bench.artifacts / "blends.csv", grid.samples | marks)
    names = [name for name in blends if name in grid.samples]
    best_inside = {
        name: min((str(p) for p in blends[name]), key=lambda n: grid.samples[n]["lpips"].mean()) for name in names
    }
    best = best_inside[names[-1]]
    gaps = {
        name: paired(grid.samples[name]["lpips"], grid.samples[against]["lpips"])
        for name, against in best_inside.items()
    }
    shares = []
    for name in names:
        each = [m.shares.detach().cpu().numpy() for m in grid.modules[name] if isinstance(m, Blend)]
        shares += [[name, str(p), float(np.mean([e[k] for e in each]))] for k, p in enumerate(blends[name])]
    gain = gaps[names[0]]
    return {
        "title": "Beyond: blends of layers",
        "question": f"Does a blend of the seed's layers 7 to 14 of 28 ({low} to {high} of {last} here, of which "
        f"{inside} were tried) hold more than the best single layer inside it?",
        "verdict": verdict_of(gain),
        "verdict_reason": f"Asked: does the {names[0]} help? Its LPIPS minus that of {best_inside[names[0]]}, the "
        f"best layer inside it, is {shown(gain, 4)} (paired; under 0 favours the blend). The best layer was picked on "
        "these same pictures, which favours it a little.",
        "paragraph": "Each blend is a weighted mean of standardised latents, one learned number a layer, before the "
        f"same token adapter; {ALONE}, {grid.steps} steps. "
        + " ".join(f"LPIPS of the {n}: {said(grid.samples[n]['lpips'])}." for n in names)
        + f" The best single layer after the merger is {best}: {said(grid.samples[best]['lpips'])}.",
        "seed": {"layers": 8},
        "key": [
            key(
                f"LPIPS, {n}{' (the best layer inside it)' * (n not in names)}",
                finite(grid.samples[n]["lpips"]),
                None,
                ("blank page", finite(marks["blank"]["lpips"])),
                finite(marks["oracle"]["lpips"]),
            )
            for n in dict.fromkeys((names[0], best_inside[names[0]]))
        ],
        "tables": [
            score_table(
                "Blends and single layers",
                grid.samples,
                more={"parameters": {n: grid.parameters(n) for n in grid.samples}},
            ),
            table(
                "Paired LPIPS, blend minus the best single layer inside it",
                ["blend", "difference"],
                [[n, g] for n, g in gaps.items()],
            ),
            table("What the blends learned to take", ["blend", "layer", "share"], shares),
        ],
        "charts": [
            chart(
                "LPIPS of blends and single layers",
                "bar",
                ("layers", "LPIPS"),
                [series("LPIPS", list(grid.samples), [s["lpips"] for s in grid.samples.values()])],
            )
        ],
        "pictures": [],
        "facts": {},
    }
