"""E1.3: before and after the 2×2 merger, with the same capacity, budget and standardisation."""

from __future__ import annotations

from training.experiments.bank import SCORES, AdapterTrial, floors_and_ceiling, fresh, hidden_for, run_grid
from training.experiments.bench import Bench
from training.experiments.result import (
    ALONE,
    NAMES,
    Result,
    chart,
    finite,
    key,
    score_table,
    series,
    shown,
    table,
    verdict_of,
    write_scores,
)
from training.experiments.statistics import paired

KINDS = ("linear", "tokens", "pooled")


def run(bench: Bench) -> Result:
    learn, test = bench.train(), bench.test()
    before, after = bench.merger
    usual = AdapterTrial("", "tokens", (after,), learn, test)
    size = sum(p.numel() for p in fresh(bench, usual, 0).parameters())
    trials = []
    for kind in KINDS:
        for point in (before, after):
            trial = AdapterTrial(f"{point} {kind}", kind, (point,), learn, test)
            hidden = hidden_for(size, trial, bench) if kind == "tokens" else None
            trials.append(AdapterTrial(trial.name, kind, (point,), learn, test, hidden))
    grid = run_grid(bench, trials, "E1.3")
    write_scores(bench.artifacts / "e1_3.csv", grid.samples)
    marks = floors_and_ceiling(bench)
    counts = {name: grid.parameters(name) for name in grid.samples}
    gaps = {
        kind: {
            s: paired(grid.samples[f"{after} {kind}"][s], grid.samples[f"{before} {kind}"][s])
            for s in ("lpips", "ssim")
        }
        for kind in KINDS
    }
    gap = gaps["tokens"]["lpips"]
    verdict = verdict_of(gap)
    names = [str(before), str(after)]
    lines = [series(kind, names, [grid.samples[f"{n} {kind}"]["lpips"] for n in names], names) for kind in KINDS]
    return {
        "title": "E1.3 Before and after the merger",
        "question": "Is a picture better read out after the 2×2 merger than before it?",
        "verdict": verdict,
        "verdict_reason": "Claim: after the merger is better. With token adapters of the same size, LPIPS after "
        f"minus before it is {shown(gap, 4)} (paired over pictures and seeds; under 0 would favour after).",
        "paragraph": f"{before} against {after}. The merger is a function of what lies before it, so it can only "
        f"lose; the question is how much, for adapters of a given size. Token adapters of "
        f"{counts[f'{before} tokens']:,} and {counts[f'{after} tokens']:,} parameters, linear probes and pooled "
        f"adapters, {ALONE}, {grid.steps} steps each on the same scenes, standardised alike at both points. Of "
        "linear and pooled adapters the width of a token decides the size: see the table. "
        "The seed's 1.542 before the merger is what un-normalised features give in a sigmoid.",
        "seed": {"lpips_pre": 1.542, "ssim_pre": 0.011, "lpips_post": 0.342, "ssim_post": 0.910},
        "key": [
            key(
                f"LPIPS, {where} the merger",
                finite(grid.samples[f"{point} tokens"]["lpips"]),
                seeds,
                ("blank page", finite(marks["blank"]["lpips"])),
                finite(marks["oracle"]["lpips"]),
            )
            for where, point, seeds in (("before", before, 1.542), ("after", after, 0.342))
        ],
        "tables": [
            score_table("Scores", grid.samples, more={"parameters": counts}),
            table(
                "After minus before, paired",
                ["adapter", *(NAMES[s] for s in SCORES)],
                [
                    [k, *(finite(grid.samples[f"{after} {k}"][s] - grid.samples[f"{before} {k}"][s]) for s in SCORES)]
                    for k in KINDS
                ],
            ),
        ],
        "charts": [chart("LPIPS before and after the merger", "bar", ("extraction point", "LPIPS"), lines)],
        "pictures": [],
        "facts": {"gap": gap, "before": finite(grid.samples[f"{before} tokens"]["lpips"])},
    }
