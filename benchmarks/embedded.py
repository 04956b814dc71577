"""Check samples of an embedded Fashion-MNIST model for missing classes and copied images.

    ggf compare adaptive em --model fashion-vp --n 2000 --repeats 1 --out runs/vp
    python benchmarks/embedded.py runs/vp

FFD alone does not show these. For each cell, from the samples that the comparison keeps, it prints
a row of a Markdown table: the number of images of the rarest and of the most frequent class as a
multiple of a tenth of all, and the distance to the nearest training image (median, 1 %). The last
row is that of the test images. It needs Debian's package `dataset-fashion-mnist`.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ggf_cli.runs.load_samples import load_samples

sys.path.append(str(Path(__file__).parents[1] / "training"))
from fashion_metrics import FFD, nearest_distances
from fashion_mnist import load


def row(label: str, images: Tensor, ffd: FFD, training: Tensor) -> str:
    """Format a row; images (N, 1, 28, 28) in [0, 1], training (M, 1, 28, 28) in [-1, 1]."""
    histogram = ffd.classify(images).histogram()
    ratios = [len(histogram) * count / len(images) for count in histogram]
    distances = nearest_distances(2 * images - 1, training)
    near = f"{distances.median():.2f} ({distances.quantile(0.01):.2f})"
    return f"| {label} | {ffd(images):.2f} | {min(ratios):.2f}–{max(ratios):.2f} | {near} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of a comparison")
    folder = parser.parse_args().folder
    document = json.loads((folder / "compare.json").read_text())
    torch.set_grad_enabled(False)
    ffd, training = FFD(), load()[0]
    print("| | FFD of all | classes, least–most | nearest training image, median (1 %) |")
    print("|---|---|---|---|")
    for cell in document["cells"]:
        runs = [folder / run for run in cell["runs"]]
        logs = [json.loads((run / "run.json").read_text()) for run in runs]
        samples = map(load_samples, runs, logs)
        parts = [found.images for found in samples if found]
        if parts:
            images = torch.from_numpy(np.concatenate(parts)).permute(0, 3, 1, 2).float() / 255
            print(row(cell["label"], images, ffd, training))
    print(row("test images", (load(train=False)[0] + 1) / 2, ffd, training))


if __name__ == "__main__":
    main()
