"""What stands beside the seed's claims: controls, probes, neighbours, the seed's choices by Shapley values, motion."""

import numpy as np

from training.experiments.attribution import CHOICES
from training.experiments.controls import PERMUTED, PROJECTED, RANDOM, SHUFFLED, TRAINED
from training.experiments.experiment import Samples, ScoreTable
from training.experiments.neighbours import CHANCE, OVERLAP
from training.experiments.neighbours import RANDOM as RANDOM_NEIGHBOURS
from training.experiments.probes import CONTROL, TASKS
from training.experiments.probes import RANDOM as RANDOM_PROBES
from training.experiments.report.parts import (
    LATENTS_ALONE,
    RIDGE,
    TOLD,
    Answer,
    Run,
    bar_chart,
    budget,
    chart,
    difference,
    key,
    mean,
    score_key,
    score_table,
    series,
    table,
    text,
)
from training.experiments.statistics import Interval, paired, shapley_interval, skill_draws
from training.experiments.v1 import BLIND, DIRECTION, ERROR, PAIR, STILL
from training.experiments.v1 import RANDOM as RANDOM_CLIPS


def controls(run: Run) -> Answer:
    scores, tables, at, (before, after) = run.scores, run.measurement.tables, run.at, run.points.merger
    shorter, linear = next(n for n in tables if n.endswith(" steps")), tables["linear"]
    share, own = budget(run.steps, run.settings["batch"]), {n: scores[n] for n in run.points.landmarks}

    def between(a: str, b: str) -> str:
        return str(difference(tables[shorter], scores, a, b, [linear[n] for n in (a, b)]))

    pairs = {
        "trained minus random": [(p, f"{p}, {RANDOM}") for p in own],
        "trained minus permuted": [(p, f"{p}, {PERMUTED}") for p in dict.fromkeys((after, at))],
        "other trained VLMs minus random": [(f"{p}, {TRAINED}", f"{p}, {RANDOM}") for p in own],
        "the merger minus as many numbers of its inputs": [(after, name) for name in PROJECTED],
        "random merger": [(f"{after}, {RANDOM}", f"{before}, {RANDOM}")],
        "trained merger": [(after, before)],
        "tokens shuffled": [(f"{at}, {SHUFFLED}", at)],
    }
    rows = [[what, f"{a} minus {b}", text(paired(tables[shorter][a]["lpips"], tables[shorter][b]["lpips"]), 4),
             between(a, b)] for what, those in pairs.items() for a, b in those if a in scores]  # fmt: skip
    endings = {"trained": ""} | {name: f", {name}" for name in (TRAINED, RANDOM, PERMUTED)}
    by_point = {name: {p: scores[p + end] for p in own if p + end in scores} for name, end in endings.items()}
    by_point |= {name: {after: scores[name]} for name in PROJECTED}
    bars = [
        series(name, list(own), [samples[p]["lpips"] if p in samples else None for p in own], list(own))
        for name, samples in by_point.items()
        if samples
    ]
    count, others = run.measurement.values["trained VLMs"], ""
    if count > 1:
        others = f", of VLMs trained with other seeds {between(f'{at}, {TRAINED}', f'{at}, {RANDOM}')}"
    return Answer(
        None,
        f"Asked: is the picture read from what the VLM learned? At {at} LPIPS of trained minus random weights is "
        f"{between(at, f'{at}, {RANDOM}')} (paired; under 0 favours trained){others}. The merger minus a PCA of its "
        f"inputs to as many numbers is {between(after, PROJECTED[0])}, minus a random projection "
        f"{between(after, PROJECTED[1])}.",
        f"Token adapters, {LATENTS_ALONE}, {share}, each trained on the latents it is tested on, with the learning "
        f"rate that validates best. Trained VLMs: {count}; with random or permuted weights: "
        f"{len(scores[f'{at}, {RANDOM}']['lpips'])}, an adapter each. {TOLD}. "
        + ("Of one trained VLM nothing follows for others of its kind. " if count == 1 else "")
        + "What an adapter finds behind random weights is the architecture's doing, not what was learned.",
        [
            score_table(f"Controls, token adapters, {share}", scores),
            score_table(f"Controls, linear probes, {RIDGE}", linear),
            table("Paired LPIPS", ["question", "difference", shorter, f"{run.steps} steps"], rows),
        ],
        [chart("LPIPS of the controls", "bar", ("point", "LPIPS"), bars)],
        [
            score_key(f"{what}, {at}, {share}", "lpips", samples, scores["blank"], scores["oracle"])
            for what, samples in (("trained VLM", own[at]), ("random weights", scores[f"{at}, {RANDOM}"]))
        ],
    )


def errors(run: Run) -> Answer:
    places = run.measurement.tables["errors"]
    correlation, seams = next(iter(places.values())).keys()
    return Answer(
        None,
        f"Asked: are some places harder? At {run.at} the rank correlation of a token's error and its norm is "
        f"{text(places[run.at][correlation])}; at seams of attention windows, errors of values from 0 to 1 are larger "
        f"than those of like tokens elsewhere by {text(places[run.at][seams], 4)}.",
        f"Token adapters, {LATENTS_ALONE}, {budget(run.steps, run.settings['batch'])}; the mean over seeds.",
        [
            score_table("Where errors sit", places, [correlation, seams]),
            score_table("Scores of the adapters", run.scores),
        ],
        [bar_chart("Rank correlation of a token's error and its norm", "point", places, correlation)],
    )


def probes(run: Run) -> Answer:
    scores, lengths, points, at = run.scores, run.measurement.tables["description length"], run.points.every, run.at
    informed, right, code = "V-information, bits", "accuracy", "bits an image"
    names = list(scores)

    def selectivity(point: str, task: str) -> Interval:
        return paired(scores[f"{point}, {task}"][right], scores[f"{point}, {task}, {CONTROL}"][right].mean(0))

    def lines(table_: ScoreTable, score: str) -> list:
        return [series(f"{task}{end}", points, [table_[f"{p}, {task}{end}"][score] for p in points], points)
                for task in TASKS for end in ("", f", {CONTROL}")]  # fmt: skip

    best = {task: max(points, key=lambda p, t=task: scores[f"{p}, {t}"][informed].mean()) for task in TASKS}  # type: ignore[misc]
    return Answer(
        None,
        f"Asked: what of an object can a linear classifier tell? At {at}, right of all: "
        + ", ".join(f"{task} {text(scores[f'{at}, {task}'][right])}" for task in TASKS)
        + "; less what is right of labels by chance: "
        + ", ".join(f"{task} {text(selectivity(at, task))}" for task in TASKS)
        + ".",
        f"Logistic regression on the mean over an object's tokens, {run.settings['probes']:,} training scenes of one "
        "object on white; the control task of Hewitt and Liang gives each pair of shape and colour a label by chance. "
        "V-information is what the classifier tells in bits; the description length is what must be sent of each label "
        "to a receiver who learns from those before it. Most V-information: "
        + ", ".join(f"{task} at {point}" for task, point in best.items())
        + ".",
        [
            score_table("Linear classifiers", scores, [right, informed]),
            table(
                "Selectivity: right of all, less that of the control task",
                ["point", *TASKS],
                [[p, *(selectivity(p, task) for task in TASKS)] for p in points],
            ),
            score_table("Description length", {n: lengths[n] for n in names}, [code]),
        ],
        [
            chart("V-information by depth", "line", ("extraction point", "bits"), lines(scores, informed)),
            chart("Description length by depth", "line", ("extraction point", code), lines(lengths, code)),
            chart("Accuracy by depth", "line", ("extraction point", right), lines(scores, right)),
        ],
        [
            key(f"{task}, right of all, {at}", scores[f"{at}, {task}"][right],
                baseline=(CONTROL, scores[f"{at}, {task}, {CONTROL}"][right]))
            for task in TASKS
        ]
        + [
            key(f"{task}, V-information in bits, {at}", scores[f"{at}, {task}"][informed],
                baseline=(RANDOM_PROBES, scores[f"{at}, {task}, {RANDOM_PROBES}"][informed]))
            for task in TASKS
        ],
    )  # fmt: skip


def neighbours(run: Run) -> Answer:
    scores, steps = run.scores, run.measurement.values["steps"]
    before, after = run.points.merger
    across = f"{before} to {after}"
    trained, random = (scores[f"{across}, {name}"][OVERLAP] for name in ("trained", RANDOM_NEIGHBOURS))
    bars = [
        series(name, steps, [scores[f"{step}, {name}"][OVERLAP] for step in steps])
        for name in ("trained", RANDOM_NEIGHBOURS)
    ]
    return Answer(
        None,
        f"Asked: which images stay neighbours across the merger? Of the nearest of each image {text(trained)} are "
        f"among the nearest after it; with random weights {text(random)}, by chance {text(scores[CHANCE][OVERLAP])}.",
        "By the cosine of latents averaged over all tokens, of scenes with one object on white. Li et al. (2025) find "
        "that 40 to 60 % of nearest neighbours change across connectors of large models.",
        [score_table("Nearest neighbours that stay", scores, [OVERLAP])],
        [chart("Nearest neighbours that stay", "bar", ("from, to", OVERLAP), bars, baseline=scores[CHANCE][OVERLAP])],
        [key(f"neighbours that stay, {across}", trained, baseline=(RANDOM_NEIGHBOURS, random))],
    )


def attribution(run: Run) -> Answer:
    scores, values = run.scores, run.measurement.values
    conditions, references = values["conditions"], values["references"]
    draws, means = {}, {}
    for name, row in conditions.items():
        subset = frozenset(map(int, filter(None, name.split(","))))
        three = (scores[n]["lpips"] for n in (row, references[row]["blank"], references[row]["oracle"]))
        means[subset], draws[subset] = skill_draws("lpips", *three)
    shares = {CHOICES[k]: shapley_interval(k, len(CHOICES), means, draws) for k in range(len(CHOICES))}
    every = frozenset(range(len(CHOICES)))
    first, last = means[frozenset()], means[every]
    rows = [[c, share, means[frozenset({k})] - first, last - means[every - {k}]]
            for k, (c, share) in enumerate(shares.items())]  # fmt: skip
    settings = run.settings
    return Answer(
        None,
        f"Asked: which choice makes the seed's numbers? Skill (LPIPS) goes from {first:.3f} by the seed's protocol to "
        f"{last:.3f} with all choices changed. By Shapley values: "
        + ", ".join(f"{c} {text(share)}" for c, share in shares.items())
        + ".",
        f"All {len(conditions)} subsets of the choices, each with {budget(run.steps, 32)} on {settings['seed_train']} "
        f"or {settings['train']:,} scenes, tested on {settings['seed_test']}. A choice's value is what it changes, "
        "averaged over all orders; the values add up to the whole difference. Skill is 0 for a blank page and "
        "1 for the oracle. "
        "The middle layer and the grid are of the picture's tokens alone, so there that choice changes nothing.",
        [
            table(
                "Shapley values of skill (LPIPS)", ["choice", "Shapley value", "changed first", "changed last"], rows
            ),
            score_table("Every condition", scores),
        ],
        [
            chart(
                "What each of the seed's choices changes of the skill, over all orders",
                "bar",
                ("choice", "skill"),
                [series("Shapley value", list(shares), list(shares.values()))],
            )
        ],
    )


def motion(run: Run) -> Answer:
    probes_, tracks, at = run.scores, run.measurement.tables["decoded tracks"], run.at
    before, after = run.points.merger
    points = run.points.every
    kinds = {"linear probe": ""} | {f"probe, {end}": f", {end}" for end in (STILL, BLIND)}
    lines = [series(what, points, [probes_[f"{p}{end}"][PAIR] for p in points], points) for what, end in kinds.items()]
    here = [p for p in points if p in tracks]
    lines.append(series("decoded track, tokens", here, [tracks[p][PAIR] for p in here], here))
    random = [f"{p}, {RANDOM_CLIPS}" for p in here]
    lines.append(series("linear probe, random weights", here, [probes_[n][PAIR] for n in random], here))

    def lost(samples: Samples) -> float | None:
        return mean(np.isnan(samples[ERROR]).astype(float))

    return Answer(
        None,
        f"Asked: is a clip told from its reverse? From latents by a linear probe: before the merger "
        f"{text(probes_[before][PAIR])}, after it {text(probes_[after][PAIR])}, at {at} {text(probes_[at][PAIR])} of "
        f"all pairs; from the track in what is decoded there {text(tracks[at][PAIR])} (the VAE alone: "
        f"{text(tracks['oracle'][PAIR])}). By chance it is a half.",
        f"One object that moves straight over an even ground, eight frames, four steps of the VLM; test clips and "
        f"their reverses show the same frames and differ by direction alone. The probe is a ridge regression of the "
        f"object's displacement on all latents of a clip, from {run.settings['clips']:,} clips. Controls: from the "
        f"first step alone, whose two frames show a little motion, {text(probes_[f'{at}, {STILL}'][PAIR])} are told; "
        f"from the mean of all steps, which has their order only where each tells of its own, "
        f"{text(probes_[f'{at}, {BLIND}'][PAIR])}. Tracks are centroids of the object found in frames that token "
        f"adapters ({LATENTS_ALONE}, {run.steps:,} steps) give for both frames of each step. At {at} the decoded "
        f"displacement is off by {text(tracks[at][ERROR])} px, a still copy's by {text(tracks['still copy'][ERROR])}.",
        [
            score_table("Linear probe of an object's displacement", probes_, [PAIR, DIRECTION, ERROR]),
            score_table(
                "Tracks in decoded clips",
                tracks,
                [PAIR, DIRECTION, ERROR],
                {"lost": {n: lost(s) for n, s in tracks.items()}},
            ),
        ],
        [chart("Clips told from their reverse, by depth", "line", ("extraction point", PAIR), lines, baseline=0.5)],
        [
            key(f"told from its reverse, linear probe, {p}", probes_[p][PAIR],
                baseline=(RANDOM_CLIPS, probes_[f"{p}, {RANDOM_CLIPS}"][PAIR]))
            for p in dict.fromkeys((before, after, at))
        ]
        + [
            key(f"told from its reverse, decoded track, {p}", tracks[p][PAIR],
                baseline=("still copy", tracks["still copy"][PAIR]), oracle=tracks["oracle"][PAIR])
            for p in dict.fromkeys((before, after, at))
        ],
    )  # fmt: skip
