"""E1.6, depth: which layer holds most of the picture, told by adapters that learn for long, and by a solved one."""

from collections.abc import Sequence

from foresight.models.points import ExtractionPoint
from training.experiments.bench import Bench
from training.experiments.experiment import Experiment, Measurement, ScoreTable
from training.experiments.ladder import climb, rung_name
from training.experiments.statistics import best
from training.experiments.trials import Trial, references, run_trials


def measure(bench: Bench) -> Measurement:
    def trials(kind: str, points: Sequence[ExtractionPoint]) -> list[Trial]:
        return [Trial(str(p), kind, (p,), bench.train(), bench.test()) for p in points]

    rungs, few = bench.scale.rungs, len(bench.scale.rungs) // 2
    everywhere = climb(bench, trials("tokens", bench.points), "E1.6, depth", rungs[:few])
    longer = climb(bench, trials("tokens", bench.long_points), "E1.6, depth", rungs[few:], everywhere.rates)
    linear = run_trials(bench, trials("linear", bench.points), "E1.6, depth, linear")
    return Measurement(
        everywhere.tables | longer.tables | {"linear": linear.table, "references": references(bench)},
        {rung_name(steps): steps for steps in rungs},
        everywhere.last.parameters,
        {"rates": everywhere.rates, "everywhere": rung_name(rungs[few - 1])},
    )


def best_points(depths: ScoreTable) -> tuple[str, str]:
    """The point of least LPIPS, and that after the merger."""
    return best(depths), best({name: samples for name, samples in depths.items() if name.startswith("post-merge")})


E1_6_DEPTH = Experiment(
    "e1_6_depth",
    "E1.6 Depth",
    "Which layer holds most of the picture, once adapters have learned for long enough?",
    measure,
)
