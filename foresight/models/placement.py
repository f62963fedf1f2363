"""Where a model is computed and in which numbers: what `--device` and `--dtype` mean, and how much memory is free."""

import platform
from collections.abc import Sequence

import psutil
import torch
from torch import nn

from foresight.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
AUTO = "auto"
RESERVE = 0.1  # of a GPU's free memory, for activations, where a model lies on several


def devices_of(name: str | torch.device | None) -> tuple[torch.device, ...]:
    """The devices that a model may lie on: the one of that name, or by AUTO every GPU. Raises as `device_of`."""
    if name != AUTO or not torch.cuda.is_available():
        return (device_of(name),)
    return tuple(torch.device("cuda", number) for number in range(torch.cuda.device_count()))


def device_of(name: str | torch.device | None) -> torch.device:
    """A device by its name; None and AUTO are the GPU where there is one.

    Raises InputError where this machine has none such.
    """
    if name is None or name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        known = f"cpu, cuda, one of several GPUs such as cuda:1, or {AUTO}, which is all of them"
        raise InputError(f"the device must be {known}, not {str(name)!r}.")
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


def spread(
    model: nn.Module, devices: Sequence[torch.device], dtype: torch.dtype, whole: Sequence[str]
) -> dict[str, torch.device]:
    """Where each part of a model goes, {module or weight: device}, by accelerate's device map.

    Devices are filled one after the other, in the order of the model's parts; what fits on none is left out.

    Args:
        model: whose weights need not be there yet.
        devices: GPUs.
        dtype: of the weights.
        whole: names of classes whose modules lie on one device each.
    """
    from accelerate import infer_auto_device_map

    room: dict[int | str, int | str] = {k: int((1 - RESERVE) * free_memory(d)) for k, d in enumerate(devices)}
    parts = infer_auto_device_map(model, room, no_split_module_classes=list(whole), dtype=dtype)
    return {name: devices[int(k)] for name, k in parts.items() if k in room}  # accelerate puts the rest on "disk"


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device, or in this machine."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # what PyTorch keeps
        return torch.cuda.mem_get_info(device)[0] + unused
    return psutil.virtual_memory().available
