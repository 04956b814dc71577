"""The parts that U-Nets for score models are made of."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def timestep_embedding(
    t: Tensor, channels: int, *, cosine_first: bool, freq_shift: float, dtype: torch.dtype
) -> Tensor:
    """Sines and cosines of the time label at geometric frequencies, (B,) -> (B, channels).

    frequency_i = 10000^(-i / (channels / 2 - freq_shift)), i = 0 .. channels / 2 - 1. Computed in the dtype of
    t (float64): a label near 999 keeps its fraction.

    Reference: Vaswani et al. 2017; Ho et al. 2020.
    """
    half = channels // 2
    i = torch.arange(half, dtype=t.dtype, device=t.device)
    angle = t[:, None] * torch.exp(-math.log(10000) * i / (half - freq_shift))
    sin, cos = torch.sin(angle), torch.cos(angle)
    return torch.cat([cos, sin] if cosine_first else [sin, cos], dim=1).to(dtype)


class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + time))), with a 1x1 shortcut where the width changes."""

    def __init__(self, inputs: int, outputs: int, time: int, groups: int, eps: float) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(groups, inputs, eps=eps)
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(time, outputs)
        self.norm_2 = nn.GroupNorm(groups, outputs, eps=eps)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, inputs, H, W), activated time embedding (B or more, time) -> (B, outputs, H, W)."""
        h = self.conv_1(F.silu(self.norm_1(x)))
        h = h + self.time(time)[: len(x), :, None, None]
        h = self.conv_2(F.silu(self.norm_2(h)))
        return self.shortcut(x) + h


class SelfAttention(nn.Module):
    """x + attention over the pixels of norm(x)."""

    def __init__(self, channels: int, heads: int, groups: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels, eps=eps)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        batch, channels, height, width = x.shape
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # (B, H W, C)
        query, key, value = (
            layer(pixels).reshape(batch, height * width, self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        mixed = self.out(mixed.transpose(1, 2).reshape(batch, height * width, channels))
        return x + mixed.transpose(1, 2).reshape(batch, channels, height, width)


class Downsample(nn.Module):
    """Halve the resolution by a strided 3x3 convolution.

    Args:
        channels: Width.
        padding: 1 pads all sides; 0 pads right and bottom only, as the weights of Ho et al. expect.
    """

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.one_sided = padding == 0
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.one_sided else x)


class Upsample(nn.Module):
    """Double the resolution: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
