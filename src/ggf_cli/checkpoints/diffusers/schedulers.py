"""Read the configuration of a diffusers scheduler: the SDE and the parametrization of the network.

Only the training settings of a scheduler are part of the model: the noise levels, the prediction
type and the label of each level. The other keys set how diffusers samples, and are ignored.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ggf_cli.checkpoints.diffusers.configs import Config
from ggf_cli.errors import CheckpointError
from ggf_cli.sde import SDE, VESDE, VPSDE

# Noise levels of the discrete models that are supported.
LEVELS = 1000

_LINEAR = {
    "num_train_timesteps": LEVELS,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    # In files of 2022: labels other than 0, 1, 2 ...
    "timestep_values": None,
    "prediction_type": "epsilon",
    # The name of prediction_type in 2022.
    "predict_epsilon": True,
    "rescale_betas_zero_snr": False,
    # True: the noise levels of flow matching replace those of the betas.
    "use_flow_sigmas": False,
    # "continuous": the label is log(sigma) / 4.
    "timestep_type": "discrete",
    # "log_linear": the labels do not follow the noise levels.
    "interpolation_type": "linear",
    # "learned": half of the output is not noise.
    "variance_type": None,
}
_LATENT = _LINEAR | {"beta_start": 0.00085, "beta_end": 0.012}
# Schedulers of discrete models -> their defaults (diffusers 0.42). A pipeline saves the scheduler
# that it last sampled with.
DISCRETE: dict[str, dict[str, Any]] = {
    "DDPMScheduler": _LINEAR,
    "DDPMParallelScheduler": _LINEAR,
    "DDIMScheduler": _LINEAR,
    "DDIMParallelScheduler": _LINEAR,
    "DEISMultistepScheduler": _LINEAR,
    "DPMSolverMultistepScheduler": _LINEAR,
    "DPMSolverSinglestepScheduler": _LINEAR,
    "EulerAncestralDiscreteScheduler": _LINEAR,
    "EulerDiscreteScheduler": _LINEAR,
    "LMSDiscreteScheduler": _LINEAR,
    "PNDMScheduler": _LINEAR,
    "RePaintScheduler": _LINEAR,
    "SASolverScheduler": _LINEAR,
    "UniPCMultistepScheduler": _LINEAR,
    "DPMSolverSDEScheduler": _LATENT,
    "HeunDiscreteScheduler": _LATENT,
    "KDPM2AncestralDiscreteScheduler": _LATENT,
    "KDPM2DiscreteScheduler": _LATENT,
}
# Keys that only set how those schedulers sample.
_SAMPLING = {
    *("clip_sample", "clip_sample_range", "sample_max_value", "set_alpha_to_one", "tensor_format"),
    *("thresholding", "dynamic_thresholding_ratio", "lambda_min_clipped", "skip_prk_steps", "eta"),
    *("timestep_spacing", "steps_offset", "final_sigmas_type"),
    *("solver_order", "solver_type", "algorithm_type", "predict_x0", "solver_p", "tau_func"),
    *("predictor_order", "corrector_order", "disable_corrector", "noise_sampler_seed"),
    *("lower_order_final", "euler_at_final", "sigma_min", "sigma_max"),
    *("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas"),
    # Only used with use_flow_sigmas.
    *("flow_shift", "use_dynamic_shifting", "time_shift_type", "shift_terminal"),
}
_VE = {"sigma_min": 0.01, "sigma_max": None, "sampling_eps": 1e-5}
_VE_SAMPLING = {"num_train_timesteps", "snr", "correct_steps", "tensor_format"}
_VP = {"num_train_timesteps": 2000, "beta_min": 0.1, "beta_max": 20, "sampling_eps": 1e-3}
# Keys of discrete models of which one value is supported.
_FIXED = (
    *("timestep_values", "prediction_type", "predict_epsilon", "rescale_betas_zero_snr"),
    *("use_flow_sigmas", "timestep_type", "interpolation_type"),
)
_VARIANCES = (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log")


def read_scheduler(document: dict[str, Any], file: Path) -> tuple[SDE, str]:
    """Read the SDE and the name of the parametrization from a scheduler's configuration.

    Args:
        document: The content of the file.
        file: Its path, for messages.

    Raises:
        CheckpointError: The scheduler is not supported; the message names the class or the key.
    """
    kind = document.get("_class_name")
    match kind:
        case "ScoreSdeVpScheduler":
            return _vp(Config(file, document, defaults=_VP, ignored={"tensor_format"}))
        # VeSdeScheduler is the name of 2022.
        case "ScoreSdeVeScheduler" | "VeSdeScheduler":
            return _ve(Config(file, document, defaults=_VE, ignored=_VE_SAMPLING))
        case str() if kind in DISCRETE:
            config = Config(file, document, defaults=DISCRETE[kind], ignored=_SAMPLING)
            return _discrete(config)
    raise CheckpointError(
        f"{file}: scheduler {kind!r:.60} is not supported",
        hint=f"supported: ScoreSdeVeScheduler, ScoreSdeVpScheduler, {', '.join(DISCRETE)}",
    )


def _vp(config: Config) -> tuple[SDE, str]:
    # diffusers does not use this key, and these are its two defaults. With another value, the
    # labels may not be 999 t.
    config.require("num_train_timesteps", 2000, 1000)
    betas = {"beta_min": config["beta_min"], "beta_max": config["beta_max"]}
    return VPSDE(**betas, t_eps=config["sampling_eps"]), "vp-continuous"


def _ve(config: Config) -> tuple[SDE, str]:
    # The default of diffusers, 1348, suits only one model.
    if config["sigma_max"] is None:
        raise config.refused("sigma_max", "the number it was trained with")
    sigmas = {"sigma_min": config["sigma_min"], "sigma_max": config["sigma_max"]}
    return VESDE(**sigmas, t_eps=config["sampling_eps"]), "ve-continuous"


def _discrete(config: Config) -> tuple[SDE, str]:
    config.require("num_train_timesteps", LEVELS)
    for key in _FIXED:
        config.require(key, _LINEAR[key])
    config.require("variance_type", *_VARIANCES)
    if config["trained_betas"] is not None:
        keys, (first, last) = "trained_betas", _ends(config)
    else:
        config.require("beta_schedule", "linear")
        keys, first, last = "beta_start and beta_end", config["beta_start"], config["beta_end"]
    if not 0 < first <= last < 1:
        raise CheckpointError(
            f"{config.file}: {keys} go from {first!r:.60} to {last!r:.60}, they must increase"
            " within (0, 1)"
        )
    return VPSDE(beta_min=LEVELS * first, beta_max=LEVELS * last), "vp-discrete"


def _ends(config: Config) -> tuple[float, float]:
    """The first and last trained beta. The betas must be equally spaced, in float32 precision."""
    betas = config["trained_betas"]
    if len(betas) == LEVELS:
        step = (betas[-1] - betas[0]) / (LEVELS - 1)
        line = (betas[0] + k * step for k in range(LEVELS))
        if all(math.isclose(b, x, rel_tol=1e-6) for b, x in zip(betas, line, strict=True)):
            return betas[0], betas[-1]
    raise config.refused("trained_betas", f"a list of {LEVELS} equally spaced numbers, or None,")
