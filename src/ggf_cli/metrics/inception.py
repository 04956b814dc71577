"""Images in the 2048 features of Inception, as FID and KID take them, against images of the user's.

The network is FID's own, Inception-v3 of 2015-12-05 with TensorFlow's resizing. Any other of the same interface can stand in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ggf_cli.metrics.checks import to_levels
from ggf_cli.metrics.feature_network import FeatureNetwork, load_network
from ggf_cli.metrics.reference import Real
from ggf_cli.metrics.reference_files import ImageFolder, read_statistics
from ggf_cli.metrics.registry import Against

if TYPE_CHECKING:
    from ggf_cli.score import ScoreModel

BATCH_SIZE = 64
PUBLISHED = 10_000  # from fewer samples FID is mostly bias; papers take 50,000


class Inception:
    """The space of a feature network.

    Args:
        network: Inception, or what stands in for it.
        reference: What to compare with, in features of the network.
        shape: Of one image that is judged, (C, H, W), C = 1 or 3.
        warnings: What must be said of the reference.
    """

    sample_form: Literal["images"] = "images"
    what = "Inception features"
    fewest = 2

    def __init__(
        self,
        network: FeatureNetwork,
        reference: Real,
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
        """Read the reference, a folder of images or a file of statistics.

        Raises:
            UsageError: It cannot be used, or torch-fidelity cannot be imported.
            CheckpointError: Weights of Inception cannot be had.
        """
        if reference.is_file():
            network = network or load_network(device)
            known = read_statistics(reference, network.size)
            real = Real(torch.empty(0, network.size), what="", known=known, known_of=str(reference))
            return cls(network, real, model.shape)

        folder = ImageFolder(reference, model.shape)  # before weights are fetched
        network = network or load_network(device)
        features = []
        for batch in folder.batches(BATCH_SIZE):
            features.append(_features(network, batch))
            if on_progress is not None:
                on_progress(sum(map(len, features)), len(folder))
        # In a folder, images that are alike have names that are: no first n must be of one kind.
        order = torch.randperm(len(folder), generator=torch.Generator().manual_seed(0))
        real = Real(torch.cat(features)[order], what="images of the reference")
        return cls(network, real, model.shape, _few(reference, len(folder), network.size))

    def features(self, piece: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, D).

        Raises:
            UsageError: Not images of the model's shape, in [0, 1].
        """
        levels = to_levels(piece, self.shape, "the model")
        return torch.cat(
            [_features(self.network, part) for part in torch.split(levels, BATCH_SIZE)]
        )

    def notes(self, n: int, against: Against) -> list[str]:
        """What must be said beside a value from n samples."""
        notes = []
        if against == "moments" and n < PUBLISHED:
            notes.append(
                f"FID of {n:,} samples: it falls with their number, so it can be compared with FID of {n:,} samples only;"
                f" below {PUBLISHED:,} most of it may be bias, and papers take 50,000."
            )
        if against == "moments":
            notes += self.warnings
        if against == "as many" and n > len(self.reference.features):
            notes.append(
                f"{n:,} samples are compared with {len(self.reference.features):,} real images, all there are."
            )
        return notes


def _features(network: FeatureNetwork, levels: Tensor) -> Tensor:
    """Images (B, 1 or 3, H, W) uint8 -> (B, D); a single channel is seen as three equal ones."""
    return network(levels.expand(-1, 3, -1, -1)).float()


def _few(reference: Path, count: int, size: int) -> list[str]:
    """What to say of a reference of few images."""
    if count > size:
        return []
    note = (
        f"{reference} has {count:,} images, {size + 1:,} are needed for a covariance of {size:,} features that is not"
        " singular: FID against it is too high by an unknown amount; kid has no such error."
    )
    return [note]
