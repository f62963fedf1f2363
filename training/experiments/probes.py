"""Beyond: what a linear classifier tells of an object at each point, and what it makes of labels without meaning.

The control task is Hewitt and Liang's (2019): each pair of shape and colour has a label by chance, which a probe can
only know by heart. V-information is Xu et al.'s (2020), the description length Voita and Titov's online code (2020):
what a receiver must be sent of labels that it learns to foretell, portion by portion.

Shapes: N images, D numbers of a pooled latent, T tasks with P penalties each, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foresight.data.scenes import Scenes
from training.experiments.bench import Bench
from training.experiments.e1_1 import BOTH, FACTORS, MEANS, SPEC, condition, features, labels
from training.experiments.experiment import Experiment, Measurement, Samples, ScoreTable
from training.experiments.trials import for_validation

SCENES = 320  # its seed
TASKS = tuple(factor for factor in FACTORS if factor != BOTH)
CONTROL, RANDOM = "control task", "random weights"
PENALTIES = (1e-4, 1e-2, 1.0)
STRETCHES = 16
PORTIONS = 5  # each twice as long as the one before


@dataclass(frozen=True)
class Task:
    """A label (N,) below `classes` of each image, for training and for test."""

    name: str
    train: Tensor
    test: Tensor
    classes: int


def fit_probes(x: Tensor, tasks: Sequence[Task]) -> list[Tensor]:
    """For each task the weights (D + 1, C) of logistic regression on standardised x (N, D), the last row a bias.

    Seven eighths of the images are learned from, the others choose the penalty. All are fitted as one by L-BFGS, as
    their sum is least where each of them is.
    """
    held = for_validation(len(x)).to(x.device)
    ones = torch.nn.functional.pad(x, (0, 1), value=1.0)
    trials = [(task, penalty) for task in tasks for penalty in PENALTIES]
    most = max(task.classes for task in tasks)
    # All have as many classes; those that a task lacks are out of the question, and their weights stay at nothing.
    absent = torch.tensor([[k >= task.classes for k in range(most)] for task, _ in trials], device=x.device)
    penalties = torch.tensor([penalty for _, penalty in trials]).to(x)[:, None]
    truths = torch.stack([task.train[: len(x)] for task, _ in trials], 1).to(x.device)  # (N, T · P)
    weights = torch.zeros(ones.shape[1], len(trials), most, device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, tolerance_change=1e-6, line_search_fn="strong_wolfe")

    def errors(rows: Tensor) -> Tensor:
        logits = torch.einsum("nd,dtc->nct", ones[rows], weights).masked_fill(absent.T, float("-inf"))
        return torch.nn.functional.cross_entropy(logits, truths[rows], reduction="none").mean(0)  # (T · P,)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = errors(~held).sum() + 0.5 * (penalties * weights[:-1].square()).sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        best = errors(held).view(len(tasks), -1).argmin(1).tolist()
    picked = zip(tasks, range(0, len(trials), len(PENALTIES)), best, strict=True)
    return [weights.detach()[:, first + choice, : task.classes] for task, first, choice in picked]


def bits(weights: Tensor, x: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) each: the bits that a probe leaves to be told of a label, and whether its likeliest one is right."""
    logits = torch.nn.functional.pad(x, (0, 1), value=1.0) @ weights
    right = logits.argmax(1) == truth
    return torch.nn.functional.cross_entropy(logits, truth, reduction="none") / np.log(2), right


def standardised(x: Tensor, by: Tensor) -> Tensor:
    return (x - by.mean(0)) / by.std(0).clamp_min(1e-6)


def probe(train: Tensor, test: Tensor, tasks: Sequence[Task]) -> list[Samples]:
    """For each task, of test images (1, N): accuracy and V-information in bits; of STRETCHES of training images (1, …)
    the code's bits an image."""
    samples: list[dict[str, list[Tensor]]] = [{"code": []} for _ in tasks]
    ends = [len(train) >> k for k in reversed(range(PORTIONS)) if len(train) >> k >= 8]
    for k, task in enumerate(tasks):  # what comes first is sent as it is
        samples[k]["code"].append(torch.full((ends[0],), float(np.log2(task.classes))))
    for end, following in zip(ends, [*ends[1:], None], strict=True):
        own = standardised(train[:end], train[:end])
        for k, (task, weights) in enumerate(zip(tasks, fit_probes(own, tasks), strict=True)):
            if following:
                ahead = standardised(train[end:following], train[:end])
                samples[k]["code"].append(bits(weights, ahead, task.train[end:following].to(train.device))[0].cpu())
                continue
            truth = task.test.to(train.device)
            bits_left, right = bits(weights, standardised(test, train), truth)
            prior = (torch.bincount(task.train, minlength=task.classes) + 1.0).to(bits_left)
            without = -(prior / prior.sum()).log2()[truth]  # what a probe that sees nothing leaves to be told
            samples[k] |= {"accuracy": [right.float()], "V-information, bits": [without - bits_left]}
    for values in samples:  # means of stretches of the training images, of which there are many
        values["code"] = [torch.stack([part.mean() for part in torch.cat(values["code"]).tensor_split(STRETCHES)])]
    return [{n: torch.cat(parts).double().cpu().numpy()[None] for n, parts in values.items()} for values in samples]


def tasks_of(train: Scenes, test: Scenes, controls: int) -> list[Task]:
    """Each factor as a task, and as many control tasks, which give pairs of shape and colour labels by chance."""
    known, unseen = labels(train), labels(test)
    pairs, places = np.unique(known[BOTH], return_inverse=True)
    unseen_places = np.searchsorted(pairs, unseen[BOTH]).clip(max=len(pairs) - 1)
    tasks = []
    for name in TASKS:
        values, known_numbers = np.unique(known[name], return_inverse=True)
        unseen_numbers = np.searchsorted(values, unseen[name]).clip(max=len(values) - 1)
        tasks.append(Task(name, torch.as_tensor(known_numbers), torch.as_tensor(unseen_numbers), len(values)))
        for seed in range(controls):
            table = np.random.default_rng(seed).integers(len(values), size=len(pairs))
            known_by_heart, chance = (torch.as_tensor(table[x]) for x in (places, unseen_places))
            tasks.append(Task(f"{name}, {CONTROL}", known_by_heart, chance, len(values)))
    return tasks


def measure(bench: Bench) -> Measurement:
    scenes = [bench.scenes(count, SCENES, SPEC, split)
              for count, split in ((bench.scale.probes, "train"), (bench.scale.test, "test"))]  # fmt: skip
    vlms = {"": bench.vlm, f", {RANDOM}": bench.random_vlm(0)}
    scores: dict[str, dict[str, np.ndarray]] = {}
    for ending, vlm in vlms.items():
        tasks = tasks_of(scenes[0], scenes[1], 0 if ending else bench.scale.seeds)
        sets = [features(vlm, s, bench.points, bench.batch) for s in scenes]
        for point in bench.points:
            train, test = (latents[condition(point, MEANS[1])].to(bench.device) for latents in sets)
            for task, samples in zip(tasks, probe(train, test, tasks), strict=True):
                of = scores.setdefault(f"{point}, {task.name}{ending}", {})
                for name, values in samples.items():
                    of[name] = np.concatenate([of[name], values]) if name in of else values
    accuracies: ScoreTable = {n: {s: v for s, v in samples.items() if s != "code"} for n, samples in scores.items()}
    return Measurement({
        "scores": accuracies,
        "description length": {n: {"bits an image": samples["code"]} for n, samples in scores.items()},
    })  # fmt: skip


PROBES = Experiment(
    "probes",
    "Beyond: probes, what they tell and what they learn by heart",
    "What of an object can be told by a linear classifier at each point, and in how few bits?",
    measure,
    pooled=True,
)
