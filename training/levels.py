"""Measure the quality of a trained model at each noise level, as a Markdown table.

    python training/levels.py fashion-vp [--n 1000]

Real training images get noise up to a level, and the model denoises them from there
(SDE-DPM-Solver++(2M), steps of 1/4 in log(alpha / sigma), network in bfloat16). The FFD of the
result increases at levels where the model is weak; at the lowest level it is that of real images.
"""

import argparse
import math

import torch
from torch import Tensor

import ggf_cli
from fashion_metrics import FFD
from fashion_mnist import load
from ggf_cli.runtime.precision import in_precision
from ggf_cli.score import ScoreModel

# sigma / alpha.
LEVELS = (0.17, 0.4, 0.7, 1.2, 2.5, 5.0, 12.0)
# In log(alpha / sigma).
STEP = 0.25
BATCH_SIZE = 64


def denoised(model: ScoreModel, x: Tensor, half_log_snr: float) -> Tensor:
    """Estimate the clean images from x (N, C, H, W) at one noise level."""
    sde = model.sde
    t = sde.time_at(torch.full((len(x),), half_log_snr, dtype=torch.float64))
    parts = zip(x.split(BATCH_SIZE), t.split(BATCH_SIZE), strict=True)
    return torch.cat([sde.tweedie_denoise(a, b, model.score(a, b)) for a, b in parts])


def restored(model: ScoreModel, images: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
    """Add noise to images (N, C, H, W) up to sigma / alpha = ratio, and denoise them in steps."""
    sde = model.sde
    start, end = -math.log(ratio), float(sde.half_log_snr(torch.tensor([sde.t_eps])))
    grid = torch.linspace(start, end, 1 + math.ceil((end - start) / STEP), dtype=torch.float64)
    t = sde.time_at(grid)
    alpha, sigma = sde.alpha(t).tolist(), sde.sigma(t).tolist()
    x = alpha[0] * images + sigma[0] * torch.randn(images.shape, generator=generator)
    before = None
    for i, (now, then) in enumerate(zip(grid.tolist(), grid[1:].tolist(), strict=False)):
        h, estimate = then - now, denoised(model, x, now)
        q = -math.expm1(-2 * h)
        slope = torch.zeros_like(x) if before is None else (estimate - before) / h
        noise = torch.randn(x.shape, generator=generator)
        x = (
            sigma[i + 1] / sigma[i] * math.exp(-h) * x
            + alpha[i + 1] * (q * estimate + (h - q / 2) * slope)
            + sigma[i + 1] * math.sqrt(q) * noise
        )
        before = estimate
    return sde.to_unit_range(denoised(model, x, end))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--n", type=int, default=1000)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    model = in_precision(ggf_cli.load_model(args.model, device="cpu"), "bf16")
    images, ffd, generator = load()[0][: args.n], FFD(), torch.Generator().manual_seed(0)
    print(f"| {args.model}, {args.n} images: sigma / alpha | FFD |\n|---|---|", flush=True)
    for ratio in LEVELS:
        print(f"| {ratio} | {ffd(restored(model, images, ratio, generator)):.2f} |", flush=True)


if __name__ == "__main__":
    main()
