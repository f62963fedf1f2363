"""The seed's choices, each given its share of what they change together: Shapley values over all orders.

`seed_protocol` changes one choice after another, and what a choice is worth depends on those changed before it. Here
every subset of them is measured; a choice's Shapley value is its mean worth over all orders (Shapley 1953).
"""

from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from training.experiments.bench import Bench
from training.experiments.experiment import Experiment, Measurement, Samples
from training.experiments.seed_protocol import INDEPENDENT, SCENES, SEEDS_OWN, confounded, last_state, recipe
from training.experiments.trials import Trial, decode_all, round_trip, score_all, train_trials
from training.latents import Latents

CHOICES = (
    "unseen test pictures",
    "shape, colour and size independent",
    "the picture's tokens alone",
    "the middle layer",
    "many scenes",
    "the grid of tokens kept",
)
UNSEEN, FREE, ALONE, MIDDLE, MANY, GRID = range(len(CHOICES))
Subset = tuple[int, ...]  # numbers of the choices that are changed, in rising order


def subsets() -> list[Subset]:
    """All 64, the seed's protocol first."""
    return [chosen for n in range(len(CHOICES) + 1) for chosen in combinations(range(len(CHOICES)), n)]


def subset_name(chosen: Subset) -> str:
    """ "0,3", as kept in results."""
    return ",".join(map(str, chosen))


@torch.inference_mode()
def last_grid(bench: Bench, images: Tensor) -> Tensor:
    """Images (N, 3, H, W) uint8 → (N, 1, h, w, D): the last state of the picture's tokens after the final norm.

    Text behind a picture cannot change these, so their mean is that of `last_state` without the text's tokens.
    """
    last, norm = bench.vlm.points[-1], bench.vlm.model.model.language_model.norm
    parts = [bench.vlm.latents(part.float() / 255, [last])[str(last)] for part in images.split(bench.batch)]
    return torch.cat([norm(part) for part in parts])


def latents_of(bench: Bench, data: Latents) -> dict[str, Latents]:
    """The same images with each kind of latents that the choices lead to, all under the name of one point."""
    at = str(bench.recommended)
    n, _, h, w, _ = data.points[at].shape
    state = last_state(bench, data.pictures)[:, None, None, None].expand(n, 1, h, w, -1)
    kinds = {
        "mean of all tokens": state,
        "last layer": last_grid(bench, data.pictures),
        "middle layer": data.points[at],
    }
    return {kind: replace(data, points={at: x}) for kind, x in kinds.items()}


def training_of(chosen: Subset) -> tuple[bool, bool, str, str]:
    """What a subset learns from and how: scenes free, many of them, kind of latents, kind of adapter.

    A grid is of the picture's tokens, and so is the middle layer's mean: then that choice changes nothing.
    """
    grid = GRID in chosen or ALONE in chosen
    latents = "middle layer" if MIDDLE in chosen else "last layer" if grid else "mean of all tokens"
    return FREE in chosen, MANY in chosen, latents, "tokens" if GRID in chosen else "pooled"


def condition(chosen: Subset) -> str:
    """The name of its row in tables; subsets that come to the same have one."""
    free, many, latents, kind = training_of(chosen)
    scenes = ("one colour a shape", "independent factors")[free], ("few", "many")[many]
    return f"{kind}, {latents}, {scenes[0]}, {scenes[1]} scenes, {test_name(chosen)}"


def test_name(chosen: Subset) -> str:
    """What it is tested on, without the factors."""
    return "unseen pictures" if UNSEEN in chosen else "pictures that it learned from"


def measure(bench: Bench) -> Measurement:
    scale, at, training_recipe = bench.scale, bench.recommended, recipe(bench.scale, bench.seed)
    table: dict[str, Samples] = {}
    references: dict[str, dict[str, str]] = {}
    for free in (False, True):
        spec = INDEPENDENT if free else SEEDS_OWN

        def drawn(count: int, split: str, free: bool = free, spec: object = spec) -> dict[str, Latents]:
            scenes = bench.scenes(count, SCENES, spec, split)  # type: ignore[arg-type]
            return latents_of(bench, bench.latents([scenes if free else confounded(scenes)], [at]))

        unseen = drawn(scale.seed_test, "test")
        for many_scenes in (False, True):
            known = drawn(scale.train if many_scenes else scale.seed_train, "train")
            trained_here = [s for s in subsets() if training_of(s)[:2] == (free, many_scenes)]
            kinds = dict.fromkeys(training_of(s)[2:] for s in trained_here)
            trials = {
                (latents, kind): Trial(
                    f"{latents}, {kind}",
                    kind,
                    (at,),
                    known[latents],
                    unseen[latents],
                    scale.seed_hidden if kind == "pooled" else None,
                )
                for latents, kind in kinds
            }
            modules = train_trials(bench, [*trials.values()], f"Attribution, {free:d}{many_scenes:d}", training_recipe)
            for chosen in trained_here:
                name, trial = condition(chosen), trials[training_of(chosen)[2:]]
                test = trial.test if UNSEEN in chosen else trial.train[: scale.seed_test]
                if name not in table:
                    table[name] = score_all(bench, decode_all(bench, modules[trial.name], trial, test), test)
                blank, oracle = (f"{what}, {name.split(', ', 2)[2]}" for what in ("blank", "oracle"))
                references[name] = {"blank": blank, "oracle": oracle}
                if blank not in table:
                    table[blank] = score_all(bench, [torch.ones_like(test.pictures.float())], test)
                    table[oracle] = score_all(bench, [round_trip(bench, test)], test)
    return Measurement(
        {"scores": table},
        {"scores": training_recipe.steps},
        values={"conditions": {subset_name(s): condition(s) for s in subsets()}, "references": references},
    )


ATTRIBUTION = Experiment(
    "attribution",
    "The seed's choices, by Shapley values",
    "Which of the seed's choices made its numbers, whatever the order in which they are changed?",
    measure,
)
