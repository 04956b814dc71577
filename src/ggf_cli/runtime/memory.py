"""Memory: keep it for reuse, release it, and recognise out-of-memory errors.

The message of an out-of-memory error depends on the device, the library and the version of torch,
and only some of these errors have a type of their own.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress

import torch

_WORDS = (
    # CUDA, MPS; CPU on Windows; CPU on Linux; cuBLAS and cuDNN.
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "alloc_failed",
)

# From glibc's malloc.h: the size from which freed memory is returned, and the size from which
# blocks are mapped.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 2**30


def keep_freed() -> None:
    """Make the C library keep freed memory for the next evaluation, in the whole process.

    This has an effect on Linux with glibc only. By default glibc returns large blocks to the system
    at once, and the system zeroes them again page by page: thousands of page faults an evaluation.
    The cost is fragmentation (0.3 GB beside 1.4 GB for `church` on a CPU).
    """
    if sys.platform == "linux":
        # The errors of another C library.
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            for threshold in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
                library.mallopt(threshold, _KEPT)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is a failed allocation."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)


def fewer(rows: int) -> int:
    """The next smaller batch size, for rows >= 2: half, rounded up to an even number; 1 after 2."""
    return 1 if rows == 2 else 2 * -(-rows // 4)


def release(device: torch.device, *, compiled: bool = False) -> None:
    """Release unused memory of the device; if `compiled`, also compiled code and its memory."""
    gc.collect()
    if compiled:
        torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
