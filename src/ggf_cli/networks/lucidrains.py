"""The U-Net of denoising-diffusion-pytorch (lucidrains): RMS norms, linear attention with memory.

    time      sinusoidal embedding -> linear -> GELU -> linear; scales and shifts every first norm
    down      per level: two residual blocks, attention, then halve (a 3x3 convolution at the last)
    middle    residual block, full attention, residual block
    up        per level: two residual blocks, each with a skip connection, attention, then double
    end       residual block with the output of the first convolution, 1x1 convolution

The output has the channels of the image: predicted noise, data or v.

Reference: Ho et al. 2020, arXiv:2006.11239; linear attention: Shen et al. 2018, arXiv:1812.01243.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggf_cli.errors import CheckpointError
from ggf_cli.networks.layers import RowLinear, timestep_embedding
from ggf_cli.networks.limits import MAX_WIDTH, check_size


@dataclass(frozen=True, kw_only=True)
class LucidrainsConfig:
    """The architecture.

    Attributes:
        image_channels: Channels of input and output.
        width: Width of the sinusoidal embedding; that of the time embedding is four times as large.
        channels: Width after the first convolution, and after each level, finest first.
        full_attention: Whether the attention of each level is full; otherwise it is linear.
        heads: Attention heads of each level; the middle has those of the last.
        head_channels: Width of one head of each level.
        memory: Learned pairs of key and value in every attention.
        norm: Normalisation in the residual blocks: "rms", or "group" with `groups` groups.
        groups: Number of groups.
        theta: The sinusoidal frequencies fall from 1 to 1 / theta.
        self_condition: The network also takes an estimate of the data. It gets zeros here.
    """

    image_channels: int
    width: int
    channels: tuple[int, ...]
    full_attention: tuple[bool, ...]
    heads: tuple[int, ...]
    head_channels: tuple[int, ...]
    memory: int = 4
    norm: Literal["rms", "group"] = "rms"
    groups: int = 8
    theta: float = 10000.0
    self_condition: bool = False

    def __post_init__(self) -> None:
        for name in ("channels", "full_attention", "heads", "head_channels"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_size(self.channels, 2, 1)
        levels = len(self.channels) - 1
        lists = (self.full_attention, self.heads, self.head_channels)
        if not levels or any(len(values) != levels for values in lists):
            raise CheckpointError("the network needs one kind of attention for each level")
        numbers = (self.image_channels, self.width, *self.heads, *self.head_channels, self.groups)
        if any(type(n) is not int or not 1 <= n <= MAX_WIDTH for n in (*numbers, self.memory + 1)):
            raise CheckpointError(f"widths and heads must be whole numbers in 1..{MAX_WIDTH:,}")
        if any(h * w > MAX_WIDTH for h, w in zip(self.heads, self.head_channels, strict=True)):
            raise CheckpointError(f"attention of more than {MAX_WIDTH:,} channels is not supported")
        if self.norm not in ("rms", "group"):
            raise CheckpointError(f"norm {self.norm!r:.40} is not supported, only rms and group")
        if self.width < 4 or self.width % 2 or not 1 < self.theta < float("inf"):
            raise CheckpointError("the time embedding needs an even width from 4 and theta above 1")


class LucidrainsUNet(nn.Module):
    """network(x, label): x (B, C, H, W), label (B,) -> (B, C, H, W).

    H and W must be divisible by 2^(levels - 1).
    """

    def __init__(self, **config: Any) -> None:
        super().__init__()
        c = self._config = LucidrainsConfig(**config)
        time = 4 * c.width

        def block(inputs: int, outputs: int) -> Block:
            return Block(inputs, outputs, time, c.groups if c.norm == "group" else None)

        def attention(width: int, level: int, full: bool) -> Attention:
            kind = FullAttention if full else LinearAttention
            return kind(width, c.heads[level], c.head_channels[level], c.memory)

        first = c.channels[0]
        self.time_in = RowLinear(c.width, time)
        self.time_out = RowLinear(time, time)
        self.conv_in = nn.Conv2d(c.image_channels * (1 + c.self_condition), first, 7, padding=3)

        last = len(c.heads) - 1
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (fine, coarse) in enumerate(zip(c.channels, c.channels[1:], strict=False)):
            resample: nn.Module = (
                nn.Conv2d(fine, coarse, 3, padding=1) if level == last else Halve(fine, coarse)
            )
            attended = attention(fine, level, c.full_attention[level])
            self.down.append(DownLevel(block(fine, fine), block(fine, fine), attended, resample))
        for level in range(last, -1, -1):
            fine, coarse = c.channels[level : level + 2]
            resample = nn.Conv2d(coarse, fine, 3, padding=1) if level == 0 else Double(coarse, fine)
            blocks = [block(coarse + fine, coarse) for _ in range(2)]
            attended = attention(coarse, level, c.full_attention[level])
            self.up.append(UpLevel(blocks[0], blocks[1], attended, resample))

        middle = c.channels[-1]
        self.mid_in = block(middle, middle)
        self.mid_attention = attention(middle, last, full=True)
        self.mid_out = block(middle, middle)
        self.block_out = block(2 * first, first)
        self.conv_out = nn.Conv2d(first, c.image_channels, 1)

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of the constructor, as JSON data."""
        return asdict(self._config)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        c = self._config
        embedding = timestep_embedding(
            label, c.width, cosine_first=False, freq_shift=1, dtype=x.dtype, theta=c.theta
        )
        time = F.silu(self.time_out(F.gelu(self.time_in(embedding))))

        if c.self_condition:
            x = torch.cat([torch.zeros_like(x), x], dim=1)
        first = h = self.conv_in(x)
        skips: list[Tensor] = []
        for level in self.down:
            h, outputs = level(h, time)
            skips += outputs
        h = self.mid_out(self.mid_attention(self.mid_in(h, time)), time)
        for level in self.up:
            h = level(h, time, skips)
        output: Tensor = self.conv_out(self.block_out(torch.cat([h, first], dim=1), time))
        return output.contiguous()


class RMSNorm(nn.Module):
    """x / (root mean square over the channels) * gain, for each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return F.normalize(x, dim=1) * self.gain * x.shape[1] ** 0.5


class Block(nn.Module):
    """shortcut(x) + silu(norm(conv(silu(norm(conv(x)) (1 + scale) + shift)))).

    Args:
        inputs: Width of the input.
        outputs: Width of the output; the shortcut is a 1x1 convolution where it differs.
        time: Width of the time embedding.
        groups: Groups of the normalisations; None is `RMSNorm`.
    """

    def __init__(self, inputs: int, outputs: int, time: int, groups: int | None) -> None:
        super().__init__()

        def norm() -> nn.Module:
            return nn.GroupNorm(groups, outputs) if groups else RMSNorm(outputs)

        self.time = RowLinear(time, 2 * outputs)
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm_1 = norm()
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm_2 = norm()
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, inputs, H, W), activated time embedding (B, time) -> (B, outputs, H, W)."""
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(self.norm_1(self.conv_1(x)) * (scale + 1) + shift)
        shortcut: Tensor = self.shortcut(x)
        return shortcut + F.silu(self.norm_2(self.conv_2(h)))


class Attention(nn.Module):
    """x + attention over the pixels of norm(x) and over learned pairs of key and value.

    Args:
        channels: Width of the input.
        heads: Number of heads.
        head_channels: Width of one head.
        memory: Number of learned pairs.
    """

    def __init__(self, channels: int, heads: int, head_channels: int, memory: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_channels
        self.norm = RMSNorm(channels)
        # Keys, then values: (2, heads, memory, head_channels).
        self.memory = nn.Parameter(torch.zeros(2, heads, memory, head_channels)) if memory else None
        self.qkv = nn.Conv2d(channels, 3 * inner, 1, bias=False)
        self.out = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        batch, _, height, width = x.shape
        query, key, value = (
            part.reshape(batch, self.heads, -1, height * width).transpose(2, 3)
            for part in self.qkv(self.norm(x)).chunk(3, dim=1)
        )
        if self.memory is not None:
            keys, values = self.memory[:, None].expand(-1, batch, -1, -1, -1)
            key, value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        mixed = self.mix(query, key, value).transpose(2, 3).reshape(batch, -1, height, width)
        return x + self.project(mixed)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of each head: (B, heads, pixels or pairs, width of a head)."""
        raise NotImplementedError

    def project(self, mixed: Tensor) -> Tensor:
        """Combine the heads, (B, heads * width, H, W) -> (B, C, H, W)."""
        output: Tensor = self.out(mixed)
        return output


class FullAttention(Attention):
    """softmax(query key) value."""

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value)


class LinearAttention(Attention):
    """softmax(query) (softmax(key) value): its cost is linear in the number of pixels.

    The softmax of the query is over the channels of a head, that of the key over the pixels.
    """

    def __init__(self, channels: int, heads: int, head_channels: int, memory: int) -> None:
        super().__init__(channels, heads, head_channels, memory)
        self.norm_out = RMSNorm(channels)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        context = key.softmax(dim=2).transpose(2, 3) @ value
        return (query.softmax(dim=3) * query.shape[3] ** -0.5) @ context

    def project(self, mixed: Tensor) -> Tensor:
        output: Tensor = self.norm_out(self.out(mixed))
        return output


class Halve(nn.Module):
    """Halve the resolution: squares of 2x2 pixels become channels, then a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / 2, W / 2)."""
        output: Tensor = self.conv(F.pixel_unshuffle(x, 2))
        return output


class Double(nn.Module):
    """Double the resolution by nearest neighbours, then a 3x3 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, 2 H, 2 W)."""
        output: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return output


class Level(nn.Module):
    """One resolution: two residual blocks, attention, and a resampling."""

    def __init__(
        self, block_1: Block, block_2: Block, attention: Attention, resample: nn.Module
    ) -> None:
        super().__init__()
        self.block_1 = block_1
        self.block_2 = block_2
        self.attention = attention
        self.resample = resample


class DownLevel(Level):
    """Blocks and attention, then halve."""

    def forward(self, h: Tensor, time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the input of the next level and the skip connections."""
        first = self.block_1(h, time)
        second = self.attention(self.block_2(first, time))
        return self.resample(second), [first, second]


class UpLevel(Level):
    """Blocks, each of which also takes the last skip connection, and attention; then double."""

    def forward(self, h: Tensor, time: Tensor, skips: list[Tensor]) -> Tensor:
        """Remove two skip connections from the end of the list."""
        h = self.block_1(torch.cat([h, skips.pop()], dim=1), time)
        h = self.attention(self.block_2(torch.cat([h, skips.pop()], dim=1), time))
        output: Tensor = self.resample(h)
        return output
