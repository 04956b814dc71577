"""The adaptive solver of the paper: parity with the authors' code, evaluations and options."""

import json

import pytest
import torch

import ggf_cli
from ggf_cli.noise import Noise
from ggf_cli.solvers.adaptive import Adaptive
from paths import DATA
from problems import VE, VP, gaussian_model

TRACE = json.loads((DATA / "official_trace.json").read_text())


@pytest.mark.parametrize("row", range(4))
@pytest.mark.parametrize("sde", [VP, VE], ids=["vp", "ve"])
def test_follows_the_authors_code_step_by_step(sde, row):
    """Same noise, float64: the same time after every attempt, and the same states.

    Equal times mean equal decisions to accept or reject.
    """
    trace = TRACE[sde.name]
    noise = Noise(seed=trace["seed"], shape=tuple(trace["shape"]), dtype=torch.float64)
    solver, score = Adaptive(eps_rel=trace["eps_rel"]), gaussian_model(sde).score
    index = torch.tensor([row])
    rows = solver.start(sde.prior_sampling(noise(index, 0 * index)), index, sde)

    times, at_t_eps = [], None
    while not rows.done.all():
        attempt = bool(rows.known)
        rows = solver.step(rows, score, noise, sde)
        if attempt:
            times.append(float(rows.t))
            at_t_eps = rows.x

    official = [t[row] for t in trace["t"]]
    official = [t for t in official if t > sde.t_eps + 1e-9] + [sde.t_eps]
    assert times == pytest.approx(official, rel=0, abs=1e-10)
    assert len(times) == int(rows.accepted + rows.rejected)
    # The trace must contain a rejection.
    assert int(rows.rejected) > 0
    expected = torch.tensor(trace["x_at_t_eps"], dtype=torch.float64)[row]
    torch.testing.assert_close(at_t_eps[0], expected, rtol=0, atol=1e-8)
    # The authors' denoising leaves out the division by alpha(t_eps).
    alpha = sde.alpha(torch.tensor([sde.t_eps], dtype=torch.float64))
    expected = torch.tensor(trace["denoised"], dtype=torch.float64)[row]
    torch.testing.assert_close(rows.x[0] * alpha, expected, rtol=0, atol=1e-8)


def run(sde, n=12, **options):
    return ggf_cli.sample(gaussian_model(sde), n, solver="adaptive", batch_size=8, **options)


@pytest.mark.parametrize("sde", [VP, VE], ids=["vp", "ve"])
def test_a_rejection_costs_one_evaluation(sde):
    """Two evaluations per accepted step, one per rejection (the score is kept), one for Tweedie."""
    result = run(sde, eps_rel=0.05)
    assert result.rejected.sum() > 0
    assert torch.equal(result.nfe, 2 * result.accepted + result.rejected + 1)


def test_without_extrapolation_the_last_score_is_reused_for_the_next_step():
    result = run(VP, eps_rel=0.05, extrapolation=False)
    assert torch.equal(result.nfe, result.accepted + result.rejected + 1)


def test_without_denoising_the_last_evaluation_is_saved():
    result = run(VP, eps_rel=0.05, denoise=False)
    assert torch.equal(result.nfe, 2 * result.accepted + result.rejected)


@pytest.mark.parametrize("sde", [VP, VE], ids=["vp", "ve"])
def test_nfe_falls_as_the_tolerance_grows(sde):
    work = [float(run(sde, eps_rel=e).nfe.double().mean()) for e in (0.01, 0.02, 0.05, 0.1, 0.5)]
    assert work == sorted(work, reverse=True)
    assert len(set(work)) == len(work)


@pytest.mark.parametrize(
    ("options", "more_work"),
    [({"norm": "linf"}, True), ({"eps_abs": 0.1}, False), ({"safety": 0.5}, True)],
)
def test_an_option_changes_the_nfe(options, more_work):
    mean = float(run(VP, eps_rel=0.05).nfe.double().mean())
    changed = float(run(VP, eps_rel=0.05, **options).nfe.double().mean())
    assert (changed > mean) is more_work
    assert changed != mean


@pytest.mark.parametrize("reference", ["state", "none"])
def test_other_references_for_the_tolerance_finish_too(reference):
    default, other = run(VP, n=24, eps_rel=0.1), run(VP, n=24, eps_rel=0.1, reference=reference)
    assert not torch.equal(default.nfe, other.nfe)
    assert all(outcome == "done" for outcome in other.outcomes)


def test_the_first_step_is_h_init_or_the_whole_interval():
    rows = Adaptive(h_init=0.3).start(torch.zeros(2, 1, 4, 4), torch.arange(2), VP)
    assert rows.h.tolist() == [0.3, 0.3]
    rows = Adaptive(h_init=1.0).start(torch.zeros(2, 1, 4, 4), torch.arange(2), VP)
    assert rows.h.tolist() == [VP.T - VP.t_eps] * 2
