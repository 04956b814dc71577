"""Measure the orders of convergence of the solvers: Gaussian data, exact score, float64.

`python tests/support/orders.py` prints the table. Deterministic solvers are compared with the exact
flow map. Stochastic solvers are compared with a very fine solve of high order on the same Brownian
path; for n steps its increments are merged to n. Adaptive solvers take equal steps. All solvers of
the table of solvers that state an order are measured; `pc`, `restart` and `er-sde-3` add noise that
belongs to no path of the reverse SDE.
"""

import math
from dataclasses import replace
from functools import cache

import scipy.stats
import torch

from ggf_cli.custom_sde import GaussianDiffusion
from ggf_cli.diffusions import EDM, CosineVPSDE, FlowMatching
from ggf_cli.solvers import SOLVERS, make_solver
from problems import MEAN, STD, SUBVP, VE, VP, gaussian_score, rms

FINEST = 2**10
ROWS, SIZE = 8, 16
STEPS = [32, 64, 256]
# For order 4 and higher: with more steps, round-off is larger than the error.
FEW_STEPS = [8, 16, 32, 64]

# End at t = 0.1. Near t = 0 the drift is stiff, and the order shows only with finer steps.
SDES = [replace(sde, t_eps=0.1) for sde in (VP, VE, SUBVP)]
# Likewise, and they start before drift and diffusion become steep at T. T is not 1 in any of them.
MORE_SDES = [
    CosineVPSDE(T=0.9, t_eps=0.1),
    EDM(sigma_min=0.4, sigma_max=4.0),
    FlowMatching(T=0.9, t_eps=0.1),
    GaussianDiffusion(lambda t: torch.exp(-t * t), lambda t: t, T=2.0, t_eps=0.1),
]

NAMES = [name for name, entry in SOLVERS.items() if entry.load().order is not None]


def randn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Path:
    """Standard normals for n equal steps along one Brownian path.

    Args:
        steps: n, a divisor of FINEST.
        time: Length of the path.
        blocks: Normals for each step: 1 gives the increment w; 2 give w and j, the average of the
            path over the step, as in `ggf_cli.solvers.brownian`.
    """

    def __init__(self, steps, time, blocks=1):
        self.h, fine, merged = time / steps, time / FINEST, FINEST // steps
        w = math.sqrt(fine) * randn(FINEST, ROWS, SIZE, seed=1)
        j = w / 2 + math.sqrt(fine / 12) * randn(FINEST, ROWS, SIZE, seed=2)
        w, j = (v.reshape(steps, merged, ROWS, SIZE) for v in (w, j))
        self.w = w.sum(1)
        self.j = (w.cumsum(1) - w + j).mean(1)
        z = self.w / math.sqrt(self.h)
        z_1 = self.j * math.sqrt(3 / self.h)
        self.z = torch.stack([z_1, 2 * z - math.sqrt(3) * z_1] if blocks == 2 else [z], 1)
        self.z = self.z.flatten(0, 1)

    def __call__(self, index, draw):
        return self.z[torch.clamp(draw - 1, max=len(self.z) - 1), index]


def prior(sde):
    return sde.prior_std * randn(ROWS, SIZE, seed=0)


def solve(name, sde, steps, **options):
    """x at t_eps after equal steps in t or, for deterministic solvers, in their own variable."""
    cls = SOLVERS[name].load()
    if cls.adaptive:
        # These tolerances accept every step.
        options = {"eps_rel": 1e9, "eps_abs": 1e9, **options}
        if name == "dpm-adaptive":
            options["accept_safety"] = 0.1
    else:
        options = {"steps": steps, **({"schedule": "time"} if cls.kind == "sde" else {}), **options}
    solver, score = make_solver(name, {"denoise": False, **options}), gaussian_score(sde)
    noise = Path(steps, sde.T - sde.t_eps, blocks=2 if name.startswith("sra") else 1)
    rows = solver.start(prior(sde), torch.arange(ROWS), sde)
    while not rows.done.all():
        rows = solver.step(held(rows, sde, steps) if cls.adaptive else rows, score, noise, sde)
    assert (rows.accepted == steps).all()
    return rows.x


def held(rows, sde, steps):
    """The rows with their next step size set to one of `steps` equal steps."""
    variable = sde.half_log_snr if hasattr(rows, "noise_hat") else lambda t: -t
    start, end = variable(torch.tensor([sde.T, sde.t_eps], dtype=torch.float64))
    h, remaining = (end - start) / steps, end - variable(rows.t)
    # The last step must end exactly at t_eps, although h is rounded.
    return replace(rows, h=torch.where(remaining < 1.5 * h, remaining * (1 + 1e-12), h))


def flow(sde, x):
    """The exact probability flow of x from T to t_eps: standardised data do not change."""
    t = torch.tensor([sde.T, sde.t_eps], dtype=torch.float64)
    mean, alpha = MEAN * sde.alpha(t), sde.alpha(t)
    std = torch.sqrt((alpha * STD).square() + sde.sigma(t).square())
    return mean[1] + std[1] * (x - mean[0]) / std[0]


@cache
def solution(kind, sde):
    """The reference for x at t_eps."""
    return flow(sde, prior(sde)) if kind == "ode" else solve("sra3", sde, FINEST)


def errors(name, sde, **options):
    """The errors, {steps: distance to the reference}."""
    cls = SOLVERS[name].load()
    expected = solution(cls.kind, sde)
    counts = FEW_STEPS if cls.order >= 4 else STEPS
    return {steps: rms(solve(name, sde, steps, **options) - expected) for steps in counts}


def slope(errors):
    """The fitted order, from the errors that are larger than round-off."""
    kept = [(n, e) for n, e in errors.items() if e > 1e-12]
    n, e = torch.tensor(kept, dtype=torch.float64).log2().T
    return float(scipy.stats.linregress(-n, e).slope)


def main():
    """Print the table of orders."""
    sdes = [*SDES, *MORE_SDES]
    print("| solver | solves | order | " + " | ".join(sde.name.upper() for sde in sdes) + " |")
    print("|---|---|---|" + "---|" * len(sdes))
    for name in NAMES:
        cls = SOLVERS[name].load()
        slopes = " | ".join(f"{slope(errors(name, sde)):.2f}" for sde in sdes)
        print(f"| `{name}` | {cls.kind.upper()} | {cls.order:g} | {slopes} |")


if __name__ == "__main__":
    main()
