"""Beyond: a learned softmax blend of layers against the best single one, with the same parameters."""

from __future__ import annotations

import numpy as np

from training.experiments.bench import Bench
from training.experiments.experiment import Experiment, Measurement
from training.experiments.trials import Blend, Trial, references, run_trials


def measure(bench: Bench) -> Measurement:
    last = bench.vlm.points[-1].layer
    low, high = round(7 * last / 28), max(1, round(14 * last / 28))  # the seed's layers 7 to 14 of 28
    after = [p for p in bench.points if p.stage == "post-merge"]
    window = [p for p in after if low <= p.layer <= high]
    inside = ", ".join(str(p.layer) for p in window)
    blends = {f"blend of layers {inside}": window, f"blend of all {len(after)} after the merger": after}
    blends = {name: points for name, points in blends.items() if len(points) > 1}
    train, test = bench.train(), bench.test()
    trials = [Trial(str(p), "tokens", (p,), train, test) for p in after]
    trials += [Trial(name, "tokens", tuple(points), train, test) for name, points in blends.items()]
    results = run_trials(bench, trials, "Blends")
    shares = {}
    for name, points in blends.items():
        seeds = [m.shares.detach().cpu().numpy() for m in results.modules[name] if isinstance(m, Blend)]
        shares[name] = dict(zip(map(str, points), np.mean(seeds, 0), strict=True))
    return Measurement(
        {"scores": results.table | references(bench)},
        {"scores": results.steps},
        results.parameters,
        {"shares": shares, "layers": f"{low} to {high} of {last}"},
    )


BLENDS = Experiment(
    "blends",
    "Beyond: blends of layers",
    "Does a blend of the seed's layers 7 to 14 of 28 hold more than the best single layer inside it?",
    measure,
)
