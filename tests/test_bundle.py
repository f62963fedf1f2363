"""The bundled VLM's lessons: several questions a picture at once, worth the same as one by one; and glimpses."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from foresight.data.render import render
from foresight.data.scenes import SceneSpec, sample
from foresight.models import qwen2_5_vl as qwen
from foresight.models.vlm import load_vlm
from training.bundle import vlm as lessons
from training.bundle.vlm import IGNORE, OPENING, SLOTS, Talk


def test_the_loss_is_that_of_transformers_asked_one_question_at_a_time(tiny):
    tokenizer, config, model = tiny.processor.tokenizer, tiny.model.config, deepcopy(tiny.model)
    model.lm_head.weight = model.model.language_model.embed_tokens.weight  # tied, as the bundled one's
    settings = tiny.processor.image_processor
    constants = Talk._layout(model, tokenizer(OPENING)["input_ids"], settings, torch.device("cpu"))
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(256, (1, 3, 224, 224), generator=draw, dtype=torch.uint8)
    ids = torch.randint(10, 40, (1, sum(SLOTS)), generator=draw)
    labels = torch.randint(10, 40, (1, sum(SLOTS)), generator=draw)
    labels[torch.rand(labels.shape, generator=draw) < 0.5] = IGNORE
    with torch.no_grad():
        ours = lessons._next_token_loss(model, image, ids, labels, **constants)
        rows = qwen.patchify((image.float() - constants["mean"]) / constants["std"], 14)[0]
        cells = rows.view(8, 2, 8, 2, -1).transpose(1, 2).reshape(256, -1)  # transformers' merge-block order
        picture = torch.full((64,), config.image_token_id)
        total = 0.0
        for part, goal in zip(ids[0].split(SLOTS), labels[0].split(SLOTS), strict=True):
            sequence = torch.cat([constants["opening"], picture, part])[None]
            logits = model(
                input_ids=sequence,
                pixel_values=cells,
                image_grid_thw=torch.tensor([[1, 16, 16]]),
                mm_token_type_ids=(sequence == config.image_token_id).int(),
                attention_mask=torch.ones_like(sequence),
            ).logits[0, -len(part) :]
            total += F.cross_entropy(logits, goal, ignore_index=IGNORE, reduction="sum").item()
    assert ours.item() == pytest.approx(total / (labels != IGNORE).sum().item(), rel=1e-5)


def test_glimpses_tell_the_very_pixels():
    drawn = render(sample(range(12), 3, SceneSpec()))
    seen = lessons.glimpses(drawn, torch.Generator().manual_seed(0))
    assert {g.line for g in seen} == {"row", "column"}
    for i, glimpse in enumerate(seen):
        for (x, y), color in zip(glimpse.points, glimpse.colors, strict=True):
            assert drawn.images[i, :, y, x].tolist() == color
        shown = drawn.visible[i]  # (N, H, W)
        line = shown[:, glimpse.number] if glimpse.line == "row" else shown[:, :, glimpse.number]
        for pixel, owner in enumerate(glimpse.owners):
            assert line[:, pixel].nonzero().flatten().tolist() == ([] if owner < 0 else [owner])


def test_a_slot_holds_the_longest_conversation():
    """Five objects with all numbers of three digits, which no drawing of scenes is sure to meet."""
    tokenizer = load_vlm(None, "cpu").tokenizer
    talk, longest = lessons.talk, (150, 150, 222, 222)
    found = [talk.Item("orange", "triangle", longest, (224, 224))] * 5
    owners = [k // 16 % 2 - 1 for k in range(224)]
    glimpse = talk.Glimpse("column", 123, owners, [(123, 123)] * 2, [(123, 123, 123)] * 2)
    draw = lessons.random.Random(0)
    said = [
        *[(q, talk.locate(found)) for q in talk.LOCATE],
        *[(q, talk.describe(found, "gradient")) for q in talk.DESCRIBE],
        *[talk.short_question(found[:1], draw) for _ in range(20)],
        talk.scan(glimpse, ["orange triangle"]),
        talk.colors_at(glimpse),
    ]
    slots = [0] * 3 + [1] * 3 + [2] * 20 + [3, 4]
    for slot, (question, answer) in zip(slots, said, strict=True):
        text = lessons.question_text(question) + answer + "<|im_end|>"
        assert len(tokenizer(text)["input_ids"]) <= SLOTS[slot]
