"""The seed's claims E1.1 to E1.6 and what measurements say of them: verdicts, words, tables and charts."""

from collections.abc import Callable

import numpy as np

from foresight.data.scenes import COLOR_NAMES, SHAPES
from foresight.study import Series, Verdict
from training.experiments.bench import STUDYS_SCENES
from training.experiments.e1_1 import BOTH, FACTORS, MEANS, condition
from training.experiments.e1_3 import KINDS
from training.experiments.e1_4 import CONSTANT, HEADS
from training.experiments.e1_5 import OPTIMISED
from training.experiments.e1_6 import ORACLE
from training.experiments.e1_6_depth import best_points
from training.experiments.experiment import Samples, ScoreTable
from training.experiments.report import beyond, controls
from training.experiments.report.parts import (
    LATENTS_ALONE,
    MAIN_SCORES,
    REFERENCES,
    RIDGE,
    SCORE_NAMES,
    TARGETS,
    TOLD,
    Answer,
    Difference,
    Run,
    bar_chart,
    budget,
    chart,
    depth_chart,
    difference,
    is_point,
    key,
    measured,
    rounded,
    score_key,
    score_table,
    series,
    skill,
    sure,
    table,
    text,
)
from training.experiments.statistics import MARGIN, best, interval, paired, saturation, verdict
from training.experiments.trials import SWAPPED
from training.latents import MIXTURE

STRONG = 0.5  # Kaufman & Rousseeuw 1990: above it a structure is reasonable, above 0.7 strong
APART = 0.05  # of a silhouette: more than that is another answer
SEEDS_SCENES = "100"  # so many the seed study found enough
ON_WHITE = "one object on white"
PARTS = {"1 to 5 objects on all backgrounds": (0, 2), ON_WHITE: (2, 3), "1 to 5 objects on white": (3, 4)}  # of MIXTURE


def clusters(run: Run) -> Answer:
    """E1.1."""
    tables, points, at = run.measurement.tables, run.points.every, run.at
    true, shuffled, control = (tables[name] for name in ("scores", "shuffled labels", "random-weights VLMs"))
    here, top = condition(at, MEANS[0]), max(true, key=lambda name: true[name][BOTH].mean())
    claim = sure(true[here][BOTH])
    most = max(FACTORS, key=lambda f: true[here][f].mean())
    titles = {
        "Silhouette": true,
        "Its baseline, shuffled labels": shuffled,
        "Its control, VLMs with random weights": control,
    }

    def lines(mean: str) -> list[Series]:
        return [series(f, points, [true[condition(p, mean)][f] for p in points], points) for f in FACTORS]

    random = [control[condition(p, MEANS[0])][BOTH] for p in points]
    drawn = {MEANS[0]: [*lines(MEANS[0]), series(f"{BOTH}, random-weights VLMs", points, random, points)]}
    drawn[MEANS[1]] = lines(MEANS[1])
    return Answer(
        "holds" if claim[1] > STRONG else "does not hold" if claim[2] < STRONG else "open",
        "Claim: latents cluster strongly by shape and colour. A silhouette runs from -1 to 1, and "
        f"above {STRONG} speaks of clusters (Kaufman & Rousseeuw 1990). At {at} it is {text(claim)}. The seed's 0.808 "
        "was taken on a 2-D map, of scenes in which each shape has one colour.",
        f"Taken by the cosine on the latents as they are, {' × '.join(map(str, true[here][BOTH].shape))} scenes with "
        f"one object on white. The mean over all tokens at {at} orders scenes most by {most} "
        f"({text(true[here][most])}). The clearest clusters by shape and colour are at {top.split(',')[0]}, on the "
        f"mean over {top.split(', ')[1]}: {text(true[top][BOTH])}; there shuffled labels give "
        f"{text(shuffled[top][BOTH])}, and VLMs with random weights, another for each set, "
        f"{text(control[top][BOTH])}. At {at} these are {text(shuffled[here][BOTH])} and {text(control[here][BOTH])}.",
        [
            table(
                f"{title}, on the mean over {mean}",
                ["point", *FACTORS],
                [[p, *(values[condition(p, mean)][f] for f in FACTORS)] for p in points],
            )
            for mean in MEANS
            for title, values in titles.items()
        ],
        [
            chart(f"Silhouette by depth, mean over {mean}", "line", ("extraction point", "silhouette"), drawn[mean])
            for mean in MEANS
        ],
        [key(f"silhouette by {BOTH}, {at}", true[here][BOTH], 0.808, ("shuffled labels", shuffled[here][BOTH]))],
        {"silhouette": 0.808},
    )


def clusters_on_map(run: Run) -> Answer:
    """E1.1's 2-D map."""
    points, at, flat = run.points.every, run.at, run.scores
    full = {name: samples[BOTH] for name, samples in run.measurement.tables["in the latents"].items()}
    gaps = {n: paired(flat[n][BOTH], full[n]) for n in points}
    low, high = (choose(points, key=lambda n: gaps[n][0]) for choose in (min, max))
    far = sum(gap[1] > APART or gap[2] < -APART for gap in gaps.values())
    near = all(gap[1] > -APART and gap[2] < APART for gap in gaps.values())
    bars = [
        series("latents", points, [full[n] for n in points], points),
        series("2-D map", points, [flat[n][BOTH] for n in points], points),
    ]
    title = "Silhouette by shape and colour, in the latents and on the map"
    charts = [chart(title, "bar", ("extraction point", "silhouette"), bars)]
    for name, first in run.measurement.tables["first map"].items():
        x, y, classes = (first[part][0] for part in ("x", "y", "class"))
        dots = [
            Series(
                name=f"{COLOR_NAMES[int(c) % 100]} {SHAPES[int(c) // 100]}",
                x=[rounded(v) or 0.0 for v in x[classes == c].tolist()],
                y=y[classes == c].tolist(),
            )
            for c in np.unique(classes)
        ]
        charts.append(chart(f"UMAP of {name}, mean over all tokens", "scatter", ("UMAP 1", "UMAP 2"), dots))
    return Answer(
        "does not hold" if far else "holds" if near else "open",
        "Claim: a silhouette on a 2-D map measures the latents. By shape and colour, map minus "
        f"latents runs from {text(gaps[low], 2)} at {low} to {text(gaps[high], 2)} at {high} "
        f"(paired over scenes). More than {APART} is another answer; that is certain at {far} of {len(points)} points.",
        "UMAP pulls neighbours together, so a silhouette on its two coordinates tells what the map "
        f"does as well as what the latents hold. By shape and colour at {at} it is {text(flat[at][BOTH])} on the map "
        f"and {text(full[at])} in the latents. Maps at each point: {len(full[at])}, "
        "one for each set of scenes; the first is drawn. Both silhouettes are by distance, in the latents that of "
        "directions, so they are not E1.1's, which are by the cosine.",
        [
            table(
                "Silhouette on the 2-D map",
                ["point", "in the latents, shape and colour", *(f"map, {f}" for f in FACTORS)],
                [[n, full[n], *(flat[n][f] for f in FACTORS)] for n in points],
            )
        ],
        charts,
        [key(f"silhouette on the map, {at}", flat[at][BOTH], 0.808)],
        {"silhouette": 0.808},
    )


def linear_probe(run: Run) -> Answer:
    """E1.2."""
    scores, trials, at, target = run.scores, run.trials, run.at, TARGETS["lpips"]
    blank, oracle = scores["blank"], scores["oracle"]
    top, last = best(trials), list(trials)[-1]
    lpips, gap = sure(scores[at]["lpips"]), paired(scores[at]["lpips"], blank["lpips"])
    under_target: Verdict = "holds" if lpips[2] < target else "does not hold" if lpips[1] > target else "open"
    return Answer(
        worst_of(verdict(gap), under_target),
        f"Claim: a linear map finds the picture. At {at} its LPIPS is {text(lpips)}, a blank page "
        f"has {text(blank['lpips'])} on the same scenes; the probe's minus the page's is {text(gap)} (paired). The "
        f"claim holds where that is under {-MARGIN} and LPIPS is under the seed's target of {target}.",
        f"One linear map for each token, {RIDGE}. Best at "
        f"{top} ({text(scores[top]['lpips'])}); {text(scores[last]['lpips'])} at {last}; the oracle has "
        f"{text(oracle['lpips'])}. The seed's probe (0.331) read the mean of all tokens, and pictures of one shape on "
        "white: the two numbers are not of the same pictures.",
        [
            score_table(
                "Linear probe at every point",
                trials,
                more={"skill (LPIPS)": {n: skill(scores, n) for n in trials}},
            ),
            score_table("Baselines and oracle", {n: scores[n] for n in REFERENCES}),
        ],
        [
            depth_chart(f"Linear probe: {SCORE_NAMES[s]} by depth", {"linear probe": trials}, s, blank, oracle)
            for s in MAIN_SCORES
        ],
        [
            score_key(
                f"linear probe, {n}{' (best of all)' * (n == top)}",
                "lpips", scores[n], blank, oracle, seed=0.331 if n == at else None, target=f"< {target}",
            )
            for n in dict.fromkeys((at, top))
        ],
        {"lpips": 0.331},
    )  # fmt: skip


def merger(run: Run) -> Answer:
    """E1.3."""
    scores, counts, (before, after) = run.scores, run.measurement.parameters, run.points.merger
    gaps = {k: {s: scores[f"{after} {k}"][s] - scores[f"{before} {k}"][s] for s in SCORE_NAMES} for k in KINDS}
    shorter = ladder_of(run)[-1]
    linear = [scores[f"{n} linear"] for n in (after, before)]
    gap = difference(run.measurement.tables[shorter], scores, f"{after} tokens", f"{before} tokens", linear)
    names, batch = [before, after], run.settings["batch"]
    lines = [series(kind, names, [scores[f"{n} {kind}"]["lpips"] for n in names], names) for kind in KINDS]
    return Answer(
        verdict(gap.longest) if gap.stands else "open",
        "Claim: after the merger is better. With token adapters of the same size, LPIPS after "
        f"minus before it is {gap} (paired over pictures and seeds). The claim holds where that is "
        f"under {-MARGIN}.",
        f"{before} against {after}. The merger is a function of what lies before it, so it can only "
        f"lose; the question is how much, for adapters of a given size. Token adapters of "
        f"{counts[f'{before} tokens']:,} and {counts[f'{after} tokens']:,} parameters, {LATENTS_ALONE}, "
        f"{budget(run.steps, batch)} on the same scenes, standardised alike at both points; pooled adapters have "
        f"{budget(run.measurement.steps['others'], batch)}, and linear probes are {RIDGE}. With {shorter} of the token "
        f"adapters the difference is {text(gap.shorter, 4)}. {TOLD}. "
        "Of linear and pooled adapters the width of a token decides the size: see the table. "
        "The seed's 1.542 before the merger is what un-normalised features give in a sigmoid.",
        [
            score_table("Scores", run.trials, more={"parameters": counts}),
            score_table("Baselines and oracle", {n: scores[n] for n in REFERENCES}),
            table(
                "After minus before, paired",
                ["adapter", *SCORE_NAMES.values()],
                [[k, *gaps[k].values()] for k in KINDS],
            ),
        ],
        [chart("LPIPS before and after the merger", "bar", ("extraction point", "LPIPS"), lines)],
        [
            score_key(
                f"{where} the merger, {budget(run.steps, batch)}",
                "lpips", scores[f"{point} tokens"], scores["blank"], scores["oracle"], seed=s,
            )
            for where, point, s in (("before", before, 1.542), ("after", after, 0.342))
        ],
        {"lpips_pre": 1.542, "ssim_pre": 0.011, "lpips_post": 0.342, "ssim_post": 0.910},
        [f"Merger: LPIPS after it minus before it is {gap} (paired)."],
    )  # fmt: skip


def ladder_of(run: Run) -> list[str]:
    """The names of an experiment's tables of rungs, by steps."""
    rungs = [name for name in run.measurement.tables if name.endswith(" steps")]
    return sorted(rungs, key=lambda name: int(name.split()[0]))


def positions(run: Run) -> Answer:
    """E1.4."""
    boxes, objects = run.measurement.tables["boxes"], run.measurement.tables["objects"]
    at, points, target, iou = run.at, run.points.landmarks, TARGETS["box_iou"], "mean IoU"
    pooled, tokens = (boxes[f"{at} {kind}"] for kind in HEADS)
    constant = boxes[CONSTANT][iou]
    better = max((pooled, tokens), key=lambda samples: samples[iou].mean())[iou]
    _, low, high = interval(better)
    rough = high < target and paired(better, constant)[1] > 0
    lines = [series(kind, points, [boxes[f"{p} {kind}"][iou] for p in points], points) for kind in HEADS]
    lines.append(series(CONSTANT, points, [constant] * len(points)))
    decoded, share = objects[f"{at} tokens"], "share found"
    of_tokens, of_pooled = interval(tokens[iou]), interval(pooled[iou])
    advice = "Keep the grid of tokens" if of_tokens[1] > of_pooled[2] else "The grid of tokens is not needed for boxes"
    if of_tokens[1] <= of_pooled[2] and of_pooled[1] <= of_tokens[2]:
        advice = "Whether boxes need the grid of tokens is open"
    return Answer(
        "does not hold" if low > target else "holds" if rough else "open",
        f"Claim: latents keep positions, but only roughly, with a box IoU under {target}. At {at} a "
        f"small network that reads all tokens reaches {text(of_tokens)}, one that reads their mean, as the seed's did, "
        f"{text(of_pooled)}; the best box that never moves has {text(constant)}. The claim is of the latents, so the "
        "better reader decides; it holds where that one beats the box that never moves (paired) and stays under "
        f"{target}.",
        f"Boxes of one object on any background, read by networks that learned for {run.measurement.steps['boxes']} "
        f"steps from {run.settings['boxes']} scenes. Above an IoU of 0.75 at {at}: {text(tokens['IoU > 0.75'])} of the "
        f"boxes from all tokens, {text(pooled['IoU > 0.75'])} from their mean. "
        f"In decoded pictures of 2 to 5 objects at {at} (token adapters, {LATENTS_ALONE}), "
        f"{text(decoded[share])} of the objects are found again, {text(decoded['missed a picture'])} a picture are "
        f"missed and {text(decoded['extra a picture'])} are too many; after the VAE alone "
        f"{text(objects['oracle'][share])} are found, in the originals {text(objects['originals'][share])}: neither "
        "tells objects of one colour apart that touch.",
        [
            score_table("Boxes of one object", boxes, list(boxes[CONSTANT])),
            score_table(
                "Several objects in decoded pictures: Hungarian matching, an object counts as found from an IoU of 0.5",
                objects,
                list(decoded),
                {"measured in": {n: measured(samples[share]) for n, samples in objects.items()}},
            ),
            score_table("Scores of those pictures", run.scores),
        ],
        [
            chart("Box IoU by point", "line", ("extraction point", iou), lines, "box_iou"),
            bar_chart("Objects found in decoded pictures", "picture", objects, share),
        ],
        [
            key(f"box IoU, all tokens, {at}", tokens[iou], None, (CONSTANT, constant), target=f"> {target}"),
            key(f"box IoU, mean of tokens, {at}", pooled[iou], 0.567, (CONSTANT, constant), target=f"> {target}"),
            key(
                f"objects found, of 2 to 5, {at}",
                decoded[share],
                baseline=("blank page", objects["blank"][share]),
                oracle=objects["oracle"][share],
            ),
        ],
        {"box_iou": 0.567, "above_0.5": 0.68, "above_0.75": 0.08},
        [f"{advice}: box IoU {text(of_tokens, 2)} from tokens, {text(of_pooled, 2)} from their mean."],
    )


def pipeline(run: Run) -> Answer:
    """E1.5."""
    scores, at, steps = run.scores, run.at, run.measurement.steps
    blank, oracle = scores["blank"], scores["oracle"]
    tokens, pooled = (scores[f"{at} {kind}"] for kind in ("tokens", "pooled"))
    lpips, ssim = (sure(tokens[s]) for s in ("lpips", "ssim"))
    gain = {s: paired(sign * tokens[s], sign * blank[s]) for s, sign in (("lpips", -1), ("ssim", 1))}
    good = lpips[2] < TARGETS["lpips"] and ssim[1] > TARGETS["ssim"] and all(g[1] > 0 for g in gain.values())
    bad = lpips[1] > TARGETS["lpips"] or ssim[2] < TARGETS["ssim"] or any(g[2] < 0 for g in gain.values())
    share = tokens["lpips"].shape[1] // len(MIXTURE)
    parts = {
        (n, part): {s: values[:, first * share : last * share] for s, values in scores[n].items()}
        for n in scores
        for part, (first, last) in PARTS.items()
    }
    by_part = {f"{n}, {part}": s for (n, part), s in parts.items() if SWAPPED not in n and n not in ("mean", "nearest")}
    seeds = {"lpips": 0.236, "ssim": 0.946}
    adapter = f"token adapter, {at}, {budget(steps['latents'], run.settings['batch'])}"
    if steps["images"]:
        adapter += f" and {steps['images']} decoded"
    on_white: list[Samples] = [parts[n, ON_WHITE] for n in (f"{at} tokens", "blank", "oracle")]
    sets = {STUDYS_SCENES: [tokens, blank, oracle], ON_WHITE: on_white}
    skills = {kind: skill(scores, f"{at} {kind}") for kind in ("tokens", "pooled", "linear")}
    return Answer(
        "holds" if good else "does not hold" if bad else "open",
        f"Claim: the pipeline brings pictures back. At {at} token adapters reach LPIPS {text(lpips)} and SSIM "
        f"{text(ssim)}; a blank page has {text(blank['lpips'])} and {text(blank['ssim'])} on the same "
        "scenes. The claim holds where both beat the blank page (paired) and the seed's targets.",
        f"Three adapters at {', '.join(run.measurement.values['points'])}. Linear probes are {RIDGE}; the others have "
        f"{steps['latents']} steps on VAE latents, "
        + (f"then {steps['images']} that look at decoded pictures too; " if steps["images"] else "none on images; ")
        + f"{tokens['lpips'].shape[1]} test scenes. The seed's design, the mean of all tokens, reaches LPIPS "
        f"{text(pooled['lpips'])}. Skill is 0 for a blank page and 1 for all that the VAE could give: by LPIPS at {at} "
        f"it is {', '.join(f'{text(value)} for {kind}' for kind, value in skills.items())}. On the objects' pixels "
        f"alone the mean error of values from 0 to 1 is {text(tokens['object_error'])} (blank page "
        f"{text(blank['object_error'])}). The oracle is a reference, not a bound: it has LPIPS "
        f"{text(oracle['lpips'], 4)}, VAE latents fitted to each picture itself {text(scores[OPTIMISED]['lpips'], 4)}. "
        "A mask IoU is 0 where no object stands out, whatever is there: so in "
        f"{text(tokens['no_object'])} of the pictures that token adapters give at {at}, in {text(pooled['no_object'])} "
        f"of pooled ones. By IoU the nearest training picture has {text(scores['nearest']['mask_iou'])}, a blank page "
        "0 by definition.",
        [
            score_table("Scores, the whole picture and objects alone", scores),
            table(
                "Skill",
                ["what", *(name for s, name in SCORE_NAMES.items() if s != "no_object")],
                [[n, *(skill(scores, n, s) for s in SCORE_NAMES if s != "no_object")] for n in scores],
            ),
            score_table("By kind of scene", by_part, MAIN_SCORES),
        ],
        [
            bar_chart(
                f"{SCORE_NAMES[s]} of the whole pipeline", "what", scores, s,
                baseline=blank[s], oracle=oracle[s], target=TARGETS.get(s),
            )
            for s in MAIN_SCORES
        ],
        [
            score_key(
                f"{adapter}, {what}", s, *three,
                seed=seeds[s] if what == ON_WHITE else None, target=f"{'<' if s == 'lpips' else '>'} {TARGETS[s]}",
            )
            for what, three in sets.items()
            for s in seeds
        ]
        + [
            key(f"mask IoU, {adapter}", tokens["mask_iou"], baseline=("nearest", scores["nearest"]["mask_iou"]),
                oracle=oracle["mask_iou"])
        ],
        seeds,
    )  # fmt: skip


def depth(run: Run) -> Answer:
    """E1.6, depth."""
    tables, values, at, batch = run.measurement.tables, run.measurement.values, run.at, run.settings["batch"]
    rungs, linear, everywhere = ladder_of(run), tables["linear"], tables[values["everywhere"]]
    blank, oracle = tables["references"]["blank"], tables["references"]["oracle"]
    longest, shorter = tables[rungs[-1]], tables[rungs[-2]]
    top, top_after = best_points(everywhere)
    after = [name for name in longest if name.startswith("post-merge")]
    before, merged = run.points.merger

    def between(a: str, b: str) -> Difference:
        return difference(shorter, longest, a, b, [linear[n] for n in (a, b)])

    claimed = {f"{at} minus {n}": between(at, n) for n in dict.fromkeys((after[0], after[-1])) if n != at}
    others = {f"{a} minus {b}": between(a, b) for a, b in ((before, next(iter(longest))), (merged, before))}
    gaps = claimed | others
    stands = all(gap.stands for gap in claimed.values())
    steps = {name: run.measurement.steps[name] for name in rungs}
    worst = [n for n in longest if paired(longest[n]["lpips"], linear[n]["lpips"])[2] >= 0]
    climbs = [
        series(n, [steps[r] for r in rungs if n in tables[r]], [tables[r][n]["lpips"] for r in rungs if n in tables[r]],
               [n for r in rungs if n in tables[r]])
        for n in longest
    ]  # fmt: skip
    pairs = {name: name.split(" minus ") for name in gaps}
    moving = [
        series(name, [steps[r] for r in rungs], [paired(tables[r][a]["lpips"], tables[r][b]["lpips"]) for r in rungs])
        for name, (a, b) in pairs.items()
    ]
    adapters = {
        "linear probe": linear,
        f"token adapter, {values['everywhere']}": everywhere,
        f"token adapter, {rungs[-1]}": longest,
    }
    return Answer(
        verdict(*(gap.longest for gap in claimed.values())) if stands else "open",
        "Claim: middle layers beat early and late ones. Paired LPIPS of "
        + ", ".join(f"{name}: {gap}" for name, gap in claimed.items())
        + f". The claim holds where both are under {-MARGIN}. {TOLD}.",
        f"Token adapters, {LATENTS_ALONE}, from {run.settings['train']:,} scenes: at every point "
        f"{values['everywhere']} "
        f"of {batch} pictures, at {', '.join(longest)} up to {rungs[-1]}, each with the learning rate that validates "
        f"best. Linear probes are {RIDGE}. No clock ends a training. Of all points, with {values['everywhere']}, {top} "
        f"has the least LPIPS ({text(everywhere[top]['lpips'])}), after the merger {top_after} "
        f"({text(everywhere[top_after]['lpips'])}). What is read at a point is a function of what came before it, so "
        "with converged adapters nothing is better read out later: "
        + ", ".join(f"{name} {gap}" for name, gap in others.items())
        + ". "
        + (f"Worse than the linear probe, or no better, with {rungs[-1]}: {', '.join(worst)}." if worst else ""),
        [
            *(score_table(f"Token adapters, {name} of {batch} pictures", tables[name]) for name in reversed(rungs)),
            score_table(f"Linear probes, {RIDGE}", linear),
            score_table("Baselines and oracle", tables["references"]),
            table(
                "Paired LPIPS at each rung: is it converged?",
                ["difference", *rungs, "told"],
                [
                    [
                        name,
                        *(paired(tables[r][a]["lpips"], tables[r][b]["lpips"]) for r in rungs),
                        "yes" if gaps[name].stands else "open",
                    ]
                    for name, (a, b) in pairs.items()
                ],
            ),
            table("Learning rates", ["point", "rate"], values["rates"].items()),
        ],
        [
            *(depth_chart(f"{SCORE_NAMES[s]} by depth", adapters, s, blank, oracle) for s in MAIN_SCORES),
            chart("LPIPS by steps, token adapters", "line", ("steps", "LPIPS"), climbs, baseline=blank["lpips"]),
            chart("Paired LPIPS by steps", "line", ("steps", "difference in LPIPS"), moving),
        ],
        [
            score_key(f"token adapter, {n}, {budget(steps[rungs[-1]], batch)}", "lpips", longest[n], blank, oracle)
            for n in longest
        ],
        {"layer": 14, "of_layers": 28},
        [
            f"Which layer: {', '.join(f'{name} {gap}' for name, gap in gaps.items())} (paired LPIPS)."
            if stands
            else "Which layer holds most of the picture is open: the adapters are not converged.",
        ],
    )


def what_matters(run: Run) -> Answer:
    """E1.6, size and data."""
    tables, steps, settings, at = run.measurement.tables, run.measurement.steps, run.settings, run.at
    widths, amounts, sides = (tables[n] for n in ("adapter size", "training data", "picture size"))
    blank, oracle = tables["references"]["blank"], tables["references"]["oracle"]
    kinds = {kind: {n.split()[1]: s for n, s in widths.items() if n.startswith(kind)} for kind in ("tokens", "pooled")}
    trained = {n: s for n, s in sides.items() if n.isdecimal()}
    saturates = {
        "token adapter's hidden width": saturated(kinds["tokens"], blank),
        "pooled adapter's hidden width": saturated(kinds["pooled"], blank),
        "training scenes": saturated(amounts, blank),
        "picture's side, px": saturated(trained, blank),
    }
    counts = run.measurement.parameters
    fewest, most = SEEDS_SCENES if SEEDS_SCENES in amounts else next(iter(amounts)), list(amounts)[-1]
    gain = paired(amounts[fewest]["lpips"], amounts[most]["lpips"])
    of_parameters = {
        kind: ([counts[f"{kind} {w}"] for w in table_], [s["lpips"] for s in table_.values()])
        for kind, table_ in kinds.items()
    }
    oracles = [sides[f"{ORACLE}, {n}"]["lpips"] for n in trained]
    pixels = list(map(int, trained))
    curves = {
        "parameters": of_parameters,
        "training scenes": {"tokens": (list(map(int, amounts)), [s["lpips"] for s in amounts.values()])},
        "picture's side, px": {"tokens": (pixels, [s["lpips"] for s in trained.values()]), ORACLE: (pixels, oracles)},
    }
    rule = (
        f"Where quality saturates: from the first setting on that is worse than the best one by less than {MARGIN} "
        "of LPIPS, with 95 % confidence (paired); nowhere, where none is better than a blank page by more than that"
    )
    amount_budget = budget(steps["training data"], settings["amount_batch"])
    return Answer(
        "holds" if gain[2] < MARGIN else "does not hold" if gain[1] > MARGIN else "open",
        f"Claim: {SEEDS_SCENES} scenes are enough. From {fewest} to {most} LPIPS falls by {text(gain)} (paired, "
        f"{amount_budget} each). The claim holds where that is under {MARGIN}.",
        f"At {at}, {LATENTS_ALONE}. Each curve has a budget of its own, so compare within a curve, not between them. "
        + " ".join(f"By the {what}: {rule_}." for what, rule_ in saturates.items()),
        [
            score_table(
                f"Adapter's hidden width at {at}, {budget(steps['adapter size'], settings['width_batch'])}",
                widths,
                more={"parameters": counts},
            ),
            score_table(f"Training scenes at {at}, {amount_budget}", amounts),
            score_table(
                f"Picture size at {at}, {budget(steps['picture size'], settings['batch'])} on "
                f"{settings['side_train']} scenes, scored at {settings['side']} px",
                sides,
            ),
            score_table("Baselines and oracle", tables["references"]),
            table(rule, ["by", "found"], saturates.items()),
        ],
        [
            chart(
                f"LPIPS by {what}",
                "line",
                (what, "LPIPS"),
                [series(name, x, samples) for name, (x, samples) in lines.items()],
                "lpips",
                baseline=blank["lpips"],
                oracle=None if ORACLE in lines else oracle["lpips"],
            )
            for what, lines in curves.items()
        ],
        [
            score_key(f"{n} training scenes, {at}, {amount_budget}", "lpips", amounts[n], blank, oracle)
            for n in dict.fromkeys((fewest, most))
        ],
        {"hidden": 2048, "parameters": 20_000_000, "samples": 100},
        [f"By the {what}: {rule_}." for what, rule_ in saturates.items()],
    )


def worst_of(*verdicts: Verdict) -> Verdict:
    """The verdict on a claim with several conditions."""
    return next((v for v in ("does not hold", "open") if v in verdicts), "holds")


def saturated(scores: ScoreTable, blank: Samples) -> str:
    """From which setting on LPIPS no longer gets better; settings in rising order."""
    names = list(scores)
    if paired(scores[best(scores)]["lpips"], blank["lpips"])[2] > -MARGIN:
        return "none is better than a blank page"
    k = saturation([scores[n]["lpips"] for n in names], MARGIN)
    if k is None:
        return f"still better at {names[-1]}, the most tried"
    return f"within {MARGIN} of the best from {names[k]} on"


def plain_answer(run: Run) -> Answer:
    """What is said of an experiment without an answer of its own: its numbers, and no verdict."""
    tables, charts = [], []
    for title, scores in run.measurement.tables.items():
        names = list(next(iter(scores.values())))
        tables.append(score_table(title, scores, names))
        trials: dict[str, Samples] = {n: s for n, s in scores.items() if n not in REFERENCES}
        if all(map(is_point, trials)) and {"blank", "oracle"} <= scores.keys():
            charts.append(depth_chart(title, {"adapter": trials}, names[0], scores["blank"], scores["oracle"]))
        else:
            charts.append(bar_chart(title, "what", scores, names[0]))
    return Answer(None, "No claim of the seed study.", "", tables, charts)


ANSWERS: dict[str, Callable[[Run], Answer]] = {
    "e1_1": clusters,
    "e1_1_map": clusters_on_map,
    "e1_2": linear_probe,
    "e1_3": merger,
    "e1_4": positions,
    "e1_5": pipeline,
    "e1_6_depth": depth,
    "e1_6": what_matters,
    "seed_protocol": beyond.seed_protocol,
    "attribution": controls.attribution,
    "blends": beyond.blends,
    "held_out": beyond.held_out,
    "controls": controls.controls,
    "probes": controls.probes,
    "neighbours": controls.neighbours,
    "errors": controls.errors,
    "v1": controls.motion,
}
