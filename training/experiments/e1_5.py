"""E1.5: the whole pipeline, three adapters at the recommended point and at the best ones."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from tqdm import tqdm

from foresight.models.points import ExtractionPoint
from training.data import scene_data
from training.experiments.bench import Bench
from training.experiments.e1_6_depth import best_points
from training.experiments.experiment import Experiment, Measurement, write_grid
from training.experiments.trials import (
    SWAPPED,
    Trial,
    decode_all,
    example_rows,
    references,
    round_trip,
    score_all,
    train_trials,
)
from training.fit import Fit, FitConfig
from training.latents import Latents
from training.loop import Recipe, train
from training.losses import ImageLoss

KINDS = ("linear", "pooled", "tokens")
OPTIMISED = "optimised latents"


def train_on_images(bench: Bench, adapters: dict[str, nn.Module], point: ExtractionPoint) -> None:
    """Goes on with adapters of one point, named "0-tokens" by seed and kind, with a loss on decoded images too."""
    steps, data = bench.scale.picture_steps, bench.train()
    if not steps:
        return
    points = {name.rsplit("-", 1)[0]: data.points[str(point)] for name in adapters}  # Fit finds latents by this name
    recipe = Recipe(steps, bench.scale.picture_batch, bench.scale.lr / 2, max(1, steps // 10), seed=bench.seed)
    config = FitConfig((str(point),), KINDS, scene_data(len(data)), images_from=0.0, recipe=recipe)
    task = Fit(adapters, [replace(data, points=points)], bench.vae, config)  # type: ignore[arg-type]
    with torch.compiler.set_stance("force_eager"):  # compiling takes longer than these few steps gain
        for _ in tqdm(train(task, recipe, bench.device), f"E1.5, images at {point}", steps, leave=False, unit="step"):
            pass


def optimised(bench: Bench, truth: Latents) -> Tensor:
    """Images (N, 3, H, W) of VAE latents that were fitted to each picture itself, from the encoder's on.

    What the decoder can draw: an adapter may beat the encoder's latents, but hardly these.
    """
    loss, parts = ImageLoss(bench.vae, None, 4.0, 0.0, 0.0, 1.0), []
    size = max(1, bench.batch // 4)
    for start in range(0, len(truth), size):
        part = truth[start : start + size]
        z = part.targets.clone().requires_grad_()
        optimizer = torch.optim.Adam([z], lr=0.02 * float(truth.targets.std()))
        generator = torch.Generator(bench.device).manual_seed(bench.seed)
        for _ in range(bench.scale.ceiling_steps):
            optimizer.zero_grad()
            (loss(z, part.pictures, part.masks, generator).sum() * len(part)).backward()
            optimizer.step()
        parts.append(z.detach())
    return round_trip(bench, replace(truth, targets=torch.cat(parts)))


def measure(bench: Bench, layers: Measurement) -> Measurement:
    test, at = bench.test(), bench.recommended
    best, best_after = map(bench.vlm.point, best_points(layers.tables[layers.values["everywhere"]]))
    points = list(dict.fromkeys([at, best_after, best]))
    trials = [Trial(f"{p} {kind}", kind, (p,), bench.train(), test) for p in points for kind in KINDS]
    modules = train_trials(bench, trials, "E1.5")
    for point in points:  # linear probes are solved, and look at no images
        trained = {f"{s}-{kind}": m for kind in KINDS[1:] for s, m in enumerate(modules[f"{point} {kind}"])}
        train_on_images(bench, trained, point)
    decoded = {trial.name: decode_all(bench, modules[trial.name], trial, test) for trial in trials}
    tokens = f"{at} tokens"
    rows, names = example_rows(bench, test), [*(f"{at} {k}" for k in KINDS), *(f"{p} tokens" for p in points[1:])]
    images = [test.pictures.float() / 255, *(decoded[n][0] for n in names), round_trip(bench, test)]
    scores = {name: score_all(bench, seeds, test) for name, seeds in decoded.items()}
    swapped = {f"{tokens}, {SWAPPED}": score_all(bench, [x.roll(1, 0) for x in decoded[tokens]], test)}
    title = f"Rows: original, {', '.join(names)}, oracle"
    return Measurement(
        {
            "scores": scores
            | swapped
            | references(bench)
            | {OPTIMISED: score_all(bench, [optimised(bench, test)], test)}
        },
        {"latents": bench.scale.steps, "images": bench.scale.picture_steps},
        values={"points": list(map(str, points))},
        grids=[write_grid(bench.artifacts / "e1_5.webp", [x[rows] for x in images], title, at)],
    )


E1_5 = Experiment(
    "e1_5",
    "E1.5 The whole pipeline",
    "Do an adapter and a frozen VAE bring the picture back, beyond what a blank page would score?",
    measure,
    needs=("e1_6_depth",),
    version=3,
)
