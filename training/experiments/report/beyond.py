"""The seed's own protocol, and what was asked beyond its claims: verdicts, words, tables and charts."""

from foresight.data.scenes import COLORS, SHAPES
from foresight.study import KeyResult
from training.experiments.experiment import Samples
from training.experiments.held_out import ALL_PAIRS, BOTH, HELD, PHOTOS
from training.experiments.report.parts import (
    LATENTS_ALONE,
    MEASURED,
    REFERENCES,
    TARGETS,
    TOLD,
    Answer,
    Run,
    bar_chart,
    budget,
    chart,
    difference,
    measured,
    score_key,
    score_table,
    series,
    table,
    text,
)
from training.experiments.seed_protocol import BATCH, IN_LATENTS, ON_MAP
from training.experiments.statistics import MARGIN, paired, skill_interval, verdict


def seed_protocol(run: Run) -> Answer:
    names, target = run.measurement.values["stages"], TARGETS["lpips"]
    of = {name: {w: run.scores[f"{name}: {w}"] for w in ("adapter", "blank", "oracle")} for name in names}
    lpips = {name: {what: samples["lpips"] for what, samples in of[name].items()} for name in names}
    skills = {n: skill_interval("lpips", v["adapter"], v["blank"], v["oracle"]) for n, v in lpips.items()}
    gap = paired(lpips[names[1]]["adapter"], lpips[names[1]]["blank"])
    ends = {n: s for n, s in run.scores.items() if n.partition(": ")[0] in (names[0], names[-1])}
    clusters = run.measurement.tables["silhouettes"]
    learned = budget(run.steps, BATCH)
    bars = [series(what, names, [lpips[n][what] for n in names]) for what in ("adapter", "blank", "oracle")]
    return Answer(
        verdict(gap),
        "Claim: the seed's own pipeline brings pictures back. On pictures that it was not trained on, all else the "
        f"seed's way, LPIPS is {text(lpips[names[1]]['adapter'])}; a blank page has {text(lpips[names[1]]['blank'])}. "
        f"The pipeline's minus the page's is {text(gap)} (paired). The claim holds where that is under {-MARGIN}.",
        f"The seed's way, with an MLP of width {run.settings['seed_hidden']} (the seed's: 2048), trained on "
        f"{run.settings['seed_train']} pictures and tested on {run.settings['seed_test']} of them: LPIPS "
        f"{text(lpips[names[0]]['adapter'])}. "
        + " ".join(f"Then {name}: {text(lpips[name]['adapter'])}." for name in names[1:])
        + f" Each stage keeps all changes before it and has {run.steps} steps of {BATCH} pictures, {LATENTS_ALONE}. "
        "Where the pictures change, so does what a blank page scores: compare by skill, which is 0 for the blank page.",
        [
            table(
                "One thing changed after another",
                [
                    "protocol",
                    "LPIPS",
                    "blank page's LPIPS",
                    "skill (LPIPS)",
                    "HaarPSI",
                    "SSIM, grey",
                    "SSIM, colour",
                    "mask IoU",
                    MEASURED,
                ],
                [
                    [n, lpips[n]["adapter"], lpips[n]["blank"], skills[n]]
                    + [of[n]["adapter"][s] for s in ("haarpsi", "grey_ssim", "ssim", "mask_iou")]
                    + [measured(of[n]["adapter"]["mask_iou"])]
                    for n in names
                ],
            ),
            table(
                "Baselines and oracle under the seed's protocol and under ours",
                ["pictures", "LPIPS", "HaarPSI", "SSIM, grey", "SSIM, colour"],
                [[n, *(s[score] for score in ("lpips", "haarpsi", "grey_ssim", "ssim"))] for n, s in ends.items()],
            ),
            table(
                "Silhouette by shape and colour",
                ["scenes", ON_MAP, IN_LATENTS],
                [[n, s[ON_MAP], s[IN_LATENTS]] for n, s in clusters.items()],
            ),
        ],
        [
            chart(
                "Skill (LPIPS) as one of the seed's choices after another is changed",
                "waterfall",
                ("protocol", "skill"),
                [series("skill", names, skills.values())],
                baseline=0.0,
                oracle=1.0,
            ),
            chart("LPIPS of the same", "bar", ("protocol", "LPIPS"), bars, "lpips"),
        ],
        [
            score_key(
                f"{n}, {learned}", "lpips", *of[n].values(), seed=0.236 if n == names[0] else None, target=f"< {target}"
            )
            for n in (*names[:2], names[3], names[-1])
        ]
        + [
            KeyResult(
                what=f"skill (LPIPS), {n}, {learned}",
                ours=skills[n],
                baseline=[0, 0, 0],
                baseline_name="blank page",
                oracle=[1, 1, 1],
            )
            for n in (*names[:2], names[3], names[-1])
        ],
        {"lpips": 0.236, "ssim": 0.946, "silhouette": 0.808}
        | {"blank_lpips": 0.352, "blank_ssim": 0.943, "shifted_lpips": 0.077},
    )


def blends(run: Run) -> Answer:
    scores, values, tables = run.scores, run.measurement.values, run.measurement.tables
    shares: dict[str, dict[str, float]] = values["shares"]
    single: dict[str, str] = values["single"]
    shorter = next(n for n in tables if n.endswith(" steps"))
    linear, share = tables["linear"], budget(run.steps, run.settings["batch"])
    gaps = {n: difference(tables[shorter], scores, n, layer, [linear[layer]] * 2) for n, layer in single.items()}
    first = next(iter(gaps), None)
    return Answer(
        None,
        "Asked: do several layers together hold more than the best single one of them? LPIPS, paired (under 0 favours "
        "several): " + "; ".join(f"{n} minus {single[n]}: {gap}" for n, gap in gaps.items()) + ".",
        f"The seed's layers 7 to 14 of 28 are {values['layers']} here. A mix is a weighted mean of standardised "
        "latents, one learned number a layer, before a token adapter; routing gives each token weights of its own. "
        f"Token adapters, {LATENTS_ALONE}, {share}, with the learning rate that validates best. The best single layer "
        f"is that of E1.6's depth. {TOLD}.",
        [
            score_table("Several layers and single ones", run.trials, more={"parameters": run.measurement.parameters}),
            table(
                "Paired LPIPS, several layers minus the best single one",
                ["layers", "single", shorter, f"{run.steps} steps", "told"],
                [[n, single[n], g.shorter, g.longest, "yes" if g.stands else "open"] for n, g in gaps.items()],
            ),
            table(
                "What the mixes learned to take",
                ["mix", "layer", "share"],
                [[name, point, part] for name, of in shares.items() for point, part in of.items()],
            ),
            score_table("Baselines and oracle", {n: scores[n] for n in REFERENCES}),
        ],
        [bar_chart("LPIPS of several layers and single ones", "layers", run.trials, "lpips")],
        [
            score_key(f"{n}, {share}", "lpips", scores[n], scores["blank"], scores["oracle"])
            for n in ((first, single[first]) if first else ())
        ],
        {"layers": 8},
    )


def held_out(run: Run) -> Answer:
    scores, values, adapter = run.scores, run.measurement.values, f"{run.at} tokens"
    names = values["splits"]

    def of(what: str, split: str) -> Samples:
        return scores[f"{what}, {split}"]

    pairs, rival = of(adapter, BOTH[1])["lpips"], of(f"{adapter} {ALL_PAIRS}", BOTH[1])["lpips"]
    worse = paired(pairs, rival)
    worst = max((n for n in names if n != PHOTOS), key=lambda n: of(adapter, n)["lpips"].mean())
    rows = []
    for n in names:
        for a in values["adapters"]:
            three = [of(what, n)["lpips"] for what in (a, "blank", "oracle")]
            iou = of(a, n)["mask_iou"]
            rows.append([a, n, *three, skill_interval("lpips", *three), of(a, n)["haarpsi"], of(a, n)["ssim"]])
            rows[-1] += [None, None] if n == PHOTOS else [iou, measured(iou)]  # nobody knows a photo's objects
    return Answer(
        None,
        f"Asked of new pairs of shape and colour at {run.at}: on the same pictures LPIPS "
        f"is {text(pairs)}, and {text(rival)} with an adapter that was trained on all pairs, so worse by "
        f"{text(worse)} (paired). The table has the other splits.",
        f"Token adapters, {LATENTS_ALONE}, {run.steps} steps on 1 to 3 objects of 20 to 44 px on even "
        f"backgrounds, without one in {HELD} pairs of the {len(COLORS)} colours and {len(SHAPES)} shapes. Only the "
        "adapter is kept from them: the VLM may have seen them. "
        f"Hardest of the drawn ones at {run.at}: {worst} ({text(of(adapter, worst)['lpips'])})."
        + (f" On photos, which no adapter saw: {text(of(adapter, PHOTOS)['lpips'])}." if PHOTOS in names else ""),
        [
            table(
                "By split",
                [
                    "adapter",
                    "split",
                    "LPIPS",
                    "blank page's",
                    "oracle's",
                    "skill (LPIPS)",
                    "HaarPSI",
                    "SSIM",
                    "mask IoU",
                    MEASURED,
                ],
                rows,
            ),
            table("Share of objects' pixels that others cover", ["split", "covered"], values["covered"].items()),
        ],
        [
            chart(
                "LPIPS by split",
                "bar",
                ("split", "LPIPS"),
                [series(a, names, [of(a, n)["lpips"] for n in names]) for a in values["adapters"]],
            )
        ],
        [
            score_key(
                f"{n}, {adapter}, {budget(run.steps, run.settings['batch'])}",
                "lpips",
                *(of(what, n) for what in (adapter, "blank", "oracle")),
            )
            for n in dict.fromkeys((*BOTH, worst, PHOTOS))
            if n in names
        ],
    )
