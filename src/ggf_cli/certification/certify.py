"""`certify`: run all checks on a sampler, and conclude."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ggf_cli import __version__
from ggf_cli.certification.batch import check_batch
from ggf_cli.certification.convergence import check_order
from ggf_cli.certification.documents import Certificate, Check, Status, worst
from ggf_cli.certification.ends import check_evaluations, check_noise_left
from ggf_cli.certification.marginals import check_marginals
from ggf_cli.certification.problems import PLANE, SDES, gaussian, mixture
from ggf_cli.certification.resolve import resolve
from ggf_cli.certification.samplers import Sampler, from_function, from_solver
from ggf_cli.errors import SolveError
from ggf_cli.registry import SDE_TITLES
from ggf_cli.scalars import as_float, as_int
from ggf_cli.sde import SDE
from ggf_cli.solvers.base import Solver


def certify(
    sampler: str | Solver | Sampler | Callable[..., Tensor],
    *,
    n: int = 4000,
    seed: int = 0,
    dimension: int = PLANE,
    steps: int | None = None,
    order: float | None = None,
    nfe: int | None = None,
    on_check: Callable[[Check], None] = lambda check: None,
) -> Certificate:
    """Check whether a sampler is right, on models whose distribution is known exactly.

    Args:
        sampler: A solver of ours, by name ("adaptive", "em:steps=200") or as an object; a scheduler
            of diffusers ("diffusers:DPMSolverMultistepScheduler"); a function of k-diffusion
            ("k-diffusion:sample_heun"); or a function f(score, sde, x_T, noise) -> x, with a
            parameter `steps` if it has a number of steps.
        n: Samples of each distribution, >= 1000.
        seed: The random seed.
        dimension: Numbers of a sample, >= 2. Step size control that rejects steps can be biased in
            low dimension only, because there its error estimate follows the noise.
        steps: Number of steps at which the samples are tested; None: that of the sampler.
        order: The order that the sampler claims; None: that of the solver.
        nfe: The evaluations of a sample that it claims; None: those of the solver.
        on_check: Called after every check.

    Raises:
        UsageError: No sampler has this name, or a value is out of range.
    """
    n = as_int(n, "n", low=1000, high=10_000_000)
    seed = as_int(seed, "seed", low=0, high=2**62)
    dimension = as_int(dimension, "dimension", low=PLANE, high=4096)
    chosen = _with_claims(_as_sampler(sampler), steps, order, nfe)
    checks = []
    threads = torch.get_num_threads()
    # Samples of a few numbers are slower with more threads.
    torch.set_num_threads(1)
    try:
        for check in _checks(chosen, n, dimension, seed):
            checks.append(check)
            on_check(check)
    finally:
        torch.set_num_threads(threads)
    return _conclude(chosen, checks, n, dimension, seed)


def _as_sampler(sampler: str | Solver | Sampler | Callable[..., Tensor]) -> Sampler:
    if isinstance(sampler, Sampler):
        return sampler
    if isinstance(sampler, str):
        return resolve(sampler)
    return from_solver(sampler) if isinstance(sampler, Solver) else from_function(sampler)


def _with_claims(
    sampler: Sampler, steps: int | None, order: float | None, nfe: int | None
) -> Sampler:
    if steps is not None:
        sampler = sampler.with_steps(as_int(steps, "steps", low=1, high=1_000_000))
    if order is not None:
        sampler = replace(sampler, order=as_float(order, "order", above=0, high=100))
    if nfe is not None:
        claim = as_int(nfe, "nfe", low=1)
        sampler = replace(sampler, nfe=lambda steps: claim)
    return sampler


def _checks(sampler: Sampler, n: int, dimension: int, seed: int) -> Iterator[Check]:
    for name in sampler.sdes:
        sde: SDE = SDES[name]
        simple, several = gaussian(sde, dimension), mixture(sde, dimension)
        checks, drawn = check_marginals(sampler, simple, n=n, seed=seed)
        yield from checks
        yield from check_marginals(sampler, several, n=n, seed=seed)[0]
        yield check_noise_left(sampler, sde, seed=seed)
        yield check_evaluations(sampler, simple.title, drawn)
        yield check_order(sampler, sde, stochastic=drawn.stochastic, seed=seed)
        yield check_batch(sampler, several, seed=seed)


def _conclude(
    sampler: Sampler, checks: list[Check], n: int, dimension: int, seed: int
) -> Certificate:
    """The certificate. An order that is undecided does not make the sampler undecided."""
    status = worst([c.status for c in checks if c.name != "order" or c.status == "wrong"])
    return Certificate(
        ggf=__version__,
        sampler=sampler.name,
        status=status,
        sentence=_sentence(sampler, status, checks, dimension),
        exit_code=SolveError.exit_code if status == "wrong" else 0,
        n=n,
        dimension=dimension,
        seed=seed,
        steps=sampler.steps,
        claimed_order=sampler.order,
        checks=checks,
    )


def _sentence(sampler: Sampler, status: Status, checks: list[Check], dimension: int) -> str:
    where = " and ".join(SDE_TITLES[sde] for sde in sampler.sdes)
    told = sampler.steps is None or "steps=" in sampler.name
    subject = sampler.name if told else f"{sampler.name} with {sampler.steps} steps"
    text = f"{subject} is {status} on exact models ({where}) in {dimension} dimensions"
    if status != "right":
        reasons = "; ".join(
            f"{c.name}, {c.problem}: {c.summary}" for c in checks if c.status == status
        )
        return f"{text}: {reasons}."
    orders = [c for c in checks if c.name == "order" and c.status != "not applicable"]
    found = [
        f"{c.summary.split(',')[0]} on {c.problem.split(', ')[1]}"
        for c in orders
        if c.status == "right"
    ]
    missing = [c.problem.split(", ")[1] for c in orders if c.status == "undecided"]
    if found:
        text += f", with {' and '.join(found)}"
    if missing:
        text += f"; its order on {' and '.join(missing)} is undecided"
    return f"{text}."
