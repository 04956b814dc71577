"""Original implementations of full-size networks, with random weights.

A reference is evaluated as network(x, label), and writes its weights to a file that ggf loads. All
but diffusers need a checkout of their repository, an argument of networks.py. ggf contains nothing
of them.
"""

import importlib
import json
import pickle
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ggf_cli.checkpoints import native, score_sde
from song import build as build_song
from song import save as save_song
from song import weights

Network = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A network of another program.

    Attributes:
        source: The program, a key of CHECKOUTS or "diffusers".
        labels: Labels of noise levels, from the smallest level to the largest.
        shape: Shape of an image.
        build: Makes the module, in evaluation mode, with weights that depend on their names only.
            Its argument is the folder of the checkout.
        write: Writes the weights to a file of ggf, or to one that ggf reads: write(module, path)
            returns the path.
        call: Evaluates the module.
        classes: Whether the network takes class labels; `call` then gives it class 0.
        config: What the file does not state, `--config`.
    """

    source: str
    labels: list[float]
    shape: tuple[int, int, int]
    build: Callable[[str | None], nn.Module]
    write: Callable[[nn.Module, Path], Path]
    call: Callable[[nn.Module, Tensor, Tensor], Tensor] = lambda network, x, label: network(
        x, label
    )
    classes: bool = False
    config: str | None = None


# Programs, and the commits that were measured.
CHECKOUTS = {
    "score_sde_pytorch": "yang-song/score_sde_pytorch, cb1f359; needs ml_collections",
    "edm": "NVlabs/edm, 008a4e5",
    "guided-diffusion": "openai/guided-diffusion, 22e0df8",
    "denoising-diffusion-pytorch": "lucidrains/denoising-diffusion-pytorch, faed4db; needs einops",
}

_NCSNPP = {
    "_class_name": "UNet2DModel",
    "act_fn": "silu",
    "attention_head_dim": None,
    "center_input_sample": True,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 3,
    "mid_block_scale_factor": 1.41421356237,
    "norm_eps": 1e-6,
    "norm_num_groups": None,
    "out_channels": 3,
    "time_embedding_type": "fourier",
}
_DDPM = {
    "_class_name": "UNet2DModel",
    "act_fn": "silu",
    "attention_head_dim": None,
    "center_input_sample": False,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 32,
    "out_channels": 3,
    "time_embedding_type": "positional",
}


def _levels(kind: str, n: int, attention: int) -> dict[str, list[str]]:
    """Return the block types of n levels, one of them with attention."""
    down = [f"{'Attn' if i == attention else ''}{kind}DownBlock2D" for i in range(n)]
    up = [f"{'Attn' if i == attention else ''}{kind}UpBlock2D" for i in reversed(range(n))]
    return {"down_block_types": down, "up_block_types": up}


# {name: (config of UNet2DModel, height of the images, labels)}
DIFFUSERS: dict[str, tuple[dict[str, Any], int, list[float]]] = {
    # fashion-vp, after its pixel_unshuffle.
    "fashion": (
        {
            **_DDPM,
            **_levels("", 2, -1),
            "block_out_channels": [64, 96],
            "in_channels": 4,
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "out_channels": 4,
            "sample_size": 14,
        },
        14,
        [0.0, 499.5, 999.0],
    ),
    "church": (
        {
            **_NCSNPP,
            **_levels("Skip", 7, 4),
            "block_out_channels": [128, 128, 256, 256, 256, 256, 256],
            "layers_per_block": 2,
            "sample_size": 256,
        },
        256,
        [0.01, 380.0],
    ),
    "ffhq-1024": (
        {
            **_NCSNPP,
            **_levels("Skip", 8, 6),
            "block_out_channels": [16, 32, 64, 128, 256, 512, 512, 512],
            "layers_per_block": 1,
            "sample_size": 1024,
        },
        256,
        [0.01, 1.0, 1348.0],
    ),
    "cifar10-ddpm": (
        {
            **_DDPM,
            **_levels("", 4, 1),
            "block_out_channels": [128, 256, 256, 256],
            "sample_size": 32,
        },
        32,
        [0.0, 17.5, 500.0, 999.0],
    ),
    "church-ddpm": (
        {
            **_DDPM,
            **_levels("", 6, 4),
            "block_out_channels": [128, 128, 256, 256, 512, 512],
            "sample_size": 256,
        },
        256,
        [0.0, 999.0],
    ),
}
# {name of `song.CONFIGS`: labels}
SONG: dict[str, list[float]] = {
    "cifar10-ve": [0.01, 1.0, 50.0],
    "cifar10-ve-deep": [0.01, 1.0, 50.0],
    "cifar10-vp": [1.0, 499.5, 999.0],
    "cifar10-vp-deep": [1.0, 499.5, 999.0],
}
# {name: (arguments of SongUNet, number of classes)}. The labels are ln(sigma) / 4.
EDM: dict[str, tuple[dict[str, Any], int]] = {
    "edm-cifar10-uncond-vp": (
        {
            "embedding_type": "positional",
            "encoder_type": "standard",
            "channel_mult_noise": 1,
            "resample_filter": [1, 1],
        },
        0,
    ),
    "edm-cifar10-cond-ve": (
        {
            "embedding_type": "fourier",
            "encoder_type": "residual",
            "channel_mult_noise": 2,
            "resample_filter": [1, 3, 3, 1],
        },
        10,
    ),
}
EDM_LABELS = [float(torch.tensor(sigma).log() / 4) for sigma in (0.002, 0.05, 1.0, 80.0)]


def diffusers_reference(name: str) -> Reference:
    """A network of diffusers, UNet2DModel."""
    config, size, labels = DIFFUSERS[name]

    def build(_: str | None) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from diffusers import UNet2DModel
        network = UNet2DModel(**{k: v for k, v in config.items() if k != "_class_name"}).eval()
        tensors = weights({n: t.shape for n, t in network.state_dict().items()})
        if "time_proj.weight" in tensors:
            tensors["time_proj.weight"] *= 16
        network.load_state_dict(tensors)
        return network

    def write(module: nn.Module, path: Path) -> Path:
        folder = path.with_suffix("")
        module.save_pretrained(folder / "unet")
        scheduler: dict[str, Any] = {"_class_name": "DDPMScheduler"}
        if config["time_embedding_type"] == "fourier":
            scheduler = {"_class_name": "ScoreSdeVeScheduler", "sigma_min": 0.01, "sigma_max": 348}
        (folder / "scheduler").mkdir()
        (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
        return folder

    return Reference(
        source="diffusers",
        labels=labels,
        shape=(config["in_channels"], size, size),
        build=build,
        write=write,
        call=lambda network, x, label: network(x, label).sample,
    )


def song_reference(name: str) -> Reference:
    """A network of Song's code."""

    def build(checkout: str | None) -> nn.Module:
        assert checkout is not None
        return build_song(checkout, name)

    def write(module: nn.Module, path: Path) -> Path:
        checkpoint = score_sde.read(save_song(module, path.with_suffix(".pth")), config=name)
        path.write_bytes(native.to_bytes(checkpoint))
        return path

    return Reference(
        source="score_sde_pytorch", labels=SONG[name], shape=(3, 32, 32), build=build, write=write
    )


def edm_reference(name: str) -> Reference:
    """A SongUNet of EDM's code for CIFAR-10, inside its preconditioning."""
    arguments, classes = EDM[name]

    def build(checkout: str | None) -> nn.Module:
        sys.path.insert(0, str(checkout))
        network = importlib.import_module("training.networks").EDMPrecond(
            img_resolution=32,
            img_channels=3,
            label_dim=classes,
            model_type="SongUNet",
            model_channels=128,
            channel_mult=[2, 2, 2],
            augment_dim=9,
            decoder_type="standard",
            **arguments,
        )
        names = {n: t.shape for n, t in network.model.state_dict().items()}
        tensors = weights({n: s for n, s in names.items() if not n.endswith("resample_filter")})
        if "map_noise.freqs" in tensors:
            tensors["map_noise.freqs"] *= 40
        network.model.load_state_dict(tensors, strict=False)
        return network.eval()

    def write(module: nn.Module, path: Path) -> Path:
        path = path.with_suffix(".pkl")
        path.write_bytes(pickle.dumps({"ema": module}))
        return path

    def call(network: nn.Module, x: Tensor, label: Tensor) -> Tensor:
        one_hot = torch.eye(classes)[:1].expand(len(x), -1) if classes else None
        return network.model(x, label, one_hot)

    return Reference(
        source="edm",
        labels=EDM_LABELS,
        shape=(3, 32, 32),
        build=build,
        write=write,
        call=call,
        classes=classes > 0,
    )


def guided_reference() -> Reference:
    """The network of 64x64_diffusion.pt of guided-diffusion (ADM)."""

    def build(checkout: str | None) -> nn.Module:
        sys.path.insert(0, str(checkout))
        network = importlib.import_module("guided_diffusion.unet").UNetModel(
            image_size=64,
            in_channels=3,
            model_channels=192,
            out_channels=6,
            num_res_blocks=3,
            attention_resolutions=(2, 4, 8),
            channel_mult=(1, 2, 3, 4),
            num_classes=1000,
            num_head_channels=64,
            use_scale_shift_norm=True,
            resblock_updown=True,
            use_new_attention_order=True,
        )
        network.load_state_dict(weights({n: t.shape for n, t in network.state_dict().items()}))
        return network.eval()

    def write(module: nn.Module, path: Path) -> Path:
        # ggf recognises the file by its name.
        path = path.with_name("64x64_diffusion.pt")
        torch.save(module.state_dict(), path)
        return path

    def call(network: nn.Module, x: Tensor, label: Tensor) -> Tensor:
        # The other channels are the learned variance.
        return network(x, label, torch.zeros(len(x), dtype=torch.int64))[:, :3]

    return Reference(
        source="guided-diffusion",
        labels=[0.0, 500.0, 999.0],
        shape=(3, 64, 64),
        build=build,
        write=write,
        call=call,
        classes=True,
    )


def lucidrains_reference() -> Reference:
    """The network of the README of denoising-diffusion-pytorch, for 64 x 64 pixels."""

    def build(checkout: str | None) -> nn.Module:
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "data"))
        code = importlib.import_module("record_lucidrains_outputs").library(checkout)
        unet = code.Unet(dim=64, dim_mults=(1, 2, 4, 8))
        network = code.GaussianDiffusion(unet, image_size=64, timesteps=1000).eval()
        buffers = dict(network.named_buffers())
        shapes = {n: t.shape for n, t in network.state_dict().items() if n not in buffers}
        network.load_state_dict(weights(shapes), strict=False)
        return network

    def write(module: nn.Module, path: Path) -> Path:
        path = path.with_suffix(".pt")
        average = {f"ema_model.{name}": tensor for name, tensor in module.state_dict().items()}
        torch.save({"step": 1, "model": module.state_dict(), "ema": average}, path)
        return path

    return Reference(
        source="denoising-diffusion-pytorch",
        labels=[0.0, 500.0, 999.0],
        shape=(3, 64, 64),
        build=build,
        write=write,
        call=lambda network, x, label: network.model(x, label),
        config="image_size=64",
    )


REFERENCES: dict[str, Reference] = {
    **{name: diffusers_reference(name) for name in DIFFUSERS},
    **{name: song_reference(name) for name in SONG},
    **{name: edm_reference(name) for name in EDM},
    "64x64_diffusion": guided_reference(),
    "lucidrains-64": lucidrains_reference(),
}
