"""Lamba's adaptive Euler–Maruyama, and the equal ablation of `adaptive`."""

import json
from dataclasses import fields

import pytest
import torch

import ggf_cli
from ggf_cli.engine import Engine
from ggf_cli.noise import Noise
from ggf_cli.solvers.adaptive import Adaptive
from ggf_cli.solvers.lamba import Lamba
from paths import DATA
from problems import VE, VP, every_sde, gaussian_model, gaussian_score

TRACE = json.loads((DATA / "lamba.json").read_text())


@pytest.mark.parametrize(
    "trace", TRACE["runs"], ids=lambda run: f"{run['sde']}-{run['norm']}-{run['reference']}"
)
def test_follows_the_authors_code_step_by_step(trace):
    """Same noise, float64: the same time after every attempt, and the same state at t_eps.

    Equal times mean equal decisions to accept or reject.
    """
    sde = {"vp": VP, "ve": VE}[trace["sde"]]
    noise = Noise(seed=TRACE["seed"], shape=tuple(TRACE["shape"]), dtype=torch.float64)
    solver = Lamba(
        eps_rel=TRACE["eps_rel"], norm=trace["norm"], reference=trace["reference"], denoise=False
    )
    index = torch.tensor([0])
    rows, times = solver.start(sde.prior_sampling(noise(index, index)), index, sde), []
    while not rows.done.all():
        attempt = bool(rows.known)
        rows = solver.step(rows, gaussian_score(sde), noise, sde)
        if attempt:
            times.append(float(rows.t))
    assert times == pytest.approx(trace["t"], rel=0, abs=1e-10)
    assert len(times) == int(rows.accepted + rows.rejected)
    expected = torch.tensor(trace["x_at_t_eps"], dtype=torch.float64)
    torch.testing.assert_close(rows.x[0], expected, rtol=0, atol=1e-8)


def test_the_traces_contain_rejections():
    assert all(
        any(a == b for a, b in zip(run["t"], run["t"][1:], strict=False))
        for run in TRACE["runs"]
        if run["norm"] == "linf"
    )


@every_sde
def test_a_step_costs_two_evaluations_and_a_rejection_one(sde):
    engine = Engine(gaussian_model(sde), Lamba(eps_rel=0.02, norm="linf"), batch_size=4)
    finished = list(engine.run(range(8)))
    assert sum(f.rejected for f in finished) > 0
    assert all(f.nfe == 2 * f.accepted + f.rejected + 1 for f in finished)


@every_sde
def test_error_falls_with_the_tolerance(sde):
    """Moments of 64 x 64 values: smaller steps remove the bias of Euler–Maruyama."""
    model, biases = gaussian_model(sde, (64,)), []
    for eps in (0.1, 0.001):
        engine = Engine(model, Lamba(eps_rel=eps, eps_abs=eps / 4), batch_size=64)
        x = torch.stack([f.x for f in engine.run(range(64))])
        biases.append(abs(float(x.mean()) - 0.3) + abs(float(x.std()) - 0.5))
    assert biases[1] < min(0.02, biases[0] / 2)


def test_acceptance_does_not_depend_on_the_noise():
    """The noise is added after an attempt is accepted: any noise gives the same decision."""
    x = torch.randn(64, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    outcomes = []
    for seed in (1, 2):
        solver = Lamba(eps_rel=1e-9, eps_abs=0.004, h_init=0.01)
        noise = Noise(seed=seed, shape=(1,), dtype=torch.float64)
        rows = solver.start(x, torch.arange(64), VP)
        for _ in range(2):
            rows = solver.step(rows, gaussian_score(VP), noise, VP)
        outcomes.append(rows.accepted)
    assert 0 < int(outcomes[0].sum()) < 64
    assert torch.equal(*outcomes)


def test_lamba_equals_an_ablation_of_adaptive():
    ablation = {"improved_euler": False, "extrapolation": False, "exponent": 0.5}
    lamba = ggf_cli.sample(gaussian_model(VP), 5, solver="lamba")
    adaptive = ggf_cli.sample(gaussian_model(VP), 5, solver="adaptive", **ablation)
    assert torch.equal(lamba.images, adaptive.images)
    assert torch.equal(lamba.nfe, adaptive.nfe)


def test_every_ablation_of_the_paper_is_an_option_with_one_line_of_help():
    of_the_error = {"norm", "reference", "eps_abs"}
    of_the_step = {"safety", "exponent", "h_init", "extrapolation", "improved_euler"}
    ablations = of_the_error | of_the_step
    options = {f.name: f.metadata["help"] for f in fields(Adaptive)}
    assert ablations <= options.keys()
    assert all(options[name] and "\n" not in options[name] for name in ablations)


@every_sde
def test_a_sample_is_the_same_in_any_batch(sde):
    few = ggf_cli.sample(gaussian_model(sde), [3, 1], solver="lamba", batch_size=2)
    many = ggf_cli.sample(gaussian_model(sde), 9, solver="lamba", batch_size=4)
    assert torch.equal(few.images, many.images[[3, 1]])
    assert torch.equal(few.nfe, many.nfe[[3, 1]])
