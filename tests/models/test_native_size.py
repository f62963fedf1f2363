"""Pictures of several sizes and shapes: the bundled model sees and says what it does under transformers."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from foresight.data.resolution import Resolution
from foresight.errors import InputError
from foresight.models.vlm import BUNDLED, load_vlm


def photo(height, width):
    """Edges and noise, which resizing changes most."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise // 3)
    ImageDraw.Draw(image).ellipse((width * 0.2, height * 0.3, width * 0.7, height * 0.8), fill="orange")
    return image


@pytest.fixture(scope="module")
def vlm():
    return load_vlm(device="cpu")


@pytest.fixture(scope="module")
def peer():
    """The processor and the model that people load."""
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(BUNDLED, dtype=torch.float32)
    return AutoProcessor.from_pretrained(BUNDLED), model.eval()


@pytest.mark.parametrize(
    ("pixels", "limits", "size", "grid"),
    [
        ("native", {}, (300, 500), (11, 18)),  # rounded alone
        ("native", {}, (900, 500), (21, 11)),  # too large
        ("3136-100352", {"min_pixels": 3136, "max_pixels": 100352}, (400, 640), (8, 14)),
        ("448²", {"min_pixels": 448**2, "max_pixels": 448**2}, (200, 200), (16, 16)),
    ],
)
def test_latents_are_those_of_transformers(vlm, peer, pixels, limits, size, grid):
    (processor, model), picture = peer, photo(*size)
    content = [{"type": "image"}, {"type": "text", "text": "What?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(text=[text], images=[picture], return_tensors="pt", images_kwargs=limits)
    raw = []
    hook = model.model.language_model.layers[-1].register_forward_hook(lambda *a: raw.append(a[2]))
    with torch.no_grad():
        hidden = model(**inputs, output_hidden_states=True).hidden_states
        answer = model.generate(**inputs, max_new_tokens=8, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    hook.remove()
    image = inputs["input_ids"][0] == model.config.image_token_id
    last = raw[0][0] if isinstance(raw[0], tuple) else raw[0]
    known = {"post-merge/0": hidden[0][0], "post-merge/6": hidden[6][0], "post-merge/12": last.view(len(image), -1)}
    latents = vlm.latents([picture], known, pixels=pixels)
    for point, states in known.items():
        assert latents[point].shape[2:4] == grid
        error = (latents[point].flatten(0, 3) - states[image]).norm() / states[image].norm()
        assert error <= 1e-5, (point, float(error))
    expected = processor.tokenizer.batch_decode(answer, skip_special_tokens=True)[0].strip()
    assert vlm.describe(picture, "What?", 8, pixels=pixels) == expected


def test_a_tensor_is_seen_as_it_is(vlm):
    x = torch.rand(1, 3, 56, 84)
    assert vlm.latents(x, ["pre-merge/0"], pixels="448²")["pre-merge/0"].shape[2:4] == (4, 6)


def test_the_processors_own_limits_are_native(vlm, tiny, tmp_path):
    assert vlm.native == Resolution(3136, 448**2) and vlm.resolution(None) == Resolution.area(224**2)
    folder = shutil.copytree(tiny.folder, tmp_path / "vlm")
    settings = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    settings.pop("size")
    for names, native in [
        ({"min_pixels": 3136, "max_pixels": 12845056}, (3136, 12845056)),  # as released checkpoints write them
        ({"size": {"shortest_edge": 6272, "longest_edge": 7056}}, (6272, 7056)),
        ({}, (3136, 1280 * 28**2)),  # transformers' defaults
    ]:
        (folder / "preprocessor_config.json").write_text(json.dumps(settings | names))
        assert load_vlm(folder, "cpu").resolution("native") == Resolution(*native)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"min_pixels": "few"}))
    with pytest.raises(InputError, match="min_pixels: input should be a valid integer"):
        load_vlm(folder, "cpu")
