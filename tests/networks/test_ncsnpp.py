"""NCSN++ and DDPM++: parity with recordings of Song's code and with diffusers; file readers."""

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffusers_configs import NCSNPP_256, VE_2022, published
from ggf_cli.checkpoints import score_sde
from ggf_cli.checkpoints.load import build, load_model
from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.checkpoints.score_sde.published import NoiseLevels
from ggf_cli.checkpoints.score_sde.recognise import recognise
from ggf_cli.checkpoints.score_sde.training import settle
from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.networks.ncsnpp import NCSNpp
from ggf_cli.noise import Noise
from ggf_cli.sde import VESDE, VPSDE, SubVPSDE, sde_from_dict
from song_files import SongConfig, shapes
from song_recordings import RECORDED, song_file, weights

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", RECORDED)
def test_the_moving_average_gives_the_output_of_songs_code(name, tmp_path):
    """Relative error at most 1e-5, plus the effect of the last bit of a float32 log.

    Each row has another noise level. The Fourier embedding is sin(2 pi f log(sigma)) with f up to
    60, in float32 as in Song's code. Where log(sigma) is 7, its last bit changes the phase of the
    fastest of these by 2e-4, and the value of that bit depends on the maths library.
    """
    case = RECORDED[name]
    checkpoint = score_sde.read(song_file(name, tmp_path / "checkpoint.pth"), config=name)
    assert checkpoint.assumptions == ()
    model = build(checkpoint, name, tmp_path / "checkpoint.pth", device=CPU)
    labels = torch.tensor(case["labels"], dtype=torch.float64)
    index = torch.arange(len(labels))
    x = Noise(seed=1, shape=(3, case["size"], case["size"]))(index, 0 * index)
    sde = checkpoint.sde
    shift = None
    if sde.name == "ve":
        assert sde.sigma_max == pytest.approx(case["sigmas"][0])
        log_sigma, width = torch.log(labels), math.log(sde.sigma_max / sde.sigma_min)
        t = (log_sigma - math.log(sde.sigma_min)) / width
        output = model.score(x, t)
        last_bit = torch.finfo(torch.float32).eps * log_sigma.abs()
        shift = model.score(x, t + last_bit / width) - output
    else:
        t = labels / 999
        output = -model.score(x, t) * sde.sigma(t).float()[:, None, None, None]
    expected = torch.tensor(case["every_8th_pixel"])
    found = output[:, :, ::8, ::8].flatten(1)
    for row in range(len(labels)):
        bound = 1e-5 + (0 if shift is None else float(shift[row].norm() / output[row].norm()))
        assert bound < 2e-4
        assert float((found[row] - expected[row]).norm() / expected[row].norm()) <= bound
        assert float(output[row].norm()) == pytest.approx(case["norms"][row], rel=bound)


NCSNPP = {
    "sde": "vesde",
    "embedding_type": "fourier",
    "fir": True,
    "centered": False,
    "scale_by_sigma": True,
}
CIFAR10_VE = SongConfig(nf=128, progressive_input="residual", **NCSNPP)
CIFAR10_VP = SongConfig(nf=128)
LSUN = {
    "progressive": "output_skip",
    "progressive_input": "input_skip",
    "num_scales": 2000,
    **NCSNPP,
}
CONFIGS = {
    "church": SongConfig(
        nf=128,
        ch_mult=(1, 1, 2, 2, 2, 2, 2),
        num_res_blocks=2,
        image_size=256,
        sigma_max=380.0,
        **LSUN,
    ),
    "ffhq-1024": SongConfig(
        nf=16,
        ch_mult=(1, 2, 4, 8, 16, 32, 32, 32),
        num_res_blocks=1,
        image_size=1024,
        sigma_max=1348.0,
        **LSUN,
    ),
    "cifar10-ve": CIFAR10_VE,
    "cifar10-ve-deep": replace(CIFAR10_VE, num_res_blocks=8),
    "cifar10-vp": CIFAR10_VP,
    "cifar10-vp-deep": replace(CIFAR10_VP, num_res_blocks=8),
    "cifar10-subvp": CIFAR10_VP,
}
MODULES = {
    "church": 77,
    "ffhq-1024": 70,
    "cifar10-ve": 59,
    "cifar10-ve-deep": 95,
    "cifar10-vp": 55,
    "cifar10-vp-deep": 91,
}


# Numbers of parameters and of averaged tensors of the published checkpoints.
@pytest.mark.parametrize(
    ("name", "parameters", "averaged"),
    [
        ("church", 65_574_549, 644),
        ("ffhq-1024", 105_785_896, 552),
        ("cifar10-ve", 62_758_915, 570),
        ("cifar10-ve-deep", 107_587_075, 962),
        ("cifar10-vp", 61_804_419, 564),
        ("cifar10-vp-deep", 106_632_579, 956),
        ("cifar10-subvp", 61_804_419, 564),
    ],
)
def test_full_size_networks_have_the_published_counts(name, parameters, averaged):
    entry, c = read_manifest()[name], CONFIGS[name]
    with torch.device("meta"):
        structure = recognise({n: torch.empty(shape) for n, shape in shapes(c).items()})
        training = settle(structure, NoiseLevels(c.sigma_min, c.sigma_max, c.num_scales), name)
        network = NCSNpp(**training.network_config())
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert sum(p.requires_grad for p in network.parameters()) == averaged
    assert len(structure.module_names()) == MODULES[name.replace("subvp", "vp")]
    assert entry.parameters == parameters
    assert entry.shape == (3, *2 * (training.settings["image_size"],))
    assert training.sde() == sde_from_dict({**entry.sde, "data_range": training.sde().data_range})


def test_the_sde_of_a_positional_network_must_be_given(tmp_path):
    path = song_file("cifar10-vp", tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="does not state the sde") as error:
        score_sde.read(path)
    assert "cifar10-vp, or cifar10-vp-deep, or cifar10-subvp" in error.value.hint
    assert type(score_sde.read(path, config="cifar10-vp").sde) is VPSDE
    assert type(score_sde.read(path, config="cifar10-subvp").sde) is SubVPSDE


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ("cifar10-ve", CheckpointError, "the file is not 'cifar10-ve': it is a VP"),
        ("church", CheckpointError, "the file is not 'church'"),
        ("cifar", UsageError, "unknown config 'cifar'"),
    ],
)
def test_a_wrong_config_is_refused(config, error, message, tmp_path):
    path = song_file("cifar10-vp", tmp_path / "a.pth")
    with pytest.raises(error, match=message):
        score_sde.read(path, config=config)


def without(*keys):
    return lambda content: {k: v for k, v in content.items() if k not in keys}


def shorter(content):
    content["ema"]["shadow_params"].pop()
    return content


def renamed(content):
    model = content["model"]
    model["module.all_modules.4.Conv_7.weight"] = model.pop("module.all_modules.4.Conv_0.weight")
    return content


def other_architecture(content):
    content["model"]["module.all_modules.99.weight"] = torch.zeros(1)
    return content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("ema"), "lacks 'ema'"),
        (without("model"), "lacks 'model'"),
        (shorter, "the moving average has 563 tensors"),
        (other_architecture, "100 modules"),
        (renamed, "moving average|no tensors of that architecture"),
        (lambda content: {**content, "model": {"module.all_modules.54.x": 1}}, "do not match"),
        (lambda content: [content], "not a table of tensors"),
        (lambda content: {**content, "ema": 3}, "not a checkpoint of score_sde_pytorch"),
    ],
)
def test_other_files_are_refused_with_the_reason(change, message, tmp_path):
    path = song_file("cifar10-vp", tmp_path / "a.pth", change=change)
    with pytest.raises(CheckpointError, match=message):
        load_model(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = song_file("cifar10-vp", tmp_path / "a.pth")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"a\.pth is corrupt or truncated"):
        load_model(path)


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("evil"),))


def test_code_in_a_file_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = song_file("cifar10-vp", tmp_path / "a.pth", change=lambda c: {**c, "x": Evil()})
    with pytest.raises(CheckpointError, match="has other objects than tensors"):
        load_model(path)
    assert not (tmp_path / "evil").exists()


def test_files_in_the_torch_format_before_2020_are_read(tmp_path):
    path = song_file("cifar10-vp", tmp_path / "a.pth")
    content = torch.load(path, weights_only=True)
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    new, old = (
        score_sde.read(tmp_path / n, config="cifar10-vp").tensors for n in ("a.pth", "old.pth")
    )
    assert all(torch.equal(old[name], tensor) for name, tensor in new.items())


@pytest.mark.parametrize(
    "change",
    [
        {"embedding": "learned"},
        {"progressive": "residual"},
        {"progressive_input": "residual", "fir": False},
        {"resblock": "ddpm", "fir": True},
        {"embedding": "positional", "scale_by_sigma": True},
        {"attention": [True]},
    ],
    ids=str,
)
def test_settings_that_no_published_model_uses_are_refused(change):
    config = {
        "image_channels": 3,
        "channels": [8, 8],
        "attention": [False] * 2,
        "blocks": 1,
        "embedding": "fourier",
    }
    with pytest.raises(CheckpointError, match=r"NCSN\+\+"):
        NCSNpp(**{**config, **change})


def test_ddpm_blocks_resample_between_blocks():
    network = NCSNpp(
        image_channels=1,
        channels=[8, 16],
        attention=[False, True],
        blocks=1,
        embedding="positional",
        resblock="ddpm",
        fir=False,
    )
    assert network(torch.randn(3, 1, 8, 8), torch.tensor([1.0, 2.0, 3.0])).shape == (3, 1, 8, 8)


def test_a_network_on_patches_is_a_network_on_the_unshuffled_image():
    """Pixel unshuffle moves each patch into channels."""
    config = {"attention": [False, False], "blocks": 1, "embedding": "positional", "fir": False}
    patched = NCSNpp(image_channels=1, channels=[8, 16], patch=2, **config)
    plain = NCSNpp(image_channels=4, channels=[8, 16], **config)
    plain.load_state_dict(patched.state_dict())
    x, label = torch.randn(3, 1, 8, 8), torch.tensor([1.0, 2.0, 3.0])
    expected = torch.pixel_shuffle(plain(torch.pixel_unshuffle(x, 2), label), 2)
    assert torch.equal(patched(x, label), expected)


def test_scaled_input_is_divided_by_the_total_noise():
    config = {"attention": [False, False], "blocks": 1, "embedding": "fourier", "fir": False}
    scaled = NCSNpp(image_channels=1, channels=[8, 16], scale_input=True, **config)
    plain = NCSNpp(image_channels=1, channels=[8, 16], **config)
    plain.load_state_dict(scaled.state_dict())
    x, sigma = torch.randn(2, 1, 8, 8), torch.tensor([3.0**0.5, 8.0**0.5])
    shrunk = x / torch.tensor([2.0, 3.0]).reshape(2, 1, 1, 1)
    torch.testing.assert_close(scaled(x, sigma), plain(shrunk, sigma))


# --- diffusers -----------------------------------------------------------------------------------


def hub_folder(path, *, config, tensors, scheduler):
    """A repository in the layout of 2022."""
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / "scheduler_config.json").write_text(json.dumps(scheduler))
    torch.save(tensors, path / "diffusion_pytorch_model.bin")
    return path


@pytest.fixture(scope="module")
def diffusers_ncsnpp():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import UNet2DModel
    network = UNet2DModel(**NCSNPP_256).eval()
    network.load_state_dict(weights({n: t.shape for n, t in network.state_dict().items()}))
    network.time_proj.weight.data.mul_(16)
    return network


@pytest.mark.parametrize("spelling", ["2022", "today"])
def test_a_hub_folder_gives_the_score_of_diffusers(diffusers_ncsnpp, spelling, tmp_path):
    tensors = published(diffusers_ncsnpp) if spelling == "2022" else diffusers_ncsnpp.state_dict()
    config = {"_class_name": "UNet2DModel", **NCSNPP_256}
    model = load_model(
        hub_folder(tmp_path, config=config, tensors=tensors, scheduler=VE_2022), device="cpu"
    )
    assert model.sde == VESDE(sigma_min=0.01, sigma_max=380.0)
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([1e-5, 0.3, 0.7, 1.0], dtype=torch.float64)
    with torch.no_grad():
        expected = diffusers_ncsnpp(x, model.sde.sigma(t).float()).sample
    found = model.score(x, t)
    for row in range(4):
        assert float((found[row] - expected[row]).norm() / expected[row].norm()) <= 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm_num_groups": 8}, "norm_num_groups"),
        ({"time_embedding_type": "positional"}, "time_embedding_type"),
        ({"up_block_types": ("AttnSkipUpBlock2D",) + ("SkipUpBlock2D",) * 3}, "different levels"),
        ({"mid_block_scale_factor": 1}, "mid_block_scale_factor"),
        ({"block_out_channels": None}, "is not valid"),
        ({"sample_size": [32, 32, 32]}, "must be one or two whole numbers"),
        ({"sample_size": None}, "must be one or two whole numbers"),
        ({"sample_size": 27}, "does not work for samples of shape"),
        ({"sample_size": 10**9}, "is not the shape of a sample"),
    ],
)
def test_configs_that_are_not_ncsnpp_are_refused(diffusers_ncsnpp, change, message, tmp_path):
    config = {"_class_name": "UNet2DModel", **NCSNPP_256, **change}
    folder = hub_folder(
        tmp_path, config=config, tensors=published(diffusers_ncsnpp), scheduler=VE_2022
    )
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ({"_class_name": "PNDMScheduler"}, "has a noise level 0"),
        ({}, "None"),
        ({"_class_name": "ScoreSdeVeScheduler", "sigma_min": 0.01}, "sigma_max"),
        (
            {
                "_class_name": "DDPMScheduler",
                "beta_schedule": "squaredcos_cap_v2",
                "num_train_timesteps": 1000,
            },
            "has a noise level 0",
        ),
    ],
)
def test_unsupported_schedulers_are_refused(diffusers_ncsnpp, scheduler, message, tmp_path):
    config = {"_class_name": "UNet2DModel", **NCSNPP_256}
    folder = hub_folder(
        tmp_path, config=config, tensors=published(diffusers_ncsnpp), scheduler=scheduler
    )
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)
