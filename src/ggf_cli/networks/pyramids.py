"""Progressive input and output of NCSN++: images at the resolution of each level."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ggf_cli.networks.layers import add_to, group_norm
from ggf_cli.networks.resampling import FIRDownConv


class InputSkip(nn.Module):
    """h + conv1x1(image), the image halved from level to level."""

    def __init__(self, inputs: int, outputs: int, halve: nn.Module) -> None:
        super().__init__()
        self.halve = halve
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, h: Tensor, pyramid: Tensor) -> tuple[Tensor, Tensor]:
        pyramid = self.halve(pyramid)
        return h + self.conv(pyramid), pyramid


class InputResidual(nn.Module):
    """h + conv(image), where the image is the sum of the level before."""

    def __init__(self, inputs: int, outputs: int, scale: float) -> None:
        super().__init__()
        self.down = FIRDownConv(inputs, outputs)
        self.scale = scale

    def forward(self, h: Tensor, pyramid: Tensor) -> tuple[Tensor, Tensor]:
        pyramid = add_to(self.down(pyramid), h, self.scale)
        return pyramid, pyramid


class ToImage(nn.Module):
    """From features to an image: norm, silu, 3x3 convolution; added to the doubled image so far."""

    def __init__(
        self, inputs: int, outputs: int, enlarge: nn.Module, eps: float, groups: int | None
    ) -> None:
        super().__init__()
        self.enlarge = enlarge
        self.norm = group_norm(inputs, groups, eps)
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, h: Tensor, image: Tensor | None) -> Tensor:
        drawn = self.conv(F.silu(self.norm(h)))
        return drawn if image is None else self.enlarge(image) + drawn
