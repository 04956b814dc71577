"""The U-Net and its reader against diffusers, with random weights."""

import json
import warnings

import pytest
import torch

from diffusers_configs import FASHION, SCHEDULER, spelling_of_2022
from ggf_cli.checkpoints import diffusers as reader
from ggf_cli.checkpoints import native
from ggf_cli.checkpoints.load import build, load_model
from ggf_cli.errors import AssumptionWarning, CheckpointError
from ggf_cli.networks.unet import UNet
from ggf_cli.sde import expand_as_batch

VARIANTS = {
    "fashion": FASHION,
    "ho": {
        **FASHION,
        "sample_size": 16,
        "in_channels": 3,
        "out_channels": 3,
        "freq_shift": 1,
        "flip_sin_to_cos": False,
        "downsample_padding": 0,
        "norm_eps": 1e-6,
        "layers_per_block": 2,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [16, 32],
    },
    "heads": {**FASHION, "attention_head_dim": 16, "add_attention": False},
}


@pytest.fixture(scope="module")
def unet2d():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import UNet2DModel

    return UNet2DModel


def folder_of(model, path, spelling=lambda name: name, weights="safetensors"):
    from safetensors.torch import save_file

    tensors = {spelling(name): tensor for name, tensor in model.state_dict().items()}
    path.mkdir(exist_ok=True)
    if weights == "bin":
        torch.save(tensors, path / "diffusion_pytorch_model.bin")
    else:
        save_file(tensors, path / "diffusion_pytorch_model.safetensors")
    config = {"_class_name": "UNet2DModel", **dict(model.config)}
    (path / "config.json").write_text(json.dumps(config))
    (path / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    return path


def assert_same_score(model, theirs):
    """Assert a relative error of at most 1e-5, with a different t in every row."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(10, *model.shape, generator=generator)
    t = torch.linspace(1e-3, 1, 10, dtype=torch.float64)
    with torch.no_grad():
        noise = theirs.eval()(x, (999 * t).float()).sample
        expected = -noise / expand_as_batch(model.sde.sigma(t), x)
        found = model.score(x, t)
    for row in range(10):
        assert float((found[row] - expected[row]).norm() / expected[row].norm()) <= 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_random_weights_give_the_same_score(variant, unet2d, tmp_path):
    torch.manual_seed(1)
    theirs = unet2d(**VARIANTS[variant])
    # Weights of zeros and ones would hide mistakes.
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    with pytest.warns(AssumptionWarning, match="999 t"):
        ours = load_model(folder_of(theirs, tmp_path), device="cpu")
    assert_same_score(ours, theirs)


def test_tensor_names_of_2022_and_pickled_weights_are_read(unet2d, tmp_path):
    theirs = unet2d(**FASHION)
    with pytest.warns(AssumptionWarning, match="999 t"):
        ours = load_model(
            folder_of(theirs, tmp_path, spelling_of_2022, weights="bin"), device="cpu"
        )
    assert_same_score(ours, theirs)


def test_conversion_to_a_native_file_and_back_changes_nothing(unet2d, tmp_path):
    checkpoint = reader.read(folder_of(unet2d(**FASHION), tmp_path / "folder"))
    file = tmp_path / "model.safetensors"
    file.write_bytes(native.to_bytes(checkpoint))
    again = native.read(file)
    assert again.network_config == {**checkpoint.network_config}
    assert (again.sde, again.shape, again.parametrization) == (
        checkpoint.sde,
        checkpoint.shape,
        checkpoint.parametrization,
    )
    x, t = torch.randn(8, 1, 28, 28), torch.linspace(0.1, 1, 8, dtype=torch.float64)
    cpu = torch.device("cpu")
    before, after = (build(c, "m", file, device=cpu).score(x, t) for c in (checkpoint, again))
    assert torch.equal(before, after)


def test_labels_that_differ_by_less_than_1_give_different_scores(fashion):
    x = torch.randn(1, 1, 28, 28).expand(8, 1, 28, 28)
    t = 0.5 + torch.arange(8, dtype=torch.float64) * 1e-5
    scores = fashion.score(x, t)
    assert len({float(s.sum()) for s in scores}) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"act_fn": "tanh"}, "act_fn"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type"),
        ({"down_block_types": ["KDownBlock2D"] * 3}, "KDownBlock2D"),
        ({"resnet_time_scale_shift": "spatial"}, "resnet_time_scale_shift"),
        ({"norm_num_groups": 7}, "7 groups"),
        ({"in_channels": None}, "out_channels"),
    ],
)
def test_an_unsupported_setting_is_refused_by_name(change, message, unet2d, tmp_path):
    folder = folder_of(unet2d(**FASHION), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


@pytest.mark.parametrize("flags", ["block_down", "block_up"])
def test_a_unet_needs_a_resampling_flag_for_each_level_or_none(flags):
    config = {"image_channels": 1, "channels": (8, 16), "groups": 4}
    attention = {"attention_down": (False, False), "attention_up": (False, False)}
    UNet(**config, **attention, **{flags: (True, False)})
    with pytest.raises(CheckpointError, match="one resampling flag for each level"):
        UNet(**config, **attention, **{flags: (True,)})


@pytest.mark.parametrize(("down", "up"), [(True, False), (False, True), (True, True)])
def test_a_row_of_a_unet_that_scales_and_shifts_does_not_depend_on_the_others(down, up):
    torch.manual_seed(0)
    network = UNet(
        image_channels=1,
        channels=(8, 16),
        attention_down=(False, True),
        attention_up=(True, False),
        attention_mid_groups=0,
        groups=4,
        scale_shift=True,
        block_down=(down, down),
        block_up=(up, up),
        classes=3,
    ).eval()
    x, label = torch.randn(3, 1, 8, 12), torch.tensor([0.0, 500.5, 999.0])
    with torch.no_grad():
        together = network(x, label, torch.arange(3))
        for i in range(3):
            alone = network(x[i : i + 1], label[i : i + 1], torch.tensor([i]))
            assert torch.allclose(alone[0], together[i], rtol=1e-4, atol=1e-5)


def test_a_unet_on_patches_is_a_unet_on_the_unshuffled_image():
    """Pixel unshuffle moves each patch into channels."""
    config = {
        "channels": [8, 16],
        "attention_down": [False, False],
        "attention_up": [False, False],
        "blocks": 1,
        "groups": 4,
    }
    patched, plain = UNet(image_channels=1, patch=2, **config), UNet(image_channels=4, **config)
    plain.load_state_dict(patched.state_dict())
    x, label = torch.randn(3, 1, 8, 8), torch.tensor([1.0, 2.0, 3.0])
    expected = torch.pixel_shuffle(plain(torch.pixel_unshuffle(x, 2), label), 2)
    assert torch.equal(patched(x, label), expected)
