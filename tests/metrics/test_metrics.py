"""Fréchet distance, FFD and the features of the Fashion-MNIST classifier, and nearest images."""

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F

import fashion_mnist
from fashion_metrics import FFD, nearest_distances
from ggf_cli.checkpoints import native
from ggf_cli.checkpoints.locate import local_path
from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.metrics import classifier
from ggf_cli.metrics.frechet import frechet_distance, moments
from ggf_cli.networks.mixture import GaussianMixture

needs_data = pytest.mark.skipif(
    not fashion_mnist.FOLDER.is_dir(), reason="needs Debian's package dataset-fashion-mnist"
)


@pytest.fixture(scope="module")
def ffd():
    return FFD()


@pytest.fixture(scope="module")
def test_set():
    """2,000 test images in [0, 1], and their labels."""
    images, labels = fashion_mnist.load(train=False)
    return (images[:2000] + 1) / 2, labels[:2000]


@pytest.fixture(scope="module")
def drawn():
    """1,000 exact samples of the embedded mixture: blurred clothes of all classes, in [0, 1]."""
    checkpoint = native.read(local_path(read_manifest()["fashion-mixture"]))
    network = GaussianMixture(**checkpoint.network_config)
    network.load_state_dict(checkpoint.tensors)
    samples = network.sample(1000, torch.Generator().manual_seed(0))
    return ((samples + 1) / 2).clamp(0, 1)


def random_moments(size, rank, seed):
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(size, rank, dtype=torch.float64, generator=generator)
    return torch.randn(size, dtype=torch.float64, generator=generator), factor @ factor.T / rank


def by_scipy(mean_a, cov_a, mean_b, cov_b):
    """The formula of the published code of FID."""
    root = scipy.linalg.sqrtm((cov_a @ cov_b).numpy())
    return float((mean_a - mean_b).square().sum() + (cov_a + cov_b).trace()) - 2 * root.trace().real


def by_eigenvalues(mean_a, cov_a, mean_b, cov_b):
    """The formula of torchmetrics."""
    root = torch.linalg.eigvals(cov_a @ cov_b).sqrt().real.sum()
    return float((mean_a - mean_b).square().sum() + (cov_a + cov_b).trace() - 2 * root)


@pytest.mark.parametrize("known", [by_scipy, by_eigenvalues])
def test_the_distance_of_features_is_that_of_known_implementations(ffd, known):
    """On features of real images, and on the moments that the package ships."""
    real, reference = ffd.space.trained.test_features[:1000], ffd.space.reference.moments()
    mine = [real.double().mean(0), torch.from_numpy(np.cov(real.double().T.numpy()))]
    assert ffd.distance(real) == pytest.approx(known(*mine, *reference), rel=1e-6)


@pytest.mark.parametrize("size", [1, 5, 64])
def test_frechet_distance_is_the_published_formula(size):
    a, b = random_moments(size, 2 * size, 0), random_moments(size, 3 * size, 1)
    assert frechet_distance(*a, *b) == pytest.approx(by_scipy(*a, *b), rel=1e-6)


def test_the_distance_of_low_rank_covariances_in_many_dimensions():
    """An isometry into more dimensions does not change the distance; scipy needs full rank."""
    basis = torch.linalg.qr(random_moments(64, 64, 2)[1])[0][:, :5]
    a, b = random_moments(5, 8, 0), random_moments(5, 8, 1)
    wide = [basis @ a[0], basis @ a[1] @ basis.T, basis @ b[0], basis @ b[1] @ basis.T]
    assert frechet_distance(*wide) == pytest.approx(by_scipy(*a, *b), rel=1e-6)


def test_the_distance_of_low_rank_covariances_with_different_ranges():
    """tr (A^1/2 B A^1/2)^1/2 for B = v v^T is |A^1/2 v| = sqrt(v^T A v)."""
    (mean_a, cov_a), (mean_b, _) = random_moments(30, 4, 0), random_moments(30, 4, 1)
    v = random_moments(30, 1, 3)[0]
    expected = (mean_a - mean_b).square().sum() + cov_a.trace() + v @ v - 2 * (v @ cov_a @ v).sqrt()
    found = frechet_distance(mean_a, cov_a, mean_b, torch.outer(v, v))
    assert found == pytest.approx(float(expected), rel=1e-6)


def test_equal_covariances_leave_the_distance_of_the_means():
    (mean_a, cov), (mean_b, _) = random_moments(20, 7, 0), random_moments(20, 7, 1)
    expected = float((mean_a - mean_b).square().sum())
    assert frechet_distance(mean_a, cov, mean_b, cov) == pytest.approx(expected, rel=1e-9)


def test_diagonal_covariances_have_the_closed_form():
    """|mean difference|^2 + sum (sqrt a - sqrt b)^2."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 16, dtype=torch.float64, generator=generator)
    zero = torch.zeros(16)
    expected = float((a.sqrt() - b.sqrt()).square().sum())
    assert frechet_distance(zero, a.diag(), zero, b.diag()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rank", [3, 40])
def test_distance_to_itself_is_zero_and_the_distance_symmetric(rank):
    a, b = random_moments(20, rank, 0), random_moments(20, rank, 1)
    assert frechet_distance(*a, *a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(*a, *a) >= 0
    assert frechet_distance(*a, *b) == pytest.approx(frechet_distance(*b, *a), rel=1e-9)


def test_moments_equal_those_of_numpy():
    features = torch.randn(100, 6, generator=torch.Generator().manual_seed(0)) + 1000
    mean, cov = moments(features)
    exact = features.numpy().astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(cov, np.cov(exact.T), rtol=1e-9, atol=1e-9)


def test_the_asset_has_its_provenance_and_valid_statistics(ffd):
    space = ffd.space.trained
    assert space.covariance.shape == (classifier.FEATURES, classifier.FEATURES)
    assert torch.equal(space.covariance, space.covariance.T)
    assert float(torch.linalg.eigvalsh(space.covariance).min()) > 0
    assert frechet_distance(
        space.mean, space.covariance, space.mean, space.covariance
    ) == pytest.approx(0, abs=1e-9)
    assert space.document["provenance"]["license"] == "MIT"
    assert space.document["provenance"]["test_accuracy"] >= 0.92
    assert tuple(space.document["classes"]) == ffd.class_names
    assert space.test_features.shape == (6000, classifier.FEATURES)
    assert classifier.ASSET.stat().st_size < 1.6e6


def test_a_feature_space_can_be_written_and_loaded_again(ffd, tmp_path):
    path = tmp_path / "features.safetensors"
    trained = ffd.space.trained
    path.write_bytes(classifier.to_bytes(trained))
    assert path.stat().st_size == classifier.ASSET.stat().st_size
    again = classifier.load(path)
    assert again.document == trained.document
    assert torch.equal(again.covariance, trained.covariance)
    assert torch.equal(again.test_features, trained.test_features)
    for mine, its in zip(again.network.parameters(), trained.network.parameters(), strict=True):
        assert torch.equal(mine, its)


def test_a_missing_corrupt_or_foreign_file_is_a_checkpoint_error(tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(classifier.ASSET.read_bytes()[:-100])
    foreign = local_path(read_manifest()["mixture"])
    for path in (tmp_path / "nowhere.safetensors", broken, foreign):
        with pytest.raises(CheckpointError):
            classifier.load(path)


def test_features_of_a_row_are_the_same_bits_in_any_batch(ffd, drawn):
    # More than a batch.
    images = drawn[:130]
    together = ffd.classify(images)
    for sizes in ([1, 129], [2, 3, 125], [7, 23, 100]):
        parts = [ffd.classify(part) for part in images.split(sizes)]
        assert torch.equal(torch.cat([part.features for part in parts]), together.features)
        assert torch.equal(torch.cat([part.classes for part in parts]), together.classes)
    backwards = ffd.classify(images.flip(0)).features.flip(0)
    assert torch.equal(backwards, together.features)


def test_an_image_and_its_8_bit_file_have_the_same_features(ffd, drawn):
    levels = (drawn[:20] * 255).round().to(torch.uint8)
    for written in (levels, levels / 255):
        assert torch.equal(ffd.classify(written).features, ffd.classify(drawn[:20]).features)


def test_the_ffd_of_the_mixture_is_lower_than_that_of_noise_and_of_one_repeated_image(ffd, drawn):
    classified = ffd.classify(drawn)
    found = ffd.distance(classified.features)
    assert found == ffd(drawn)
    assert sum(classified.histogram()) == 1000
    assert min(classified.histogram()) > 20
    assert ffd(torch.rand(500, 1, 28, 28, generator=torch.Generator().manual_seed(0))) > 3 * found
    assert ffd(drawn[:1].expand(200, -1, -1, -1)) > 3 * found


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(200, 3, 28, 28), "shape"),
        (torch.rand(200, 28, 28), "shape"),
        (torch.rand(200, 1, 32, 32), "shape"),
        (torch.rand(0, 1, 28, 28), "shape"),
        (torch.randint(255, (200, 1, 28, 28)), "int64"),
        (torch.rand(200, 1, 28, 28) * 2 - 1, r"\[0, 1\]"),
        (torch.rand(200, 1, 28, 28) * 255, r"\[0, 1\]"),
        (torch.full((200, 1, 28, 28), torch.nan), "200 of 200 samples are not finite"),
        (torch.full((200, 1, 28, 28), torch.inf), "not finite"),
        (torch.rand(127, 1, 28, 28), "at least 128"),
    ],
)
def test_invalid_images_are_refused(ffd, images, message):
    with pytest.raises(UsageError, match=message):
        ffd(images)


@needs_data
def test_the_reference_is_of_the_training_images(ffd):
    """The mean of 2,000 of them, within 5 standard errors."""
    images = (fashion_mnist.load()[0][:2000] + 1) / 2
    features = ffd.classify(images).features.double()
    mean, covariance = ffd.space.reference.moments()
    error = (covariance.diagonal() / len(images)).sqrt()
    assert ((features.mean(0) - mean).abs() < 5 * error).all()


@needs_data
def test_the_shipped_features_are_those_of_the_test_images(ffd, test_set):
    found = ffd.classify(test_set[0]).features
    expected = ffd.space.trained.test_features[:2000]
    # The file has float16.
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert ffd.distance(found) == pytest.approx(ffd.distance(expected), rel=1e-3)


# Bound of the FFD of the first 2,000 test images; docs/reference/metrics.md has measured values.
FLOOR = 4.0


@needs_data
def test_the_ffd_of_real_images_is_low_and_that_of_damaged_images_high(ffd, test_set):
    """Each kind of damage gives several times the FFD of real images."""
    images, labels = test_set
    classified = ffd.classify(images)
    floor = ffd.distance(classified.features)
    assert floor < FLOOR
    assert float((classified.classes == labels).double().mean()) > 0.9
    one_class = classified.features[labels == 1]
    assert ffd.distance(one_class) > 10 * floor
    assert ffd.distance(classified.features[labels != 8]) > 2 * floor
    few = images[:1000]
    noise = torch.randn(few.shape, generator=torch.Generator().manual_seed(0))
    assert ffd((few + 0.1 * noise).clamp(0, 1)) > 3 * floor
    kernel = torch.full((1, 1, 3, 3), 1 / 9)
    assert ffd(F.conv2d(few, kernel, padding=1)) > 3 * floor


def test_nearest_distances_are_those_of_cdist(drawn):
    x, y = drawn[:30], drawn[30:1000]
    expected = torch.cdist(x.flatten(1).double(), y.flatten(1).double())
    torch.testing.assert_close(
        nearest_distances(x, y).double(), expected.amin(1), rtol=1e-4, atol=0
    )
    among = torch.cdist(y.flatten(1).double(), y.flatten(1).double()).fill_diagonal_(torch.inf)
    torch.testing.assert_close(
        nearest_distances(y, y, themselves=True).double(), among.amin(1), rtol=1e-4, atol=0
    )


def test_the_nearest_distance_of_a_copy_is_zero(drawn):
    assert float(nearest_distances(drawn[:5], drawn).max()) < 0.02
