"""Configurations of published diffusers models with few channels, and tensor names of 2022."""

# As google/ncsnpp-church-256, with fewer channels and levels.
NCSNPP_256 = {
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": (64, 64, 128, 128),
    "center_input_sample": True,
    "down_block_types": (
        "SkipDownBlock2D",
        "SkipDownBlock2D",
        "AttnSkipDownBlock2D",
        "SkipDownBlock2D",
    ),
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 3,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1.41421356237,
    "norm_eps": 1e-6,
    "norm_num_groups": None,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "fourier",
    "up_block_types": ("SkipUpBlock2D", "AttnSkipUpBlock2D", "SkipUpBlock2D", "SkipUpBlock2D"),
}
VE_2022 = {
    "_class_name": "VeSdeScheduler",
    "sampling_eps": 1e-5,
    "sigma_max": 380,
    "sigma_min": 0.01,
    "snr": 0.075,
}
FASHION = {
    "sample_size": 28,
    "in_channels": 1,
    "out_channels": 1,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [32, 64, 64],
    "layers_per_block": 1,
    "attention_head_dim": None,
    "norm_num_groups": 8,
}
SCHEDULER = {
    "_class_name": "ScoreSdeVpScheduler",
    "beta_min": 0.1,
    "beta_max": 20,
    "sampling_eps": 1e-3,
}


def spelling_of_2022(name):
    """The name that diffusers used in 2022 for a tensor of an attention layer."""
    for now, then in [
        ("to_q", "query"),
        ("to_k", "key"),
        ("to_v", "value"),
        ("to_out.0", "proj_attn"),
    ]:
        name = name.replace(now, then)
    return name


def published(network):
    """The tensors of a network by their names of 2022; the frequencies are there twice."""
    tensors = {spelling_of_2022(n): t for n, t in network.state_dict().items()}
    return {**tensors, "time_proj.W": tensors["time_proj.weight"]}
