"""A Qwen2.5-VL of the 7B model's sizes with random weights, made on the device: for measuring, not for seeing."""

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_module_tensor_to_device

from foresight.models.vlm import VLM, load_vlm
from training.bundle.vlm import SPECIAL, VISION, build_processor

# From the released config.json of Qwen2.5-VL-7B-Instruct.
VISION_7B = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584}
FULL_ATTENTION_7B = [7, 15, 23, 31]
TEXT_7B = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128000,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
# For rehearsals on a CPU.
VISION_TINY = {"depth": 3, "hidden_size": 32, "intermediate_size": 40, "num_heads": 2, "out_hidden_size": 48}
TEXT_TINY = TEXT_7B | {
    "vocab_size": 1024,
    "hidden_size": 48,
    "intermediate_size": 56,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 2, 3]},
}


def write_small_files(folder: Path, tiny: bool, layers: int | None = None) -> Any:
    """Writes config, processor and tokenizer; returns the processor. layers: of the language model, if not all."""
    from transformers import Qwen2_5_VLConfig

    processor = build_processor(["There is one large red circle on a white background."] * 20)
    ids = {token: processor.tokenizer.convert_tokens_to_ids(token) for token in (*SPECIAL, *VISION)}
    blocks = [1] if tiny else FULL_ATTENTION_7B
    more = {"fullatt_block_indexes": blocks, "window_size": 112, "tokens_per_second": 2}
    text = TEXT_TINY if tiny else TEXT_7B
    config = Qwen2_5_VLConfig(
        text_config=text
        | {"pad_token_id": ids["<|endoftext|>"], "num_hidden_layers": layers or text["num_hidden_layers"]},
        vision_config=(VISION_TINY if tiny else VISION_7B) | more,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    return processor


def random_vlm(folder: Path, device: torch.device, tiny: bool, dtype: torch.dtype | None = None) -> tuple[VLM, Any]:
    """The model and its processor, whose small files are written to `folder`; every weight is on the device."""
    processor = write_small_files(folder, tiny)
    vlm = load_vlm(folder, device, dtype)
    torch.manual_seed(0)
    for name, parameter in list(vlm.model.named_parameters()):
        value = torch.ones(parameter.shape, dtype=vlm.dtype, device=device)
        if parameter.ndim > 1:
            value.normal_(0, 0.02)
        set_module_tensor_to_device(vlm.model, name, device, value, dtype=vlm.dtype)
    vlm.model.to(device)  # buffers
    vlm.__dict__["_stored"] = {}  # there is no file, and nothing is missing
    return vlm, processor
