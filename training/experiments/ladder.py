"""Adapters that learn for more and more steps: only what more steps no longer change may be told.

At each rung they begin anew, learn from pictures of equal number a step, and have the learning rate that is best on
an eighth of the training pictures, chosen for each trial on the first rung.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.experiments.bench import Bench
from training.experiments.experiment import ScoreTable
from training.experiments.parallel import Learner, train_parallel, usual_recipe
from training.experiments.trials import Results, Trial, for_validation, learner, run_trials, untrained


@dataclass(frozen=True)
class Ladder:
    """rungs: {steps: what trials came to}, in rising order. rates: the learning rate of each trial by its name."""

    rungs: dict[int, Results]
    rates: dict[str, float]

    @property
    def tables(self) -> dict[str, ScoreTable]:
        """Score tables by the name of their rung."""
        return {rung_name(steps): results.table for steps, results in self.rungs.items()}

    @property
    def last(self) -> Results:
        """The longest trained."""
        return self.rungs[max(self.rungs)]


def rung_name(steps: int) -> str:
    """What the table of a rung goes by."""
    return f"{steps} steps"


def climb(
    bench: Bench,
    trials: Sequence[Trial],
    title: str,
    rungs: Sequence[int] | None = None,
    rates: Mapping[str, float] | None = None,
) -> Ladder:
    """Trains and scores trials at each rung.

    rungs: None: all of the study's but the highest, which few can afford. rates: chosen before, by trial's name.
    """
    rates = rates or choose_rates(bench, trials, title)
    fitted = [replace(trial, rate=rates[trial.name]) for trial in trials]
    return Ladder(
        {
            steps: run_trials(bench, fitted, f"{title}, {rung_name(steps)}", usual_recipe(bench, steps))
            for steps in rungs or bench.scale.rungs[:-1]
        },
        dict(rates),
    )


def choose_rates(bench: Bench, trials: Sequence[Trial], title: str) -> dict[str, float]:
    """The learning rate for each trial by its name: of the study's rates the one that validates best."""
    errors: dict[str, dict[float, float]] = {trial.name: {} for trial in trials}
    steps = bench.scale.rungs[0]
    for rate in bench.scale.rates:
        pairs: list[tuple[Learner, Tensor]] = []
        for trial in trials:
            seed = trial.seeds[0] if trial.seeds else 0
            candidate = learner(bench, trial, untrained(bench, trial, seed), seed)
            held = for_validation(len(candidate.rows))
            pairs.append((replace(candidate, rows=candidate.rows[~held]), candidate.rows[held]))
        recipe = replace(usual_recipe(bench, steps), lr=rate)
        train_parallel(bench, [candidate for candidate, _ in pairs], recipe, f"{title}, which rate, {rate:g}")
        for trial, (candidate, held) in zip(trials, pairs, strict=True):
            errors[trial.name][rate] = validation_error(bench, candidate, held)
    return {name: min(of, key=of.__getitem__) for name, of in errors.items()}


@torch.inference_mode()
def validation_error(bench: Bench, trained: Learner, rows: Tensor) -> float:
    """The mean squared error of standardised VAE latents on some rows."""
    total = 0.0
    for chosen_rows in rows.to(bench.device).split(bench.batch):
        total += float(trained.loss(chosen_rows)) * len(chosen_rows)
    return total / len(rows)
