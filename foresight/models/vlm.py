"""Load a Qwen2.5-VL and take latents at any extraction point; ask it what it sees.

Only the weights that the deepest point asked for needs are read, and only those layers run: no text after
the picture, which a causal model could not see from there anyway, no final norm, no lm_head.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence, Set
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from packaging.version import InvalidVersion, Version
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from foresight import zero_gpu
from foresight.data.images import PATCH, load_image, resize, to_bytes
from foresight.data.resolution import DEFAULT, SMALLEST, Resolution
from foresight.errors import InputError
from foresight.models import qwen2_5_vl as qwen
from foresight.models.digests import commit_of, file_digest, joined, json_digest
from foresight.models.engine import Engine, kernels_usable
from foresight.models.hub import folder_of, hub_digests, pinned
from foresight.models.placement import AUTO, RESERVE, devices_of, dtype_of, free_memory, native_bfloat16, spread
from foresight.models.points import STAGES, ExtractionPoint
from foresight.models.untrusted import (
    ImageProcessor,
    VLMConfig,
    check_config,
    check_small_files,
    check_weights,
    read_json,
    read_weight_map,
    without_loaders,
)
from foresight.paths import ASSETS

BUNDLED = ASSETS / "vlm"
_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_TOKENIZER = (("tokenizer.json", "vocab.json"), ("tokenizer_config.json",))  # transformers makes up what is missing
LARGE = 1 << 30  # bytes of weights that take more than a moment to read, and minutes to fetch
_QUESTION = "\0question\0"  # stands in a prompt where the question goes
_SMALL_FILES = ["*.json", "*.jinja", "*.txt"]  # config, processor, tokenizer, index: all but the weights


# Releases of transformers that put image tokens at wrong positions: from, and the first that is right again.
_WRONG = Version("5.3"), Version("5.6")


def wrong_transformers(version: str) -> str | None:
    """What is wrong with a version of transformers; None where nothing is known to be."""
    try:
        wrong = _WRONG[0] <= Version(version) < _WRONG[1]
    except InvalidVersion:
        return f"transformers {version[:20]!r}, which is no version"
    return f"transformers {version}, which gives images wrong positions" if wrong else None


class VLM:
    """A frozen Qwen2.5-VL. Make one with `load_vlm`."""

    def __init__(
        self,
        source: str | Path,
        folder: Path,
        name: str,
        config: dict[str, Any],
        devices: tuple[torch.device, ...],
        dtype: torch.dtype,
        kernels: bool = False,
        fp8: bool = False,
    ):
        from accelerate import init_empty_weights
        from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

        self.name, self.devices, self.dtype = name, devices, dtype
        self.device = devices[0]  # where the vision tower lies, and latents are given
        self.kernels, self.fp8 = kernels, fp8
        self._engine_model: Any = None  # the model that `_engine` runs
        self._loaded = -1, -1  # the depth up to which it is
        self._source, self.folder = pinned(source, folder), folder
        try:
            self.config: Any = Qwen2_5_VLConfig.from_dict(without_loaders(config))
            reasons = qwen.unsupported(self.config)
            if not reasons:
                self._settings = qwen.settings(self.config)
                with init_empty_weights(include_buffers=False):
                    self.model = Qwen2_5_VLForConditionalGeneration(self.config).eval().requires_grad_(False)
        # What transformers and torch raise over values of other types, and over sizes that build nothing.
        except (StrictDataclassError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"model {name!r}: its config.json builds no Qwen2.5-VL ({reason}).") from error
        if reasons:
            raise InputError(f"model {name!r} is one that Foresight cannot compute: {'; '.join(reasons)}.")

    @cached_property
    def points(self) -> list[ExtractionPoint]:
        """Every extraction point, in order of depth."""
        depths = self.config.vision_config.depth, self.config.text_config.num_hidden_layers
        return [ExtractionPoint(s, k) for s, depth in zip(STAGES, depths, strict=True) for k in range(depth + 1)]

    @property
    def size(self) -> int:
        """Bytes of all its weights in memory."""
        return sum(p.numel() for p in self.model.parameters()) * self.dtype.itemsize

    @property
    def large(self) -> bool:
        """Whether nothing should be read of its weights before somebody asks for something."""
        return self.size > LARGE

    @property
    def waits(self) -> bool:
        """Whether nothing is computed before somebody asks: of a large model, and where a GPU is lent for each call."""
        return self.large or zero_gpu.ACTIVE

    def load(self) -> None:
        """Reads all weights now. Raises InputError where one is missing or broken, or memory is too small."""
        self._load(None)

    def point(self, text: str | ExtractionPoint) -> ExtractionPoint:
        """Parses a point and checks that this model has it."""
        point = ExtractionPoint.parse(text)
        if point not in self.points:
            last = max(p.layer for p in self.points if p.stage == point.stage)
            raise InputError(f"there is no {point}: the {point.stage} layers are 0 to {last}.")
        return point

    def width(self, point: str | ExtractionPoint) -> int:
        """Numbers in one latent at that point."""
        return (
            self.config.vision_config.hidden_size
            if self.point(point).stage == "pre-merge"
            else self.config.text_config.hidden_size
        )

    def resolution(self, pixels: Resolution | str | int | None) -> Resolution:
        """What `pixels` means for this model, as `Resolution.parse` reads it; None is 224². Raises InputError."""
        if pixels is None:
            return DEFAULT
        return pixels if isinstance(pixels, Resolution) else Resolution.parse(pixels, self.native)

    @property
    def native(self) -> Resolution:
        """The model's normal size: the limits of its own processor, within which a picture keeps its size."""
        return Resolution(*self._limits)

    @torch.inference_mode()
    def latents(
        self,
        images: Sequence[Image.Image] | Tensor,
        points: Iterable[str | ExtractionPoint],
        fps: float = 2.0,
        pixels: Resolution | str | int | None = None,
    ) -> dict[str, Tensor]:
        """Latents of images or clips at several points, from one pass.

        Args:
            images: PIL images of one size, a tensor (B, 3, H, W) in [0, 1] or uint8, whose sides are multiples of 28,
                or clips (B, F, 3, H, W).
            points: extraction points.
            fps: frames a second of clips, which decides their steps' positions in time; 2 is Qwen's own rate.
            pixels: how large PIL images are made, as for `resolution`; tensors are taken as they are.

        Returns:
            {"post-merge/6": (B, T, h, w, D), …} in the model's dtype, rows and columns in raster order. T is 1 for
            images and ceil(F / 2) for clips: a step covers two frames, and an odd last frame counts twice.

        Raises:
            InputError: for unknown points, mixed sizes and a frame rate that is not above 0.
        """
        points_in_order = sorted((self.point(p) for p in points), key=lambda p: p.depth)
        if not points_in_order:
            raise InputError("name at least one extraction point.")
        tensor = images if isinstance(images, Tensor) else self._resized(images, self.resolution(pixels))
        tensor = self._checked(tensor)
        if not 0 < fps < math.inf:
            raise InputError(f"the frame rate of a clip must be above 0, not {fps}.")
        engine = self._engine
        if points_in_order[-1].depth > self._loaded:  # looking through all weights takes longer than an image does
            self._load(points_in_order[-1])
            self._loaded = points_in_order[-1].depth
        states = engine(tensor, points_in_order, fps)
        return {str(p): states[p] for p in points_in_order}

    @property
    def _engine(self) -> Engine:
        """The fast forward over `model`; another one when the model was replaced."""
        if self._engine_model is not self.model:
            mean, std = (self._image_settings[key] for key in ("image_mean", "image_std"))
            self._fast_forward = Engine(self.model, lambda: self.opening_ids, mean, std, self.kernels, self.fp8)
            self._engine_model, self._loaded = self.model, (-1, -1)
        return self._fast_forward

    def _resized(self, images: Sequence[Image.Image], resolution: Resolution) -> Tensor:
        """(B, 3, H, W) uint8"""
        images = [load_image(image) for image in images]  # upright and RGB, also where the caller opened a file
        sizes = {image.size for image in images}
        if len(sizes) != 1:
            raise InputError(f"pictures of one size at a time, please: these have {len(sizes)} sizes.")
        width, height = sizes.pop()
        return resize(torch.stack([to_bytes(image) for image in images]), resolution.size(height, width))

    def _checked(self, pixels: Tensor) -> Tensor:
        side = self.config.vision_config.patch_size * self.config.vision_config.spatial_merge_size
        shape = pixels.shape
        if pixels.ndim not in (4, 5) or 0 in shape or shape[-3] != 3 or shape[-2] % side or shape[-1] % side:
            raise InputError(
                f"images must be (B, 3, H, W) and clips (B, F, 3, H, W), sides multiples of {side}, not {tuple(shape)}."
            )
        return pixels

    def _normalise(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 → the processor's own normalisation, on the model's device."""
        mean, std = (
            torch.tensor(self._image_settings[key], device=self.device).view(3, 1, 1)
            for key in ("image_mean", "image_std")
        )
        return ((pixels.to(self.device, torch.float32) / 255 - mean) / std).to(self.dtype)

    @cached_property
    def _image_settings(self) -> dict[str, list[float]]:
        """Mean and deviation by colour, by the processor's names for them."""
        return {key: [float(v) for v in self._processor[key]] for key in ("image_mean", "image_std")}

    @cached_property
    def _limits(self) -> tuple[int, int]:
        """The processor's least and most pixels; transformers' own where it names none."""
        settings = self._processor
        size = settings.get("size") or {}
        least, most = settings.get("min_pixels"), settings.get("max_pixels")  # before transformers 5
        return least or size.get("shortest_edge") or SMALLEST, most or size.get("longest_edge") or 1280 * PATCH**2

    @cached_property
    def _processor(self) -> dict[str, Any]:
        """The image processor's settings, checked."""
        path = self.folder / "preprocessor_config.json"
        nested = self.folder / "processor_config.json"  # where transformers 5 writes all processors' settings
        path = path if path.is_file() else nested
        settings = read_json(path, f"model {self.name!r}")
        settings = settings.get("image_processor") or {} if path == nested else settings
        check_config(ImageProcessor, settings, f"model {self.name!r}: {path.name}")
        return settings

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's own tokenizer, with its chat template."""
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        except Exception as error:  # no narrower class: the tokenizers library raises nothing else
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"model {self.name!r} has a tokenizer that cannot be read ({reason}).") from error
        older = self.folder / "chat_template.json"  # where processors of before transformers 5 keep theirs
        if not (self.folder / "chat_template.jinja").is_file() and older.is_file():
            tokenizer.chat_template = read_json(older, f"model {self.name!r}").get("chat_template")
        if not isinstance(tokenizer.chat_template, str):
            raise InputError(f"{self.name} has no chat template.")
        return tokenizer

    def prompt(self, question: str) -> str:
        """The checkpoint's chat template around one picture and a question, ready for its answer."""
        content = [{"type": "image"}, {"type": "text", "text": question}]
        messages = [{"role": "user", "content": content}]
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def prompt_ids(self, question: str, image_tokens: int) -> list[int]:
        """Token ids of `prompt`. A question is text, also where it holds the name of a special token."""
        before, _, after = self.prompt(_QUESTION).partition(_QUESTION)
        before = before.replace("<|image_pad|>", "<|image_pad|>" * image_tokens)
        parts = (before, False), (question, True), (after, False)
        return [i for text, plain in parts for i in self.tokenizer(text, split_special_tokens=plain)["input_ids"]]

    @cached_property
    def opening(self) -> str:
        """The text that the chat template puts before a picture. Latents depend on it."""
        return self.prompt("").split("<|image_pad|>")[0]

    @property
    def commit(self) -> str | None:
        """The hub's, where the model came from there."""
        return commit_of(self.folder)

    def weights_digest(self, point: ExtractionPoint) -> str:
        """A digest of the files with the weights that latents at `point` depend on; those are not loaded for it."""
        files = self._files(point)
        here = {file for file in files if (self.folder / file).is_file()}
        digests = [file_digest(self.folder / file) for file in here]
        if missing := tuple(sorted(files - here)):
            if Path(self._source).is_dir():
                raise InputError(f"{self.name} has no {missing[0]}.")
            digests += hub_digests(str(self._source), missing)
        return joined(digests)

    @cached_property
    def conditions(self) -> dict[str, Any]:
        """What all latents depend on beside weights, picture, point and opening: JSON values."""
        return {
            "config": json_digest(self._settings),
            "mean": self._image_settings["image_mean"],
            "std": self._image_settings["image_std"],
            "dtype": str(self.dtype).removeprefix("torch.") + (", products in 8 bits" if self.fp8 else ""),
        }

    @cached_property
    def opening_ids(self) -> list[int]:
        return self.tokenizer(self.opening)["input_ids"]

    @zero_gpu.computes(zero_gpu.PICTURE)
    @torch.inference_mode()
    def describe(
        self,
        images: Image.Image | Sequence[Image.Image],
        prompt: str = "Describe the image.",
        max_tokens: int = 256,
        stop: Callable[[], bool] | None = None,
        pixels: Resolution | str | int | None = None,
    ) -> str | list[str]:
        """What the model says of a picture, by greedy decoding; a list of answers for a list of pictures.

        stop: asked after each token; once it is true, the answer ends with what was said so far. pixels: how large the
        model sees it, as for `resolution`.
        """
        pictures = [images] if isinstance(images, Image.Image) else list(images)
        self._load(None)
        resized = self._resized(pictures, self.resolution(pixels))
        rows = qwen.patchify(self._normalise(resized), self.config.vision_config.patch_size)
        b, height, width, columns = rows.shape
        cells = rows.view(b, height // 2, 2, width // 2, 2, columns).transpose(2, 3)  # merge-block order
        ids = torch.tensor([self.prompt_ids(prompt, height * width // 4)] * b, device=self.device)

        def ends(ids: Tensor, *_: Any, **__: Any) -> Tensor:  # (B,) bool, as transformers asks after each token
            return torch.full((len(ids),), stop is not None and stop(), device=ids.device)

        answer = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == self.config.image_token_id).int(),
            pixel_values=cells.reshape(-1, columns),
            image_grid_thw=torch.tensor([[1, height, width]] * b, device=self.device),
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=self.tokenizer.convert_tokens_to_ids("<|im_end|>"),
            pad_token_id=self.tokenizer.pad_token_id,
            stopping_criteria=[ends],
        )
        texts = self.tokenizer.batch_decode(answer[:, ids.shape[1] :], skip_special_tokens=True)
        return texts[0].strip() if isinstance(images, Image.Image) else [t.strip() for t in texts]

    def _load(self, point: ExtractionPoint | None) -> None:
        """Reads the weights that `point` needs (None: all) and that are not here yet, one file after the other."""
        missing = {n: p.shape for n, p in self.model.named_parameters() if p.is_meta and _needed(point, n)}
        stored = {_module_name(raw): (raw, file) for raw, file in self._stored.items()}
        self._refuse_absent(missing.keys() - stored.keys() - {"lm_head.weight"})
        self._refuse_too_large(point)
        files = sorted({stored[name][1] for name in missing if name in stored})
        folder = folder_of(self._source, files, "model") if files else self.folder
        for file in files:
            with _open(folder / file, self.name) as shard:
                for raw in shard.offset_keys():  # as they lie there: a disk reads on
                    name = _module_name(raw)
                    if name in missing and stored[name] == (raw, file):
                        self._put(name, shard.get_tensor(raw), missing.pop(name))
        self._refuse_absent(missing.keys() - {"lm_head.weight"})
        if point is None:
            self.model.tie_weights()
            if self.model.lm_head.weight.is_meta:
                raise InputError(f"{self.name} lacks lm_head.weight, and its config does not tie it to the embedding.")
            if len(self.devices) == 1:
                self.model.to(self.device)  # buffers
            else:
                from accelerate import dispatch_model

                dispatch_model(self.model, self._homes)  # and hooks that carry states from GPU to GPU

    def _bytes(self, point: ExtractionPoint | None, dtype: torch.dtype) -> int:
        """Memory of the weights that `point` needs (None: all) and that are not here yet."""
        missing = (p for n, p in self.model.named_parameters() if p.is_meta and _needed(point, n))
        return dtype.itemsize * sum(p.numel() for p in missing)

    def _refuse_too_large(self, point: ExtractionPoint | None) -> None:
        """Raises InputError, which says what would fit, where the weights for `point` take more memory than is free."""
        if self._fits(point):
            return
        frees, needed = [free_memory(device) for device in self.devices], self._bytes(point, self.dtype)
        free, half = sum(frees), self._bytes(point, torch.bfloat16)
        fitting = [p for p in self.points if self._fits(p)]
        ways = []
        if self.dtype == torch.float32 and half <= free and (self.device.type == "cuda" or native_bfloat16()):
            ways.append(f"--dtype bfloat16, which needs {half / 1e9:.1f} GB")
        if fitting:
            ways.append(f"the points up to {fitting[-1]}")
        if self.device.type == "cuda" and 2 * half <= free_memory(torch.device("cpu")):
            ways.append("--device cpu, which is slow")
        gpus = devices_of(AUTO) if self.device.type == "cuda" else ()
        if len(gpus) > len(self.devices) and needed <= (1 - RESERVE) * sum(map(free_memory, gpus)):
            ways.append(f"--device {AUTO}, over {len(gpus)} GPUs")
        what, would = f"{point or 'answers'} in {str(self.dtype).removeprefix('torch.')}", " or ".join(ways)
        has = "has" if len(frees) == 1 else "have"
        where = f"{' and '.join(map(str, self.devices))} {has} {' and '.join(f'{n / 1e9:.1f}' for n in frees)} GB free"
        raise InputError(
            f"{self.name} needs {needed / 1e9:.1f} GB for {what}, and {where}: "
            f"{would + ' would fit' if would else 'none of it fits'}."
        )

    def _fits(self, point: ExtractionPoint | None) -> bool:
        """Whether there is memory for the weights that `point` needs (None: all) and that are not here yet."""
        if len(self.devices) == 1:
            return self._bytes(point, self.dtype) <= free_memory(self.device)
        missing = (n for n, p in self.model.named_parameters() if p.is_meta and _needed(point, n))
        return all(self._home(name) for name in missing)

    @cached_property
    def _homes(self) -> dict[str, torch.device]:
        """Which of several devices each part of the model goes to, as from `spread`, by what is free at first."""
        whole = type(self.model.model.visual), type(self.model.model.language_model.layers[0])
        return spread(self.model, self.devices, self.dtype, [kind.__name__ for kind in whole])

    def _home(self, name: str) -> torch.device | None:
        """The device of the weight of that name; None where it fits on none."""
        if len(self.devices) == 1:
            return self.device
        words = name.split(".")
        parts = (".".join(words[:k]) for k in range(len(words), -1, -1))  # the last is the model as a whole
        return next((self._homes[part] for part in parts if part in self._homes), None)

    def _refuse_absent(self, names: Set[str]) -> None:
        if names:
            raise InputError(f"{self.name} lacks the weight {min(names)} ({len(names)} missing in all).")

    def _put(self, name: str, value: Tensor, shape: torch.Size) -> None:
        """Makes a value from a file, mapped into memory and not read yet, the model's weight of that name."""
        if value.shape != shape:
            raise InputError(f"{self.name}: {name} is {list(value.shape)}, its config says {list(shape)}.")
        module, _, leaf = name.rpartition(".")
        weight = nn.Parameter(value.to(self._home(name), self.dtype), requires_grad=False)
        if not all(end.isfinite() for end in weight.aminmax()):  # which NaN passes through
            raise InputError(f"{self.name}: {name} has values that are not finite.")
        setattr(self.model.get_submodule(module), leaf, weight)

    def _files(self, point: ExtractionPoint) -> set[str]:
        """The files that hold the weights for `point`."""
        if not (self.folder / _INDEX).is_file():
            return {_SINGLE}
        return {file for raw, file in self._stored.items() if _needed(point, _module_name(raw))}

    @cached_property
    def _stored(self) -> dict[str, str]:
        """{name in the checkpoint: file}, for every weight it holds."""
        index = self.folder / _INDEX
        if index.is_file():
            return read_weight_map(index, f"model {self.name!r}")
        folder = folder_of(self._source, [_SINGLE], "model")
        if not (folder / _SINGLE).is_file():
            raise InputError(f"{self.name} has no {_SINGLE} or {_INDEX}; weights in other formats are not read.")
        with _open(folder / _SINGLE, self.name) as shard:
            return dict.fromkeys(shard.keys(), _SINGLE)


def _open(path: Path, name: str) -> Any:
    check_weights(path, f"model {name!r}")
    try:
        return safe_open(path, "pt")
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{name}: the weights in {path} are cut short or cannot be read ({error}): delete them, and get them again."
        ) from error


def _module_name(stored: str) -> str:
    """A weight's name in transformers' classes; released checkpoints keep the names of before transformers 5."""
    stored = re.sub(r"^visual\.", "model.visual.", stored)
    return re.sub(r"^model\.(?!visual\.|language_model\.)", "model.language_model.", stored)


def _needed(point: ExtractionPoint | None, name: str) -> bool:
    """Whether latents at `point` depend on the weight `name`."""
    if point is None or name.startswith("model.visual.patch_embed."):
        return True
    after = point.stage == "post-merge"
    if block := re.match(r"model\.visual\.blocks\.(\d+)\.", name):
        return after or int(block[1]) < point.layer
    if layer := re.match(r"model\.language_model\.layers\.(\d+)\.", name):
        return after and int(layer[1]) < point.layer
    if name.startswith("model.visual.merger."):
        return after
    return name.startswith("model.language_model.embed_tokens.") and after and point.layer > 0


def load_vlm(
    name: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    kernels: bool | None = None,
    fp8: bool = False,
) -> VLM:
    """Load a Qwen2.5-VL from a folder or hub id; None is the bundled one.

    Weights are read when a point first needs them. device, dtype: as for `placement`; None is bfloat16 on the GPU
    where there is one, and float32 on the CPU; by "auto" the model lies on all GPUs, which are filled one after the
    other. kernels: whether norms, rotary embedding and SwiGLU run as Triton kernels; None is where these can be
    compiled. fp8: whether latents are computed with weights and activations in 8 bits, which is faster and less exact
    (docs/benchmarks.md); answers are not. Raises InputError for whatever cannot be found, is no Qwen2.5-VL, or cannot
    run here.
    """
    if wrong := wrong_transformers(version("transformers")):
        raise InputError(f"this machine has {wrong}: install another version.")
    source, label = (BUNDLED, "bundled") if name is None else (name, str(name))
    folder = folder_of(source, _SMALL_FILES, "model")
    what = f"model {label!r}"
    config = read_json(folder / "config.json", what)
    kind = config.get("model_type")
    if kind != "qwen2_5_vl":
        raise InputError(f"model {label!r} is of type {kind}; Foresight reads qwen2_5_vl.")
    check_config(VLMConfig, config, f"{what}: config.json")
    check_small_files(folder, what)
    for names in _TOKENIZER:
        if not any((folder / name).is_file() for name in names):
            raise InputError(f"model {label!r} has no {' or '.join(names)}.")
    devices = devices_of(device)
    on = devices[0]
    dtype = dtype_of(dtype or (torch.bfloat16 if fp8 else None), on)
    if fp8 and dtype != torch.bfloat16:
        raise InputError(f"8-bit latents are computed beside bfloat16, not {str(dtype).removeprefix('torch.')}.")
    if fp8 and on.type == "cuda" and torch.cuda.get_device_capability(on) < (8, 9):
        raise InputError(f"{torch.cuda.get_device_name(on)} has no 8-bit products: they need Ada, Hopper or later.")
    vlm = VLM(source, folder, label, config, devices, dtype, kernels_usable(on) if kernels is None else kernels, fp8)
    # Read now, so that faults are raised now.
    _ = vlm._image_settings, vlm._limits, (folder / _INDEX).is_file() and vlm._stored
    if name is None:  # it came whole; of others some files may never be needed
        for file in {*vlm._stored.values()}:
            check_weights(folder / file, what)
    return vlm
