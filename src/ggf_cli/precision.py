"""The arithmetic of the network: float32, or bfloat16 where it is fast."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.score import ScoreModel
from ggf_cli.sde import expand_as_batch

AUTO, FP32, BF16 = "auto", "fp32", "bf16"
LEVELS = 8
TOLERANCE = 0.05


def in_precision(model: ScoreModel, precision: str) -> ScoreModel:
    """The model with its network in a precision.

    State, times, noise and score stay what they are; torch.autocast evaluates convolutions and products in bfloat16. A score that
    is computed exactly is left alone.

    Args:
        model: The model.
        precision: "fp32"; "bf16"; or "auto": bfloat16 where the device multiplies it faster than float32 and the scores
            agree to 5 % at all noise levels.

    Raises:
        UsageError: No such precision.
    """
    if precision not in (AUTO, FP32, BF16):
        raise UsageError(f"precision is {precision!r}, it must be auto, fp32 or bf16")
    device = torch.device(model.device)
    if precision == FP32 or model.distribution is not None:
        return model
    if precision == AUTO and not fast_bf16(device):
        return model

    def score(x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return model.score(x, t).float()

    faster = replace(model, score=score, precision=BF16)
    if precision == AUTO and deviation(model, faster) > TOLERANCE:
        return model
    return faster


@torch.no_grad()
def deviation(model: ScoreModel, other: ScoreModel) -> float:
    """The largest difference of two scores over noise levels from T to t_eps, relative to their size (root mean square)."""
    sde, device = model.sde, torch.device(model.device)
    generator = torch.Generator().manual_seed(0)
    t = torch.linspace(sde.T, sde.t_eps, LEVELS, dtype=torch.float64)
    noise = torch.randn(LEVELS, *model.shape, generator=generator, dtype=model.dtype)
    x, t = (expand_as_batch(sde.sigma(t), noise) * noise).to(device), t.to(device)
    one, two = model.score(x, t).double().flatten(1), other.score(x, t).double().flatten(1)
    return float(((one - two).norm(dim=1) / one.norm(dim=1)).max())


def fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
