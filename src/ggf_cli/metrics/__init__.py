"""The table of metrics: how good a set of images is. Reading it imports no torch.

A metric is a class: `Metric(device="cpu")` reads what it compares with, `metric(images)` is one number, the lower the
better, and `shape` and `min_images` say which images it can judge, and how many it needs.
"""

from __future__ import annotations

from ggf_cli.registry import Entry

METRICS: dict[str, Entry] = {
    "ffd": Entry(
        "ggf_cli.metrics.ffd:FFD",
        "Fréchet distance to Fashion-MNIST in the features of a small classifier (not FID)",
    ),
}
