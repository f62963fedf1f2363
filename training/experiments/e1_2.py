"""E1.2: a linear probe at every point: what can be read off the latents without any processing."""

from training.experiments.bench import Bench
from training.experiments.experiment import Experiment, Measurement, write_grid
from training.experiments.trials import Trial, decode, example_rows, references, run_trials


def measure(bench: Bench) -> Measurement:
    test = bench.test()
    trials = {str(p): Trial(str(p), "linear", (p,), bench.train(), test) for p in bench.points}
    results = run_trials(bench, [*trials.values()], "E1.2")
    names = list(trials)
    best = min(names, key=lambda n: results.table[n]["lpips"].mean())
    before, after, at = *map(str, bench.merger), str(bench.recommended)
    rows, examples = example_rows(bench, test), dict.fromkeys((names[0], best, before, after, at, names[-1]))
    decoded = [decode(bench, results.modules[n][0], [x[rows] for x in trials[n].inputs(test)]) for n in examples]
    images, title = [test.pictures[rows].float() / 255, *decoded], "Rows: original, then " + ", ".join(examples)
    return Measurement(
        {"scores": results.table | references(bench)},
        {"scores": results.steps},
        results.parameters,
        grids=[write_grid(bench.artifacts / "e1_2.webp", images, title, at, "linear")],
    )


E1_2 = Experiment(
    "e1_2",
    "E1.2 Linear probe",
    "Can a picture be read off the latents by one linear map for each token?",
    measure,
    version=2,
)
