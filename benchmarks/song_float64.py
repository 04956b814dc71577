"""Compare the scores of ggf with those of Song's code, both in float64 and both in float32.

    python benchmarks/song_float64.py CHECKOUT

CHECKOUT is a folder of yang-song/score_sde_pytorch (cb1f359), which needs ml_collections. Its
formulas run unchanged; for float64 the default type of torch is float64, and the two places that
name float32 (embedding of the label, FIR kernel) are converted. Weights are random
(benchmarks/song.py). Prints the largest relative error over the noise levels: max |difference| /
max |score|.
"""

import importlib
import inspect
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ggf_cli.checkpoints.load import load_model
from ggf_cli.noise import Noise
from ggf_cli.parametrizations import log_snr_table
from song import build, checkpoint

SIZE = 16
LEVELS = [0, 1, 2, 10, 100, 500, 998, 999]
# Name: width, the setting sde.
CASES = {
    "vp/cifar10_ddpm": (32, "vp-discrete"),
    "ve/cifar10_ncsnpp": (8, "ve-discrete"),
    "vp/cifar10_ddpm_continuous": (32, "vp"),
    "cifar10-vp": (8, "vp"),
}


def song_score(network: nn.Module, kind: str, x: Tensor, t: Tensor) -> Tensor:
    """The score of Song's code, computed in the type of x."""
    sde_lib, utils = importlib.import_module("sde_lib"), importlib.import_module("models.utils")
    network.to(x.dtype)
    torch.set_default_dtype(x.dtype)
    try:
        sde = (
            sde_lib.VESDE(0.01, 50, 1000)
            if kind == "ve-discrete"
            else sde_lib.VPSDE(0.1, 20.0, 1000)
        )
        network.get_buffer("sigmas").copy_(_sigmas(x.dtype))
        score = utils.get_score_fn(sde, network, continuous=not kind.endswith("-discrete"))
        result: Tensor = score(x, t.to(x.dtype))
        return result
    finally:
        torch.set_default_dtype(torch.float32)


def _sigmas(dtype: torch.dtype) -> Tensor:
    """The noise levels of a VE model, falling, computed in this type."""
    ends = torch.tensor([50.0, 0.01], dtype=dtype).log()
    return torch.linspace(float(ends[0]), float(ends[1]), 1000, dtype=dtype).exp()


def without_float32(checkout: str) -> None:
    """Convert the two places of Song's code that name float32 to the type of their input."""
    sys.path.insert(0, checkout)
    layers = importlib.import_module("models.layers")
    source = inspect.getsource(layers.get_timestep_embedding)
    for old, new in (
        ("torch.float32", "torch.get_default_dtype()"),
        ("timesteps.float()", "timesteps.to(torch.get_default_dtype())"),
    ):
        source = source.replace(old, new)
    # The checkout is trusted: it is run anyway.
    exec(source, layers.__dict__)  # noqa: S102
    sampling = importlib.import_module("models.up_or_down_sampling")
    filtered = sampling.upfirdn2d
    sampling.upfirdn2d = lambda x, kernel, **options: filtered(x, kernel.to(x.dtype), **options)


def main() -> None:
    """Print a Markdown table."""
    torch.set_grad_enabled(False)
    warnings.simplefilter("ignore")
    checkout = sys.argv[1]
    build(checkout, "cifar10-vp", width=8, size=SIZE)
    without_float32(checkout)
    print("| model | both in float64 | both in float32 | ggf, float32 | Song, float32 |")
    print("|---|---|---|---|---|")
    for name, (width, kind) in CASES.items():
        network = build(checkout, name, width=width, size=SIZE)
        k = torch.tensor(LEVELS)
        # 1e-3 is the last time of VP sampling.
        t = theirs = (k / torch.tensor(999.0).double()).clamp(min=1e-3 if kind == "vp" else 0)
        if kind == "ve-discrete":
            t = theirs = 1 - t
        ours: dict[torch.dtype, Tensor] = {}
        song: dict[torch.dtype, Tensor] = {}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.pth"
            torch.save(checkpoint(network), path)
            config = f"sde={kind},image_size={SIZE}" + (",model=ddpm" if "ddpm" in name else "")
            for dtype in (torch.float32, torch.float64):
                model = load_model(path, device="cpu", dtype=dtype, config=config)
                if kind == "vp-discrete":
                    betas = torch.linspace(0.1, 20, 1000, dtype=torch.float64) / 1000
                    t = model.sde.time_at(log_snr_table(betas.tolist())[k])
                x = Noise(seed=1, shape=(3, SIZE, SIZE))(torch.arange(len(k)), 0 * k).to(dtype)
                ours[dtype] = model.score(x, t).double()
                # The excess keeps k = 999 t from being rounded down.
                excess = (1e-12 if dtype == torch.float64 else 1e-9) * (kind == "vp-discrete")
                song[dtype] = song_score(network, kind, x, theirs + excess).double()
        single, double = ours
        pairs = [
            (ours[double], song[double]),
            (ours[single], song[single]),
            (ours[single], ours[double]),
            (song[single], song[double]),
        ]
        errors = (
            ((a - b).flatten(1).abs().amax(1) / b.flatten(1).abs().amax(1)).max() for a, b in pairs
        )
        print(f"| {name} |", " | ".join(f"{float(e):.0e}" for e in errors), "|", flush=True)


if __name__ == "__main__":
    main()
