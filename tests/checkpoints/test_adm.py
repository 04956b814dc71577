"""`.pt` files of OpenAI's diffusion code: what shapes state, `config`, and what is refused."""

import math
import warnings

import pytest
import torch

from adm_files import RECORDED, adm_config, adm_file, weights
from command import ggf
from ggf_cli.checkpoints import native
from ggf_cli.checkpoints.adm.published import PUBLISHED, REFUSED
from ggf_cli.checkpoints.adm.schedules import betas, diffusion
from ggf_cli.checkpoints.adm.settings import settle
from ggf_cli.checkpoints.adm.structure import recognise
from ggf_cli.checkpoints.load import build, load_model, read_checkpoint
from ggf_cli.errors import AssumptionWarning, CheckpointError, UsageError
from ggf_cli.parametrizations import PARAMETRIZATIONS, log_snr_table

GUIDED, PLAIN = "128x128_diffusion", "lsun_uncond"


def read(name, folder, *, change=lambda tensors: tensors, file="model.pt", config="", **changes):
    """Read the file of a recording with its settings, or with this `config`."""
    path = adm_file(name, folder / file, change=change)
    return read_checkpoint(path, config=adm_config(name, **changes) if config == "" else config)


# --- what the shapes state ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("64x64_diffusion", {"blocks": 2, "classes": 10, "scale_shift": True, "resample": "block"}),
        ("512x512_diffusion", {"base": 64, "channels": (32, 64, 64), "classes": 0}),
        ("512x512_diffusion", {"attention": (False, False, True), "learned_variance": True}),
        ("imagenet64_cond", {"blocks": 2, "classes": 10, "resample": "conv"}),
        ("lsun_uncond", {"scale_shift": False, "attention": (False, True), "planar": False}),
        ("plain", {"resample": "plain", "learned_variance": False, "blocks": 1}),
        ("edm", {"planar": True, "learned_variance": False, "scale_shift": False}),
    ],
)
def test_the_structure_follows_from_the_shapes(name, expected):
    with torch.device("meta"):
        shapes = {n: torch.empty(s) for n, s in RECORDED[name]["shapes"].items()}
    structure = recognise(shapes)
    assert {key: getattr(structure, key) for key in expected} == expected


def test_the_variance_is_dropped_and_the_noise_is_kept(tmp_path):
    tensors = read(GUIDED, tmp_path).tensors
    noise = weights(RECORDED[GUIDED]["shapes"])["out.2.weight"][:3]
    assert torch.equal(tensors["conv_out.weight"], noise)


# --- schedules ------------------------------------------------------------------------------------


def test_the_noise_of_the_first_and_last_level_is_that_of_the_ends():
    for schedule, steps in (("cosine", 4000), ("cosine", 1000), ("linear", 4000), ("linear", 21)):
        settings = {"noise_schedule": schedule, "diffusion_steps": steps, "predict_xstart": False}
        name, config, sde = diffusion(settings)
        assert name == "vp-table"
        levels = log_snr_table(config["betas"])
        ends = torch.tensor([sde.t_eps, sde.T], dtype=torch.float64)
        assert sde.half_log_snr(ends).tolist() == pytest.approx(levels[[0, -1]].tolist(), rel=1e-9)


def test_the_cosine_schedule_has_the_alpha_bar_of_its_formula():
    """Nichol and Dhariwal 2021, equation 17, at levels before the largest beta."""
    table = torch.tensor(betas("cosine", 100), dtype=torch.float64)
    for k in (0, 10, 98):
        t = (k + 1) / 100
        ends = [math.cos((s + 0.008) / 1.008 * math.pi / 2) ** 2 for s in (t, 0)]
        found = float(torch.cumprod(1 - table, 0)[k])
        assert found == pytest.approx(ends[0] / ends[1], rel=1e-9)
    assert table[-1] == 0.999


def test_the_linear_schedule_of_1000_levels_is_that_of_ddpm(tmp_path):
    checkpoint = read(PLAIN, tmp_path)
    assert checkpoint.parametrization == "vp-discrete"
    assert (checkpoint.sde.beta_min, checkpoint.sde.beta_max) == (0.1, 20.0)
    assert betas("linear", 1000) == pytest.approx(torch.linspace(1e-4, 0.02, 1000).tolist())


# --- settings -------------------------------------------------------------------------------------


def test_a_published_file_is_recognised_by_name_and_structure():
    structure = PUBLISHED["64x64_diffusion"].structure
    training = settle(structure, "64x64_diffusion", None)
    assert training.settings == {
        "use_new_attention_order": True,
        "diffusion_steps": 1000,
        "predict_xstart": False,
        "image_size": 64,
        "noise_schedule": "cosine",
        "num_head_channels": 64,
    }
    (sentence,) = training.assumptions("64x64_diffusion.pt")
    assert "num_head_channels=64" in sentence
    assert "published file 64x64_diffusion.pt" in sentence


@pytest.mark.parametrize("config", ["64x64_diffusion", "64x64_diffusion.pt"])
def test_a_renamed_file_with_the_published_name_as_config_assumes_nothing(config):
    structure = PUBLISHED["64x64_diffusion"].structure
    training = settle(structure, "model", config)
    assert training.settings["noise_schedule"] == "cosine"
    assert training.assumptions("model.pt") == ()


def test_settings_replace_those_of_a_published_file():
    structure = PUBLISHED["64x64_diffusion"].structure
    settings = settle(structure, "m", "64x64_diffusion,num_heads=4,noise_schedule=linear").settings
    assert (settings["num_heads"], settings["noise_schedule"]) == (4, "linear")
    assert "num_head_channels" not in settings


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_file_has_all_settings(name):
    published = PUBLISHED[name]
    settings = settle(published.structure, name, None).settings
    parametrization, _, sde = diffusion(settings)
    assert settings["image_size"] % 2 ** (len(published.structure.channels) - 1) == 0
    edm = name.startswith("edm")
    assert (parametrization == "edm") == edm == published.structure.planar
    assert sde.data_range == (-1.0, 1.0)


def test_another_network_of_a_published_name_needs_settings(tmp_path):
    with pytest.raises(CheckpointError, match="does not state the image_size"):
        read(GUIDED, tmp_path, file="lsun_cat.pt", config=None)
    with pytest.raises(CheckpointError, match="another structure"):
        read(GUIDED, tmp_path, config="lsun_cat")


@pytest.mark.parametrize(
    ("missing", "asked"),
    [
        ("image_size", "image_size=32"),
        ("num_heads", "num_heads=4, or num_head_channels=64"),
        ("noise_schedule", "noise_schedule=linear|cosine"),
    ],
)
def test_a_setting_without_a_usual_value_is_asked_for(missing, asked, tmp_path):
    with pytest.raises(CheckpointError, match=missing.removeprefix("num_")) as caught:
        read(GUIDED, tmp_path, **{missing: None})
    assert asked in caught.value.hint


def test_the_rescaling_of_labels_is_asked_for_where_it_matters(tmp_path):
    with pytest.raises(CheckpointError, match="rescale_timesteps"):
        read("cifar10_uncond", tmp_path, rescale_timesteps=None)
    scales = [
        read("cifar10_uncond", tmp_path, rescale_timesteps=rescale).parametrization_config
        for rescale in (True, False)
    ]
    assert [config["label_scale"] for config in scales] == [0.25, 1.0]


def test_usual_settings_are_assumed_and_reported(tmp_path):
    path = adm_file(GUIDED, tmp_path / "ema_0.9999_1000.pt")
    config = "image_size=8,num_heads=4,noise_schedule=linear"
    with pytest.warns(AssumptionWarning, match="use_new_attention_order=false") as caught:
        load_model(path, device="cpu", config=config)
    assert "diffusion_steps=1000" in str(caught[0].message)
    everything = f"{config},use_new_attention_order=false,diffusion_steps=1000,predict_xstart=false"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(path, device="cpu", config=everything)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("heads=4", "unknown setting 'heads'"),
        ("nothing", "unknown config 'nothing'"),
        ("image_size=8,num_heads=0", "num_heads is '0'"),
        ("image_size=8,num_heads=4,num_head_channels=8,noise_schedule=linear", "one decides"),
        ("image_size=8,num_heads=4,noise_schedule=sqrt", "'sqrt', it must be one of linear"),
        ("image_size=8,num_heads=4,noise_schedule=linear,diffusion_steps=20", "from 21"),
        ("image_size=8,num_heads=4,noise_schedule=edm,diffusion_steps=100", "not for"),
    ],
)
def test_a_config_that_is_not_valid_is_refused(config, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        read(GUIDED, tmp_path, config=config)


def test_heads_that_do_not_divide_the_width_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="3 heads do not divide"):
        read(GUIDED, tmp_path, num_heads=3)


def test_shapes_of_consistency_models_decide_the_order_of_the_attention(tmp_path):
    with pytest.raises(CheckpointError, match="which `config` contradicts"):
        read("edm", tmp_path, use_new_attention_order=False)


def test_a_teacher_is_refused_where_its_parametrization_is_missing(tmp_path, monkeypatch):
    monkeypatch.delitem(PARAMETRIZATIONS, "edm", raising=False)
    with pytest.raises(CheckpointError, match="denoiser of EDM"):
        read("edm", tmp_path)


# --- refused files --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFUSED)
def test_published_files_without_a_score_are_refused_by_name(name, tmp_path):
    with pytest.raises(CheckpointError, match=f"{name}.pt is a"):
        read(GUIDED, tmp_path, file=f"{name}.pt")
    with pytest.raises(CheckpointError, match=f"{name}.pt is a"):
        read(GUIDED, tmp_path, config=name)


def without(prefix):
    return lambda tensors: {n: t for n, t in tensors.items() if not n.startswith(prefix)}


def replacing(**changes):
    """Replace tensors, whose names are written with "__" for "."."""
    return lambda tensors: tensors | {k.replace("__", "."): v for k, v in changes.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("output_blocks"), "it is a classifier"),
        (without("middle_block.1"), "do not fit an ADM network"),
        (without("output_blocks.3"), "do not make"),
        (replacing(input_blocks__0__0__weight=torch.zeros(32, 6, 3, 3)), "it is an upsampler"),
        (replacing(out__2__weight=torch.zeros(5, 32, 3, 3)), "output 5"),
        (replacing(input_blocks__9999__0__weight=torch.zeros(1)), "is not supported"),
        (replacing(step=3), "not a table of tensors"),
    ],
)
def test_other_networks_are_refused_with_the_reason(change, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        read(GUIDED, tmp_path, change=change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("input_blocks.1.0.out_layers.0"), "lacks down.0.blocks.0.norm_2.bias"),
        (replacing(extra__weight=torch.zeros(2)), "unknown extra.weight"),
        (replacing(label_emb__weight=torch.zeros(10, 64)), "classes.weight of shape"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(change, message, tmp_path):
    path = adm_file(GUIDED, tmp_path / "model.pt", change=change)
    with pytest.raises(CheckpointError, match=message):
        load_model(path, device="cpu", config=adm_config(GUIDED))


def test_a_pt_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "opt200000.pt"
    torch.save({"state": {}, "param_groups": []}, path)
    with pytest.raises(CheckpointError, match="does not recognise"):
        read_checkpoint(path)


# --- through the program --------------------------------------------------------------------------


def test_a_converted_file_has_the_same_score(tmp_path):
    checkpoint = read("64x64_diffusion", tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(native.to_bytes(checkpoint))
    again = native.read(path)
    assert again.classes == 10
    x, t = torch.randn(3, 3, 8, 8), torch.tensor([0.001, 0.5, 1.0], dtype=torch.float64)
    labels, cpu = torch.tensor([0, 4, 9]), torch.device("cpu")
    models = [build(c, "m", path, device=cpu) for c in (checkpoint, again)]
    before, after = (model.score(x, t, labels) for model in models)
    assert torch.equal(before, after)


def test_the_program_samples_from_a_file(tmp_path):
    path = adm_file(PLAIN, tmp_path / "model.pt")
    options = ["--n", "2", "--solver", "em", "--steps", "2", "--out", tmp_path / "run"]
    done = ggf("sample", "--model", path, "--config", adm_config(PLAIN), *options)
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "run/run.json").exists()
