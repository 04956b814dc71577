"""FID's own Inception-v3, by torch-fidelity (Apache-2.0), which is the extra `ggf-cli[fid]`; its weights (91 MB) are fetched once."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.files import sha256

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
MAX_SIZE = 2**30  # bytes; it has 9e7


class FeatureNetwork(Protocol):
    """What sees images.

    Attributes:
        size: How many features there are, D.
    """

    size: int

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) uint8 on the CPU -> features (B, D) float32; rows do not affect each other."""


def load_network(device: torch.device | str = "cpu") -> FeatureNetwork:
    """FID's Inception.

    Raises:
        UsageError: torch-fidelity is not installed, or cannot be imported.
        CheckpointError: The weights are corrupt, or cannot be fetched.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        raise UsageError(
            "FID and its kin need torch-fidelity, which is not installed",
            hint="pip install 'ggf-cli[fid]'",
        )
    try:
        from torch_fidelity import feature_extractor_inceptionv3 as inception
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another torch
        raise UsageError(
            f"torch-fidelity cannot be imported: {error}",
            hint="it needs the torchvision that is made for the torch installed: reinstall both from one place",
        ) from error

    weights = _weights(inception.URL_INCEPTION_V3)
    network = inception.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights)
    ).to(device)
    return _Inception(network, torch.device(device))


class _Inception:
    size = 2048

    def __init__(self, network: Callable[[Tensor], Any], device: torch.device) -> None:
        self.network, self.device = network, device

    def __call__(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            features: Tensor = self.network(images.to(self.device))[0].cpu()
        return features


def _weights(url: str) -> Path:
    """The file, where torch-fidelity and torchmetrics look for it too; it is fetched if it is not there."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    hint = f"download {url} and save it as {path}"
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=SHA256, progress=False)
        except (
            OSError,
            RuntimeError,
        ) as error:  # URLError is an OSError; RuntimeError: a wrong hash
            raise CheckpointError(
                f"the weights of Inception cannot be fetched: {error}", hint=hint
            ) from error
    # It is a pickle: only the one that is known is ever unpacked.
    try:
        found = sha256(path, MAX_SIZE)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    if found != SHA256:
        raise CheckpointError(
            f"{path} has sha256 {found}, the weights of Inception have {SHA256}",
            hint=f"delete it, and {hint}",
        )
    return path
