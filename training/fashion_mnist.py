"""Read Fashion-MNIST (Zalando Research, MIT licence; arXiv:1708.07747) from a Debian package.

apt-get install dataset-fashion-mnist
"""

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path("/usr/share/datasets/fashion-mnist")


def load(train: bool = True, folder: Path = FOLDER) -> tuple[Tensor, Tensor]:
    """Read images (N, 1, 28, 28) float32 in [-1, 1] and labels (N,) int64.

    N is 60,000 for training and 10,000 for testing.
    """
    part = "train" if train else "t10k"
    images = _read(folder / f"{part}-images-idx3-ubyte.gz", header=16).reshape(-1, 1, 28, 28)
    labels = _read(folder / f"{part}-labels-idx1-ubyte.gz", header=8)
    return torch.from_numpy(images).float() / 127.5 - 1, torch.from_numpy(labels).long()


def _read(path: Path, header: int) -> np.ndarray:
    """Read the bytes of a compressed idx file after its header."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header).copy()
