"""`sample` and `stream`: draw samples with one call. Also the choice of the batch size."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from ggf_cli.conditions import ConditionsLike
from ggf_cli.engine import EVEN, Engine, FinishedSample, Outcome
from ggf_cli.errors import UsageError
from ggf_cli.runtime.devices import time_dtype
from ggf_cli.runtime.memory import out_of_memory, release
from ggf_cli.scalars import as_indices, as_int, shown
from ggf_cli.score import ScoreModel
from ggf_cli.solvers import make_solver
from ggf_cli.solvers.base import Solver

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


@dataclass(frozen=True, kw_only=True)
class SampleResult:
    """Samples in the order of the request, and their cost.

    Attributes:
        x: The states as the solver left them, (N, *shape), in the units of the data and not
            clamped; where a sample did not finish, the state at which it stopped.
        images: The same as float32 in [0, 1], clamped; NaN where a sample did not finish. None if
            the model has no data range.
        index: Sample indices, (N,) int64.
        nfe: Network evaluations of each sample, the denoising one included, (N,) int64.
        accepted: Accepted steps of each sample, (N,) int64.
        rejected: Rejected attempts of each sample, (N,) int64.
        outcomes: How each sample ended.
        network_calls: Network calls of the whole run.
        rows_evaluated: Rows of all calls.
        batch_size: Batch size at the end; smaller than requested if memory ran out.
    """

    x: Tensor
    images: Tensor | None
    index: Tensor
    nfe: Tensor
    accepted: Tensor
    rejected: Tensor
    outcomes: tuple[Outcome, ...]
    network_calls: int
    rows_evaluated: int
    batch_size: int

    @property
    def utilisation(self) -> float:
        """The share of evaluated rows that belonged to a running sample."""
        return int(self.nfe.sum()) / self.rows_evaluated


def sample(
    model: ScoreModel,
    indices: SupportsIndex | Iterable[SupportsIndex],
    *,
    solver: str | Solver = "adaptive",
    seed: int = 0,
    batch_size: int | None = None,
    max_nfe: int | None = None,
    conditions: ConditionsLike | None = None,
    **options: Any,
) -> SampleResult:
    """Draw samples and wait for all of them.

    Args:
        model: A `ScoreModel`, from `load_model` or of your own.
        indices: The number n of samples (0 to n - 1), or the sample indices, each in 0..2^63 - 1
            and once: a list, a range, an array or a tensor of whole numbers of any type.
        solver: A solver's name, with its options as keyword arguments, or a solver.
        seed: The random seed; sample i of a seed is always the same sample.
        batch_size: Batch size; None chooses one.
        max_nfe: Stop a sample after this many evaluations; None: see `Engine`.
        conditions: The conditions of a conditional model: a tensor (N, ...) or a list of class
            labels, whose entry i belongs to sample index i, or a function of the indices.
        **options: Options of the named solver, such as eps_rel=0.02.

    Raises:
        UsageError: A value is out of range or an option unknown.
    """
    model = model if conditions is None else model.with_conditions(conditions)
    wanted = unique_indices(as_indices(indices))
    if not wanted:
        raise UsageError(f"no samples asked for ({shown(indices)})", hint="ask for at least 1")
    engine = Engine(
        model,
        as_solver(solver, options),
        seed=seed,
        batch_size=choose_batch_size(model, len(wanted)) if batch_size is None else batch_size,
        max_nfe=max_nfe,
    )
    by_index = {finished.index: finished for finished in engine.run(wanted)}
    finished = [by_index[index] for index in wanted]
    return SampleResult(
        x=torch.stack([f.x for f in finished]),
        images=_images(finished),
        index=_int64(wanted),
        nfe=_int64(f.nfe for f in finished),
        accepted=_int64(f.accepted for f in finished),
        rejected=_int64(f.rejected for f in finished),
        outcomes=tuple(f.outcome for f in finished),
        network_calls=engine.progress.network_calls,
        rows_evaluated=engine.progress.rows_evaluated,
        batch_size=engine.batch_size,
    )


def as_solver(solver: str | Solver, options: Mapping[str, Any]) -> Solver:
    """Make a solver from a name and options; a solver takes no options.

    Raises:
        UsageError: An option is unknown or out of range, or goes with a solver.
    """
    if isinstance(solver, str):
        return make_solver(solver, options)
    if options:
        raise UsageError(f"options {', '.join(options)} go with a solver's name, not with a solver")
    return solver


def _images(finished: Iterable[FinishedSample]) -> Tensor | None:
    """The images of samples, (N, *shape), NaN where a sample did not finish; None without any."""
    images = [
        f.image if f.outcome is Outcome.DONE else f.image * torch.nan
        for f in finished
        if f.image is not None
    ]
    return torch.stack(images) if images else None


def unique_indices(indices: Iterable[int]) -> Sequence[int]:
    """The indices as a sequence.

    Raises:
        UsageError: An index occurs twice.
    """
    if isinstance(indices, range):
        return indices
    wanted, known = list(indices), set[int]()
    for index in wanted:
        if index in known:
            raise UsageError(f"sample index {index} is asked for twice")
        known.add(index)
    return wanted


def _int64(numbers: Iterable[int]) -> Tensor:
    return torch.tensor(list(numbers), dtype=torch.int64)


def stream(
    model: ScoreModel,
    indices: SupportsIndex | Iterable[SupportsIndex],
    *,
    solver: str | Solver = "adaptive",
    seed: int = 0,
    batch_size: int | None = 16,
    max_nfe: int | None = None,
    conditions: ConditionsLike | None = None,
    **options: Any,
) -> Iterator[FinishedSample]:
    """Yield samples in the order in which they finish.

    Args:
        model: As in `sample`.
        indices: As in `sample`, or an iterator, which may be endless. The indices of an iterator
            are checked when they are drawn, all others at once.
        solver: As in `sample`.
        seed: As in `sample`.
        batch_size: Batch size; None chooses one. The first samples of a small batch come earlier.
        max_nfe: As in `sample`.
        conditions: As in `sample`.
        **options: As in `sample`.

    Raises:
        UsageError: A value is out of range or an option unknown.
    """
    model = model if conditions is None else model.with_conditions(conditions)
    wanted, solver = as_indices(indices), as_solver(solver, options)
    if batch_size is None:
        count = max(1, len(wanted)) if isinstance(wanted, Collection) else MOST
        batch_size = choose_batch_size(model, count)
    return Engine(model, solver, seed=seed, batch_size=batch_size, max_nfe=max_nfe).run(wanted)


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
