"""The batch size that `auto` chooses: measured on CUDA, elsewhere by device and image size."""

from __future__ import annotations

import math
from statistics import median
from time import perf_counter

import torch

from ggf_cli.engine import EVEN
from ggf_cli.runtime.devices import time_dtype
from ggf_cli.runtime.memory import out_of_memory, release
from ggf_cli.scalars import as_int
from ggf_cli.score import ScoreModel

# Default batch size, and the largest number of pixels in a batch, where the batch size is not
# measured. On 2 CPU cores an evaluation of the embedded network costs 2.2 ms a row in a batch of
# 16, 1.3 ms in a batch of 128 and no less in larger batches. Memory limits the batch of large
# images: 256 x 256 takes NCSN++ about 0.6 GB a row.
ROWS = {"cpu": 128, "mps": 64}
PIXELS = {"cpu": 2**17, "mps": 2**18}

# On CUDA the batch size is measured: starting from FEWEST it is doubled while that makes a row
# cheaper by the factor GAIN, by the median of CALLS calls.
FEWEST, MOST = 8, 1024
GAIN = 1.05
CALLS = 5


def choose_batch_size(model: ScoreModel, num_samples: int) -> int:
    """Choose the batch size (`auto`).

    It is even, and at most the number of samples rounded up to an even number; 1 for one sample. On
    CUDA it is the fastest, measured in a few seconds; elsewhere it follows from device and image
    size.
    """
    num_samples = as_int(num_samples, "the number of samples", low=1)
    most = num_samples + num_samples % EVEN if num_samples > 1 else 1
    device = torch.device(model.device)
    if device.type == "cuda" and model.distribution is None:
        return fastest_batch_size(model, most)
    kind = device.type if device.type in ROWS else "cpu"
    # Channels do not count; a volume, (C, D, H, W), has D H W pixels.
    pixels = model.shape[1:] if len(model.shape) > 2 else model.shape
    return max(1, min(most, ROWS[kind], PIXELS[kind] // math.prod(pixels)))


def fastest_batch_size(model: ScoreModel, most: int) -> int:
    """Measure the fastest batch size: double it while a row gets cheaper and memory suffices.

    Args:
        model: The model to evaluate.
        most: Largest batch size. Nothing is measured if it leaves no choice.
    """
    most = min(most, MOST)
    sizes = [FEWEST << k for k in range(most.bit_length()) if FEWEST << k < most] + [most]
    best, least = sizes[0], math.inf
    for rows in sizes if len(sizes) > 1 else ():
        seconds = _seconds_a_row(model, rows)
        if not seconds * GAIN < least:
            break
        best, least = rows, seconds
    return best


@torch.no_grad()
def _seconds_a_row(model: ScoreModel, rows: int) -> float:
    """Measure the seconds that an evaluation costs a row; infinity if memory runs out."""
    device = torch.device(model.device)
    times = []
    try:
        x = torch.zeros(rows, *model.shape, dtype=model.dtype, device=device)
        t = torch.full((rows,), model.sde.T, dtype=time_dtype(device), device=device)
        # The first call is a warm-up.
        for _ in range(1 + CALLS):
            start = perf_counter()
            model.evaluate(x, t)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(perf_counter() - start)
    except Exception as error:
        if not out_of_memory(error):
            raise
    if len(times) <= CALLS:
        release(device)
        return math.inf
    return median(times[1:]) / rows
