"""The feature space of Inception, used by FID and KID, with images of the user as the reference.

The network is that of FID, Inception-v3 of 2015-12-05 with TensorFlow's resizing. Another network
with the same interface can replace it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ggf_cli.metrics.checks import to_levels
from ggf_cli.metrics.feature_network import FeatureNetwork, load_network
from ggf_cli.metrics.reference import RealReference
from ggf_cli.metrics.reference_files import ImageFolder, read_statistics
from ggf_cli.metrics.registry import ReferenceForm

if TYPE_CHECKING:
    from ggf_cli.score import ScoreModel

BATCH_SIZE = 64
# With fewer samples FID is mostly bias; papers use 50,000.
PUBLISHED = 10_000


class Inception:
    """The feature space of a network of images.

    Args:
        network: Inception, or a replacement.
        reference: The features that samples are compared with.
        shape: Shape of one sample, (C, H, W), C = 1 or 3.
        warnings: Caveats about the reference, a sentence each.
    """

    sample_form: Literal["images"] = "images"
    name = "Inception features"
    min_samples = 2

    def __init__(
        self,
        network: FeatureNetwork,
        reference: RealReference,
        shape: tuple[int, ...],
        warnings: Iterable[str] = (),
    ) -> None:
        self.network, self.reference, self.shape = network, reference, tuple(shape)
        self.warnings = list(warnings)

    @classmethod
    def open(
        cls,
        model: ScoreModel,
        *,
        reference: Path,
        device: torch.device | str,
        network: FeatureNetwork | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> Inception:
        """Read the reference and compute its features.

        Args:
            model: The model whose samples are evaluated.
            reference: A folder of images, or a `.npz` file of statistics.
            device: Device of Inception.
            network: A replacement for Inception.
            on_progress: Called with the number of images read so far, and of all.

        Raises:
            UsageError: The reference cannot be used, or torch-fidelity cannot be imported.
            CheckpointError: The weights of Inception are corrupt or cannot be downloaded.
        """
        if reference.is_file():
            network = network or load_network(device)
            real = RealReference(
                torch.empty(0, network.size),
                name="",
                given_moments=read_statistics(reference, network.size),
                given_moments_of=str(reference),
            )
            return cls(network, real, model.shape)

        # The folder is checked before the weights are downloaded.
        folder = ImageFolder(reference, model.shape)
        network = network or load_network(device)
        features = []
        for batch in folder.batches(BATCH_SIZE):
            features.append(_features(network, batch))
            if on_progress is not None:
                on_progress(sum(map(len, features)), len(folder))
        # Similar images often have similar names; the first n images must be of all kinds.
        order = torch.randperm(len(folder), generator=torch.Generator().manual_seed(0))
        real = RealReference(torch.cat(features)[order], name="images of the reference")
        return cls(network, real, model.shape, _size_warnings(reference, len(folder), network.size))

    def features(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to features (N, D), float32.

        Raises:
            UsageError: Another shape, type or range, or values that are not finite.
        """
        levels = to_levels(images, self.shape)
        return torch.cat(
            [_features(self.network, part) for part in torch.split(levels, BATCH_SIZE)]
        )

    def notes(self, n: int, reference_form: ReferenceForm) -> list[str]:
        """Return the caveats of a value from n samples, a sentence each."""
        notes = []
        if reference_form == "moments" and n < PUBLISHED:
            notes.append(
                f"FID decreases with the number of samples, so compare this FID of {n:,} samples"
                f" with FID of {n:,} samples only; below {PUBLISHED:,} samples most of it may be"
                f" bias, and papers use 50,000."
            )
        if reference_form == "moments":
            notes += self.warnings
        real = len(self.reference.features)
        if reference_form == "same_size" and n > real:
            notes.append(
                f"{n:,} samples are compared with all {real:,} real images of the reference."
            )
        return notes


def _features(network: FeatureNetwork, levels: Tensor) -> Tensor:
    """Map images (B, 1 or 3, H, W) uint8 to (B, D); one channel is repeated three times."""
    return network(levels.expand(-1, 3, -1, -1)).float()


def _size_warnings(reference: Path, count: int, size: int) -> list[str]:
    """Return a caveat if the covariance of the reference is singular."""
    if count > size:
        return []
    warning = (
        f"{reference} has {count:,} images, {size + 1:,} are needed for a covariance of {size:,}"
        " features that is not singular: FID against it is too high by an unknown amount; kid has"
        " no such error."
    )
    return [warning]
