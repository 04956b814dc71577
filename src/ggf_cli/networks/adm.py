"""The U-Net of ADM (Dhariwal and Nichol 2021, arXiv:2105.05233), and its family.

    time      sinusoidal embedding -> linear -> silu -> linear, + embedding of the class label
    down      per level: residual blocks (+ attention), then halve
    middle    residual block, attention, residual block
    up        per level: one residual block more, each with a skip connection; then double

It is the network of guided-diffusion, improved-diffusion and consistency_models, and of EDM's ADM.
`unet` is its counterpart with the options of diffusers. The output has the shape of the input: a
learned variance is no part of it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ggf_cli.errors import CheckpointError
from ggf_cli.networks.layers import (
    ResBlock,
    RowLinear,
    SelfAttention,
    group_norm,
    song_groups,
    timestep_embedding,
)
from ggf_cli.networks.levels import DownLevel, UpLevel
from ggf_cli.networks.limits import MAX_WIDTH, check_size
from ggf_cli.networks.resampling import ConvDown, ConvUp, MeanDown, NearestUp

# How a level changes the resolution: by a convolution, inside a residual block, without weights.
Resample = Literal["conv", "block", "plain"]
RESAMPLE: tuple[Resample, ...] = ("conv", "block", "plain")


@dataclass(frozen=True, kw_only=True)
class ADMConfig:
    """The architecture.

    Attributes:
        image_channels: Channels of input and output.
        channels: Width of each level, finest first.
        attention_down: Whether each down level has attention, finest first.
        attention_up: Whether each up level has attention, coarsest first.
        attention_mid: Whether the middle has attention.
        attention_mid_groups: Groups of the normalisation in the middle attention; None is `groups`,
            0 is no normalisation.
        heads: Number of attention heads; None if `head_channels` decides.
        head_channels: Width of one attention head; None if `heads` decides; one head if both are
            None.
        wider_heads: `head_channels` is the smallest width: the number of heads is rounded down.
        blocks: Residual blocks per down level; up levels have one more.
        base: Width of the sinusoidal embedding, and a quarter of that of the time embedding; None
            is the width of the finest level.
        classes: Number of class labels; 0 for a network without.
        scale_shift: The time embedding scales and shifts the second normalisation of a residual
            block; otherwise it is added before it.
        resample: Halves and doubles by a convolution, inside a residual block ("block"), or without
            weights ("plain").
        downsample_padding: See `ConvDown`.
        groups: Groups of every group normalisation; None is Song's rule, see `group_norm`.
        norm_eps: Epsilon of every group normalisation.
        time_cosine_first: Cosines before sines in the time embedding.
        time_freq_shift: With 1 the lowest frequency is exactly 1 / 10000; with 0 it is higher.
        time_scale: Factor of the label before the sinusoidal embedding.
    """

    image_channels: int
    channels: tuple[int, ...]
    attention_down: tuple[bool, ...]
    attention_up: tuple[bool, ...]
    attention_mid: bool = True
    attention_mid_groups: int | None = None
    heads: int | None = None
    head_channels: int | None = None
    wider_heads: bool = False
    blocks: int = 2
    base: int | None = None
    classes: int = 0
    scale_shift: bool = True
    resample: Resample = "block"
    downsample_padding: int = 1
    groups: int | None = 32
    norm_eps: float = 1e-5
    time_cosine_first: bool = True
    time_freq_shift: float = 0.0
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("channels", "attention_down", "attention_up"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_size((*self.channels, self.base or 1), self.blocks, 1)
        if not len(self.channels) == len(self.attention_down) == len(self.attention_up):
            raise CheckpointError("an ADM network needs one attention flag for each level")
        if self.groups is None and any(width < 4 for width in self.channels):
            raise CheckpointError(f"ADM widths {self.channels} are below 4, a group")
        if any(width % (self.groups or song_groups(width)) for width in self.channels):
            raise CheckpointError(
                f"ADM widths {self.channels} are not multiples of {self.groups or 'their'} groups"
            )
        if self.resample not in RESAMPLE:
            raise CheckpointError(f"ADM has no resampling {self.resample!r:.40}")
        if type(self.classes) is not int or not 0 <= self.classes <= MAX_WIDTH:
            raise CheckpointError(f"an ADM network for {self.classes!r:.40} classes")

    def heads_at(self, width: int) -> int:
        """The number of attention heads at a level of this width.

        Raises:
            CheckpointError: The heads do not divide the width.
        """
        if self.heads and self.head_channels:
            raise CheckpointError("an ADM network has heads or head_channels, not both")
        heads = width // self.head_channels if self.head_channels else self.heads or 1
        multiple = 1 if self.wider_heads else self.head_channels or 1
        if not heads or width % heads or width % multiple:
            kind = (
                f"{self.heads} heads" if self.heads else f"heads of {self.head_channels} channels"
            )
            raise CheckpointError(f"attention: {kind} do not divide a level of {width} channels")
        return heads


class ADM(nn.Module):
    """network(x, label): x (B, C, H, W), label (B,) -> (B, C, H, W).

    A network with classes takes the class labels as a third argument, (B,) int64 in 0..classes - 1.
    H and W must be divisible by 2^(levels - 1).
    """

    def __init__(self, **config: Any) -> None:
        super().__init__()
        c = self._config = ADMConfig(**config)
        base = c.base or c.channels[0]
        time = 4 * base

        def block(inputs: int, outputs: int, resample: nn.Module | None = None) -> ResBlock:
            return ResBlock(
                inputs,
                outputs,
                time,
                c.groups,
                c.norm_eps,
                resample=resample,
                scale_shift=c.scale_shift,
                plain_shortcut=True,
            )

        def attention(width: int, wanted: bool, groups: int | None = None) -> nn.Module:
            if not wanted:
                return nn.Identity()
            head = width // c.heads_at(width)
            return SelfAttention(width, head, c.groups if groups is None else groups, c.norm_eps)

        def halve(width: int) -> nn.Module:
            if c.resample == "conv":
                return ConvDown(width, c.downsample_padding)
            return block(width, width, MeanDown()) if c.resample == "block" else MeanDown()

        def double(width: int) -> nn.Module:
            if c.resample == "conv":
                return ConvUp(width)
            return block(width, width, NearestUp()) if c.resample == "block" else NearestUp()

        self.time_in = RowLinear(base, time)
        self.time_out = RowLinear(time, time)
        self.classes = nn.Embedding(c.classes, time) if c.classes else None
        self.conv_in = nn.Conv2d(c.image_channels, c.channels[0], 3, padding=1)

        last = len(c.channels) - 1
        # The widths of the skip connections.
        skips = [c.channels[0]]
        self.down = nn.ModuleList()
        for level, width in enumerate(c.channels):
            blocks = [block(skips[-1] if i == 0 else width, width) for i in range(c.blocks)]
            attentions = [attention(width, c.attention_down[level]) for _ in blocks]
            self.down.append(DownLevel(blocks, attentions, None if level == last else halve(width)))
            skips += [width] * (c.blocks + (level != last))

        width = c.channels[-1]
        self.mid_in = block(width, width)
        self.mid_attention = attention(width, c.attention_mid, c.attention_mid_groups)
        self.mid_out = block(width, width)

        self.up = nn.ModuleList()
        for level, outputs in enumerate(reversed(c.channels)):
            blocks = [
                block((width if i == 0 else outputs) + skips.pop(), outputs)
                for i in range(c.blocks + 1)
            ]
            width = outputs
            attentions = [attention(width, c.attention_up[level]) for _ in blocks]
            self.up.append(UpLevel(blocks, attentions, None if level == last else double(width)))

        self.norm_out = group_norm(width, c.groups, c.norm_eps)
        self.conv_out = nn.Conv2d(width, c.image_channels, 3, padding=1)

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of the constructor, as JSON data."""
        return asdict(self._config)

    def forward(self, x: Tensor, label: Tensor, classes: Tensor | None = None) -> Tensor:
        c = self._config
        embedding = timestep_embedding(
            label if c.time_scale == 1.0 else c.time_scale * label,
            c.base or c.channels[0],
            cosine_first=c.time_cosine_first,
            freq_shift=c.time_freq_shift,
            dtype=x.dtype,
        )
        time = self.time_out(F.silu(self.time_in(embedding)))
        if self.classes is not None:
            if classes is None:
                raise ValueError("the network has class labels, and none are given")
            time = time + self.classes(classes)
        # Every residual block starts with it.
        time = F.silu(time)

        skips = [self.conv_in(x)]
        for level in self.down:
            skips += level(skips[-1], time)
        h = self.mid_out(self.mid_attention(self.mid_in(skips[-1], time)), time)
        for level in self.up:
            h = level(h, time, skips)
        return self.conv_out(F.silu(self.norm_out(h), inplace=True)).contiguous()
