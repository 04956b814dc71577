"""The engine: batches, refill, NFE counts, rows that fail, and moments of full solves."""

import itertools
import math

import pytest
import torch

import ggf_cli
from ggf_cli.engine import EVEN, Engine, Outcome
from ggf_cli.errors import UsageError
from ggf_cli.noise import Noise
from ggf_cli.score import ScoreModel
from ggf_cli.solvers import SOLVERS, make_solver
from problems import (
    SUBVP,
    VE,
    VP,
    each_sde,
    every_sde,
    gaussian_model,
    gaussian_score,
    quick_options,
)

VARIANTS = {"heun-churn": make_solver("heun", {"steps": 6, "s_churn": 4.0})}

every_solver = pytest.mark.parametrize(
    "solver",
    [*(make_solver(name, quick_options(name)) for name in SOLVERS), *VARIANTS.values()],
    ids=[*SOLVERS, *VARIANTS],
)


def draw(model, indices, solver, batch_size, seed=5):
    result = ggf_cli.sample(model, indices, solver=solver, batch_size=batch_size, seed=seed)
    return {
        int(i): (x, int(n)) for i, x, n in zip(result.index, result.images, result.nfe, strict=True)
    }


def assert_same(a, b):
    for index in a.keys() & b.keys():
        assert a[index][1] == b[index][1]
        assert torch.equal(a[index][0], b[index][0])


@every_solver
@pytest.mark.parametrize(
    ("sde", "shape"), [(VP, (1, 4, 4)), (VE, (17,)), (SUBVP, (3, 5, 7))], ids=["vp", "ve", "subvp"]
)
def test_a_sample_is_the_same_in_any_batch_order_and_subset(solver, sde, shape):
    model = gaussian_model(sde, shape, torch.float32)
    reference = draw(model, range(12), solver, 16)
    for indices, batch_size in [(range(11, -1, -1), 5), ([7], 1), ([7, 2], 16)]:
        assert_same(reference, draw(model, list(indices), solver, batch_size))


@every_solver
def test_an_exact_mixture_sample_is_the_same_in_any_batch(solver, mixture):
    reference = draw(mixture, range(12), solver, 12)
    for indices, batch_size in [(range(12), 5), ([7], 1), ([3, 7], 2), ([7], 16)]:
        assert_same(reference, draw(mixture, list(indices), solver, batch_size))


def test_network_samples_are_bit_identical_for_the_same_batch_size(fashion):
    """In any order and subset: a row's bits do not depend on the batch size while it is even."""
    solver = make_solver("adaptive", {"eps_rel": 0.5})
    reference = draw(fashion, range(24), solver, 16)
    assert_same(reference, draw(fashion, [17], solver, 16))
    assert_same(reference, draw(fashion, [23, 4, 17, 9, 0, 1, 2, 3, 5, 8], solver, 16))


def test_network_samples_agree_up_to_float_noise_for_other_batch_sizes(fashion):
    solver = make_solver("em", {"steps": 20})
    reference = draw(fashion, range(8), solver, 16)
    for batch_size in (1, 5):
        other = draw(fashion, range(4), solver, batch_size)
        for index, (image, nfe) in other.items():
            assert nfe == reference[index][1]
            torch.testing.assert_close(image, reference[index][0], rtol=0, atol=1e-4)


def test_seeds_and_indices_name_different_samples():
    model = gaussian_model(VP)
    solver = make_solver("em", {"steps": 10})
    a, b = draw(model, [0, 1], solver, 2, seed=0), draw(model, [0, 1], solver, 2, seed=1)
    images = [a[0][0], a[1][0], b[0][0], b[1][0]]
    assert all(not torch.equal(x, y) for x, y in itertools.combinations(images, 2))


@every_solver
@pytest.mark.parametrize(
    ("sde", "batch_size"), [(VP, 1), (VE, 7), (SUBVP, 16)], ids=["vp", "ve", "subvp"]
)
def test_the_nfe_of_all_samples_is_the_number_of_evaluated_rows(solver, sde, batch_size):
    """The NFE of all samples plus the padding of the drain is the number of rows of all calls."""
    seen = []

    def score(x, t):
        seen.append(len(x))
        return gaussian_score(sde)(x, t)

    model = ScoreModel(score=score, sde=sde, shape=(1, 4, 4), dtype=torch.float64)
    result = ggf_cli.sample(model, 20, solver=solver, batch_size=batch_size)
    assert result.network_calls == len(seen)
    assert result.rows_evaluated == sum(seen)
    assert max(seen) <= batch_size
    padding = result.rows_evaluated - int(result.nfe.sum())
    # A call with an even number of rows can contain one row of padding.
    assert 0 <= padding <= sum(n % EVEN == 0 for n in seen)
    assert result.utilisation == int(result.nfe.sum()) / sum(seen)
    if batch_size == 1:
        assert padding == 0
    if solver.expected_nfe():
        assert (result.nfe == solver.expected_nfe()).all()


def test_free_slots_are_refilled_before_the_next_call():
    """Until no indices are left, every call is full, although samples need different NFE."""
    sizes = []
    model = gaussian_model(VP)
    engine = Engine(model, make_solver("adaptive", {"eps_rel": 0.05}), batch_size=10)
    finished = []
    waiting_left = []

    def indices():
        for i in range(80):
            waiting_left.append(80 - i - 1)
            yield i

    calls = 0
    for done in engine.run(indices(), lambda p: sizes.append(p.rows_evaluated)):
        finished.append(done)
        calls = engine.progress.network_calls
    assert len({f.nfe for f in finished}) > 1
    per_call = [b - a for a, b in itertools.pairwise([0, *sizes])]
    assert calls == len(per_call)
    full = per_call.index(next(n for n in per_call if n < 10))
    assert all(n == 10 for n in per_call[:full])
    assert engine.progress.utilisation > 0.97


# The utilisation stated in the README. The test above checks it on analytic scores.
@pytest.mark.slow
def test_utilisation_on_the_embedded_model_is_at_least_97_percent(fashion):
    """n = 8 x batch size, eps_rel 0.05."""
    result = ggf_cli.sample(fashion, 16, eps_rel=0.05, batch_size=2)
    assert result.utilisation >= 0.97


def test_stream_takes_endless_indices():
    stream = ggf_cli.stream(
        gaussian_model(VP), itertools.count(), solver=make_solver("em", {"steps": 5}), batch_size=4
    )
    assert sorted(f.index for f in itertools.islice(stream, 10)) == list(range(10))


@every_solver
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_whose_score_is_not_finite_is_retired_and_other_rows_are_unchanged(solver, bad):
    model = gaussian_model(VP)
    reference = draw(model, range(12), solver, 4)

    def score(x, t):
        answer = model.score(x, t)
        # Sample 4 is recognised by the first pixel of its prior draw, in its first call.
        poisoned = torch.isin(x[:, 0, 0, 0], doomed) & (t == 1.0)
        return torch.where(poisoned[:, None, None, None], bad, answer)

    noise = Noise(seed=5, shape=(1, 4, 4), dtype=torch.float64)
    doomed = noise(torch.tensor([4]), torch.tensor([0]))[:, 0, 0, 0]
    poisoned = ScoreModel(score=score, sde=VP, shape=(1, 4, 4), dtype=torch.float64)
    result = ggf_cli.sample(poisoned, 12, solver=solver, batch_size=4, seed=5)
    assert [i for i, o in enumerate(result.outcomes) if o is not Outcome.DONE] == [4]
    assert result.outcomes[4] is Outcome.NON_FINITE
    healthy = {
        int(i): (x, int(n))
        for i, x, n, o in zip(result.index, result.images, result.nfe, result.outcomes, strict=True)
        if o is Outcome.DONE
    }
    assert len(healthy) == 11
    assert_same(reference, healthy)


@pytest.mark.parametrize("score_error", [lambda x, t: x * math.nan, lambda x, t: -1e30 * x**3])
def test_a_run_with_a_diverging_score_ends(score_error):
    model = ScoreModel(score=score_error, sde=VP, shape=(4,))
    result = ggf_cli.sample(model, 3, solver="adaptive", batch_size=2, max_nfe=200)
    assert all(outcome is not Outcome.DONE for outcome in result.outcomes)


@every_solver
def test_the_limit_of_evaluations_retires_a_row(solver):
    result = ggf_cli.sample(gaussian_model(VP), 3, solver=solver, batch_size=2, max_nfe=3)
    assert result.outcomes == (Outcome.MAX_NFE,) * 3
    assert result.nfe.tolist() == [3] * 3


@every_solver
@every_sde
def test_only_stochastic_solvers_depend_on_the_noise(solver, sde):
    """With the same prior draw and other noise, only deterministic solvers repeat the result."""
    model = gaussian_model(sde)
    index = torch.arange(2)
    x = sde.prior_sampling(torch.randn(2, 1, 4, 4, dtype=torch.float64))
    ends = []
    for seed in (1, 1, 2):
        noise = Noise(seed=seed, shape=(1, 4, 4), dtype=torch.float64)
        rows = solver.start(x.clone(), index, sde)
        while not rows.done.all():
            rows = solver.step(rows, model.score, noise, sde)
        ends.append(rows.x)
    assert torch.equal(ends[0], ends[1])
    stochastic = solver.kind == "sde" or getattr(solver, "s_churn", 0) > 0
    assert torch.equal(ends[0], ends[2]) != stochastic


def test_a_sample_that_ends_at_the_limit_is_done():
    solver = make_solver("em", {"steps": 9})
    result = ggf_cli.sample(gaussian_model(VP), 3, solver=solver, max_nfe=10)
    assert result.outcomes == (Outcome.DONE,) * 3


def test_a_score_of_the_wrong_shape_is_refused():
    model = ScoreModel(score=lambda x, t: x[:, :1], sde=VP, shape=(3, 4, 4))
    with pytest.raises(UsageError, match=r"\(2, 3, 4, 4\).*\(2, 1, 4, 4\)"):
        ggf_cli.sample(model, 2, solver="em", batch_size=2)


@pytest.mark.parametrize(
    "bad", [{"batch_size": 0}, {"seed": -1}, {"seed": 2**63}, {"max_nfe": 0}], ids=str
)
def test_invalid_engine_arguments_are_refused(bad):
    with pytest.raises(UsageError):
        Engine(gaussian_model(VP), make_solver("em"), **bad)


@pytest.mark.parametrize("indices", [0, [], [1, 1], [-1], [2**63]], ids=str)
def test_invalid_indices_are_refused(indices):
    with pytest.raises((UsageError, OverflowError)):
        ggf_cli.sample(gaussian_model(VP), indices, solver="em", steps=1)


TIGHT = {
    "em": {"steps": 600},
    "reverse-diffusion": {"steps": 300},
    "ancestral": {"steps": 300},
    "pc": {"steps": 150},
    "heun": {"steps": 60},
    "restart": {"steps": 60},
    "dpm-adaptive": {"eps_rel": 0.005},
    "sra1": {"eps_rel": 0.1},
    "sra3": {"eps_rel": 0.1},
}


@each_sde()
@pytest.mark.parametrize("name", SOLVERS)
def test_moments_of_a_full_solve(sde, name):
    """400 x 64 values: the mean within 3 % of the scale, the standard deviation within 6 %."""
    solver = make_solver(name, TIGHT.get(name, {}))
    engine = Engine(gaussian_model(sde, (64,)), solver, batch_size=400)
    x = torch.stack([f.x for f in engine.run(range(400))])
    assert float(x.mean()) == pytest.approx(0.3, abs=0.015)
    # Euler–Maruyama adds too much noise per step on the geometric VE schedule, so that its standard
    # deviation is a little too large.
    assert float(x.std()) == pytest.approx(0.5, rel=0.06)
