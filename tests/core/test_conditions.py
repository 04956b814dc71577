"""Conditions: each sample has its own, in any batch, order, resumed run or worker."""

import json

import numpy as np
import pytest
import torch

import ggf_cli
from command import ggf
from ggf_cli.engine import Engine
from ggf_cli.errors import UsageError
from ggf_cli.per_sample import as_per_sample, repeated_labels
from ggf_cli.solvers import SOLVERS, make_solver
from observers import Interrupt
from problems import VP, quick_options

MEANS = torch.tensor([-1.5, 0.0, 0.5, 2.0], dtype=torch.float64)
STD = 0.4


def gaussian(mean, x, t):
    """The score of N(mean, STD^2) data; the mean is a number, or one for each row."""
    shape = (-1, *(1,) * (x.dim() - 1))
    alpha, sigma = VP.alpha(t).reshape(shape), VP.sigma(t).reshape(shape)
    mean = mean.reshape(shape) if isinstance(mean, torch.Tensor) else mean
    return -(x - alpha * mean) / (alpha**2 * STD**2 + sigma**2)


def conditional(**settings):
    """A model whose class labels select the mean."""
    return ggf_cli.ScoreModel(
        score=lambda x, t, label: gaussian(MEANS.to(x.device)[label], x, t),
        sde=VP,
        shape=(5,),
        dtype=torch.float64,
        conditional=True,
        **settings,
    )


def of_class(label):
    """The unconditional model of one class."""
    return ggf_cli.ScoreModel(
        score=lambda x, t: gaussian(float(MEANS[label]), x, t),
        sde=VP,
        shape=(5,),
        dtype=torch.float64,
    )


def states(model, n=12, solver="adaptive", **settings):
    """{index: state} of the samples."""
    options = quick_options(solver)
    samples = ggf_cli.stream(model, range(n), solver=make_solver(solver, options), **settings)
    return {sample.index: (sample.x, sample.nfe) for sample in samples}


LABELS = [0, 3, 1, 1, 2, 0, 3, 2, 0, 1, 2, 3]


# One solver for each kind of state that rows carry; the others are slow tests.
KINDS = ("em", "adaptive", "adaptive-multistep", "heun", "ode-rk45", "pc")


@pytest.mark.parametrize(
    "solver", [pytest.param(n, marks=() if n in KINDS else pytest.mark.slow) for n in SOLVERS]
)
def test_a_sample_is_that_of_the_model_of_its_class(solver):
    """Through refills: a batch of 5 has samples of different classes at different times."""
    found = states(conditional(), solver=solver, conditions=LABELS, batch_size=5)
    by_class = [states(of_class(label), solver=solver, batch_size=5) for label in range(4)]
    for index, label in enumerate(LABELS):
        x, nfe = by_class[label][index]
        assert found[index][1] == nfe
        assert torch.allclose(found[index][0], x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 4, 12])
@pytest.mark.parametrize(
    "conditions",
    [
        torch.tensor(LABELS),
        LABELS,
        lambda index: torch.tensor(LABELS)[index],
    ],
    ids=["tensor", "list", "function"],
)
def test_every_form_of_conditions_gives_the_same_samples(conditions, batch_size):
    one = states(conditional(), conditions=LABELS, batch_size=5)
    other = states(conditional(), conditions=conditions, batch_size=batch_size)
    for index, (x, nfe) in one.items():
        assert other[index][1] == nfe
        assert torch.equal(other[index][0], x)


def test_conditions_may_be_vectors():
    vectors = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = ggf_cli.ScoreModel(
        score=lambda x, t, mean: gaussian(0.0, x - VP.alpha(t)[:, None] * mean, t),
        sde=VP,
        shape=(5,),
        dtype=torch.float64,
        conditional=True,
    )
    found = states(model, 6, conditions=vectors, batch_size=4)
    for index, vector in enumerate(vectors):
        alone = states(model, 6, conditions=vector.repeat(6, 1), batch_size=6)
        assert torch.equal(found[index][0], alone[index][0])


def test_a_condition_follows_its_sample_through_out_of_memory():
    model, calls = conditional(), []

    def score(x, t, label):
        calls.append(len(x))
        if len(calls) > 4 and len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return model.score(x, t, label)

    small = ggf_cli.ScoreModel(
        score=score, sde=VP, shape=(5,), dtype=torch.float64, conditional=True
    )
    found = states(small, conditions=LABELS, batch_size=8)
    expected = states(model, conditions=LABELS, batch_size=8)
    assert min(calls) <= 2 < max(calls)
    for index, (x, _) in expected.items():
        assert torch.equal(found[index][0], x)


def test_a_condition_follows_its_sample_through_a_resumed_run(tmp_path):
    settings = {"conditions": LABELS, "format": "npz", "eps_rel": 0.3, "batch_size": 3}
    ggf_cli.run(conditional(), 12, out=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        ggf_cli.run(conditional(), 12, out=tmp_path / "part", observer=Interrupt(4), **settings)
    result = ggf_cli.run(conditional(), 12, out=tmp_path / "part", resume=True, **settings)
    assert result.log.conditions.startswith("12 int64 sha256 ")
    whole, part = (np.load(tmp_path / name / "samples.npz") for name in ("whole", "part"))
    assert (whole["images"] == part["images"]).all()
    other = {**settings, "conditions": LABELS[::-1]}
    with pytest.raises(ggf_cli.errors.OutputError, match="the conditions was"):
        ggf_cli.run(conditional(), 12, out=tmp_path / "part", resume=True, **other)


def test_conditions_are_checked():
    model = conditional()
    with pytest.raises(UsageError, match="needs conditions"):
        Engine(model, make_solver("em"))
    with pytest.raises(UsageError, match="takes no conditions"):
        of_class(0).with_conditions([1])
    with pytest.raises(
        UsageError, match=r"sample 12 has no entry in conditions: there are 12, for 0\.\.11"
    ):
        ggf_cli.sample(model, 13, conditions=LABELS, eps_rel=0.5)
    for value in (3, "0-9", torch.tensor(1), torch.zeros(0), [1.5]):
        with pytest.raises(UsageError):
            as_per_sample(value, "conditions")
    short = lambda index: torch.zeros(min(2, len(index)), dtype=torch.int64)
    with pytest.raises(UsageError, match=r"the conditions of 4 samples are tensor\(\[0, 0\]\)"):
        ggf_cli.sample(model, 3, conditions=short, eps_rel=0.5)


def test_labels_repeat_over_the_sample_indices():
    labels = repeated_labels([0, 3, 1], "0,3,1")
    assert labels(torch.tensor([0, 1, 2, 3, 4, 2**62])).tolist() == [0, 3, 1, 0, 3, 3]
    assert labels.description == "labels 0,3,1"


SOURCE = """
import ggf_cli, torch

MEANS, sde = torch.tensor([-0.8, 0.0, 0.8]), ggf_cli.VPSDE()

def score(x, t, label):
    alpha, sigma = (f(t).reshape(-1, 1, 1, 1) for f in (sde.alpha, sde.sigma))
    mean = MEANS[label].reshape(-1, 1, 1, 1)
    return (-(x - alpha * mean) / (alpha**2 * 0.01 + sigma**2)).to(x.dtype)

model = ggf_cli.ScoreModel(score=score, sde=sde, shape=(1, 4, 4), conditional=True)
"""


def test_label_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labelled_net.py").write_text(SOURCE)
    words = ["sample", "--model", "labelled_net.py:model", "--eps-rel", "0.3", "--quiet"]
    done = ggf(*words, "--n", "7", "--label", "0-2", "--format", "npz", "--out", "a")
    assert done.exit_code == 0, done.output
    log = json.loads((tmp_path / "a/run.json").read_text())
    assert log["conditions"] == "labels 0-2"
    assert "--label 0-2" in log["command"]
    means = np.load(tmp_path / "a/samples.npz")["images"].astype(float).mean((1, 2, 3))
    dark, middle, bright = means[0::3], means[1::3], means[2::3]
    assert dark.max() < 60 < middle.min()
    assert middle.max() < 190 < bright.min()
    done = ggf(*words, "--n", "7", "--out", "b")
    assert done.exit_code == 2
    assert "needs conditions" in done.stderr
    assert "--label" in done.stderr
    done = ggf("sample", "--model", "mixture", "--n", "2", "--label", "1", "--out", "c")
    assert done.exit_code == 2
    assert "takes no conditions" in done.stderr
    for text in ("x", "3-1", "", "-1"):
        assert ggf(*words, "--label", text, "--out", "d").exit_code == 2
    again = ggf("show", "a", "--repeat", "--allow-code", "--out", "e")
    assert "2 of the 2 files are identical to the run's" in again.stderr


def test_a_conditional_network_is_tried_out_with_its_conditions():
    def two_classes(x, t, label):
        return torch.zeros(2)[label][:, None] - x

    settings = {"sde": VP, "shape": (5,), "conditional": True, "name": "mine"}
    model = ggf_cli.ScoreModel.from_denoiser(two_classes, **settings)
    message = r"network of mine failed on x .*, conditions torch\.int64 of shape \(2,\).*: .*index"
    with pytest.raises(UsageError, match=message):
        model.with_conditions([1, 2])
    with pytest.raises(UsageError, match="failed on x"):
        model.with_conditions(torch.tensor([0.5]))
    assert model.with_conditions([1]).conditions.count == 1
    wrong = ggf_cli.ScoreModel.from_noise(lambda x, t, label: x[:, :1], **settings)
    with pytest.raises(UsageError, match=r"returned torch.float32 of shape \(2, 1\)"):
        wrong.with_conditions([0, 1])
