"""Read the arrays of an .npz file of a run, in memory that the size of the file bounds."""

from __future__ import annotations

import io
import zipfile

import numpy as np


def read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, {name: array}. Compressed files are refused: runs write none.

    Raises:
        ValueError: An array is compressed, or has other objects than numbers. Damage can raise
            almost any other exception.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > len(content):
                raise ValueError(f"{member.filename!r} is compressed")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
