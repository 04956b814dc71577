"""The SDE that the user states with `--sde` or `load_model(..., sde=...)`."""

import pytest
import torch

import ggf_cli
from command import ggf
from edm_files import state_dict
from ggf_cli.checkpoints.load import load_model
from ggf_cli.checkpoints.stated_sde import StatedSDE, combine, split_sde
from ggf_cli.errors import CheckpointError, UsageError
from song_files import VE, SongConfig, write

VP = SongConfig()
pytestmark = pytest.mark.filterwarnings("ignore::ggf_cli.errors.AssumptionWarning")


@pytest.fixture
def pth(tmp_path):
    """A network that may be VP, sub-VP or discrete."""
    return write(VP, tmp_path / "a.pth")


@pytest.fixture
def ve(tmp_path):
    return write(VE, tmp_path / "a.pth")


@pytest.fixture
def state(tmp_path):
    """A state dict of EDM's code."""
    torch.save(state_dict("cifar10-uncond-vp"), tmp_path / "net.pt")
    return tmp_path / "net.pt"


@pytest.mark.parametrize(
    ("config", "sde", "joined"),
    [
        (None, None, None),
        ("a,b=1", None, "a,b=1"),
        (None, "vp", "sde=vp"),
        (None, "Sub-VP, beta_max=10", "sde=subvp,beta_max=10"),
        ("image_size=32,fir=true", "ve", "image_size=32,fir=true,sde=ve"),
        ("sde=vp,beta_max=10,fir=true", "vp,beta_max=10", "fir=true,sde=vp,beta_max=10"),
    ],
)
def test_it_is_a_part_of_config(config, sde, joined):
    assert combine(config, sde=sde) == joined
    assert split_sde(joined)[1] == (split_sde(config)[1] if sde is None else split_sde(joined)[1])


@pytest.mark.parametrize(
    ("config", "combined"),
    [
        (None, "image_size=64"),
        ("cifar10-vp", "cifar10-vp,image_size=64"),
        ("image_size=64,fir=true", "fir=true,image_size=64"),
    ],
)
def test_a_size_is_a_part_of_config(config, combined):
    assert combine(config, size=64) == combined
    assert combine(config, size=64, sde="vp") == f"{combined},sde=vp"


def test_two_sizes_are_refused():
    with pytest.raises(UsageError, match="`size` is 64, but `config` has image_size=32"):
        combine("image_size=32", size=64)


@pytest.mark.parametrize(
    ("config", "sde", "message"),
    [
        (None, "vq", "`sde` is 'vq', which is no SDE"),
        (None, "custom", "`sde` is 'custom', which is no SDE"),
        (None, "vp,beta_max=x", "`sde`: beta_max is 'x', it must be a number"),
        ("sde=ve", "vp", "`sde` is vp, but `config` has sde=ve"),
    ],
)
def test_what_is_malformed_or_contradictory_is_refused(config, sde, message):
    with pytest.raises(UsageError, match=message):
        combine(config, sde=sde)


@pytest.mark.parametrize("name", ["vp", "subvp", "sub-vp"])
def test_a_pth_file_takes_it(pth, name):
    model = load_model(pth, device="cpu", config="image_size=32", sde=f"{name},beta_max=10")
    expected = {"vp": ggf_cli.VPSDE, "subvp": ggf_cli.SubVPSDE}[name.replace("-", "")]
    assert type(model.sde) is expected
    assert model.sde.beta_max == 10
    assert "sde=" not in " ".join(model.provenance["assumptions"])
    same = load_model(pth, device="cpu", config=f"image_size=32,sde={name},beta_max=10")
    assert same.sde == model.sde


def test_a_pth_file_that_states_another_is_refused(ve):
    with pytest.raises(CheckpointError, match="no network with Fourier features is trained with"):
        load_model(ve, device="cpu", config="image_size=32", sde="vp-discrete")
    with pytest.raises(UsageError, match=r"`sde` is ve,sigma_max=7, but the SDE of .* is ve,"):
        load_model(ve, device="cpu", config="image_size=32", sde="ve,sigma_max=7")
    sigma_max = load_model(ve, device="cpu", config="image_size=32").sde.sigma_max
    load_model(ve, device="cpu", config="image_size=32", sde=f"ve,sigma_max={sigma_max}")


def test_a_state_dict_of_edm_takes_any_sde(state):
    assumed = load_model(state, device="cpu")
    assert "noise levels from 0.002 to 80" in assumed.provenance["assumptions"][0]
    model = load_model(state, device="cpu", sde="edm,sigma_max=50")
    assert model.sde == ggf_cli.EDM(sigma_max=50)
    assert "noise levels" not in model.provenance["assumptions"][0]
    assert model.provenance["config"] == "sde=edm,sigma_max=50"
    vp = load_model(state, device="cpu", sde="vp")
    assert vp.sde == ggf_cli.VPSDE(data_range=(-1, 1))
    # The same denoiser, at the same noise level.
    x = torch.randn(1, *vp.shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.5], dtype=torch.float64)
    alpha, sigma = vp.sde.alpha(t), vp.sde.sigma(t)
    level = sigma / alpha
    torch.testing.assert_close(
        vp.score(x, t) * float(alpha),
        assumed.score(x / float(alpha), level),
        rtol=1e-4,
        atol=1e-4,
    )
    with pytest.raises(UsageError, match=r"SDE 'edm': .*beta_max"):
        load_model(state, device="cpu", sde="edm,beta_max=3")
    with pytest.raises(UsageError, match="sigma_min"):
        load_model(state, device="cpu", sde="edm,sigma_max=-1")


def test_a_model_that_states_its_sde_is_compared():
    assert load_model("mixture", device="cpu", sde="vp").sde.name == "vp"
    with pytest.raises(UsageError, match="`sde` is ve, but the SDE of mixture is vp,beta_min"):
        load_model("mixture", device="cpu", sde="ve")
    with pytest.raises(UsageError, match="beta_max=10, but"):
        load_model("mixture", device="cpu", sde="vp,beta_max=10")


def test_code_of_the_user_states_its_sde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stated_net.py").write_text(
        "import ggf_cli\n"
        "model = ggf_cli.ScoreModel(score=lambda x, t: -x, sde=ggf_cli.EDM(), shape=(2,))\n"
    )
    assert load_model("stated_net.py:model", device="cpu", sde="edm").sde == ggf_cli.EDM()
    with pytest.raises(UsageError, match="`sde` is vp, but the SDE of"):
        load_model("stated_net.py:model", device="cpu", sde="vp")


def test_on_the_command_line(state, tmp_path):
    done = ggf("inspect", str(state), "--sde", "edm,sigma_max=50")
    assert done.exit_code == 0, done.output
    assert "as you state it: edm,sigma_max=50" in done.stdout
    done = ggf("inspect", "mixture", "--sde", "ve")
    assert done.exit_code == 2
    assert "--sde is ve, but the SDE of mixture is vp" in done.stderr
    words = ["sample", "--model", str(state), "--sde", "edm,sigma_max=50", "--n", "1", "--quiet"]
    done = ggf(*words, "--solver", "em", "--steps", "2", "--out", str(tmp_path / "a"))
    assert done.exit_code == 0, done.output
    log = (tmp_path / "a/run.json").read_text()
    assert "--config sde=edm,sigma_max=50" in log
    assert '"sigma_max": 50.0' in log


def test_a_stated_sde_is_written_as_it_is_read():
    stated = StatedSDE("vp", {"beta_min": 0.1, "beta_max": 12.5})
    assert split_sde(f"sde={stated}") == (None, stated)
