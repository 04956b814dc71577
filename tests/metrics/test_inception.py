"""Metrics in Inception features, of a folder of images or a file of statistics.

A small network replaces Inception.
"""

import hashlib
import importlib.machinery
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image

from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.metrics import feature_network
from ggf_cli.metrics.evaluator import make_evaluators
from ggf_cli.metrics.frechet import moments
from ggf_cli.metrics.kernel import kid
from ggf_cli.metrics.manifold import coverage, precision, recall

SHAPE = (3, 16, 16)


class StandIn:
    """In place of Inception: 16 random projections of the 4 x 4 means of an image, rectified."""

    size = 16

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.randn(48, self.size, generator=generator)
        self.images = 0

    def __call__(self, images):
        assert images.dtype == torch.uint8
        assert images.shape[1] == 3
        self.images += len(images)
        small = torch.nn.functional.avg_pool2d(images.float() / 255, 4)
        return torch.relu((small - 0.5).flatten(1) @ self.weights)


def model(shape=SHAPE):
    about = {"data_range": (-1.0, 1.0), "device": "cpu"}
    return SimpleNamespace(name="mine", shape=shape, distribution=None, **about)


def pictures(n, seed, shape=SHAPE):
    """uint8 (n, C, H, W): random colours with random noise."""
    generator = torch.Generator().manual_seed(seed)
    colour = torch.rand(n, shape[0], 1, 1, generator=generator)
    images = 0.6 * colour + 0.4 * torch.rand(n, *shape, generator=generator)
    return (255 * images).to(torch.uint8)


def write(folder, images):
    """One PNG file each, in folders of 100."""
    for i, image in enumerate(images):
        file = folder / f"{i // 100}" / f"{i:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        levels = image.permute(1, 2, 0).numpy()
        Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(file)
    return folder


@pytest.fixture(scope="module")
def real():
    return pictures(250, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, real):
    folder = write(tmp_path_factory.mktemp("real"), real)
    (folder / "notes.txt").write_text("not an image")
    (folder / "._0.png").write_bytes(b"nor is this")
    return folder


def evaluators(folder, *names, shape=SHAPE, **options):
    options = {"network": StandIn(), **options}
    return make_evaluators(names, model(shape), reference=folder, **options)


def published_fid(x, y):
    (mean_x, cov_x), (mean_y, cov_y) = moments(x), moments(y)
    root = scipy.linalg.sqrtm((cov_x @ cov_y).numpy()).trace().real
    return float((mean_x - mean_y).square().sum() + (cov_x + cov_y).trace()) - 2 * root


def test_all_metrics_against_a_folder_of_images(folder, real):
    network, progress = StandIn(), []
    found = evaluators(
        folder,
        "fid",
        "kid",
        "precision",
        "recall",
        "coverage",
        network=network,
        on_progress=lambda done, total: progress.append((done, total)),
    )
    drawn = (0.8 * pictures(120, 1)).to(torch.uint8)
    values = {evaluator.name: evaluator.evaluate(drawn) for evaluator in found}
    # The network evaluates each image once.
    assert network.images == len(real) + len(drawn)
    assert progress[-1] == (250, 250)
    x, y = StandIn()(drawn), StandIn()(real)
    assert values["fid"] == pytest.approx(published_fid(x, y), rel=1e-6)
    assert values["kid"] == pytest.approx(kid(x, y), rel=1e-6)
    same_size = found[0].features.space.reference.samples(120)
    for share in (precision, recall, coverage):
        assert values[share.__name__] == share(x, same_size)
    # The reference is not in the order of the file names.
    assert not torch.equal(same_size, y[:120])


def test_samples_and_their_8_bit_levels_have_the_same_value(folder):
    [evaluator] = evaluators(folder, "fid")
    drawn = pictures(20, 1)
    assert evaluator.evaluate(drawn / 255) == evaluator.evaluate(drawn)


def test_gray_images_are_expanded_to_three_equal_channels(tmp_path):
    gray = pictures(40, 0, (1, 16, 16))
    [evaluator] = evaluators(write(tmp_path, gray), "fid", shape=(1, 16, 16))
    drawn = pictures(30, 1, (1, 16, 16))
    x, y = (StandIn()(part.expand(-1, 3, -1, -1)) for part in (drawn, gray))
    assert evaluator.evaluate(drawn) == pytest.approx(published_fid(x, y), rel=1e-6)


def test_jpeg_palette_and_transparent_images_are_read(tmp_path):
    write(tmp_path, pictures(12, 0))
    first = Image.open(tmp_path / "0/0000.png")
    first.save(tmp_path / "a.JPG", "JPEG")
    first.convert("P").save(tmp_path / "b.png")
    first.convert("RGBA").save(tmp_path / "c.png")
    network = StandIn()
    evaluators(tmp_path, "fid", network=network)
    assert network.images == 15


def test_floors_are_of_reference_images_against_all_other_reference_images(folder, real):
    fid, kernel_distance, share = evaluators(folder, "fid", "kid", "precision")
    features = fid.features.space.reference.features
    floor = fid.floor(100, 5)
    expected = published_fid(features[-100:], features[:-100])
    assert floor.values == [pytest.approx(expected, rel=1e-6)]
    assert floor.what == "100 images of the reference, against 150 others"
    assert kernel_distance.floor(100, 5).values == [
        pytest.approx(kid(features[-100:], features[:-100]))
    ]
    assert share.floor(100, 5).values == [precision(features[-100:], features[:100])]
    assert fid.floor(126, 1) is share.floor(126, 1) is None


def statistics(path, features):
    mean, covariance = moments(features)
    np.savez(path, mu=mean.numpy(), sigma=covariance.numpy())
    return path


def test_fid_by_a_file_of_statistics_equals_fid_by_the_folder(folder, real, tmp_path):
    path = statistics(tmp_path / "real.npz", StandIn()(real))
    [by_file], [by_folder] = evaluators(path, "fid"), evaluators(folder, "fid")
    drawn = pictures(100, 1)
    assert by_file.evaluate(drawn) == pytest.approx(by_folder.evaluate(drawn), rel=1e-6)
    assert by_file.floor(50, 3) is None


def test_notes_give_the_number_of_samples_and_the_defects_of_the_reference(folder, tmp_path):
    fid, share = evaluators(folder, "fid", "precision")
    [note] = fid.notes(300)
    assert "300 samples" in note
    assert fid.notes(10_000) == share.notes(200) == []
    assert "250 real images" in share.notes(300)[0]
    [few] = evaluators(write(tmp_path, pictures(16, 0)), "fid")
    assert "16 images, 17 are needed" in few.notes(10_000)[0]


def broken(folder, case):
    """A folder that cannot be used as a reference."""
    images = pictures(12, 0)
    if case == "empty":
        return folder
    if case == "few":
        return write(folder, images[:9])
    if case == "of another size than the model":
        return write(folder, pictures(12, 0, (3, 8, 8)))
    write(folder, images)
    if case == "of two sizes":
        Image.new("RGB", (16, 17)).save(folder / "0/tall.png")
    if case == "no image":
        (folder / "0/bad.png").write_bytes(b"hello")
    if case == "cut off":
        whole = (folder / "0/0000.png").read_bytes()
        (folder / "0/cut.png").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("empty", "has 0 PNG or JPEG images"),
        ("few", "has 9 PNG"),
        ("of another size than the model", "are 8 x 8, the model's samples are 16 x 16"),
        ("of two sizes", r"0000.png is 16 x 16, 0/tall.png is 16 x 17"),
        ("no image", r"bad.png cannot be read"),
        ("cut off", r"cut.png cannot be read"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(tmp_path, case, message):
    with pytest.raises(UsageError, match=message) as error:
        evaluators(broken(tmp_path, case), "fid")
    assert error.value.hint


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mean": np.zeros(16)}, "no mu and no sigma, it has mean"),
        ({"mu": np.zeros(16)}, "no sigma"),
        ({"mu": np.zeros(8), "sigma": np.eye(8)}, r"shape \(8,\).* not \(16,\)"),
        ({"mu": np.zeros(16), "sigma": np.full((16, 16), np.nan)}, "not finite"),
        ({"mu": np.zeros(16), "sigma": np.triu(np.ones((16, 16)))}, "not symmetric"),
        ({"mu": np.array([None] * 16), "sigma": np.eye(16)}, "cannot be read"),
    ],
)
def test_statistics_that_cannot_be_used_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "stats.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        evaluators(tmp_path / "stats.npz", "fid")


def test_a_file_of_statistics_that_is_not_an_archive_is_refused(tmp_path):
    for content in (b"", b"PK\x03\x04 cut off", b"text"):
        (tmp_path / "stats.npz").write_bytes(content)
        with pytest.raises(UsageError, match=r"stats.npz cannot be read"):
            evaluators(tmp_path / "stats.npz", "fid")


def test_samples_of_another_shape_or_range_are_refused(folder):
    [evaluator] = evaluators(folder, "fid")
    for images, message in [
        (torch.rand(5, 1, 16, 16), "shape"),
        (torch.rand(5, 3, 16, 16) * 2 - 1, r"\[0, 1\]"),
        (torch.rand(1, 3, 16, 16), "at least 2"),
    ]:
        with pytest.raises(UsageError, match=message):
            evaluator.evaluate(images)


# Inception itself, with replacements for torch-fidelity and its weights.


class Extractor(torch.nn.Module):
    """The interface of torch-fidelity's feature extractor."""

    def __init__(self, name, features_list, feature_extractor_weights_path=None):
        super().__init__()
        assert features_list == ["2048"]
        self.state = torch.load(feature_extractor_weights_path, weights_only=True)

    def forward(self, x):
        return (x.float().flatten(1).mean(1, keepdim=True) * self.state["scale"],)


@pytest.fixture
def fidelity(monkeypatch, tmp_path):
    """A replacement for torch-fidelity, with weights to download from a file."""
    torch.save({"scale": torch.arange(2048.0)}, tmp_path / "weights-1.pth")
    monkeypatch.setattr(
        feature_network,
        "SHA256",
        hashlib.sha256((tmp_path / "weights-1.pth").read_bytes()).hexdigest(),
    )
    module = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.URL_INCEPTION_V3 = (tmp_path / "weights-1.pth").as_uri()
    module.FeatureExtractorInceptionV3 = Extractor
    package = ModuleType("torch_fidelity")
    package.__spec__ = importlib.machinery.ModuleSpec("torch_fidelity", None)
    package.feature_extractor_inceptionv3 = module
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return module


def test_weights_are_downloaded_once(fidelity, tmp_path):
    for _ in range(2):
        network = feature_network.load_network()
        features = network(torch.full((2, 3, 4, 4), 7, dtype=torch.uint8))
        assert torch.equal(features, 7 * torch.arange(2048.0).expand(2, -1))
        (tmp_path / "weights-1.pth").unlink(missing_ok=True)
    assert (tmp_path / "home/hub/checkpoints/weights-1.pth").is_file()


def test_weights_that_cannot_be_downloaded_can_be_saved_by_hand(fidelity, folder, tmp_path):
    url = fidelity.URL_INCEPTION_V3
    (tmp_path / "weights-1.pth").rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="cannot be downloaded") as error:
        evaluators(folder, "fid", network=None)
    place = tmp_path / "home/hub/checkpoints/weights-1.pth"
    assert error.value.hint == f"download {url} and save it as {place}"
    assert error.value.exit_code == 3
    (tmp_path / "elsewhere").rename(place)
    [evaluator] = evaluators(folder, "recall", network=None)
    assert 0 < evaluator.evaluate(pictures(50, 1)) < 1


@pytest.mark.parametrize("downloaded", [False, True])
def test_weights_with_another_hash_are_never_loaded(fidelity, tmp_path, downloaded):
    place = tmp_path / "home/hub/checkpoints/weights-1.pth"
    place.parent.mkdir(parents=True)
    (place if downloaded else tmp_path / "weights-1.pth").write_bytes(b"other")
    with pytest.raises(
        CheckpointError, match="sha256" if downloaded else "cannot be downloaded.*hash"
    ) as error:
        feature_network.load_network()
    assert str(place) in error.value.hint


def test_the_hint_without_torch_fidelity_is_the_command_to_install_it(folder, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="not installed") as error:
        evaluators(folder, "fid", network=None)
    assert error.value.hint == "pip install torch-fidelity"


def test_the_error_for_an_incompatible_torchvision_names_torchvision(folder, monkeypatch, tmp_path):
    package = tmp_path / "torch_fidelity"
    package.mkdir()
    (package / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch_fidelity", raising=False)
    with pytest.raises(UsageError, match="torchvision::nms") as error:
        evaluators(folder, "fid", network=None)
    assert "torchvision" in error.value.hint
