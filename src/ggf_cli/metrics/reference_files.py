"""Read the reference of `--reference`: a folder of images, or a `.npz` file of statistics."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.files import open_file
from ggf_cli.metrics.image_files import find_images, read_levels, upright_size
from ggf_cli.metrics.registry import SAMPLES

# Bytes; the statistics of Inception have 3.4e7.
MAX_STATISTICS = 2**30
# Bytes of a file of samples, and numbers in it.
MAX_SAMPLES = 2**31
# With fewer images, not even the distances to nearest neighbours mean anything.
MIN_IMAGES = 10


class ImageFolder:
    """The PNG and JPEG images in a folder and its subfolders, sorted by path.

    See `ggf_cli.metrics.image_files` for the files that are used. The constructor checks the header
    of every file; the pixels are read when the batch is requested.

    Args:
        path: The folder.
        shape: Shape of a sample, (C, H, W): the images must have this height and width.

    Raises:
        UsageError: There are too few images, one cannot be read or used, or one has another size.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.size = path, (shape[2], shape[1])
        self.files = find_images(path)
        if len(self.files) < MIN_IMAGES:
            raise UsageError(
                f"the reference {path} has {len(self.files)} PNG or JPEG images, at least"
                f" {MIN_IMAGES} are needed",
                hint="use 10,000 or more images from the model's training set",
            )
        self._first = upright_size(self.files[0])
        self._check_sizes()

    def __len__(self) -> int:
        return len(self.files)

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield the images in batches (B, 3, H, W) uint8, B <= batch_size.

        Raises:
            UsageError: An image cannot be read or used.
        """
        for start in range(0, len(self.files), batch_size):
            images = [self._read(file) for file in self.files[start : start + batch_size]]
            yield torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)

    def _read(self, file: Path) -> np.ndarray:
        levels = read_levels(file)
        size = levels.shape[1], levels.shape[0]
        # A PNG file may have its orientation after the pixels, where the header check misses it.
        if size != self.size:
            raise self._size_error(file, size)
        return levels

    def _size_error(self, file: Path, size: tuple[int, int]) -> UsageError:
        return UsageError(
            f"the images of {self.path} differ in size: {self.files[0].name} is"
            f" {_by(self._first)}, {file.relative_to(self.path)} is {_by(size)}",
            hint=f"crop or resize all to {_by(self.size)}, the size of the model's samples",
        )

    def _check_sizes(self) -> None:
        for file in self.files:
            if (size := upright_size(file)) != self._first:
                raise self._size_error(file, size)
        if self._first != self.size:
            raise UsageError(
                f"the images of {self.path} are {_by(self._first)}, the model's samples are"
                f" {_by(self.size)}",
                hint=f"resize them to {_by(self.size)}, as the training images of the model were",
            )


def read_statistics(path: Path, size: int) -> tuple[Tensor, Tensor]:
    """Read the mean (D,) and covariance (D, D), float64, from a `.npz` file.

    Their names are "mu" and "sigma", as in the files of pytorch-fid, clean-fid and EDM.

    Args:
        path: A `.npz` file.
        size: The number of features, D.

    Raises:
        UsageError: The file cannot be read, or has no valid statistics of D features.
    """
    with _arrays("statistics", path, MAX_STATISTICS) as file:
        names = [name.removesuffix(".npy") for name in file.namelist()]
        missing = {"mu", "sigma"} - set(names)
        if missing:
            raise UsageError(
                f"{path} has no {' and no '.join(sorted(missing))}, it has"
                f" {', '.join(names[:9]) or 'nothing'}",
                hint="a file of statistics has the mean as mu and the covariance as sigma",
            )
        shapes = _header_shape(file, "mu"), _header_shape(file, "sigma")
        if shapes != ((size,), (size, size)):
            raise UsageError(
                f"{path} has statistics of shape {shapes[0]} and {shapes[1]}, not ({size},)"
                f" and ({size}, {size})",
                hint="they must be of the features of the same network",
            )
        mean, covariance = _array(file, "mu"), _array(file, "sigma")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise UsageError(f"{path} has numbers that are not finite")
    if not np.allclose(covariance, covariance.T, rtol=1e-4, atol=1e-6):
        raise UsageError(f"sigma in {path} is not symmetric, so it is not a covariance")
    return torch.from_numpy(mean), torch.from_numpy(covariance)


def read_samples(path: Path, shape: tuple[int, ...]) -> torch.Tensor:
    """Read samples (M, *shape), M >= 2, from the array `x` of a `.npz` file.

    Raises:
        UsageError: The file cannot be read, or has samples of another shape, or not finite ones.
    """
    with _arrays("samples", path, MAX_SAMPLES) as file:
        found = _header_shape(file, SAMPLES)
        if math.prod(found) > MAX_SAMPLES:
            raise ValueError(f"it states {math.prod(found):,} numbers")
        if found[1:] != shape:
            raise UsageError(
                f"{path} has samples of shape {found[1:]}, the model's have {shape}",
                hint="save them as numpy.savez(FILE, x=samples), x of shape (M, *shape)",
            )
        x = torch.from_numpy(_array(file, SAMPLES))
    if len(x) < 2 or not bool(torch.isfinite(x).all()):
        raise UsageError(f"{path} has fewer than 2 samples, or numbers that are not finite")
    return x


@contextmanager
def _arrays(what: str, path: Path, limit: int) -> Iterator[zipfile.ZipFile]:
    """Open a `.npz` file of at most `limit` bytes; errors of reading it become a `UsageError`."""
    try:
        with open_file(path, limit) as content, zipfile.ZipFile(content) as file:
            yield file
    except UsageError:
        raise
    # Damaged files raise almost any exception.
    except Exception as error:
        raise UsageError(
            f"the {what} {path} cannot be read: {error}", hint="is it a complete .npz file?"
        ) from error


def _header_shape(file: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """Read the shape of an array from its header, before memory is allocated for it."""
    with file.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read(stream)
    if dtype.kind not in "fiu":
        raise ValueError(f"{name} is of type {dtype}")
    return tuple(shape)


def _array(file: zipfile.ZipFile, name: str) -> np.ndarray:
    with file.open(f"{name}.npy") as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
    return np.asarray(array, float)


def _by(size: tuple[int, int]) -> str:
    """Format a width and height ("256 x 256")."""
    return f"{size[0]} x {size[1]}"
