"""Files of denoising-diffusion-pytorch: parity with recorded scores, settings, refusals."""

import pytest
import torch

import ggf_cli
from ggf_cli.checkpoints import native
from ggf_cli.checkpoints.load import build, load_model, read_checkpoint
from ggf_cli.checkpoints.lucidrains.schedule import read_objective, sde_of
from ggf_cli.errors import AssumptionWarning, CheckpointError, UsageError
from ggf_cli.networks.lucidrains import LucidrainsUNet
from ggf_cli.noise import Noise
from ggf_cli.parametrizations import PARAMETRIZATIONS, log_snr_table
from ggf_cli.sde import VPSDE
from lucidrains_files import RECORDED, write

CPU = torch.device("cpu")
SIZE = "image_size=8"
FULL = "image_size=8,auto_normalize=true,sinusoidal_pos_emb_theta="


def full_config(name):
    return FULL + str(RECORDED[name]["theta"])


@pytest.mark.parametrize("name", RECORDED)
def test_scores_are_those_of_the_code_at_every_noise_level(name, tmp_path):
    """Relative error at most 1e-5, at each of the 40 levels of the training."""
    case = RECORDED[name]
    path = write(name, tmp_path / "model-7.pt")
    checkpoint = read_checkpoint(path, config=full_config(name))
    model = build(checkpoint, name, path, device=CPU)
    levels = log_snr_table(case["buffers"]["betas"])
    k = torch.arange(len(levels))
    x = Noise(seed=1, shape=model.shape)(k, 0 * k)
    # An SDE whose noise at T reaches the last level. Any one with alpha^2 + sigma^2 = 1 will do.
    sde = VPSDE(beta_max=60.0)
    network = LucidrainsUNet(**checkpoint.network_config)
    network.load_state_dict(checkpoint.tensors)
    score = PARAMETRIZATIONS["vp-table"](network, sde, checkpoint.parametrization_config)
    with torch.no_grad():
        found = score(x, sde.time_at(levels))[:, :, ::4, ::4].flatten(1)
    error = (found - torch.tensor(case["every_4th_pixel"])).abs().amax(1)
    assert float((error / torch.tensor(case["largest"])).max()) <= 1e-5


@pytest.mark.parametrize("name", RECORDED)
def test_the_objective_follows_from_the_buffers(name, tmp_path):
    checkpoint = read_checkpoint(write(name, tmp_path / "a.pt"), config=full_config(name))
    predictions = {"pred_noise": "epsilon", "pred_x0": "sample", "pred_v": "v_prediction"}
    expected = predictions[RECORDED[name]["objective"]]
    assert checkpoint.parametrization_config["prediction"] == expected


@pytest.mark.parametrize("gamma", [1e-3, 1.0, 5.0, float("inf")])
@pytest.mark.parametrize("objective", ["pred_noise", "pred_x0", "pred_v"])
def test_objectives_are_told_apart_with_and_without_min_snr(objective, gamma):
    betas = RECORDED["default"]["buffers"]["betas"]
    ratio = torch.exp(2 * log_snr_table(betas))
    divisor = {"pred_noise": ratio, "pred_x0": 1, "pred_v": ratio + 1}[objective]
    weight = (ratio.clamp(max=gamma) / divisor).float()
    assert read_objective(betas, weight) == objective
    assert read_objective(betas, torch.rand(len(betas))) is None
    assert read_objective(betas, None) is None


@pytest.mark.parametrize("name", RECORDED)
def test_the_sde_stays_within_the_noise_levels(name):
    betas = RECORDED[name]["buffers"]["betas"]
    levels, sde = log_snr_table(betas), sde_of(betas, (-1.0, 1.0))
    ends = sde.half_log_snr(torch.tensor([sde.t_eps, sde.T], dtype=torch.float64))
    assert ends[0] <= levels[0] + 1e-6
    assert ends[1] >= levels[-1] - 1e-6


def test_a_schedule_that_ends_early_gives_an_sde_that_ends_there():
    betas = torch.linspace(1e-4, 5e-3, 1000).double()
    sde = sde_of(betas.tolist(), (-1.0, 1.0))
    assert float(sde.half_log_snr(torch.ones(1).double())) == pytest.approx(
        float(log_snr_table(betas.tolist())[-1])
    )


def test_the_average_is_used_and_what_is_assumed_is_said(tmp_path):
    path = write("default", tmp_path / "model-7.pt")
    with pytest.warns(AssumptionWarning, match="auto_normalize=true") as caught:
        model = load_model(path, config=SIZE)
    assert len(caught) == 1
    assert model.shape == (3, 8, 8)
    assert model.provenance["origin"]["step"] == 700
    assert model.sde.data_range == (-1.0, 1.0)
    assert ggf_cli.sample(model, 2, solver="em", steps=3).x.isfinite().all()


def test_data_in_0_1_can_be_said(tmp_path):
    path = write("default", tmp_path / "model-7.pt")
    checkpoint = read_checkpoint(path, config="image_size=8,auto_normalize=false")
    assert checkpoint.sde.data_range == (0.0, 1.0)


def test_a_converted_file_gives_the_same_score(tmp_path):
    path = write("noise", tmp_path / "a.pt")
    checkpoint = read_checkpoint(path, config=full_config("noise"))
    assert [s for s in checkpoint.assumptions if "self_condition" in s] == [*checkpoint.assumptions]
    (tmp_path / "b.safetensors").write_bytes(native.to_bytes(checkpoint))
    models = [
        build(c, "a", path, device=CPU)
        for c in (checkpoint, native.read(tmp_path / "b.safetensors"))
    ]
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([0.1, 0.9]).double()
    assert torch.equal(models[0].score(x, t), models[1].score(x, t))


def without_average(content):
    content["ema"] = {"initted": torch.tensor(False)} | content["ema"]
    content["ema"]["initted"] = torch.tensor(False)


def test_without_an_average_the_last_weights_are_used_and_this_is_said(tmp_path):
    path = write("default", tmp_path / "a.pt", without_average)
    checkpoint = read_checkpoint(path, config=full_config("default"))
    assert "no moving average" in checkpoint.assumptions[0]
    averaged = read_checkpoint(write("default", path), config=full_config("default"))
    assert torch.allclose(checkpoint.tensors["conv_in.bias"], averaged.tensors["conv_in.bias"] + 1)


def with_group_norms(content):
    """The blocks of versions 1.8 to 1.11."""
    for state in (content["model"], content["ema"]):
        for name in [n for n in state if ".norm.g" in n and ".block" in n]:
            gain = state.pop(name).flatten()
            place = name.removesuffix(".g")
            state[f"{place}.weight"], state[f"{place}.bias"] = gain, 0.1 * gain
    content["version"] = "1.11.0"


def test_group_norms_of_version_1_are_read_and_their_groups_assumed(tmp_path):
    path = write("default", tmp_path / "a.pt", with_group_norms)
    checkpoint = read_checkpoint(path, config=SIZE)
    assert "resnet_block_groups=8" in checkpoint.assumptions[0]
    assert (
        build(checkpoint, "a", path, device=CPU)
        .score(torch.randn(1, 3, 8, 8), torch.tensor([0.5]).double())
        .isfinite()
        .all()
    )
    narrow = read_checkpoint(path, config=SIZE + ",resnet_block_groups=4")
    assert narrow.network_config["groups"] == 4


def drop(key):
    return lambda content: content["model"].pop(key)


def rename(old, new):
    def change(content):
        for state in (content["model"], content["ema"]):
            for name in [n for n in state if old in n]:
                state[name.replace(old, new)] = state.pop(name)

    return change


def put(name, shape):
    """Add a tensor to the network."""

    def change(content):
        content["ema"][f"ema_model.model.{name}"] = torch.zeros(shape)

    return change


@pytest.mark.parametrize(
    ("change", "config", "error", "named"),
    [
        (lambda c: None, None, CheckpointError, "does not state the image_size"),
        (lambda c: None, "image_size=9", UsageError, "multiple of 2"),
        (lambda c: None, "size=8", UsageError, "unknown setting 'size'"),
        (lambda c: None, "cifar10-vp", UsageError, "no '='"),
        (lambda c: None, SIZE + ",objective=pred_x0", CheckpointError, "objective=pred_v"),
        (lambda c: None, SIZE + ",resnet_block_groups=8", UsageError, "no resnet_block_groups"),
        (drop("loss_weight"), SIZE, CheckpointError, "what the network predicts"),
        (drop("betas"), SIZE, CheckpointError, "lacks the noise levels"),
        (put("classes_emb.weight", (3, 8)), SIZE, CheckpointError, "class labels"),
        (put("time_mlp.0.weights", (8,)), SIZE, CheckpointError, "learned sinusoidal"),
        (put("final_conv.weight", (6, 8, 1, 1)), SIZE, CheckpointError, "3 channels in and 6"),
        (put("downs.0.2.fn.norm.g", (1, 8, 1, 1)), SIZE, CheckpointError, "before 1.8"),
        (put("surprise", (1,)), SIZE, CheckpointError, "'surprise' is unknown"),
        (rename("init_conv", "first"), SIZE, CheckpointError, "lacks init_conv"),
        (put("mid_attn.mem_kv", (2, 2, 4)), SIZE, CheckpointError, "mid_attention.memory of shape"),
        (put("mid_attn.mem_kv", (2, 2, 3, 4)), SIZE, CheckpointError, "does not fit"),
    ],
)
def test_what_is_missing_or_not_supported_is_refused(change, config, error, named, tmp_path):
    path = write("default", tmp_path / "a.pt", change)
    with pytest.raises(error, match=named) as caught:
        build(read_checkpoint(path, config=config), "a", path, device=CPU)
    assert caught.value.message


def test_without_weights_of_the_loss_the_objective_can_be_given(tmp_path):
    path = write("default", tmp_path / "a.pt", drop("loss_weight"))
    checkpoint = read_checkpoint(path, config=SIZE + ",objective=pred_noise")
    assert checkpoint.parametrization_config["prediction"] == "epsilon"


@pytest.mark.parametrize("full", [True, False])
def test_a_sample_does_not_depend_on_its_batch(full):
    network = LucidrainsUNet(
        image_channels=1, width=8, channels=[8, 8, 16], full_attention=[full, full],
        heads=[2, 2], head_channels=[4, 4],
    ).eval()  # fmt: skip
    x, label = torch.randn(7, 1, 8, 8), torch.arange(7).double()
    with torch.no_grad():
        together = network(x, label)
        alone = torch.cat([network(x[i : i + 1], label[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
