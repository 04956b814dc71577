"""Read the configuration of a diffusers scheduler: the SDE and the parametrization of the network.

Only the training settings of a scheduler are part of the model: the noise levels, the prediction
type and the label of each level. The other keys set how diffusers samples, and are ignored. So is
the class: a pipeline saves the scheduler that it last sampled with.

A discrete model with 1000 linear betas that predicts the noise is "vp-discrete", with the SDE that
DDPM discretises. Any other is "vp-table": the noise levels are a table, and the SDE ends where the
table ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch.nn.functional as F

from ggf_cli.checkpoints.diffusers.betas import given_betas, is_beta, trained_levels
from ggf_cli.checkpoints.diffusers.configs import Config
from ggf_cli.errors import CheckpointError
from ggf_cli.parametrizations import log_snr_table
from ggf_cli.sde import SDE, VESDE, VPSDE

# Noise levels of DDPM.
LEVELS = 1000
# beta_min of the SDE of a table; DDPM's.
BETA_MIN = 0.1

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
    "DDIMInverseScheduler": _LINEAR,
    "DDIMParallelScheduler": _LINEAR,
    "DEISMultistepScheduler": _LINEAR,
    "DPMSolverMultistepScheduler": _LINEAR,
    "DPMSolverMultistepInverseScheduler": _LINEAR,
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
_FIXED = ("timestep_values", "use_flow_sigmas", "timestep_type", "interpolation_type")
_PREDICTIONS = ("epsilon", "v_prediction", "sample")
_VARIANCES = (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log")
# Starts of the names of schedulers whose networks have another parametrization -> what they are.
_OTHERS = {
    "CMStochasticIterative": "a consistency model, which maps noise to data in one step",
    "EDM": "a model in EDM's preconditioning",
    "CosineDPMSolver": "a model in EDM's preconditioning",
    "FlowM": "a flow matching model",
    "LCM": "a distilled consistency model, which maps noise to data in a few steps",
    "TCD": "a distilled consistency model, which maps noise to data in a few steps",
    "SCM": "a distilled consistency model, which maps noise to data in a few steps",
}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What a scheduler states of a model.

    Attributes:
        sde: The SDE.
        parametrization: A key of PARAMETRIZATIONS.
        config: The further arguments of the parametrization.
        zero_levels: How many levels at the end have no data left, and are not sampled.
        labels: The number of labels 0, 1, 2 ... of a discrete model; otherwise None.
    """

    sde: SDE
    parametrization: str
    config: dict[str, Any] = field(default_factory=dict)
    zero_levels: int = 0
    labels: int | None = None


def check_kind(document: dict[str, Any], file: Path) -> None:
    """Refuse a scheduler whose networks do not give the score in a supported way.

    Raises:
        CheckpointError: Its class is known for other models; the message says which.
    """
    kind = document.get("_class_name")
    # Its networks are those of ScoreSdeVeScheduler, but nothing is trained with it: its noise
    # levels are the default of a sampler, and the published networks have others.
    if kind == "KarrasVeScheduler":
        raise CheckpointError(
            f"{file}: a KarrasVeScheduler only states how to sample, not the noise levels of the"
            " training",
            hint='if the network is NCSN++, replace the file by {"_class_name":'
            ' "ScoreSdeVeScheduler", "sigma_min": A, "sigma_max": B}, with the noise levels of its'
            " training, for images in [0, 1]",
        )
    for start, what in _OTHERS.items():
        if isinstance(kind, str) and kind.startswith(start):
            raise CheckpointError(
                f"{file}: the network of a {kind:.60} is {what}, which ggf cannot sample from this"
                " folder",
                hint="from Python, a ScoreModel can be made of any network that predicts data,"
                " noise or a velocity: see docs/guide/own-models.md",
            )


def read_scheduler(document: dict[str, Any], file: Path) -> Schedule:
    """Read the SDE and the parametrization from a scheduler's configuration.

    Args:
        document: The content of the file.
        file: Its path, for messages.

    Raises:
        CheckpointError: The scheduler is not supported; the message names the class or the key.
    """
    check_kind(document, file)
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


def _vp(config: Config) -> Schedule:
    # diffusers does not use this key, and these are its two defaults. With another value, the
    # labels may not be 999 t.
    config.require("num_train_timesteps", 2000, 1000)
    betas = {"beta_min": config["beta_min"], "beta_max": config["beta_max"]}
    sde = VPSDE(**betas, t_eps=config["sampling_eps"])
    return Schedule(sde=sde, parametrization="vp-continuous")


def _ve(config: Config) -> Schedule:
    # The default of diffusers, 1348, suits only one model.
    if config["sigma_max"] is None:
        raise config.refused("sigma_max", "the number it was trained with")
    sigmas = {"sigma_min": config["sigma_min"], "sigma_max": config["sigma_max"]}
    sde = VESDE(**sigmas, t_eps=config["sampling_eps"])
    return Schedule(sde=sde, parametrization="ve-continuous")


def _discrete(config: Config) -> Schedule:
    for key in _FIXED:
        config.require(key, _LINEAR[key])
    if config["predict_epsilon"] is not True:
        raise CheckpointError(
            f"{config.file}: predict_epsilon is {config['predict_epsilon']!r:.60}, a key of 2022"
            " that diffusers no longer reads",
            hint='state it as prediction_type: "sample" if the network predicts the data,'
            ' "epsilon" if the noise',
        )
    config.require("prediction_type", *_PREDICTIONS)
    config.require("rescale_betas_zero_snr", False, True)
    config.require("variance_type", *_VARIANCES)
    ends = _linear_ends(config)
    if ends and config["prediction_type"] == "epsilon" and not config["rescale_betas_zero_snr"]:
        sde = VPSDE(beta_min=LEVELS * ends[0], beta_max=LEVELS * ends[1])
        return Schedule(sde=sde, parametrization="vp-discrete", labels=LEVELS)
    return _table(trained_levels(config), config["prediction_type"])


def _table(betas: list[float], prediction: str) -> Schedule:
    """The schedule of a model with any betas: its SDE starts and ends where the levels do."""
    table = log_snr_table(betas)
    # log alpha_bar(T) = -(beta_min + beta_max) / 2.
    total = -2 * float(F.logsigmoid(2 * table[-1]))
    beta_min = min(BETA_MIN, total / 2)
    sde = VPSDE(beta_min=beta_min, beta_max=total - beta_min)
    return Schedule(
        sde=replace(sde, t_eps=float(sde.time_at(table[:1]))),
        parametrization="vp-table",
        config={"betas": betas, "prediction": prediction},
        zero_levels=len(betas) - len(table),
        labels=len(betas),
    )


def _linear_ends(config: Config) -> tuple[float, float] | None:
    """The first and last of 1000 rising, equally spaced betas; None for others."""
    if config["num_train_timesteps"] != LEVELS:
        return None
    if config["trained_betas"] is not None:
        betas = given_betas(config)
        first, last = betas[0], betas[-1]
        step = (last - first) / (LEVELS - 1)
        line = (first + k * step for k in range(LEVELS))
        # In float32 precision.
        if not all(math.isclose(b, x, rel_tol=1e-6) for b, x in zip(betas, line, strict=True)):
            return None
    elif config["beta_schedule"] == "linear":
        first, last = config["beta_start"], config["beta_end"]
    else:
        return None
    return (first, last) if is_beta(first) and is_beta(last) and first <= last else None
