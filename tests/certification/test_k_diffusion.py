"""Samplers of k-diffusion: a stand-in with its signatures, and the package if it is installed."""

import importlib.util
import inspect
import sys

import pytest
import torch

import ggf_cli
from command import ggf
from fake_k_diffusion import sampling_source
from ggf_cli.certification import convergence, k_diffusion, problems
from ggf_cli.certification.brownian import BrownianNoise
from ggf_cli.certification.samplers import NoiseSource, draw
from ggf_cli.errors import SolveError, UsageError

NEEDS = ("k_diffusion", "torchsde", "torchdiffeq", "scipy")
REAL = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDS),
    reason="needs k-diffusion, torchsde, torchdiffeq and scipy",
)
VE = problems.SDES["ve"]


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A package k_diffusion whose __init__ and utils do not import, as without its needs."""
    folder = tmp_path / "k_diffusion"
    folder.mkdir()
    (folder / "__init__.py").write_text("import clip_that_is_absent\n")
    (folder / "utils.py").write_text("import torchvision_that_is_absent\n")
    (folder / "sampling.py").write_text(sampling_source())
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def of(name):
    return k_diffusion.from_k_diffusion(name)


def statuses(certificate):
    return {check.name: check.status for check in certificate.checks if check.status != "right"}


def test_a_right_sampler_is_right(fake):
    certificate = ggf_cli.certify("k-diffusion:sample_euler:steps=50", n=1000, order=1, nfe=50)
    assert certificate.status == "right", certificate.sentence
    assert certificate.steps == 50
    assert certificate.sampler == "k-diffusion:sample_euler:steps=50"
    assert {check.problem.split(", ")[1] for check in certificate.checks} == {"VE"}
    assert "with order 1.0" in certificate.sentence


@pytest.mark.parametrize("name", ["sample_ancestral", "sample_euler:s_churn=5"])
def test_noise_has_a_stream_for_each_row(fake, name):
    certificate = ggf_cli.certify(f"k-diffusion:{name}", n=1000)
    assert certificate.status == "right", certificate.sentence
    batch = next(check for check in certificate.checks if check.name == "batch")
    assert batch.status == "right", batch.summary
    assert "weak order" in certificate.sentence


@pytest.mark.parametrize(
    ("name", "stochastic"),
    [
        ("sample_euler", False),
        ("sample_euler:s_churn=5", True),
        ("sample_ancestral", True),
        ("sample_ancestral:eta=0", False),
    ],
)
def test_whether_a_sampler_draws_noise(fake, name, stochastic):
    drawn = draw(of(name), problems.gaussian(VE), torch.arange(4), seed=0, steps=10)
    assert drawn.stochastic == stochastic


def test_levels_are_those_of_karras_and_zero(fake):
    """Equation 5 of Karras et al. (2022), rho = 7, written out for three levels."""
    levels = k_diffusion._karras(torch.tensor([50.0, 0.01], dtype=torch.float64), 3)
    middle = ((50 ** (1 / 7) + 0.01 ** (1 / 7)) / 2) ** 7
    expected = torch.tensor([50, middle, 0.01, 0], dtype=torch.float64)
    torch.testing.assert_close(levels, expected)


def test_a_known_mistake_is_found(fake):
    certificate = ggf_cli.certify("k-diffusion:sample_without_sqrt_2", n=1000)
    assert certificate.exit_code == 4
    assert statuses(certificate)["marginals"] == "wrong"


def test_a_step_of_the_whole_batch_that_stops_early_is_found(fake):
    certificate = ggf_cli.certify("k-diffusion:sample_of_batch", n=1000)
    assert certificate.steps is None
    found = statuses(certificate)
    assert (found["batch"], found["noise left"], found["order"]) == (
        "wrong",
        "wrong",
        "not applicable",
    )


def test_steps_are_the_evaluations_of_a_function_with_n(fake):
    drawn = draw(of("sample_fast:steps=30"), problems.gaussian(VE), torch.arange(4), seed=0)
    assert drawn.calls == 30


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("sample_eular", "no sampler 'sample_eular'", "did you mean 'sample_euler'"),
        ("sample_other", "no sampler 'sample_other'", "sample_"),
        ("sample_euler:s_chrun=1", "no setting s_chrun", "did you mean 's_churn'"),
        ("sample_euler:callback=1", "no setting callback", "it has s_churn"),
        ("sample_euler:sigmas=1", "no setting sigmas", "it has s_churn"),
        ("sample_euler:steps", "'steps' is not SETTING=VALUE", "steps=50"),
        ("sample_euler:steps=0", "steps is 0", None),
        ("sample_euler:steps=True", "steps is True", None),
        ("sample_of_batch:steps=5", "no number of steps", None),
        ("sample_picky:kind=b", "kind must be 'a'", None),
        ("sample_ancestral:eta=large", "refuses its settings", None),
    ],
)
def test_what_is_refused(fake, name, message, hint):
    with pytest.raises(UsageError, match=message) as found:
        ggf_cli.certify(f"k-diffusion:{name}", n=1000)
    assert hint is None or hint in found.value.hint


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(k_diffusion.importlib.util, "find_spec", lambda name: None)
    done = ggf("certify", "k-diffusion:sample_heun")
    assert done.exit_code == 2
    assert "k-diffusion is not installed" in done.stderr
    assert "pip install --no-deps k-diffusion torchsde" in done.stderr


def test_a_missing_requirement_is_named_with_the_command(fake):
    (fake / "sampling.py").write_text("import torchdiffeq_that_is_absent\n")
    with pytest.raises(UsageError, match="torchdiffeq_that_is_absent") as found:
        of("sample_heun")
    assert "torchdiffeq" in found.value.hint


def test_nothing_of_the_package_stays_imported(fake):
    of("sample_euler")
    assert not [name for name in sys.modules if name.startswith("k_diffusion")]


def test_a_whole_package_that_is_imported_is_used(fake):
    """As in a notebook that has imported k_diffusion before."""
    (fake / "__init__.py").write_text("")
    (fake / "utils.py").write_text("def append_dims(x, dims):\n    return x[:, None]\n")
    import k_diffusion.sampling as whole

    try:
        assert k_diffusion._find("sample_euler") is whole.sample_euler
        assert sys.modules["k_diffusion.sampling"] is whole
    finally:
        for name in [key for key in sys.modules if key.startswith("k_diffusion")]:
            del sys.modules[name]


def test_a_sampler_that_does_not_end_is_stopped(fake, monkeypatch):
    monkeypatch.setattr(k_diffusion, "MAX_CALLS", 50)
    with pytest.raises(SolveError, match="did not end after 50 evaluations"):
        ggf_cli.certify("k-diffusion:sample_endless", n=1000)


def increments(*intervals, rows=40_000):
    """Increments of one path over intervals, (intervals, rows)."""
    path = BrownianNoise(NoiseSource(0, torch.arange(rows), 1), torch.zeros(rows, 1).double())
    return torch.stack([path(*interval)[:, 0] for interval in intervals])


@pytest.mark.parametrize(
    "intervals",
    [
        [(4.0, 3.0), (4.0, 1.0), (1.0, 0.5)],
        [(4.0, 1.0), (4.0, 3.0), (3.0, 1.0), (3.0, 2.0)],
        [(4.0, 3.0), (2.0, 1.0), (2.5, 0.0)],
        [(1.0, 4.0), (4.0, 3.0)],
    ],
)
def test_increments_are_those_of_one_brownian_path(intervals):
    """Their correlation is the length of the overlap by the mean length, with its direction."""
    found = torch.corrcoef(increments(*intervals))
    lows, highs = ([f(pair) for pair in intervals] for f in (min, max))
    signs = [1 if a > b else -1 for a, b in intervals]
    for i, (low, high) in enumerate(zip(lows, highs, strict=True)):
        for j, (other_low, other_high) in enumerate(zip(lows, highs, strict=True)):
            overlap = max(0, min(high, other_high) - max(low, other_low))
            size = ((high - low) * (other_high - other_low)) ** 0.5
            expected = signs[i] * signs[j] * overlap / size
            # Six standard errors.
            assert float(found[i, j]) == pytest.approx(expected, abs=0.03)
    assert increments(*intervals).square().mean(1).tolist() == pytest.approx(
        [1] * len(intervals), abs=0.05
    )


def test_increments_add_up():
    first, whole, second = increments((4.0, 3.0), (4.0, 1.0), (3.0, 1.0), rows=5)
    torch.testing.assert_close(first + 2**0.5 * second, 3**0.5 * whole)


def test_a_level_that_differs_by_rounding_is_the_same():
    first, again = increments((4.0, 3.0), (4.0 * (1 - 1e-8), 3.0), rows=5)
    torch.testing.assert_close(first, again)


def test_levels_that_are_forgotten_are_refused():
    with pytest.raises(UsageError, match="after lower levels"):
        increments((4.0, 3.0), (3.0, 2.0), (4.0, 2.0), rows=2)


@REAL
@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("sample_heun", {"order": 2, "nfe": 199}),
        ("sample_euler_ancestral", {"order": 1, "nfe": 100}),
        ("sample_dpmpp_2m_sde:steps=50,solver_type=heun", {"nfe": 50}),
        ("sample_dpmpp_sde:steps=20", {"nfe": 39}),
    ],
)
def test_samplers_of_the_package(name, claims):
    certificate = ggf_cli.certify(f"k-diffusion:{name}", n=2000, **claims)
    assert certificate.status == "right", certificate.sentence


@REAL
def test_nested_intervals_of_the_package_need_one_path(monkeypatch):
    """Independent noise makes the variance of `sample_dpmpp_sde` too small."""
    problem = problems.isotropic(VE, 16).ending_at(0.1)

    def error_of_variance():
        drawn = draw(of("sample_dpmpp_sde"), problem, torch.arange(2000), seed=0, steps=50)
        return convergence._weak_errors(drawn)[2][1]

    # Their standard error is 0.008.
    assert error_of_variance() == pytest.approx(0, abs=0.04)
    monkeypatch.setattr(k_diffusion, "BrownianNoise", lambda noise, like: lambda a, b: noise())
    assert error_of_variance() == pytest.approx(-0.15, abs=0.04)


@REAL
@pytest.mark.parametrize(("counts", "order"), [((50, 101, 200), 3), ((49, 100, 199), 2)])
def test_the_order_of_dpm_fast_depends_on_the_number_of_evaluations(counts, order):
    """Modulo 3: its last step is of order 2, or of order 1."""
    problem = problems.isotropic(VE, 8).ending_at(0.1)
    sampler = of("sample_dpm_fast")
    errors = [
        convergence._flow_errors(draw(sampler, problem, torch.arange(8), seed=0, steps=n))[0]
        for n in counts
    ]
    found = convergence._slope(list(zip(counts, errors, strict=True)), 0)[0]
    assert found == pytest.approx(order, abs=0.3)


@REAL
@pytest.mark.parametrize(("term", "order"), [("phi_3 * d2", 2), ("2 * phi_3 * d2", 3)])
def test_the_formula_of_3m_has_half_the_second_difference(monkeypatch, term, order):
    """A parabola d2 (s / h)^2 adds the integral of exp(s - h) (s / h)^2 over (0, h): -2 phi_3."""
    theirs = inspect.unwrap(k_diffusion._find("sample_dpmpp_3m_sde"))
    text = inspect.getsource(theirs)
    assert "- phi_3 * d2" in text
    names = dict(theirs.__globals__)
    exec(text.replace("phi_3 * d2", term), names)  # noqa: S102
    monkeypatch.setattr(k_diffusion, "_find", names.get)
    certificate = ggf_cli.certify("k-diffusion:sample_dpmpp_3m_sde:eta=0", n=1000, order=order)
    found = {check.name: check for check in certificate.checks}["order"]
    assert found.status == "right", found.summary
    assert found.measurements[-1].value == pytest.approx(order, abs=0.2)


@REAL
def test_the_step_of_dpm_adaptive_depends_on_the_other_rows():
    """A batch of equal rows has the error norm of one row, and the same samples."""
    problem = problems.mixture(VE)

    def sample(index):
        return draw(of("sample_dpm_adaptive"), problem, torch.tensor(index), seed=0).x[0]

    torch.testing.assert_close(sample([0] * 4), sample([0]), rtol=0, atol=1e-6)
    assert float((sample([0, 1, 2, 3]) - sample([0])).abs().max()) > 1e-3
