"""The seed study's own protocol, and what each of its choices is worth when one is changed after another.

Its design, from its public text: one shape on white, shape and colour picked by one index, radius 25 to 60 px; the
last hidden state after the final norm, averaged over all tokens, text included; an MLP of width 2048
(`Scale.seed_hidden`), learning rate 1e-3, batch 32, 100 epochs on 200 pictures; test pictures that are the first
training pictures; SSIM of grey pictures.
What differs here: the VLM and VAE are the study's, colours are the palette's, latents and their targets are
standardised, the learning rate falls to 0, gradients are clipped, and Adam's second beta is the study's.
"""

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
from training.experiments.bench import STUDYS_SCENES, Bench
from training.experiments.e1_1 import BOTH, labels
from training.experiments.experiment import Experiment, Measurement, Samples, write_grid
from training.experiments.scale import Scale
from training.experiments.trials import Trial, decode_all, round_trip, score_all, train_trials
from training.latents import Latents
from training.loop import Recipe

PAIRS = {"circle": "red", "square": "blue", "triangle": "green", "star": "yellow"}
SEEDS_OWN = SceneSpec(objects=(1, 1), shapes=tuple(PAIRS), backgrounds=("white",), radius=(25.0, 60.0))
UNTIED = replace(SEEDS_OWN, colors=tuple(PAIRS.values()))
INDEPENDENT = SceneSpec(objects=(1, 1), backgrounds=("white",))
SCENES = 900  # its seed
BATCH, RATE = 32, 1e-3
SHIFT = 8  # pixels
ON_MAP, IN_LATENTS = "on t-SNE's two coordinates, as the seed", "in the latents"


def confounded(scenes: Scenes) -> Scenes:
    """The same scenes, each shape in the one colour that goes with it."""
    colours = torch.tensor([COLOR_NAMES.index(PAIRS.get(shape, "red")) for shape in SHAPES], device=scenes.shape.device)
    return replace(scenes, color=colours[scenes.shape])


@torch.inference_mode()
def last_state(bench: Bench, images: Tensor, text: bool = True, prompt: str = "Describe the image.") -> Tensor:
    """Images (N, 3, H, W) uint8 → (N, D): the last hidden state after the final norm, averaged over all tokens.

    text: the prompt's tokens among them, as the seed has it; or those of the image alone.
    """
    vlm, language = bench.vlm, bench.vlm.model.model.language_model
    vlm.describe(to_pil(images[0].float() / 255), prompt, 1)  # reads the weights that latents never need
    before, after = vlm.prompt(prompt).split("<|image_pad|>")
    last, parts = len(language.layers), []
    for part in images.split(bench.batch):
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


def with_last_state(bench: Bench, data: Latents, text: bool) -> Latents:
    """The same images with `last_state` for latents, the same at each place, as PooledMLP averages over places."""
    at = str(bench.recommended)
    n, _, h, w, _ = data.points[at].shape
    state = last_state(bench, data.pictures, text)[:, None, None, None].expand(n, 1, h, w, -1)
    return replace(data, points={at: state})


def stages(bench: Bench) -> list[Trial]:
    """The seed's protocol, then with one thing changed after another, each on top of those before.

    All learn for as many steps of as many images.
    """
    scale, at = bench.scale, bench.recommended

    def both(spec: SceneSpec, one_index: bool = False) -> list[Latents]:
        sets = ((scale.seed_train, "train"), (scale.seed_test, "test"))
        drawn = [bench.scenes(count, SCENES, spec, split) for count, split in sets]
        return [bench.latents([confounded(s) if one_index else s], [at]) for s in drawn]

    def pooled(name: str, train: Latents, test: Latents) -> Trial:
        return Trial(name, "pooled", (at,), train, test, scale.seed_hidden)

    seeds_own, untied, independent = both(SEEDS_OWN, True), both(UNTIED), both(INDEPENDENT)
    whole = [[with_last_state(bench, data, True) for data in pair] for pair in (seeds_own, untied, independent)]
    image_alone = [with_last_state(bench, data, False) for data in independent]
    (a, unseen), held = whole[0], scale.seed_test
    again = a[:held]
    many = bench.latents([bench.scenes(scale.train, SCENES, INDEPENDENT, "train")], [at])
    return [
        pooled("the seed's protocol", a, again),
        pooled("unseen test pictures", a, unseen),
        pooled("any shape in any colour", *whole[1]),
        pooled("more shapes, colours and sizes", *whole[2]),
        pooled("the picture's tokens alone", *image_alone),
        pooled(f"the middle layer, {at}", *independent),
        pooled(f"{len(many)} scenes instead of {scale.seed_train}", many, independent[1]),
        Trial("the grid of tokens kept", "tokens", (at,), many, independent[1]),
        Trial(STUDYS_SCENES, "tokens", (at,), bench.train(), bench.test()),
    ]


def recipe(scale: Scale, seed: int) -> Recipe:
    """The seed's own."""
    steps = max(1, scale.seed_epochs * scale.seed_train // BATCH)
    return Recipe(steps, BATCH, RATE, 1, weight_decay=0.0, ema=0.0, seed=seed)


def grey_ssim(a: Tensor, b: Tensor) -> np.ndarray:
    """The seed's SSIM (N,): of images averaged over their colours."""
    grey = [x.mean(1, keepdim=True).expand(-1, 3, -1, -1) for x in (a, b)]
    return ssim(*grey).double().cpu().numpy()


def silhouettes(bench: Bench, scenes: Scenes) -> Samples:
    """By shape and colour (1, N): on t-SNE's two coordinates, as the seed has it, and in the latents."""
    from sklearn.manifold import TSNE

    pooled = last_state(bench, render(scenes.to(bench.device)).images)
    x, classes = pooled.double().cpu().numpy(), labels(scenes)[BOTH]
    flat = TSNE(perplexity=min(30, len(x) // 4), random_state=bench.seed).fit_transform(x)
    return {ON_MAP: each_silhouette(flat, classes, "euclidean")[None], IN_LATENTS: each_silhouette(x, classes)[None]}


def measure(bench: Bench) -> Measurement:
    table: dict[str, Samples] = {}
    examples: list[Tensor] = []
    plan, own = stages(bench), recipe(bench.scale, bench.seed)
    for stage in plan:
        x = stage.test.pictures.float() / 255
        modules = train_trials(bench, [stage], stage.name, own)[stage.name]
        shifted = torch.nn.functional.pad(x, (SHIFT, 0, 0, 0), value=1.0)[..., : x.shape[-1]]
        images = {
            "adapter": decode_all(bench, modules, stage, stage.test),
            "blank": [torch.ones_like(x)],
            "shifted by 8 px": [shifted],
            "oracle": [round_trip(bench, stage.test)],
        }
        for what, seeds in images.items():
            grey = {"grey_ssim": np.stack([grey_ssim(x, y) for y in seeds])}
            table[f"{stage.name}: {what}"] = {**score_all(bench, seeds, stage.test), **grey}
        examples += [x[: bench.scale.kept], images["adapter"][0][: bench.scale.kept]]
    tied, free = (bench.scenes(bench.scale.seed_train, SCENES, spec, "train") for spec in (SEEDS_OWN, UNTIED))
    clusters = {"each shape in one colour": confounded(tied), "any shape in any colour": free}
    title = "Pairs of rows, original and reconstruction, for each protocol in order"
    return Measurement(
        {"scores": table, "silhouettes": {name: silhouettes(bench, scenes) for name, scenes in clusters.items()}},
        {"scores": own.steps},
        values={"stages": [stage.name for stage in plan]},
        grids=[write_grid(bench.artifacts / "seed_protocol.webp", examples, title, bench.recommended, "pooled")],
    )


SEED_PROTOCOL = Experiment(
    "seed_protocol",
    "The seed's protocol",
    "What do the seed's own numbers become when its choices are changed one at a time?",
    measure,
    version=2,
)
