"""Orders of convergence for Gaussian data with the exact score, in float64; `python tests/orders.py` prints the table.

Deterministic solvers against the exact flow map; stochastic ones on one shared Brownian path, of which n steps see the
increments merged to n, against a very fine improved Euler solve. Every solver with a fixed number of steps is here by
being in the table of solvers; `pc` and `restart` add noise that belongs to no path.
"""

from dataclasses import replace
from functools import cache

import scipy.stats
import torch

from ggf_cli.solvers import SOLVERS, make_solver
from ggf_cli.solvers.adaptive import Adaptive
from ggf_cli.solvers.fixed import FixedStep
from problems import MEAN, STD, SUBVP, VE, VP, gaussian_score

FINEST = 2**11
ROWS, SIZE = 8, 16
STEPS = [32, 64, 128, 256]

# End early: near t = 0 the drift is stiff, and the order shows at finer steps only.
SDES = [replace(sde, t_eps=0.1) for sde in (VP, VE, SUBVP)]

NAMES = [
    name
    for name, entry in SOLVERS.items()
    if issubclass(entry.load(), FixedStep) and entry.load().order is not None
]


class Path:
    """Standard normals for n equal steps along one Brownian path."""

    def __init__(self, steps):
        fine = torch.randn(
            FINEST, ROWS, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )
        merged = FINEST // steps
        self.z = fine.reshape(steps, merged, ROWS, SIZE).sum(1) / merged**0.5

    def __call__(self, index, draw):
        step = torch.clamp(draw - 1, max=len(self.z) - 1)
        return self.z[step, index]


def prior(sde):
    generator = torch.Generator().manual_seed(1)
    return sde.prior_std * torch.randn(ROWS, SIZE, generator=generator, dtype=torch.float64)


def solve(name, sde, steps):
    """x at t_eps after so many equal steps in t."""
    options = {"schedule": "time"} if SOLVERS[name].load().kind == "sde" else {}
    solver = make_solver(name, {"steps": steps, "denoise": False, **options})
    noise, score = Path(steps), gaussian_score(sde)
    rows = solver.start(prior(sde), torch.arange(ROWS), sde)
    while not rows.done.all():
        rows = solver.step(rows, score, noise, sde)
    return rows.x


@cache
def solve_improved_euler(sde, steps):
    """The adaptive solver with its step size held fixed."""
    solver = Adaptive(eps_rel=1e9, eps_abs=1e9, denoise=False)
    noise, score = Path(steps), gaussian_score(sde)
    rows = solver.start(prior(sde), torch.arange(ROWS), sde)
    h = (sde.T - sde.t_eps) / steps
    while not rows.done.all():
        # the last step must land on t_eps although h was rounded
        remaining = rows.t - sde.t_eps
        rows = replace(rows, h=torch.where(remaining < 1.5 * h, remaining, h))
        rows = solver.step(rows, score, noise, sde)
    assert (rows.accepted == steps).all()
    return rows.x


def flow(sde, x):
    """Where the probability flow takes x from T to t_eps: standardised data stay what they are."""
    t = torch.tensor([sde.T, sde.t_eps], dtype=torch.float64)
    mean, alpha = MEAN * sde.alpha(t), sde.alpha(t)
    std = torch.sqrt((alpha * STD).square() + sde.sigma(t).square())
    return mean[1] + std[1] * (x - mean[0]) / std[0]


def rms(x):
    return float(x.square().mean().sqrt())


def errors(name, sde):
    """Distance to the solution for each of STEPS."""
    if SOLVERS[name].load().kind == "ode":
        solution = flow(sde, prior(sde))
    else:
        solution = solve_improved_euler(sde, FINEST)
    return [rms(solve(name, sde, steps) - solution) for steps in STEPS]


def slope(errors):
    """The order at which errors fall, where round-off does not yet rule."""
    kept = [(n, e) for n, e in zip(STEPS, errors, strict=True) if e > 1e-11]
    n, e = torch.tensor(kept, dtype=torch.float64).log2().T
    return float(scipy.stats.linregress(-n, e).slope)


def main():
    print("| solver | solves | order | " + " | ".join(sde.name.upper() for sde in SDES) + " |")
    print("|---|---|---|" + "---|" * len(SDES))
    for name in NAMES:
        cls = SOLVERS[name].load()
        slopes = " | ".join(
            f"{slope(errors(name, sde)):.2f}" if sde.name in cls.sdes else "–" for sde in SDES
        )
        print(f"| `{name}` | {cls.kind.upper()} | {cls.order:g} | {slopes} |")


if __name__ == "__main__":
    main()
