"""reverse-diffusion, ancestral and pc: parity with Song's code, and exact solutions.

Song's samplers use N noise levels: level k = floor(t (N - 1)) has sigma_k (VE) or beta_k (VP).
`SongVE` and `SongVP` are the SDEs of ggf with the alpha and sigma of those levels, on the grid of
Song's code: N - 1 equal steps from T to t_eps. Nothing else differs, and both codes get the same
score. The solvers use only alpha and sigma, so they then take exactly the steps of Song's code. A
separate test compares the continuous SDEs with Song's levels.
"""

import json
from dataclasses import dataclass, replace

import pytest
import scipy.stats
import torch

import ggf_cli
from ggf_cli.noise import Noise
from ggf_cli.sde import VESDE, VPSDE
from ggf_cli.solvers.ancestral import Ancestral
from ggf_cli.solvers.base import forward_kernel
from ggf_cli.solvers.predictor_corrector import PredictorCorrector
from ggf_cli.solvers.reverse_diffusion import ReverseDiffusion
from paths import DATA
from problems import MEAN, STD, SUBVP, VE, VP, gaussian_model, gaussian_score, rms

SONG = json.loads((DATA / "song_samplers.json").read_text())
LEVELS = SONG["levels"]
SNR = SONG["snr"]
ALL = pytest.mark.parametrize("sde", [VE, VP, SUBVP], ids=lambda sde: sde.name)


def level(table, t):
    return table[torch.floor(t * (LEVELS - 1)).long()]


@dataclass(frozen=True, kw_only=True)
class SongVE(VESDE):
    def sigma(self, t):
        ends = torch.tensor([self.sigma_min, self.sigma_max], dtype=torch.float64).log().tolist()
        return level(torch.exp(torch.linspace(*ends, LEVELS, dtype=torch.float64)), t)


@dataclass(frozen=True, kw_only=True)
class SongVP(VPSDE):
    def log_alpha(self, t):
        beta = torch.linspace(self.beta_min, self.beta_max, LEVELS, dtype=torch.float64) / LEVELS
        return level(torch.cumsum(torch.log1p(-beta), 0) / 2, t)


def follow(solver, sde, score, rows=2, dtype=torch.float64):
    """The states after every step, with Song's noise: a list of (rows, *shape)."""
    noise = Noise(seed=SONG["seed"], shape=tuple(SONG["shape"]), dtype=dtype)
    index = torch.arange(rows)
    state = solver.start(sde.prior_sampling(noise(index, 0 * index)), index, sde)
    states = []
    while not state.done.all():
        before, state = state, solver.step(state, score, noise, sde)
        if (state.accepted > before.accepted).all() or state.done.all():
            states.append(state.x)
    return states


def recorded(run, which):
    return torch.tensor(SONG[run][which], dtype=torch.float64)[:, 0]


# Song's ancestral sampler has the posterior variance for VE and the forward one for VP.
PARITY = [
    ("reverse-diffusion", ReverseDiffusion(steps=LEVELS - 1)),
    ("ancestral", Ancestral(steps=LEVELS - 1)),
    ("pc", PredictorCorrector(steps=LEVELS - 1, snr=SNR)),
    ("pc 2", PredictorCorrector(steps=LEVELS - 1, snr=SNR, corrector_steps=2)),
]


@pytest.mark.parametrize(
    ("sde", "levels"),
    [(VE, SongVE(**VE.__dict__)), (VP, SongVP(**VP.__dict__))],
    ids=["ve", "vp"],
)
@pytest.mark.parametrize(("name", "solver"), PARITY, ids=[name for name, _ in PARITY])
def test_takes_the_steps_of_songs_code(sde, levels, name, solver):
    if (sde.name, name) == ("vp", "ancestral"):
        solver = replace(solver, variance="forward")
    states = follow(solver, levels, gaussian_score(sde))
    run = f"{sde.name} {name}"
    torch.testing.assert_close(
        states[LEVELS // 2 - 1], recorded(run, "middle"), rtol=1e-11, atol=1e-11
    )
    torch.testing.assert_close(
        states[LEVELS - 2], recorded(run, "at_t_eps"), rtol=1e-11, atol=1e-11
    )
    # In pc, Song's code corrects once more at t_eps.
    if "pc" not in name:
        # Its last step without noise is the Tweedie step, for VP up to terms of (1 - a)^2.
        atol = 2e-5 if run == "vp reverse-diffusion" else 1e-11
        torch.testing.assert_close(states[-1], recorded(run, "denoised"), rtol=1e-11, atol=atol)


@pytest.mark.parametrize(
    ("sde", "difference"), [(VE, 3e-4), (VP, 5e-3), (SUBVP, 2e-2)], ids=["ve", "vp", "subvp"]
)
def test_the_continuous_sdes_differ_little_from_songs_1000_levels(sde, difference):
    """ggf integrates beta over a step, where Song's code has beta(t) / N.

    For sub-VP ggf uses the forward kernel, where Song's code uses Euler–Maruyama.
    """
    levels = SONG["configured"]
    states = follow(ReverseDiffusion(steps=levels - 1), sde, gaussian_score(sde))
    expected = recorded(f"{sde.name} reverse-diffusion {levels}", "denoised")
    error = float((states[-1] - expected).abs().max())
    assert error < difference


@ALL
def test_forward_kernel_reproduces_the_marginals(sde):
    t = torch.linspace(sde.T, sde.t_eps, 50, dtype=torch.float64)
    for s in (t[1:], (t[1:] + 9 * t[:-1]) / 10, torch.full_like(t[1:], sde.t_eps)):
        a, v = forward_kernel(sde, t[:-1], s)
        torch.testing.assert_close(a * sde.alpha(s), sde.alpha(t[:-1]))
        total = a.square() * sde.sigma(s).square() + v
        torch.testing.assert_close(total, sde.sigma(t[:-1]).square(), rtol=1e-12, atol=0)
    a, v = forward_kernel(sde, t, t)
    assert (a == 1).all()
    assert (v == 0).all()


@ALL
def test_forward_kernel_converges_to_the_sde(sde):
    """(1 - a) / h and v / h tend to the drift and g^2, at first order in h."""
    t = torch.linspace(0.1, 1, 10, dtype=torch.float64)
    drift = -sde.drift(torch.ones(10, 1, dtype=torch.float64), t)[:, 0]
    errors = []
    for h in (1e-3, 5e-4):
        a, v = forward_kernel(sde, t, t - h)
        errors.append(((v / h - sde.diffusion(t).square()).abs(), ((1 - a) / h - drift).abs()))
    for coarse, fine in zip(*errors, strict=True):
        assert torch.allclose(coarse, 2 * fine, rtol=0.03, atol=1e-12)


# Order of convergence on one Brownian path. The solves end at t = 0.1: nearer to 0, the order shows
# at finer steps only.
FINEST, STEPS, SIZE = 2**11, [32, 64, 128, 256], 64
STRONG = [ReverseDiffusion(), Ancestral(), Ancestral(variance="forward")]


class Path:
    """Standard normals for n equal steps along one Brownian path."""

    def __init__(self, steps):
        fine = torch.randn(
            FINEST, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )
        self.z = fine.reshape(steps, -1, SIZE).sum(1) / (FINEST // steps) ** 0.5

    def __call__(self, index, draw):
        return self.z[torch.clamp(draw - 1, max=len(self.z) - 1)]


def at_t_eps(solver, sde, steps, noise):
    solver = replace(solver, steps=steps, denoise=False)
    prior = torch.randn(1, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = solver.start(sde.prior_sampling(prior), torch.arange(1), sde)
    while not rows.done.all():
        rows = solver.step(rows, gaussian_score(sde), noise, sde)
    return rows.x


def linear_solution(sde, path):
    """Solve the reverse SDE on the finest path by improved Euler: the score is linear in x."""
    score = gaussian_score(sde)
    generator = torch.Generator().manual_seed(1)
    x = sde.prior_sampling(torch.randn(1, SIZE, generator=generator, dtype=torch.float64))
    grid = torch.linspace(sde.T, sde.t_eps, FINEST + 1, dtype=torch.float64)
    for i, (t, s) in enumerate(zip(grid[:-1, None], grid[1:, None], strict=True)):
        h = t - s
        dw = torch.sqrt(h) * path.z[i]
        k1 = sde.diffusion(t) * dw - h * sde.reverse_drift(x, t, score(x, t))
        k2 = sde.diffusion(s) * dw - h * sde.reverse_drift(x + k1, s, score(x + k1, s))
        x = x + (k1 + k2) / 2
    return x


@pytest.fixture(scope="module")
def solutions():
    early = {sde.name: replace(sde, t_eps=0.1) for sde in (VE, VP, SUBVP)}
    return {name: (sde, linear_solution(sde, Path(FINEST))) for name, sde in early.items()}


@ALL
@pytest.mark.parametrize("solver", STRONG, ids=["reverse-diffusion", "ancestral", "forward"])
def test_strong_order_1_to_the_solution_of_the_reverse_sde(solver, sde, solutions):
    sde, exact = solutions[sde.name]
    errors = [rms(at_t_eps(solver, sde, n, Path(n)) - exact) for n in STEPS]
    slope = scipy.stats.linregress(
        [-(i + 5) for i in range(len(STEPS))], torch.tensor(errors).log2().tolist()
    ).slope
    assert slope == pytest.approx(1, abs=0.2)
    assert errors[-1] < 0.03 * rms(exact)


@ALL
def test_pc_with_a_corrector_of_size_zero_is_reverse_diffusion(sde):
    """Draws of the predictor and of the corrector alternate."""
    path = Path(64)

    def noise(index, draw):
        return path(index, draw // 2)

    pc = at_t_eps(PredictorCorrector(snr=1e-12), sde, 64, noise)
    torch.testing.assert_close(pc, at_t_eps(ReverseDiffusion(), sde, 64, path))


def draw(solver, sde, rows=64, size=256):
    """rows x size numbers at t_eps, whose exact distribution is the marginal."""
    generator = torch.Generator().manual_seed(1)

    def noise(index, draw):
        return torch.randn(rows, size, generator=generator, dtype=torch.float64)

    state = solver.start(sde.prior_sampling(noise(0, 0)), torch.arange(rows), sde)
    while not state.done.all():
        state = solver.step(state, gaussian_score(sde), noise, sde)
    return state.x


@ALL
@pytest.mark.parametrize("solver", STRONG, ids=["reverse-diffusion", "ancestral", "forward"])
def test_moments_of_a_full_solve(solver, sde):
    x = draw(replace(solver, steps=500, denoise=False), sde)
    # Four standard errors.
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.016)
    # Two standard errors, and as much again for the bias.
    assert float(x.std()) == pytest.approx(STD, rel=0.03)


@ALL
def test_more_corrector_steps_reduce_the_error_of_the_predictor(sde):
    solvers = [
        ReverseDiffusion(steps=20, denoise=False),
        PredictorCorrector(steps=20, denoise=False),
        PredictorCorrector(steps=20, denoise=False, corrector_steps=3),
    ]
    errors = [abs(float(draw(solver, sde).std()) - STD) for solver in solvers]
    assert errors[1] < 0.9 * errors[0]
    assert errors[2] < 0.8 * errors[1]


def test_the_stationary_variance_of_the_corrector_is_too_large():
    """By 1 / (1 - snr^2) for Gaussian data where a is near 1: Langevin steps have a finite size."""
    solver = PredictorCorrector(steps=100, denoise=False, snr=0.4, corrector_steps=10)
    std = float(draw(solver, VE).std())
    assert std == pytest.approx(STD / (1 - 0.4**2) ** 0.5, rel=0.02)


def test_the_corrector_step_of_a_row_depends_on_its_own_norms():
    """With the batch means of Song's code, the distant row would shorten the steps of the other."""
    noise = Noise(seed=3, shape=(16,), dtype=torch.float64)
    solver, score = PredictorCorrector(steps=10), gaussian_score(VP)
    x = torch.stack([torch.ones(16), 1e4 * torch.ones(16)]).double()

    def states(slots):
        rows = solver.start(x[slots], torch.tensor(slots), VP)
        for _ in range(4):
            rows = solver.step(rows, score, noise, VP)
        return rows.x

    torch.testing.assert_close(states([0, 1])[0], states([0])[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(states([0, 1])[1], states([1])[0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("corrector_steps", [1, 3])
@pytest.mark.parametrize("denoise", [True, False])
def test_evaluations_and_noise_of_a_sample(corrector_steps, denoise):
    solver = PredictorCorrector(steps=7, corrector_steps=corrector_steps, denoise=denoise)
    result = ggf_cli.sample(gaussian_model(VP), 5, solver=solver, batch_size=3)
    moves = 7 * (1 + corrector_steps)
    assert result.nfe.tolist() == [moves + denoise] * 5
    assert result.nfe[0] == solver.expected_nfe()
    assert result.accepted.tolist() == [7] * 5

    rows, draws = solver.start(torch.ones(2, 4).double(), torch.arange(2), VP), []

    def noise(index, draw):
        draws.append(draw.tolist())
        return torch.ones(2, 4).double()

    while not rows.done.all():
        rows = solver.step(rows, gaussian_score(VP), noise, VP)
    assert draws[:moves] == [[i, i] for i in range(1, moves + 1)]
    assert rows.draws.tolist() == [moves + 1] * 2


def test_a_budget_of_evaluations_counts_the_corrector():
    solver = PredictorCorrector(nfe=20, corrector_steps=2)
    # 6 steps of 3 evaluations, and the denoising.
    assert solver.expected_nfe() == 19
    assert solver.resolved(VE).steps == 6


def test_snr_has_a_default_unless_it_is_given():
    assert PredictorCorrector().resolved(VE).snr == 0.16
    assert PredictorCorrector(snr=0.075).resolved(VE).snr == 0.075


@ALL
@pytest.mark.parametrize("solver", ["reverse-diffusion", "ancestral", "pc"])
def test_a_sample_is_the_same_in_any_batch(solver, sde):
    model = gaussian_model(sde, (3, 5, 7), dtype=torch.float32)
    images = [
        ggf_cli.sample(model, 5, solver=solver, steps=8, batch_size=b).images for b in (2, 3, 5)
    ]
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])
