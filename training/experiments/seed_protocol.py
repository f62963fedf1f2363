"""The seed study's own protocol, and what each of its choices is worth when one is changed after another.

Its design, from its public text: one shape on white, shape and colour picked by one index, radius 25 to 60 px; the
last hidden state after the final norm, averaged over all tokens, text included; an MLP of width 2048
(`Scale.seed_hidden`), learning rate 1e-3, batch 32, 100 epochs on 200 pictures; test pictures that are the first
training pictures; SSIM of grey pictures.
What differs here: the VLM and VAE are the study's, colours are the palette's, latents and their targets are
standardised, the learning rate falls to 0, gradients are clipped, and Adam's second beta is the study's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from foresight.data.images import to_pil
from foresight.data.render import render
from foresight.data.scenes import COLOR_NAMES, SHAPES, Scenes, SceneSpec
from foresight.maps.separability import each_silhouette
from foresight.metrics.fidelity import ssim
from foresight.models import qwen2_5_vl as qwen
from training.experiments.bank import AdapterTrial, fresh, member, oracle, reconstruct, score, stack
from training.experiments.bench import Bench
from training.experiments.e1_1 import labels
from training.experiments.result import (
    ALONE,
    MEASURED,
    TARGETS,
    Result,
    chart,
    finite,
    key,
    measured,
    said,
    series,
    shown,
    table,
    verdict_of,
    write_grid,
    write_scores,
)
from training.experiments.side_by_side import learn
from training.experiments.statistics import paired
from training.latents import Latents
from training.loop import Recipe

PAIRS = {"circle": "red", "square": "blue", "triangle": "green", "star": "yellow"}
SEEDS_OWN = SceneSpec(objects=(1, 1), shapes=tuple(PAIRS), backgrounds=("white",), radius=(25.0, 60.0))
UNTIED = replace(SEEDS_OWN, colors=tuple(PAIRS.values()))
INDEPENDENT = SceneSpec(objects=(1, 1), backgrounds=("white",))
SCENES = 900  # its seed
BATCH, RATE = 32, 1e-3
SHIFT = 8  # pixels


def confounded(scenes: Scenes) -> Scenes:
    """The same scenes, each shape in the one colour that goes with it."""
    colours = torch.tensor([COLOR_NAMES.index(PAIRS.get(shape, "red")) for shape in SHAPES], device=scenes.shape.device)
    return replace(scenes, color=colours[scenes.shape])


@torch.inference_mode()
def last_state(bench: Bench, pictures: Tensor, text: bool = True, prompt: str = "Describe the image.") -> Tensor:
    """Pictures (N, 3, H, W) uint8 → (N, D): the last hidden state after the final norm, averaged over all tokens.

    text: the prompt's tokens among them, as the seed has it; or those of the picture alone.
    """
    vlm, language = bench.vlm, bench.vlm.model.model.language_model
    vlm.describe(to_pil(pictures[0].float() / 255), prompt, 1)  # reads the weights that latents never need
    before, after = vlm.prompt(prompt).split("<|image_pad|>")
    last, parts = len(language.layers), []
    for part in pictures.split(bench.batch):
        tokens = vlm.latents(part.float() / 255, ["post-merge/0"])["post-merge/0"][:, 0]  # (B, h, w, D)
        b, h, w, _ = tokens.shape
        opening, rest = (torch.tensor(vlm.tokenizer(x)["input_ids"], device=bench.device) for x in (before, after))
        ahead, behind = (language.embed_tokens(ids).expand(b, -1, -1) for ids in (opening, rest))
        positions = qwen.image_positions(len(opening), h, w, bench.device)
        follow = len(opening) + max(h, w) + torch.arange(len(rest), device=bench.device).expand(3, -1)
        embeds = torch.cat([ahead, tokens.flatten(1, 2), behind], 1)
        states = qwen.language_states(language, embeds, torch.cat([positions, follow], 1), {last})[last]
        normed = language.norm(states).float()  # (B, tokens, D)
        parts.append((normed if text else normed[:, len(opening) : len(opening) + h * w]).mean(1))
    return torch.cat(parts)


def _spread(pooled: Tensor, tokens: Tensor) -> Tensor:
    """(N, D) → (N, 1, H, W, D), the same at each place, as PooledMLP averages over places."""
    n, _, h, w, _ = tokens.shape
    return pooled[:, None, None, None].expand(n, 1, h, w, -1)


def stages(bench: Bench) -> list[AdapterTrial]:
    """The seed's protocol, then with one thing changed after another, each on top of those before.

    All learn for as many steps of as many pictures.
    """
    scale, at = bench.scale, bench.recommended
    n, held = scale.seed_train, scale.seed_test

    def both(spec: SceneSpec, one_index: bool = False) -> list[Latents]:
        drawn = [bench.scenes(k, SCENES, spec, split) for k, split in ((n, "train"), (held, "test"))]
        return [bench.latents([confounded(s) if one_index else s], [at]) for s in drawn]

    def state(data: Latents, text: bool) -> Tensor:
        return _spread(last_state(bench, data.pictures, text), data.points[str(at)])

    def pooled(name: str, learn: Latents, test: Latents, x: Tensor | None = None, test_x: Tensor | None = None):
        return AdapterTrial(name, "pooled", (at,), learn, test, scale.seed_hidden, x=x, test_x=test_x)

    (a, unseen), (b, b_test), (c, c_test) = both(SEEDS_OWN, True), both(UNTIED), both(INDEPENDENT)
    again = Latents({k: v[:held] for k, v in a.points.items()}, a.targets[:held], a.pictures[:held], a.masks[:held])
    many = bench.latents([bench.scenes(scale.train, SCENES, INDEPENDENT, "train")], [at])
    own = state(a, True)
    return [
        pooled("the seed's protocol", a, again, own, own[:held]),
        pooled("unseen test pictures", a, unseen, own, state(unseen, True)),
        pooled("any shape in any colour", b, b_test, state(b, True), state(b_test, True)),
        pooled("more shapes, colours and sizes", c, c_test, state(c, True), state(c_test, True)),
        pooled("the picture's tokens alone", c, c_test, state(c, False), state(c_test, False)),
        pooled(f"the middle layer, {at}", c, c_test),
        pooled(f"{len(many)} scenes instead of {n}", many, c_test),
        AdapterTrial("the grid of tokens kept", "tokens", (at,), many, c_test),
        AdapterTrial("1 to 5 objects, all backgrounds", "tokens", (at,), bench.train(), bench.test()),
    ]


def _fit(bench: Bench, stage: AdapterTrial) -> list[torch.nn.Module]:
    """An adapter of each seed, by the seed's own recipe, which no cap cuts."""
    modules = [fresh(bench, stage, seed) for seed in range(bench.scale.seeds)]
    steps = max(1, bench.scale.seed_epochs * bench.scale.seed_train // BATCH)
    recipe = Recipe(steps, BATCH, RATE, 1, weight_decay=0.0, ema=0.0, seed=bench.seed)
    learn(
        replace(bench, cap=None),
        {f"{k}": member(bench, stage, m, k) for k, m in enumerate(modules)},
        recipe,
        stage.name,
    )
    return modules


def grey_ssim(a: Tensor, b: Tensor) -> np.ndarray:
    """The seed's SSIM (N,): of pictures averaged over their colours."""
    grey = [x.mean(1, keepdim=True).expand(-1, 3, -1, -1) for x in (a, b)]
    return ssim(*grey).double().cpu().numpy()


def _tsne_silhouettes(bench: Bench, pooled: Tensor, scenes: Scenes) -> list[list[float]]:
    """By shape and colour: on t-SNE's two coordinates, as the seed has it, and in the latents: intervals."""
    from sklearn.manifold import TSNE

    x, classes = pooled.double().cpu().numpy(), labels(scenes)["shape and colour"]
    flat = TSNE(perplexity=min(30, len(x) // 4), random_state=bench.seed).fit_transform(x)
    each = each_silhouette(flat, classes, "euclidean"), each_silhouette(x, classes)
    return [finite(values[None]) or [] for values in each]


def run(bench: Bench) -> Result:
    found, skills, rows, pictures, floors = {}, {}, [], [], []
    plan = stages(bench)
    for stage in plan:
        test = stage.test
        x = test.pictures.float() / 255
        made = [reconstruct(bench, m, stage.test_inputs()) for m in _fit(bench, stage)]
        blank, shifted = torch.ones_like(x), torch.nn.functional.pad(x, (SHIFT, 0, 0, 0), value=1.0)[..., : x.shape[-1]]
        each = {"adapter": made, "blank": [blank], "shifted by 8 px": [shifted], "oracle": [oracle(bench, test)]}
        scored = {k: stack([score(bench, y, test) for y in v]) for k, v in each.items()}
        grey = {k: np.stack([grey_ssim(x, y) for y in v]) for k, v in each.items()}
        found[stage.name] = scored
        gap = scored["blank"]["lpips"].mean() - scored["oracle"]["lpips"].mean()
        skills[stage.name] = (scored["blank"]["lpips"] - scored["adapter"]["lpips"]) / gap  # (S, N)
        rows.append(
            [
                stage.name,
                finite(scored["adapter"]["lpips"]),
                finite(scored["blank"]["lpips"]),
                finite(skills[stage.name]),
                finite(grey["adapter"]),
                finite(scored["adapter"]["ssim"]),
                finite(scored["adapter"]["mask_iou"]),
                measured(scored["adapter"]["mask_iou"]),
            ]
        )
        if stage.name in (plan[0].name, plan[-1].name):
            floors += [
                [f"{stage.name}: {k}", finite(v["lpips"]), finite(grey[k]), finite(v["ssim"])]
                for k, v in scored.items()
            ]
        kept = bench.scale.kept
        pictures += [x[:kept], made[0][:kept]]
    write_scores(bench.artifacts / "seed_protocol.csv", {n: v["adapter"] for n, v in found.items()})
    write_grid(bench.artifacts / "seed_protocol.png", pictures)
    tied, free = (bench.scenes(bench.scale.seed_train, SCENES, spec, "train") for spec in (SEEDS_OWN, UNTIED))
    clusters = [
        [name, *_tsne_silhouettes(bench, last_state(bench, render(s.to(bench.device)).images), s)]
        for name, s in (("each shape in one colour", confounded(tied)), ("any shape in any colour", free))
    ]
    return _told(bench, found, skills, rows, floors, clusters)


def _told(bench: Bench, found: dict, skills: dict, rows: list, floors: list, clusters: list) -> Result:
    names = list(found)
    first, unseen = (finite(found[n]["adapter"]["lpips"]) or [] for n in names[:2])
    blank = finite(found[names[1]]["blank"]["lpips"]) or []  # of the same unseen pictures
    gap = paired(found[names[1]]["adapter"]["lpips"], found[names[1]]["blank"]["lpips"])
    steps = bench.scale.seed_epochs * bench.scale.seed_train // BATCH
    beats = verdict_of(gap)
    bars = [series(what, names, [found[n][what]["lpips"] for n in names]) for what in ("adapter", "blank", "oracle")]
    return {
        "title": "The seed's protocol",
        "question": "What do the seed's own numbers become when its choices are changed one at a time?",
        "verdict": beats,
        "verdict_reason": "Claim: the seed's own pipeline brings pictures back. On pictures that it was not trained "
        f"on, all else the seed's way, LPIPS is {shown(unseen)}; a blank page has {shown(blank)}. The pipeline's minus "
        f"the page's is {shown(gap)} (paired; under 0 favours the pipeline).",
        "paragraph": f"The seed's way, with an MLP of width {bench.scale.seed_hidden} (the seed's: 2048), trained on "
        f"{bench.scale.seed_train} pictures and tested on {bench.scale.seed_test} of them: LPIPS {shown(first)}. "
        + " ".join(f"Then {name}: {said(found[name]['adapter']['lpips'])}." for name in names[1:])
        + f" Each stage keeps all changes before it and has {steps} steps of {BATCH} pictures, {ALONE}. Where "
        "the pictures change, so does what a blank page scores: compare by skill, which is 0 for the blank page.",
        "seed": {
            "lpips": 0.236,
            "ssim": 0.946,
            "silhouette": 0.808,
            "blank_lpips": 0.352,
            "blank_ssim": 0.943,
            "shifted_lpips": 0.077,
        },
        "key": [
            key(
                f"LPIPS, {name}",
                finite(found[name]["adapter"]["lpips"]),
                0.236 if name == names[0] else None,
                ("blank page", finite(found[name]["blank"]["lpips"])),
                finite(found[name]["oracle"]["lpips"]),
                f"< {TARGETS['lpips']}",
            )
            for name in (*names[:2], names[-1])
        ],
        "tables": [
            table(
                "One thing changed after another",
                [
                    "protocol",
                    "LPIPS",
                    "blank page's LPIPS",
                    "skill (LPIPS)",
                    "SSIM, grey",
                    "SSIM, colour",
                    "mask IoU",
                    MEASURED,
                ],
                rows,
            ),
            table(
                "Floors and ceiling under the seed's protocol and under ours",
                ["pictures", "LPIPS", "SSIM, grey", "SSIM, colour"],
                floors,
            ),
            table(
                "Silhouette by shape and colour",
                ["scenes", "on t-SNE's two coordinates, as the seed", "in the latents"],
                clusters,
            ),
        ],
        "charts": [
            chart(
                "Skill (LPIPS) as one of the seed's choices after another is changed",
                "waterfall",
                ("protocol", "skill"),
                [series("skill", names, [skills[n] for n in names])],
                0.0,
                1.0,
            ),
            chart("LPIPS of the same", "bar", ("protocol", "LPIPS"), bars, target=TARGETS["lpips"]),
        ],
        "pictures": [
            {
                "title": "Pairs of rows, original and reconstruction, for each protocol in order",
                "file": "seed_protocol.png",
                "point": str(bench.recommended),
                "adapter": "pooled",
            }
        ],
        "facts": {},
    }
