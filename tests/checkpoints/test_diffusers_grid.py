"""Every configuration of diffusers gives the output of diffusers, or is refused by its key.

The reference is diffusers itself: its network with random weights, which diffusers saves, and the
noise levels of its scheduler.
"""

import inspect
import itertools
import json
import math
import random
import shutil
from collections import Counter

import numpy as np
import pytest
import torch

from diffusers_cases import (
    CASES,
    RD,
    RU,
    SA,
    SD,
    SMALL_ADM,
    SMALL_DDPM,
    SMALL_NCSNPP,
    SU,
    SV,
    A,
    D,
    U,
    V,
)
from diffusers_models import (
    assert_same_score,
    class_labels,
    dtype_of,
    edit,
    load_untried,
    network_class,
    quiet,
    random_network,
    save,
    scheduler_class,
    scheduler_of,
)
from ggf_cli.checkpoints.diffusers import read_config
from ggf_cli.checkpoints.diffusers.architecture import DEFAULTS, read_architecture
from ggf_cli.checkpoints.diffusers.names import native_name
from ggf_cli.checkpoints.diffusers.schedulers import DISCRETE, read_scheduler
from ggf_cli.checkpoints.load import load_model
from ggf_cli.errors import CheckpointError
from ggf_cli.networks import NETWORKS
from ggf_cli.parametrizations import PARAMETRIZATIONS
from ggf_cli.sde import VPSDE


@pytest.mark.parametrize("name", CASES)
def test_a_typical_configuration_is_right_or_refused_by_its_key(name, tmp_path):
    case = CASES[name]
    scheduler = scheduler_of(case.scheduler, **case.schedule)
    # It is refused before the weights are read, so none are saved.
    if case.refused:
        quiet(scheduler.save_pretrained, tmp_path)
        config = {"_class_name": "UNet2DModel", **case.network}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match=case.refused):
            load_model(tmp_path)
    else:
        network = random_network(**case.network)
        assert_same_score(save(tmp_path, network, scheduler), network, scheduler, load=load_untried)


def test_a_full_size_network_of_openai_has_the_tensors_of_diffusers(tmp_path):
    """That of openai/diffusers-cd_imagenet64_l2, which is that of guided-diffusion at 64 x 64."""
    config = {
        "attention_head_dim": 64,
        "attn_norm_num_groups": 32,
        "block_out_channels": (192, 384, 576, 768),
        "down_block_types": (RD, A, A, A),
        "downsample_type": "resnet",
        "layers_per_block": 3,
        "num_class_embeds": 1000,
        "resnet_time_scale_shift": "scale_shift",
        "sample_size": 64,
        "up_block_types": (V, V, V, RU),
        "upsample_type": "resnet",
    }
    file = tmp_path / "config.json"
    architecture = read_architecture({"_class_name": "UNet2DModel", **config}, file)
    with torch.device("meta"):
        theirs = quiet(network_class(), **config)
        ours = NETWORKS[architecture.network].load()(**architecture.config)
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == {
        native_name(name, architecture.network, 4): tensor.shape
        for name, tensor in theirs.state_dict().items()
    }
    assert sum(p.numel() for p in ours.parameters()) == 295_899_267


# --- structure ------------------------------------------------------------------------------------


def pairwise(factors, allowed):
    """Cases that together have every allowed pair of values of two factors.

    Chosen greedily: each case is the best of 40 random ones.
    """
    draw = random.Random(0)
    missing = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(factors, 2)
        for i in range(len(factors[a]))
        for j in range(len(factors[b]))
    }

    def values(choice):
        return {name: factors[name][i] for name, i in choice.items()}

    def gain(choice):
        return missing & set(itertools.combinations(choice.items(), 2))

    cases, misses = [], 0
    while missing and misses < 5:
        hoped = sorted(missing)
        draws = [
            {name: draw.randrange(len(factors[name])) for name in factors}
            | dict(draw.choice(hoped))
            for _ in range(40)
        ]
        draws = [choice for choice in draws if allowed(**values(choice))]
        if draws:
            best = max(draws, key=lambda choice: len(gain(choice)))
            missing -= gain(best)
            cases.append(values(best))
        misses = 0 if draws else misses + 1
    return cases


def at_random(factors, allowed, n):
    """Cases with each value drawn independently."""
    draw = random.Random(1)
    every = ({name: draw.choice(values) for name, values in factors.items()} for _ in iter(int, 1))
    return list(itertools.islice((case for case in every if allowed(**case)), n))


# Rounded to float32, as in diffusers.
BETAS = torch.linspace(0.0002, 0.03, 1000).tolist()
SCHEDULERS = [
    ("DDPMScheduler", {}),
    ("DPMSolverMultistepScheduler", {"beta_start": 0.0002, "beta_end": 0.03}),
    ("DDPMScheduler", {"trained_betas": BETAS}),
    ("DDIMScheduler", {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}),
    ("DDPMScheduler", {"rescale_betas_zero_snr": True, "prediction_type": "sample"}),
    ("ScoreSdeVpScheduler", {"beta_min": 0.2, "beta_max": 15}),
    ("ScoreSdeVeScheduler", {"sigma_min": 0.02, "sigma_max": 90.0}),
]
WHERE = {
    "nowhere": lambda level, n, up: False,
    "everywhere": lambda level, n, up: True,
    "down": lambda level, n, up: not up,
    "up": lambda level, n, up: up,
    "finest": lambda level, n, up: level == 0,
    "middle": lambda level, n, up: level == n // 2,
    "coarsest": lambda level, n, up: level == n - 1,
}


def blocks(where, widths, plain, attending):
    """(down_block_types, up_block_types), from a plain block type and one with attention."""
    n = len(widths)
    down = [(plain, attending)[WHERE[where](level, n, False)][0] for level in range(n)]
    up = [(plain, attending)[WHERE[where](level, n, True)][1] for level in range(n)]
    return tuple(down), tuple(up[::-1])


UNET = {
    "widths": [(4, (8, 16)), (3, (9, 18)), (1, (6, 5, 6)), (8, (24, 16)), (32, (32,))],
    "where": ["nowhere", "everywhere", "down", "up", "middle"],
    "head": [None, 3, 4, 8],
    "layers": [1, 2, 3],
    "eps": [1e-6, 1e-2],
    "padding": [0, 1],
    "cosine_first": [False, True],
    "freq_shift": [0, 1, 0.5],
    "center": [False, True],
    "middle": [(True, 1), (True, math.sqrt(2)), (False, 0.7)],
    "middle_groups": [None, 1, 2],
    "time": [None, 20],
    "channels": [1, 3],
    "size": [8, (4, 12), [12, 8]],
    # The types of the plain blocks, and how blocks with attention resample.
    "plain": [(D, U), (RD, U), (D, RU), (RD, RU)],
    "types": [("conv", "conv"), ("resnet", "conv"), (None, "resnet"), ("resnet", "resnet")],
    "shift": ["default", "scale_shift"],
    "act": ["silu", "swish", "mish", "gelu", "relu"],
    "classes": [(None, None), (None, 3), ("timestep", 2)],
    "scheduler": SCHEDULERS,
}


def unet_allowed(widths, where, head, middle, middle_groups, freq_shift, **_):
    """Whether diffusers can run a case: heads fit into their levels, groups divide the widths."""
    _, widths = widths
    attends = [
        w for i, w in enumerate(widths) for up in (False, True) if WHERE[where](i, len(widths), up)
    ]
    attends += [widths[-1]] if middle[0] else []
    return all(w >= (head or 0) for w in attends) and widths[-1] % (middle_groups or 1) == 0


def unet_config(
    widths,
    where,
    head,
    layers,
    eps,
    padding,
    cosine_first,
    freq_shift,
    center,
    middle,
    middle_groups,
    time,
    channels,
    size,
    plain,
    types,
    shift,
    act,
    classes,
):
    groups, widths = widths
    down, up = blocks(where, widths, plain, (A, V))
    return {
        "act_fn": act,
        "add_attention": middle[0],
        "attention_head_dim": head,
        "attn_norm_num_groups": middle_groups,
        "block_out_channels": widths,
        "center_input_sample": center,
        "class_embed_type": classes[0],
        "down_block_types": down,
        "downsample_padding": padding,
        "downsample_type": types[0],
        "dropout": 0.1,
        "flip_sin_to_cos": cosine_first,
        "freq_shift": freq_shift,
        "in_channels": channels,
        "layers_per_block": layers,
        "mid_block_scale_factor": middle[1],
        "norm_eps": eps,
        "norm_num_groups": groups,
        "num_class_embeds": classes[1],
        "out_channels": channels,
        "resnet_time_scale_shift": shift,
        "sample_size": size,
        "time_embedding_dim": time,
        "up_block_types": up,
        "upsample_type": types[1],
    }


# Attention normalises with 32 groups here, so a level with attention has a multiple of 32 channels.
# The groups of the blocks above it must divide the number of concatenated channels.
NCSNPP = {
    "place": [
        ((32, 64), "everywhere"),
        ((64, 32), "finest"),
        ((96, 32), "coarsest"),
        ((32, 16), "finest"),
        ((32, 64, 32), "middle"),
        ((8, 20), "nowhere"),
        ((32,), "everywhere"),
        ((160, 128), "everywhere"),
    ],
    "head": [None, 5, 8],
    "layers": [1, 2],
    "eps": [1e-6, 1e-3],
    "center": [False, True],
    "middle": [(True, 1.41421356237), (False, math.sqrt(2))],
    "size": [8, (4, 12)],
    "scheduler": [SCHEDULERS[-1], ("ScoreSdeVeScheduler", {}), SCHEDULERS[-2]],
}


def ncsnpp_config(place, head, layers, eps, center, middle, size):
    widths, where = place
    down, up = blocks(where, widths, (SD, SU), (SA, SV))
    return {
        "add_attention": middle[0],
        "attention_head_dim": head,
        "block_out_channels": widths,
        "center_input_sample": center,
        "down_block_types": down,
        "layers_per_block": layers,
        "mid_block_scale_factor": middle[1],
        "norm_eps": eps,
        "norm_num_groups": None,
        "sample_size": size,
        "time_embedding_type": "fourier",
        "up_block_types": up,
    }


def check_structure(config, case, folder, load=load_untried):
    kind, schedule = case["scheduler"]
    structure = {key: value for key, value in case.items() if key != "scheduler"}
    network, scheduler = random_network(**config(**structure)), scheduler_of(kind, **schedule)
    save(folder, network, scheduler)
    assert_same_score(folder, network, scheduler, load=load)


def as_text(case):
    return " ".join(str(v)[:30] for v in case.values())


@pytest.mark.parametrize("case", pairwise(UNET, unet_allowed), ids=as_text)
def test_every_two_keys_of_the_ddpm_network_together(case, tmp_path):
    check_structure(unet_config, case, tmp_path)


@pytest.mark.parametrize("case", pairwise(NCSNPP, lambda **_: True), ids=as_text)
def test_every_two_keys_of_ncsnpp_together(case, tmp_path):
    check_structure(ncsnpp_config, case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "case"),
    [(unet_config, case) for case in at_random(UNET, unet_allowed, 300)]
    + [(ncsnpp_config, case) for case in at_random(NCSNPP, lambda **_: True, 100)],
)
def test_any_keys_together(config, case, tmp_path):
    # Some schedulers have assumptions, of which `load_model` warns.
    check_structure(config, case, tmp_path, load=lambda folder: quiet(load_model, folder))


# --- keys -----------------------------------------------------------------------------------------

# Other valid values of every key of UNet2DModel: the supported ones, and the refused ones.
KEYS = {
    "sample_size": ([16, (4, 8)], [None]),
    "in_channels": ([], [2]),
    "out_channels": ([], [2]),
    "center_input_sample": ([True], []),
    # "learned" also needs num_train_timesteps: a typical configuration.
    "time_embedding_type": ([], ["fourier"]),
    "time_embedding_dim": ([24], []),
    "freq_shift": ([1], []),
    "flip_sin_to_cos": ([False], []),
    "down_block_types": (
        [(A, D), (D, D), (RD, D), (A, RD), ("UNetResDownBlock2D", "UNetResAttnDownBlock2D")],
        [("KDownBlock2D", D), (SD, D), (U, D), (RU, D)],
    ),
    "mid_block_type": ([None], []),
    "up_block_types": (
        [(V, V), (U, U), (RU, U), (V, RU)],
        [("KUpBlock2D", U), (SU, U), (D, U), (RD, U)],
    ),
    "block_out_channels": ([(16, 16), (4, 12)], []),
    "layers_per_block": ([2], []),
    "mid_block_scale_factor": ([2, -0.5], []),
    "downsample_padding": ([0], [2, None]),
    "downsample_type": (["resnet", None], ["fir"]),
    "upsample_type": (["resnet", None], ["fir"]),
    "dropout": ([0.5], []),
    "act_fn": (["swish", "SiLU", "mish", "relu", "gelu"], ["tanh"]),
    "attention_head_dim": ([None, 4, 5], [17, 0]),
    "norm_num_groups": ([2], []),
    "attn_norm_num_groups": ([2], []),
    "norm_eps": ([1e-2], []),
    "resnet_time_scale_shift": (["scale_shift"], ["spatial", "ada_group", None]),
    "add_attention": ([False], []),
    "class_embed_type": ([], ["timestep", "identity"]),
    "num_class_embeds": ([5], [-1]),
    "num_train_timesteps": ([500], []),
}
ADM_KEYS = KEYS | {
    "down_block_types": ([(D, A, A), (A, RD, D), (A, D, RD)], [(RD, SD, A), (RD, V, A)]),
    "up_block_types": ([(V, V, U), (RU, U, V), (U, RU, V)], [(V, V, SU), (A, V, RU)]),
    "block_out_channels": ([(16, 8, 12)], []),
    "downsample_type": (["conv", None], ["fir"]),
    "upsample_type": (["conv", None], ["fir"]),
    "attn_norm_num_groups": ([2, None], [0]),
    "resnet_time_scale_shift": (["default"], ["spatial", "ada_group", None]),
    "class_embed_type": (["timestep"], ["identity", "projection"]),
    "num_class_embeds": ([7, None], [-1, 0]),
}
SONG_KEYS = {
    "sample_size": ([16, (4, 8)], [None]),
    "in_channels": ([], [1]),
    "out_channels": ([], [1]),
    "center_input_sample": ([True], []),
    "time_embedding_type": ([], ["positional"]),
    "time_embedding_dim": ([256], [24]),
    "freq_shift": ([1], []),
    "flip_sin_to_cos": ([False], []),
    "down_block_types": ([], [(SD, SD), (A, SD)]),
    "mid_block_type": ([], [None]),
    "up_block_types": ([], [(SV, SV), (SU, V)]),
    "block_out_channels": ([(96, 32)], []),
    "layers_per_block": ([2], []),
    "mid_block_scale_factor": ([math.sqrt(2)], [1, 1.414]),
    "downsample_padding": ([0], []),
    "downsample_type": (["resnet"], []),
    "upsample_type": (["resnet"], []),
    "dropout": ([0.5], []),
    "act_fn": (["swish"], ["mish"]),
    "attention_head_dim": ([8, 5], []),
    "norm_num_groups": ([16], [8, 32]),
    "attn_norm_num_groups": ([16], [8]),
    "norm_eps": ([1e-2], []),
    "resnet_time_scale_shift": ([], ["scale_shift"]),
    "add_attention": ([False], []),
    "class_embed_type": ([], ["timestep", "identity"]),
    "num_class_embeds": ([], [5]),
    "num_train_timesteps": ([500], []),
}


# Base -> its scheduler, and the values of its keys.
BASES = {
    "ddpm": (SMALL_DDPM, "DDPMScheduler", KEYS),
    "adm": (SMALL_ADM, "DDPMScheduler", ADM_KEYS),
    "ncsnpp": (SMALL_NCSNPP, "ScoreSdeVeScheduler", SONG_KEYS),
}


@pytest.mark.parametrize("keys", [keys for _, _, keys in BASES.values()], ids=BASES)
def test_no_key_of_the_network_is_left_out(keys):
    """If this fails because diffusers has a new key: support the key or refuse it, and add it."""
    signature = inspect.signature(network_class().__init__)
    assert set(keys) == set(signature.parameters) - {"self"}
    for key, default in DEFAULTS.items():
        assert signature.parameters[key].default == default


@pytest.mark.parametrize(
    ("base", "schedule", "key", "value", "right"),
    [
        pytest.param(base, schedule, key, value, right, id=f"{name}-{key}={value}")
        for name, (base, schedule, keys) in BASES.items()
        for key, both in keys.items()
        for right, values in zip((True, False), both, strict=True)
        for value in values
    ],
)
def test_each_value_of_a_key_is_supported_or_refused(base, schedule, key, value, right, tmp_path):
    config = base | {key: value}
    scheduler = scheduler_of(schedule)
    if right:
        network = random_network(**config)
        assert_same_score(save(tmp_path, network, scheduler), network, scheduler, load=load_untried)
    else:
        # No network is saved: the configuration is refused before the weights are read.
        document = {"_class_name": "UNet2DModel", **config}
        with pytest.raises(CheckpointError, match="block_types" if "types" in key else key):
            read_architecture(document, tmp_path / "config.json")


def changed_at_random(n, seed):
    """Configurations with two to four keys of a base changed: supported, refused, or impossible."""
    draw = random.Random(seed)
    # The values that the other bases have, and some that no published configuration has.
    odd = {
        "attention_head_dim": [1, 16],
        "block_out_channels": [(8, 12), (12, 8, 20)],
        "freq_shift": [0.5],
        "layers_per_block": [3],
        "mid_block_scale_factor": [1],
        "norm_num_groups": [1, 3],
        "sample_size": [4, (12, 8), [4, 20]],
        "time_embedding_dim": [6],
    }
    for _ in range(n):
        name = draw.choice(list(BASES))
        base, schedule, keys = BASES[name]
        values = {
            key: [value for group in both for value in group] + odd.get(key, [])
            for key, both in keys.items()
        }
        keys = draw.sample([key for key in values if values[key]], draw.randint(2, 4))
        yield name, base, schedule, {key: draw.choice(values[key]) for key in keys}


def runs_in_diffusers(config):
    """The random network of a configuration, if diffusers can make it and evaluate it."""
    size = config["sample_size"]
    height, width = (size, size) if isinstance(size, int | None) else size
    try:
        network = random_network(**config)
        x = torch.zeros(1, network.config.in_channels, height or 8, width or 8)
        quiet(network, x, torch.ones(1).to(dtype_of(network)), *class_labels(network, 1))
    # diffusers raises errors of any type, from any of its layers.
    except Exception:  # noqa: BLE001
        return None
    return network


def refusal(folder):
    """The message with which `ggf` refuses a folder; empty if it reads it."""
    try:
        load_untried(folder)
    except CheckpointError as error:
        return str(error)
    return ""


def fails_without_weights(folder):
    """Whether `ggf` refuses a configuration, or cannot make or evaluate its network."""
    # `load_model` turns these errors of the network into a `CheckpointError`.
    try:
        checkpoint = read_config(folder)
        with torch.device("meta"), torch.no_grad():
            network = NETWORKS[checkpoint.network].load()(**checkpoint.network_config)
            classes = [torch.zeros(1).long()] if checkpoint.classes else []
            x = torch.zeros(1, *checkpoint.shape)
            return network(x, torch.zeros(1), *classes).shape != x.shape
    except (CheckpointError, RuntimeError, TypeError, ValueError, ArithmeticError):
        return True


def check_changes(base, schedule, changes, folder):
    """The score is that of diffusers, or an error names a changed key: "right" or "refused".

    A network that diffusers cannot make or evaluate is refused too: "impossible".
    """
    config = base | changes
    network, scheduler = runs_in_diffusers(config), scheduler_of(schedule)
    if network is None:
        quiet(scheduler.save_pretrained, folder)
        (folder / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel", **config}))
        assert fails_without_weights(folder), config
        return "impossible"
    save(folder, network, scheduler)
    if message := refusal(folder):
        named = ("block_types" if key.endswith("block_types") else key for key in changes)
        assert any(key in message for key in named), message
        return "refused"
    assert_same_score(folder, network, scheduler, load=load_untried)
    return "right"


@pytest.mark.parametrize("n", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_several_changed_keys_are_honoured_or_refused_by_name(n, tmp_path):
    outcomes = Counter()
    for i, (_, base, schedule, changes) in enumerate(changed_at_random(n, n)):
        folder = tmp_path / str(i)
        folder.mkdir()
        outcomes[check_changes(base, schedule, changes, folder)] += 1
        shutil.rmtree(folder)
    # Each kind of outcome is there, so the test does test something.
    assert outcomes["right"] > n / 5
    assert outcomes["refused"] > n / 10


# --- schedulers -----------------------------------------------------------------------------------

# Other values of each key of the schedulers: those that do not change the model, or change it in a
# supported way, and those that are refused.
MODEL_KEYS = {
    "num_train_timesteps": ([500, 4000, 20], [1, 10**6, 500.0]),
    "beta_start": ([0.0002, 0.03], [1.5, -1, True, "linear"]),
    "beta_end": ([0.03], [1.5, math.inf]),
    "beta_schedule": (["scaled_linear", "squaredcos_cap_v2"], ["exponential"]),
    "trained_betas": (
        [BETAS, [b**1.01 for b in BETAS], BETAS[::-1]],
        [BETAS[:-1], [1.0, *BETAS[1:]], ["0.1"] * 1000, 0.1, [1e-30, *BETAS[1:]]],
    ),
    "prediction_type": (["sample", "v_prediction"], ["flow_prediction"]),
    "rescale_betas_zero_snr": ([True], ["yes"]),
    "use_flow_sigmas": ([], [True]),
    "timestep_type": ([], ["continuous"]),
    "interpolation_type": ([], ["log_linear"]),
    "variance_type": (["fixed_small"], ["learned", "learned_range"]),
}
SAMPLING_KEYS = {
    "algorithm_type": ["dpmsolver++"],
    "clip_sample": [False, True],
    "clip_sample_range": [2.0],
    "corrector_order": [1],
    "disable_corrector": [[0]],
    "dynamic_thresholding_ratio": [0.9],
    "eta": [0.5],
    "euler_at_final": [True],
    "final_sigmas_type": ["sigma_min"],
    "flow_shift": [3.0],
    "lambda_min_clipped": [-5.1],
    "lower_order_final": [False, True],
    "noise_sampler_seed": [3],
    "predict_x0": [False],
    "predictor_order": [1],
    "sample_max_value": [2.0],
    "set_alpha_to_one": [False, True],
    # Other values are only valid with use_flow_sigmas.
    "shift_terminal": [None],
    "sigma_max": [10.0],
    "sigma_min": [0.1],
    "skip_prk_steps": [True],
    "solver_order": [3],
    "solver_p": [None],
    "solver_type": ["heun", "bh1"],
    "steps_offset": [1],
    "tau_func": [None],
    "thresholding": [True],
    "time_shift_type": ["linear"],
    "timestep_spacing": ["leading", "linspace", "trailing"],
    "use_beta_sigmas": [True],
    # True is only valid with use_flow_sigmas.
    "use_dynamic_shifting": [False],
    "use_exponential_sigmas": [True],
    "use_karras_sigmas": [True],
    "use_lu_lambdas": [True],
}


OWN_VALUES = {
    # It has no "linspace".
    ("DDIMInverseScheduler", "timestep_spacing"): "leading",
    ("RePaintScheduler", "trained_betas"): np.array(BETAS),
    ("SASolverScheduler", "algorithm_type"): "noise_prediction",
}


def reread(scheduler, folder, **changes):
    """The schedule of a scheduler that was saved, and then edited."""
    quiet(scheduler.save_pretrained, folder)
    file = folder / "scheduler_config.json"
    edit(file, **changes)
    return read_scheduler(json.loads(file.read_text()), file)


def keys_of(kind):
    """The keys of a scheduler's signature."""
    parameters = inspect.signature(scheduler_class(kind).__init__).parameters.values()
    return [p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name != "self"]


def assert_same_model(scheduler, folder):
    """Check that the label of each noise level is that of diffusers, within rounding."""
    schedule = reread(scheduler, folder)
    sde = schedule.sde
    quiet(scheduler.set_timesteps, 8)
    # Second-order schedulers have half steps in between. They go down, those of inversion up.
    labels = scheduler.timesteps.sort(descending=True).values[2::2]
    # These schedulers cannot add noise, or add that of other levels.
    if not hasattr(scheduler, "add_noise") or type(scheduler).__name__ == "RePaintScheduler":
        alpha_bar = scheduler.alphas_cumprod[labels].double()
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    else:
        one, nothing = torch.ones(len(labels), 1), torch.zeros(len(labels), 1)
        alpha, sigma = (
            scheduler.add_noise(*pair, labels).double().flatten()
            for pair in ((one, nothing), (nothing, one))
        )
    seen = []

    def network(x, label):
        seen.append(label)
        return x

    score = PARAMETRIZATIONS[schedule.parametrization](network, sde, schedule.config)
    score(torch.ones(len(labels), 1), sde.time_at(torch.log(alpha / sigma)))
    torch.testing.assert_close(seen[0], labels.double(), atol=1, rtol=0)


@pytest.mark.parametrize("kind", DISCRETE)
def test_each_key_of_a_scheduler_is_supported_refused_or_ignored(kind, tmp_path):
    """If this fails because diffusers has a new key: support the key or refuse it, and add it."""
    defaults = scheduler_of(kind)
    assert_same_model(defaults, tmp_path)
    for key in keys_of(kind):
        assert key in MODEL_KEYS or key in SAMPLING_KEYS, f"{kind} has a new key {key}"
        same, refused = MODEL_KEYS.get(key) or (SAMPLING_KEYS[key], [])
        for value in same:
            value = OWN_VALUES.get((kind, key), value)
            assert_same_model(scheduler_of(kind, **{key: value}), tmp_path)
        for value in refused:
            with pytest.raises(CheckpointError, match=key):
                reread(defaults, tmp_path, **{key: value})


@pytest.mark.parametrize("kind", ["ScoreSdeVeScheduler", "ScoreSdeVpScheduler"])
def test_no_key_of_a_continuous_scheduler_is_left_out(kind, tmp_path):
    read = {
        "sigma_min": 0.02,
        "sigma_max": 90.0,
        "sampling_eps": 1e-4,
        "beta_min": 0.2,
        "beta_max": 15,
    }
    ignored = {"num_train_timesteps": 1000, "snr": 0.1, "correct_steps": 2}
    assert set(keys_of(kind)) <= set(read) | set(ignored)
    mine = {key: value for key, value in read.items() if key in keys_of(kind)}
    scheduler = scheduler_of(kind, **mine, num_train_timesteps=1000)
    sde = reread(scheduler, tmp_path).sde
    names = {"sampling_eps": "t_eps"}
    assert (
        sde.to_dict().items() >= {names.get(key, key): value for key, value in mine.items()}.items()
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"_class_name": "ScoreSdeVpScheduler", "num_train_timesteps": 500}, "num_train_timesteps"),
        ({"_class_name": "ScoreSdeVpScheduler", "beta_schedule": "linear"}, "beta_schedule"),
        ({"_class_name": "ScoreSdeVeScheduler"}, "sigma_max"),
        ({"_class_name": "DDPMScheduler", "predict_epsilon": False}, "predict_epsilon"),
        ({"_class_name": "DDPMScheduler", "timestep_values": [1, 2]}, "timestep_values"),
        ({"_class_name": "DDPMScheduler", "snr_shift_scale": 3.0}, "snr_shift_scale"),
        ({"_class_name": "LCMScheduler"}, "LCMScheduler"),
        ({"_class_name": "EDMEulerScheduler"}, "EDMEulerScheduler"),
        ({"_class_name": ["DDPMScheduler"]}, "DDPMScheduler"),
    ],
)
def test_unsupported_schedulers_are_refused(changes, named, tmp_path):
    with pytest.raises(CheckpointError, match=named):
        read_scheduler(changes, tmp_path / "scheduler_config.json")


SCHEDULES = [
    {"beta_schedule": "linear", "num_train_timesteps": 500},
    {"beta_schedule": "linear", "beta_start": 0.03},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 4000},
    {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 10},
    {"beta_schedule": "sigmoid"},
    {"beta_schedule": "laplace"},
    {"beta_schedule": "linear", "rescale_betas_zero_snr": True},
    {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True},
    {"trained_betas": [1e-4 + 1e-5 * k**1.5 for k in range(50)], "num_train_timesteps": 50},
    {"trained_betas": [1e-5, 2e-5], "num_train_timesteps": 2},
]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=as_text)
def test_the_sde_of_any_schedule_ends_where_its_levels_end(schedule, prediction, tmp_path):
    """Every level has its own label, and no time lies beyond the trained levels."""
    scheduler = scheduler_of("DDPMScheduler", **schedule, prediction_type=prediction)
    found = reread(scheduler, tmp_path)
    assert (found.parametrization, found.config["prediction"]) == ("vp-table", prediction)
    alpha_bar = scheduler.alphas_cumprod.double()
    alpha_bar = alpha_bar[alpha_bar > 0]
    assert found.zero_levels == len(scheduler.betas) - len(alpha_bar)
    levels = torch.log(alpha_bar / (1 - alpha_bar)) / 2
    ends = torch.tensor([found.sde.t_eps, found.sde.T], dtype=torch.float64)
    torch.testing.assert_close(found.sde.half_log_snr(ends), levels[[0, -1]], rtol=1e-9, atol=1e-9)
    seen = []
    score = PARAMETRIZATIONS["vp-table"](lambda x, k: seen.append(k) or x, found.sde, found.config)
    score(torch.zeros(len(levels), 1), found.sde.time_at(levels))
    torch.testing.assert_close(seen[0], torch.arange(len(levels)).double(), rtol=0, atol=1e-6)


def test_absent_keys_of_a_scheduler_have_the_defaults_of_diffusers(tmp_path):
    file = tmp_path / "scheduler_config.json"
    assert read_scheduler({"_class_name": "DDPMScheduler"}, file).sde == VPSDE()
    sde = read_scheduler({"_class_name": "HeunDiscreteScheduler"}, file).sde
    assert (sde.beta_min, sde.beta_max) == (0.85, 12.0)
    for kind, defaults in DISCRETE.items():
        parameters = inspect.signature(scheduler_class(kind).__init__).parameters
        assert all(
            parameters[key].default == defaults[key]
            for key in defaults
            if key in parameters and key != "variance_type"
        )
