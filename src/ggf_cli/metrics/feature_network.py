"""The Inception-v3 network of FID, from torch-fidelity (Apache-2.0), the extra `fid`.

Its weights (91 MB) are downloaded once.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.files import sha256

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
# Bytes; the file has 9e7.
MAX_SIZE = 2**30


class FeatureNetwork(Protocol):
    """A network that maps images to features.

    Attributes:
        size: The number of features, D.
    """

    size: int

    def __call__(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) uint8 on the CPU to features (B, D) float32 on the CPU.

        Rows do not affect each other.
        """


def load_network(device: torch.device | str = "cpu") -> FeatureNetwork:
    """Load the Inception network of FID; its weights are downloaded if they are not there.

    Raises:
        UsageError: torch-fidelity is not installed, or cannot be imported.
        CheckpointError: The weights are corrupt, or cannot be downloaded.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        raise UsageError(
            "metrics in Inception features need torch-fidelity, which is not installed",
            hint="pip install torch-fidelity",
        )
    try:
        from torch_fidelity import feature_extractor_inceptionv3 as inception
    # RuntimeError: torchvision was built for another version of torch.
    except (ImportError, RuntimeError) as error:
        raise UsageError(
            f"torch-fidelity cannot be imported: {error}",
            hint="it needs a torchvision built for the installed torch: reinstall both from the"
            " same index",
        ) from error

    weights = _weights(inception.URL_INCEPTION_V3)
    network = inception.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights)
    ).to(device)
    return _Inception(network, torch.device(device))


class _Inception:
    """The network of torch-fidelity as a `FeatureNetwork`."""

    size = 2048

    def __init__(self, network: Callable[[Tensor], Sequence[Tensor]], device: torch.device) -> None:
        self.network, self.device = network, device

    def __call__(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            features: Tensor = self.network(images.to(self.device))[0].cpu()
        return features


def _weights(url: str) -> Path:
    """Return the path of the weights; download them if they are not there, and verify them.

    torch-fidelity and torchmetrics look for them at the same path.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    hint = f"download {url} and save it as {path}"
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=SHA256, progress=False)
        # URLError is an OSError; RuntimeError: a wrong hash.
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"the weights of Inception cannot be downloaded: {error}", hint=hint
            ) from error
    # The file is a pickle: only the one with the expected hash may be loaded.
    try:
        found = sha256(path, MAX_SIZE)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    if found != SHA256:
        raise CheckpointError(
            f"{path} has sha256 {found}, the weights of Inception have {SHA256}",
            hint=f"delete it, then {hint}",
        )
    return path
