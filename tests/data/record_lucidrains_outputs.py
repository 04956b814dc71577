"""Record scores of denoising-diffusion-pytorch, small networks, for tests/checkpoints.

    python tests/data/record_lucidrains_outputs.py CHECKOUT tests/data/lucidrains_outputs.json

CHECKOUT is a folder of lucidrains/denoising-diffusion-pytorch (faed4db, version 2.3.1), which needs
einops; imports that only its training needs are replaced. Weights depend only on their
names (benchmarks/song.py), inputs are the noise of ggf. The outputs are those of the network in
float64; the score is -pred_noise / sigma of `GaussianDiffusion.model_predictions`.
"""

import importlib
import json
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from ggf_cli.noise import Noise
from song import weights

SIZE, EVERY = 8, 4
# Name: arguments of Unet, arguments of GaussianDiffusion.
CASES = {
    "default": (
        {"dim": 8, "dim_mults": (1, 2), "attn_heads": 2, "attn_dim_head": 4},
        {"timesteps": 40},
    ),
    "noise": (
        {
            "dim": 8,
            "init_dim": 12,
            "dim_mults": (1, 1, 2),
            "full_attn": (False, True, True),
            "attn_heads": (1, 2, 3),
            "attn_dim_head": (4, 8, 4),
            "self_condition": True,
        },
        {
            "timesteps": 40,
            "objective": "pred_noise",
            "beta_schedule": "linear",
            "min_snr_loss_weight": True,
        },
    ),
    "data": (
        {"dim": 8, "dim_mults": (2,), "channels": 1, "sinusoidal_pos_emb_theta": 100},
        {"timesteps": 40, "objective": "pred_x0", "beta_schedule": "cosine"},
    ),
}


def library(checkout):
    """The module of `Unet` and `GaussianDiffusion`, without those that train and evaluate."""
    package = types.ModuleType("denoising_diffusion_pytorch")
    package.__path__ = [str(Path(checkout) / "denoising_diffusion_pytorch")]
    sys.modules["denoising_diffusion_pytorch"] = package
    for name in ("torchvision", "accelerate", "ema_pytorch", "scipy", "scipy.optimize"):
        sys.modules[name] = MagicMock()
    return importlib.import_module("denoising_diffusion_pytorch.denoising_diffusion_pytorch")


def main():
    torch.set_grad_enabled(False)
    code, recorded = library(sys.argv[1]), {}
    for name, (unet, diffusion) in CASES.items():
        torch.set_default_dtype(torch.float64)
        model = code.GaussianDiffusion(code.Unet(**unet), image_size=SIZE, **diffusion).eval()
        torch.set_default_dtype(torch.float32)
        buffers = dict(model.named_buffers())
        shapes = {n: t.shape for n, t in model.state_dict().items() if n not in buffers}
        model.load_state_dict(weights(shapes), strict=False)
        k = torch.arange(model.num_timesteps)
        x = Noise(seed=1, shape=(model.channels, SIZE, SIZE))(k, 0 * k).double()
        torch.set_default_dtype(torch.float64)
        sigma = buffers["sqrt_one_minus_alphas_cumprod"][:, None, None, None]
        score = -model.model_predictions(x, k).pred_noise / sigma
        torch.set_default_dtype(torch.float32)
        recorded[name] = {
            "size": SIZE,
            "theta": unet.get("sinusoidal_pos_emb_theta", 10000),
            "objective": model.objective,
            "shapes": {n: list(shape) for n, shape in shapes.items()},
            "buffers": {n: buffers[n].tolist() for n in ("betas", "alphas_cumprod", "loss_weight")},
            "largest": score.abs().flatten(1).amax(1).tolist(),
            "every_4th_pixel": score[:, :, ::EVERY, ::EVERY].flatten(1).tolist(),
        }
    Path(sys.argv[2]).write_text(json.dumps(recorded) + "\n")


if __name__ == "__main__":
    main()
