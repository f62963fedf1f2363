"""E1.3: before and after the 2×2 merger, with the same capacity, budget and standardisation."""

from __future__ import annotations

from training.experiments.bench import Bench
from training.experiments.experiment import Experiment, Measurement
from training.experiments.trials import Trial, hidden_for, references, run_trials, untrained

KINDS = ("linear", "tokens", "pooled")


def measure(bench: Bench) -> Measurement:
    train, test = bench.train(), bench.test()
    usual = untrained(bench, Trial("", "tokens", (bench.merger[1],), train, test), 0)
    size = sum(p.numel() for p in usual.parameters())
    trials = []
    for kind in KINDS:
        for point in bench.merger:
            trial = Trial(f"{point} {kind}", kind, (point,), train, test)
            hidden = hidden_for(size, trial, bench) if kind == "tokens" else None
            trials.append(Trial(trial.name, kind, (point,), train, test, hidden))
    results = run_trials(bench, trials, "E1.3")
    return Measurement({"scores": results.table | references(bench)}, {"scores": results.steps}, results.parameters)


E1_3 = Experiment(
    "e1_3",
    "E1.3 Before and after the merger",
    "Is a picture better read out after the 2×2 merger than before it?",
    measure,
    version=2,
)
