"""Train the small Fashion-MNIST classifier of FFD, and write it with the reference statistics.

    python training/classifier.py src/ggf_cli/assets/fashion-features.safetensors [--epochs 8]
    python training/classifier.py src/ggf_cli/assets/fashion-features.safetensors --features-only

Cross-entropy on the 60,000 training images, shifted at random by up to one pixel; AdamW with one
cycle of the learning rate. Images are not mirrored: shoes have a direction, and the features must
depend on it. Test images are used for the accuracy in the file only. About a minute an epoch on one
CPU core with bfloat16. The result depends on the seed and, in its last bits, on the machine.

The weights are rounded to float16, as in the file, before accuracy and statistics are computed in
float32.

The file also has the features of the first 6,000 test images: real images to compare with where the
data set is not installed. `--features-only` computes them again and keeps weights and statistics of
the file.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fashion_mnist import load
from ggf_cli.metrics.classifier import (
    FEATURES,
    Classifier,
    TrainedClassifier,
    round_weights,
    to_bytes,
)
from ggf_cli.metrics.classifier import load as load_classifier
from ggf_cli.metrics.frechet import moments
from ggf_cli.runs.layout import write_atomically
from ggf_cli.runtime.precision import fast_bf16

BATCH_SIZE = 128
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
# Pixels.
SHIFT = 1
# Test images whose features are in the file.
TEST_FEATURES = 6000


def fit(images: Tensor, labels: Tensor, test: tuple[Tensor, Tensor], epochs: int) -> Classifier:
    """Train from scratch.

    Args:
        images: (N, 1, 28, 28) in [0, 1].
        labels: (N,).
        test: Images and labels whose accuracy is printed after each epoch.
        epochs: The number of passes over the images.
    """
    network = Classifier()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    batches = len(images) // BATCH_SIZE
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, epochs * batches, pct_start=0.15
    )
    for epoch in range(epochs):
        network.train()
        start, total = time.monotonic(), 0.0
        for rows in torch.randperm(len(images))[: batches * BATCH_SIZE].split(BATCH_SIZE):
            with torch.autocast("cpu", torch.bfloat16, enabled=fast_bf16(torch.device("cpu"))):
                logits = network(shifted(images[rows]))[1]
            loss = F.cross_entropy(logits.float(), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        print(
            f"epoch {epoch + 1}/{epochs}  loss {total / batches:.4f}"
            f"  test accuracy {accuracy(network, *test):.4f}  {time.monotonic() - start:.0f} s",
            flush=True,
        )
    return network.requires_grad_(False)


def shifted(images: Tensor) -> Tensor:
    """Shift each image of (N, 1, H, W) at random by up to SHIFT pixels; the border is black."""
    n, _, height, width = images.shape
    padded = F.pad(images, [SHIFT] * 4)[:, 0]
    top, left = torch.randint(2 * SHIFT + 1, (2, n, 1, 1))
    rows = top + torch.arange(height)[:, None]
    columns = left + torch.arange(width)
    return padded[torch.arange(n)[:, None, None], rows, columns][:, None]


@torch.no_grad()
def accuracy(network: Classifier, images: Tensor, labels: Tensor) -> float:
    """Share of images (N, 1, 28, 28) whose most likely class is their label (N,)."""
    network.eval()
    classes = torch.cat([network(part)[1].argmax(1) for part in images.split(500)])
    return float((classes == labels).double().mean())


@torch.no_grad()
def features_of(network: Classifier, images: Tensor) -> Tensor:
    """Features (N, 64) of images (N, 1, 28, 28) in [0, 1]."""
    return torch.cat([network(part)[0] for part in images.split(500)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--features-only", action="store_true", help="keep the network in the file")
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    test_images, test_labels = load(train=False)
    test_images = (test_images + 1) / 2
    if args.features_only:
        trained = load_classifier(args.out)
    else:
        trained = train(test_images, test_labels, args.epochs, args.seed)
    trained = replace(
        trained, test_features=features_of(trained.network, test_images[:TEST_FEATURES])
    )
    write_atomically(args.out, to_bytes(trained))
    print(
        f"test accuracy of the stored weights {trained.document['provenance']['test_accuracy']:.4f}"
    )
    print(
        "standard deviations of the features:",
        trained.covariance.diagonal().sqrt().numpy().round(3),
    )


def train(test_images: Tensor, test_labels: Tensor, epochs: int, seed: int) -> TrainedClassifier:
    """Train a classifier and compute its statistics; test images (N, 1, 28, 28) in [0, 1]."""
    images, labels = load()
    images = (images + 1) / 2
    network = fit(images, labels, (test_images, test_labels), epochs)

    round_weights(network)
    mean, covariance = moments(features_of(network, images))
    document = {
        "reference": {"images": len(images), "of": "the Fashion-MNIST training set"},
        "provenance": {
            "source": "training/classifier.py, on the 60,000 Fashion-MNIST training images (MIT)",
            "license": "MIT",
            "test_accuracy": accuracy(network, test_images, test_labels),
            "config": {
                "epochs": epochs,
                "seed": seed,
                "batch_size": BATCH_SIZE,
                "shift": SHIFT,
                "learning_rate": LEARNING_RATE,
                "weight_decay": WEIGHT_DECAY,
            },
            "torch": torch.__version__,
        },
    }
    return TrainedClassifier(
        network=network,
        mean=mean,
        covariance=covariance,
        test_features=torch.empty(0, FEATURES),
        document=document,
    )


if __name__ == "__main__":
    main()
