"""Models from the user's own code: loaded because the user typed them, and for no other reason."""

import json
import shutil

import pytest

import ggf_cli
from command import ggf, read_log
from ggf_cli.checkpoints.manifest import find_model, read_manifest
from ggf_cli.checkpoints.user_code import UserCode, parse_user_code
from ggf_cli.errors import CheckpointError, GGFError, UsageError

SOURCE = """
import os, pathlib
import torch
import ggf_cli
from neighbour import MEAN

pathlib.Path(os.environ["GGF_TEST_IMPORTED"]).touch()
sde = ggf_cli.VPSDE()

def score(x, t):
    variance = (0.25 * sde.alpha(t) ** 2 + sde.sigma(t) ** 2).reshape(-1, 1, 1, 1)
    return (-(x - MEAN * sde.alpha(t).reshape(-1, 1, 1, 1)) / variance).to(x.dtype)

model = ggf_cli.ScoreModel(score=score, sde=sde, shape=(1, 4, 4))

def make(device):
    assert isinstance(device, torch.device)
    return ggf_cli.ScoreModel(score=score, sde=sde, shape=(1, 4, 4), device=device, name="made")

def broken():
    return 3 / 0

def no_model():
    return torch.zeros(3)

class Batchwise(torch.nn.Module):
    def forward(self, x, t):
        return -(x - x.mean(0))

network = Batchwise().eval()
batchwise = ggf_cli.ScoreModel(score=network, sde=sde, shape=(1, 4, 4))
nan = ggf_cli.ScoreModel(score=lambda x, t: x * torch.nan, sde=sde, shape=(1, 4, 4))
exact = ggf_cli.load_model("mixture", device="cpu")
number = 3
"""
RUN = ("sample", "--n", "3", "--eps-rel", "0.5", "--precision", "fp32", "--quiet")


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A folder with own code, which is the working folder; `imported` appears when it is run."""
    (tmp_path / "own_net.py").write_text(SOURCE)
    (tmp_path / "neighbour.py").write_text("MEAN = 0.3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GGF_TEST_IMPORTED", str(tmp_path / "imported"))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    import sys

    for name in ("own_net", "neighbour"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["own_net.py:model", "own_net:model", "own_net.py:make"])
def test_a_run_with_own_code_names_it_with_its_hash(code, name):
    from ggf_cli.files import sha256

    done = ggf(*RUN, "--model", name, "--out", "run")
    assert done.exit_code == 0, done.output
    model = read_log(code / "run")["model"]
    assert (model["code"], model["source"]) == (name, "own_net.py")
    assert model["sha256"] == sha256(code / "own_net.py", 2**20)
    assert model["name"] == ("made" if name.endswith("make") else name)
    assert f"code      {name}" in ggf("show", "run").stdout


def test_own_code_from_python_is_the_model_itself(code):
    loaded = ggf_cli.load_model("own_net.py:model")
    import own_net

    one, other = (ggf_cli.sample(m, 4, eps_rel=0.5) for m in (loaded, own_net.model))
    assert (one.images == other.images).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_net.py:broken", "raised ZeroDivisionError: division by zero"),
        ("own_net.py:no_model", "is a Tensor, it must be a ScoreModel"),
        ("own_net.py:network", "is a Batchwise, it must be a ScoreModel"),
        ("own_net.py:number", "is a int, it must be a ScoreModel"),
        ("own_net.py:modell", "own_net.py has no 'modell'"),
        ("not_there:model", "raised ModuleNotFoundError"),
    ],
)
def test_code_without_a_model_is_refused(code, name, message):
    with pytest.raises(UsageError, match=message):
        ggf_cli.load_model(name)


def test_a_missing_file_is_refused_before_torch_is_imported(code):
    with pytest.raises(CheckpointError, match=r"no file absent\.py"):
        find_model("absent.py:model")


def test_config_is_not_for_code(code):
    done = ggf(*RUN, "--model", "own_net.py:model", "--config", "image_size=64")
    assert done.exit_code == 2
    assert "--config is only for .pth and .pt files" in done.stderr


def test_a_stated_sde_must_be_that_of_the_code(code):
    words = [*RUN, "--model", "own_net.py:model", "--out", "stated", "--sde"]
    assert ggf(*words, "ve").exit_code == 2
    assert ggf(*words, "vp").exit_code == 0


def test_resume_refuses_changed_code(code):
    words = [*RUN, "--model", "own_net.py:model", "--out", "run"]
    assert ggf(*words).exit_code == 0
    assert ggf(*words, "--resume").exit_code == 0
    with (code / "own_net.py").open("a") as file:
        file.write("# changed\n")
    done = ggf(*words, "--resume")
    assert done.exit_code == 5
    assert "the model was" in done.stderr


def test_a_comparison_of_own_code_names_it(code):
    words = ["compare", "em:steps=3", "em:steps=5", "--nfe", "default", "--n", "8"]
    words += ["--model", "own_net.py:exact", "--precision", "fp32"]
    done = ggf(*words, "--out", "compared", "--quiet")
    assert done.exit_code == 0, done.output
    model = json.loads((code / "compared/compare.json").read_text())["model"]
    assert model["code"] == "own_net.py:exact"


def test_doctor_evaluates_the_score(code):
    assert "score finite at 4 noise levels" in ggf("doctor", "--model", "own_net.py:model").stdout
    done = ggf("doctor", "--model", "own_net.py:batchwise")
    assert done.exit_code == 0
    assert "from the row alone" in done.stdout
    done = ggf("doctor", "--model", "own_net.py:nan")
    assert done.exit_code == 4
    assert "score is not finite" in done.stdout


# --- never without being named by the user ------------------------------------------------------


def test_repeating_a_run_needs_permission_to_run_code(code):
    assert ggf(*RUN, "--model", "own_net.py:model", "--out", "run").exit_code == 0
    imported = code / "imported"
    imported.unlink()
    for path in ("run", "run/run.json", "run/grid.png"):
        shutil.rmtree(code / "again", ignore_errors=True)
        done = ggf("show", path, "--repeat", "--out", "again")
        assert done.exit_code == 2
        assert "would import and run code: 'own_net.py:model'" in done.stderr
        assert "--allow-code" in done.stderr
        assert not imported.exists()
    for words in (["show", "run"], ["show", "run", "--check"], ["show", "run", "--json"]):
        assert ggf(*words).exit_code == 0
    assert not imported.exists()
    done = ggf("show", "run", "--repeat", "--allow-code", "--out", "again")
    assert done.exit_code == 0, done.output
    assert "4 of the 4 files are identical to the run's" in done.stderr
    assert imported.exists()


def test_a_registry_cannot_name_code(code):
    text = (
        '[one]\nsummary = ""\ndataset = ""\n'
        "sde = { name = 'vp', beta_min = 0.1, beta_max = 20, t_eps = 1e-3 }\n"
        "shape = [1, 4, 4]\nparameters = 0\nsource = 'own_net.py:model'\n"
        'sha256 = ""\nlicense = ""\n'
    )
    (code / "checkpoints.toml").write_text(text)
    with pytest.raises(GGFError, match="'source'"):
        read_manifest(code / "checkpoints.toml")
    assert not (code / "imported").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("net.py:model", ("net.py", "model", True)),
        ("a/b c.py:f", ("a/b c.py", "f", True)),
        ("C:\\x\\net.py:f", ("C:\\x\\net.py", "f", True)),
        ("package.module:f", ("package.module", "f", False)),
        ("hf:owner", None),
        ("hf:owner/repo", None),
        ("church", None),
        ("a.pth", None),
        ("net.py", None),
        ("net.py:", None),
        ("net.py:f()", None),
        ("os;x:f", None),
        ("a b:f", None),
    ],
)
def test_names_of_code(name, expected):
    found = parse_user_code(name)
    if expected is None:
        assert found is None
    else:
        place, attribute, is_file = expected
        assert found == UserCode(text=name, place=place, attribute=attribute, is_file=is_file)


def test_a_file_without_an_object_is_refused_with_the_form(code):
    done = ggf("sample", "--model", "own_net.py")
    assert done.exit_code == 3
    assert "own_net.py:model" in done.stderr
    assert not (code / "imported").exists()
