"""E1.3: before and after the 2×2 merger, with the same capacity, budget and standardisation."""

from dataclasses import replace

from training.experiments.bench import Bench
from training.experiments.experiment import Experiment, Measurement
from training.experiments.ladder import climb, rung_name
from training.experiments.trials import Trial, hidden_for, references, run_trials, untrained

KINDS = ("linear", "tokens", "pooled")


def measure(bench: Bench) -> Measurement:
    train, test = bench.train(), bench.test()
    usual = untrained(bench, Trial("", "tokens", (bench.merger[1],), train, test), 0)
    size = sum(p.numel() for p in usual.parameters())
    tokens, others = list[Trial](), list[Trial]()
    for point in bench.merger:
        trial = Trial(f"{point} tokens", "tokens", (point,), train, test)
        tokens.append(replace(trial, hidden=hidden_for(size, trial, bench)))
        others += [Trial(f"{point} {kind}", kind, (point,), train, test) for kind in KINDS if kind != "tokens"]
    ladder, rest = climb(bench, tokens, "E1.3"), run_trials(bench, others, "E1.3, others")
    longest = max(ladder.rungs)
    shorter = {rung_name(steps): results.table for steps, results in ladder.rungs.items() if steps < longest}
    return Measurement(
        {"scores": ladder.last.table | rest.table | references(bench)} | shorter,
        {"scores": longest, "others": rest.steps},
        ladder.last.parameters | rest.parameters,
        {"rates": ladder.rates},
    )


E1_3 = Experiment(
    "e1_3",
    "E1.3 Before and after the merger",
    "Is a picture better read out after the 2×2 merger than before it?",
    measure,
    version=3,
)
