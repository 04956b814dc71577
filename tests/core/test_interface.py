"""The public Python interface, as the README documents it."""

import pytest
import torch

import ggf_cli
from ggf_cli.cli.console import with_flags
from ggf_cli.errors import OptionError, UsageError
from ggf_cli.solvers import make_solver


def test_the_documented_session(fashion):
    model = ggf_cli.load_model("fashion-vp", device="cpu")
    x, t = torch.randn(3, *model.shape), torch.tensor([0.1, 0.5, 1.0])
    assert model.shape == (1, 28, 28)
    assert model.score(x, t).shape == x.shape
    assert model.sde == ggf_cli.VPSDE(beta_min=0.1, beta_max=20.0)

    result = ggf_cli.sample(model, 4, solver="adaptive", eps_rel=0.5, seed=0, batch_size=4)
    assert result.images.shape == (4, 1, 28, 28)
    assert result.images.dtype == torch.float32
    assert 0 <= float(result.images.min()) <= float(result.images.max()) <= 1
    assert result.nfe.shape == result.accepted.shape == result.rejected.shape == (4,)
    assert result.network_calls <= result.rows_evaluated


def test_bring_your_own_score():
    vp = ggf_cli.VPSDE(beta_min=0.1, beta_max=20.0)

    # The score of data at a single point, 0.
    def my_function(x, t):
        return -x / vp.sigma(t)[:, None, None, None] ** 2

    mine = ggf_cli.ScoreModel(score=my_function, sde=vp, shape=(3, 8, 8))
    solver = ggf_cli.solvers.Adaptive(eps_rel=0.05)
    finished = list(ggf_cli.stream(mine, range(20), solver=solver, batch_size=8))
    assert sorted(f.index for f in finished) == list(range(20))
    for f in finished:
        assert f.x.dtype == torch.float32
        torch.testing.assert_close(f.x, torch.zeros(3, 8, 8), rtol=0, atol=0.05)


def test_sdes_take_one_time_for_each_row():
    t = torch.tensor([0.2, 0.9], dtype=torch.float64)
    for sde in (ggf_cli.VPSDE(), ggf_cli.VESDE(sigma_min=0.01, sigma_max=50.0), ggf_cli.SubVPSDE()):
        assert sde.alpha(t).shape == sde.sigma(t).shape == sde.diffusion(t).shape == (2,)
        assert sde.drift(torch.ones(2, 3), t).shape == (2, 3)


def test_samples_come_in_the_order_asked_for(mixture):
    a = ggf_cli.sample(mixture, [5, 2, 9], solver="em", steps=10)
    b = ggf_cli.sample(mixture, [9, 5, 2], solver="em", steps=10)
    assert a.index.tolist() == [5, 2, 9]
    assert torch.equal(a.images, b.images[[1, 2, 0]])


@pytest.mark.parametrize(
    ("solver", "options", "option", "message", "flags"),
    [
        ("em", {"steps": 0}, "steps", "steps of solver 'em' is 0", "--steps of solver 'em' is 0"),
        ("em", {"nfe": 9, "steps": 3}, "nfe", "steps and nfe ex", "--steps and --nfe ex"),
        ("em", {"eps_rel": 1}, "eps_rel", "has no option eps_rel", "has no option --eps-rel"),
        (
            "em",
            {"schedule": "schedule"},
            "schedule",
            "schedule of",
            "--schedule of solver 'em' is 'schedule'",
        ),
    ],
)
def test_errors_name_options_as_python_does_and_the_command_line_adds_dashes(
    solver, options, option, message, flags
):
    with pytest.raises(OptionError) as refused:
        make_solver(solver, options)
    error = refused.value
    assert error.option == option
    assert message in error.message
    assert "--" not in f"{error.message}{error.hint}"
    assert flags in with_flags(error.message, error.options)


def test_a_solver_object_takes_no_further_options(mixture):
    with pytest.raises(UsageError, match="eps_rel"):
        ggf_cli.sample(mixture, 1, solver=ggf_cli.solvers.Adaptive(), eps_rel=0.1)


@pytest.mark.parametrize(
    ("solver", "options", "named"),
    [
        ("adaptiv", {}, "unknown solver 'adaptiv'"),
        ("em", {"eps_rel": 0.1}, "has no option eps_rel"),
        ("adaptive", {"eps_rel": 0.0}, "eps_rel of solver 'adaptive' is 0.0"),
        ("adaptive", {"eps_rel": float("nan")}, "eps_rel"),
        ("adaptive", {"eps_rel": "0.1"}, "eps_rel"),
        ("adaptive", {"eps_rel": None}, "eps_rel"),
        ("adaptive", {"eps_abs": -1.0}, "eps_abs"),
        ("adaptive", {"norm": "l3"}, "one of l2, linf"),
        ("adaptive", {"safety": 1.5}, "<= 1"),
        ("adaptive", {"extrapolation": 1}, "true or false"),
        ("em", {"steps": 0}, ">= 1"),
        ("em", {"steps": 2.5}, "whole number"),
        ("em", {"steps": True}, "whole number"),
    ],
)
def test_bad_options_are_named(mixture, solver, options, named):
    with pytest.raises(UsageError, match=named):
        ggf_cli.sample(mixture, 1, solver=solver, **options)


def test_everything_public_can_be_imported():
    for name in ggf_cli.__all__:
        assert getattr(ggf_cli, name) is not None
    with pytest.raises(AttributeError):
        _ = ggf_cli.nothing
    with pytest.raises(AttributeError):
        _ = ggf_cli.solvers.Nothing


@pytest.mark.parametrize(
    ("shape", "num_samples", "expected"),
    [
        ((1, 28, 28), 1000, 128),
        ((1, 28, 28), 1, 1),
        ((1, 28, 28), 3, 4),
        ((3, 256, 256), 100, 2),
        ((3, 1024, 1024), 9, 1),
        ((2,), 500, 128),
    ],
)
def test_automatic_batches_fit_the_memory(shape, num_samples, expected):
    from ggf_cli.batch_size import choose_batch_size

    model = ggf_cli.ScoreModel(score=lambda x, t: x, sde=ggf_cli.VPSDE(), shape=shape)
    assert choose_batch_size(model, num_samples) == expected


def test_a_batch_size_of_zero_is_refused(mixture):
    with pytest.raises(UsageError, match="batch size is 0"):
        ggf_cli.sample(mixture, 1, batch_size=0)


def test_a_sample_that_did_not_finish_has_no_image(mixture):
    result = ggf_cli.sample(mixture, 2, max_nfe=3)
    assert result.images.isnan().all()


@pytest.mark.parametrize(
    "shape", [(), (0,), (-1, 2), (1.0, 2), 5, {3, 4}, (2**31,), (True,)], ids=str
)
def test_invalid_shapes_are_refused(shape):
    with pytest.raises(UsageError, match="shape of a sample"):
        ggf_cli.ScoreModel(score=lambda x, t: x, sde=ggf_cli.VPSDE(), shape=shape)


@pytest.mark.parametrize(
    "answer", [None, (1, 2), torch.zeros(1, 2, dtype=torch.complex64)], ids=str
)
def test_scores_that_are_no_real_tensors_are_refused(answer):
    model = ggf_cli.ScoreModel(score=lambda x, t: answer, sde=ggf_cli.VPSDE(), shape=(2,))
    with pytest.raises(UsageError, match="the score is a"):
        ggf_cli.sample(model, 1)
    with pytest.raises(UsageError, match="floating-point"):
        ggf_cli.ScoreModel(score=None, sde=ggf_cli.VPSDE(), shape=(2,), dtype=torch.int32)


def test_stream_takes_the_name_of_a_solver(mixture):
    assert len(list(ggf_cli.stream(mixture, range(2), solver="adaptive"))) == 2
