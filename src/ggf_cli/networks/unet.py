"""The U-Net of DDPM (Ho et al. 2020, arXiv:2006.11239, appendix B), in the variants of diffusers.

    time      sinusoidal embedding -> linear -> silu -> linear; added inside every residual block
    down      per level: residual blocks (+ attention), then halve
    middle    residual block, attention, residual block
    up        per level: one residual block more, each with a skip connection; then double

The output has the shape of the input: predicted noise, data or velocity for VP models. In a network
with classes, the embedding of the class label is added to that of the time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggf_cli.errors import CheckpointError
from ggf_cli.networks.layers import (
    ACTIVATIONS,
    ResBlock,
    RowLinear,
    SelfAttention,
    timestep_embedding,
)
from ggf_cli.networks.levels import DownLevel, UpLevel
from ggf_cli.networks.limits import check_count, check_size
from ggf_cli.networks.resampling import ConvDown, ConvUp, MeanDown, NearestUp


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """The architecture.

    Attributes:
        image_channels: Channels of input and output.
        channels: Width of each level, finest first.
        attention_down: Whether each down level has attention, finest first.
        attention_up: Whether each up level has attention, coarsest first.
        attention_mid: Whether the middle has attention.
        attention_mid_groups: Groups of the normalisation in the middle attention; None is `groups`,
            0 is no normalisation.
        block_down: Whether each level is halved inside a residual block, finest first; otherwise by
            a convolution. Empty: none is.
        block_up: Whether each level is doubled inside a residual block, coarsest first.
        head_channels: Width of one attention head; None is one head.
        blocks: Residual blocks per down level; up levels have one more.
        groups: Groups of every group normalisation.
        norm_eps: Epsilon of every group normalisation.
        mid_scale: Divisor of the sums in the middle.
        centered: The input lies in [-1, 1]; if not, it is mapped there from [0, 1].
        time_channels: Width of the time embedding; None is four times that of the finest level.
        time_cosine_first: Cosines before sines in the time embedding.
        time_freq_shift: With 1 the lowest frequency is exactly 1 / 10000; with 0 it is higher.
        downsample_padding: See `ConvDown`.
        scale_shift: See `ResBlock`.
        activation: A key of `layers.ACTIVATIONS`, for the residual blocks.
        middle: Whether there is a middle.
        classes: Number of class labels; 0: the network takes none.
        class_embedding: "table": one vector for each label; "label": sinusoids of the label and two
            linear layers, as for the time.
        time_levels: Number of learned time embeddings, of the labels 0, 1, 2 ...; between whole
            labels they are interpolated linearly. 0: sinusoids.
        patch: Each square of patch x patch pixels becomes the channels of one pixel of the network
            (Shi et al. 2016, arXiv:1609.05158), so that no layer has the full resolution.
    """

    image_channels: int
    channels: tuple[int, ...]
    attention_down: tuple[bool, ...]
    attention_up: tuple[bool, ...]
    attention_mid: bool = True
    attention_mid_groups: int | None = None
    block_down: tuple[bool, ...] = ()
    block_up: tuple[bool, ...] = ()
    head_channels: int | None = None
    blocks: int = 2
    groups: int = 32
    norm_eps: float = 1e-6
    mid_scale: float = 1.0
    centered: bool = True
    time_channels: int | None = None
    time_cosine_first: bool = False
    time_freq_shift: float = 1.0
    downsample_padding: int = 1
    scale_shift: bool = False
    activation: str = "silu"
    middle: bool = True
    classes: int = 0
    class_embedding: Literal["table", "label"] = "table"
    time_levels: int = 0
    patch: int = 1

    def __post_init__(self) -> None:
        for name in ("channels", "attention_down", "attention_up", "block_down", "block_up"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_size(self.channels, self.blocks, self.patch)
        if not len(self.channels) == len(self.attention_down) == len(self.attention_up) > 0:
            raise CheckpointError("a U-Net needs one attention flag for each level, up and down")
        if not {len(self.block_down), len(self.block_up)} <= {0, len(self.channels)}:
            raise CheckpointError("a U-Net needs one resampling flag for each level, or none")
        for name, allowed in (
            ("activation", tuple(ACTIVATIONS)),
            ("class_embedding", ("table", "label")),
        ):
            if getattr(self, name) not in allowed:
                raise CheckpointError(
                    f"a U-Net with {name} {getattr(self, name)!r:.40} is not supported,"
                    f" only {', '.join(allowed)}"
                )
        check_count("classes", self.classes)
        check_count("time levels", self.time_levels)
        if any(width <= 0 or width % self.groups for width in self.channels):
            raise CheckpointError(
                f"U-Net widths {self.channels} are not multiples of {self.groups} groups"
            )


class UNet(nn.Module):
    """network(x, label): x (B, C, H, W), label (B,) -> (B, C, H, W).

    With classes, network(x, label, classes): classes (B,) int64.

    H and W must be divisible by patch * 2^(levels - 1).
    """

    def __init__(self, **config: Any) -> None:
        super().__init__()
        c = self._config = UNetConfig(**config)
        time = c.time_channels or 4 * c.channels[0]

        def block(
            inputs: int, outputs: int, scale: float = 1.0, resample: nn.Module | None = None
        ) -> ResBlock:
            return ResBlock(
                inputs,
                outputs,
                time,
                c.groups,
                c.norm_eps,
                resample=resample,
                scale=scale,
                activation=c.activation,
                scale_shift=c.scale_shift,
                plain_shortcut=True,
            )

        def attention(
            width: int, wanted: bool, groups: int | None = None, scale: float = 1.0
        ) -> nn.Module:
            if not wanted:
                return nn.Identity()
            groups = c.groups if groups is None else groups
            return SelfAttention(width, c.head_channels, groups, c.norm_eps, scale=scale)

        def halve(level: int, width: int) -> nn.Module | None:
            if level == last:
                return None
            if c.block_down and c.block_down[level]:
                return block(width, width, resample=MeanDown())
            return ConvDown(width, c.downsample_padding)

        def double(level: int, width: int) -> nn.Module | None:
            if level == last:
                return None
            if c.block_up and c.block_up[level]:
                return block(width, width, resample=NearestUp())
            return ConvUp(width)

        self.time_in = RowLinear(c.channels[0], time)
        self.time_out = RowLinear(time, time)
        if c.time_levels:
            self.time_table = nn.Embedding(c.time_levels, c.channels[0])
        if c.classes and c.class_embedding == "table":
            self.class_table = nn.Embedding(c.classes, time)
        elif c.classes:
            self.class_in = RowLinear(c.channels[0], time)
            self.class_out = RowLinear(time, time)
        image = c.image_channels * c.patch**2
        self.conv_in = nn.Conv2d(image, c.channels[0], 3, padding=1)

        last = len(c.channels) - 1
        # The widths of the skip connections.
        skips = [c.channels[0]]
        self.down = nn.ModuleList()
        for level, width in enumerate(c.channels):
            blocks = [block(skips[-1] if i == 0 else width, width) for i in range(c.blocks)]
            attentions = [attention(width, c.attention_down[level]) for _ in blocks]
            self.down.append(DownLevel(blocks, attentions, halve(level, width)))
            skips += [width] * (c.blocks + (level != last))

        width = c.channels[-1]
        if c.middle:
            scale = 1 / c.mid_scale
            self.mid_in = block(width, width, scale)
            self.mid_attention = attention(width, c.attention_mid, c.attention_mid_groups, scale)
            self.mid_out = block(width, width, scale)

        self.up = nn.ModuleList()
        for level, outputs in enumerate(reversed(c.channels)):
            blocks = [
                block((width if i == 0 else outputs) + skips.pop(), outputs)
                for i in range(c.blocks + 1)
            ]
            width = outputs
            attentions = [attention(width, c.attention_up[level]) for _ in blocks]
            self.up.append(UpLevel(blocks, attentions, double(level, width)))

        self.norm_out = nn.GroupNorm(c.groups, width, eps=c.norm_eps)
        self.conv_out = nn.Conv2d(width, image, 3, padding=1)

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of the constructor, as JSON data."""
        return asdict(self._config)

    def forward(self, x: Tensor, label: Tensor, classes: Tensor | None = None) -> Tensor:
        c = self._config
        time = self._time(label, classes, x.dtype)

        x = x if c.centered else 2 * x - 1
        skips = [self.conv_in(F.pixel_unshuffle(x, c.patch))]
        for level in self.down:
            skips += level(skips[-1], time)
        h = skips[-1]
        if c.middle:
            h = self.mid_out(self.mid_attention(self.mid_in(h, time)), time)
        for level in self.up:
            h = level(h, time, skips)
        return F.pixel_shuffle(
            self.conv_out(F.silu(self.norm_out(h), inplace=True)), c.patch
        ).contiguous()

    def _time(self, label: Tensor, classes: Tensor | None, dtype: torch.dtype) -> Tensor:
        """The activated embedding of time and class, (B, time channels)."""
        c = self._config
        if (classes is None) != (c.classes == 0):
            wanted = f"needs class labels, 0..{c.classes - 1}" if c.classes else "takes no labels"
            raise ValueError(f"the network {wanted}")
        embedding = self._learned(label, dtype) if c.time_levels else self._sinusoids(label, dtype)
        time = self.time_out(F.silu(self.time_in(embedding)))
        if classes is not None:
            if c.class_embedding == "table":
                time = time + self.class_table(classes)
            else:
                embedding = self._sinusoids(classes.to(label.dtype), dtype)
                time = time + self.class_out(F.silu(self.class_in(embedding)))
        return ACTIVATIONS[c.activation](time)

    def _sinusoids(self, label: Tensor, dtype: torch.dtype) -> Tensor:
        """The sinusoidal embedding of a label, (B,) -> (B, channels[0])."""
        c = self._config
        return timestep_embedding(
            label,
            c.channels[0],
            cosine_first=c.time_cosine_first,
            freq_shift=c.time_freq_shift,
            dtype=dtype,
        )

    def _learned(self, label: Tensor, dtype: torch.dtype) -> Tensor:
        """The learned embedding of a label, interpolated between whole labels."""
        label = label.clamp(0, self._config.time_levels - 1)
        below = label.floor()
        fraction = (label - below).to(dtype)[:, None]
        before, after = (self.time_table(k.to(torch.int64)) for k in (below, label.ceil()))
        return before + fraction * (after - before)
