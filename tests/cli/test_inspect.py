"""`ggf inspect` and `ggf_cli.inspect_model`: what a model is, what is assumed, whether it works."""

import json
import math
import shutil

import msgspec
import pytest
import torch

import ggf_cli
from command import ggf
from ggf_cli.checkpoints.inspection import Inspection, Unreadable, inspect_model
from ggf_cli.checkpoints.locate import local_path
from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.errors import CheckpointError
from song_files import SongConfig, write

TINY = SongConfig(nf=8, ch_mult=(1, 2), num_res_blocks=1)
CODE = """
import torch
import ggf_cli

sde = ggf_cli.VPSDE()

def exact(x, t, labels=None):
    # Of data that are standard normal.
    return -x

model = ggf_cli.ScoreModel(
    score=exact, sde=sde, shape=(5,), data_range=None, provenance={"license": "MIT"}
)
network = torch.nn.Linear(5, 5)

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(5, 5)
    def forward(self, x, t):
        return self.layer(x)

own = ggf_cli.ScoreModel(score=Net().eval(), sde=sde, shape=(5,))
nan = ggf_cli.ScoreModel(score=lambda x, t: x * torch.nan, sde=sde, shape=(5,))
broken = ggf_cli.ScoreModel(score=lambda x, t: 1 / 0, sde=sde, shape=(5,))
short = ggf_cli.ScoreModel(score=lambda x, t: x[:, :2], sde=sde, shape=(5,))
conditional = ggf_cli.ScoreModel(score=exact, sde=sde, shape=(5,), conditional=True)

def labelled(x, t, labels):
    assert labels.dtype == torch.int64 and labels.shape == (1,)
    return -x

classes = ggf_cli.ScoreModel(
    score=labelled, sde=sde, shape=(5,), conditional=True, provenance={"classes": 10}
)
given = conditional.with_conditions([3])
odd = ggf_cli.ScoreModel(
    score=exact, sde=ggf_cli.GaussianDiffusion(lambda t: 1 - t / 2, lambda t: t),
    shape=(5,), provenance={"origin": "elsewhere"},
)
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


def document(*arguments, exit_code=0):
    done = ggf("inspect", *arguments, "--json")
    assert done.exit_code == exit_code, done.output
    found = json.loads(done.stdout)
    kind = Inspection if found["readable"] else Unreadable
    return msgspec.convert(found, kind)


# --- what is recognised ---------------------------------------------------------------------------


def test_an_embedded_model_is_described_by_its_file_and_the_registry():
    entry = read_manifest()["fashion-vp"]
    found = document("fashion-vp", "--device", "cpu")
    assert (found.name, found.source, found.format) == ("fashion-vp", entry.source, "native")
    assert (found.network.name, found.network.parameters) == ("unet", entry.parameters)
    assert found.network.config["channels"] == [64, 96]
    assert found.parametrization == "vp-continuous"
    assert found.sde == {"name": "vp", **entry.sde, "data_range": [-1.0, 1.0]}
    assert (found.shape, found.data_range) == ([1, 28, 28], [-1.0, 1.0])
    assert (found.license, found.sha256) == ("MIT", entry.sha256)
    assert (found.conditional, found.classes) == (False, 0)
    assert found.assumptions == found.missing == []
    assert found.score.finite
    assert found.score.device == "cpu"


def test_the_noise_levels_are_those_of_the_sde_at_its_ends():
    found = inspect_model("fashion-ve", device="cpu")
    low, high = found.noise
    assert (low.t, high.t) == (1e-5, 1.0)
    assert (low.alpha, high.alpha) == (1.0, 1.0)
    assert math.isclose(low.sigma, 0.01, rel_tol=1e-3)
    assert math.isclose(high.sigma, 45.0, rel_tol=1e-9)


def test_the_score_of_standard_normal_data_is_that_of_its_formula(code):
    """score(x) = -x, and x is sigma z, so the RMS is about sigma."""
    low, high = inspect_model(f"{code}:model", device="cpu").noise
    for level in (low, high):
        assert level.score_rms / level.sigma == pytest.approx(1, abs=0.7)
        assert level.noise_rms == pytest.approx(level.sigma * level.score_rms)


def test_a_file_and_a_folder_have_a_source_of_their_own(tmp_path):
    path = tmp_path / "copy.safetensors"
    shutil.copy(local_path(read_manifest()["mixture"]), path)
    found = document(path)
    assert (found.source, found.format) == (f"file:{path}", "native")
    assert (found.name, found.parametrization) == ("copy.safetensors", "exact")
    assert found.license == "Apache-2.0"


def test_a_pth_file_with_a_config_lists_its_assumptions(tmp_path):
    write(TINY, tmp_path / "a.pth")
    found = document(tmp_path / "a.pth", "--config", "sde=vp,image_size=32")
    assert found.format == "score_sde_pytorch"
    assert (found.network.name, found.shape) == ("ncsnpp", [3, 32, 32])
    (sentence,) = found.assumptions
    assert "beta_min=0.1" in sentence
    assert "--config KEY=VALUE" in sentence
    assert found.license is None
    assert found.missing == []
    text = ggf("inspect", tmp_path / "a.pth", "--config", "sde=vp,image_size=32").stdout
    assert "beta_min=0.1" in "".join(text.split())


def test_a_converted_file_states_its_former_format(tmp_path):
    write(TINY, tmp_path / "a.pth")
    out = tmp_path / "b.safetensors"
    words = ["--config", "sde=vp,image_size=32", "--license", "CC0"]
    assert ggf("convert", tmp_path / "a.pth", out, *words).exit_code == 0
    found = document(out)
    assert found.format == "native, from score_sde_pytorch"
    assert found.license == "CC0"
    assert len(found.assumptions) == 1


# --- code of the user -----------------------------------------------------------------------------


def test_code_of_the_user_is_run_and_described(code):
    found = document(f"{code}:model")
    assert (found.format, found.source) == ("code", f"code:{code}:model")
    assert (found.network.name, found.network.parameters) == (None, None)
    assert (found.data_range, found.license) == (None, "MIT")
    own = document(f"{code}:own")
    assert own.network.parameters == 30
    text = ggf("inspect", f"{code}:own").stdout
    assert "code of your own, 30 parameters" in text


def test_a_custom_sde_and_any_provenance_are_described(code):
    found = document(f"{code}:odd")
    assert found.sde["name"] == "custom"
    assert found.noise[1].alpha == 0.5
    assert ggf("inspect", f"{code}:odd").exit_code == 0


def test_labels_of_a_checkpoint_are_used_and_unknown_conditions_are_not_guessed(code):
    known = document(f"{code}:classes")
    assert (known.conditional, known.classes, known.score.finite) == (True, 10, True)
    assert "10 classes" in ggf("inspect", f"{code}:classes").stdout
    unknown = document(f"{code}:conditional")
    assert (unknown.score.finite, unknown.noise[0].score_rms) == (None, None)
    assert "not evaluated: its conditions" in ggf("inspect", f"{code}:conditional").stdout
    assert document(f"{code}:given").score.finite


# --- failures -------------------------------------------------------------------------------------


def test_a_score_that_is_not_finite_exits_4_after_the_document(code):
    found = document(f"{code}:nan", exit_code=4)
    assert found.score.finite is False
    assert found.noise[0].score_rms is None
    done = ggf("inspect", f"{code}:nan")
    assert done.exit_code == 4
    assert "not finite" in done.stdout


@pytest.mark.parametrize(
    ("name", "reason"), [("broken", "division by zero"), ("short", "it has shape (1, 2)")]
)
def test_a_score_that_cannot_be_computed_exits_3_with_the_reason(code, name, reason):
    done = ggf("inspect", f"{code}:{name}")
    assert done.exit_code == 3
    assert "cannot be computed" in done.stderr
    assert reason in done.stderr


def test_what_a_file_does_not_state_is_missing(tmp_path):
    write(TINY, tmp_path / "a.pth")
    found = document(tmp_path / "a.pth", exit_code=3)
    assert isinstance(found, Unreadable)
    assert "does not state the sde" in found.error
    (missing,) = found.missing
    assert missing.startswith("give it: --config sde=")
    done = ggf("inspect", tmp_path / "a.pth")
    assert done.exit_code == 3
    assert "give it: --config sde=" in done.stderr


def test_a_file_that_cannot_be_read_exits_3_with_the_reason(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"\x10" * 100)
    found = document(path, exit_code=3)
    assert "corrupt or truncated" in found.error
    assert found.missing == []
    with pytest.raises(CheckpointError, match="corrupt or truncated"):
        ggf_cli.inspect_model(path)
    assert document(tmp_path / "none", exit_code=3).exit_code == 3


def test_an_unknown_name_exits_2():
    assert "did you mean 'church'" in document("churhc", exit_code=2).hint


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_text_fits_the_width(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    text = ggf("inspect", "fashion-vp").stdout
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    entry = read_manifest()["fashion-vp"]
    assert entry.sha256 in text.replace("\n", "").replace(" ", "")
