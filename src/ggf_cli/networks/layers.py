"""Layers of U-Nets for score models."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggf_cli.errors import CheckpointError


def timestep_embedding(
    t: Tensor,
    channels: int,
    *,
    cosine_first: bool,
    freq_shift: float,
    dtype: torch.dtype,
    theta: float = 10000,
) -> Tensor:
    """Sines and cosines of the time label at geometric frequencies, (B,) -> (B, channels).

    frequency_i = theta^(-i / (channels / 2 - freq_shift)), i = 0 .. channels / 2 - 1. Computed in
    the dtype of t (float64), so that a label near 999 keeps its fraction. If the number of channels
    is odd, the last is 0.

    Reference: Vaswani et al. 2017; Ho et al. 2020.
    """
    half = channels // 2
    i = torch.arange(half, dtype=t.dtype, device=t.device)
    angle = t[:, None] * torch.exp(-math.log(theta) * i / (half - freq_shift))
    sin, cos = torch.sin(angle), torch.cos(angle)
    embedding = torch.cat([cos, sin] if cosine_first else [sin, cos], dim=1).to(dtype)
    return F.pad(embedding, (0, 1)) if channels % 2 else embedding


def fourier_embedding(x: Tensor, frequencies: Tensor) -> Tensor:
    """sin and cos of 2 pi x frequencies: (B,), (n,) -> (B, 2n). Reference: Tancik et al. 2020."""
    # Angles reach thousands, so in float32 the order of the factors matters: this is the published
    # order.
    angle = x[:, None] * frequencies * 2 * math.pi
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)


class RowLinear(nn.Linear):
    """A linear layer for one vector a row; a result does not depend on the other rows.

    On a CPU, the kernel of a matrix product depends on the number of rows, and kernels round
    differently. So all products have the same number of rows here.
    """

    ROWS = 16

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, outputs)."""
        # On other devices, convolutions depend on the batch too.
        if x.device.type != "cpu":
            return super().forward(x)
        missing = -len(x) % self.ROWS
        padded = torch.cat([x, x[:1].expand(missing, -1)]) if missing else x
        return torch.cat(
            [super(RowLinear, self).forward(p) for p in torch.split(padded, self.ROWS)]
        )[: len(x)]


def group_norm(channels: int, groups: int | None, eps: float) -> nn.GroupNorm:
    """Group normalisation; None is Song's rule, a quarter of the channels but at most 32 groups."""
    return nn.GroupNorm(groups or song_groups(channels), channels, eps=eps)


def song_groups(channels: int) -> int:
    """Groups of a normalisation of NCSN++: a quarter of the channels, but at most 32."""
    return min(channels // 4, 32)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": partial(F.silu, inplace=True),
    "mish": partial(F.mish, inplace=True),
    "gelu": F.gelu,
    "relu": partial(F.relu, inplace=True),
}


class ResBlock(nn.Module):
    """shortcut(x) + conv(silu(n)), with h = conv(silu(norm(x))), embedding e of time, and one of

        n = norm(h + e)                                           usually
        n = norm(h) (1 + scale) + shift,  (scale, shift) = e      with scale_shift

    Args:
        inputs: Width of the input.
        outputs: Width of the output; the shortcut is a 1x1 convolution where it differs.
        time: Width of the time embedding.
        groups: Groups of the normalisations, or None for Song's rule.
        eps: Their epsilon.
        groups_in: Groups of the first normalisation; None is `groups`.
        resample: Halves or doubles the resolution inside the block, in both branches (BigGAN); then
            the shortcut is a 1x1 convolution, unless `plain_shortcut`.
        scale: Factor on the sum.
        activation: A key of ACTIVATIONS, in place of silu.
        scale_shift: See above.
        plain_shortcut: The shortcut has no convolution where the widths agree, even if `resample`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        time: int,
        groups: int | None,
        eps: float,
        *,
        groups_in: int | None = None,
        resample: nn.Module | None = None,
        scale: float = 1.0,
        activation: str = "silu",
        scale_shift: bool = False,
        plain_shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.norm_1 = group_norm(inputs, groups_in or groups, eps)
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = RowLinear(time, 2 * outputs if scale_shift else outputs)
        self.norm_2 = group_norm(outputs, groups, eps)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        same = inputs == outputs and (resample is None or plain_shortcut)
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1)
        self.resample = resample or nn.Identity()
        self.scale = scale
        self.activation = ACTIVATIONS[activation]
        self.scale_shift = scale_shift

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, inputs, H, W), activated time embedding (B, time) -> (B, outputs, H', W')."""
        h = self.conv_1(self.resample(self.activation(self.norm_1(x))))
        embedding = self.time(time)[:, :, None, None]
        if self.scale_shift:
            scale, shift = embedding.chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm_2(h), 1 + scale)
        else:
            h += embedding
            h = self.norm_2(h)
        h = self.conv_2(self.activation(h))
        return add_to(h, self.shortcut(self.resample(x)), self.scale)


class SelfAttention(nn.Module):
    """x + attention over the pixels of norm(x); `eps` and `scale` as in `ResBlock`.

    Args:
        channels: Width of the input.
        head_channels: Width of one head; None is one head of all channels. The number of heads is
            rounded down.
        groups: As in `ResBlock`; 0 is no normalisation.
    """

    def __init__(
        self,
        channels: int,
        head_channels: int | None,
        groups: int | None,
        eps: float,
        *,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.heads = channels // (head_channels or channels)
        if not self.heads:
            raise CheckpointError(
                f"attention heads of {head_channels} channels do not fit a level of {channels}"
            )
        inner = self.heads * (head_channels or channels)
        self.norm = nn.Identity() if groups == 0 else group_norm(channels, groups, eps)
        self.query = nn.Linear(channels, inner)
        self.key = nn.Linear(channels, inner)
        self.value = nn.Linear(channels, inner)
        self.out = nn.Linear(inner, channels)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        batch, channels, height, width = x.shape
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # (B, H W, C)
        query, key, value = (
            layer(pixels).reshape(batch, height * width, self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        mixed = self.out(mixed.transpose(1, 2).reshape(batch, height * width, -1))
        mixed = mixed.transpose(1, 2).reshape(batch, channels, height, width)
        return add_to(mixed, x, self.scale)


def add_to(x: Tensor, y: Tensor, scale: float) -> Tensor:
    """(x + y) * scale, in the memory of x."""
    x += y
    if scale != 1.0:
        x *= scale
    return x
