"""Assumed settings of a checkpoint: Python and the commands warn of them and record them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ggf_cli
from command import ggf, read_log
from comparison_requests import plan
from ggf_cli.checkpoints import native, score_sde
from ggf_cli.checkpoints.load import load_model
from ggf_cli.cli.console import with_flags
from ggf_cli.comparison.cell_runs import plan_cell_run
from ggf_cli.comparison.lineup import EPS_REL, parse_contender
from ggf_cli.comparison.request import CompareRequest, plan_comparison
from ggf_cli.comparison.runner import Comparison
from ggf_cli.engine import Engine
from ggf_cli.errors import AssumptionWarning, CheckpointError, UsageError
from ggf_cli.runs.resume import setting_changes
from ggf_cli.sde import VPSDE
from ggf_cli.solvers import make_solver
from problems import gaussian_model
from song_files import VE, SongConfig, shapes, write


def test_the_warning_points_to_the_line_that_loads_the_model(tmp_path):
    path = write(VE, tmp_path / "a.pth")
    with pytest.warns(AssumptionWarning, match="sde=ve,image_size=32,fir_kernel") as caught:
        model = ggf_cli.load_model(path, device="cpu")
    assert [w.filename for w in caught] == [__file__]
    assert model.provenance["assumptions"] == [str(w.message) for w in caught]
    model = load_model(path, config="cifar10-ve", device="cpu")
    assert model.provenance["assumptions"] == []


def test_a_converted_file_repeats_its_assumptions(tmp_path):
    checkpoint = score_sde.read(write(VE, tmp_path / "a.pth"))
    (tmp_path / "b.safetensors").write_bytes(native.to_bytes(checkpoint))
    again = native.read(tmp_path / "b.safetensors")
    assert again.assumptions == checkpoint.assumptions != ()
    with pytest.warns(AssumptionWarning, match="a.pth does not state all"):
        load_model(tmp_path / "b.safetensors")


def test_config_is_for_pth_files_only(tmp_path):
    for name in ("mixture", tmp_path):
        with pytest.raises(UsageError, match=r"`config` is only for \.pth and \.pt files"):
            load_model(name, config="cifar10-vp")


# --- commands -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A DDPM++ of one level, whose file does not state SDE, image size and resampling."""
    c = SongConfig(ch_mult=(1,), num_res_blocks=1, image_size=28, num_channels=1)
    generator = torch.Generator().manual_seed(0)
    tensors = {n: 0.1 * torch.randn(s, generator=generator) for n, s in shapes(c).items()}
    return write(c, tmp_path_factory.mktemp("small") / "small.pth", tensors)


EM = ["--n", 1, "-s", "em", "--steps", 2]
CONFIG = "sde=subvp,image_size=28"


def test_sample_warns_of_assumptions_and_records_them(small, tmp_path):
    out = tmp_path / "run"
    done = ggf("sample", "--model", small, "--config", CONFIG, *EM, "--out", out)
    assert done.exit_code == 0, done.output
    assert "warning: small.pth does not state all of its training" in done.stderr
    assert "beta_min=0.1,beta_max=20.0" in done.stderr
    log = read_log(out)
    assert (log["model"]["config"], log["model"]["sde"]["name"]) == (CONFIG, "subvp")
    [sentence] = log["model"]["assumptions"]
    assert with_flags(sentence) in done.stderr
    assert f"--config {CONFIG}" in log["command"].replace("'", "")
    shown = ggf("show", out).output
    assert "assumed" in shown
    assert "beta_max=20.0" in "".join(shown.split())

    again = ggf("show", out, "--repeat", "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert read_log(tmp_path / "again")["model"] == log["model"]

    quiet = ggf("sample", "--model", small, "--config", CONFIG, *EM, "--out", tmp_path / "q", "-q")
    assert quiet.stderr == ""
    assert read_log(tmp_path / "q")["model"]["assumptions"] == [sentence]

    other = [*EM, "--out", out, "--resume"]
    other = ggf("sample", "--model", small, "--config", f"{CONFIG},skip_rescale=false", *other)
    assert other.exit_code == 5
    assert "--config was" in other.stderr


def test_sample_requires_settings_that_are_not_assumed(small, tmp_path):
    done = ggf("sample", "--model", small, *EM, "--out", tmp_path / "run")
    assert done.exit_code == 3
    assert "does not state the sde" in done.stderr
    assert "--config sde=ve-discrete|vp|vp-discrete|subvp" in done.stderr
    done = ggf("sample", "--model", "mixture", "--config", CONFIG, *EM, "--out", tmp_path / "run")
    assert done.exit_code == 2


def test_convert_warns_of_assumptions_and_writes_them(small, tmp_path):
    out = tmp_path / "small.safetensors"
    done = ggf("convert", small, out, "--config", CONFIG)
    assert done.exit_code == 0, done.output
    assert "warning: small.pth does not state" in done.stderr
    done = ggf("sample", "--model", out, *EM, "--out", tmp_path / "run")
    assert "warning: small.pth does not state" in done.stderr
    assert read_log(tmp_path / "run")["model"]["assumptions"]


def test_compare_warns_of_assumptions(small, tmp_path):
    words = ["compare", "em:steps=2", "--model", small, "--config", CONFIG, "--metric", "frechet"]
    done = ggf(*words, "--out", tmp_path)
    assert done.exit_code == 2
    assert "warning: small.pth does not state" in done.stderr
    assert "'frechet' needs" in done.stderr


def test_the_command_of_a_comparison_has_the_config(mixture):
    wanted = {"preset": None, "budget_s": 1.0, "reference": None, "metrics": (), "seed": 0}
    wanted |= {"contenders": (parse_contender("em:steps=5"),), "eps_rel": EPS_REL, "nfe": "match"}
    plain = CompareRequest(model="a.pth", n=8, repeats=1, **wanted)
    with_config = replace(plain, config=CONFIG)
    # The name of its folder is derived from the key.
    assert "config" not in plain.key()
    assert with_config.key() != plain.key()
    command = plan_comparison(with_config, mixture, [], Path("none"), batch_size=4).command
    assert f"--model a.pth --config {CONFIG} " in command


def test_a_comparison_records_config_and_assumptions(tmp_path):
    provenance = {"config": CONFIG, "assumptions": ["beta_max is assumed"]}
    model = replace(gaussian_model(VPSDE(), dtype=torch.float32), provenance=provenance)
    wanted = plan(tmp_path, model=model, config=CONFIG, notes=["a note"])
    document = Comparison(wanted).result()
    assert document["notes"] == ["a note", "beta_max is assumed"]
    assert all(f"--config {CONFIG} " in cell["command"] for cell in document["cells"])
    engines = [Engine(m, make_solver("em")) for m in (model, replace(model, provenance=None))]
    first, second = (
        plan_cell_run(engine, range(2), keep_x=False, model_argument="g", config=None).settings
        for engine in engines
    )
    assert "`config`" in setting_changes(first, second)[0]


@pytest.mark.parametrize("assumptions", [3, "text", [1], {"a": "b"}, None])
def test_assumptions_that_are_not_a_list_of_text_are_refused(assumptions, tmp_path):
    checkpoint = score_sde.read(write(VE, tmp_path / "a.pth"), config="cifar10-ve")
    checkpoint = replace(checkpoint, provenance={"assumptions": assumptions})
    (tmp_path / "b.safetensors").write_bytes(native.to_bytes(checkpoint))
    with pytest.raises(CheckpointError, match=r"the metadata of .* are not valid"):
        native.read(tmp_path / "b.safetensors")
