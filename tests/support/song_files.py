"""Synthetic `.pth` files in the structure of score_sde_pytorch (NCSN++, DDPM++, DDPM).

The names and shapes follow from the description of the networks, not from the code that reads them.
For 1,200 random configurations of the tests' grid they were equal to those of score_sde_pytorch
itself (cb1f359).
"""

from dataclasses import dataclass
from itertools import count

import torch


@dataclass(frozen=True, kw_only=True)
class SongConfig:
    """A configuration of score_sde_pytorch.

    The defaults are vp/cifar10_ddpmpp_continuous with few channels.
    """

    name: str = "ncsnpp"
    sde: str = "vpsde"
    continuous: bool = True
    image_size: int = 32
    num_channels: int = 3
    centered: bool = True
    nf: int = 8
    ch_mult: tuple[int, ...] = (1, 2, 2, 2)
    num_res_blocks: int = 4
    attn_resolutions: tuple[int, ...] = (16,)
    embedding_type: str = "positional"
    conditional: bool = True
    resblock_type: str = "biggan"
    resamp_with_conv: bool = True
    fir: bool = False
    progressive: str = "none"
    progressive_input: str = "none"
    progressive_combine: str = "sum"
    skip_rescale: bool = True
    scale_by_sigma: bool = False
    nonlinearity: str = "swish"
    beta_min: float = 0.1
    beta_max: float = 20.0
    sigma_min: float = 0.01
    sigma_max: float = 50.0
    num_scales: int = 1000


# ve/cifar10_ncsnpp_continuous with few channels.
VE = SongConfig(
    sde="vesde",
    embedding_type="fourier",
    fir=True,
    progressive_input="residual",
    centered=False,
    scale_by_sigma=True,
)


def layer(name, *shape, bias=True):
    return {f"{name}.weight": shape, **({f"{name}.bias": shape[:1]} if bias else {})}


def nin(name, inputs, outputs):
    return {f"{name}.W": (inputs, outputs), f"{name}.b": (outputs,)}


def residual_block(c, inputs, outputs, *, resamples=False):
    shortcut = {}
    if inputs != outputs and c.resblock_type == "ddpm":
        shortcut = nin("NIN_0", inputs, outputs)
    elif inputs != outputs or resamples:
        shortcut = layer("Conv_2", outputs, inputs, 1, 1)
    return {
        **layer("GroupNorm_0", inputs),
        **layer("Conv_0", outputs, inputs, 3, 3),
        **layer("Dense_0", outputs, 4 * c.nf),
        **layer("GroupNorm_1", outputs),
        **layer("Conv_1", outputs, outputs, 3, 3),
        **shortcut,
    }


def attention_block(width):
    nins = [nin(f"NIN_{i}", width, width) for i in range(4)]
    return layer("GroupNorm_0", width) | nins[0] | nins[1] | nins[2] | nins[3]


def resampling_convolution(c, inputs, outputs):
    return layer("Conv2d_0" if c.fir else "Conv_0", outputs, inputs, 3, 3)


def resampling(c, width):
    if c.resblock_type == "biggan":
        return residual_block(c, width, width, resamples=True)
    return resampling_convolution(c, width, width) if c.resamp_with_conv else {}


def to_image(c, inputs, outputs):
    return [layer("", inputs), layer("", outputs, inputs, 3, 3)]


def modules(c):
    """The tensors, {name in the module: shape}, of each entry of `all_modules`."""
    fourier, levels = c.embedding_type == "fourier", range(len(c.ch_mult))
    has_attention = [c.image_size // 2**level in c.attn_resolutions for level in levels]
    found = [{"W": (c.nf,)}] if fourier else []
    if c.conditional:
        found += [layer("", 4 * c.nf, c.nf * (2 if fourier else 1)), layer("", 4 * c.nf, 4 * c.nf)]
    found += [layer("", c.nf, c.num_channels, 3, 3)]
    h, image, skips = c.nf, c.num_channels, [c.nf]
    for level in levels:
        for _ in range(c.num_res_blocks):
            found += [residual_block(c, h, c.nf * c.ch_mult[level])]
            h = c.nf * c.ch_mult[level]
            found += [attention_block(h)] * has_attention[level]
            skips += [h]
        if level != levels[-1]:
            found += [resampling(c, h)]
            if c.progressive_input == "input_skip":
                found += [layer("Conv_0", h, image, 1, 1)]
                h *= 2 if c.progressive_combine == "cat" else 1
            elif c.progressive_input == "residual":
                found += [resampling_convolution(c, image, h)]
                image = h
            skips += [h]
    found += [residual_block(c, h, h), attention_block(h), residual_block(c, h, h)]
    image = None
    for level in reversed(levels):
        for _ in range(c.num_res_blocks + 1):
            found += [residual_block(c, h + skips.pop(), c.nf * c.ch_mult[level])]
            h = c.nf * c.ch_mult[level]
        found += [attention_block(h)] * has_attention[level]
        if c.progressive == "output_skip":
            found += to_image(c, h, c.num_channels)
        elif c.progressive == "residual":
            found += to_image(c, h, h) if image is None else [resampling_convolution(c, image, h)]
            image = h
        if level:
            found += [resampling(c, h)]
    return found if c.progressive == "output_skip" else found + to_image(c, h, c.num_channels)


def shapes(c):
    """{name: shape} of the tensors of a network, in order, without "module." and sigmas."""
    return {
        f"all_modules.{i}.{name.removeprefix('.')}": shape
        for i, module in zip(count(), modules(c), strict=False)
        for name, shape in module.items()
    }


def sigmas(c):
    """The noise levels, from the largest to the smallest."""
    ends = torch.tensor([c.sigma_max, c.sigma_min], dtype=torch.float64).log()
    return torch.linspace(*ends.tolist(), c.num_scales, dtype=torch.float64).exp()


def write(c, path, tensors=None):
    """Write a file as `save_checkpoint` of score_sde_pytorch does; return its path."""
    tensors = tensors or {name: torch.zeros(shape) for name, shape in shapes(c).items()}
    trained = [tensor for name, tensor in tensors.items() if name != "all_modules.0.W"]
    model = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save(
        {
            "optimizer": {"state": {}, "param_groups": [{"lr": 2e-4}]},
            "model": {"module.sigmas": sigmas(c), **model},
            "ema": {"decay": 0.9999, "num_updates": 7, "shadow_params": trained},
            "step": 400005,
        },
        path,
    )
    return path
