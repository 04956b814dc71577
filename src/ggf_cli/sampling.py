"""`sample` and `stream`: draw samples with one call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from ggf_cli.batch_size import MOST, choose_batch_size
from ggf_cli.engine import Engine, FinishedSample, Outcome, Progress, Step
from ggf_cli.errors import UsageError
from ggf_cli.per_sample import PerSampleLike
from ggf_cli.progress import reporter
from ggf_cli.results import Trajectory
from ggf_cli.scalars import as_indices, shown
from ggf_cli.score import ScoreModel
from ggf_cli.solvers import make_solver
from ggf_cli.solvers.base import Solver
from ggf_cli.trajectory import TrajectoryRecorder


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
        trajectory: The trajectories of all samples, if they were recorded.
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
    trajectory: Trajectory | None
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
    conditions: PerSampleLike | None = None,
    guidance: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    prior: PerSampleLike | None = None,
    on_step: Callable[[Step], None] | None = None,
    trajectory: int | None = None,
    progress: bool = False,
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
        guidance: The scale of classifier-free guidance; 1 has no effect. A guided evaluation counts
            as two.
        guidance_interval: The smallest and largest noise level sigma / alpha with guidance; None:
            all.
        prior: The states at T from which samples start: a tensor (N, *shape), whose entry i belongs
            to sample index i, or a function of the indices; None: draws from the prior.
        on_step: Called with the running samples, a `Step`, after every network call.
        trajectory: Record states and denoised estimates at this number of noise levels, 2 at least,
            equally spaced in log(alpha / sigma) from T to t_eps.
        progress: Show a progress bar on stderr, or a line every 10 seconds if it is no terminal.
        **options: Options of the named solver, such as eps_rel=0.02.

    Raises:
        UsageError: A value is out of range or an option unknown.
    """
    model = model.with_conditions(
        conditions, guidance=guidance, guidance_interval=guidance_interval
    )
    wanted = unique_indices(as_indices(indices))
    if not wanted:
        raise UsageError(f"no samples asked for ({shown(indices)})", hint="ask for at least 1")
    engine = Engine(
        model,
        as_solver(solver, options),
        seed=seed,
        batch_size=choose_batch_size(model, len(wanted)) if batch_size is None else batch_size,
        max_nfe=max_nfe,
        prior=prior,
    )
    samples = draw(
        engine,
        wanted,
        on_step=on_step,
        trajectory=trajectory,
        show_progress=reporter(len(wanted), engine.expected_nfe, quiet=not progress),
    )
    by_index = {finished.index: finished for finished in samples}
    finished = [by_index[index] for index in wanted]
    return SampleResult(
        x=torch.stack([f.x for f in finished]),
        images=_images(finished),
        index=_int64(wanted),
        nfe=_int64(f.nfe for f in finished),
        accepted=_int64(f.accepted for f in finished),
        rejected=_int64(f.rejected for f in finished),
        outcomes=tuple(f.outcome for f in finished),
        trajectory=_trajectory(finished),
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


def _trajectory(finished: Iterable[FinishedSample]) -> Trajectory | None:
    """The trajectories of samples as tensors (N, k, ...); None without any."""
    recorded = [f.trajectory for f in finished if f.trajectory is not None]
    if not recorded:
        return None
    return Trajectory(
        x=torch.stack([r.x for r in recorded]),
        denoised=torch.stack([r.denoised for r in recorded]),
        t=torch.stack([r.t for r in recorded]),
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
    batch_size: int | None = 16,
    max_nfe: int | None = None,
    conditions: PerSampleLike | None = None,
    guidance: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    prior: PerSampleLike | None = None,
    on_step: Callable[[Step], None] | None = None,
    trajectory: int | None = None,
    progress: bool = False,
    **options: Any,
) -> Iterator[FinishedSample]:
    """Yield samples in the order in which they finish.

    Args:
        model: As in `sample`, as are all arguments that are not described here.
        indices: As in `sample`, or an iterator, which may be endless. The indices of an iterator
            are checked when they are drawn, all others at once.
        solver: As in `sample`.
        seed: As in `sample`.
        batch_size: Batch size; None chooses one. The first samples of a small batch come earlier.
        max_nfe: As in `sample`.
        conditions: As in `sample`.
        guidance: As in `sample`.
        guidance_interval: As in `sample`.
        prior: As in `sample`.
        on_step: As in `sample`.
        trajectory: As in `sample`; each sample has its `trajectory`.
        progress: As in `sample`; not for an iterator, whose length is unknown.
        **options: As in `sample`.

    Raises:
        UsageError: A value is out of range or an option unknown.
    """
    model = model.with_conditions(
        conditions, guidance=guidance, guidance_interval=guidance_interval
    )
    wanted, solver = as_indices(indices), as_solver(solver, options)
    count = len(wanted) if isinstance(wanted, Collection) else None
    if batch_size is None:
        batch_size = choose_batch_size(model, MOST if count is None else max(1, count))
    engine = Engine(model, solver, seed=seed, batch_size=batch_size, max_nfe=max_nfe, prior=prior)
    if progress and count is None:
        raise UsageError("`progress` needs to know the number of samples", hint="give a list")
    return draw(
        engine,
        wanted,
        on_step=on_step,
        trajectory=trajectory,
        show_progress=reporter(count or 0, engine.expected_nfe, quiet=not progress),
    )


def draw(
    engine: Engine,
    indices: Iterable[int],
    *,
    on_step: Callable[[Step], None] | None,
    trajectory: int | None,
    show_progress: AbstractContextManager[Callable[[Progress], None]],
) -> Iterator[FinishedSample]:
    """Run an engine with a callback, trajectories and a progress bar.

    Args:
        engine: A fresh engine.
        indices: Sample indices.
        on_step: Called with the running samples after every network call.
        trajectory: The number of noise levels to record; None: nothing is recorded.
        show_progress: A context around the run, which yields the function to call in each tick.
    """
    recorder = None if trajectory is None else TrajectoryRecorder(engine, trajectory)
    callbacks = [call for call in (recorder, on_step) if call is not None]

    def call_all(step: Step) -> None:
        for call in callbacks:
            call(step)

    def samples() -> Iterator[FinishedSample]:
        with show_progress as report:
            for finished in engine.run(indices, report, on_step=call_all if callbacks else None):
                yield finished if recorder is None else recorder.finish(finished)

    return samples()
