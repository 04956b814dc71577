"""Given states at T, callbacks in every step, and trajectories at a few noise levels."""

import math

import pytest
import torch

import ggf_cli
from ggf_cli.engine import Engine
from ggf_cli.errors import UsageError
from ggf_cli.solvers import SOLVERS, make_solver
from ggf_cli.solvers.schedule import times_between
from problems import MEAN, STD, VE, VP, every_sde, gaussian_model, quick_options

POINT = 0.25
# One solver for each kind of state that rows carry; the others are slow tests.
KINDS = ("em", "adaptive", "adaptive-multistep", "heun", "ode-rk45", "pc")
each_solver = pytest.mark.parametrize(
    "solver", [pytest.param(n, marks=() if n in KINDS else pytest.mark.slow) for n in SOLVERS]
)


def draw(model, n=6, solver="em", **settings):
    return ggf_cli.sample(model, n, solver=make_solver(solver, quick_options(solver)), **settings)


def point_model(sde, **settings):
    """The model of data at one point, so that every denoised estimate is this point."""

    def score(x, t):
        alpha, sigma = sde.alpha(t)[:, None], sde.sigma(t)[:, None]
        return (alpha * POINT - x) / sigma.square()

    return ggf_cli.ScoreModel(score=score, sde=sde, shape=(3,), dtype=torch.float64, **settings)


class Limited:
    """A score that runs out of memory with more than two rows, after some calls."""

    def __init__(self, score):
        self.score, self.calls = score, 0

    def __call__(self, x, t):
        self.calls += 1
        if self.calls > 4 and len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.score(x, t)


# --- prior ----------------------------------------------------------------------------------------


@every_sde
def test_samples_start_from_the_given_states(sde):
    """The probability flow of Gaussian data from x_T is known exactly."""
    x_T = sde.prior_std * torch.linspace(-2, 2, 8, dtype=torch.float64)[:, None]
    model = gaussian_model(sde, shape=(1,))
    x = ggf_cli.sample(
        model, 8, prior=x_T, solver="heun", steps=300, schedule="logsnr", denoise=False
    ).x
    ends = torch.tensor([sde.T, sde.t_eps], dtype=torch.float64)
    alpha, sigma = sde.alpha(ends), sde.sigma(ends)
    start, end = torch.sqrt(alpha.square() * STD**2 + sigma.square())
    expected = alpha[1] * MEAN + (x_T - alpha[0] * MEAN) * end / start
    assert torch.allclose(x, expected, rtol=0, atol=3e-4)


@each_solver
def test_the_usual_states_given_as_prior_change_nothing(solver):
    """Also the noise of stochastic solvers stays the same."""
    model = gaussian_model(VP)
    usual = draw(model, solver=solver)
    states = Engine(model, make_solver("em")).prior(torch.arange(6))
    for prior in (states, lambda index: states[index]):
        given = draw(model, solver=solver, prior=prior, batch_size=4)
        assert torch.equal(given.x, usual.x)
        assert torch.equal(given.nfe, usual.nfe)


def test_a_given_state_follows_its_sample_through_refills_and_out_of_memory():
    states = torch.arange(9, dtype=torch.float64)[:, None].repeat(1, 3)
    model = gaussian_model(VE, shape=(3,))
    expected = draw(model, 9, solver="adaptive", prior=states)
    limited = ggf_cli.ScoreModel(
        score=Limited(model.score), sde=VE, shape=(3,), dtype=torch.float64
    )
    found = draw(limited, 9, solver="adaptive", prior=states, batch_size=6)
    assert found.batch_size <= 2
    assert torch.equal(found.x, expected.x)


def test_given_states_are_checked():
    model = gaussian_model(VP, shape=(3,))
    with pytest.raises(UsageError, match=r"a state of prior is torch.float32 of shape \(4,\)"):
        draw(model, prior=torch.zeros(6, 4))
    with pytest.raises(UsageError, match=r"a state of prior is torch\.int64"):
        draw(model, prior=torch.zeros(6, 3, dtype=torch.int64))
    with pytest.raises(UsageError, match=r"sample 5 has no entry in prior: there are 4"):
        draw(model, prior=torch.zeros(4, 3))
    with pytest.raises(UsageError, match="prior is 3"):
        draw(model, prior=3)


def test_a_resumed_run_compares_the_given_states(tmp_path):
    model, states = gaussian_model(VP, dtype=torch.float32), torch.zeros(3, 1, 4, 4)
    settings = {"out": tmp_path / "a", "solver": "em", "steps": 5}
    log = ggf_cli.run(model, 3, prior=states, **settings).log
    assert log.prior.startswith("3x1x4x4 float32 sha256 ")
    assert ggf_cli.run(model, 3, prior=states, resume=True, **settings).log == log
    with pytest.raises(ggf_cli.errors.OutputError, match="the prior was"):
        ggf_cli.run(model, 3, resume=True, **settings)


# --- on_step --------------------------------------------------------------------------------------


@each_solver
def test_on_step_is_called_with_every_evaluation(solver):
    seen, ends = [], {}

    def on_step(step):
        seen.append(step)
        assert len(set(step.index.tolist())) == len(step.index)
        for row in step.done.nonzero().flatten().tolist():
            ends[int(step.index[row])] = step.x[row], int(step.nfe[row])

    model = gaussian_model(VP)
    result = draw(model, 5, solver=solver, batch_size=4, on_step=on_step)
    assert torch.equal(result.x, draw(model, 5, solver=solver, batch_size=4).x)
    assert len(seen) == result.network_calls
    assert sum(len(step.index) for step in seen) == int(result.nfe.sum())
    assert sorted(ends) == list(range(5))
    for index, (x, nfe) in ends.items():
        assert torch.equal(x, result.x[index])
        assert nfe == int(result.nfe[index])


def test_the_denoised_estimate_is_that_of_the_evaluated_state():
    def on_step(step):
        assert torch.allclose(step.denoised, torch.full_like(step.x, POINT), rtol=0, atol=1e-9)

    for sde in (VP, VE):
        draw(point_model(sde), solver="adaptive", on_step=on_step)


def test_an_error_in_on_step_ends_the_sampling():
    def on_step(step):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        draw(gaussian_model(VP), on_step=on_step)


# --- trajectories ---------------------------------------------------------------------------------


@each_solver
@pytest.mark.parametrize("sde", [VP, VE], ids=["vp", "ve"])
def test_a_trajectory_runs_from_the_prior_to_the_sample(solver, sde):
    model = point_model(sde)
    result = draw(model, solver=solver, trajectory=5)
    plain = draw(model, solver=solver)
    assert torch.equal(result.x, plain.x)
    assert torch.equal(result.nfe, plain.nfe)
    path = result.trajectory
    assert path.x.shape == path.denoised.shape == (6, 5, 3)
    assert torch.equal(path.x[:, 0], Engine(model, make_solver("em")).prior(torch.arange(6)))
    assert torch.equal(path.x[:, -1], result.x)
    levels = times_between(sde, sde.T, sde.t_eps, 4, "logsnr")
    assert (path.t <= levels).all()
    assert (path.t.diff() <= 0).all()
    assert (path.t[:, 0] == sde.T).all()
    assert (path.t[:, -1] == sde.t_eps).all()
    assert torch.allclose(path.denoised, torch.full_like(path.x, POINT), rtol=0, atol=1e-6)


def test_steps_on_the_levels_are_recorded_exactly():
    states = {}
    result = ggf_cli.sample(
        gaussian_model(VP),
        3,
        solver="em",
        steps=4,
        schedule="logsnr",
        trajectory=5,
        on_step=lambda step: states.setdefault(float(step.t[0]), step.x),
    )
    times = times_between(VP, VP.T, VP.t_eps, 4, "logsnr").tolist()
    assert result.trajectory.t.tolist() == [times] * 3
    for level in (1, 2, 3):
        assert torch.equal(result.trajectory.x[:, level], states[times[level]])


def test_a_trajectory_does_not_depend_on_the_batch():
    model = gaussian_model(VE, shape=(3,))
    limited = ggf_cli.ScoreModel(
        score=Limited(model.score), sde=VE, shape=(3,), dtype=torch.float64
    )
    whole = draw(model, 7, solver="adaptive", trajectory=6).trajectory
    for other, batch_size in ((model, 2), (model, 3), (limited, 6)):
        part = draw(other, 7, solver="adaptive", trajectory=6, batch_size=batch_size).trajectory
        assert torch.equal(part.x, whole.x)
        assert torch.equal(part.denoised, whole.denoised)
        assert torch.equal(part.t, whole.t)


def test_streamed_samples_have_their_trajectories():
    model = gaussian_model(VP)
    whole = draw(model, 5, trajectory=3).trajectory
    solver = make_solver("em", quick_options("em"))
    for sample in ggf_cli.stream(model, 5, solver=solver, batch_size=2, trajectory=3):
        assert torch.equal(sample.trajectory.x, whole.x[sample.index])
        assert torch.equal(sample.trajectory.x[-1], sample.x)
    assert next(ggf_cli.stream(model, 1, solver=solver)).trajectory is None


def test_a_stopped_sample_has_no_states_at_the_levels_that_it_did_not_reach():
    result = draw(gaussian_model(VP), 2, max_nfe=4, trajectory=5)
    assert [str(outcome) for outcome in result.outcomes] == ["max_nfe"] * 2
    path = result.trajectory
    assert path.x[:, 0].isfinite().all()
    assert path.x[:, -1].isnan().all()
    assert path.denoised[:, -1].isnan().all()
    assert math.isnan(float(path.t[0, -1]))


@pytest.mark.parametrize("levels", [0, 1, 2.0, "8", True])
def test_a_trajectory_has_two_levels_at_least(levels):
    with pytest.raises(UsageError, match="`trajectory` is"):
        draw(gaussian_model(VP), trajectory=levels)


# --- progress -------------------------------------------------------------------------------------


def test_progress_is_shown_on_stderr(capsys, monkeypatch):
    monkeypatch.setattr(ggf_cli.progress, "PLAIN_EVERY_S", 0.0)
    result = draw(gaussian_model(VP), 5, batch_size=2, progress=True)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "4/5 samples · NFE 8.0 mean" in printed.err
    assert torch.equal(draw(gaussian_model(VP), 5).x, result.x)
    assert capsys.readouterr().err == ""
    assert len(list(ggf_cli.stream(gaussian_model(VP), range(2), solver="em", progress=True))) == 2
    with pytest.raises(UsageError, match="`progress` needs to know the number of samples"):
        ggf_cli.stream(gaussian_model(VP), iter([0, 1]), progress=True)


def test_progress_of_a_run_is_shown_on_stderr(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(ggf_cli.progress, "PLAIN_EVERY_S", 0.0)
    model = gaussian_model(VP, dtype=torch.float32)
    ggf_cli.run(model, 2, out=tmp_path / "a", solver="em", steps=3, progress=True)
    assert "samples · NFE" in capsys.readouterr().err
