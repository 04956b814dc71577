"""`certify`: run all checks on a sampler, and conclude."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ggf_cli import __version__
from ggf_cli.certification.batch import check_batch
from ggf_cli.certification.convergence import check_order
from ggf_cli.certification.documents import Certificate, Check, worst
from ggf_cli.certification.ends import check_evaluations, check_noise_left
from ggf_cli.certification.marginals import check_marginals
from ggf_cli.certification.problems import SDES, gaussian, mixture
from ggf_cli.certification.resolve import resolve
from ggf_cli.certification.samplers import Sampler, from_function, from_solver
from ggf_cli.errors import SolveError
from ggf_cli.scalars import as_float, as_int
from ggf_cli.sde import SDE
from ggf_cli.solvers.base import Solver


def certify(
    sampler: str | Solver | Sampler | Callable[..., Tensor],
    *,
    n: int = 4000,
    seed: int = 0,
    steps: int | None = None,
    order: float | None = None,
    nfe: int | None = None,
    on_check: Callable[[Check], None] = lambda check: None,
) -> Certificate:
    """Check whether a sampler is right, on models whose distribution is known exactly.

    Args:
        sampler: A solver of ours, by name ("adaptive", "em:steps=200") or as an object; a scheduler
            of diffusers ("diffusers:DPMSolverMultistepScheduler"); or a function
            f(score, sde, x_T, noise) -> x, with a parameter `steps` if it has a number of steps.
        n: Samples of each distribution, >= 1000.
        seed: The random seed.
        steps: Number of steps at which the samples are tested; None: that of the sampler.
        order: The order that the sampler claims; None: that of the solver.
        nfe: The evaluations of a sample that it claims; None: those of the solver.
        on_check: Called after every check.

    Raises:
        UsageError: No sampler has this name, or a value is out of range.
    """
    n = as_int(n, "n", low=1000, high=10_000_000)
    seed = as_int(seed, "seed", low=0, high=2**62)
    chosen = _with_claims(_as_sampler(sampler), steps, order, nfe)
    checks = []
    threads = torch.get_num_threads()
    # Samples of a few numbers are slower with more threads.
    torch.set_num_threads(1)
    try:
        for check in _checks(chosen, n, seed):
            checks.append(check)
            on_check(check)
    finally:
        torch.set_num_threads(threads)
    return _conclude(chosen, checks, n, seed)


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


def _checks(sampler: Sampler, n: int, seed: int) -> Iterator[Check]:
    for name in sampler.sdes:
        sde: SDE = SDES[name]
        simple = gaussian(sde)
        checks, drawn = check_marginals(sampler, simple, n=n, seed=seed)
        yield from checks
        several, _ = check_marginals(sampler, mixture(sde), n=n, seed=seed)
        yield from several
        yield check_noise_left(sampler, sde, seed=seed)
        yield check_evaluations(sampler, simple.title, drawn)
        yield check_order(sampler, sde, stochastic=drawn.stochastic, seed=seed)
        yield check_batch(sampler, mixture(sde), seed=seed)


def _conclude(sampler: Sampler, checks: list[Check], n: int, seed: int) -> Certificate:
    """The certificate; an order or a count that is undecided does not make a sampler undecided."""
    status = worst([c.status for c in checks if c.name != "order" or c.status == "wrong"])
    return Certificate(
        ggf=__version__,
        sampler=sampler.name,
        status=status,
        sentence=_sentence(sampler, status, checks),
        exit_code=SolveError.exit_code if status == "wrong" else 0,
        n=n,
        seed=seed,
        steps=sampler.steps,
        claimed_order=sampler.order,
        checks=checks,
    )


def _sentence(sampler: Sampler, status: str, checks: list[Check]) -> str:
    where = " and ".join(sde.upper() for sde in sampler.sdes)
    steps = f" with {sampler.steps} steps" if sampler.steps is not None else ""
    named = {
        kind: "; ".join(f"{c.name} ({c.problem}): {c.summary}" for c in checks if c.status == kind)
        for kind in ("wrong", "undecided")
    }
    if status == "wrong":
        return f"{sampler.name}{steps} is wrong on exact models: {named['wrong']}."
    if status == "undecided":
        return f"{sampler.name}{steps} is undecided on exact models: {named['undecided']}."
    text = f"{sampler.name}{steps} is right on exact models ({where})"
    orders = [c for c in checks if c.name == "order"]
    if orders and all(c.status == "right" for c in orders):
        kinds = sorted({c.summary.split(",")[0] for c in orders})
        return f"{text}, with {' and '.join(kinds)}."
    if any(c.status == "undecided" for c in orders):
        return f"{text}; its order is undecided."
    return f"{text}."
