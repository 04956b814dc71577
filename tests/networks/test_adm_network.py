"""ADM and its reader: parity with recordings of OpenAI's code and with diffusers."""

import warnings

import pytest
import torch

from adm_files import RECORDED, adm_config, adm_file
from ggf_cli.checkpoints.adm.names import renamed
from ggf_cli.checkpoints.adm.published import PUBLISHED
from ggf_cli.checkpoints.load import load_model
from ggf_cli.errors import CheckpointError
from ggf_cli.networks.adm import ADM, ADMConfig
from ggf_cli.noise import Noise
from ggf_cli.parametrizations import log_snr_table
from ggf_cli.sde import expand_as_batch

TINY = {
    "image_channels": 3,
    "channels": (32, 64),
    "attention_down": (False, True),
    "attention_up": (True, False),
    "blocks": 1,
}


def betas_of(settings):
    """The betas of OpenAI's code, computed in another way than by ggf."""
    steps = settings.get("diffusion_steps", 1000)
    if settings["noise_schedule"] == "linear":
        return torch.linspace(0.1 / steps, 20 / steps, steps, dtype=torch.float64)
    s = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    alpha_bar = torch.cos((s + 0.008) / 1.008 * torch.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


def inputs_and_score(case, model):
    """x and t at which the network gets the recorded inputs, and the recorded score there."""
    labels = torch.tensor(case["labels"], dtype=torch.float64)
    index = torch.arange(len(labels))
    x = Noise(seed=1, shape=model.shape)(index, 0 * index)
    output = torch.zeros_like(x)
    output[:, :, ::2, ::2] = torch.tensor(case["every_2nd_pixel"]).reshape(len(x), 3, 4, 4)
    if case["settings"]["noise_schedule"] == "edm":
        t = torch.exp(labels / 250)
        # In float64: at small s, denoised - x has few digits in float32.
        s = expand_as_batch(t, x.double())
        x = x * torch.sqrt(s**2 + 0.25)
        denoised = 0.25 * x / (s**2 + 0.25) + 0.5 * s / torch.sqrt(s**2 + 0.25) * output
        return x.float(), t, (denoised - x) / s**2
    steps = case["settings"].get("diffusion_steps", 1000)
    scale = 1000 / steps if case["settings"].get("rescale_timesteps") else 1
    levels = log_snr_table(betas_of(case["settings"]).tolist())
    t = model.sde.time_at(levels[(labels / scale).round().long()])
    alpha, sigma = (expand_as_batch(v(t), x) for v in (model.sde.alpha, model.sde.sigma))
    if case["settings"].get("predict_xstart"):
        return x, t, (alpha * output - x) / sigma**2
    return x, t, -output / sigma


@pytest.mark.parametrize("name", RECORDED)
def test_a_file_gives_the_score_of_openais_code(name, tmp_path):
    """Relative error at most 1e-5 at the first, second, middle and last noise levels."""
    case = RECORDED[name]
    config = adm_config(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_model(adm_file(name, tmp_path / "model.pt"), device="cpu", config=config)
    x, t, expected = inputs_and_score(case, model)
    classes = () if case["classes"] is None else (torch.tensor(case["classes"]),)
    assert model.conditional == bool(classes)
    found = model.score(x, t, *classes)
    for row in range(len(x)):
        error = (found[row] - expected[row])[:, ::2, ::2].abs().max()
        assert float(error / expected[row, :, ::2, ::2].abs().max()) <= 1e-5


def test_labels_of_classes_matter_and_are_needed(tmp_path):
    name = "128x128_diffusion"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = adm_file(name, tmp_path / "model.pt")
        model = load_model(path, device="cpu", config=adm_config(name))
    x, t = torch.randn(1, 3, 8, 8).expand(2, 3, 8, 8), torch.full((2,), 0.5, dtype=torch.float64)
    different = model.score(x, t, torch.tensor([3, 7]))
    assert not torch.allclose(different[0], different[1], rtol=1e-2)
    with pytest.raises(ValueError, match="class labels"):
        model.score(x, t)


def test_a_row_does_not_depend_on_the_others():
    torch.manual_seed(0)
    network = ADM(**TINY, classes=5, heads=2).eval()
    x, label, classes = torch.randn(5, 3, 8, 8), torch.linspace(0, 999, 5), torch.arange(5)
    with torch.no_grad():
        together = network(x, label, classes)
        for i in range(5):
            alone = network(x[i : i + 1], label[i : i + 1], classes[i : i + 1])
            assert torch.allclose(alone[0], together[i], rtol=1e-4, atol=1e-5)


DIFFUSERS = {
    "sample_size": 8,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (32, 64),
    "layers_per_block": 2,
    "norm_eps": 1e-5,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
}
# As in the consistency models of OpenAI in diffusers layout, and with other parts.
OF_DIFFUSERS = {
    "resnet": (
        {
            "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
            "downsample_type": "resnet",
            "upsample_type": "resnet",
            "resnet_time_scale_shift": "scale_shift",
            "attention_head_dim": 16,
            "num_class_embeds": 10,
            "attn_norm_num_groups": 16,
        },
        {"classes": 10, "head_channels": 16, "attention_mid_groups": 16},
    ),
    "convolutions": (
        {
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "resnet_time_scale_shift": "scale_shift",
            "attention_head_dim": 8,
            "downsample_padding": 0,
            "freq_shift": 1,
            "flip_sin_to_cos": False,
        },
        {
            "head_channels": 8,
            # With scale_shift, the middle attention has a normalisation only if its groups are
            # stated.
            "attention_mid_groups": 0,
            "resample": "conv",
            "downsample_padding": 0,
            "time_freq_shift": 1.0,
            "time_cosine_first": False,
        },
    ),
    "without scale_shift": (
        {
            "down_block_types": ("ResnetDownsampleBlock2D", "ResnetDownsampleBlock2D"),
            "up_block_types": ("ResnetUpsampleBlock2D", "ResnetUpsampleBlock2D"),
            "attention_head_dim": 64,
            "add_attention": False,
        },
        {
            "scale_shift": False,
            "attention_down": (False, False),
            "attention_up": (False, False),
            "attention_mid": False,
        },
    ),
}
# Parts of names in diffusers -> in ADM.
NAMES = (
    ("time_embedding.linear_1", "time_in"),
    ("time_embedding.linear_2", "time_out"),
    ("class_embedding", "classes"),
    ("conv_norm_out", "norm_out"),
    ("mid_block.resnets.0", "mid_in"),
    ("mid_block.attentions.0", "mid_attention"),
    ("mid_block.resnets.1", "mid_out"),
    ("down_blocks", "down"),
    ("up_blocks", "up"),
    ("resnets", "blocks"),
    ("downsamplers.0", "resample"),
    ("upsamplers.0", "resample"),
    ("time_emb_proj", "time"),
    ("conv_shortcut", "shortcut"),
    ("group_norm", "norm"),
    ("to_q", "query"),
    ("to_k", "key"),
    ("to_v", "value"),
    ("to_out.0", "out"),
    ("norm1", "norm_1"),
    ("norm2", "norm_2"),
    ("conv1", "conv_1"),
    ("conv2", "conv_2"),
)


@pytest.mark.parametrize("variant", OF_DIFFUSERS)
def test_random_weights_give_the_output_of_diffusers(variant):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import UNet2DModel

    theirs_config, ours_config = OF_DIFFUSERS[variant]
    torch.manual_seed(1)
    theirs = UNet2DModel(**DIFFUSERS | theirs_config).eval()
    # Weights of zeros and ones would hide mistakes.
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    tensors = {}
    for name, tensor in theirs.state_dict().items():
        for their, our in NAMES:
            name = name.replace(their, our)
        tensors[name] = tensor
    ours = ADM(**TINY | {"blocks": 2} | ours_config).eval()
    ours.load_state_dict(tensors)
    x, label = torch.randn(4, 3, 8, 8), torch.tensor([0.0, 10.0, 500.5, 999.0])
    classes = torch.tensor([1, 2, 3, 9]) if "classes" in ours_config else None
    with torch.no_grad():
        expected = theirs(x, label, classes).sample
        found = ours(x, label.double(), *(() if classes is None else (classes,)))
    for row in range(4):
        error = (found[row] - expected[row]).abs().max() / expected[row].abs().max()
        assert float(error) <= 1e-5


# Parameters of OpenAI's networks at full size, without the outputs for the variance: counted with
# their code.
COUNTS = {
    "64x64_diffusion": 295_899_267,
    "128x128_diffusion": 421_522_691,
    "256x256_diffusion": 553_831_171,
    "256x256_diffusion_uncond": 552_807_171,
    "512x512_diffusion": 558_994_179,
    "lsun_bedroom": 552_807_171,
    "lsun_cat": 552_807_171,
    "lsun_horse": 552_807_171,
    "lsun_horse_nodropout": 552_807_171,
    "ffhq_10m": 93_560_451,
    "cifar10_uncond_50M_500K": 52_542_979,
    "cifar10_uncond_vlb_50M_500K": 52_542_979,
    "imagenet64_uncond_100M_1500K": 121_060_483,
    "imagenet64_uncond_vlb_100M_1500K": 121_060_483,
    "imagenet64_cond_270M_250K": 273_044_163,
    "lsun_uncond_100M_1200K_bs128": 113_673_219,
    "lsun_uncond_100M_2400K_bs64": 113_673_219,
    "edm_imagenet64_ema": 295_899_267,
    "edm_bedroom256_ema": 526_304_771,
    "edm_cat256_ema": 526_304_771,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_their_number_of_parameters(name):
    settings = PUBLISHED[name].settings
    heads = {
        "heads": settings.get("num_heads"),
        "head_channels": settings.get("num_head_channels"),
    }
    with torch.device("meta"):
        network = ADM(**PUBLISHED[name].structure.network_config(), **heads)
    assert sum(p.numel() for p in network.parameters()) == COUNTS[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "3 heads do not divide a level of 64"),
        ({"head_channels": 24}, "heads of 24 channels do not divide"),
        ({"heads": 2, "head_channels": 32}, "not both"),
        ({"head_channels": 48, "wider_heads": True, "channels": (32, 160)}, "do not divide"),
        ({"head_channels": 128, "wider_heads": True}, "heads of 128 channels do not divide"),
        ({"channels": (32, 65)}, "multiples of 32"),
        ({"groups": None, "channels": (2, 32)}, "below 4"),
        ({"groups": None, "channels": (32, 129)}, "multiples of their groups"),
        ({"channels": (32, 64, 96)}, "attention flag"),
        ({"resample": "fir"}, "'fir'"),
        ({"classes": -1}, "-1 classes"),
        ({"base": 2**30}, "width"),
    ],
)
def test_an_impossible_configuration_is_refused(change, message):
    with pytest.raises(CheckpointError, match=message), torch.device("meta"):
        ADM(**TINY | change)


def test_wider_heads_are_rounded_down_in_number():
    """As in EDM's code: 288 channels have 4 heads of 72."""
    config = ADMConfig(**TINY | {"head_channels": 64, "wider_heads": True})
    assert [config.heads_at(width) for width in (64, 96, 128, 288)] == [1, 1, 2, 4]


def test_the_two_orders_of_the_rows_of_attention():
    """Rows as in OpenAI's code: (head, part) or (part, head), 2 heads of 2 rows each."""
    structure = PUBLISHED["64x64_diffusion"].structure
    rows = torch.arange(12.0)
    for thirds, queries in ((True, [0, 1, 2, 3]), (False, [0, 1, 6, 7])):
        tensors = {"middle_block.1.qkv.bias": rows}
        found = renamed(
            structure, tensors, heads=ADMConfig(**TINY, heads=2).heads_at, thirds=thirds
        )
        assert found["mid_attention.query.bias"].tolist() == queries
