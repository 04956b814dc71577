"""dpmpp-2m, dpmpp-2m-sde, unipc, er-sde-3: parity with public code, orders and moments."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import scipy.stats
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

from ggf_cli.counted_score import CountedScore
from ggf_cli.noise import Noise
from ggf_cli.score import ScoreModel
from ggf_cli.sde import VESDE, VPSDE, expand_as_batch
from ggf_cli.solvers.dpmpp_2m import DPMpp2M
from ggf_cli.solvers.dpmpp_2m_sde import DPMpp2MSDE
from ggf_cli.solvers.er_sde import ERSDE3, NOISE_SCALES
from ggf_cli.solvers.schedule import time_grid
from ggf_cli.solvers.unipc import UniPC
from orders import SDES, flow, prior, rms
from paths import DATA
from problems import MEAN, STD, VE, VP, gaussian_score

ER_SDE = json.loads((DATA / "er_sde.json").read_text())
CPU = torch.device("cpu")

every_sde = pytest.mark.parametrize("sde", SDES, ids=lambda sde: sde.name)
every_solver = pytest.mark.parametrize("cls", [DPMpp2M, DPMpp2MSDE, UniPC, ERSDE3])


def states(solver, sde, score, x, noise):
    """The x after every step."""
    rows = solver.start(x, torch.arange(len(x)), sde)
    result = []
    while not rows.done.all():
        rows = solver.step(rows, score, noise, sde)
        result.append(rows.x)
    return result


def solve(solver, sde, x, noise=None):
    """The last x of Gaussian data with the exact score."""
    return states(solver, sde, gaussian_score(sde), x, noise or zero_noise(x))[-1]


def zero_noise(x):
    return lambda index, draw: torch.zeros_like(x)


def order(steps: list[int], errors: list[float]) -> float:
    n, e = torch.tensor([steps, errors], dtype=torch.float64).log2()
    return float(scipy.stats.linregress(-n, e).slope)


# Parity with diffusers: our solvers run at the noise levels of its schedulers.


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Given noise levels sigma / alpha, at times 1, 1 - 1 / n, ..., 1 / n."""

    levels: tuple[float, ...] = ()

    def level(self, t):
        n = len(self.levels)
        return torch.tensor(self.levels, dtype=torch.float64)[((1 - t) * n).round().long()]

    def half_log_snr(self, t):
        return -torch.log(self.level(t))


@dataclass(frozen=True, kw_only=True)
class VPLevels(Levels, VPSDE):
    def alpha(self, t):
        return 1 / torch.sqrt(1 + self.level(t) ** 2)

    def sigma(self, t):
        return self.level(t) * self.alpha(t)


@dataclass(frozen=True, kw_only=True)
class VELevels(Levels, VESDE):
    def sigma(self, t):
        return self.level(t)


def two_clusters_score(x, alpha, sigma):
    """The score of data at -1 and 1, in each coordinate, with standard deviation 0.3."""
    v = alpha**2 * 0.09 + sigma**2
    return (alpha * torch.tanh(alpha * x / v) - x) / v


def run_diffusers(scheduler, evaluations, steps, x, z, monkeypatch):
    """The noise levels of a VP scheduler for `evaluations`, and its x after each of `steps`."""
    scheduler.set_timesteps(evaluations)
    assert scheduler.sigmas[-1] == 0
    scheduler.sigmas = scheduler.sigmas.double()
    result = []
    for k, t in enumerate(scheduler.timesteps[:steps]):
        alpha = 1 / torch.sqrt(1 + scheduler.sigmas[k] ** 2)
        sigma = scheduler.sigmas[k] * alpha
        noise_hat = -sigma * two_clusters_score(x, alpha, sigma)
        given = {} if z is None else {"variance_noise": z[k]}
        with monkeypatch.context() as patch:
            # DPMSolverMultistepScheduler computes in torch.float32, whatever the input.
            patch.setattr(torch, "float32", torch.float64)
            x = scheduler.step(noise_hat, t, x, **given, return_dict=False)[0]
        result.append(x)
    return tuple(scheduler.sigmas[:-1].tolist()), torch.stack(result)


def dpm_scheduler(**options):
    return DPMSolverMultistepScheduler(solver_order=2, solver_type="midpoint", **options)


PAIRS = {
    "dpmpp-2m": (DPMpp2M(), dpm_scheduler(algorithm_type="dpmsolver++")),
    "dpmpp-2m karras": (
        DPMpp2M(),
        dpm_scheduler(algorithm_type="dpmsolver++", use_karras_sigmas=True),
    ),
    "dpmpp-2m-sde": (DPMpp2MSDE(), dpm_scheduler(algorithm_type="sde-dpmsolver++")),
    **{
        f"unipc-{p} {variant}{'' if final else ' full'}": (
            UniPC(solver_order=p, variant=variant, lower_order_final=final),
            UniPCMultistepScheduler(
                solver_order=p, solver_type=variant, lower_order_final=final, predict_x0=True
            ),
        )
        for p in (1, 2, 3)
        for variant in ("bh1", "bh2")
        for final in (True, False)
        if final or p > 1
    },
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("sde", [VPLevels, VELevels], ids=["vp", "ve"])
@pytest.mark.parametrize("evaluations", [2, 3, 4, 20])
@pytest.mark.parametrize("pair", PAIRS)
def test_follows_diffusers_step_by_step(pair, evaluations, sde, monkeypatch):
    """The last step of diffusers, to sigma = 0, is our denoising.

    With bh1 or at full order that step is NaN in diffusers, and is not compared.
    """
    solver, scheduler = PAIRS[pair]
    steps = evaluations - ("full" in pair or "bh1" in pair)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, 2, generator=generator, dtype=torch.float64)
    z = torch.randn(evaluations, 3, 2, 2, generator=generator, dtype=torch.float64)
    levels, theirs = run_diffusers(
        scheduler, evaluations, steps, x, z if solver.kind == "sde" else None, monkeypatch
    )

    sde = sde(levels=levels, t_eps=1 / evaluations)
    solver = replace(solver, steps=evaluations - 1, schedule="time")

    def score(x, t):
        return two_clusters_score(
            x, expand_as_batch(sde.alpha(t), x), expand_as_batch(sde.sigma(t), x)
        )

    # For VE the state is x / alpha. As a function of the state and of sigma / alpha, the data
    # prediction is the same.
    t = time_grid(sde, evaluations - 1, "time", CPU)
    unit = sde.alpha(t) * torch.sqrt(1 + sde.level(t) ** 2)
    ours = states(solver, sde, score, unit[0] * x, lambda index, draw: z[draw - 1, index])
    scale = torch.cat([unit[1:], torch.ones(1)])[:steps, None, None, None]
    torch.testing.assert_close(torch.stack(ours)[:steps], scale * theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("noise_scale", NOISE_SCALES)
@pytest.mark.parametrize("sde", [VP, VE], ids=["vp", "ve"])
def test_follows_the_authors_er_sde_step_by_step(sde, noise_scale):
    noise = Noise(seed=ER_SDE["seed"], shape=tuple(ER_SDE["shape"]), dtype=torch.float64)
    index = torch.arange(ER_SDE["rows"])
    solver = ERSDE3(steps=ER_SDE["steps"], noise_scale=noise_scale, denoise=False)
    x = sde.prior_sampling(noise(index, 0 * index))
    ours = states(solver, sde, gaussian_score(sde), x, noise)
    theirs = torch.tensor(ER_SDE["x"][sde.name][noise_scale], dtype=torch.float64)
    torch.testing.assert_close(torch.stack(ours), theirs, rtol=1e-9, atol=1e-9)


# Orders against the exact flow map.


@every_sde
@pytest.mark.parametrize(
    ("solver", "expected"),
    [
        (DPMpp2M(), 2),
        (UniPC(solver_order=1, variant="bh1"), 2),
        (UniPC(solver_order=1, variant="bh2"), 2),
        (UniPC(solver_order=2, variant="bh1", lower_order_final=False), 3),
        (UniPC(solver_order=2, variant="bh2", lower_order_final=False), 3),
        (UniPC(solver_order=3, lower_order_final=False), 4),
        # The last step is of first order.
        (UniPC(), 2),
        (DPMpp2MSDE(eta=0.0), 2),
    ],
    ids=str,
)
def test_order_of_deterministic_solvers(solver, expected, sde):
    steps = [64, 128, 256]
    exact = flow(sde, prior(sde))
    errors = [
        rms(solve(replace(solver, steps=n, denoise=False), sde, prior(sde)) - exact) for n in steps
    ]
    assert order(steps, errors) == pytest.approx(expected, abs=0.35)
    assert errors[-1] < 5e-4


@every_sde
def test_er_sde_without_noise_has_order_2_until_the_error_of_its_quadrature(sde):
    exact = flow(sde, prior(sde))
    errors = [
        rms(solve(ERSDE3(steps=n, noise_scale="ode", denoise=False), sde, prior(sde)) - exact)
        for n in (16, 32, 64, 256, 512)
    ]
    assert order([16, 32, 64], errors[:3]) == pytest.approx(2, abs=0.3)
    assert order([256, 512], errors[3:]) == pytest.approx(1.3, abs=0.2)


# The distribution of stochastic solvers. With Gaussian data, x at t_eps is an affine function of x
# at T and of every z, so its mean and variance are computed without sampling.


def affine_map(solver, sde):
    """c, r and s of x(t_eps) = c + r x(T) + sum_k s_k z_k."""
    n = solver.steps
    x = torch.zeros(n + 2, 1, dtype=torch.float64)
    x[1] = 1
    # Row 0: all zero. Row 1: x(T) = 1. Row 1 + k: z_k = 1.
    response = solve(solver, sde, x, lambda index, draw: (index - 1 == draw).double()[:, None])
    c, r, s = response[0], response[1] - response[0], response[2:] - response[0]
    return c.squeeze(), r.squeeze(), s.squeeze()


def exact_law(sde):
    """alpha and variance at T and t_eps, and the propagators of the flow and of the reverse SDE."""
    t = torch.tensor([sde.T, sde.t_eps], dtype=torch.float64)
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    v = (alpha * STD) ** 2 + sigma**2
    return alpha, v, torch.sqrt(v[1] / v[0]), (alpha[0] / v[0]) / (alpha[1] / v[1])


@every_sde
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_dpmpp_2m_sde_has_the_mean_and_variance_of_its_sde_at_order_2(eta, sde):
    """Given x(T). The logarithm of the propagator is linear in eta.

    eta = 1 is the posterior of the forward process.
    """
    alpha, v, by_flow, by_sde = exact_law(sde)
    propagator = by_flow ** (1 - eta) * by_sde**eta
    start = alpha[0] * MEAN + torch.sqrt(v[0])
    steps = [64, 128, 256]
    mean_errors, variance_errors = [], []
    for n in steps:
        c, r, s = affine_map(DPMpp2MSDE(steps=n, eta=eta, denoise=False), sde)
        mean = alpha[1] * MEAN + propagator * torch.sqrt(v[0])
        mean_errors.append(float((c + r * start - mean).abs()))
        variance = v[1] - propagator**2 * v[0]
        variance_errors.append(float((s.square().sum() - variance).abs() / v[1]))
    assert order(steps, variance_errors) == pytest.approx(2, abs=0.2)
    assert variance_errors[-1] < 5e-4
    assert max(mean_errors) < 1e-4 if eta < 1 else max(mean_errors) < 1e-13


@every_sde
@pytest.mark.parametrize("noise_scale", ["er-5", "sde"])
def test_er_sde_keeps_the_marginal(noise_scale, sde):
    """For any noise scale: if x(T) has the right mean and variance, so has x(t_eps)."""
    alpha, v, _, _ = exact_law(sde)
    errors = []
    steps = [16, 32, 64]
    for n in steps:
        c, r, s = affine_map(ERSDE3(steps=n, noise_scale=noise_scale, denoise=False), sde)
        torch.testing.assert_close(c + r * alpha[0] * MEAN, alpha[1] * MEAN, rtol=0, atol=1e-12)
        errors.append(float((r**2 * v[0] + s.square().sum() - v[1]).abs() / v[1]))
    assert order(steps, errors) > 1.7
    assert errors[-1] < 1e-2


# Strong order. The noise of a step from s to u is n(s -> u) = integral of Phi(u, .) dw. For t
# between, n(s -> u) = Phi(u, t) n(s -> t) + n(t -> u), so that solves with different numbers of
# steps can share one path.


class Path:
    """Standard normals for the steps of coarser grids along one path.

    With l = sigma / alpha: Phi(u, s) = alpha_u phi(l_u) / (alpha_s phi(l_s)), and the standard
    deviation of n(s -> u) is alpha_u sqrt(l_u^2 - (phi(l_u) / phi(l_s) l_s)^2).
    phi(l) = l^2 for SDE-DPM-Solver++.
    """

    finest = 1024

    def __init__(self, sde, schedule, phi: Callable):
        t = time_grid(sde, self.finest, schedule, CPU)
        self.alpha, self.l, self.phi = sde.alpha(t), sde.sigma(t) / sde.alpha(t), phi
        generator = torch.Generator().manual_seed(0)
        self.z = torch.randn(self.finest, 8, 16, generator=generator, dtype=torch.float64)

    def std(self, s, u):
        r = self.phi(self.l[u]) / self.phi(self.l[s])
        return self.alpha[u] * torch.sqrt(self.l[u] ** 2 - (r * self.l[s]) ** 2)

    def propagator(self, s, u):
        return self.alpha[u] * self.phi(self.l[u]) / (self.alpha[s] * self.phi(self.l[s]))

    def normals(self, steps):
        """Standard normals of n equal steps, (n, 8, 16)."""
        result = []
        for s in range(0, self.finest, self.finest // steps):
            u = s + self.finest // steps
            fine = torch.arange(s, u)
            weights = self.propagator(fine + 1, u) * self.std(fine, fine + 1)
            # The variance of the merged noise is that of one step.
            torch.testing.assert_close(weights.square().sum().sqrt(), self.std(s, u))
            result.append(torch.tensordot(weights, self.z[s:u], 1) / self.std(s, u))
        return torch.stack(result)


@every_sde
@pytest.mark.parametrize(
    ("solver", "phi"),
    [
        (DPMpp2MSDE(eta=1.0), lambda l: l**2),
        (ERSDE3(noise_scale="sde"), lambda l: l**2),
        (ERSDE3(noise_scale="er-5"), lambda l: l * (torch.exp(l**0.3) + 10)),
    ],
    ids=["dpmpp-2m-sde", "er-sde-3 sde", "er-sde-3"],
)
def test_strong_order_on_a_shared_path(solver, phi, sde):
    path = Path(sde, solver.schedule, phi)

    def end(steps):
        z = path.normals(steps)
        return solve(
            replace(solver, steps=steps, denoise=False),
            sde,
            prior(sde),
            lambda index, draw: z[draw.clamp(max=steps) - 1, index],
        )

    steps = [32, 64, 128]
    reference = end(path.finest)
    errors = [rms(end(n) - reference) for n in steps]
    assert order(steps, errors) == pytest.approx(1.15, abs=0.35)
    assert errors[-1] < 0.05


# Special cases, rows at different steps, and evaluations.


@every_sde
def test_dpmpp_2m_sde_with_eta_zero_is_dpmpp_2m(sde):
    x = prior(sde)
    assert torch.equal(solve(DPMpp2MSDE(steps=9, eta=0.0), sde, x), solve(DPMpp2M(steps=9), sde, x))


@every_sde
@pytest.mark.parametrize(
    "solver", [DPMpp2M(steps=1), UniPC(steps=1), ERSDE3(steps=1, noise_scale="ode")], ids=str
)
def test_a_single_step_is_ddim(solver, sde):
    x = prior(sde)
    t = torch.tensor([sde.T, sde.t_eps], dtype=torch.float64)
    (alpha, alpha_next), (sigma, sigma_next) = sde.alpha(t), sde.sigma(t)
    score = gaussian_score(sde)(x, t[:1].expand(len(x)))
    ddim = alpha_next * (x + sigma**2 * score) / alpha - sigma_next * sigma * score
    torch.testing.assert_close(solve(replace(solver, denoise=False), sde, x), ddim)


@every_solver
def test_a_sample_does_not_depend_on_the_steps_of_other_rows(cls):
    """A new row, whose first steps have lower order, beside rows in mid-solve: equal to the bit."""
    solver, score = cls(steps=8), gaussian_score(VP)
    noise = Noise(seed=1, shape=(1, 4, 4), dtype=torch.float64)

    def fresh(*samples):
        index = torch.tensor(samples)
        return solver.start(noise(index, 0 * index), index, VP)

    def alone(sample):
        rows = fresh(sample)
        while not rows.done:
            rows = solver.step(rows, score, noise, VP)
        return rows.x[0]

    rows, finished = fresh(0, 1, 2), {}
    for tick in range(16):
        rows = solver.step(rows, score, noise, VP)
        if tick == 0:
            rows = rows.put(torch.tensor([1]), fresh(3))
        if tick == 2:
            rows = rows.put(torch.tensor([2]), fresh(4))
        for slot in range(3):
            if rows.done[slot]:
                finished.setdefault(int(rows.index[slot]), rows.x[slot])
    assert sorted(finished) == [0, 3, 4]
    for sample, x in finished.items():
        assert torch.equal(x, alone(sample))


@every_solver
def test_a_step_costs_one_evaluation(cls):
    model = ScoreModel(score=gaussian_score(VE), sde=VE, shape=(3,), dtype=torch.float64)
    for steps in (1, 2, 3, 7):
        for denoise in (True, False):
            solver = cls(steps=steps, denoise=denoise)
            score = CountedScore(model)
            score.open_slots(2, CPU)
            x = VE.prior_std * torch.ones(2, 3)
            (*_, end) = states(solver, VE, score, x, zero_noise(x))
            assert score.nfe.tolist() == [steps + denoise] * 2
            assert end.dtype == torch.float32
            assert end.isfinite().all()


@every_solver
@pytest.mark.parametrize("sde", [VP, VE], ids=["vp", "ve"])
def test_defaults_reproduce_mean_and_deviation(cls, sde):
    """Of the samples, denoised at t_eps, from an exact prior."""
    c, r, s = affine_map(cls(), sde)
    deviation = torch.sqrt((r * sde.prior_std).square() + s.square().sum())
    assert float(c) == pytest.approx(MEAN, abs=0.005)
    assert float(deviation) == pytest.approx(STD, rel=0.02)
