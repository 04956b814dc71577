"""Right samplers pass, samplers with known mistakes fail, and false alarms are rare."""

import json
from math import sqrt

import msgspec
import pytest
import torch

import ggf_cli
import wrong_samplers
from command import ggf
from ggf_cli.certification import problems
from ggf_cli.certification.documents import Certificate
from ggf_cli.certification.marginals import ALPHA, STATISTICS, measure
from ggf_cli.solvers import SOLVERS
from ggf_cli.solvers.catalog import read_catalog
from paths import ROOT

# Wrong in two dimensions, because their step sizes follow the noise: see docs/guide/certify.md.
BIASED = {"adaptive", "pc"}
FILE = ROOT / "tests/support/wrong_samplers.py"


def statuses(certificate):
    """{check: its statuses}."""
    found = {}
    for check in certificate.checks:
        found.setdefault(check.name, set()).add(check.status)
    return found


@pytest.mark.parametrize("name", ["em:steps=100", "heun", "dpmpp-2m-sde"])
def test_solvers_of_ours_are_right(name):
    certificate = ggf_cli.certify(name, n=2000)
    assert certificate.status == "right", certificate.sentence
    assert certificate.exit_code == 0
    assert "is right on exact models (VP and VE) in 2 dimensions" in certificate.sentence


@pytest.mark.slow
def test_the_adaptive_solver_is_right_in_many_dimensions():
    certificate = ggf_cli.certify("adaptive", n=1000, dimension=128)
    assert certificate.status == "right", certificate.sentence
    assert statuses(certificate)["order"] == {"not applicable"}


def test_rejections_with_new_noise_are_biased_in_two_dimensions():
    """A step is rejected if its noise is large, so the accepted noise is not normal."""
    certificate = ggf_cli.certify("adaptive:eps-rel=0.1", n=1000)
    assert certificate.status == "wrong"
    assert statuses(certificate)["marginals"] == {"wrong"}
    assert statuses(certificate)["batch"] == {"right"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SOLVERS if name not in BIASED])
def test_every_other_solver_is_right(name):
    steps = 200 if read_catalog()[name].options.get("steps") else None
    certificate = ggf_cli.certify(name, n=2000, steps=steps)
    assert certificate.status == "right", certificate.sentence


def test_functions_that_are_right_pass():
    for function, order in [(wrong_samplers.euler_maruyama, 1), (wrong_samplers.multistep, 2)]:
        certificate = ggf_cli.certify(function, n=2000, order=order)
        assert certificate.status == "right", certificate.sentence
        assert "right" in statuses(certificate)["order"]


@pytest.mark.parametrize(
    ("name", "check", "claims"),
    [
        ("without_sqrt_2", "marginals", {}),
        ("without_denoising", "noise left", {}),
        pytest.param("with_wrong_start", "start", {}, marks=pytest.mark.slow),
        ("multistep_of_first_order", "order", {"order": 2}),
        ("batch_wide_step", "batch", {}),
        pytest.param("euler_maruyama", "evaluations", {"nfe": 100}, marks=pytest.mark.slow),
        pytest.param("not_finite", "marginals", {}, marks=pytest.mark.slow),
    ],
)
def test_known_mistakes_are_found(name, check, claims):
    certificate = ggf_cli.certify(getattr(wrong_samplers, name), n=2000, **claims)
    assert certificate.status == "wrong"
    assert certificate.exit_code == 4
    assert "wrong" in statuses(certificate)[check]
    assert f"{name}" in certificate.sentence


@pytest.mark.parametrize(
    ("name", "claims"), [("batch_wide_step", {}), ("multistep_of_first_order", {"order": 2})]
)
def test_only_the_mistake_is_reported(name, claims):
    found = statuses(ggf_cli.certify(getattr(wrong_samplers, name), n=2000, **claims))
    wrong = {check for check, status in found.items() if "wrong" in status}
    assert wrong == {"batch" if name == "batch_wide_step" else "order"}


def test_first_order_is_right_if_no_more_is_claimed():
    certificate = ggf_cli.certify(wrong_samplers.multistep_of_first_order, n=2000, order=1)
    assert certificate.status == "right", certificate.sentence


def test_noise_from_elsewhere_leaves_the_batch_undecided():
    certificate = ggf_cli.certify(wrong_samplers.own_noise, n=1000)
    assert statuses(certificate)["batch"] == {"undecided"}
    assert certificate.status == "undecided"
    assert certificate.exit_code == 0


def test_certifying_leaves_the_global_generator_and_the_threads():
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    ggf_cli.certify(wrong_samplers.own_noise, n=1000, steps=10)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("size", [2, 16])
@pytest.mark.parametrize("problem", [problems.gaussian, problems.mixture])
def test_exact_samples_rarely_exceed_their_limits(problem, size):
    """The limit without its allowance: z standard errors, for all statistics at once.

    By the bound, a certificate exceeds it with probability ALPHA; four problems of 60 data sets
    each exceed it anywhere with probability 60 * ALPHA = 3 %, for this one seed.
    """
    exact = problem(problems.SDES["vp"], size)
    generator = torch.Generator().manual_seed(0)
    exceeded = 0
    for _ in range(60):
        found = measure(exact, exact.mixture.sample(4000, generator))
        exceeded += any(abs(m.value) > m.limit - m.allowance for m in found)
    assert exceeded == 0


def test_statistics_have_their_standard_errors():
    """In one component they are known: 1, and sqrt(2) for variances."""
    spread = problems.spread(problems.gaussian(problems.SDES["vp"]).mixture)
    torch.testing.assert_close(
        spread, torch.tensor([1, 1, sqrt(2), 1, sqrt(2)]).double(), rtol=0.02, atol=0
    )


def test_the_bound_counts_all_statistics():
    plane = problems.SDES["vp"]
    counts = [
        len(problems.names_of_statistics(problem(plane, 16).mixture))
        for problem in (problems.gaussian, problems.mixture)
    ]
    assert 2 * (sum(counts) + 6) == STATISTICS
    assert ALPHA <= 1e-3


def test_schedulers_of_diffusers():
    pytest.importorskip("diffusers")
    certificate = ggf_cli.certify("diffusers:DDIMScheduler:steps=50", n=1000)
    assert certificate.status == "right", certificate.sentence
    assert {check.problem.split(", ")[1] for check in certificate.checks} == {"VP"}
    ours = "diffusers:DPMSolverMultistepScheduler:use_karras_sigmas=True"
    certificate = ggf_cli.certify(ours, n=1000, order=2)
    assert certificate.status == "right", certificate.sentence


def test_the_command_prints_a_certificate_and_exits_4_if_wrong():
    done = ggf("certify", f"{FILE}:without_denoising", "--n", "1000", "--steps", "50", "--json")
    assert done.exit_code == 4, done.output
    certificate = msgspec.convert(json.loads(done.stdout), Certificate)
    assert certificate.status == "wrong"
    assert certificate.steps == 50
    done = ggf("certify", "ddim:steps=50", "--n", "1000")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].startswith("ddim:steps=50 is right")


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ("nope", "unknown solver"),
        ("diffusers:Nope", "no scheduler"),
        ("diffusers:FlowMatchEulerDiscreteScheduler", "VP SDE"),
        ("diffusers:DDIMScheduler:nope=1", "no setting nope"),
        ("nope.py:f", "is not a file"),
        (f"{FILE}:nope", "has no 'nope'"),
    ],
)
def test_unknown_samplers_are_usage_errors(sampler, message):
    with pytest.raises(ggf_cli.GGFError, match=message) as caught:
        ggf_cli.certify(sampler)
    assert caught.value.exit_code == 2


def test_results_of_another_shape_are_refused():
    def flat(score, sde, x_T, noise):
        return x_T.flatten()

    with pytest.raises(ggf_cli.GGFError, match="returned"):
        ggf_cli.certify(flat)
