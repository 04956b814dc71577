"""Schedulers of diffusers as samplers, on the VP SDE that their betas discretise.

    alpha_k^2 = prod_{i <= k} (1 - beta_i),   noise prediction = -sigma_k score

A fractional timestep is interpolated in log(alpha / sigma). diffusers' default is to clip the
predicted images to [-1, 1]; the exact models exceed it, so `clip_sample` is off. No order is
claimed: that of a scheduler depends on its timesteps, and `solver_order` is that of the formula.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from typing import Any

import torch
from torch import Tensor

from ggf_cli.certification.samplers import DEFAULT_STEPS, NoiseSource, Sampler, Score
from ggf_cli.certification.specs import parse_spec
from ggf_cli.errors import UsageError
from ggf_cli.registry import did_you_mean
from ggf_cli.sde import SDE

# The settings of DDPM, which discretise `VPSDE()`.
SETTINGS = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
    "clip_sample": False,
}
# A list of generators, one for each row, is slow; with more rows all rows share one.
FEW_ROWS = 8


def from_scheduler(text: str) -> Sampler:
    """The sampler of "DDIMScheduler" or "DPMSolverMultistepScheduler:steps=50,solver_order=3".

    Raises:
        UsageError: diffusers is not installed, or it has no such scheduler for a VP SDE.
    """
    spec = parse_spec(text)
    kind = _find(spec.name)
    accepted = inspect.signature(kind.__init__).parameters
    spec.check_settings(key for key in accepted if key != "self")
    settings = {key: value for key, value in SETTINGS.items() if key in accepted} | spec.settings

    def run(score: Score, sde: SDE, x_T: Tensor, noise: NoiseSource, steps: int | None) -> Tensor:
        with warnings.catch_warnings():
            # diffusers uses deprecated interfaces of numpy and of its own.
            for category in (DeprecationWarning, FutureWarning):
                warnings.simplefilter("ignore", category)
            return _run(kind(**settings), score, sde, x_T, noise, steps or DEFAULT_STEPS)

    return Sampler(
        name=f"diffusers:{text}", function=run, steps=spec.steps or DEFAULT_STEPS, sdes=("vp",)
    )


def _run(
    scheduler: Any, score: Score, sde: SDE, x_T: Tensor, noise: NoiseSource, steps: int
) -> Tensor:
    scheduler.set_timesteps(steps)
    alpha_bar = scheduler.alphas_cumprod.double()
    half_log_snr = (torch.log(alpha_bar) - torch.log1p(-alpha_bar)) / 2
    x = x_T * float(scheduler.init_noise_sigma)
    extra: dict[str, Any] = {}
    if "generator" in inspect.signature(scheduler.step).parameters:
        generators = noise.generators(each_row=len(x) <= FEW_ROWS)
        extra["generator"] = generators if len(x) <= FEW_ROWS else generators[0]
    for timestep in scheduler.timesteps:
        k = float(timestep)
        low = min(max(int(k), 0), len(alpha_bar) - 2)
        level = torch.lerp(half_log_snr[low], half_log_snr[low + 1], k - low)[None]
        t = sde.time_at(level)
        inputs = scheduler.scale_model_input(x, timestep).double()
        predicted = -sde.sigma(t) * score(inputs, t)
        x = scheduler.step(predicted, timestep, x, **extra).prev_sample
    return x.double()


def _find(name: str) -> Any:
    try:
        diffusers = importlib.import_module("diffusers")
    except ImportError as error:
        raise UsageError(
            "diffusers is not installed", hint="pip install diffusers, to certify its schedulers"
        ) from error
    known = [key for key in dir(diffusers) if key.endswith("Scheduler")]
    if name not in known:
        raise UsageError(
            f"diffusers has no scheduler {name!r}",
            hint=did_you_mean(name, known, "like diffusers:DDIMScheduler"),
        )
    kind = getattr(diffusers, name)
    parameters = inspect.signature(kind.__init__).parameters
    if "beta_schedule" not in parameters or "prediction_type" not in parameters:
        raise UsageError(
            f"the scheduler {name} does not solve a VP SDE given by betas",
            hint="like diffusers:DDIMScheduler",
        )
    return kind
