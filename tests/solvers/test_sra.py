"""SRA1 and SRA3: parity with torchsde, order conditions, and Brownian paths after rejections."""

import math
from dataclasses import replace

import pytest
import torch
import torchsde
from torchsde._core.methods.tableaus import sra1, sra3

import ggf_cli
from ggf_cli.engine import Engine
from ggf_cli.noise import Noise
from ggf_cli.sde import VESDE
from ggf_cli.solvers.brownian import Span, extend
from ggf_cli.solvers.sra import SRA1, SRA3
from orders import ROWS, SIZE, Path, prior, randn, rms, solve
from problems import VP, each_sde, every_sde, gaussian_model, gaussian_score

every_scheme = pytest.mark.parametrize("scheme", [SRA1, SRA3])


class Reverse(torchsde.SDEIto):
    """The reverse SDE in the form of torchsde, in the time s = T - t."""

    def __init__(self, sde):
        super().__init__(noise_type="additive")
        self.sde = sde

    def f(self, s, x):
        t = (self.sde.T - s).expand(len(x))
        return -self.sde.reverse_drift(x, t, gaussian_score(self.sde)(x, t))

    def g(self, s, x):
        g = self.sde.diffusion((self.sde.T - s).expand(len(x)))
        return g[:, None, None] * torch.eye(SIZE, dtype=x.dtype)


class Brownian(torchsde.BaseBrownian):
    """A `Path` in the form of torchsde: increment and integral."""

    dtype, device, shape = torch.float64, torch.device("cpu"), (ROWS, SIZE)
    levy_area_approximation = "space-time"

    def __init__(self, path):
        self.path = path

    def __call__(self, ta, tb=None, return_U=False, return_A=False):
        step = round(float(ta) / self.path.h)
        return self.path.w[step], self.path.h * self.path.j[step]

    def __repr__(self):
        return "Brownian"


@every_sde
def test_sra1_takes_the_steps_of_torchsdes_srk(sde):
    """The same scheme on the same path, in 32 steps."""
    sde = replace(sde, t_eps=0.1)
    path = Path(32, sde.T - sde.t_eps)
    expected = torchsde.sdeint(
        Reverse(sde),
        prior(sde),
        torch.tensor([0.0, sde.T - sde.t_eps], dtype=torch.float64),
        bm=Brownian(path),
        method="srk",
        dt=path.h * (1 + 1e-12),
    )[-1]
    torch.testing.assert_close(solve("sra1", sde, 32), expected, rtol=0, atol=1e-8)


@every_scheme
def test_the_coefficients_satisfy_roesslers_order_conditions(scheme):
    """Rößler 2010, for strong order 1.5 with additive noise, as listed in StochasticDiffEq.jl."""
    a, b, c0, c1, alpha, beta1, beta2 = (
        torch.tensor(v, dtype=torch.float64) for v in scheme.tableau
    )
    assert torch.equal(a.sum(1), c0)
    for value, expected in [
        (alpha.sum(), 1),
        (beta1.sum(), 1),
        (beta2.sum(), 0),
        (beta1 @ c1, 1),
        (beta2 @ c1, -1),
        (alpha @ c0, 1 / 2),
        (alpha @ b.sum(1), 1),
        (alpha @ b.sum(1).square(), 3 / 2),
    ]:
        assert float(value) == pytest.approx(expected)


def test_the_tableaus_are_those_of_torchsde():
    """Except for the sign of beta2 of SRA3.

    That of torchsde, which does not use it, violates the order conditions.
    """
    for scheme, module in ((SRA1, sra1), (SRA3, sra3)):
        ours, theirs = scheme.tableau, module
        for mine, published in ((ours.a, theirs.A0), (ours.b, theirs.B0)):
            assert all(row[: len(p)] == p for row, p in zip(mine, published, strict=True))
            assert all(not any(row[len(p) :]) for row, p in zip(mine, published, strict=True))
        published = (theirs.C0, theirs.C1, theirs.alpha, theirs.beta1)
        assert (ours.c0, ours.c1, ours.alpha, ours.beta1) == published
    assert SRA1.tableau.beta2 == sra1.beta2
    assert SRA3.tableau.beta2 == tuple(-v for v in sra3.beta2)


@every_sde
@every_scheme
@pytest.mark.parametrize("denoise", [True, False])
def test_a_rejection_keeps_the_evaluation_of_the_first_stage(sde, scheme, denoise):
    solver = scheme(eps_rel=0.5, h_init=0.5, denoise=denoise)
    stages = len(scheme.tableau.alpha)
    finished = list(Engine(gaussian_model(sde), solver, batch_size=4).run(range(6)))
    assert all(f.rejected > 0 for f in finished)
    for f in finished:
        assert f.nfe == stages * f.accepted + (stages - 1) * f.rejected + denoise
        assert f.t == sde.t_eps


def walk(solver, rows, sde, noise):
    """Solve; yield the rows and the part of the path of every accepted step."""
    while not rows.done.all():
        before = rows
        rows = solver.step(rows, gaussian_score(sde), noise, sde)
        z = noise(before.index, before.draws), noise(before.index, before.draws + 1)
        seen = Span(before.seen_h, before.seen_w, before.seen_j)
        if rows.accepted > before.accepted:
            yield rows, extend(seen, before.h, *z)[0]


def refine(span, pieces, noise, index):
    """Divide a part of a path into equal pieces. Unknown values are drawn from `noise`."""
    h = span.h / pieces
    for left in range(pieces, 1, -1):
        z = noise(index, index * 0 + 2 * left), noise(index, index * 0 + 2 * left + 1)
        piece, _, span = extend(span, h, *z)
        yield piece
    yield span


@each_sde()
@every_scheme
def test_error_falls_with_the_tolerance(sde, scheme):
    """Against a solve on the same path with steps four times as short; one sample of 64 pixels."""
    noise = Noise(seed=0, shape=(64,), dtype=torch.float64)
    index = torch.tensor([0])
    x = sde.prior_sampling(noise(index, index))
    exact = SRA3(eps_rel=1e9, eps_abs=1e9, denoise=False)
    errors = []
    for eps in (2.0, 0.6, 0.2):
        solver = scheme(eps_rel=eps, eps_abs=eps / 4, denoise=False)
        fine = exact.start(x, index, sde)
        steps = list(walk(solver, solver.start(x, index, sde), sde, noise))
        for step, (_, span) in enumerate(steps):
            other = Noise(seed=1 + step, shape=(64,), dtype=torch.float64)
            for piece in refine(span, 4, other, index):
                seen = {"seen_h": piece.h, "seen_w": piece.w, "seen_j": piece.j}
                fine, taken = replace(fine, h=piece.h, **seen), int(fine.accepted)
                while int(fine.accepted) == taken:
                    fine = exact.step(fine, gaussian_score(sde), noise, sde)
        assert float(fine.t) == pytest.approx(sde.t_eps, abs=1e-12)
        errors.append(rms(steps[-1][0].x - fine.x))
    assert errors[0] > 1.5 * errors[1] > 3 * errors[2]


def test_the_published_error_estimate_takes_many_more_steps():
    """The estimate "sum" is as large as the drift, so steps are as small as the tolerance."""
    model = gaussian_model(replace(VP, t_eps=0.5))
    euler, everything = (
        ggf_cli.sample(model, 2, solver=SRA3(estimate=estimate, eps_rel=0.05)).nfe.sum()
        for estimate in ("euler", "sum")
    )
    assert everything > 3 * euler


def brownian(seen_h, seen_w, seen_j, h, seed):
    """`extend` for many rows, with noise from `seed`."""
    rows = len(seen_w)
    seen = Span(torch.full((rows,), seen_h, dtype=torch.float64), seen_w, seen_j)
    target = torch.full((rows,), h, dtype=torch.float64)
    return extend(seen, target, randn(rows, 1, seed=seed), randn(rows, 1, seed=seed + 1))


def moments(span):
    return torch.cov(torch.cat([span.w, span.j], 1).T)


def law(h):
    """Covariance of the increment and the average of a Brownian path over h."""
    return torch.tensor([[h, h / 2], [h / 2, h / 3]], dtype=torch.float64)


@pytest.mark.parametrize("h", [0.05, 0.3, 0.69, 1.1])
def test_the_path_stays_brownian_after_rejections(h):
    """After a step of 0.7 is rejected, a step of h: all parts have the law of a Brownian path."""
    rows = 200_000
    zero = torch.zeros(rows, 1, dtype=torch.float64)
    first, _, _ = brownian(0.0, zero, zero, 0.7, seed=0)
    path, stay, go = brownian(0.7, first.w, first.j, h, seed=2)
    tolerance = {"rtol": 0.02, "atol": 2e-3}
    torch.testing.assert_close(moments(path), law(h), **tolerance)
    torch.testing.assert_close(moments(stay), law(max(h, 0.7)), **tolerance)
    if h < 0.7:
        assert torch.equal(stay.w, first.w)
        torch.testing.assert_close(moments(go), law(0.7 - h), **tolerance)
        # The rest is independent of the part; together they are the path seen before.
        joint = torch.cov(torch.cat([path.w, path.j, go.w, go.j], 1).T)[:2, 2:]
        assert joint.abs().max() < 2e-3
        torch.testing.assert_close(path.w + go.w, first.w)
        integral = h * path.j + (0.7 - h) * (path.w + go.j)
        torch.testing.assert_close(integral, 0.7 * first.j)
    else:
        assert float(go.h.abs().max()) == 0
        both = torch.cov(torch.cat([path.w, first.w], 1).T)[0, 1]
        assert float(both) == pytest.approx(0.7, rel=0.02)


def accepted_noise(forget):
    """Variance per unit of time of the accepted increments, and its standard error.

    The solve has many rejections. With a drift of 0 and one pixel, acceptance depends on the noise
    only.
    """
    sde, rows_n = VESDE(t_eps=0.1), 20_000
    noise = Noise(seed=1, shape=(1,), dtype=torch.float64)
    solver = SRA1(eps_rel=1e-9, eps_abs=20.0, h_init=0.1, denoise=False)
    x = torch.zeros(rows_n, 1, dtype=torch.float64)
    rows, total = solver.start(x, torch.arange(rows_n), sde), torch.zeros_like(x)
    while not rows.done.all():
        before = rows
        rows = solver.step(rows, lambda x, t: torch.zeros_like(x), noise, sde)
        seen = Span(before.seen_h, before.seen_w, before.seen_j)
        z = noise(before.index, before.draws), noise(before.index, before.draws + 1)
        taken = (rows.accepted > before.accepted)[:, None]
        total = torch.where(taken, total + extend(seen, before.h, *z)[0].w, total)
        if forget:
            empty = {f"seen_{v}": torch.zeros_like(getattr(rows, f"seen_{v}")) for v in "hwj"}
            rows = replace(rows, **empty)
    assert float(rows.rejected.double().mean()) > 0.5
    return float(total.var()) / (sde.T - sde.t_eps), math.sqrt(2 / rows_n)


def test_noise_is_not_selected_by_acceptance():
    """The variance is right if the path is kept after a rejection.

    With fresh noise, as in the paper, it is too small.
    """
    variance, error = accepted_noise(forget=False)
    assert variance == pytest.approx(1, abs=4 * error)
    variance, error = accepted_noise(forget=True)
    assert variance < 0.9


@every_sde
@every_scheme
def test_a_sample_is_the_same_in_any_batch(sde, scheme):
    solver = scheme(eps_rel=0.5)
    few = ggf_cli.sample(gaussian_model(sde), [3, 1], solver=solver, batch_size=2)
    many = ggf_cli.sample(gaussian_model(sde), 9, solver=solver, batch_size=4)
    assert torch.equal(few.images, many.images[[3, 1]])
    assert torch.equal(few.nfe, many.nfe[[3, 1]])
