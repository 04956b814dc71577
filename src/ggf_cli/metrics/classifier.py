"""The small Fashion-MNIST classifier whose features FFD compares, and its file format.

One `.safetensors` file has the weights of the network, the statistics of the training images
("reference.mean", "reference.covariance", float64), features of test images ("test.features",
float16), and under the metadata key "ggf" one JSON document:

    schema        "ggf-features/2"
    features      D, the number of features
    classes       names of the classes, in the order of the logits
    reference     number and source of the images that the statistics are of
    provenance    script, configuration, test accuracy, licence of the data

`training/classifier.py` writes the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ggf_cli.errors import CheckpointError

SCHEMA = "ggf-features/2"
ASSET = Path(__file__).parents[1] / "assets" / "fashion-features.safetensors"
# Of the asset.
SHA256 = "2d107cbd24ad2f4fad20a6e8cc5cc8cd32062c40cee22a14d8e283a73890d105"
SHAPE = (1, 28, 28)
FEATURES = 64
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class Classifier(nn.Module):
    """Map images (B, 1, 28, 28) in [0, 1] to features (B, 64) of any sign, and logits (B, 10).

    A convolution to half the resolution, a residual block of 48 channels, a convolution to a
    quarter of the resolution, a residual block of 96 channels. The features are linear in 32
    channels at each of the 7 x 7 positions, so they depend on the position of what they detect; the
    logits are linear in the rectified features. `load` returns the network in evaluation mode,
    where batch normalisation uses its running statistics: rows do not affect each other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(1, 48, size=4, stride=2),
            Residual(48),
            *_convolution(48, 96, stride=2),
            Residual(96),
            *_convolution(96, 32, size=1),
            nn.Flatten(),
        )
        self.features = nn.Linear(32 * 7 * 7, FEATURES)
        self.last = nn.Linear(FEATURES, len(CLASSES))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features: Tensor = self.features(self.body(2 * images - 1))
        return features, self.last(torch.relu(features))


class Residual(nn.Module):
    """A residual block: x + two convolutions of x, (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(channels, channels), *_convolution(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


@dataclass(frozen=True, kw_only=True)
class TrainedClassifier:
    """A trained classifier with the features that FFD and other metrics compare with.

    Attributes:
        network: In evaluation mode, float32, without gradients.
        mean: Mean of the features of the training images, (D,) float64.
        covariance: Covariance of the features of the training images, (D, D) float64.
        test_features: Features of the first M test images, (M, D) float32, rounded to float16.
        document: The JSON document of the file, see the module.
    """

    network: Classifier
    mean: Tensor
    covariance: Tensor
    test_features: Tensor
    document: dict[str, Any]


def load(path: Path = ASSET, *, device: torch.device | str = "cpu") -> TrainedClassifier:
    """Read a trained classifier.

    Args:
        path: The `.safetensors` file.
        device: Device of the network. The statistics stay on the CPU.

    Raises:
        CheckpointError: The file is missing or corrupt, or has another schema.
    """
    try:
        with safe_open(path, framework="pt") as file:
            document = json.loads((file.metadata() or {}).get("ggf", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if document.get("schema") != SCHEMA:
            raise CheckpointError(
                f"{path} has schema {document.get('schema')!r}, not {SCHEMA!r}",
                hint="training/classifier.py writes such a file",
            )
        mean, covariance = tensors.pop("reference.mean"), tensors.pop("reference.covariance")
        test_features = tensors.pop("test.features")
        network = Classifier()
        if tensors.keys() != _stored(network).keys():
            raise KeyError(*(tensors.keys() ^ _stored(network).keys()))
        weights = {name: tensor.float() for name, tensor in tensors.items()}
        # The file has no counters of batch normalisation.
        network.load_state_dict(weights, strict=False)
    except (SafetensorError, OSError, ValueError, AttributeError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"the classifier {path} is missing or corrupt: {error}", hint="reinstall ggf-cli"
        ) from error
    return TrainedClassifier(
        network=network.to(device).eval().requires_grad_(False),
        mean=mean.double(),
        covariance=covariance.double(),
        test_features=test_features.float(),
        document=document,
    )


def to_bytes(trained: TrainedClassifier) -> bytes:
    """Serialise a trained classifier: weights and features in float16, statistics in float64.

    Call `round_weights` before the statistics are computed.
    """
    tensors = {name: value.half() for name, value in _stored(trained.network).items()}
    tensors |= {"reference.mean": trained.mean, "reference.covariance": trained.covariance}
    tensors["test.features"] = trained.test_features.half()
    document = {**trained.document, "schema": SCHEMA, "features": FEATURES, "classes": CLASSES}
    return save(
        {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
        metadata={"ggf": json.dumps(document)},
    )


@torch.no_grad()
def round_weights(network: Classifier) -> None:
    """Round the weights to float16 in place, as in the file.

    The statistics of a file must belong to its weights.
    """
    for tensor in _stored(network).values():
        tensor.copy_(tensor.half())


def _stored(network: Classifier) -> dict[str, Tensor]:
    """The tensors of the file: all weights and running statistics.

    The counters of batch normalisation are used in training only.
    """
    return {
        name: value for name, value in network.state_dict().items() if value.is_floating_point()
    }


def _convolution(inputs: int, outputs: int, *, size: int = 3, stride: int = 1) -> list[nn.Module]:
    """A size x size convolution, batch normalisation, ReLU."""
    return [
        nn.Conv2d(inputs, outputs, size, stride=stride, padding=int(size > 1), bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
