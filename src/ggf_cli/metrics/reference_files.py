"""What `--reference` names: a folder of images, or a `.npz` file of statistics. Knows nothing of features' meaning."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.files import open_file
from ggf_cli.metrics.image_files import find_images, read_levels, upright_size

MAX_STATISTICS = 2**30  # bytes; those of Inception have 3.4e7
FEWEST = 10  # below, not even the nearest neighbours of an image mean anything


class ImageFolder:
    """All PNG and JPEG images in a folder and the folders in it, by name: `ggf_cli.metrics.image_files` says which, and how.

    The head of every file is looked at at once, its content only when its batch is taken.

    Args:
        path: The folder.
        shape: What the images must have the size of, (C, H, W).

    Raises:
        UsageError: Too few images, one that cannot be read or used, or one of another size.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.size = path, (shape[2], shape[1])
        self.files = find_images(path)
        if len(self.files) < FEWEST:
            raise UsageError(
                f"the reference {path} has {len(self.files)} PNG or JPEG images, at least {FEWEST} are needed",
                hint="10,000 images or more of what the model was trained on",
            )
        self._first = upright_size(self.files[0])
        self._check_sizes()

    def __len__(self) -> int:
        return len(self.files)

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """(B, 3, H, W) uint8, B <= batch_size.

        Raises:
            UsageError: An image cannot be read or used.
        """
        for start in range(0, len(self.files), batch_size):
            images = [self._read(file) for file in self.files[start : start + batch_size]]
            yield torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)

    def _read(self, file: Path) -> np.ndarray:
        levels = read_levels(file)
        size = levels.shape[1], levels.shape[0]
        if size != self.size:  # a PNG file may tell after the pixels that it lies on its side
            raise self._differ(file, size)
        return levels

    def _differ(self, file: Path, size: tuple[int, int]) -> UsageError:
        return UsageError(
            f"the images of {self.path} differ in size: {self.files[0].name} is {_by(self._first)},"
            f" {file.relative_to(self.path)} is {_by(size)}",
            hint=f"crop or resize all to {_by(self.size)}, the size of the model's samples",
        )

    def _check_sizes(self) -> None:
        for file in self.files:
            if (size := upright_size(file)) != self._first:
                raise self._differ(file, size)
        if self._first != self.size:
            raise UsageError(
                f"the images of {self.path} are {_by(self._first)}, the model's samples are {_by(self.size)}",
                hint=f"resize them to {_by(self.size)}, as the training images of the model were",
            )


def read_statistics(path: Path, size: int) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D), float64, as pytorch-fid, clean-fid and EDM write them: "mu" and "sigma".

    Args:
        path: A `.npz` file.
        size: D.

    Raises:
        UsageError: Not such a file, or of other features.
    """
    try:
        with open_file(path, MAX_STATISTICS) as content, zipfile.ZipFile(content) as file:
            names = [name.removesuffix(".npy") for name in file.namelist()]
            missing = {"mu", "sigma"} - set(names)
            if missing:
                raise UsageError(
                    f"{path} has no {' and no '.join(sorted(missing))}, it has {', '.join(names[:9]) or 'nothing'}",
                    hint="a file of statistics has the mean as mu and the covariance as sigma",
                )
            shapes = _stated_shape(file, "mu"), _stated_shape(file, "sigma")
            if shapes != ((size,), (size, size)):
                raise UsageError(
                    f"{path} has statistics of shape {shapes[0]} and {shapes[1]}, not ({size},) and ({size}, {size})",
                    hint="they must be of the same network's features",
                )
            mean, covariance = _array(file, "mu"), _array(file, "sigma")
    except UsageError:
        raise
    except Exception as error:  # damage can surface as almost anything
        raise UsageError(
            f"the statistics {path} cannot be read: {error}", hint="is it a whole .npz file?"
        ) from error
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise UsageError(f"{path} has numbers that are not finite")
    if not np.allclose(covariance, covariance.T, rtol=1e-4, atol=1e-6):
        raise UsageError(f"sigma in {path} is not symmetric, so it is no covariance")
    return torch.from_numpy(mean), torch.from_numpy(covariance)


def _stated_shape(file: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """The shape that an array says it has, before room is made for it."""
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
    return f"{size[0]} x {size[1]}"
