"""Comparisons of a conditional model: labels, guidance, and equal evaluations with guidance."""

import numpy as np
import pytest
import torch

import ggf_cli
from command import ggf, read_comparison
from ggf_cli.comparison.lineup import Cell
from ggf_cli.comparison.speed import solver_nfe
from ggf_cli.errors import OptionError, OutputError, UsageError
from ggf_cli.solvers.catalog import read_catalog

SOURCE = """
import torch, ggf_cli
sde = ggf_cli.VPSDE()
MEANS = torch.tensor([[-1.0, 0.5], [0.8, 0.0], [0.2, -0.7]])
def score(x, t, label):
    mean = torch.where((label == 3)[:, None], torch.zeros(()), MEANS[label.clamp(max=2)])
    alpha, sigma = sde.alpha(t)[:, None], sde.sigma(t)[:, None]
    return -(x - alpha * mean) / (0.04 * alpha**2 + sigma**2)
model = ggf_cli.ScoreModel(
    score=score, sde=sde, shape=(2,), data_range=None, conditional=True, null_condition=3
)
"""
LABELS = [0, 1, 2, 0, 1, 2, 0, 1]
SETTINGS = {"eps_rel": (0.5,), "nfe": (10,), "n": 8, "batch_size": 4, "metrics": ["energy"]}


@pytest.fixture
def model(tmp_path, monkeypatch):
    """The model, whose file and a reference with a third of each class are in the folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labelled.py").write_text(SOURCE)
    model = ggf_cli.load_model("labelled.py:model")
    means = np.array([[-1.0, 0.5], [0.8, 0.0], [0.2, -0.7]])
    noise = np.random.default_rng(0).normal(size=(30, 2))
    np.savez("data.npz", x=np.tile(means, (10, 1)) + 0.2 * noise)
    return model


def test_labels_and_guidance_on_the_command_line_and_from_python(model, tmp_path):
    words = ["compare", "em", "adaptive", "--model", "labelled.py:model", "--label", "0-2"]
    words += ["--guidance", "2", "--guidance-interval", "0.2,4", "--reference", "data.npz"]
    words += [
        "--eps-rel",
        "0.5",
        "--nfe",
        "10",
        "--n",
        "8",
        "--batch-size",
        "4",
        "--metric",
        "energy",
    ]
    done = ggf(*words, "--out", "a")
    assert done.exit_code == 0, done.output
    document = read_comparison(tmp_path / "a")
    assert document["conditions"] == "labels 0-2"
    assert document["guidance"] == {"scale": 2.0, "interval": [0.2, 4.0]}
    assert "--label 0-2 --guidance 2 --guidance-interval 0.2,4" in document["command"]
    assert any("every sample has a condition (labels 0-2)" in note for note in document["notes"])
    cell = document["cells"][-1]
    assert "--label 0-2 --guidance 2.0 --guidance-interval 0.2,4.0" in cell["command"]
    settings = {"guidance": 2, "guidance_interval": (0.2, 4.0), "reference": "data.npz"}
    result = ggf_cli.compare(
        model, ["em", "adaptive"], out="b", conditions=LABELS, **settings, **SETTINGS
    )
    ours, theirs = result.document["cells"], document["cells"]
    assert [c["nfe_counts"] for c in ours] == [c["nfe_counts"] for c in theirs]
    assert [c["quality"] for c in ours] == [c["quality"] for c in theirs]
    other = ggf(*[word.replace("0-2", "0-1") for word in words], "--out", "a")
    assert other.exit_code == 5
    assert "it differs in conditions" in other.stderr
    with pytest.raises(OutputError, match="it differs in guidance"):
        ggf_cli.compare(
            model, ["em", "adaptive"], out="b", conditions=LABELS, reference="data.npz", **SETTINGS
        )


FIXED = [name for name, about in read_catalog().items() if "nfe" in about.options]


@pytest.mark.parametrize("interval", [None, (0.2, 4.0)])
@pytest.mark.parametrize("solver", FIXED)
def test_a_matched_solver_gets_as_many_evaluations_with_guidance(model, solver, interval):
    guided = model.with_conditions(LABELS, guidance=3.0, guidance_interval=interval)
    cell = Cell(id="a", series="a", solver=solver, given={})
    nfe = solver_nfe(cell, 60, guided)
    assert nfe <= 60
    totals = [
        int(ggf_cli.sample(guided, 1, solver=solver, nfe=budget).nfe) for budget in (nfe, nfe + 4)
    ]
    assert totals[0] <= 60 < totals[1]
    assert solver_nfe(cell, 60, model.with_conditions(LABELS)) == 60


def test_a_comparison_needs_conditions_for_all_samples_and_a_reference(model):
    with pytest.raises(UsageError, match="sample 11 has no entry in conditions: there are 8"):
        ggf_cli.compare(
            model,
            ["em", "heun"],
            out="a",
            conditions=LABELS,
            reference="data.npz",
            **SETTINGS | {"n": 12},
        )
    with pytest.raises(UsageError, match="needs conditions"):
        ggf_cli.compare(model, ["em", "heun"], out="a", reference="data.npz", **SETTINGS)
    exact = ggf_cli.load_model("mixture").distribution
    known = ggf_cli.ScoreModel(
        score=lambda x, t, label: torch.zeros_like(x),
        sde=ggf_cli.VPSDE(),
        shape=exact.shape,
        data_range=None,
        conditional=True,
        distribution=exact,
    )
    settings = {key: value for key, value in SETTINGS.items() if key != "metrics"}
    with pytest.raises(OptionError, match="there is nothing to compare samples"):
        ggf_cli.compare(known, ["em", "heun"], out="a", conditions=LABELS, **settings)
