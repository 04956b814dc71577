"""The states at T from which samples start: draws from the prior, or given ones."""

from __future__ import annotations

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.noise import Noise
from ggf_cli.per_sample import PerSample
from ggf_cli.score import ScoreModel


class PriorStates:
    """The states at T of samples: block 0 of their noise, scaled to the prior, unless given.

    Args:
        model: The model.
        noise: The noise streams.
        given: The states, (*shape) for each sample index; None: draws from the prior.
    """

    def __init__(self, model: ScoreModel, noise: Noise, given: PerSample | None) -> None:
        self._model, self._noise, self.given = model, noise, given

    def __call__(self, index: Tensor) -> Tensor:
        """The states of the sample indices (B,) int64, (B, *shape).

        Raises:
            UsageError: The given states have another shape or type.
        """
        model = self._model
        if self.given is None:
            return model.sde.prior_sampling(self._noise(index, torch.zeros_like(index)))
        x = self.given(index)
        if tuple(x.shape[1:]) != model.shape or not x.is_floating_point():
            raise UsageError(
                f"a state of prior is {x.dtype} of shape {tuple(x.shape[1:])}, it must be a"
                f" floating-point tensor of shape {model.shape}"
            )
        return x.to(index.device, model.state_dtype)
