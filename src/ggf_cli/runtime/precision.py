"""The precision of the network: float32, or a faster one whose scores agree with float32."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ggf_cli.errors import OptionError
from ggf_cli.registry import did_you_mean
from ggf_cli.runtime.devices import full_precision
from ggf_cli.scalars import as_float
from ggf_cli.score import ScoreModel
from ggf_cli.sde import expand_as_batch

AUTO, FP32, TF32, BF16, FP16 = PRECISIONS = "auto", "fp32", "tf32", "bf16", "fp16"
AUTOCAST = {BF16: torch.bfloat16, FP16: torch.float16}
LEVELS = 8
TOLERANCE = 0.05
FINE = 1e-3


def in_precision(model: ScoreModel, precision: str, finest: float = math.inf) -> ScoreModel:
    """Return the model with its network evaluated in a precision.

    torch.autocast evaluates convolutions and products in bfloat16 or float16; state, times, noise
    and score keep their dtype. An exactly known score is not changed.

    Args:
        model: The model.
        precision: "fp32"; "bf16"; "fp16"; "tf32", float32 with products of 10 bits on CUDA, for the
            whole process; or "auto": bfloat16 if the device multiplies it faster than float32, the
            scores agree to 5 % at all noise levels, and `finest` is at least 1e-3; else float32.
        finest: The smallest relative tolerance of the solvers that will use the model. Below 1e-3 a
            solver takes the rounding of bfloat16 for its own error: `ode-rk45` at 1e-5 needs 700
            evaluations instead of 158.

    Raises:
        OptionError: No such precision, not on this device, or float16 or TF32 do not agree to 5 %.
    """
    if precision not in PRECISIONS:
        raise OptionError(
            f"precision is {precision!r}, it must be one of {', '.join(PRECISIONS)}",
            option="precision",
            hint=did_you_mean(precision, PRECISIONS, f"precisions: {', '.join(PRECISIONS)}"),
        )
    finest = as_float(finest, "finest", above=0, finite=False)
    device = torch.device(model.device)
    # Without conditions, the scores of a conditional model cannot be compared.
    unknown = model.conditional and model.conditions is None
    if precision == FP32 or model.distribution is not None or unknown:
        return model
    if precision == AUTO:
        if finest < FINE or model.dtype == torch.float64 or not fast_bf16(device):
            return model
        faster = _autocast(model, BF16)
        return faster if deviation(model, faster) <= TOLERANCE else model
    if precision in AUTOCAST:
        faster = _autocast(model, precision)
        if precision == FP16 and not (found := deviation(model, faster)) <= TOLERANCE:
            raise _rough(model, precision, found)
        return faster

    if device.type != "cuda":
        raise OptionError(
            f"precision tf32 needs a CUDA device, this is {device.type}", option="precision"
        )
    exact = _scores(model)
    full_precision(False)
    if not (found := _difference(exact, _scores(model))) <= TOLERANCE:
        full_precision()
        raise _rough(model, precision, found)
    return replace(model, precision=TF32)


def _autocast(model: ScoreModel, precision: str) -> ScoreModel:
    kind = torch.device(model.device).type

    def score(x: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        with torch.autocast(kind, AUTOCAST[precision]):
            return model.score(x, t, *conditions).float()

    return replace(model, score=score, precision=precision)


def _rough(model: ScoreModel, precision: str, found: float) -> OptionError:
    differ = f"differ by {found:.0%} from those in float32"
    what = differ if math.isfinite(found) else "are not finite"
    return OptionError(
        f"the scores of {model.name} in {precision} {what}",
        option="precision",
        hint="use precision auto",
    )


def deviation(model: ScoreModel, other: ScoreModel) -> float:
    """The largest relative difference of two scores over noise levels from T to t_eps.

    It is relative to the root mean square of the score. It is NaN or infinite if a score is.
    """
    return _difference(_scores(model), _scores(other))


@torch.no_grad()
def _scores(model: ScoreModel) -> Tensor:
    """The score of noise at each noise level, (LEVELS, D) float64."""
    x, t = noise_at_levels(model, LEVELS)
    return model.evaluate(x, t).double().flatten(1)


def noise_at_levels(model: ScoreModel, levels: int) -> tuple[Tensor, Tensor]:
    """Noise x (levels, *shape) at the times t (levels,) from T to t_eps; always the same."""
    sde, device = model.sde, torch.device(model.device)
    generator = torch.Generator().manual_seed(0)
    t = torch.linspace(sde.T, sde.t_eps, levels, dtype=torch.float64)
    noise = torch.randn(levels, *model.shape, generator=generator, dtype=model.dtype)
    return (expand_as_batch(sde.sigma(t), noise) * noise).to(device), t.to(device)


def _difference(one: Tensor, two: Tensor) -> float:
    return float(((one - two).norm(dim=1) / one.norm(dim=1)).max())


def fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
