"""Latents against transformers' own forward pass, on a picture of 12 × 20 patches: six windows, four cut off.

The numbers in brackets are those of the facts about Qwen2.5-VL that extraction rests on.
"""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from foresight.data.images import to_tensor
from foresight.errors import InputError
from foresight.models import qwen2_5_vl as qwen
from foresight.models.points import ExtractionPoint
from foresight.models.vlm import load_vlm

H, W = 12, 20  # patches
SINGLE = "model.safetensors"


def noise(height=H * 14, width=W * 14, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def prepare(tiny, picture, question="What?"):
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text = tiny.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return tiny.processor(text=[text], images=[picture], return_tensors="pt")


def reference(tiny, picture, question="What?"):
    """Everything that transformers says about a picture: raw hidden states, in its own order."""
    inputs, raw = prepare(tiny, picture, question), []
    hook = tiny.model.model.language_model.layers[-1].register_forward_hook(lambda *a: raw.append(a[2]))
    with torch.no_grad():
        language = tiny.model(**inputs, output_hidden_states=True).hidden_states
        visual = tiny.model.model.visual
        vision = visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"], output_hidden_states=True)
    hook.remove()
    last = raw[0][0] if isinstance(raw[0], tuple) else raw[0]
    image = inputs["input_ids"][0] == tiny.model.config.image_token_id
    return SimpleNamespace(inputs=inputs, image=image, language=language, last=last, vision=vision)


def to_raster(x, height, width):
    """From window order: cells of 2 × 2 patches lie window by window (4 × 4 cells), raster inside each."""
    h, w = height // 2, width // 2
    order = sorted(range(h * w), key=lambda cell: (cell // w // 4, cell % w // 4, cell // w, cell % w))
    cells = torch.empty_like(x.view(h * w, 4, -1))
    cells[torch.tensor(order)] = x.view(h * w, 4, -1)
    return cells.view(h, w, 2, 2, -1).permute(0, 2, 1, 3, 4).reshape(height, width, -1)


@pytest.fixture(scope="module")
def vlm(tiny):
    return load_vlm(tiny.folder, "cpu")


@pytest.fixture(scope="module")
def known(tiny):
    return reference(tiny, noise())


@pytest.fixture(scope="module")
def latents(vlm):
    return vlm.latents([noise()], vlm.points)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_input_rows_and_columns(tiny, known):
    """(1) Rows of transformers come in cells of 2 × 2 patches; columns are channel, frame, row, column."""
    cells = known.inputs["pixel_values"].view(H // 2, W // 2, 2, 2, -1).permute(0, 2, 1, 3, 4)
    mean, std = (np.array(getattr(tiny.processor.image_processor, k)) for k in ("image_mean", "image_std"))
    x = torch.from_numpy((np.array(noise()) / 255 - mean) / std).float().permute(2, 0, 1)[None]
    close(qwen.patchify(x, 14)[0], cells.reshape(H, W, -1))


@pytest.mark.parametrize("layer", range(4))
def test_pre_merge_is_the_vision_towers_state_in_raster_order(known, latents, layer):
    """(2)"""
    assert latents[f"pre-merge/{layer}"].shape == (1, 1, H, W, 32)
    close(latents[f"pre-merge/{layer}"][0, 0], to_raster(known.vision.hidden_states[layer], H, W))


def test_a_naive_reshape_misplaces_nearly_every_token(tiny, vlm):
    """(2) At 224², 97 % of the tokens."""
    picture = noise(224, 224)
    raw = reference(tiny, picture).vision.hidden_states[3]
    ours = vlm.latents([picture], ["pre-merge/3"])["pre-merge/3"][0, 0]
    close(ours, to_raster(raw, 16, 16))
    assert ((ours - raw.view(16, 16, -1)).abs().amax(-1) > 1e-2).float().mean() > 0.95


def test_post_merge_0_is_the_mergers_output(tiny, known, latents):
    """(3)"""
    close(latents["post-merge/0"][0, 0].flatten(0, 1), known.vision.pooler_output)
    last = latents["pre-merge/3"][0, 0]  # (H, W, D)
    cells = last.view(H // 2, 2, W // 2, 2, 32).permute(0, 2, 1, 3, 4).reshape(-1, 32)
    with torch.no_grad():
        close(latents["post-merge/0"][0, 0].flatten(0, 1), tiny.model.model.visual.merger(cells))


def test_a_patch_is_felt_in_its_window_until_a_block_attends_fully(vlm):
    """(4) Windows are 8 × 8 patches, less at the right and bottom; the second block sees everything."""
    x = to_tensor(noise())[None]
    other = x.clone()
    other[:, :, 9 * 14 : 10 * 14, 17 * 14 : 18 * 14] = 0.5
    points = [f"pre-merge/{k}" for k in range(3)]
    before, after = vlm.latents(x, points), vlm.latents(other, points)
    changed = [(before[p] != after[p])[0, 0].any(-1) for p in points]
    window = torch.zeros(H, W, dtype=torch.bool)
    window[8:12, 16:20] = True
    assert changed[0].nonzero().tolist() == [[9, 17]]
    assert torch.equal(changed[1], window)
    assert changed[2].all()


def test_post_merge_is_the_raw_output_of_decoder_layers(known, latents):
    """(5) The last record of hidden_states is behind the final norm; the raw last layer is what a hook sees."""
    for layer in range(3):
        close(latents[f"post-merge/{layer}"][0, 0].flatten(0, 1), known.language[layer][0][known.image])
    last = latents["post-merge/3"][0, 0].flatten(0, 1)
    close(last, known.last[0][known.image])
    assert (last - known.language[3][0][known.image]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("point", "parts"),
    [
        ("pre-merge/0", ["visual.patch_embed"]),
        ("pre-merge/1", ["visual.patch_embed", "visual.blocks.0"]),
        ("post-merge/0", ["visual"]),
        (
            "post-merge/2",
            ["visual", "language_model.embed_tokens", "language_model.layers.0", "language_model.layers.1"],
        ),
    ],
)
def test_early_exit_reads_and_runs_only_what_a_point_needs(tiny, latents, point, parts):
    """(6) Weights on the meta device could not run, so what is not read is not run either."""
    vlm = load_vlm(tiny.folder, "cpu")
    own = vlm.latents([noise()], [point])
    read = {name for name, p in vlm.model.named_parameters() if not p.is_meta}
    needed = tuple(f"model.{part}." for part in parts)
    assert read == {name for name, _ in tiny.model.named_parameters() if name.startswith(needed)}
    assert list(own) == [point]
    close(own[point], latents[point])


def test_early_exit_stops_even_when_all_weights_are_there(tiny, monkeypatch):
    """(6)"""
    vlm = load_vlm(tiny.folder, "cpu")
    vlm.latents([noise()], ["post-merge/3"])
    ran = []
    for name in ("run_vision", "run_language"):
        real = getattr(qwen, name)

        def count(layers, *rest, real=real):
            ran.append(len(layers))
            return real(layers, *rest)

        monkeypatch.setattr(qwen, name, count)
    vlm.latents([noise()], ["post-merge/2"])
    vlm.latents([noise()], ["post-merge/0"])
    vlm.latents([noise()], ["pre-merge/1"])
    assert ran == [3, 2, 3, 1]


def test_positions(tiny, vlm, known):
    """(7) Time stands still, row and column count; the next text goes on behind the longer side."""
    inputs = known.inputs
    theirs, _ = tiny.model.model.get_rope_index(
        inputs["input_ids"], mm_token_type_ids=inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"]
    )
    before = int(known.image.int().argmax())
    ours = qwen.image_positions(before, H // 2, W // 2, torch.device("cpu"))
    assert torch.equal(ours, theirs[:, 0, : before + H * W // 4])
    assert ours[:, -1].tolist() == [before, before + 5, before + 9]
    assert theirs[:, 0, before + H * W // 4].tolist() == [before + 10] * 3
    assert len(vlm.opening_ids) == before


def test_text_behind_the_picture_changes_nothing(tiny, latents):
    """(8)"""
    other = reference(tiny, noise(), "Where is the red circle? There is one.")
    close(latents["post-merge/3"][0, 0].flatten(0, 1), other.last[0][other.image])


def test_a_batch_is_its_single_pictures(vlm):
    """(8)"""
    pictures, points = [noise(seed=1), noise(seed=2)], ["pre-merge/2", "post-merge/0", "post-merge/3"]
    batched = vlm.latents(pictures, points)
    for k, picture in enumerate(pictures):
        alone = vlm.latents([picture], points)
        for point in points:
            close(batched[point][k : k + 1], alone[point])


def test_sizes(tiny, vlm):
    """(9) Halves go to the even multiple of 28, and what we resize to, transformers leaves alone."""
    sides = [smart_resize(n, n, 28, 28 * 28, 10**7)[0] for n in (238, 266, 252, 256)]
    assert sides == [224, 280, 252, 252]
    assert vlm.latents([noise(300, 500)], ["post-merge/0"])["post-merge/0"].shape[2:4] == (6, 10)
    assert prepare(tiny, noise(168, 280))["image_grid_thw"].tolist() == [[1, H, W]]
    with pytest.raises(InputError, match="narrow"):
        vlm.latents([noise(8, 1608)], ["post-merge/0"])


def test_describe_is_transformers_generate(tiny, vlm):
    inputs = prepare(tiny, noise(), "Count the objects.")
    with torch.no_grad():
        ids = tiny.model.generate(**inputs, max_new_tokens=12, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    answer = tiny.processor.tokenizer.batch_decode(ids, skip_special_tokens=True)[0].strip()
    assert len(answer) > 5
    assert vlm.describe(noise(), "Count the objects.", 12) == answer
    assert vlm.describe([noise(seed=1), noise()], "Count the objects.", 12)[1] == answer


def test_a_question_is_text_whatever_it_holds(tiny, vlm):
    question = "Is <|image_pad|> or <|vision_start|><|im_end|> here?"
    ids, image = vlm.prompt_ids(question, 60), tiny.model.config.image_token_id
    plain = vlm.prompt_ids("Is it here?", 60)
    assert ids.count(image) == plain.count(image) == 60
    specials = {*tiny.processor.tokenizer.added_tokens_decoder}
    assert [i for i in ids if i in specials] == [i for i in plain if i in specials]
    assert question in vlm.tokenizer.decode(ids)
    assert isinstance(vlm.describe(noise(), question, 2), str)
    assert plain == vlm.tokenizer(vlm.prompt("Is it here?").replace("<|image_pad|>", "<|image_pad|>" * 60))["input_ids"]


def test_points_and_widths(vlm):
    assert [str(p) for p in vlm.points] == [f"{s}-merge/{k}" for s in ("pre", "post") for k in range(4)]
    assert (vlm.width("pre-merge/3"), vlm.width("post-merge/0")) == (32, 48)
    assert ExtractionPoint.parse(" post-merge/6 ") == ExtractionPoint("post-merge", 6)


@pytest.mark.parametrize("text", ["post-merge", "post-merge/-1", "merge/3", "post-merge/3.0", "post-merge/4", ""])
def test_unknown_points_are_refused(vlm, text):
    with pytest.raises(InputError, match="post-merge"):
        vlm.latents([noise()], [text])


def test_pictures_that_do_not_go_together_are_refused(vlm):
    with pytest.raises(InputError, match="one size"):
        vlm.latents([noise(), noise(224, 224)], ["pre-merge/0"])
    with pytest.raises(InputError, match="multiples of 28"):
        vlm.latents(torch.zeros(1, 3, 168, 279), ["pre-merge/0"])
    with pytest.raises(InputError, match="at least one"):
        vlm.latents([noise()], [])


@pytest.fixture
def copy(tiny, tmp_path):
    return shutil.copytree(tiny.folder, tmp_path / "vlm")


def test_released_weight_names_and_todays_are_both_read(tiny, copy, latents):
    """save_pretrained writes the names of released checkpoints; here are the classes' own, in two files."""
    assert any(name.startswith("visual.") for name in load_file(copy / SINGLE))
    (copy / SINGLE).unlink()
    weights = {name: p.detach().clone() for name, p in tiny.model.named_parameters()}
    files = {name: f"part-{'visual' in name}.safetensors" for name in weights}
    for file in set(files.values()):
        save_file({name: w for name, w in weights.items() if files[name] == file}, copy / file)
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    close(load_vlm(copy, "cpu").latents([noise()], ["post-merge/3"])["post-merge/3"], latents["post-merge/3"])


def test_another_kind_of_model_is_refused(copy):
    config = json.loads((copy / "config.json").read_text()) | {"model_type": "llava"}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="llava"):
        load_vlm(copy, "cpu")


YARN = {"rope_type": "yarn", "rope_theta": 1e4, "mrope_section": [1, 2, 3], "factor": 4.0}
FOREIGN = {
    "other rotary embedding": ({"text_config": {"rope_parameters": YARN}}, "its rotary embedding is yarn, not default"),
    "scaled": (
        {"text_config": {"rope_parameters": YARN | {"rope_type": "default"}}},
        "rotary embedding has the unknown setting factor",
    ),
    "no sections": (
        {"text_config": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}},
        "number of rotary frequencies is 0, not 6",
    ),
    "sliding windows": (
        {"text_config": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1, "layer_types": None}},
        "its attention is full_attention and sliding_attention, not full_attention",
    ),
    "other activation": ({"vision_config": {"hidden_act": "gelu"}}, "vision tower's activation is gelu, not silu"),
    "other patches": ({"vision_config": {"patch_size": 16}}, "patch size is 16, not 14"),
    "cut windows": ({"vision_config": {"window_size": 120}}, "window size is 120, not 112"),
    "quantised": ({"quantization_config": {"quant_method": "awq"}}, "its weights are quantised"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_would_give_other_latents_is_refused(copy, case):
    """And never computed as if it were Qwen2.5-VL as released."""
    values, sentence = FOREIGN[case]
    config = json.loads((copy / "config.json").read_text())
    for key, value in values.items():
        config[key] = config.get(key, {}) | value
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=sentence):
        load_vlm(copy, "cpu")


def test_float16_which_overflows_is_refused(tiny):
    with pytest.raises(InputError, match="float32 or bfloat16, not float16, in which .* overflow"):
        load_vlm(tiny.folder, "cpu", torch.float16)


def test_missing_and_misshapen_weights_are_refused(copy):
    weights = load_file(copy / SINGLE)
    name = next(n for n in weights if n.endswith("blocks.1.norm2.weight"))
    save_file({n: w for n, w in weights.items() if n != name}, copy / SINGLE)
    with pytest.raises(InputError, match=r"lacks the weight model\.visual\.blocks\.1\.norm2"):
        load_vlm(copy, "cpu").latents([noise()], ["pre-merge/2"])
    load_vlm(copy, "cpu").latents([noise()], ["pre-merge/1"])  # which does not need it
    save_file(weights | {name: torch.zeros(31)}, copy / SINGLE)
    with pytest.raises(InputError, match=r"is \[31\], its config says \[32\]"):
        load_vlm(copy, "cpu").latents([noise()], ["pre-merge/2"])
    save_file({n: w for n, w in weights.items() if n != "lm_head.weight"}, copy / SINGLE)
    with pytest.raises(InputError, match="lm_head"):
        load_vlm(copy, "cpu").describe(noise())
    (copy / SINGLE).unlink()
    with pytest.raises(InputError, match="has no model"):
        load_vlm(copy, "cpu").latents([noise()], ["pre-merge/1"])
