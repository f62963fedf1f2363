"""The bundled VLM's lessons: several questions an image at once, worth the same as one by one."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from foresight.adapters.checkpoint import load_adapter, save_adapter
from foresight.adapters.modules import LinearProbe, TokenAdapter
from foresight.errors import InputError
from foresight.models import qwen2_5_vl as qwen
from foresight.models.vae import load_vae
from foresight.models.vlm import load_vlm
from foresight.paths import ASSETS
from training.bundle import clip_lessons
from training.bundle import vlm as lessons
from training.bundle.build import begin_from
from training.bundle.check import check_changes, check_vae
from training.bundle.observations import observe
from training.bundle.table import table
from training.bundle.vlm import IGNORE, OPENING, SLOTS, ConversationTask


def test_the_loss_is_that_of_transformers_asked_one_question_at_a_time(tiny):
    tokenizer, config, model = tiny.processor.tokenizer, tiny.model.config, deepcopy(tiny.model)
    model.lm_head.weight = model.model.language_model.embed_tokens.weight  # tied, as the bundled one's
    settings = tiny.processor.image_processor
    constants = ConversationTask._layout(model, tokenizer(OPENING)["input_ids"], settings, torch.device("cpu"))
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(256, (1, 3, 224, 224), generator=draw, dtype=torch.uint8)
    ids = torch.randint(10, 40, (1, sum(SLOTS)), generator=draw)
    labels = torch.randint(10, 40, (1, sum(SLOTS)), generator=draw)
    labels[torch.rand(labels.shape, generator=draw) < 0.5] = IGNORE
    with torch.no_grad():
        positions = lessons.text_positions(len(constants["opening"]), image[:, None], 0.0)
        ours = lessons._next_token_loss(model, image[:, None], ids, labels, positions=positions, **constants)
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


def test_a_slot_holds_the_longest_conversation():
    """Five objects with all numbers of three digits, which no drawing of scenes is sure to meet."""
    talk, longest = lessons.talk, (150, 150, 222, 222)
    tokenizer = load_vlm(None, "cpu").tokenizer
    objects = [talk.Item("orange", "triangle", longest, (224, 224))] * 5
    photo = observe((torch.rand(1, 3, 56, 56) * 255).to(torch.uint8))[0]
    observation = replace(photo, regions=["dark gray"] * 9, horizon=2)
    draw = lessons.random.Random(0)
    turns = talk.conversation(talk.Lesson(objects, "gradient", observation), draw)
    turns[0] = talk.Turn("boxes", max(talk.LOCATE, key=len), talk.locate(objects))
    photo_turns = talk.conversation(talk.Lesson([], "", observation), draw)
    filmed = clip_lessons.moving_scenes(30, 0, torch.device("cpu"))[1]
    for conversation in (turns, photo_turns, *filmed):
        for slot, turn in zip(SLOTS, conversation, strict=True):
            text = lessons.question_text(turn.question) + turn.answer + "<|im_end|>"
            assert len(tokenizer(text)["input_ids"]) <= slot, turn


def test_the_page_of_the_bundled_weights_has_the_table_of_their_cards():
    page = Path(__file__).parents[2] / "docs/bundled_weights.md"
    assert table(ASSETS / "adapters") in page.read_text()


def test_what_changes_within_a_step_is_read_back_but_not_by_who_gives_both_frames_alike():
    vlm, vae = load_vlm(None, "cpu", torch.float32), load_vae(None, "cpu", torch.float32)
    adapters = [load_adapter(ASSETS / "adapters" / name) for name in ("post-merge-0-tokens", "pre-merge-3-tokens")]
    with torch.no_grad():
        for numbers in adapters[0].head[-1].parameters():
            numbers[vae.channels :] = numbers[: vae.channels]
    (first, seen), (second, unseen) = check_changes(vlm, vae, adapters, 2)
    assert (first, second) == ("pre-merge/3", "post-merge/0")
    assert 0.4 < seen.low <= seen.mean <= seen.high < 1
    assert unseen == (0, 0, 0)


def test_an_adapter_begins_from_its_own_or_the_nearest_of_its_stage(tmp_path):
    def adapter(point: str) -> TokenAdapter:
        untrained = TokenAdapter(8, 4, 1, 2, hidden=8, card={"point": point})
        torch.nn.init.normal_(untrained.mean)  # as if taken from latents
        return untrained

    saved = {point: adapter(point) for point in ("post-merge/3", "post-merge/9", "pre-merge/4")}
    for point, one in saved.items():
        save_adapter(one, tmp_path / f"{point.replace('/', '-')}-tokens")
    for point, source in (("post-merge/5", "post-merge/3"), ("pre-merge/0", "pre-merge/4"), ("post-merge/9",) * 2):
        new = adapter(point)
        mean = new.mean.clone()
        begin_from(new, tmp_path)
        assert torch.equal(new.stem.weight, saved[source].stem.weight.half().float())
        assert torch.equal(new.mean, saved[source].mean.half().float() if point == source else mean)
    with pytest.raises(InputError, match="whose widths are others"):
        begin_from(TokenAdapter(8, 4, 1, 2, card={"point": "pre-merge/1"}), tmp_path)
    with pytest.raises(InputError, match="has no linear adapter of pre-merge to start pre-merge/1-linear from"):
        begin_from(LinearProbe(8, 4, 1, 2, {"point": "pre-merge/1"}), tmp_path)


def test_a_vae_is_checked_by_the_scores_that_scenes_have():
    figures = check_vae(load_vae(None, "cpu"), 1, None)
    assert figures["one object: lpips"].mean < 0.05 and figures["one object: mask_iou"].mean > 0.9
    assert not any("edge_f1" in name for name in figures)  # nobody looks for edges where the objects are known
