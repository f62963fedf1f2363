"""E1.6: the adapter's size, the amount of training data, the image's size. Depth is in e1_6_depth."""

from dataclasses import replace

from torch import nn

from training.experiments.bench import Bench
from training.experiments.experiment import Experiment, Measurement, Samples, ScoreTable
from training.experiments.parallel import usual_recipe
from training.experiments.trials import Results, Trial, references, round_trip, run_trials, score_all

ORACLE = "oracle"


def width(bench: Bench) -> Results:
    """Token and pooled adapters of each hidden width, at the recommended point."""
    train, test, at, scale = bench.train(), bench.test(), bench.recommended, bench.scale
    own = scale.hidden or max(128, bench.vlm.width(at) // 4)  # as new_adapter has it
    table, modules = dict[str, Samples](), dict[str, list[nn.Module]]()
    for hidden in sorted({own, *scale.widths}):
        kinds = ("pooled", "tokens") if hidden in scale.widths else ("tokens",)
        trials = [Trial(f"{kind} {hidden}", kind, (at,), train, test, hidden) for kind in kinds]
        # Under Adam inner matrices want a rate that falls with the width, and all else the same one (Yang et al.,
        # "Tensor Programs V", 2022). The root lies between; at 1024 it is measurably better than either.
        recipe = replace(usual_recipe(bench), batch=scale.width_batch, lr=scale.lr * (own / hidden) ** 0.5)
        results = run_trials(bench, trials, f"E1.6, width {hidden}", recipe)
        table |= results.table
        modules |= results.modules
    return Results(table, modules, scale.steps)


def amount(bench: Bench) -> Results:
    """Token adapters trained on more and more scenes, at the recommended point."""
    at, most = bench.recommended, max(bench.scale.amounts)
    train = bench.latents(bench.mixture(most, "train"), [at])
    trials = [Trial(str(n), "tokens", (at,), train, bench.test(), count=n) for n in bench.scale.amounts]
    recipe = replace(usual_recipe(bench, bench.scale.amount_steps), batch=bench.scale.amount_batch)
    return run_trials(bench, trials, "E1.6, data", recipe)


def side(bench: Bench) -> tuple[Results, ScoreTable]:
    """Token adapters at each image size, and each size's oracle: the VAE itself draws a larger image more finely."""
    at, trials, oracles = bench.recommended, [], {}
    for pixels in bench.scale.sides:
        train, test = (
            bench.latents([s.resized((pixels, pixels)) for s in bench.mixture(count, split)], [at])
            for count, split in ((bench.scale.side_train, "train"), (bench.scale.test, "test"))
        )
        scored = replace(bench.test(), points=test.points)  # all are scored at the study's size
        trials.append(Trial(str(pixels), "tokens", (at,), train, scored))
        oracles[f"{ORACLE}, {pixels}"] = score_all(bench, [round_trip(bench, test)], bench.test())
    return run_trials(bench, trials, "E1.6, picture size"), oracles


def measure(bench: Bench) -> Measurement:
    curves = {"adapter size": width(bench), "training data": amount(bench)}
    curves["picture size"], oracles = side(bench)
    tables: dict[str, ScoreTable] = {name: results.table for name, results in curves.items()}
    tables["picture size"] = {**tables["picture size"], **oracles}
    return Measurement(
        tables | {"references": references(bench)},
        {name: results.steps for name, results in curves.items()},
        curves["adapter size"].parameters,
    )


E1_6 = Experiment(
    "e1_6",
    "E1.6 Size and data",
    "How large must an adapter be, how many scenes does it need, and does a larger picture help?",
    measure,
    version=3,
)
