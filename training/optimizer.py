"""An optimizer: Muon for weight matrices, Adam for the other parameters.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) makes every update of a weight matrix
orthogonal, so that all of its directions are learned at the same rate. A convolution is a matrix of
(output channels, inputs x 3 x 3). Biases, norms and layers with few channels, such as the first and
the last, use Adam.
"""

from typing import Any

import torch
from torch import Tensor, nn

# Matrices with fewer rows or columns use Adam.
MIN_CHANNELS = 16


class MuonAdam:
    """Muon and Adam with one learning rate.

    The updates of Muon are scaled to the size of those of Adam (Liu et al. 2025, arXiv:2502.16982).

    Args:
        network: The network to train.
        lr: The learning rate.
    """

    def __init__(self, network: nn.Module, lr: float) -> None:
        trained = [p for p in network.parameters() if p.requires_grad]
        self._matrices = [p for p in trained if p.ndim >= 2 and min(_flat(p).shape) >= MIN_CHANNELS]
        # torch's Muon needs matrices: these are leaf tensors that share memory with the parameters.
        self._flat = [_flat(p.detach()) for p in self._matrices]
        chosen = {id(p) for p in self._matrices}
        rest = [p for p in trained if id(p) not in chosen]
        self._both: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(self._flat, lr=lr, weight_decay=0, adjust_lr_fn="match_rms_adamw"),
            torch.optim.Adam(rest, lr=lr, fused=True),
        )

    def step(self, lr: float) -> None:
        """Update the network from its gradients, at this learning rate."""
        for flat, matrix in zip(self._flat, self._matrices, strict=True):
            flat.grad = None if matrix.grad is None else _flat(matrix.grad)
        for optimizer in self._both:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the state of both optimizers, for `load_state_dict`."""
        return [optimizer.state_dict() for optimizer in self._both]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Restore a state of `state_dict`."""
        for optimizer, part in zip(self._both, state, strict=True):
            optimizer.load_state_dict(part)


def _flat(weight: Tensor) -> Tensor:
    return weight.reshape(len(weight), -1)
