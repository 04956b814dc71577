"""Halving and doubling of images, without weights or with a convolution.

FIR is the filter (1, 3, 3, 1), which avoids aliasing; pixels outside the image are 0. References:
Zhang 2019, arXiv:1904.11486; Karras et al. 2020, arXiv:1912.04958.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FIRDown(nn.Module):
    """(B, C, H, W) -> (B, C, H / 2, W / 2): filter, keep every other pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, _kernel(x), stride=2, padding=1, groups=x.shape[1])


class FIRUp(nn.Module):
    """(B, C, H, W) -> (B, C, 2H, 2W): zeros between the pixels, filter, times 4."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, 4 * _kernel(x), stride=2, padding=1, groups=x.shape[1])


class FIRDownConv(nn.Module):
    """Filter, then a strided 3x3 convolution: (B, inputs, H, W) -> (B, outputs, H / 2, W / 2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.conv2d(x, _kernel(x), padding=2, groups=x.shape[1]))


class MeanDown(nn.Module):
    """(B, C, H, W) -> (B, C, H / 2, W / 2): the mean of each 2x2 square."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)


class NearestUp(nn.Module):
    """(B, C, H, W) -> (B, C, 2H, 2W): each pixel four times."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


class ConvDown(nn.Module):
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


class ConvUp(nn.Module):
    """Double the resolution: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def _kernel(x: Tensor) -> Tensor:
    """The filter for each channel of x, (C, 1, 4, 4), of sum 1."""
    k = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) / 8
    return torch.outer(k, k).expand(x.shape[1], 1, 4, 4)
