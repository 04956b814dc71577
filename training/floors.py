"""Print the metrics of real and of damaged Fashion-MNIST images, as Markdown tables.

    python training/floors.py [--seeds 10]

The tables are in docs/reference/metrics.md, to compare the values of samples with. About 5 minutes
on one CPU core.
"""

import argparse
import statistics
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from fashion_metrics import FFD, nearest_distances
from fashion_mnist import load
from ggf_cli.metrics.classifier import SHAPE
from ggf_cli.metrics.evaluator import make_evaluators

# Test images whose features are in the package, as the reference.
SHIPPED = 6000
SIZES = (250, 500, 1000, 2000, 5000, 10_000)


def subset_distances(ffd: FFD, features: Tensor, n: int, seeds: int) -> tuple[float, float]:
    """Mean and standard deviation of the FFD of n rows of features (N, D), without repetition."""
    values = []
    for seed in range(seeds):
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
        values.append(ffd.distance(features[order[:n]]))
    return statistics.mean(values), statistics.stdev(values)


def damaged(images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Damage images (N, 1, 28, 28) in [0, 1] in ways that occur in samples: {name: images}."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(images.shape, generator=generator)
    smooth = torch.tensor([0.25, 0.5, 0.25])
    kernel = (smooth[:, None] * smooth)[None, None]
    only_noise = torch.rand(200, 1, 28, 28, generator=generator)
    return {
        "noise of standard deviation 2/255 on every pixel": (images + noise * 2 / 255).clamp(0, 1),
        "noise of standard deviation 0.05 on every pixel": (images + noise * 0.05).clamp(0, 1),
        "blurred by (1, 2, 1) / 4 in both directions": F.conv2d(images, kernel, padding=1),
        "mirrored": images.flip(-1),
        "one class in ten missing (bags)": images[labels != 8],
        "two in a hundred only noise": torch.cat([images[200:], only_noise]),
        "1,000 different images, ten times each": images[:1000].repeat(10, 1, 1, 1),
        "only one class (trousers)": images[labels == 1],
        "uniform noise": torch.rand(images.shape, generator=generator),
    }


def shares(images: Tensor, labels: Tensor, n: int) -> None:
    """Print precision, recall and coverage of n real and n damaged test images.

    The images are not among those of the reference.
    """
    model = SimpleNamespace(name="fashion", shape=SHAPE, distribution=None, data_range=(-1, 1))
    evaluators = make_evaluators(["precision", "recall", "coverage"], model)
    titles = " | ".join(evaluator.title for evaluator in evaluators)
    print(f"\n| {n} test images | {titles} |\n|---|---|---|---|")
    floors = [evaluator.floor(n, 5).values for evaluator in evaluators]
    cells = [f"{statistics.mean(f):.3f} ({statistics.stdev(f):.3f})" for f in floors]
    print(f"| as they are | {' | '.join(cells)} |")
    images, labels = images[SHIPPED:], labels[SHIPPED:]
    for name, worse in damaged(images, labels).items():
        order = torch.randperm(len(worse), generator=torch.Generator().manual_seed(0))
        if len(worse) >= n:
            cells = [f"{evaluator.evaluate(worse[order[:n]]):.3f}" for evaluator in evaluators]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    torch.set_grad_enabled(False)

    ffd = FFD()
    training = (load()[0] + 1) / 2
    test, labels = load(train=False)
    test = (test + 1) / 2
    classified = ffd.classify(test)
    test_features, training_features = classified.features, ffd.classify(training).features

    print(f"FFD of the {len(test)} test images: {ffd.distance(test_features):.3f}\n")
    print("| n | test images | training images |\n|---|---|---|")
    for n in SIZES:
        cells = [
            "{:.3f} ({:.3f})".format(*subset_distances(ffd, features, n, args.seeds))
            if n < len(features)
            else f"{ffd.distance(features):.3f}"
            for features in (test_features, training_features)
        ]
        print(f"| {n} | {' | '.join(cells)} |", flush=True)

    print("\n| test images | FFD |\n|---|---|")
    for name, images in damaged(test, labels).items():
        print(f"| {name} | {ffd(images):.2f} |", flush=True)

    shares(test, labels, 300)

    accuracy = float((classified.classes == labels).double().mean())
    print(f"\nPredicted classes of the test images, 1,000 of each (accuracy {accuracy:.4f}):\n")
    print("| class | images |\n|---|---|")
    for name, count in zip(ffd.class_names, classified.histogram(), strict=True):
        print(f"| {name} | {count} |")

    test, training = 2 * test - 1, 2 * training - 1
    print("\n| distance to the nearest training image | 1 % | 5 % | median |\n|---|---|---|---|")
    for name, distances in {
        "test images": nearest_distances(test, training),
        "training images, to the others": nearest_distances(training, training, themselves=True),
    }.items():
        low, lower, median = distances.quantile(torch.tensor([0.01, 0.05, 0.5])).tolist()
        print(f"| {name} | {low:.2f} | {lower:.2f} | {median:.2f} |", flush=True)


if __name__ == "__main__":
    main()
