"""The levels of a U-Net, each at one resolution: residual blocks, attention, resampling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ggf_cli.networks.layers import ResBlock


class Level(nn.Module):
    """Residual blocks, the attention after each, and an optional resampling."""

    def __init__(
        self, blocks: list[ResBlock], attentions: list[nn.Module], resample: nn.Module | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList(attentions)
        self.resample = resample

    def resampled(self, h: Tensor, time: Tensor) -> Tensor:
        """The input of the next level."""
        if self.resample is None:
            return h
        in_block = isinstance(self.resample, ResBlock)
        result: Tensor = self.resample(h, time) if in_block else self.resample(h)
        return result


class DownLevel(Level):
    """Blocks, then halve."""

    def forward(self, h: Tensor, time: Tensor) -> list[Tensor]:
        """Return the skip connections; the last one is the input of the next level."""
        outputs = []
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            h = attention(block(h, time))
            outputs.append(h)
        return outputs if self.resample is None else [*outputs, self.resampled(h, time)]


class UpLevel(Level):
    """Blocks, each of which also takes the last skip connection; then double."""

    def forward(self, h: Tensor, time: Tensor, skips: list[Tensor]) -> Tensor:
        """Remove one skip connection from the end of the list for each block."""
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            h = attention(block(torch.cat([h, skips.pop()], dim=1), time))
        return self.resampled(h, time)
