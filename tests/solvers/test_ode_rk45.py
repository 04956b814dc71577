"""ode-rk45: parity with scipy, errors, evaluations and denoising."""

import pytest
import torch
from scipy.integrate import solve_ivp

import ggf_cli
from ggf_cli.engine import Engine
from ggf_cli.solvers.ode_rk45 import OdeRK45
from orders import flow, rms
from problems import VE, VP, every_sde, gaussian_model, gaussian_score, prior


@every_sde
def test_takes_the_steps_of_scipy(sde):
    """Same accepted times, states and number of evaluations, at the default tolerances."""
    score, x = gaussian_score(sde), prior(sde)

    def slope(t, y):
        y, t = torch.from_numpy(y)[None], torch.tensor([t], dtype=torch.float64)
        f, g = sde.drift(y, t), sde.diffusion(t)
        return (f - g**2 / 2 * score(y, t))[0].numpy()

    expected = solve_ivp(
        slope, (sde.T, sde.t_eps), x[0].numpy(), method="RK45", rtol=1e-5, atol=1e-5
    )

    solver, evaluations = OdeRK45(denoise=False), 0
    rows = solver.start(x, torch.zeros(1, dtype=torch.int64), sde)
    times, states = [sde.T], [rows.x]
    while not rows.done.all():
        rows = solver.step(rows, score, None, sde)
        evaluations += 1
        if rows.accepted == len(times):
            times.append(float(rows.t))
            states.append(rows.x)

    assert evaluations == expected.nfev
    assert times == pytest.approx(expected.t, rel=0, abs=1e-7)
    torch.testing.assert_close(
        torch.cat(states), torch.from_numpy(expected.y.T.copy()), rtol=0, atol=1e-7
    )
    attempts = (expected.nfev - 2) / 6
    assert int(rows.rejected) == attempts - (len(expected.t) - 1)
    if sde is not VE:
        # The solve must contain a rejection.
        assert int(rows.rejected) > 0


@every_sde
def test_error_falls_with_the_tolerance(sde):
    errors = []
    for eps in (1e-3, 1e-5, 1e-7):
        solver = OdeRK45(eps_rel=eps, eps_abs=eps, denoise=False)
        rows = solver.start(prior(sde), torch.zeros(1, dtype=torch.int64), sde)
        while not rows.done.all():
            rows = solver.step(rows, gaussian_score(sde), None, sde)
        errors.append(rms(rows.x - flow(sde, prior(sde))))
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[-1] < 1e-5


@every_sde
@pytest.mark.parametrize("denoise", [True, False])
def test_an_attempt_costs_six_evaluations_and_the_denoising_none(sde, denoise):
    engine = Engine(gaussian_model(sde), OdeRK45(denoise=denoise), batch_size=3)
    finished = list(engine.run(range(5)))
    for f in finished:
        assert f.nfe == 2 + 6 * (f.accepted + f.rejected)
        assert f.t == sde.t_eps
    assert sum(f.nfe for f in finished) <= engine.progress.rows_evaluated


def test_denoising_is_the_tweedie_step_at_t_eps():
    rows = {}
    for denoise in (True, False):
        solver = OdeRK45(denoise=denoise)
        rows[denoise] = solver.start(prior(VP), torch.zeros(1, dtype=torch.int64), VP)
        while not rows[denoise].done.all():
            rows[denoise] = solver.step(rows[denoise], gaussian_score(VP), None, VP)
    end = rows[False]
    expected = VP.tweedie_denoise(end.x, end.t, gaussian_score(VP)(end.x, end.t))
    torch.testing.assert_close(rows[True].x, expected, rtol=0, atol=1e-12)
    assert not torch.equal(end.x, expected)


@every_sde
def test_a_sample_is_the_same_in_any_batch(sde):
    """Each row has its own step size and error; no row waits for another."""
    model = gaussian_model(sde)
    few = ggf_cli.sample(model, [3, 1], solver="ode-rk45", batch_size=2, eps_rel=1e-6)
    many = ggf_cli.sample(model, 9, solver="ode-rk45", batch_size=4, eps_rel=1e-6)
    assert torch.equal(few.images, many.images[[3, 1]])
    assert torch.equal(few.nfe, many.nfe[[3, 1]])
