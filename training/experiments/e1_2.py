"""E1.2: a linear probe at every point: what can be read off the latents without any processing."""

from __future__ import annotations

import torch

from training.experiments.bank import AdapterTrial, floors_and_ceiling, reconstruct, run_grid
from training.experiments.bench import Bench
from training.experiments.result import (
    ALONE,
    NAMES,
    TARGETS,
    Result,
    chart,
    finite,
    key,
    mean,
    said,
    score_table,
    series,
    shown,
    skills,
    write_grid,
    write_scores,
)
from training.experiments.statistics import paired


def run(bench: Bench) -> Result:
    learn, test = bench.train(), bench.test()
    names = [str(p) for p in bench.points]
    trials = [AdapterTrial(str(p), "linear", (p,), learn, test) for p in bench.points]
    grid = run_grid(bench, trials, "E1.2")
    marks = floors_and_ceiling(bench)
    ceiling = marks["oracle"]
    write_scores(bench.artifacts / "e1_2.csv", grid.samples | marks)
    skill = {
        n: round(skills(s, marks["blank"], ceiling).get("lpips", float("nan")), 3) for n, s in grid.samples.items()
    }
    at = str(bench.recommended)
    best = min(names, key=lambda n: grid.samples[n]["lpips"].mean())
    found = finite(grid.samples[at]["lpips"]) or []
    blank = finite(marks["blank"]["lpips"]) or []
    kept = bench.scale.kept
    which = torch.linspace(0, len(test) - 1, kept).long().to(bench.device)
    rows = [test.pictures[which].float() / 255]
    shown_at = list(dict.fromkeys([names[0], best, str(bench.merger[0]), str(bench.merger[1]), at, names[-1]]))
    for name in shown_at:
        trial = next(e for e in trials if e.name == name)
        rows.append(reconstruct(bench, grid.modules[name][0], [x[which] for x in trial.test_inputs()]))
    write_grid(bench.artifacts / "e1_2.png", rows)
    gap = paired(grid.samples[at]["lpips"], marks["blank"]["lpips"])
    verdict = "holds" if gap[2] < 0 and found[2] < TARGETS["lpips"] else "open"
    if gap[1] > 0 or found[1] > TARGETS["lpips"]:
        verdict = "does not hold"
    lines = {
        s: [series("linear probe", names, [grid.samples[n][s] for n in names], names)]
        for s in ("lpips", "ssim", "mask_iou")
    }
    return {
        "title": "E1.2 Linear probe",
        "question": "Can a picture be read off the latents by one linear map for each token?",
        "verdict": verdict,
        "verdict_reason": f"Claim: a linear map finds the picture. At {at} its LPIPS is {shown(found)}, a blank page "
        f"has {shown(blank)} on the same scenes; the probe's minus the page's is {shown(gap)} (paired). The claim "
        f"holds where that is under 0 and LPIPS is under the seed's target of {TARGETS['lpips']}.",
        "paragraph": f"One linear map for each token, {ALONE}, {grid.steps} steps at every point. Best at "
        f"{best} ({said(grid.samples[best]['lpips'])}); "
        f"{said(grid.samples[names[-1]]['lpips'])} at {names[-1]}; the oracle has "
        f"{said(ceiling['lpips'])}. The seed's probe (0.331) read the mean of all tokens, and pictures of one shape on "
        "white: the two numbers are not of the same pictures.",
        "seed": {"lpips": 0.331},
        "key": [
            key(
                f"LPIPS, linear probe, {n}{' (best of all)' * (n == best)}",
                finite(grid.samples[n]["lpips"]),
                0.331 if n == at else None,
                ("blank page", blank),
                finite(ceiling["lpips"]),
                f"< {TARGETS['lpips']}",
            )
            for n in dict.fromkeys((at, best))
        ],
        "tables": [
            score_table("Linear probe at every point", grid.samples, more={"skill (LPIPS)": skill}),
            score_table("Floors and ceiling", marks),
        ],
        "charts": [
            chart(
                f"Linear probe: {NAMES[s]} by depth",
                "line",
                ("extraction point", NAMES[s]),
                lines[s],
                mean(marks["blank"][s]),
                mean(ceiling[s]),
                TARGETS[s],
            )
            for s in lines
        ],
        "pictures": [
            {
                "title": "Rows: original, then " + ", ".join(shown_at),
                "file": "e1_2.png",
                "point": at,
                "adapter": "linear",
            }
        ],
        "facts": {"best": best},
    }
