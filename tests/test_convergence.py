"""Order of convergence on one shared Brownian path, and the right limit, in float64.

Reverse SDE of Gaussian data with the exact score. All runs see the same path: n steps use sums of its finest
increments. Additive noise, so both methods have strong order 1 (Heun with a smaller constant).
"""

from dataclasses import replace

import pytest
import scipy.stats
import torch

from ggf_cli.solvers.adaptive import Adaptive
from ggf_cli.solvers.euler_maruyama import EulerMaruyama
from problems import VE, VP, gaussian_score

FINEST = 2**12
ROWS, SIZE = 8, 16
STEPS = [32, 64, 128, 256, 512]

# End early: near t = 0 the VE drift is stiff, and the order shows at finer steps only.
SDES = [replace(VP, t_eps=0.1), replace(VE, t_eps=0.1)]


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


def solve_em(sde, steps):
    solver, noise, score = (
        EulerMaruyama(steps=steps, denoise=False),
        Path(steps),
        gaussian_score(sde),
    )
    rows = solver.start(prior(sde), torch.arange(ROWS), sde)
    while not rows.done.all():
        rows = solver.step(rows, score, noise, sde)
    return rows.x


def solve_heun(sde, steps):
    """The adaptive solver with its step size held fixed: improved Euler."""
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


def rms(x):
    return float(x.square().mean().sqrt())


@pytest.mark.parametrize("sde", SDES, ids=["vp", "ve"])
def test_strong_order_on_a_shared_path(sde):
    reference = solve_heun(sde, FINEST)
    em = torch.tensor([rms(solve_em(sde, n) - reference) for n in STEPS])
    heun = torch.tensor([rms(solve_heun(sde, n) - reference) for n in STEPS])
    exponents = -torch.log2(torch.tensor(STEPS, dtype=torch.float64))
    for errors in (em, heun):
        slope = scipy.stats.linregress(exponents, torch.log2(errors)).slope
        assert slope == pytest.approx(1, abs=0.2)
    assert (heun < em / 2).all()


@pytest.mark.parametrize("sde", SDES, ids=["vp", "ve"])
def test_both_methods_have_the_same_limit(sde):
    """Converging to the wrong thing has an order too."""
    exact_scale = rms(solve_heun(sde, FINEST))
    assert rms(solve_em(sde, FINEST) - solve_heun(sde, FINEST)) < 5e-3 * exact_scale
