"""Beyond: adapters that read several layers at once, against the best single one of them, with as many parameters."""

import numpy as np

from foresight.adapters.modules import LayerMix
from training.experiments.bench import Bench
from training.experiments.experiment import Experiment, Measurement
from training.experiments.ladder import climb, rung_name
from training.experiments.statistics import best
from training.experiments.trials import Trial, references


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
    rungs = bench.scale.rungs[1:3]
    known = {n: {str(p): s for p, s in depth.tables[rung_name(n)].items() if p in single.values()} for n in rungs}
    names = [name for name in dict.fromkeys(single.values()) if any(name not in table for table in known.values())]
    rivals = [Trial(name, "tokens", (bench.vlm.point(name),), train, test) for name in names]
    ladder = climb(bench, [*trials, *rivals], "Blends", rungs)
    tables = {rung_name(n): {**known[n], **results.table} for n, results in ladder.rungs.items()}
    shares = {}
    for name, points in sets.items():
        seeds = [m.shares.detach().cpu().numpy() for m in ladder.last.modules[name] if isinstance(m, LayerMix)]
        if seeds:
            shares[name] = dict(zip(map(str, points), np.mean(seeds, 0), strict=True))
    longest = max(ladder.rungs)
    return Measurement(
        {
            "scores": {**tables.pop(rung_name(longest)), **references(bench)},
            "linear": {name: depth.tables["linear"][name] for name in dict.fromkeys(single.values())},
            **tables,
        },
        {"scores": longest},
        {**depth.parameters, **ladder.last.parameters},
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
