"""`sample` and `stream`: the engine as one call."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from ggf_cli.engine import EVEN, Engine, FinishedSample, Outcome
from ggf_cli.errors import UsageError
from ggf_cli.runtime.memory import out_of_memory, release
from ggf_cli.scalars import as_indices, as_int, shown
from ggf_cli.score import ScoreModel
from ggf_cli.solvers import make_solver
from ggf_cli.solvers.base import Solver, time_dtype

# Rows per network call by default, where they are not measured. On 2 CPU cores an evaluation of the embedded network costs 2.2 ms a
# row with 16 rows, 1.3 ms with 128 and no less with more. Large images need their memory for fewer: one of 256 x 256 takes NCSN++
# about 0.6 GB.
ROWS = {"cpu": 128, "mps": 64}
PIXELS = {"cpu": 2**17, "mps": 2**18}

# On CUDA they are: from the fewest on twice as many, while a row gets cheaper by so much; measured by the median of so many calls.
FEWEST, MOST = 8, 1024
GAIN = 1.05
CALLS = 5


@dataclass(frozen=True, kw_only=True)
class SampleResult:
    """Samples in the order they were asked for, and what they cost.

    Attributes:
        images: float32 in [0, 1], (N, C, H, W); NaN where a sample did not finish.
        index: Sample indices, (N,) int64.
        nfe: Network evaluations of each sample, the denoising one included, (N,) int64.
        accepted: Steps of each sample, (N,) int64.
        rejected: Attempts thrown away by each sample, (N,) int64.
        outcomes: How each sample ended.
        network_calls: Network calls of the whole run.
        rows_evaluated: Rows over all calls.
        batch_size: Rows per network call in the end; fewer than asked for if memory ran out.
    """

    images: Tensor
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
        """Evaluations that a sample needed ÷ rows evaluated by the network."""
        return int(self.nfe.sum()) / self.rows_evaluated


def sample(
    model: ScoreModel,
    indices: SupportsIndex | Iterable[SupportsIndex],
    *,
    solver: str | Solver = "adaptive",
    seed: int = 0,
    batch_size: int | None = None,
    max_nfe: int | None = None,
    **options: Any,
) -> SampleResult:
    """Draw samples and wait for all of them.

    Args:
        model: A `ScoreModel`, from `load_model` or of your own.
        indices: How many samples (0 to n - 1), or which sample indices, each in 0..2^63 - 1 and once: a list, a range, an array or
            a tensor of whole numbers of any type.
        solver: A solver's name, with its options as keyword arguments, or a solver.
        seed: Sample i of a seed is always the same sample.
        batch_size: Rows per network call; None chooses.
        max_nfe: Give a sample up after this many evaluations; None: see `Engine`.
        **options: Options of the named solver, such as eps_rel=0.02.

    Raises:
        UsageError: A value is out of range or an option unknown.
    """
    wanted = unique_indices(as_indices(indices))
    if not wanted:
        raise UsageError(f"no samples asked for ({shown(indices)})", hint="ask for at least 1")
    if isinstance(solver, str):
        solver = make_solver(solver, options)
    elif options:
        raise UsageError(f"options {', '.join(options)} go with a solver's name, not with a solver")
    engine = Engine(
        model,
        solver,
        seed=seed,
        batch_size=choose_batch_size(model, len(wanted)) if batch_size is None else batch_size,
        max_nfe=max_nfe,
    )
    by_index = {finished.index: finished for finished in engine.run(wanted)}
    finished = [by_index[index] for index in wanted]
    return SampleResult(
        images=torch.stack(
            [f.image if f.outcome is Outcome.DONE else f.image * torch.nan for f in finished]
        ),
        index=_int64(wanted),
        nfe=_int64(f.nfe for f in finished),
        accepted=_int64(f.accepted for f in finished),
        rejected=_int64(f.rejected for f in finished),
        outcomes=tuple(f.outcome for f in finished),
        network_calls=engine.progress.network_calls,
        rows_evaluated=engine.progress.rows_evaluated,
        batch_size=engine.batch_size,
    )


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
    batch_size: int = 16,
    max_nfe: int | None = None,
) -> Iterator[FinishedSample]:
    """Yield samples as they finish, not in the order asked for.

    Args:
        model: As `sample` takes it.
        indices: As `sample` takes them; also an iterator that never ends. Only that is checked as it is drawn from, all others at once.
        solver: A solver, or the name of one.
        seed: As `sample` takes it.
        batch_size: Rows per network call.
        max_nfe: As `sample` takes it.

    Raises:
        UsageError: A value is out of range.
    """
    if isinstance(solver, str):
        solver = make_solver(solver)
    return Engine(model, solver, seed=seed, batch_size=batch_size, max_nfe=max_nfe).run(indices)


def choose_batch_size(model: ScoreModel, num_samples: int) -> int:
    """The batch size that `auto` stands for; even, so no more than one more than there are samples.

    On CUDA the fastest, measured in a few seconds; elsewhere by device and image size.
    """
    num_samples = as_int(num_samples, "the number of samples", low=1)
    most = num_samples + num_samples % EVEN if num_samples > 1 else 1
    device = torch.device(model.device)
    if device.type == "cuda" and model.distribution is None:
        return fastest_batch_size(model, most)
    kind = device.type if device.type in ROWS else "cpu"
    return max(1, min(most, ROWS[kind], PIXELS[kind] // math.prod(model.shape[-2:])))


def fastest_batch_size(model: ScoreModel, most: int) -> int:
    """Double the rows while that makes evaluations cheaper and memory lasts.

    Args:
        model: What is evaluated.
        most: No more rows than these; so few that there is nothing to choose are not tried.
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
    """Of an evaluation; infinity without memory for it."""
    device = torch.device(model.device)
    times = []
    try:
        x = torch.zeros(rows, *model.shape, dtype=model.dtype, device=device)
        t = torch.full((rows,), model.sde.T, dtype=time_dtype(device), device=device)
        for _ in range(1 + CALLS):  # the first one warms up
            start = perf_counter()
            model.score(x, t)
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
