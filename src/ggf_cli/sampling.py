"""`sample` and `stream`: the engine as one call."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from ggf_cli.engine import EVEN, Engine, Finished, Outcome
from ggf_cli.errors import UsageError
from ggf_cli.score import ScoreModel
from ggf_cli.solvers import make_solver
from ggf_cli.solvers.base import Solver

# Rows per network call by default. On 2 CPU cores an evaluation of the embedded network costs 2.2 ms a row with 16 rows,
# 1.3 ms with 128 and no less with more. Large images need their memory for fewer: one of 256 x 256 takes NCSN++ about 0.6 GB.
ROWS = {"cpu": 128, "cuda": 64, "mps": 64}
PIXELS = {"cpu": 2**17, "cuda": 2**19, "mps": 2**18}


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
    indices: SupportsIndex | Iterable[int],
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
        indices: How many samples (0 to n - 1), or which sample indices, each once.
        solver: A solver's name, with its options as keyword arguments, or a solver.
        seed: Sample i of a seed is always the same sample.
        batch_size: Rows per network call; None chooses.
        max_nfe: Give a sample up after this many evaluations; None: see `Engine`.
        **options: Options of the named solver, such as eps_rel=0.02.

    Raises:
        UsageError: A value is out of range or an option unknown.
    """
    wanted = list(indices) if isinstance(indices, Iterable) else list(range(indices))
    if not wanted:
        raise UsageError(f"no samples asked for ({indices!r})", hint="ask for at least 1")
    if len(set(wanted)) != len(wanted):
        raise UsageError("a sample index is asked for twice")
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
        index=torch.tensor(wanted),
        nfe=torch.tensor([f.nfe for f in finished]),
        accepted=torch.tensor([f.accepted for f in finished]),
        rejected=torch.tensor([f.rejected for f in finished]),
        outcomes=tuple(f.outcome for f in finished),
        network_calls=engine.progress.network_calls,
        rows_evaluated=engine.progress.rows_evaluated,
        batch_size=engine.batch_size,
    )


def stream(
    model: ScoreModel,
    indices: Iterable[int],
    *,
    solver: str | Solver = "adaptive",
    seed: int = 0,
    batch_size: int = 16,
    max_nfe: int | None = None,
) -> Iterator[Finished]:
    """Yield samples as they finish, not in the order asked for; `indices` may be endless."""
    if isinstance(solver, str):
        solver = make_solver(solver)
    return Engine(model, solver, seed=seed, batch_size=batch_size, max_nfe=max_nfe).run(indices)


def choose_batch_size(model: ScoreModel, num_samples: int) -> int:
    """The batch size that `auto` stands for: by model, device and image size; even, so no more than one more than there are samples."""
    kind = torch.device(model.device).type
    pixels = math.prod(model.shape[-2:])
    rows = min(ROWS.get(kind, ROWS["cpu"]), PIXELS.get(kind, PIXELS["cpu"]) // pixels)
    return max(1, min(num_samples + num_samples % EVEN if num_samples > 1 else 1, rows))
