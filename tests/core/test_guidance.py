"""Guidance: the formula, its interval, its counts, and samples of a labelled mixture."""

import json

import numpy as np
import pytest
import torch

import ggf_cli
from command import ggf
from ggf_cli.errors import UsageError
from ggf_cli.guidance import Guidance
from ggf_cli.solvers import SOLVERS, make_solver
from observers import Interrupt
from problems import VP, quick_options

MEANS = torch.tensor([-1.5, 0.5, 2.0], dtype=torch.float64)
STD = torch.tensor([0.4, 0.2, 0.6], dtype=torch.float64)
NULL = 3
LABELS = [0, 2, 1, 1, 2, 0, 0, 2]
# One solver for each kind of state that rows carry; the others are slow tests.
KINDS = ("em", "adaptive", "adaptive-multistep", "heun", "ode-rk45", "pc")


def class_scores(x, t):
    """The score of each class at x (B, D), (3, B, D), and log p(x | class), (3, B)."""
    alpha, sigma = VP.alpha(t)[:, None], VP.sigma(t)[:, None]
    variance = (alpha * STD).square() + sigma.square()  # (B, 3)
    away = alpha[..., None] * MEANS[:, None] - x[:, None]  # (B, 3, D)
    scores = away / variance[..., None]
    log_p = -(away.square().sum(2) / variance + x.shape[1] * torch.log(variance)) / 2
    return scores.transpose(0, 1), log_p.T


def mixture_score(x, t, label):
    """The score of the labelled mixture: of class `label`, or of all classes for the label 3."""
    scores, log_p = class_scores(x, t)
    whole = (torch.softmax(log_p, 0)[..., None] * scores).sum(0)
    own = scores[label.clamp(max=2), torch.arange(len(x))]
    return torch.where((label == NULL)[:, None], whole, own)


class Counting:
    """The score of the mixture, which records the rows of its calls."""

    def __init__(self, limit=10**9):
        self.rows, self.labels, self.limit = [], [], limit

    def __call__(self, x, t, label):
        if len(x) > self.limit and len(self.rows) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.rows.append(len(x))
        self.labels.append(label.tolist())
        return mixture_score(x, t, label)


def labelled(score=mixture_score, **settings):
    given = {"null_condition": NULL, "shape": (2,), "dtype": torch.float64, "data_range": None}
    return ggf_cli.ScoreModel(score=score, sde=VP, conditional=True, **given | settings)


def draw(model, n=8, solver="adaptive", **settings):
    chosen = make_solver(solver, quick_options(solver))
    return ggf_cli.sample(model, n, solver=chosen, conditions=LABELS, **settings)


def test_the_guided_score_is_the_extrapolation():
    """Seen by a solver: with one step of Euler from the same x_T."""
    label = torch.tensor(LABELS)
    t = torch.full((8,), VP.T, dtype=torch.float64)
    seen = []
    for scale in (0.5, 1.0, 3.0):
        ggf_cli.sample(
            labelled(),
            8,
            solver="em",
            steps=1,
            denoise=False,
            conditions=LABELS,
            guidance=scale,
            on_step=lambda step: seen.append((step.evaluated_x, step.score)),
        )
        x, score = seen[-1]
        own, without = mixture_score(x, t, label), mixture_score(x, t, torch.full((8,), NULL))
        expected = without + scale * (own - without)
        assert torch.allclose(score, expected, rtol=1e-12, atol=1e-12)


def test_scale_1_is_the_conditional_model_and_costs_one_evaluation():
    plain, one = draw(labelled()), draw(labelled(), guidance=1)
    assert torch.equal(plain.x, one.x)
    assert torch.equal(plain.nfe, one.nfe)


@pytest.mark.parametrize(
    "solver", [pytest.param(n, marks=() if n in KINDS else pytest.mark.slow) for n in SOLVERS]
)
def test_two_evaluations_at_scale_1_give_the_samples_of_the_class(solver):
    """A scale next to 1 takes two evaluations; the samples of the classes are known."""
    plain, guided = (
        draw(labelled(), solver=solver),
        draw(labelled(), solver=solver, guidance=1 + 1e-9),
    )
    assert torch.allclose(plain.x, guided.x, rtol=0, atol=1e-5)
    assert torch.equal(guided.nfe, 2 * plain.nfe)
    assert torch.equal(guided.accepted, plain.accepted)


def test_samples_at_scale_1_have_the_moments_of_their_class():
    label = torch.arange(3000) % 3
    result = ggf_cli.sample(
        labelled(), 3000, solver="heun", steps=30, conditions=label, guidance=1 + 1e-9
    )
    for k in range(3):
        x = result.x[label == k]
        assert torch.allclose(x.mean(0), MEANS[k].expand(2), rtol=0, atol=5 * STD[k] / 1000**0.5)
        assert torch.allclose(x.std(0), STD[k].expand(2), rtol=0.1)


@pytest.mark.parametrize("solver", ["em", "adaptive", "heun"])
def test_every_evaluation_counts_and_only_rows_in_the_interval_take_two(solver):
    score, noisy = Counting(), []
    model = labelled(score).with_conditions(LABELS)
    # Without the try-out.
    score.rows.clear(), score.labels.clear()
    chosen = make_solver(solver, quick_options(solver))
    result = ggf_cli.sample(
        model,
        8,
        solver=chosen,
        guidance=2.0,
        guidance_interval=(0.2, 2.0),
        batch_size=1,
        on_step=lambda step: noisy.append(
            float(VP.sigma(step.evaluated_t) / VP.alpha(step.evaluated_t))
        ),
    )
    inside = sum(0.2 <= level <= 2.0 for level in noisy)
    assert 0 < inside < len(noisy)
    assert int(result.nfe.sum()) == len(noisy) + inside == sum(score.rows)
    assert result.rows_evaluated == sum(score.rows)
    assert result.utilisation == 1
    assert sum(labels == [NULL] for labels in score.labels) == inside


def test_a_guided_sample_does_not_depend_on_its_batch():
    settings = {"guidance": 2.5, "guidance_interval": (0.1, 3.0)}
    alone = draw(labelled(), batch_size=1, **settings)
    for batch_size in (3, 4, 8):
        result = draw(labelled(), batch_size=batch_size, **settings)
        assert torch.equal(result.x, alone.x)
        assert torch.equal(result.nfe, alone.nfe)


def test_guidance_goes_on_after_out_of_memory():
    settings = {"guidance": 2.5, "guidance_interval": (0.1, 3.0), "batch_size": 8}
    score = Counting(limit=3)
    result, expected = draw(labelled(score), **settings), draw(labelled(), **settings)
    assert result.batch_size < 8
    assert torch.equal(result.x, expected.x)
    assert torch.equal(result.nfe, expected.nfe)


def test_the_null_condition_may_be_a_vector():
    def score(x, t, vector):
        return mixture_score(x, t, vector.argmax(1))

    vectors = torch.eye(4, dtype=torch.float64)
    by_vector = ggf_cli.sample(
        labelled(score, null_condition=vectors[NULL]),
        8,
        conditions=vectors[LABELS],
        guidance=2.0,
        eps_rel=0.5,
    )
    by_label = ggf_cli.sample(labelled(), 8, conditions=LABELS, guidance=2.0, eps_rel=0.5)
    assert torch.equal(by_vector.x, by_label.x)


def test_a_resumed_run_keeps_its_guidance(tmp_path):
    settings = {
        "conditions": LABELS,
        "guidance": 2,
        "guidance_interval": [0.1, 3],
        "format": "npz",
        "eps_rel": 0.3,
        "batch_size": 3,
    }
    model, part = labelled(), tmp_path / "part"
    ggf_cli.run(model, 8, out=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        ggf_cli.run(model, 8, out=part, observer=Interrupt(3), **settings)
    for change in ({"guidance": 3}, {"guidance_interval": [0.1, 4]}, {"guidance_interval": None}):
        with pytest.raises(ggf_cli.errors.OutputError, match="`guidance"):
            ggf_cli.run(model, 8, out=part, resume=True, **settings | change)
    log = ggf_cli.run(model, 8, out=part, resume=True, **settings).log
    assert (log.guidance.scale, log.guidance.interval) == (2.0, [0.1, 3.0])
    whole, resumed = (np.load(tmp_path / name / "samples.npz") for name in ("whole", "part"))
    assert (whole["images"] == resumed["images"]).all()
    assert (whole["nfe"] == resumed["nfe"]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance": 0}, "`guidance` is 0"),
        ({"guidance": float("nan")}, "`guidance` is nan"),
        ({"guidance": "2"}, "`guidance` is '2'"),
        ({"guidance": 2, "guidance_interval": (3, 1)}, r"`guidance_interval` is \(3, 1\)"),
        ({"guidance": 2, "guidance_interval": 1.0}, "`guidance_interval` is 1.0"),
        ({"guidance_interval": (0, 1)}, "`guidance_interval` needs `guidance`"),
    ],
)
def test_bad_guidance_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        draw(labelled(), **settings)


def test_guidance_needs_a_conditional_model_with_a_null_condition():
    with pytest.raises(UsageError, match="`guidance` needs the null condition of custom"):
        draw(labelled(null_condition=None), guidance=2)
    with pytest.raises(UsageError, match=r"null condition of custom has shape \(2,\), a condition"):
        draw(labelled(null_condition=torch.zeros(2)), guidance=2)
    plain = ggf_cli.ScoreModel(score=lambda x, t: -x, sde=VP, shape=(2,))
    with pytest.raises(UsageError, match="takes no conditions"):
        ggf_cli.sample(plain, 2, guidance=2)


def test_the_rows_of_an_interval_are_those_of_their_noise_level():
    t = torch.linspace(VP.t_eps, VP.T, 50, dtype=torch.float64)
    level = VP.sigma(t) / VP.alpha(t)
    rows = Guidance(scale=2, interval=(0.3, 4)).rows(VP, t)
    assert rows.tolist() == [i for i, s in enumerate(level.tolist()) if 0.3 <= s <= 4]
    assert Guidance(scale=2).rows(VP, t).tolist() == list(range(50))


SOURCE = """
import torch, ggf_cli
sde = ggf_cli.VPSDE()
def score(x, t, label):
    mean = torch.where(label == 3, 0.0, label.float() - 1)[:, None]
    alpha, sigma = sde.alpha(t)[:, None], sde.sigma(t)[:, None]
    return -(x - alpha * mean) / (0.04 * alpha**2 + sigma**2)
model = ggf_cli.ScoreModel(
    score=score, sde=sde, shape=(2,), data_range=None, conditional=True, null_condition=3
)
"""


def test_guidance_on_the_command_line(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE)
    words = ["sample", "--model", tmp_path / "mine.py:model", "--label", "0-2", "--n", "6"]
    words += ["--format", "npz", "--solver", "em", "--steps", "10"]
    guided = ggf(*words, "--guidance", "2", "--guidance-interval", "0.5,5", "--out", tmp_path / "a")
    assert guided.exit_code == 0, guided.stderr
    log = json.loads((tmp_path / "a/run.json").read_text())
    assert log["guidance"] == {"scale": 2.0, "interval": [0.5, 5.0]}
    assert "--guidance 2.0 --guidance-interval 0.5,5.0" in log["command"]
    assert 11 < log["nfe"]["mean"] < 22
    again = ggf("show", tmp_path / "a", "--repeat", "--allow-code", "--out", tmp_path / "b")
    assert again.exit_code == 0, again.stderr
    first, second = (np.load(tmp_path / name / "samples.npz") for name in "ab")
    assert (first["images"] == second["images"]).all()
    assert "scale 2 · sigma / alpha from 0.5 to 5" in ggf("show", tmp_path / "a").stdout
    bad = ggf(*words, "--guidance", "2", "--guidance-interval", "0.5", "--out", tmp_path / "c")
    assert bad.exit_code == 2
    assert "--guidance-interval is '0.5', it must be two noise levels" in bad.stderr
    alone = ggf(*words, "--guidance-interval", "1,2", "--out", tmp_path / "c")
    assert alone.exit_code == 2
    assert "--guidance-interval needs --guidance" in alone.stderr
