"""The bundled Qwen2.5-VL: a small one of transformers' own classes, taught from scratch to speak of scenes.

Next-token loss alone. Each picture comes with five questions, which all see the picture but not each other:
one row is [opening, image tokens, slot, slot, …], and every slot takes up the positions behind the picture, as
it does when its question is asked alone.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from foresight.data.render import Rendered, render
from foresight.data.scenes import Scenes, SceneSpec, take
from foresight.models import qwen2_5_vl as qwen
from training.bundle import conversation as talk
from training.loop import Recipe

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OPENING = "<|im_start|>user\n<|vision_start|>"
RECIPE = Recipe(steps=9000, batch=512, lr=1.5e-3, warmup=400, weight_decay=0.05, beta2=0.98, ema=0.999)
MIX = (SceneSpec(), SceneSpec(overlap=False), SceneSpec(objects=(1, 1)), SceneSpec(backgrounds=("white",)))
SLOTS = (192, 84, 56, 96, 64)  # tokens kept for each question and its answer: boxes, description, short, pixels
IGNORE = -100
_CHUNK = 2048


def question_text(question: str) -> str:
    """What follows the image tokens up to the answer, as the chat template has it."""
    return f"<|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n"


def build_config(vocabulary: int, ids: dict[str, int]) -> Any:
    from transformers import Qwen2_5_VLConfig

    vision = {
        "depth": 6,
        "hidden_size": 192,
        "intermediate_size": 384,
        "num_heads": 6,
        "out_hidden_size": 256,
        "fullatt_block_indexes": [2, 5],
        "window_size": 112,
        "tokens_per_second": 2,
        "initializer_range": 0.04,
    }
    text = {
        "vocab_size": vocabulary,
        "hidden_size": 256,
        "intermediate_size": 256,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]},
        "initializer_range": 0.04,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def build_processor(texts: list[str]) -> Any:
    """Qwen2.5-VL's processor around a byte-level tokenizer whose merges are learned from `texts`."""
    from transformers import Qwen2_5_VLProcessor, Qwen2Tokenizer, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    words = [*texts, *["user assistant system"] * 50]
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(words, vocab_size=500, show_progress=False)
    tokenizer.add_special_tokens({"additional_special_tokens": [*SPECIAL[1:], *VISION]})
    area = {"shortest_edge": 56 * 56, "longest_edge": 448 * 448}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=area),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=area),
        chat_template=TEMPLATE,
    )


def glimpses(drawn: Rendered, generator: torch.Generator) -> list[talk.Glimpse]:
    """A random row or column and two random points of each picture; the pictures are square."""
    images, visible = drawn.images, drawn.visible
    (count, _, side, _), device = images.shape, images.device
    owner = torch.full((count, side, side), -1, dtype=torch.int8, device=device)
    for j in range(visible.shape[1]):
        owner.masked_fill_(visible[:, j], j)

    def pick(*shape: int) -> Tensor:
        return torch.randint(side, shape, generator=generator, device=device)

    every, across = torch.arange(count, device=device), pick(count) % 2 == 0
    number, points = pick(count), pick(count, 2, 2)  # points: x, y
    lines = torch.where(across[:, None], owner[every, number], owner[every, :, number])  # (B, side)
    colors = images.permute(0, 2, 3, 1)[every[:, None], points[..., 1], points[..., 0]]  # (B, 2, 3)
    values = (across, number, lines, points, colors)
    return [
        talk.Glimpse("row" if a else "column", n, line, p, c)
        for a, n, line, p, c in zip(*(v.tolist() for v in values), strict=True)
    ]


class Texts(Dataset):
    """Token ids and labels of every scene's conversation, made in worker processes, a chunk of scenes an item."""

    def __init__(self, scenes: Scenes, boxes: Tensor, seen: list[talk.Glimpse], tokenizer: Any, seed: int):
        self.found, self.grounds, self.seen = talk.items(scenes, boxes), talk.backgrounds(scenes), seen
        self.labels = talk.labels(scenes)
        self.tokenizer, self.seed = tokenizer, seed

    def __len__(self) -> int:
        return -(-len(self.found) // _CHUNK)

    def __getitem__(self, chunk: int) -> np.ndarray:
        """(chunk, sum of SLOTS, 2) int16: ids, and labels, which are IGNORE but for answers."""
        numbers = range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, len(self.found)))
        asked, said = [], []  # (chunk · slots) texts each
        for i in numbers:
            draw = random.Random(self.seed * 2**32 + i)
            facts = self.found[i], self.grounds[i], self.seen[i], self.labels[i]
            for question, answer in talk.conversation(*facts, draw):
                asked.append(question_text(question))
                said.append(answer + "<|im_end|>")
        backend = self.tokenizer.backend_tokenizer
        pairs = zip(backend.encode_batch(asked), backend.encode_batch(said), strict=True)
        rows = np.zeros((len(numbers), sum(SLOTS), 2), np.int16)
        rows[..., 1] = IGNORE
        for (row, slot), (before, answer) in zip(np.ndindex(len(numbers), len(SLOTS)), pairs, strict=True):
            start, first, ids = sum(SLOTS[:slot]), len(before.ids), before.ids + answer.ids
            if len(ids) > SLOTS[slot]:
                raise ValueError(f"{len(ids)} tokens do not fit into a slot of {SLOTS[slot]}.")
            rows[row, start : start + len(ids), 0] = ids
            rows[row, start + first - 1 : start + len(ids) - 1, 1] = answer.ids  # the label is the next token
        return rows


class Talk:
    """The bundled model's task: a pool of scenes on the device, and the next-token loss on their conversations."""

    def __init__(self, model: Any, processor: Any, count: int, seed: int, device: torch.device, workers: int):
        self.modules = nn.ModuleDict({"vlm": model})
        images: list[Tensor] = []
        texts: list[Texts] = []
        for k, spec in enumerate(MIX):
            number = seed * len(MIX) + k
            scenes = take(count // len(MIX), number, spec, "train", device)
            draw, boxes, seen = torch.Generator(device).manual_seed(number), [], []
            for drawn in map(render, scenes.chunks(4096)):
                images.append(drawn.images)
                boxes.append(drawn.boxes)
                seen += glimpses(drawn, draw)
            texts.append(Texts(scenes.to("cpu"), torch.cat(boxes).cpu(), seen, processor.tokenizer, seed + k))
        self.images = torch.cat(images)  # (rows, 3, 224, 224) uint8
        loaders = (DataLoader(t, batch_size=None, num_workers=workers) for t in texts)
        self.texts = torch.cat([part for loader in loaders for part in loader]).to(device)  # (rows, T, 2) int16
        self.rows = len(self.images)
        opening = processor.tokenizer(OPENING)["input_ids"]
        self.constants = self._layout(model, opening, processor.image_processor, device)
        # cuDNN's backward pass of attention has given NaN on Hopper where 64 tokens are left over.
        torch.backends.cuda.enable_cudnn_sdp(False)
        self._loss = torch.compile(_next_token_loss) if device.type == "cuda" else _next_token_loss

    @staticmethod
    def _layout(model: Any, opening: list[int], settings: Any, device: torch.device) -> dict[str, Tensor]:
        """What is the same for every row: opening, positions (3, S), normalisation."""
        before, side = len(opening), 224 // 28
        picture = qwen.image_positions(before, side, side, device)
        slots = [torch.arange(n, device=device).expand(3, -1) + before + side for n in SLOTS]
        mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (settings.image_mean, settings.image_std))
        return {
            "opening": torch.tensor(opening, device=device),
            "positions": torch.cat([picture, *slots], 1),
            "mean": mean * 255,
            "std": std * 255,
        }

    def loss(self, rows: Tensor, generator: torch.Generator, done: float) -> dict[str, Tensor]:
        where = rows.to(self.images.device, non_blocking=True)
        texts = self.texts[where].long()
        return {"vlm": self._loss(self.modules["vlm"], self.images[where], *texts.unbind(-1), **self.constants)}


def _next_token_loss(
    model: Any,
    images: Tensor,
    ids: Tensor,
    labels: Tensor,
    opening: Tensor,
    positions: Tensor,
    mean: Tensor,
    std: Tensor,
) -> Tensor:
    """Mean cross-entropy of answers. images: (B, 3, H, W) uint8; ids, labels: (B, T)."""
    visual, language = model.model.visual, model.model.language_model
    depth = len(visual.blocks)
    rows = qwen.patchify((images.float() - mean) / std, visual.config.patch_size)
    tokens = qwen.merge(visual, qwen.vision_states(visual, rows, {depth})[depth]).flatten(1, 2)
    start = language.embed_tokens(opening).expand(len(images), -1, -1)
    embeds = torch.cat([start.to(tokens.dtype), tokens, language.embed_tokens(ids).to(tokens.dtype)], 1)
    last = len(language.layers)
    states = qwen.language_states(language, embeds, positions, {last}, SLOTS)[last]
    logits = F.linear(language.norm(states[:, -ids.shape[1] :]), language.embed_tokens.weight)
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE)


def new_model(seed: int = 0) -> tuple[Any, Any]:
    """The untrained model and its processor."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    draw, texts = random.Random(seed), []
    for spec in MIX:
        scenes = take(500, seed, spec, "train")
        drawn = render(scenes)
        facts = (
            talk.items(scenes, drawn.boxes),
            talk.backgrounds(scenes),
            glimpses(drawn, torch.Generator().manual_seed(seed)),
            talk.labels(scenes),
        )
        texts += [part for each in zip(*facts, strict=True) for pair in talk.conversation(*each, draw) for part in pair]
    processor = build_processor(texts)
    ids = {token: processor.tokenizer.convert_tokens_to_ids(token) for token in (*SPECIAL, *VISION)}
    torch.manual_seed(seed)
    return Qwen2_5_VLForConditionalGeneration(build_config(len(processor.tokenizer), ids)), processor


def save_model(model: Any, processor: Any, folder: Path) -> None:
    """The genuine file layout: bf16 safetensors in shards under 9 MB, config, processor, tokenizer, template."""
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="9MB")
    processor.save_pretrained(folder)
