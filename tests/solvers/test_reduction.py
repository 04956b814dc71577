"""Sums over a row are equal to the bit in any batch and with any number of threads."""

import ast
import math
from pathlib import Path

import pytest
import torch

import ggf_cli
from ggf_cli.sde import VESDE
from ggf_cli.solvers import SOLVERS, make_solver
from ggf_cli.solvers.reduction import mean_square, root_mean_square, row_mean
from problems import VE, VP, gaussian_model, quick_options

WIDTHS = (1, 2, 3, 5, 16, 784, 3072, 40_001)
# A row so long that the sum of torch divides it among two threads.
LARGE = 40_001


@pytest.fixture
def threads():
    """Set the number of threads; restored after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("width", WIDTHS)
def test_means_are_right(width):
    x = torch.randn(5, width, generator=torch.Generator().manual_seed(width))
    for row, mean, square in zip(x.double(), row_mean(x), mean_square(x), strict=True):
        assert float(mean) == pytest.approx(math.fsum(row) / width, abs=1e-6)
        assert float(square) == pytest.approx(math.fsum(row.square()) / width, rel=1e-6)
    torch.testing.assert_close(root_mean_square(x), mean_square(x).sqrt(), rtol=0, atol=0)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_a_mean_is_the_same_alone_in_a_batch_and_with_any_threads(width, dtype, threads):
    x = torch.randn(7, width, generator=torch.Generator().manual_seed(width)).to(dtype)
    threads(1)
    reference = mean_square(x)
    for count in (1, 2, 5):
        threads(count)
        assert torch.equal(mean_square(x), reference)
        for rows in ([3], [6, 1], [5, 4, 3]):
            assert torch.equal(mean_square(x[rows]), reference[rows])
        strided = torch.stack([x, x + 1], dim=2)[..., 0]
        assert torch.equal(mean_square(strided), reference)


def test_means_are_at_least_float32_and_do_not_overflow():
    x = torch.full((2, 1000), 6e4, dtype=torch.float16)
    for function, expected in ((row_mean, 6e4), (mean_square, 3.6e9), (root_mean_square, 6e4)):
        assert function(x).dtype == torch.float32
        assert float(function(x)[0]) == pytest.approx(expected, rel=1e-3)
    assert mean_square(x.double()).dtype == torch.float64


def test_rows_that_are_not_finite_have_a_mean_that_is_not_finite():
    x = torch.ones(3, 10)
    x[1, 7], x[2, 4] = torch.nan, torch.inf
    mean = row_mean(x)
    assert float(mean[0]) == 1
    assert bool(mean[1].isnan())
    assert bool(mean[2].isinf())


@pytest.mark.parametrize("name", SOLVERS)
def test_a_large_sample_does_not_depend_on_its_batch_or_on_threads(name, threads):
    model = gaussian_model(VE if name != "dpm-adaptive" else VP, (LARGE,), torch.float32)
    loose = {"eps_rel": 1.0, "eps_abs": 0.2}
    solver = make_solver(name, loose if SOLVERS[name].load().adaptive else {"steps": 4})
    threads(2)
    batch = ggf_cli.sample(model, range(2), solver=solver, batch_size=2)
    for count in (1, 2):
        threads(count)
        alone = ggf_cli.sample(model, [1], solver=solver, batch_size=1)
        assert int(alone.nfe[0]) == int(batch.nfe[1])
        assert torch.equal(alone.images[0], batch.images[1])


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_scores_are_solved_without_overflow(name, dtype):
    """The score is rounded, the state is not: g^2 = 8e5 at sigma = 200 is beyond float16."""
    sde = VESDE(sigma_min=0.01, sigma_max=200.0)
    solver = make_solver(name, quick_options(name))
    half, single = (
        ggf_cli.sample(gaussian_model(sde, (300,), d), 2, solver=solver, batch_size=2)
        for d in (dtype, torch.float32)
    )
    assert half.outcomes == single.outcomes == ("done", "done")
    assert half.images.dtype == torch.float32
    assert float(half.images.std()) == pytest.approx(float(single.images.std()), rel=0.1)


def test_no_solver_uses_a_sum_of_torch():
    """Except for tables of coefficients, which are not sums over a row."""
    allowed = {"er_sde.py", "unipc.py", "reduction.py"}
    reductions = {"sum", "mean", "norm", "var", "std", "vector_norm", "cumsum", "logsumexp"}
    sums = {"dot", "einsum", "matmul", *reductions}
    for file in sorted((Path(ggf_cli.__file__).parent / "solvers").glob("*.py")):
        calls = [n.func for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)]
        names = {c.attr for c in calls if isinstance(c, ast.Attribute)}
        assert file.name in allowed or not names & sums, file.name
