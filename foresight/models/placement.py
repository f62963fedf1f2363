"""Where a model is computed and in which numbers: what `--device` and `--dtype` mean, and how much memory is free."""

from __future__ import annotations

import platform

import psutil
import torch

from foresight.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def device_of(name: str | torch.device | None) -> torch.device:
    """A device by its name; None is the GPU where there is one. Raises InputError where this machine has none such."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"the device must be cpu, cuda, or one of several GPUs such as cuda:1, not {str(name)!r}.")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise InputError(f"there is no {device} here: PyTorch finds {count or 'no'} CUDA GPU{'s' * (count != 1)}.")
    return device


def dtype_of(name: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """A dtype by its name, for a device; None is bfloat16 on a GPU and float32 on a CPU.

    A dtype itself is taken where it is one of `DTYPES`; by its name a person asks for it, who expects it to be fast.
    Raises InputError for other dtypes, and for bfloat16 on a CPU that has it in software alone.
    """
    if name is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    word = str(name).removeprefix("torch.")
    if word not in DTYPES:
        why = ", in which the last blocks of large vision towers overflow" if word == "float16" else ""
        raise InputError(f"the dtype must be {' or '.join(DTYPES)}, not {word}{why}.")
    if isinstance(name, str) and word == "bfloat16" and device.type == "cpu" and not native_bfloat16():
        raise InputError("this CPU computes bfloat16 in software, slower than float32: take float32.")
    return DTYPES[word]


def native_bfloat16() -> bool:
    """Whether this machine's CPU multiplies in bfloat16."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        return torch.cpu._is_avx512_bf16_supported()
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device, or in this machine."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by PyTorch, for its own use
        return torch.cuda.mem_get_info(device)[0] + kept
    return psutil.virtual_memory().available
