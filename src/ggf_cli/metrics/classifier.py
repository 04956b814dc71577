"""The small Fashion-MNIST classifier whose features images are compared in, and the file it is shipped in.

One `.safetensors` file has the network's tensors, the statistics of the training images ("reference.mean",
"reference.covariance", float64), features of test images ("test.features", float16), and under the metadata key "ggf" one JSON
document:

    schema        "ggf-features/2"
    features      D
    classes       names of the classes, in the order of the logits
    reference     how many images the statistics are of, and which
    provenance    script, configuration, test accuracy, licence of the data

`training/classifier.py` writes it. This module knows nothing of distances.
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
SHA256 = "2d107cbd24ad2f4fad20a6e8cc5cc8cd32062c40cee22a14d8e283a73890d105"  # of the asset
SHAPE = (1, 28, 28)
FEATURES = 64
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


class Classifier(nn.Module):
    """Images (B, 1, 28, 28) in [0, 1] -> features (B, 64) of any sign, and logits (B, 10).

    A convolution to half the resolution, a residual block of 48 channels, another to a quarter, a residual block of 96; the
    features are linear in 32 channels at each of the 7 x 7 places, so that they know where things are, and the logits are
    linear in the rectified features. Batch normalisation uses its running statistics in evaluation mode, the mode in
    which `load` gives it: rows do not affect each other then.
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
    """x + two convolutions of x."""

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
    """A trained classifier, the statistics of its features over the training images, and the features of test images.

    Attributes:
        network: In evaluation mode, float32, without gradients.
        mean: Of the features of the training images, (D,) float64.
        covariance: Of the features of the training images, (D, D) float64.
        test_features: Of the first M test images, (M, D) float32, rounded to float16.
        document: What the file says of itself.
    """

    network: Classifier
    mean: Tensor
    covariance: Tensor
    test_features: Tensor
    document: dict[str, Any]


def load(path: Path = ASSET, *, device: torch.device | str = "cpu") -> TrainedClassifier:
    """Read the file; all but the network stays on the CPU.

    Raises:
        CheckpointError: Missing, corrupt, or not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            document = json.loads((file.metadata() or {}).get("ggf", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if document.get("schema") != SCHEMA:
            raise CheckpointError(
                f"{path} has schema {document.get('schema')!r}, not {SCHEMA!r}",
                hint="it is written by training/classifier.py",
            )
        mean, covariance = tensors.pop("reference.mean"), tensors.pop("reference.covariance")
        test_features = tensors.pop("test.features")
        network = Classifier()
        if tensors.keys() != _stored(network).keys():
            raise KeyError(*(tensors.keys() ^ _stored(network).keys()))
        weights = {name: tensor.float() for name, tensor in tensors.items()}
        network.load_state_dict(weights, strict=False)  # all but the counters
    except (SafetensorError, OSError, ValueError, AttributeError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"the features {path} are missing or corrupt: {error}", hint="reinstall ggf-cli"
        ) from error
    return TrainedClassifier(
        network=network.to(device).eval().requires_grad_(False),
        mean=mean.double(),
        covariance=covariance.double(),
        test_features=test_features.float(),
        document=document,
    )


def to_bytes(trained: TrainedClassifier) -> bytes:
    """The content of such a file: weights (see `round_weights`) and features in float16, statistics in float64."""
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
    """Round to float16, as the weights are stored: the statistics in a file must be of the network in that file."""
    for tensor in _stored(network).values():
        tensor.copy_(tensor.half())


def _stored(network: Classifier) -> dict[str, Tensor]:
    """All weights and running statistics; not the counters of batch normalisation, which serve training only."""
    return {
        name: value for name, value in network.state_dict().items() if value.is_floating_point()
    }


def _convolution(inputs: int, outputs: int, *, size: int = 3, stride: int = 1) -> list[nn.Module]:
    """size x size, normalised over the batch, rectified."""
    return [
        nn.Conv2d(inputs, outputs, size, stride=stride, padding=int(size > 1), bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
