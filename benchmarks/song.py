"""Build Song's networks with random weights from a checkout of score_sde_pytorch.

    python benchmarks/song.py CHECKOUT church church.pth

writes a checkpoint with random weights, for parity tests. The checkout (commit cb1f359) is an
argument of the scripts that use this module; ggf contains nothing of it. Its compiled FIR operation
is not built: on a CPU the checkout uses plain torch instead.
"""

import importlib
import sys
import zlib
from pathlib import Path
from typing import Any

import torch
import torch.utils.cpp_extension
from torch import Tensor, nn

from ggf_cli.noise import Noise

CONFIGS = {
    "church": "ve.church_ncsnpp_continuous",
    "ffhq-1024": "ve.ffhq_ncsnpp_continuous",
    "cifar10-ve": "ve.cifar10_ncsnpp_continuous",
    "cifar10-ve-deep": "ve.cifar10_ncsnpp_deep_continuous",
    "cifar10-vp": "vp.cifar10_ddpmpp_continuous",
    "cifar10-vp-deep": "vp.cifar10_ddpmpp_deep_continuous",
    "cifar10-subvp": "subvp.cifar10_ddpmpp_continuous",
    "ve/cifar10_ncsnpp": "ve.cifar10_ncsnpp",
    "vp/cifar10_ddpm": "vp.ddpm.cifar10",
    "vp/cifar10_ddpm_continuous": "vp.ddpm.cifar10_continuous",
}


def build(
    checkout: str, name: str, *, width: int | None = None, size: int | None = None
) -> nn.Module:
    """Build a network of Song with weights that depend on their names only.

    Args:
        checkout: Folder of score_sde_pytorch.
        name: A key of CONFIGS.
        width: Width of the first level; None: the published one.
        size: Height and width of the images; None: the published one. Attention stays at the same
            level.
    """
    if checkout not in sys.path:
        sys.path.insert(0, checkout)
        torch.utils.cpp_extension.load = lambda *args, **kwargs: None
    config = importlib.import_module(f"configs.{CONFIGS[name]}").get_config()
    if width is not None:
        config.model.nf = width
    if size is not None:
        factor = config.data.image_size // size
        config.data.image_size = size
        config.model.attn_resolutions = tuple(r // factor for r in config.model.attn_resolutions)
    kind = {"ncsnpp": "NCSNpp", "ddpm": "DDPM"}[config.model.name]
    module = importlib.import_module(f"models.{config.model.name}")
    network: nn.Module = getattr(module, kind)(config).eval()
    network.load_state_dict(
        weights({n: t.shape for n, t in network.state_dict().items()}), strict=False
    )
    return network


def weights(shapes: dict[str, Any]) -> dict[str, Tensor]:
    """Make well-conditioned weights, {name: tensor}, the same bits on every machine.

    `sigmas` is left out.
    """
    first = torch.tensor([0])
    tensors = {}
    for name, shape in shapes.items():
        if name == "sigmas":
            continue
        # Not torch.randn: its last bit depends on the processor, and sin(2 pi W log(sigma))
        # amplifies it.
        values = Noise(seed=zlib.crc32(name.encode()), shape=tuple(shape))(first, first)[0]
        if name == "all_modules.0.W":
            values *= 16
        elif len(shape) > 1:
            inputs = shape[0] if name.endswith(".W") else values[0].numel()
            values *= inputs**-0.5
        # Of a normalisation.
        elif name.endswith("weight"):
            values = 1 + 0.1 * values
        else:
            values *= 0.1
        tensors[name] = values
    return tensors


def checkpoint(network: nn.Module) -> dict[str, Any]:
    """Make the checkpoint that score_sde_pytorch would save of this network.

    The raw weights differ from their average.
    """
    state = network.state_dict()
    trained = [parameter.detach() for parameter in network.parameters() if parameter.requires_grad]
    model = {f"module.{name}": tensor.clone() for name, tensor in state.items()}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            model[f"module.{name}"] = parameter.detach() + 1.0
    moments = {
        i: {"step": 1, "exp_avg": t + 2.0, "exp_avg_sq": t + 3.0} for i, t in enumerate(trained)
    }
    return {
        "optimizer": {"state": moments, "param_groups": [{"lr": 2e-4}]},
        "model": model,
        "ema": {"decay": 0.999, "num_updates": 7, "shadow_params": trained},
        "step": 400005,
    }


def save(network: nn.Module, path: Path) -> Path:
    """Write the `checkpoint` of a network to a file."""
    torch.save(checkpoint(network), path)
    return path


if __name__ == "__main__":
    save(build(sys.argv[1], sys.argv[2]), Path(sys.argv[3]))
