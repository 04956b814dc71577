"""Muon for the matrices, Adam for the rest.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) makes every update of a weight matrix orthogonal, so that all of its
directions learn at one pace. A convolution is a matrix of (output channels, inputs x 3 x 3). Biases, norms and the first and
last layers, thin as they are, stay with Adam.
"""

from typing import Any

import torch
from torch import Tensor, nn

THIN = 16  # channels


class MuonAdam:
    """Steps both; `lr` is one for both, Muon's being scaled to the size of Adam's updates (Liu et al. 2025, arXiv:2502.16982)."""

    def __init__(self, network: nn.Module, lr: float) -> None:
        trained = [p for p in network.parameters() if p.requires_grad]
        self._matrices = [p for p in trained if p.ndim >= 2 and min(_flat(p).shape) >= THIN]
        # torch's Muon takes matrices only: leaves of their own, in the memory of the parameters.
        self._flat = [_flat(p.detach()) for p in self._matrices]
        chosen = {id(p) for p in self._matrices}
        rest = [p for p in trained if id(p) not in chosen]
        self._both: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(self._flat, lr=lr, weight_decay=0, adjust_lr_fn="match_rms_adamw"),
            torch.optim.Adam(rest, lr=lr, fused=True),
        )

    def step(self, lr: float) -> None:
        """One update from the gradients of the network, at this learning rate."""
        for flat, matrix in zip(self._flat, self._matrices, strict=True):
            flat.grad = None if matrix.grad is None else _flat(matrix.grad)
        for optimizer in self._both:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """For `load_state_dict`."""
        return [optimizer.state_dict() for optimizer in self._both]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Go on from there."""
        for optimizer, part in zip(self._both, state, strict=True):
            optimizer.load_state_dict(part)


def _flat(weight: Tensor) -> Tensor:
    return weight.reshape(len(weight), -1)
