"""NCSN++ and DDPM++, in the variants of published weights.

    time     Fourier features of log sigma (VE) or sinusoids of the label (VP) -> linear -> silu
             -> linear
    down     per level: residual blocks (+ attention), then halve; a shrunken copy of the image is
             added after each halving (progressive input)
    middle   residual block, attention, residual block
    up       per level: one residual block more, each with a skip connection, then attention, then
             double; with output_skip every level adds to a growing image, which is the output

NCSN++ (VE) divides its output by sigma: network(x, sigma) is the score. DDPM++ (VP, sub-VP)
predicts the noise.

Reference: Song et al. 2021, arXiv:2011.13456, appendix H.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.networks.layers import (
    ResBlock,
    RowLinear,
    SelfAttention,
    fourier_embedding,
    song_groups,
    timestep_embedding,
)
from ggf_cli.networks.limits import check_count, check_size
from ggf_cli.networks.pyramids import InputResidual, InputSkip, ToImage
from ggf_cli.networks.resampling import ConvDown, ConvUp, FIRDown, FIRUp, MeanDown, NearestUp


@dataclass(frozen=True, kw_only=True)
class NCSNppConfig:
    """The architecture; names as in Song's configurations.

    Attributes:
        image_channels: Channels of input and output.
        channels: Width of each level, finest first.
        attention: Whether each level has attention, finest first.
        attention_mid: Whether the middle has attention.
        head_channels: Width of one attention head; None is one head.
        blocks: Residual blocks per down level; up levels have one more.
        embedding: "fourier": the label is sigma; "positional": the label is a time in 0..999.
        resblock: "biggan" resamples inside a residual block, "ddpm" by a convolution between them.
        fir: Resample with the FIR filter; else by mean and nearest neighbour.
        progressive: How the output is made.
        progressive_input: How the shrunken image is added.
        skip_rescale: Divide every sum of two branches by sqrt(2).
        groups: Groups of the normalisations. "song": a quarter of the channels, at most 32.
            "diffusers": the same, except 32 in the attention of a level, and another number in the
            blocks of a level with attention that take a skip connection. "ddpm": 32.
        norm_eps: Epsilon of the normalisations.
        scale_by_sigma: Divide the output by sigma.
        centered: The input lies in [-1, 1]; if not, it is mapped there from [0, 1].
        scale_input: Divide the input by sqrt(1 + sigma^2), so that its scale is the same at every
            noise level (Karras et al. 2022, arXiv:2206.00364, c_in). Song's networks do not.
        patch: See `UNetConfig`.
        base: Width of the first convolution and of the time embedding; None is that of the finest
            level.
        log_label: The fourier embedding takes the logarithm of the label; if not, the label itself.
        classes: Number of class labels; 0 is a network without them. A label is embedded as a
            one-hot vector times sqrt(classes), as in the networks of Karras et al. 2022.
    """

    image_channels: int
    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    blocks: int
    embedding: Literal["fourier", "positional"]
    attention_mid: bool = True
    head_channels: int | None = None
    resblock: Literal["biggan", "ddpm"] = "biggan"
    fir: bool = True
    progressive: Literal["none", "output_skip"] = "none"
    progressive_input: Literal["none", "input_skip", "residual"] = "none"
    skip_rescale: bool = True
    groups: Literal["song", "diffusers", "ddpm"] = "song"
    norm_eps: float = 1e-6
    scale_by_sigma: bool = False
    centered: bool = True
    scale_input: bool = False
    patch: int = 1
    base: int | None = None
    log_label: bool = True
    classes: int = 0

    def __post_init__(self) -> None:
        for name in ("channels", "attention"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_size(self.channels, self.blocks, self.patch)
        if self.base is not None:
            check_size((self.base,), self.blocks, self.patch)
        check_count("classes", self.classes)
        choices = {
            "embedding": ("fourier", "positional"),
            "resblock": ("biggan", "ddpm"),
            "progressive": ("none", "output_skip"),
            "progressive_input": ("none", "input_skip", "residual"),
            "groups": ("song", "diffusers", "ddpm"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise CheckpointError(
                    f"NCSN++ with {name} {getattr(self, name)!r} is not supported,"
                    f" only {', '.join(allowed)}"
                )
        if len(self.channels) != len(self.attention) or not self.channels:
            raise CheckpointError("NCSN++ needs one attention flag for each level")
        if (
            self.fir != (self.progressive_input == "residual")
            and self.progressive_input == "residual"
        ):
            raise CheckpointError("NCSN++ with residual progressive input needs fir")
        if self.fir and self.resblock == "ddpm":
            raise CheckpointError("NCSN++ with resblock 'ddpm' and fir is not supported")
        if self.groups == "ddpm" and any(width % 32 for width in self.channels):
            raise CheckpointError(f"widths {self.channels} are not multiples of 32 groups")
        if (self.scale_by_sigma or self.scale_input) and self.embedding != "fourier":
            raise CheckpointError("NCSN++ that scales by sigma needs the fourier embedding")
        if (self.scale_by_sigma or self.scale_input) and not self.log_label:
            raise CheckpointError("NCSN++ that scales by sigma needs sigma as its label")


class NCSNpp(nn.Module):
    """network(x, label): x (B, C, H, W), label (B,) -> (B, C, H, W).

    H and W must be divisible by patch * 2^(levels - 1). A network with classes is called as
    network(x, label, classes), with classes (B,) int64 in 0..`classes` - 1.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__()
        c = self._config = NCSNppConfig(**config)
        width = c.base or c.channels[0]
        time = 4 * width
        halve, double = (FIRDown(), FIRUp()) if c.fir else (MeanDown(), NearestUp())

        scale = math.sqrt(0.5) if c.skip_rescale else 1.0
        # None: a quarter of the channels.
        groups = 32 if c.groups == "ddpm" else None

        def block(
            inputs: int,
            outputs: int,
            resample: nn.Module | None = None,
            groups_in: int | None = None,
        ) -> ResBlock:
            return ResBlock(
                inputs,
                outputs,
                time,
                groups,
                c.norm_eps,
                groups_in=groups_in,
                resample=resample,
                scale=scale,
            )

        def attention(width: int, wanted: bool, groups: int | None) -> nn.Module:
            if not wanted:
                return nn.Identity()
            return SelfAttention(width, c.head_channels, groups, c.norm_eps, scale=scale)

        # Groups in the attention of a level.
        level_groups = 32 if c.groups == "diffusers" else groups

        fourier = c.embedding == "fourier"
        if fourier:
            # Not trained, but counted with the parameters, as in published counts.
            self.frequencies = nn.Parameter(torch.zeros(width), requires_grad=False)
        self.time_in = RowLinear(2 * width if fourier else width, time)
        self.time_out = RowLinear(time, time)
        if c.classes:
            self.class_in = RowLinear(c.classes, 2 * width if fourier else width)
        image = pyramid = c.image_channels * c.patch**2
        self.conv_in = nn.Conv2d(image, width, 3, padding=1)

        last = len(c.channels) - 1
        # The widths of the skip connections.
        skips = [width]
        self.down = nn.ModuleList()
        for level, width in enumerate(c.channels):
            blocks = [block(skips[-1] if i == 0 else width, width) for i in range(c.blocks)]
            attentions = [attention(width, c.attention[level], level_groups) for _ in blocks]
            resample: nn.Module | None = None
            combine: nn.Module | None = None
            if level < last:
                biggan = c.resblock == "biggan"
                resample = block(width, width, halve) if biggan else ConvDown(width, 0)
                if c.progressive_input == "input_skip":
                    combine = InputSkip(pyramid, width, halve)
                elif c.progressive_input == "residual":
                    combine = InputResidual(pyramid, width, scale)
                    pyramid = width
            self.down.append(DownLevel(blocks, attentions, resample, combine))
            skips += [width] * (c.blocks + (level < last))

        self.mid_in = block(width, width)
        self.mid_attention = attention(width, c.attention_mid, groups)
        self.mid_out = block(width, width)

        self.up = nn.ModuleList()
        for level in range(last, -1, -1):
            outputs = c.channels[level]
            blocks = []
            for i in range(c.blocks + 1):
                h, skip = outputs if i else width, skips.pop()
                odd = c.groups == "diffusers" and c.attention[level]
                # Not (h + skip) // 4: the weights were trained with the rule of diffusers.
                groups_in = min(h + skip // 4, 32) if odd else groups or song_groups(h + skip)
                blocks.append(block(h + skip, outputs, groups_in=groups_in))
            width = outputs
            drawn = c.progressive == "output_skip" or level == 0
            to_image = ToImage(width, image, double, c.norm_eps, groups) if drawn else None
            resample = None
            if level > 0:
                biggan = c.resblock == "biggan"
                resample = block(width, width, double) if biggan else ConvUp(width)
            up_attention = attention(width, c.attention[level], level_groups)
            self.up.append(UpLevel(blocks, up_attention, to_image, resample))

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of the constructor, as JSON data."""
        return asdict(self._config)

    def forward(self, x: Tensor, label: Tensor, classes: Tensor | None = None) -> Tensor:
        c = self._config
        time = self._time(label, x.dtype, classes)
        x = x if c.centered else 2 * x - 1
        if c.scale_input:
            x = x / torch.sqrt(1 + label * label).to(x.dtype)[:, None, None, None]
        pyramid = F.pixel_unshuffle(x, c.patch)

        skips = [self.conv_in(pyramid)]
        for level in self.down:
            outputs, pyramid = level(skips[-1], pyramid, time)
            skips += outputs
        h = self.mid_out(self.mid_attention(self.mid_in(skips[-1], time)), time)
        image = None
        for level in self.up:
            h, image = level(h, image, time, skips)

        # The finest level always has an output.
        assert image is not None
        image = F.pixel_shuffle(image, c.patch)
        if c.scale_by_sigma:
            image = image / label.to(x.dtype)[:, None, None, None]
        return image.contiguous()

    def _time(self, label: Tensor, dtype: torch.dtype, classes: Tensor | None) -> Tensor:
        """The activated embedding of time and class, (B, 4 base)."""
        c = self._config
        if c.embedding == "fourier":
            # In the dtype of the network, as in training: the frequencies are high, so rounding
            # matters.
            label = label.to(dtype)
            embedding = fourier_embedding(
                torch.log(label) if c.log_label else label, self.frequencies
            )
        else:
            width = c.base or c.channels[0]
            embedding = timestep_embedding(
                label, width, cosine_first=False, freq_shift=1, dtype=dtype
            )
        if (classes is not None) != bool(c.classes):
            raise UsageError(f"a network of {c.classes} classes, and labels: {classes is not None}")
        if classes is not None:
            one_hot = F.one_hot(classes, c.classes).to(dtype)
            embedding = embedding + self.class_in(one_hot * math.sqrt(c.classes))
        return F.silu(self.time_out(F.silu(self.time_in(embedding))))


class DownLevel(nn.Module):
    """One down level: blocks, then halve, then add the shrunken image."""

    def __init__(
        self,
        blocks: list[ResBlock],
        attentions: list[nn.Module],
        resample: nn.Module | None,
        combine: nn.Module | None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList(attentions)
        self.resample = resample
        self.combine = combine

    def forward(self, h: Tensor, pyramid: Tensor, time: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return all outputs, the last being the next input, and the image of the next level."""
        outputs = []
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            h = attention(block(h, time))
            outputs.append(h)
        if self.resample is not None:
            h = resampled(self.resample, h, time)
            if self.combine is not None:
                h, pyramid = self.combine(h, pyramid)
            outputs.append(h)
        return outputs, pyramid


class UpLevel(nn.Module):
    """One up level: blocks with skips, attention, an addition to the image, then double."""

    def __init__(
        self,
        blocks: list[ResBlock],
        attention: nn.Module,
        to_image: ToImage | None,
        resample: nn.Module | None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attention = attention
        self.to_image = to_image
        self.resample = resample

    def forward(
        self, h: Tensor, image: Tensor | None, time: Tensor, skips: list[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Remove one skip connection from the end of the list for each block."""
        for block in self.blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), time)
        h = self.attention(h)
        if self.to_image is not None:
            image = self.to_image(h, image)
        if self.resample is not None:
            h = resampled(self.resample, h, time)
        return h, image


def resampled(resample: nn.Module, h: Tensor, time: Tensor) -> Tensor:
    """Halve or double, by a residual block (BigGAN) or by a convolution (DDPM)."""
    return resample(h, time) if isinstance(resample, ResBlock) else resample(h)
