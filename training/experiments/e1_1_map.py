"""E1.1's picture: the same latents as a 2-D UMAP, and what the silhouette becomes when it is taken on that map."""

from __future__ import annotations

import numpy as np
import torch

from foresight.errors import InputError
from foresight.scenes import COLOR_NAMES, SHAPES
from training.experiments.bench import Bench
from training.experiments.e1_1 import FACTORS, FEATURES, MEANS
from training.experiments.result import Result, chart, finite, said, series, shown, table
from training.experiments.statistics import paired, silhouettes, standardised

NEEDS = ("e1_1",)
APART = 0.05  # of a silhouette: more than that is another answer


def run(bench: Bench) -> Result:
    import umap

    path = bench.artifacts / FEATURES
    if not path.is_file():
        raise InputError(f"{path} is missing: run e1_1 in this folder first.")
    kept = np.load(path)
    truth = {f: kept[f"label|{f}"] for f in FACTORS}
    both = truth[FACTORS[2]]
    names = list(
        dict.fromkeys([str(bench.merger[0]), str(bench.merger[1]), str(bench.recommended), str(bench.points[-1])])
    )
    rows, flat, full, charts = [], [], [], []
    for name in names:
        x = standardised(torch.from_numpy(kept[f"{MEANS[0]}|{name}"]))
        y = umap.UMAP(n_neighbors=min(15, len(x) - 1), random_state=bench.seed, n_jobs=1).fit_transform(x)
        flat.append(silhouettes(y, both)[None])
        full.append(silhouettes(x, both)[None])
        rows.append([name, finite(full[-1]), *(finite(silhouettes(y, truth[f])[None]) for f in FACTORS)])
        dots = [
            {
                "name": f"{COLOR_NAMES[c % 100]} {SHAPES[c // 100]}",
                "x": y[both == c, 0].tolist(),
                "y": y[both == c, 1].tolist(),
            }
            for c in np.unique(both)
        ]
        charts.append(chart(f"UMAP of {name}, mean over all tokens", "scatter", ("UMAP 1", "UMAP 2"), dots))
    gains = {n: paired(f, g) for n, f, g in zip(names, flat, full, strict=True)}
    verdict = "open"
    if any(low > APART or high < -APART for _, low, high in gains.values()):
        verdict = "does not hold"
    elif all(low > -APART and high < APART for _, low, high in gains.values()):
        verdict = "holds"
    return {
        "title": "E1.1 The 2-D map",
        "question": "How much of a silhouette is made by the map on which it is taken?",
        "verdict": verdict,
        "verdict_reason": "Claim: a silhouette on 2-D coordinates measures the latents. On the map it changes by "
        + ", ".join(f"{shown(gain, 2)} at {n}" for n, gain in gains.items())
        + f" (paired); more than {APART} is another answer.",
        "paragraph": f"UMAP pulls neighbours together, so that a silhouette on its two coordinates says what the map "
        f"does as well as what the latents hold: by shape and colour at {names[-1]} it is "
        f"{said(flat[-1])} on the map and {said(full[-1])} in the latents.",
        "seed": {"silhouette": 0.808},
        "tables": [
            table(
                "Silhouette on the 2-D map",
                ["point", "in the latents, shape and colour", *(f"map, {f}" for f in FACTORS)],
                rows,
            )
        ],
        "charts": [
            chart(
                "Silhouette by shape and colour, in the latents and on the map",
                "bar",
                ("extraction point", "silhouette"),
                [series("latents", names, full, names), series("2-D map", names, flat, names)],
            ),
            *charts,
        ],
        "pictures": [],
        "facts": {},
    }
