"""The metrics of a model, and evaluators of the embedded models."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fashion_metrics import FFD
from ggf_cli.errors import UsageError
from ggf_cli.metrics.evaluator import make_evaluators
from ggf_cli.metrics.registry import METRICS, SPACES, default_metrics, metrics_for


def model(shape, distribution=None):
    about = {"data_range": (-1.0, 1.0), "device": "cpu"}
    return SimpleNamespace(
        name="mine", shape=shape, distribution=distribution, conditional=False, **about
    )


@pytest.fixture
def statistics(tmp_path):
    np.savez(tmp_path / "stats.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    return tmp_path / "stats.npz"


@pytest.fixture(scope="module")
def evaluators(fashion):
    return {
        evaluator.name: evaluator
        for evaluator in make_evaluators(["ffd", "precision", "recall", "coverage"], fashion)
    }


@pytest.fixture(scope="module")
def noise():
    return torch.rand(200, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_the_table_imports_no_torch():
    code = "import sys, ggf_cli.metrics; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_entry_of_the_tables_exists_and_has_a_summary():
    for entry in (*METRICS.values(), *SPACES.values()):
        assert callable(entry.load())
        assert entry.summary
    for space in SPACES.values():
        assert all(METRICS[name].space in (None, space_name(space)) for name in space.defaults)


def space_name(space):
    return next(name for name, entry in SPACES.items() if entry is space)


def test_the_metrics_of_a_model_are_those_with_a_reference(tmp_path, statistics):
    shares = ["precision", "recall", "coverage"]
    clothes, photos = model((1, 28, 28)), model((3, 32, 32))
    exact = model((2,), distribution=object())
    assert metrics_for(clothes) == ["ffd", *shares]
    assert metrics_for(photos) == []
    of_points = ["frechet", "swd", "energy", *shares]
    assert metrics_for(exact) == metrics_for(exact, tmp_path) == of_points
    assert metrics_for(photos, tmp_path) == ["fid", "kid", *shares]
    assert metrics_for(photos, statistics) == ["fid"]
    assert metrics_for(clothes, statistics) == ["ffd", "fid", *shares]


def test_default_metrics_depend_on_the_given_reference(tmp_path, statistics):
    clothes = model((1, 28, 28))
    assert default_metrics(clothes) == ["ffd", "precision", "recall"]
    assert default_metrics(clothes, tmp_path) == ["fid", "precision", "recall"]
    assert default_metrics(clothes, statistics) == ["fid"]
    assert default_metrics(model((3, 32, 32))) == []
    assert default_metrics(model((1, 28, 28), distribution=object())) == ["frechet", "swd"]


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("ffdd", "unknown metric 'ffdd'", "did you mean 'ffd'"),
        (
            "swd",
            "'swd' needs a model whose distribution is known exactly",
            "for fashion-vp: ffd, precision",
        ),
        ("fid", "'fid' needs .*--reference FOLDER", "for fashion-vp: ffd, precision"),
    ],
)
def test_a_metric_without_a_reference_is_refused(fashion, name, message, hint):
    with pytest.raises(UsageError, match=message) as error:
        make_evaluators([name], fashion)
    assert hint in error.value.hint


def test_an_invalid_reference_is_refused(fashion, tmp_path, statistics):
    (tmp_path / "images.zip").touch()
    for path, message in [
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "images.zip", "neither"),
    ]:
        with pytest.raises(UsageError, match=message):
            make_evaluators(["fid"], fashion, reference=path)
    with pytest.raises(
        UsageError, match=r"'kid' needs images, and .*stats.npz has their statistics"
    ):
        make_evaluators(["kid"], fashion, reference=statistics)


def test_the_ffd_evaluator_equals_ffd(evaluators, noise):
    evaluator = evaluators["ffd"]
    assert evaluator.evaluate(noise) == FFD()(noise)
    assert evaluator.evaluate((noise * 255).round().to(torch.uint8)) == evaluator.evaluate(noise)
    assert evaluator.sample_form == "images"
    assert evaluator.min_samples == 128
    assert evaluator.lower_is_better is True
    with pytest.raises(UsageError, match="at least 128 samples, not 127"):
        evaluator.evaluate(noise[:127])


def test_features_of_the_same_samples_are_computed_once(evaluators, noise, monkeypatch):
    space = evaluators["ffd"].features.space
    calls = []
    monkeypatch.setattr(space, "features", lambda samples: calls.append(1) or torch.rand(200, 64))
    samples = noise.clone()
    for evaluator in evaluators.values():
        evaluator.evaluate(samples)
    assert len(calls) == 1
    evaluators["recall"].evaluate(samples.clone())
    assert len(calls) == 2


def test_floors_are_of_disjoint_draws_as_many_as_the_reference_allows(evaluators):
    real = evaluators["ffd"].features.space.reference
    drawn = [rows for rows, _ in real.draws(2000, 5, "moments")]
    assert torch.equal(torch.cat(drawn[::-1]), real.features)
    for rows, rest in real.draws(2000, 5, "same_size"):
        together = torch.cat([rows, rest.features])
        assert len(torch.unique(together, dim=0)) == len(torch.unique(real.features, dim=0))
        assert len(together) == 6000
    assert len(evaluators["ffd"].floor(2000, 5).values) == 3
    assert len(evaluators["recall"].floor(2000, 5).values) == 2
    assert evaluators["ffd"].floor(6001, 1) is evaluators["recall"].floor(3001, 1) is None
    assert evaluators["ffd"].floor(127, 3) is None


def test_floors_are_the_values_of_real_images(evaluators):
    # docs/reference/metrics.md: 15.5 at 250, with standard deviation 2.3.
    assert max(evaluators["ffd"].floor(300, 5).values) < 25
    assert evaluators["ffd"].floor(300, 1).what == "300 test images, against the training images"
    for name in ("precision", "recall", "coverage"):
        floor = evaluators[name].floor(300, 5)
        assert 0.8 < min(floor.values) <= max(floor.values) < 1
        assert floor.what == "300 test images, against 300 others"


def test_noise_is_worse_than_every_floor(evaluators, noise):
    for evaluator in evaluators.values():
        worst = evaluator.floor(200, 3).values
        value = evaluator.evaluate(noise)
        assert value > 3 * max(worst) if evaluator.lower_is_better else value < min(worst) / 3


def test_notes_warn_when_there_are_fewer_real_images(evaluators):
    assert evaluators["recall"].notes(300) == evaluators["ffd"].notes(10_000) == []
    assert "6,000 real images" in evaluators["recall"].notes(7000)[0]


def test_models_without_data_range_have_no_image_metrics(tmp_path):
    states = model((1, 28, 28))
    states.data_range = None
    assert metrics_for(states, tmp_path) == []
