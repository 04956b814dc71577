"""What networks can run on."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from ggf_cli.health import OK, WARNING, Finding

LITTLE = (
    2**30
)  # bytes; the largest registered network takes 0.5 GB, and as much again while it loads
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def devices() -> Finding:
    """CPU, CUDA and MPS devices with their memory, and which of them `auto` is."""
    import torch

    from ggf_cli.runtime.devices import resolve_device
    from ggf_cli.runtime.precision import fast_bf16

    cpu = torch.device("cpu")
    found: list[dict[str, Any]] = [
        {
            "device": "cpu",
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "fast_bf16": fast_bf16(cpu),
        }
    ]
    for i in range(torch.cuda.device_count()):
        device = torch.device("cuda", i)
        free, total = torch.cuda.mem_get_info(device)
        found.append(
            {
                "device": str(device),
                "name": torch.cuda.get_device_name(device),
                "memory_bytes": total,
                "free_bytes": free,
                "fast_bf16": fast_bf16(device),
            }
        )
    if torch.backends.mps.is_available():
        memory = torch.mps.recommended_max_memory()
        found.append({"device": "mps", "memory_bytes": memory, "fast_bf16": False})
    auto = str(resolve_device("auto"))
    return Finding(
        summary=f"{'; '.join(map(_describe, found))}; auto is {auto}",
        facts={"devices": found, "auto": auto, "cuda": torch.version.cuda},
    )


def _describe(device: dict[str, Any]) -> str:
    words = [device["device"]]
    if "threads" in device:
        words.append(f"({device['threads']} of {device['cores']} threads)")
    if "name" in device:
        words.append(f"({device['name']})")
    if "memory_bytes" in device:
        words.append(f"{device['memory_bytes'] / 1e9:.1f} GB")
    return " ".join([*words, "with fast bf16" if device["fast_bf16"] else "without fast bf16"])


def memory() -> Finding:
    """Of the machine, what is free of it, and what a container leaves to this process."""
    total, free, limit = _sysconf("SC_PHYS_PAGES"), _available(), _limit()
    known = [f"{free / 1e9:.1f} GB free"] if free is not None else []
    known += [f"of {total / 1e9:.1f} GB"] if total is not None else []
    known += [f"limited to {limit / 1e9:.1f} GB"] if limit is not None else []
    bounds = [number for number in (free, limit) if number is not None]
    little = bool(bounds) and min(bounds) < LITTLE
    return Finding(
        summary=" ".join(known) or "unknown",
        facts={"total_bytes": total, "free_bytes": free, "limit_bytes": limit},
        status=WARNING if little else OK,
        hint="the small models fit; for the large ones close other programs" if little else None,
    )


def _sysconf(name: str) -> int | None:
    try:
        return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has none, macOS not all
        return None


def _available() -> int | None:
    """What can be had without swapping."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return _sysconf("SC_AVPHYS_PAGES")


def _limit() -> int | None:
    total = _sysconf("SC_PHYS_PAGES")
    for path in _CGROUPS:
        with suppress(OSError, ValueError):  # "max" is no number
            limit = int(Path(path).read_text())
            return limit if total is None or limit < total else None
    return None
