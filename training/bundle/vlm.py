"""The bundled Qwen2.5-VL: a small one of transformers' own classes, taught from scratch to speak of images.

Next-token loss alone. Each image comes with five questions, which all see the image but not each other:
one row is [opening, image tokens, slot, slot, …], and every slot takes up the positions behind the image, as
it does when its question is asked alone.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from foresight.data.render import render
from foresight.data.scenes import SceneSpec, take
from foresight.models import qwen2_5_vl as qwen
from training.bundle import clip_lessons
from training.bundle import conversation as talk
from training.bundle.conversation import Lesson, Turn
from training.bundle.natural_images import photo_crops, procedural, read_photos
from training.bundle.observations import observe
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
NATURAL = SceneSpec(objects=(1, 3), radius=(20.0, 64.0))  # drawn upon natural images
SHARES = {"scenes": 0.45, "scenes on natural images": 0.15, "photographs": 0.25, "procedural images": 0.15}
SLOTS = (208, 84, 56, 56, 56)  # tokens kept for each question and its answer: the long one, a description, short ones
CLIP_SHARE = 1 / 8  # of each batch, beside its images
CLIP_POOL = 8  # images in the pool for one moving scene; a third as many clips are filmed over photos
CLIP_RATES = (2.0, 4.0, 8.0)  # frames a second that a clip may be said to have
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
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(words, vocab_size=640, show_progress=False)
    tokenizer.add_special_tokens({"additional_special_tokens": [*SPECIAL[1:], *VISION]})
    area = {"shortest_edge": 56 * 56, "longest_edge": 448 * 448}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=area),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=area),
        chat_template=TEMPLATE,
    )


@dataclass(frozen=True)
class Pool:
    """Images (N, 3, 224, 224) uint8 on the device, and what is known of each."""

    images: Tensor
    lessons: list[Lesson]


def scene_pool(count: int, seed: int, spec: SceneSpec, device: torch.device, natural: Tensor | None = None) -> Pool:
    """Scenes of the train split. natural: (count, 3, 224, 224) uint8 images that they are drawn upon."""
    scenes = take(count, seed, spec, "train", device)
    images, lessons = [], list[Lesson]()
    for start, part in zip(range(0, count, _CHUNK), scenes.chunks(_CHUNK), strict=True):
        background = None if natural is None else natural[start : start + _CHUNK]
        rendered = render(part, backgrounds=background)
        kinds = talk.backgrounds(part) if background is None else ["natural"] * len(part)
        objects = talk.items(part.to("cpu"), rendered.boxes.cpu())
        images.append(rendered.images)
        lessons += map(Lesson, objects, kinds, observe(rendered.images))
    return Pool(torch.cat(images), lessons)


def image_pool(images: Tensor) -> Pool:
    """Images of which nothing is known but what they look like."""
    observations = [observation for part in images.split(_CHUNK) for observation in observe(part)]
    return Pool(images, [Lesson([], "", observation) for observation in observations])


def build_pools(count: int, seed: int, photos: Sequence[Tensor], device: torch.device) -> list[Pool]:
    """About `count` images in all, by SHARES."""
    generator = torch.Generator(device).manual_seed(seed)
    numbers = {name: int(count * share) for name, share in SHARES.items()}
    per_spec = numbers["scenes"] // len(MIX)
    pools = [scene_pool(per_spec, seed * len(MIX) + k, spec, device) for k, spec in enumerate(MIX)]
    upon = numbers["scenes on natural images"]
    crops = torch.cat([photo_crops(photos, n, 224, generator) for n in _parts(numbers["photographs"] + upon // 2)])
    patterns = torch.cat([procedural(n, 224, generator) for n in _parts(numbers["procedural images"] + upon // 2)])
    natural = torch.cat([crops[: upon // 2], patterns[: upon // 2]])
    pools.append(scene_pool(len(natural), seed * len(MIX) + len(MIX), NATURAL, device, natural))
    return [*pools, image_pool(crops[upon // 2 :]), image_pool(patterns[upon // 2 :])]


def _parts(count: int) -> list[int]:
    """`count` in parts of at most _CHUNK, to bound memory."""
    return [min(_CHUNK, count - start) for start in range(0, count, _CHUNK)]


class ConversationTexts(Dataset):
    """Token ids and labels of every conversation, made in worker processes, a chunk of conversations an item.

    conversations: five turns each, or a lesson from which they are drawn.
    """

    def __init__(self, conversations: Sequence[list[Turn] | Lesson], tokenizer: Any, seed: int):
        self.conversations, self.tokenizer, self.seed = conversations, tokenizer, seed

    def __len__(self) -> int:
        return -(-len(self.conversations) // _CHUNK)

    def __getitem__(self, chunk: int) -> tuple[np.ndarray, Counter[str]]:
        """(chunk, sum of SLOTS, 2) int16: ids, and labels, which are IGNORE but for answers; label tokens by kind."""
        numbers = range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, len(self.conversations)))
        turns = [turn for i in numbers for turn in self._turns(i)]
        backend = self.tokenizer.backend_tokenizer
        questions = backend.encode_batch([question_text(turn.question) for turn in turns])
        answers = backend.encode_batch([turn.answer + "<|im_end|>" for turn in turns])
        rows, tokens = np.zeros((len(numbers), sum(SLOTS), 2), np.int16), Counter[str]()
        rows[..., 1] = IGNORE
        places = np.ndindex(len(numbers), len(SLOTS))
        for (row, slot), turn, question, answer in zip(places, turns, questions, answers, strict=True):
            start, first, ids = sum(SLOTS[:slot]), len(question.ids), question.ids + answer.ids
            if len(ids) > SLOTS[slot]:
                raise ValueError(f"{len(ids)} tokens do not fit into a slot of {SLOTS[slot]}: {turn}.")
            rows[row, start : start + len(ids), 0] = ids
            rows[row, start + first - 1 : start + len(ids) - 1, 1] = answer.ids  # the label is the next token
            tokens[turn.kind] += len(answer.ids)
        return rows, tokens

    def _turns(self, number: int) -> list[Turn]:
        conversation = self.conversations[number]
        return (
            conversation
            if isinstance(conversation, list)
            else talk.conversation(conversation, random.Random(self.seed * 2**32 + number))
        )


class ConversationTask:
    """The bundled model's task: pools of images on the device, and the next-token loss on their conversations.

    shares: of all supervised tokens, by kind of question; for the model card.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        count: int,
        seed: int,
        photos: Sequence[Path],
        device: torch.device,
        workers: int,
    ):
        self.modules = nn.ModuleDict({"vlm": model})
        images = read_photos(photos, 256, device)
        pools = build_pools(count, seed, images, device)
        self.images = torch.cat([pool.images for pool in pools])  # (rows, 3, 224, 224) uint8
        self.texts, tokens = self._texts([x for pool in pools for x in pool.lessons], processor, seed, device, workers)
        moving, scene_turns = clip_lessons.moving_scenes(count // CLIP_POOL, seed, device)
        filmed, camera_turns = clip_lessons.camera_moves(images, count // CLIP_POOL // 3, seed)
        self.clips = torch.cat([moving, filmed])  # (clips, F, 3, 112, 112) uint8
        self.clip_texts, clip_tokens = self._texts([*scene_turns, *camera_turns], processor, seed, device, workers)
        stills, clips = tokens.total(), clip_tokens.total()
        share = {k: n / stills * (1 - CLIP_SHARE) for k, n in tokens.items()}
        share |= {k: n / clips * CLIP_SHARE for k, n in clip_tokens.items()}
        self.shares = dict(sorted(share.items(), key=lambda item: -item[1]))
        self.rows = len(self.images)
        opening = processor.tokenizer(OPENING)["input_ids"]
        self.constants = self._layout(model, opening, processor.image_processor, device)
        self.intervals = [qwen.time_interval(fps, model.config.vision_config) for fps in CLIP_RATES]
        # cuDNN's backward pass of attention has given NaN on Hopper where 64 tokens are left over.
        torch.backends.cuda.enable_cudnn_sdp(False)
        self._loss = torch.compile(_next_token_loss, dynamic=False) if device.type == "cuda" else _next_token_loss

    @staticmethod
    def _texts(
        conversations: Sequence[list[Turn] | Lesson], processor: Any, seed: int, device: torch.device, workers: int
    ) -> tuple[Tensor, Counter[str]]:
        """Ids and labels (rows, sum of SLOTS, 2) int16, and the number of supervised tokens by kind of question."""
        texts = ConversationTexts(conversations, processor.tokenizer, seed)
        rows, tokens = zip(*DataLoader(texts, batch_size=None, num_workers=workers), strict=True)
        return torch.cat([torch.as_tensor(r) for r in rows]).to(device), sum(tokens, Counter[str]())

    @staticmethod
    def _layout(model: Any, opening: list[int], settings: Any, device: torch.device) -> dict[str, Tensor]:
        """What is the same for every row: opening, and the normalisation of bytes."""
        mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (settings.image_mean, settings.image_std))
        return {"opening": torch.tensor(opening, device=device), "mean": mean * 255, "std": std * 255}

    def loss(self, rows: Tensor, generator: torch.Generator, done: float) -> dict[str, Tensor]:
        device = self.images.device
        images_chosen = rows.to(device, non_blocking=True)
        still = self._mean_loss(self.images[images_chosen][:, None], self.texts[images_chosen], 0.0)
        draw = random.Random(generator.initial_seed())
        count = max(1, int(len(rows) * CLIP_SHARE))
        clips_chosen = torch.randint(len(self.clips), (count,), generator=generator, device=device)
        clip = self._mean_loss(self.clips[clips_chosen], self.clip_texts[clips_chosen], draw.choice(self.intervals))
        return {"vlm": (1 - CLIP_SHARE) * still + CLIP_SHARE * clip}

    def _mean_loss(self, frames: Tensor, texts: Tensor, interval: float) -> Tensor:
        """frames: (B, F, 3, H, W) uint8, one frame or an even number. interval: between steps, in positions."""
        ids, labels = texts.long().unbind(-1)
        positions = text_positions(len(self.constants["opening"]), frames, interval)
        return self._loss(self.modules["vlm"], frames, ids, labels, positions=positions, **self.constants)


def text_positions(before: int, frames: Tensor, interval: float) -> Tensor:
    """Positions (3, S) of the opening, the image tokens of (B, F, 3, H, W) frames, and every slot behind them."""
    steps, height, width = -(-frames.shape[1] // 2), frames.shape[3] // 28, frames.shape[4] // 28
    vision = qwen.image_positions(before, height, width, frames.device, steps, interval)
    start = vision.amax() + 1
    return torch.cat([vision, *(torch.arange(n, device=frames.device).expand(3, -1) + start for n in SLOTS)], 1)


def _next_token_loss(
    model: Any,
    frames: Tensor,
    ids: Tensor,
    labels: Tensor,
    opening: Tensor,
    positions: Tensor,
    mean: Tensor,
    std: Tensor,
) -> Tensor:
    """Mean cross-entropy of answers. frames: (B, F, 3, H, W) uint8; ids, labels: (B, T)."""
    visual, language = model.model.visual, model.model.language_model
    depth = len(visual.blocks)
    pairs = qwen.frame_pairs((frames.float() - mean) / std).flatten(0, 1)  # (B · steps, 2, 3, H, W)
    rows = qwen.patchify(pairs, visual.config.patch_size)
    tokens = qwen.merge(visual, qwen.vision_states(visual, rows, {depth})[depth])
    tokens = tokens.reshape(len(frames), -1, tokens.shape[-1])
    start = language.embed_tokens(opening).expand(len(frames), -1, -1)
    embeds = torch.cat([start.to(tokens.dtype), tokens, language.embed_tokens(ids).to(tokens.dtype)], 1)
    last = len(language.layers)
    states = qwen.language_states(language, embeds, positions, {last}, SLOTS)[last]
    logits = F.linear(language.norm(states[:, -ids.shape[1] :]), language.embed_tokens.weight)
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE)


def new_model(seed: int = 0) -> tuple[Any, Any]:
    """The untrained model and its processor."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    pools = [scene_pool(400, seed, spec, torch.device("cpu")) for spec in MIX]
    pools += [image_pool(procedural(400, 56, generator))]
    turns = [turn for pool in pools for lesson in pool.lessons for turn in talk.conversation(lesson, draw)]
    clip_turns = clip_lessons.moving_scenes(100, seed, torch.device("cpu"))[1]
    clip_turns += clip_lessons.camera_moves(list(procedural(4, 256, generator)), 20, seed)[1]
    turns += [turn for conversation in clip_turns for turn in conversation]
    texts = [part for turn in turns for part in (turn.question, turn.answer)]
    processor = build_processor(texts)
    ids = {token: processor.tokenizer.convert_tokens_to_ids(token) for token in (*SPECIAL, *VISION)}
    torch.manual_seed(seed)
    return Qwen2_5_VLForConditionalGeneration(build_config(len(processor.tokenizer), ids)), processor


def save_model(model: Any, processor: Any, folder: Path) -> None:
    """The genuine file layout: bf16 safetensors in shards under 9 MB, config, processor, tokenizer, template."""
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="9MB")
    processor.save_pretrained(folder)
