"""Check the devices on which networks can run, and the memory."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from ggf_cli.health import OK, WARNING, Finding

# Bytes. The largest registered network takes 0.5 GB, and twice that while it loads.
LITTLE = 2**30
# The files in which Linux states the memory limit of a container.
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def devices() -> Finding:
    """List the CPU, CUDA and MPS devices with their memory, and the device that `auto` selects."""
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
    """A device in a few words."""
    words = [device["device"]]
    if "threads" in device:
        words.append(f"({device['threads']} of {device['cores']} threads)")
    if "name" in device:
        words.append(f"({device['name']})")
    if "memory_bytes" in device:
        words.append(f"{device['memory_bytes'] / 1e9:.1f} GB")
    return " ".join([*words, "with fast bf16" if device["fast_bf16"] else "without fast bf16"])


def memory() -> Finding:
    """Check the memory of the machine, its free part, and the limit that a container sets."""
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
        hint="only the small models fit; close other programs for the large ones"
        if little
        else None,
    )


def _sysconf(name: str) -> int | None:
    """A number of memory pages, in bytes; None if the system does not state it."""
    # Windows has no `sysconf`, macOS not all names.
    try:
        return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _available() -> int | None:
    """The bytes that are available without swapping."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return _sysconf("SC_AVPHYS_PAGES")


def _limit() -> int | None:
    """The limit of a container in bytes; None if there is none."""
    total = _sysconf("SC_PHYS_PAGES")
    limits = []
    for path in LIMITS:
        # Without a limit, the file contains "max".
        with suppress(OSError, ValueError):
            limits.append(int(Path(path).read_text()))
    limit = min(limits, default=None)
    return limit if limit is None or total is None or limit < total else None
