"""Samplers of any origin as one function of score, SDE, prior draws, noise and number of steps.

    f(score, sde, x_T, noise) -> x              a sampler
    f(score, sde, x_T, noise, steps=N) -> x     a sampler with a number of steps

score(x, t) takes x (B, D) and t, a number or (B,); x_T (B, D) are draws of the prior at sde.T;
noise() returns the next standard normal numbers (B, D) of each row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from ggf_cli.certification.problems import Problem
from ggf_cli.errors import SolveError, UsageError
from ggf_cli.noise import Noise
from ggf_cli.scalars import shown
from ggf_cli.sde import SDE, VPSDE
from ggf_cli.solvers.base import Solver

Score = Callable[[Tensor, "Tensor | float"], Tensor]
DEFAULT_STEPS = 100
# A solver of ours is stopped after this many evaluations of its slowest sample.
MAX_CALLS = 100_000


class NoiseSource:
    """Standard normal noise with a stream for each row, whatever the other rows are.

    Args:
        seed: The random seed.
        index: The sample index of each row, (B,) int64.
        size: Numbers of each row.
    """

    def __init__(self, seed: int, index: Tensor, size: int) -> None:
        self.index = index
        self._noise = Noise(seed=seed, shape=(size,), dtype=torch.float64)
        self._draw = 0
        self._seed = seed
        self._generators: list[torch.Generator] = []
        self._untouched: list[Tensor] = []
        self._used = False

    def __call__(self) -> Tensor:
        """The next numbers of every row, (B, D)."""
        self._draw += 1
        return self.block(self.index, torch.full_like(self.index, self._draw))

    def block(self, index: Tensor, draw: Tensor) -> Tensor:
        """Block `draw` (b,) of the samples index (b,), (b, D); block 0 is the prior draw."""
        self._used |= bool(draw.any())
        return self._noise(index, draw)

    def generators(self, *, each_row: bool) -> list[torch.Generator]:
        """Generators for code that draws by itself: one for each row, or one for all rows."""
        count = self.index.tolist() if each_row else [-1]
        seeds = [(self._seed * 1_000_003 + row + 1) % 2**63 for row in count]
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._untouched = [generator.get_state() for generator in self._generators]
        return self._generators

    @property
    def used(self) -> bool:
        """Whether the sampler has drawn noise."""
        states = [generator.get_state() for generator in self._generators]
        pairs = zip(states, self._untouched, strict=True)
        return self._used or any(not torch.equal(now, then) for now, then in pairs)


class Function(Protocol):
    """A sampler; `steps` is None if it has no number of steps."""

    def __call__(
        self, score: Score, sde: SDE, x_T: Tensor, noise: NoiseSource, steps: int | None
    ) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A sampler and what it claims.

    Attributes:
        name: Its name in messages.
        function: The sampler.
        steps: The number of steps at which it is tested; None if it has none.
        order: The claimed order of convergence.
        nfe: The claimed evaluations of a sample with this number of steps.
        sdes: The names of the SDEs that it solves.
    """

    name: str
    function: Function
    steps: int | None = None
    order: float | None = None
    nfe: Callable[[int | None], int | None] = field(default=lambda steps: None)
    sdes: tuple[str, ...] = ("vp", "ve")

    def with_steps(self, steps: int) -> Sampler:
        """The same sampler with another number of steps.

        Raises:
            UsageError: It has no number of steps.
        """
        if self.steps is None:
            raise UsageError(f"the sampler {self.name} has no number of steps")
        return replace(self, steps=steps)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Samples, and what the sampler did to draw them.

    Attributes:
        sde: The SDE.
        x: The samples, (B, D).
        calls: Evaluations of the score, a row on average.
        first: x and t of the first evaluation, (b, D) and (b,).
        last_t: The time of the last evaluation.
        stochastic: Whether the sampler drew noise.
    """

    sde: SDE
    x: Tensor
    calls: float
    first: tuple[Tensor, Tensor]
    last_t: float
    stochastic: bool


class _Recorder:
    """The exact score, which counts its evaluations and keeps the first and the last point."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.rows = 0
        self.first: tuple[Tensor, Tensor] | None = None
        self.last_t = problem.sde.T

    def __call__(self, x: Tensor, t: Tensor | float) -> Tensor:
        times = torch.as_tensor(t, dtype=torch.float64).expand(len(x))
        answer = self._problem.score(x.double(), times)
        self.rows += len(x)
        if self.first is None:
            self.first = x.detach().double().clone(), times.clone()
        self.last_t = float(times.min())
        return answer.to(x.dtype)


def draw(
    sampler: Sampler,
    problem: Problem,
    index: Tensor,
    *,
    seed: int,
    steps: int | None = None,
    global_seed: int = 0,
) -> Drawn:
    """Draw the samples `index` (B,) of a problem, in one batch.

    Args:
        sampler: The sampler.
        problem: The exact model.
        index: Sample indices, (B,) int64.
        seed: The random seed.
        steps: Number of steps; None: that of the sampler.
        global_seed: The seed of torch's global generator while the sampler runs.

    Raises:
        UsageError: The result is not a tensor of the shape of x_T, or nothing was evaluated.
    """
    noise = NoiseSource(seed, index, problem.shape[0])
    recorder = _Recorder(problem)
    x_T = problem.sde.prior_sampling(noise.block(index, torch.zeros_like(index)))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(global_seed)
        x = sampler.function(recorder, problem.sde, x_T, noise, steps or sampler.steps)
    if not isinstance(x, Tensor) or x.shape != x_T.shape:
        found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise UsageError(
            f"the sampler {sampler.name} returned {found}, not samples of shape {tuple(x_T.shape)}"
        )
    if recorder.first is None:
        raise UsageError(f"the sampler {sampler.name} did not evaluate the score")
    return Drawn(
        sde=problem.sde,
        x=x.detach().double(),
        calls=recorder.rows / len(index),
        first=recorder.first,
        last_t=recorder.last_t,
        stochastic=noise.used,
    )


def from_function(function: Callable[..., Tensor], *, name: str | None = None) -> Sampler:
    """A sampler from Python: f(score, sde, x_T, noise) or f(score, sde, x_T, noise, steps=N).

    Raises:
        UsageError: The object is not callable.
    """
    if not callable(function):
        raise UsageError(
            f"the sampler is {shown(function)}",
            hint="it must be the name of a solver, or a function f(score, sde, x_T, noise)",
        )
    parameter = inspect.signature(function).parameters.get("steps")
    has_default = parameter is not None and isinstance(parameter.default, int)
    default = parameter.default if has_default and parameter is not None else DEFAULT_STEPS

    def run(score: Score, sde: SDE, x_T: Tensor, noise: NoiseSource, steps: int | None) -> Tensor:
        arguments = {} if parameter is None else {"steps": steps}
        return function(score, sde, x_T, noise, **arguments)

    return Sampler(
        name=name or str(getattr(function, "__name__", type(function).__name__)),
        function=run,
        steps=None if parameter is None else default,
    )


def from_solver(solver: Solver, *, name: str | None = None) -> Sampler:
    """A solver of ours as a sampler; every row at its own step, as in the engine."""
    # With the steps that fit the budget `nfe`, which do not depend on the SDE.
    own_steps: int | None = getattr(solver.resolved(VPSDE()), "steps", None)

    def at(steps: int | None) -> Solver:
        changes = {} if steps is None else {"steps": steps, "nfe": None}
        return replace(solver, **changes)

    def run(score: Score, sde: SDE, x_T: Tensor, noise: NoiseSource, steps: int | None) -> Tensor:
        resolved = at(steps).resolved(sde)
        rows = resolved.start(x_T, noise.index, sde)
        slot = torch.arange(len(x_T))
        x = torch.full_like(x_T, torch.nan)
        for _ in range(MAX_CALLS):
            rows = resolved.step(rows, score, noise.block, sde)
            x[slot[rows.done]] = rows.x[rows.done]
            if rows.done.any():
                running = (~rows.done).nonzero().flatten()
                rows, slot = rows.take(running), slot[running]
            if not len(slot):
                return x
        raise SolveError(f"solver '{solver.name}' did not end after {MAX_CALLS:,} evaluations")

    return Sampler(
        name=name or solver.name,
        function=run,
        steps=own_steps,
        order=solver.order,
        nfe=lambda steps: at(steps).expected_nfe(),
    )
