"""Beyond: adapters that read several layers at once, against the best single one of them, with as many parameters."""

from __future__ import annotations

import numpy as np

from foresight.adapters.modules import LayerMix
from training.experiments.bench import Bench
from training.experiments.experiment import Experiment, Measurement
from training.experiments.ladder import climb, rung_name
from training.experiments.statistics import best
from training.experiments.trials import Trial, references, run_trials


def measure(bench: Bench, depth: Measurement) -> Measurement:
    last = bench.vlm.points[-1].layer
    low, high = round(7 * last / 28), max(1, round(14 * last / 28))  # the seed's layers 7 to 14 of 28
    before, after = ([p for p in bench.points if p.stage == stage] for stage in ("pre-merge", "post-merge"))
    window = [p for p in after if low <= p.layer <= high]
    sets = {
        f"mix of {window[0]} to {window[-1]}" if window else "": window,
        f"mix of all {len(after)} after the merger": after,
        f"mix of all {len(before)} before the merger": before,
        f"routing over all {len(after)} after the merger": after,
    }
    sets = {name: points for name, points in sets.items() if len(points) > 1}
    everywhere, train, test = depth.tables[depth.values["everywhere"]], bench.train(), bench.test()
    single = {name: best({str(p): everywhere[str(p)] for p in points}) for name, points in sets.items()}
    trials = [Trial(name, name.split()[0], tuple(points), train, test) for name, points in sets.items()]
    rivals = [Trial(name, "tokens", (bench.vlm.point(name),), train, test) for name in dict.fromkeys(single.values())]
    ladder = climb(bench, [*trials, *rivals], "Blends", bench.scale.rungs[1:3])
    linear = run_trials(bench, [Trial(t.name, "linear", t.points, train, test) for t in rivals], "Blends, linear")
    shares = {}
    for name, points in sets.items():
        seeds = [m.shares.detach().cpu().numpy() for m in ladder.last.modules[name] if isinstance(m, LayerMix)]
        if seeds:
            shares[name] = dict(zip(map(str, points), np.mean(seeds, 0), strict=True))
    shorter, longest = ladder.rungs
    return Measurement(
        {
            "scores": ladder.last.table | references(bench),
            rung_name(shorter): ladder.rungs[shorter].table,
            "linear": linear.table,
        },
        {"scores": longest},
        ladder.last.parameters,
        {"shares": shares, "single": single, "layers": f"{low} to {high} of {last}", "rates": ladder.rates},
    )


BLENDS = Experiment(
    "blends",
    "Beyond: several layers at once",
    "Do several layers together hold more than the best single one of them?",
    measure,
    needs=("e1_6_depth",),
    version=2,
)
