"""Choose the device, and turn TF32 on or off."""

from __future__ import annotations

import torch

from ggf_cli.errors import OptionError


def resolve_device(name: str | torch.device) -> torch.device:
    """Return the device called `name`; "auto" is cuda, else mps, else cpu.

    Raises:
        OptionError: Not a device, or not available on this machine.
    """
    if name == "auto":
        return next(torch.device(kind) for kind in ("cuda", "mps", "cpu") if _count(kind))
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise OptionError(
            f"device '{name}' is not a device of torch",
            option="device",
            hint="auto, cpu, cuda, cuda:1 or mps",
        ) from error
    count = _count(device.type)
    if (device.index or 0) >= count:
        raise OptionError(
            f"device '{name}' is not available: this machine has {count} of type '{device.type}'",
            option="device",
            hint="device auto is the fastest that this machine has",
        )
    return device


def time_dtype(device: torch.device) -> torch.dtype:
    """The dtype of times: float64, or float32 on mps, which has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def full_precision(full: bool = True) -> None:
    """Turn TF32 off for the whole process, or on.

    With TF32, products and convolutions on CUDA round their inputs to 10 bits.
    """
    torch.backends.cuda.matmul.allow_tf32 = not full
    torch.backends.cudnn.allow_tf32 = not full


def _count(kind: str) -> int:
    """The number of available devices of a type."""
    if kind == "cuda":
        return torch.cuda.device_count()
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    return int(kind == "cpu")
