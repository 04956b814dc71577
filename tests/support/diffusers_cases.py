"""Configurations of diffusers models: the structure of public ones, with few channels and pixels.

Each case has its source, the arguments of `UNet2DModel`, the class and the arguments of its
scheduler, and the key that `ggf` refuses, if any.
"""

import math
from dataclasses import dataclass, field

D, A, U, V = "DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D"
RD, RU = "ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"
SD, SA, SU, SV = "SkipDownBlock2D", "AttnSkipDownBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D"

RGB = {"in_channels": 3, "out_channels": 3}
GREY = {"in_channels": 1, "out_channels": 1}
# As google/ddpm-*, the weights of Ho et al.
HO = {
    **RGB,
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "sample_size": 32,
}
# As google/ncsnpp-*, the weights of Song et al.
SONG = {
    **RGB,
    "attention_head_dim": None,
    "mid_block_scale_factor": 1.41421356237,
    "norm_eps": 1e-6,
    "norm_num_groups": None,
    "sample_size": 32,
    "time_embedding_type": "fourier",
}
SIX = {
    "block_out_channels": (32, 32, 64, 64, 96, 96),
    "down_block_types": (D, D, D, D, A, D),
    "up_block_types": (U, V, U, U, U, U),
}
# As train_unconditional.py of diffusers.
SCRIPT = {**RGB, **SIX, "layers_per_block": 2, "sample_size": 32}
# As the notebooks of the diffusion course.
COURSE = {
    **RGB,
    "block_out_channels": (32, 64, 64, 96),
    "down_block_types": (D, D, A, A),
    "layers_per_block": 2,
    "sample_size": 16,
    "up_block_types": (V, V, U, U),
}
COURSE_3 = {
    "block_out_channels": (32, 64, 64),
    "down_block_types": (D, A, A),
    "layers_per_block": 2,
    "sample_size": 28,
    "up_block_types": (V, V, U),
}
# As the tests of diffusers.
SUITE = {
    **RGB,
    "block_out_channels": (4, 8),
    "down_block_types": (D, A),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 8,
    "up_block_types": (V, U),
}
# A network of each family with few parameters.
SMALL_DDPM = {
    "block_out_channels": (8, 16),
    "down_block_types": (D, A),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 8,
    "up_block_types": (V, U),
}
# As openai/diffusers-cd_*, the weights of Dhariwal and Nichol, but for the consistency.
SMALL_ADM = {
    "attention_head_dim": 8,
    "attn_norm_num_groups": 4,
    "block_out_channels": (8, 16, 16),
    "down_block_types": (RD, A, A),
    "downsample_type": "resnet",
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "num_class_embeds": 5,
    "resnet_time_scale_shift": "scale_shift",
    "sample_size": (8, 12),
    "up_block_types": (V, V, RU),
    "upsample_type": "resnet",
}
SMALL_NCSNPP = {
    "attention_head_dim": None,
    "block_out_channels": (64, 64),
    "down_block_types": (SA, SD),
    "layers_per_block": 1,
    "mid_block_scale_factor": 1.41421356237,
    "norm_num_groups": None,
    "sample_size": 8,
    "time_embedding_type": "fourier",
    "up_block_types": (SU, SV),
}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
DDPM = "DDPMScheduler"


@dataclass(frozen=True)
class Case:
    """One configuration; `refused` is text of the error message, usually the key."""

    source: str
    network: dict
    scheduler: str = DDPM
    schedule: dict = field(default_factory=dict)
    refused: str = ""


CASES = {
    "ddpm-cifar10": Case(
        "google/ddpm-cifar10-32",
        {
            **HO,
            "block_out_channels": (32, 64, 64, 64),
            "down_block_types": (D, A, D, D),
            "up_block_types": (U, U, V, U),
        },
        schedule={"variance_type": "fixed_large"},
    ),
    "ddpm-cat": Case("google/ddpm-cat-256", {**HO, **SIX}),
    "script": Case("train_unconditional.py and the models pushed by it", SCRIPT),
    "script-cosine": Case(
        "... --ddpm_beta_schedule squaredcos_cap_v2",
        SCRIPT,
        schedule=COSINE,
    ),
    "script-500": Case(
        "... --ddpm_num_steps 500",
        SCRIPT,
        schedule={"num_train_timesteps": 500},
    ),
    "course-betas": Case(
        "an exercise of unit 1", COURSE, schedule={"beta_start": 0.001, "beta_end": 0.004}
    ),
    "course-mnist": Case("unit 1, notebook 2", {**COURSE_3, **GREY}),
    "course-classes": Case(
        "unit 2, notebook 2: the class as channels of the input",
        {**COURSE_3, "in_channels": 5, "out_channels": 1},
        schedule=COSINE,
        refused="out_channels",
    ),
    "tuple-32": Case(
        "scripts for MNIST",
        {**GREY, "block_out_channels": (32, 64, 96, 96), "sample_size": (32, 32)},
    ),
    "tuple-28": Case("scripts for MNIST", {**COURSE_3, **GREY, "sample_size": (28, 28)}),
    "suite-ddpm": Case("tests/pipelines/ddpm: heads of 8 beside a level of 4", SUITE),
    "suite-ddim": Case("tests/pipelines/ddim", SUITE, "DDIMScheduler"),
    "suite-pndm": Case(
        "tests/pipelines/pndm",
        {
            **SUITE,
            "block_out_channels": (32, 64),
            "layers_per_block": 2,
            "norm_num_groups": 32,
            "sample_size": 32,
        },
        "PNDMScheduler",
    ),
    "suite-heads": Case(
        "tests/models: heads of 3 in 8 channels",
        {**SUITE, "attention_head_dim": 3, "norm_num_groups": 2},
    ),
    "suite-attention-groups": Case(
        "tests/models",
        {**SUITE, "attention_head_dim": 4, "attn_norm_num_groups": 4, "norm_num_groups": 2},
    ),
    "suite-no-middle": Case("tests/models", {**SUITE, "mid_block_type": None}),
    "suite-ldm": Case(
        "tests/models: no attention outside of the middle",
        {
            "attention_head_dim": 32,
            "block_out_channels": (32, 64),
            "down_block_types": (D, D),
            "in_channels": 4,
            "out_channels": 4,
            "sample_size": 32,
            "up_block_types": (U, U),
        },
    ),
    "ncsnpp-sqrt2": Case(
        "tests/models: attention of 64 channels",
        {
            **SONG,
            "block_out_channels": (32, 64, 64, 64),
            "down_block_types": (SD, SA, SD, SD),
            "layers_per_block": 1,
            "mid_block_scale_factor": math.sqrt(2),
            "up_block_types": (SU, SU, SV, SU),
        },
        "ScoreSdeVeScheduler",
    ),
    "ncsnpp-celebahq": Case(
        "google/ncsnpp-celebahq-256",
        {
            **SONG,
            "block_out_channels": (16, 16, 32, 32, 32, 32, 32),
            "center_input_sample": True,
            "down_block_types": (SD, SD, SD, SD, SA, SD, SD),
            "sample_size": 64,
            "up_block_types": (SU, SU, SV, SU, SU, SU, SU),
        },
        "ScoreSdeVeScheduler",
        {"sigma_min": 0.01, "sigma_max": 348.0},
    ),
    "two-levels": Case(
        "a public script",
        {
            **RGB,
            "block_out_channels": (32, 32),
            "down_block_types": (D, A),
            "sample_size": 32,
            "up_block_types": (V, V),
        },
    ),
    "class-timestep": Case(
        "a public script",
        {
            "block_out_channels": (32, 64, 96, 96),
            "class_embed_type": "timestep",
            "in_channels": 4,
            "out_channels": 4,
            "sample_size": 32,
        },
        refused="number of classes is not stated",
    ),
    "class-timestep-count": Case(
        "the same, with the number of classes",
        {**COURSE, "class_embed_type": "timestep", "num_class_embeds": 7},
    ),
    "class-embedding": Case("a public script", {**COURSE, "num_class_embeds": 10}),
    "scale-shift": Case(
        "a model of weather",
        {**COURSE, "attention_head_dim": 32, "resnet_time_scale_shift": "scale_shift"},
    ),
    "adm": Case(
        "the network of openai/diffusers-cd_imagenet64_l2, as a diffusion model",
        {
            **RGB,
            "attention_head_dim": 16,
            "attn_norm_num_groups": 32,
            "block_out_channels": (32, 64, 96, 128),
            "down_block_types": (RD, A, A, A),
            "downsample_type": "resnet",
            "num_class_embeds": 10,
            "resnet_time_scale_shift": "scale_shift",
            "sample_size": 16,
            "up_block_types": (V, V, V, RU),
            "upsample_type": "resnet",
        },
        schedule=COSINE,
    ),
    "adm-resampling": Case(
        "of no public model: all levels resample in residual blocks",
        {
            **RGB,
            "block_out_channels": (32, 64),
            "down_block_types": (RD, RD),
            "sample_size": (16, 24),
            "up_block_types": (RU, RU),
        },
    ),
    "consistency": Case(
        "openai/diffusers-cd_bedroom256",
        {
            **RGB,
            "block_out_channels": (32, 64),
            "down_block_types": ("ResnetDownsampleBlock2D", A),
            "downsample_type": "resnet",
            "sample_size": 32,
            "up_block_types": (V, "ResnetUpsampleBlock2D"),
            "upsample_type": "resnet",
        },
        "CMStochasticIterativeScheduler",
        refused="consistency model",
    ),
    "groups-8": Case(
        "a public script",
        {
            **RGB,
            "block_out_channels": (32, 64, 96),
            "down_block_types": (D, D, D),
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "sample_size": 32,
            "up_block_types": (U, U, U),
        },
    ),
    "no-mid-attention": Case("a public script", {**COURSE, "add_attention": False, "dropout": 0.1}),
    "mish": Case("a public script", {**COURSE, "act_fn": "mish"}),
    "time-width": Case("a public script", {**COURSE, "time_embedding_dim": 256}),
    "time-learned": Case(
        "a public script",
        {**COURSE, "num_train_timesteps": 1000, "time_embedding_type": "learned"},
    ),
    "velocity": Case(
        "a public script",
        COURSE,
        schedule={"prediction_type": "v_prediction"},
    ),
    "zero-snr": Case(
        "a public script",
        COURSE,
        schedule={"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    ),
    "trained-betas": Case(
        "a wrapper of guided-diffusion: a cosine, as a list",
        COURSE,
        schedule={
            "trained_betas": [1e-4 + 0.02 * math.sin(math.pi * k / 2000) ** 2 for k in range(1000)]
        },
    ),
    "sigmoid": Case("a public script", COURSE, schedule={"beta_schedule": "sigmoid"}),
    "thresholding": Case(
        "a public script",
        COURSE,
        schedule={
            "clip_sample": False,
            "clip_sample_range": 2.0,
            "thresholding": True,
            "variance_type": "fixed_large_log",
        },
    ),
    "ddim": Case("DDIMPipeline, saved after training", COURSE, "DDIMScheduler"),
    "pndm": Case("PNDMPipeline", COURSE, "PNDMScheduler"),
    "parallel": Case("DDPMParallelScheduler", COURSE, "DDPMParallelScheduler"),
    "karras-ve": Case("KarrasVePipeline", COURSE, "KarrasVeScheduler", refused="KarrasVeScheduler"),
    "sde-vp": Case("ScoreSdeVpScheduler as it starts", COURSE, "ScoreSdeVpScheduler"),
    "flow-matching": Case(
        "a public script",
        COURSE,
        "FlowMatchEulerDiscreteScheduler",
        refused="FlowMatchEulerDiscreteScheduler",
    ),
}
