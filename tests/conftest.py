"""What several test files share: one thread, a tiny random Qwen2.5-VL on disk, and a browser."""

import atexit
import multiprocessing
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported: its kernels run on a CPU too

from training.bundle.vlm import SPECIAL, VISION, build_processor

pytest.register_assert_rewrite("browsing")  # so that a failed visit says what the page logged
os.environ.setdefault("NUMBA_OPT", "0")  # UMAP compiles in half the time, and its maps here are small
# An app that closes deletes its files, which lie where those of another process's app would lie too.
os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="foresight-tests-")
atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
torch.set_num_threads(1)  # these sizes gain nothing from more, and lose much where cores are shared


def pytest_collection_modifyitems(items) -> None:
    """Files with a browser first, then those that train: the long ones, which at the end would keep one worker idle."""
    items.sort(key=lambda item: ("browser" not in item.path.name, item.path.parent.name != "training"))


@dataclass(frozen=True)
class Tiny:
    """A checkpoint of transformers' real classes in float32, and the very model and processor it was saved from.

    3 vision blocks of width 32, of which the second attends fully; 3 decoder layers of width 48; untied.
    """

    folder: Path
    model: Any
    processor: Any


def tiny_config(processor: Any) -> Any:
    from transformers import Qwen2_5_VLConfig

    ids = {token: processor.tokenizer.convert_tokens_to_ids(token) for token in (*SPECIAL, *VISION)}
    vision = {
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_heads": 2,
        "out_hidden_size": 48,
        "fullatt_block_indexes": [1],
        "window_size": 112,
        "tokens_per_second": 2,
    }
    text = {
        "vocab_size": len(processor.tokenizer),
        "hidden_size": 48,
        "intermediate_size": 56,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 2, 3]},
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
        tie_word_embeddings=False,
    )


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Tiny:
    from transformers import Qwen2_5_VLForConditionalGeneration

    processor = build_processor(["There is one large red circle on a white background: at the top left."] * 20)
    model = Qwen2_5_VLForConditionalGeneration(tiny_config(processor)).eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(0)
    for p in model.parameters():  # large and all different, so that no order or norm can be mistaken unseen
        norm = p.ndim == 1 and p.mean() == 1
        spread = 1 / p[0].numel() ** 0.5 if p.ndim > 1 else 0.3
        p.copy_(torch.randn(p.shape, generator=draw) * spread + float(norm))
    folder = tmp_path_factory.mktemp("tiny") / "vlm"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return Tiny(folder, model, processor)


@pytest.fixture(scope="module")
def house(tiny, tmp_path_factory):
    """A folder with tiny models and adapters of the real classes."""
    from house import build_house

    folder = tmp_path_factory.mktemp("house")
    build_house(tiny.folder, folder)
    return folder


@pytest.fixture(scope="session")
def children():
    """Processes that begin in a moment, forked by a server which has torch but no threads.

    A process forked here would take over locks that some thread of a page still held, and wait for ever.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.fit", "torch._dynamo"])  # the latter comes with the first optimizer
    return context


@pytest.fixture(scope="session")
def browser():
    import browsing

    yield from browsing.chromium()


@pytest.fixture
def visit(request, browser, url, capsys):
    """Opens the page of the test file's `url`, and waits for its READY; at the end no handler has failed unseen."""
    import browsing

    yield from browsing.visits(browser, url, request.module.READY)
    printed = capsys.readouterr().err
    assert "Traceback" not in printed, printed


@pytest.fixture
def hub(tiny, tmp_path, monkeypatch):
    """A hub at this machine's own address with owner/vlm, and an empty cache for what comes from there."""
    from huggingface_hub import constants

    from benchmarks.local_hub import LocalHub

    with LocalHub({"owner/vlm": tiny.folder}) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield server
