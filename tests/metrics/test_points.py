"""Metrics of points and signals: the energy distance, and samples as the reference."""

import json
import math

import numpy as np
import pytest
import torch

import ggf_cli
from command import ggf
from ggf_cli.errors import UsageError
from ggf_cli.metrics.energy import energy_distance
from ggf_cli.metrics.evaluator import make_evaluators
from ggf_cli.metrics.reference_files import read_samples
from ggf_cli.metrics.registry import default_metrics, metrics_for

SOURCE = """
import ggf_cli, torch

MEAN, STD = torch.tensor([2.0, -1.0]), 0.3
sde = ggf_cli.VPSDE()

def score(x, t):
    alpha, sigma = sde.alpha(t)[:, None], sde.sigma(t)[:, None]
    return (-(x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)).to(x.dtype)

model = ggf_cli.ScoreModel(score=score, sde=sde, shape=(2,), dtype=torch.float64)
"""


def normal(n, mean=0.0, seed=0, size=1):
    generator = torch.Generator().manual_seed(seed)
    return mean + torch.randn(n, size, generator=generator, dtype=torch.float64)


def mean_distance(mean):
    """E|N(mean, 2)|, the mean distance of two standard normals whose means differ by `mean`."""
    return 2 / math.sqrt(math.pi) * math.exp(-(mean**2) / 4) + mean * math.erf(mean / 2)


@pytest.mark.parametrize("mean", [0.0, 0.5, 3.0])
def test_the_energy_distance_of_two_normals_is_the_known_one(mean):
    values = [
        energy_distance(normal(2000, seed=2 * i), normal(2000, mean, seed=2 * i + 1))
        for i in range(20)
    ]
    expected = 2 * mean_distance(mean) - 2 * mean_distance(0.0)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(np.mean(values) - expected) < 4 * error + 1e-12
    assert error < 0.02


def test_the_energy_distance_is_computed_in_blocks(monkeypatch):
    x, y = normal(50, size=3), normal(70, 0.2, seed=1, size=3)
    whole = energy_distance(x, y)
    monkeypatch.setattr("ggf_cli.metrics.energy.BLOCK", 100)
    assert energy_distance(x, y) == pytest.approx(whole, rel=1e-12)


def test_the_energy_distance_refuses_values_that_are_not_finite():
    with pytest.raises(UsageError, match="finite"):
        energy_distance(normal(5), normal(5) * math.nan)


@pytest.fixture
def points(tmp_path):
    """A model of points, and a file of samples of its distribution."""
    x = np.random.default_rng(0).normal([2.0, -1.0], 0.3, (3000, 2))
    np.savez_compressed(tmp_path / "points.npz", x=x)
    (tmp_path / "points_net.py").write_text(SOURCE)
    return tmp_path


def test_a_file_of_samples_is_the_reference_of_points(points):
    model = ggf_cli.load_model(f"{points / 'points_net.py'}:model")
    reference = points / "points.npz"
    assert metrics_for(model) == []
    assert {"frechet", "swd", "energy", "precision"} <= set(metrics_for(model, reference))
    assert default_metrics(model, reference) == ["frechet", "swd"]
    evaluators = make_evaluators(["frechet", "swd", "energy"], model, reference=reference)
    right = torch.from_numpy(np.random.default_rng(1).normal([2.0, -1.0], 0.3, (500, 2)))
    for evaluator in evaluators:
        floor = evaluator.floor(500, draws=2)
        assert evaluator.evaluate(right) < 5 * max(map(abs, floor.values)) + 0.01
        assert evaluator.evaluate(right + 1) > 20 * max(map(abs, floor.values))


def test_images_are_compared_with_samples_too(tmp_path):
    np.savez(tmp_path / "images.npz", x=np.zeros((4, 3, 16, 16)))
    like = ggf_cli.ScoreModel(score=lambda x, t: -x, sde=ggf_cli.VPSDE(), shape=(3, 16, 16))
    assert default_metrics(like, tmp_path / "images.npz") == ["frechet", "swd"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((5, 3))}, r"samples of shape \(3,\), the model's have \(2,\)"),
        ({"x": np.zeros((1, 2))}, "fewer than 2 samples"),
        ({"x": np.full((5, 2), np.nan)}, "not finite"),
        ({"x": np.array([["a", "b"]] * 3)}, "cannot be read"),
    ],
)
def test_invalid_samples_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        read_samples(tmp_path / "a.npz", (2,))


def test_samples_that_state_a_huge_shape_are_refused_before_memory_is_allocated(tmp_path):
    import io
    import zipfile

    header = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x.npy", header.getvalue())
    with pytest.raises(UsageError, match=r"cannot be read: it states 2,199,023,255,552 numbers"):
        read_samples(tmp_path / "a.npz", (2,))


def test_solvers_are_compared_on_points(points, monkeypatch):
    monkeypatch.chdir(points)
    words = ["compare", "em:steps=20", "em:steps=200", "heun:steps=10", "--nfe", "default"]
    words += ["--model", "points_net.py:model", "--reference", "points.npz", "--n", "400"]
    done = ggf(*words, "--metric", "swd,energy,frechet", "--out", "compared", "--quiet")
    assert done.exit_code == 0, done.output
    document = json.loads((points / "compared/compare.json").read_text())
    assert [metric["name"] for metric in document["metrics"]] == ["swd", "energy", "frechet"]
    assert all(cell["status"] == "done" for cell in document["cells"])
    assert (points / "compared/report.html").exists()
    fine = next(cell for cell in document["cells"] if cell["id"] == "em-steps=200")
    assert fine["quality"]["swd"]["mean"] < 0.1
