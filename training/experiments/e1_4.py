"""E1.4: where things are. Boxes read from latents; the objects of decoded images, one and several."""

import torch
from torch import Tensor, nn

from foresight.data.render import render
from foresight.data.scenes import Scenes, SceneSpec
from training.experiments.bench import Bench
from training.experiments.boxes import BoxError, PooledBox, TokenBox, best_constant_box, box_scores
from training.experiments.experiment import Experiment, Measurement, ScoreTable, stack_seeds, write_grid
from training.experiments.objects import object_scores
from training.experiments.parallel import Learner, train_parallel, usual_recipe
from training.experiments.trials import Trial, decode_all, round_trip, score_all, train_trials
from training.fit import STATISTICS_ROWS

ONE = SceneSpec(objects=(1, 1))
SEVERAL = SceneSpec(objects=(2, 5))
SCENES = 410  # its seed
HEADS = {"pooled head": PooledBox, "token head": TokenBox}
CONSTANT = "constant box"


def true_boxes(scenes: Scenes, bench: Bench) -> Tensor:
    """Boxes (N, 4) of one-object scenes as fractions, on the bench's device."""
    boxes = render(scenes.to(bench.device)).boxes[:, 0].float()
    height, width = scenes.size
    return boxes / boxes.new_tensor([width, height, width, height])


def box_heads(bench: Bench) -> tuple[ScoreTable, int]:
    """Scores of every head at every landmark and of the best constant box; the steps made."""
    scale, points = bench.scale, bench.landmarks
    training = bench.scenes(scale.boxes, SCENES, ONE, "train")
    held_out = bench.scenes(4 * scale.test, SCENES, ONE, "test")
    train, test = (bench.latents([scenes], points) for scenes in (training, held_out))
    goals, truth = (true_boxes(scenes, bench) for scenes in (training, held_out))

    heads: dict[str, list[nn.Module]] = {}
    learners = []
    for point in points:
        latents = train.points[str(point)]
        for kind, new_head in HEADS.items():
            for seed in range(scale.seeds):
                torch.manual_seed(1000 * bench.seed + seed)
                head = new_head(latents[:STATISTICS_ROWS]).to(bench.device)
                heads.setdefault(f"{point} {kind}", []).append(head)
                learners.append(Learner(head, torch.arange(len(train)), [latents], goals, BoxError(head), seed))
    recipe = usual_recipe(bench, 2 * scale.steps)
    train_parallel(bench, learners, recipe, "E1.4")
    with torch.inference_mode():
        table = {
            name: stack_seeds([box_scores(head(test.points[name.split()[0]]), truth) for head in seeds])
            for name, seeds in heads.items()
        }
    constant = best_constant_box(goals[:1024]).expand(len(truth), 4)
    return table | {CONSTANT: stack_seeds([box_scores(constant, truth)])}, recipe.steps


def measure(bench: Bench) -> Measurement:
    boxes, steps = box_heads(bench)
    scenes = bench.scenes(bench.scale.crowds, SCENES, SEVERAL, "test")
    test, visible = bench.latents([scenes], bench.landmarks), render(scenes.to(bench.device)).visible
    trials = [Trial(f"{p} tokens", "tokens", (p,), bench.train(), test) for p in bench.landmarks]
    modules = train_trials(bench, trials, "E1.4, several objects")
    original = test.pictures.float() / 255
    decoded = {trial.name: decode_all(bench, modules[trial.name], trial, test) for trial in trials}
    rows = [x[: bench.scale.kept] for x in (original, *(y[0] for y in decoded.values()))]
    decoded["oracle"] = [round_trip(bench, test)]
    scores = {name: score_all(bench, seeds, test) for name, seeds in decoded.items()}
    decoded |= {"originals": [original], "blank": [torch.ones_like(original)]}
    objects = {name: stack_seeds([object_scores(x, visible) for x in seeds]) for name, seeds in decoded.items()}
    title = "Rows: original, then " + ", ".join(trial.name for trial in trials)
    return Measurement(
        {"scores": scores, "boxes": boxes, "objects": objects},
        {"boxes": steps, "scores": bench.scale.steps},
        grids=[write_grid(bench.artifacts / "e1_4.webp", rows, title, bench.recommended)],
    )


E1_4 = Experiment(
    "e1_4", "E1.4 Where things are", "Do latents keep positions exactly, or only roughly?", measure, version=2
)
