"""dpm-adaptive: parity with k-diffusion, errors, evaluations and noise."""

import json

import pytest
import torch

import ggf_cli
from ggf_cli.engine import Engine
from ggf_cli.noise import Noise
from ggf_cli.solvers.dpm_adaptive import DPMAdaptive
from orders import flow, rms
from paths import DATA
from problems import SUBVP, VE, VP, each_sde, every_sde, gaussian_model, gaussian_score, prior

TRACE = json.loads((DATA / "k_diffusion.json").read_text())

every_order = pytest.mark.parametrize("order", [2, 3])


def solve(solver, sde, noise=None):
    rows = solver.start(prior(sde), torch.zeros(1, dtype=torch.int64), sde)
    while not rows.done.all():
        rows = solver.step(rows, gaussian_score(sde), noise, sde)
    return rows


@pytest.mark.parametrize(
    "trace",
    TRACE["runs"],
    ids=lambda r: f"{r['sde']}-{r['solver_order']}-eta{r['eta']:g}{'-pid' * ('pcoeff' in r)}",
)
def test_follows_k_diffusion_step_by_step(trace):
    """With the same noise, in float64.

    After every attempt log(alpha / sigma) and the counts are equal, and at t_eps the state.
    """
    trace = dict(trace)
    attempts, expected = trace.pop("attempts"), torch.tensor(trace.pop("x"), dtype=torch.float64)
    sde = {"vp": VP, "ve": VE, "subvp": SUBVP}[trace.pop("sde")]
    noise = Noise(seed=TRACE["seed"], shape=tuple(TRACE["shape"]), dtype=torch.float64)
    solver = DPMAdaptive(
        eps_rel=TRACE["rtol"], eps_abs=TRACE["atol"], denoise=False, h_max=1e9, **trace
    )
    index = torch.tensor([0])
    rows, mine = solver.start(sde.prior_sampling(noise(index, index)), index, sde), []
    while not rows.done.all():
        rows = solver.step(rows, gaussian_score(sde), noise, sde)
        counts = [int(rows.accepted), int(rows.rejected)]
        if sum(counts) > len(mine):
            mine.append([float(sde.half_log_snr(rows.t)), *counts])
    assert [m[1:] for m in mine] == [a[1:] for a in attempts]
    # The trace must contain a rejection.
    assert int(rows.rejected) > 0
    assert [m[0] for m in mine] == pytest.approx([a[0] for a in attempts], rel=0, abs=1e-6)
    torch.testing.assert_close(rows.x[0], expected, rtol=0, atol=1e-7)


@every_sde
@every_order
def test_error_falls_with_the_tolerance(sde, order):
    errors = []
    for eps in (0.05, 0.005, 0.0005):
        solver = DPMAdaptive(
            solver_order=order, eps_rel=eps, eps_abs=eps / 10, h_max=1e9, denoise=False
        )
        errors.append(rms(solve(solver, sde).x - flow(sde, prior(sde))))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[-1] < 2e-3


@every_sde
@every_order
@pytest.mark.parametrize("denoise", [True, False])
def test_a_rejection_keeps_the_first_evaluation(sde, order, denoise):
    """A step costs as many evaluations as its order, a rejection one fewer."""
    # Long first steps, so that there are rejections.
    solver = DPMAdaptive(solver_order=order, h_init=3.0, eps_rel=0.005, denoise=denoise)
    engine = Engine(gaussian_model(sde), solver, batch_size=4)
    finished = list(engine.run(range(8)))
    assert all(f.rejected > 0 for f in finished)
    for f in finished:
        assert f.nfe == order * f.accepted + (order - 1) * f.rejected + denoise
        assert f.t == sde.t_eps


def test_denoising_is_the_tweedie_step_at_t_eps():
    raw, denoised = solve(DPMAdaptive(denoise=False), VP), solve(DPMAdaptive(), VP)
    expected = VP.tweedie_denoise(raw.x, raw.t, gaussian_score(VP)(raw.x, raw.t))
    torch.testing.assert_close(denoised.x, expected, rtol=0, atol=1e-12)


@each_sde()
def test_ancestral_noise_keeps_the_moments(sde):
    """64 x 64 values: the added noise replaces the noise that the longer step removed.

    s_noise scales it.
    """
    stds = []
    for s_noise in (1.0, 1.05):
        solver = DPMAdaptive(eta=1.0, eps_rel=0.01, s_noise=s_noise)
        x = torch.stack([f.x for f in Engine(gaussian_model(sde, (64,)), solver).run(range(64))])
        stds.append(float(x.std()))
        assert float(x.mean()) == pytest.approx(0.3, abs=0.03)
    assert stds[0] == pytest.approx(0.5, rel=0.03)
    assert stds[1] > 1.02 * stds[0]


def test_noise_is_drawn_only_with_eta():
    # One draw, for the prior.
    assert int(solve(DPMAdaptive(), VP).draws) == 1
    noise = Noise(seed=0, shape=(16,), dtype=torch.float64)
    rows = solve(DPMAdaptive(eta=0.5), VP, noise)
    assert int(rows.draws) == 1 + int(rows.accepted)


@every_sde
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_sample_is_the_same_in_any_batch(sde, eta):
    options = {"solver": "dpm-adaptive", "eta": eta, "eps_rel": 0.01}
    few = ggf_cli.sample(gaussian_model(sde), [3, 1], batch_size=2, **options)
    many = ggf_cli.sample(gaussian_model(sde), 9, batch_size=4, **options)
    assert torch.equal(few.nfe, many.nfe[[3, 1]])
    assert torch.equal(few.images, many.images[[3, 1]])
