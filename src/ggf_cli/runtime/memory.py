"""Memory: kept from one evaluation to the next; and when there is no more, how that shows and what to go on with.

What an allocator says depends on the device, the library and the version of torch; there is one type for some of it only.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress

import torch

_WORDS = (
    "out of memory",  # CUDA, MPS
    "not enough memory",  # CPU, Windows
    "can't allocate memory",  # CPU, Linux
    "alloc_failed",  # cuBLAS, cuDNN
)

# Of glibc's malloc.h: the sizes from which freed memory goes back, and blocks lie outside the heap.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 2**30


def keep_freed() -> None:
    """Have the C library keep freed memory for the next evaluation, for the whole process; on Linux with glibc, nothing elsewhere.

    By default it gives large blocks back to the system at once, which hands them out anew page by page, zeroed: thousands of page
    faults an evaluation. The price is memory in between that nothing fits (0.3 GB beside 1.4 for `church` on a CPU).
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            library = ctypes.CDLL(None)
            for threshold in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
                library.mallopt(threshold, _KEPT)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation did not succeed."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)


def fewer(rows: int) -> int:
    """The next number of rows to try, rows >= 2: half as many, even down to 2."""
    return 1 if rows == 2 else 2 * -(-rows // 4)


def release(device: torch.device, *, compiled: bool = False) -> None:
    """Give back to the device what nothing uses any more; with it code that was compiled, which holds memory of its own."""
    gc.collect()
    if compiled:
        torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
