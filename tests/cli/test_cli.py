"""The commands `sample`, `list-models`, `convert`: output, files, exit codes and help."""

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import ggf, read_log
from faults import Faults
from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.cli.app import app
from ggf_cli.solvers.catalog import flag, read_catalog
from patience import PATIENCE

FAST = ["--model", "mixture", "--n", "4", "--eps-rel", "0.5"]


def test_sample_writes_images_grid_and_log(tmp_path):
    out = tmp_path / "run"
    done = ggf("sample", *FAST, "--out", out, "--seed", 3)
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in out.iterdir()) == ["grid.png", "run.json", "samples"]
    names = sorted(path.name for path in (out / "samples").iterdir())
    assert names == [f"{i:06d}.png" for i in range(4)]
    log = read_log(out)
    assert (log["status"], log["seed"], log["num_samples"]) == ("completed", 3, 4)
    assert log["model"]["name"] == "mixture"
    assert log["solver"]["options"]["eps_abs"] == 2 / 256
    assert log["nfe"]["total"] == sum(s["nfe"] for s in log["samples"])
    assert str(out / "grid.png") in done.stdout


def test_json_prints_the_content_of_run_json(tmp_path):
    done = ggf("sample", *FAST, "--out", tmp_path / "run", "--json")
    assert json.loads(done.stdout) == read_log(tmp_path / "run")


def test_quiet_prints_the_folder_only(tmp_path):
    done = ggf("sample", *FAST, "--out", tmp_path / "run", "--quiet")
    assert done.stdout == f"{tmp_path / 'run'}\n"
    assert done.stderr == ""


def test_the_log_lists_the_files_that_were_written(tmp_path):
    import hashlib

    ggf("sample", *FAST, "--out", tmp_path)
    listed = {f["path"]: f["sha256"] for f in read_log(tmp_path)["files"]}
    found = {
        str(p.relative_to(tmp_path)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in tmp_path.rglob("*")
        if p.is_file() and p.name != "run.json"
    }
    assert listed == found


def test_the_grid_holds_its_command_and_the_command_repeats_it(tmp_path):
    ggf("sample", *FAST, "--out", tmp_path / "a", "--grid", "1x4")
    grid = Image.open(tmp_path / "a/grid.png")
    command = grid.text["ggf"]
    assert command == read_log(tmp_path / "a")["command"]
    words = command.split()
    assert words[:2] == ["ggf", "sample"]
    again = ggf(*words[1:], "--out", tmp_path / "b")
    assert again.exit_code == 0, again.output
    for name in ["grid.png", *(f"samples/{i:06d}.png" for i in range(4))]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_grid_geometry(tmp_path):
    ggf("sample", *FAST, "--out", tmp_path, "--grid", "2x3")
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    # 16 pixels, enlarged four times, and a gap.
    side = 64 + 2
    assert grid.shape == (2 * side + 2, 3 * side + 2, 3)
    # Two of the six tiles are empty.
    assert (grid[side + 2 :, side + 2 :] == 255).all()
    tile = grid[2:66, 2:66]
    sample = np.asarray(Image.open(tmp_path / "samples/000000.png"))
    assert (tile[::4, ::4] == sample).all()


def test_indices_select_samples_of_the_seed(tmp_path):
    ggf("sample", "--model", "mixture", "--eps-rel", "0.5", "--n", 12, "--out", tmp_path / "all")
    words = ["sample", "--model", "mixture", "--eps-rel", "0.5", "--indices", "9,2-3"]
    assert ggf(*words, "--out", tmp_path / "some").exit_code == 0
    names = sorted(p.name for p in (tmp_path / "some/samples").iterdir())
    assert names == ["000002.png", "000003.png", "000009.png"]
    for name in names:
        here, there = (tmp_path / run / "samples" / name for run in ("all", "some"))
        assert here.read_bytes() == there.read_bytes()


def test_npz_holds_the_same_pixels(tmp_path):
    ggf("sample", *FAST, "--out", tmp_path / "png")
    ggf("sample", *FAST, "--out", tmp_path / "npz", "--format", "npz")
    with np.load(tmp_path / "npz/samples.npz") as file:
        data = dict(file)
    assert data["images"].shape == (4, 16, 16, 3)
    assert data["index"].tolist() == [0, 1, 2, 3]
    assert data["nfe"].tolist() == [s["nfe"] for s in read_log(tmp_path / "npz")["samples"]]
    for i in range(4):
        png = np.asarray(Image.open(tmp_path / f"png/samples/{i:06d}.png"))
        assert (data["images"][i] == png).all()


def test_format_none_writes_grid_and_log_only(tmp_path):
    ggf("sample", *FAST, "--out", tmp_path, "--format", "none")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["grid.png", "run.json"]


def test_em_takes_steps(tmp_path):
    ggf("sample", "--model", "mixture", "--n", 2, "-s", "em", "--steps", 7, "--out", tmp_path)
    log = read_log(tmp_path)
    assert log["solver"]["name"] == "em"
    assert log["solver"]["options"]["steps"] == 7
    assert log["nfe"]["min"] == log["nfe"]["max"] == 8


def test_t_eps_is_an_option(tmp_path):
    ggf("sample", *FAST, "--t-eps", "0.01", "--out", tmp_path)
    assert read_log(tmp_path)["t_eps"] == 0.01


def test_default_folder_names_time_model_and_solver(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = ggf("sample", *FAST, "--quiet")
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-mixture-adaptive")
    assert done.stdout == f"runs/{folder.name}\n"


def test_list_models():
    table = ggf("list-models").stdout
    documents = json.loads(ggf("list-models", "--json").stdout)
    assert [d["name"] for d in documents] == list(read_manifest())
    here = [d["name"] for d in documents if d["here"]]
    assert here[:3] == ["fashion-vp", "fashion-ve", "fashion-subvp"]
    for document in documents:
        for key in ("name", "dataset", "license"):
            assert document[key] in table


def test_convert_round_trip(tmp_path):
    from ggf_cli.checkpoints.locate import local_path
    from ggf_cli.checkpoints.manifest import read_manifest

    source = local_path(read_manifest()["mixture"])
    done = ggf("convert", source, tmp_path / "m.safetensors", "--license", "MIT")
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "m.safetensors") in done.stdout
    assert ggf("convert", source, tmp_path / "m.safetensors").exit_code == 2
    assert ggf("convert", source, tmp_path / "n.safetensors", "--config", "church").exit_code == 2
    assert ggf("convert", "fashion-vp", tmp_path / "n.safetensors").exit_code == 3
    options = ["--n", 2, "--eps-rel", "0.5"]
    a = ggf("sample", "--model", tmp_path / "m.safetensors", *options, "--out", tmp_path / "a")
    assert a.exit_code == 0, a.output
    ggf("sample", "--model", "mixture", *options, "--out", tmp_path / "b")
    a, b = (tmp_path / run / "samples/000001.png" for run in "ab")
    assert a.read_bytes() == b.read_bytes()


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["--model", "fashon-vp"], "unknown model 'fashon-vp'", "did you mean 'fashion-vp'?"),
        (["--solver", "adaptve"], "unknown solver 'adaptve'", "did you mean 'adaptive'?"),
        (["--eps-rel", "0"], "--eps-rel of solver 'adaptive' is 0.0", None),
        (["--eps-rel", "-1"], "--eps-rel", None),
        (["--eps-rel", "nan"], "--eps-rel", None),
        (["--eps-abs", "inf"], "--eps-abs", None),
        (["--n", "0"], "--n is 0", None),
        (["--n", "-3"], "--n is -3", None),
        (["--batch-size", "0"], "--batch-size is '0'", None),
        (["--batch-size", "many"], "--batch-size is 'many'", None),
        (["--steps", "10"], "solver 'adaptive' has no option --steps", "solvers with --steps: em"),
        (["--batch-size", "9" * 30], "--batch-size is '9999", None),
        (["--batch-size", "9" * 17], "batch size is 9999", None),
        (["--max-nfe", "9" * 30], "max NFE is 9999", None),
        (["--solver", "em", "--steps", "9" * 20], "--steps of solver 'em' is 9999", None),
        (["--eps-abs", "1e300"], "--eps-abs of solver 'adaptive' is 1e+300", None),
        (["--indices", "9" * 5000], "the largest index is 9223372036854775807", None),
        (["--model", ""], "unknown model ''", None),
        (["--model", "a" * 300], "unknown model 'aaa", None),
        (["--grid", "999x999"], "a grid of 999x999 has 4.1e+09 pixels", "use a smaller grid"),
        (["--solver", "em", "--eps-rel", "0.1"], "solver 'em' has no option --eps-rel", "--steps"),
        (["--n", "2", "--indices", "1"], "exclude each other", None),
        (["--indices", "5-2"], "runs backwards", None),
        (["--indices", "1,,2"], "not a number or a range", "like 0-63,70"),
        (["--indices", "1,1"], "twice", None),
        (["--indices", "0-99999999999"], "more than 10,000,000", None),
        (["--grid", "0x3"], "--grid is '0x3'", "4x4"),
        (["--seed", "-1"], "seed is -1", None),
        (["--t-eps", "1"], "t_eps is 1.0", None),
        (["--max-nfe", "0"], "max NFE is 0", None),
        (["--device", "cuda:9"], "device 'cuda:9' is not available", "--device auto"),
        (["--device", "abacus"], "'abacus' is not a device", None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_usage_errors_exit_2(tmp_path, args, message, hint):
    done = ggf("sample", "--out", tmp_path / "run", *args)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "hint: " in done.stderr
    assert hint is None or hint in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "run").exists()


def test_usage_errors_of_typer_exit_2():
    assert ggf("sample", "--n", "x").exit_code == 2
    assert ggf("sampel").exit_code == 2
    assert ggf().exit_code == 2


def test_a_broken_registry_exits_2_with_line_and_key(tmp_path, monkeypatch):
    (tmp_path / "checkpoints.toml").write_text("[a]\nsumary = 'x'\n")
    monkeypatch.setenv("GGF_MANIFEST", str(tmp_path / "checkpoints.toml"))
    for command in (["list-models"], ["sample"]):
        done = ggf(*command)
        assert done.exit_code == 2
        assert "line 2: unknown key 'sumary' in [a]" in done.stderr


def test_a_corrupt_checkpoint_exits_3(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(b"\x10" * 100)
    done = ggf("sample", "--model", tmp_path / "m.safetensors", "--out", tmp_path / "run")
    assert done.exit_code == 3
    assert "m.safetensors is corrupt or truncated" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_missing_checkpoint_exits_3(tmp_path):
    assert ggf("sample", "--model", tmp_path / "none").exit_code == 3


def nan_model(tmp_path):
    """Write the mixture model with means of NaN, so that its score is NaN everywhere."""
    import torch

    from ggf_cli.checkpoints import native
    from ggf_cli.checkpoints.locate import local_path
    from ggf_cli.checkpoints.manifest import read_manifest

    checkpoint = native.read(local_path(read_manifest()["mixture"]))
    checkpoint.tensors["mean"] = torch.full_like(checkpoint.tensors["mean"], float("nan"))
    path = tmp_path / "nan.safetensors"
    path.write_bytes(native.to_bytes(checkpoint))
    return path


def test_a_score_of_nan_exits_4(tmp_path):
    done = ggf("sample", "--model", nan_model(tmp_path), "--n", 3, "--out", tmp_path / "run")
    assert done.exit_code == 4
    assert "3 of 3 samples met a score or a state that is not finite" in done.stderr
    assert "hint:" in done.stderr
    log = read_log(tmp_path / "run")
    assert log["status"] == "failed"
    assert {s["status"] for s in log["samples"]} == {"non_finite"}
    assert not (tmp_path / "run/samples").exists()


def test_running_out_of_evaluations_exits_4(tmp_path):
    done = ggf("sample", *FAST, "--max-nfe", 5, "--out", tmp_path)
    assert done.exit_code == 4
    assert "4 of 4 samples ran out of evaluations" in done.stderr
    assert "--max-nfe" in done.stderr


def test_a_folder_that_is_not_empty_exits_5_and_is_unchanged(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    done = ggf("sample", *FAST, "--out", tmp_path)
    assert done.exit_code == 5
    assert "is not empty" in done.stderr
    assert "--force" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]


def test_force_replaces_an_earlier_run_and_nothing_else(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    ggf("sample", *FAST, "--n", 6, "--out", tmp_path, "--force")
    assert len(list((tmp_path / "samples").iterdir())) == 6
    done = ggf("sample", *FAST, "--out", tmp_path, "--force")
    assert done.exit_code == 0
    assert len(list((tmp_path / "samples").iterdir())) == 4
    assert (tmp_path / "precious.txt").exists()


def test_force_removes_nothing_if_the_request_is_invalid(tmp_path):
    ggf("sample", *FAST, "--out", tmp_path)
    before = sorted(p.name for p in tmp_path.rglob("*"))
    done = ggf("sample", *FAST, "--grid", "999x999", "--out", tmp_path, "--force")
    assert done.exit_code == 2
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["samples", "run.json"])
def test_a_file_in_the_way_is_reported_before_any_evaluation(tmp_path, name):
    in_the_way = tmp_path / name
    in_the_way.touch() if name == "samples" else in_the_way.mkdir()
    done = ggf("sample", *FAST, "--out", tmp_path, "--force")
    assert done.exit_code == 5
    assert f"{name} is in the way" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("log", ['{"files": [{"path": "a\\u0000b"}]}', "[" * 100_000])
def test_force_accepts_any_earlier_log(tmp_path, log):
    (tmp_path / "run.json").write_text(log)
    assert ggf("sample", *FAST, "--out", tmp_path, "--force").exit_code == 0


def test_two_runs_do_not_share_a_folder(tmp_path):
    from ggf_cli.errors import OutputError
    from ggf_cli.runs.folder import OutputFolder

    first = OutputFolder(tmp_path / "run")
    with pytest.raises(OutputError):
        OutputFolder(tmp_path / "run")
    first.release()
    OutputFolder(tmp_path / "run").release()


def test_runs_of_the_same_second_have_different_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [ggf("sample", *FAST, "--quiet").stdout for _ in range(3)]
    assert len(set(names)) == 3


def test_an_unexpected_error_during_a_run_leaves_a_run_log(tmp_path, monkeypatch):
    from ggf_cli.runs.writer import RunWriter

    add = RunWriter.add

    def broken(self, finished, *rest):
        if len(self.samples) == 2:
            raise RuntimeError("not enough memory: you tried to allocate 7 bytes")
        add(self, finished, *rest)

    monkeypatch.setattr(RunWriter, "add", broken)
    done = ggf("sample", *FAST, "--batch-size", 1, "--out", tmp_path)
    assert done.exit_code == 4
    assert "out of memory" in done.stderr
    assert "a smaller --batch-size" in done.stderr
    log = read_log(tmp_path)
    assert (log["status"], len(log["samples"])) == ("failed", 2)


def test_stdout_that_cannot_be_written_is_an_error(tmp_path):
    command = [sys.executable, "-m", "ggf_cli", "list-models"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 5
    assert "cannot write to stdout" in done.stderr
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=ascii_only, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "fashion-vp" in done.stdout


def test_force_does_not_follow_a_forged_log_out_of_the_folder(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    out = tmp_path / "run"
    out.mkdir()
    (out / "run.json").write_text(json.dumps({"files": [{"path": "../precious.txt"}]}))
    assert ggf("sample", *FAST, "--out", out, "--force").exit_code == 0
    assert (tmp_path / "precious.txt").exists()


def test_a_folder_that_cannot_be_created_exits_5(tmp_path):
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file/run", Path("/proc/ggf")):
        done = ggf("sample", *FAST, "--out", out)
        assert done.exit_code == 5, out
        assert "cannot create the folder" in done.stderr
        assert "hint: give another place" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_writable_exits_5(tmp_path):
    tmp_path.chmod(0o500)
    assert ggf("sample", *FAST, "--out", tmp_path).exit_code == 5


def test_a_full_disk_exits_5_and_finished_samples_are_kept(tmp_path):
    third = ("write", "samples/.000002.png.part")
    with Faults(tmp_path, at=third, error=errno.ENOSPC):
        done = ggf("sample", *FAST, "--out", tmp_path, "--batch-size", 1)
    assert done.exit_code == 5
    assert "no space left while writing" in done.stderr
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["000000.png", "000001.png"]
    log = read_log(tmp_path)
    assert log["status"] == "failed"
    assert [s["index"] for s in log["samples"]] == [0, 1]


def test_ctrl_c_keeps_finished_samples_and_exits_130(tmp_path):
    command = [sys.executable, "-m", "ggf_cli", "sample", "--n", "5000", "--model", "mixture"]
    process = subprocess.Popen(
        [*command, "--eps-rel", "0.1", "--batch-size", "2", "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    samples = tmp_path / "samples"
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and len(list(samples.glob("*"))) < 3:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, stderr
    log = read_log(tmp_path)
    assert log["status"] == "interrupted"
    on_disk = sorted(p.name for p in samples.iterdir())
    assert 3 <= len(on_disk) < 5000
    assert on_disk == sorted(Path(s["file"]).name for s in log["samples"])
    assert f"{len(on_disk)} of 5000 samples are in" in stderr
    Image.open(tmp_path / "grid.png").verify()


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("GGF_DEBUG", "1")
    done = ggf("sample", "--model", "nope")
    assert done.exit_code == 1
    assert type(done.exception).__name__ == "UsageError"


# --- help -----------------------------------------------------------------------------------------


def test_every_command_and_option_has_help():
    import typer.main

    for name, command in typer.main.get_command(app).commands.items():
        assert command.help, name
        assert len(command.help.splitlines()[0]) <= 70
        for parameter in command.params:
            assert getattr(parameter, "help", None), (name, parameter.name)


def test_the_full_help_has_every_flag_and_the_options_of_each_solver_with_their_defaults():
    import typer.main

    text = ggf("sample", "--help-all").stdout
    command = typer.main.get_command(app).commands["sample"]
    flags = {o for p in command.params for o in p.opts}
    for name in flags:
        assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text), name
    blocks = re.split(r"^--solver (?=\S+: )", text, flags=re.MULTILINE)[1:]
    sections = {block.split(":")[0]: block for block in blocks}
    assert list(sections) == list(read_catalog())
    for name, solver in read_catalog().items():
        for option, about in solver.options.items():
            assert flag(option) in flags
            value = re.escape(str(about.default)) if about.type in ("int", "float") else ""
            shown = "–" if about.default is None else value
            assert re.search(rf"^{flag(option)} +{shown}", sections[name], re.MULTILINE), option


@pytest.mark.parametrize("width", [80, 120])
def test_the_usual_options_fit_on_a_screen(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    done = ggf("sample", "--help")
    lines = done.stdout.splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= width
    for word in ("--model", "--n", "--eps-rel", "--steps", "--out", "--resume", "--help-all"):
        assert word in done.stdout
    assert "ggf list-solvers NAME" in " ".join(done.stdout.split())
    assert "--pcoeff" not in done.stdout
    assert ggf("sample", "-h").stdout == done.stdout


def test_the_help_is_readable_in_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    done = ggf("sample", "--help")
    assert done.exit_code == 0
    assert "Relative tolerance." in done.stdout


def test_list_solvers(monkeypatch):
    # In a pipe, rows do not wrap.
    monkeypatch.delenv("COLUMNS")
    table = ggf("list-solvers").stdout
    assert [line.split()[0] for line in table.splitlines()[1:]] == list(read_catalog())
    document = json.loads(ggf("list-solvers", "--json").stdout)
    assert [solver["name"] for solver in document] == list(read_catalog())
    assert document[0]["options"]["eps_rel"]["default"] == 0.02


def test_list_solvers_with_a_name_lists_the_options_of_that_solver():
    text = ggf("list-solvers", "heun").stdout
    assert all(flag(option) in text for option in read_catalog()["heun"].options)
    assert "adaptive" not in text
    done = ggf("list-solvers", "hein")
    assert done.exit_code == 2
    assert "did you mean 'heun'?" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--solver", "em", "--eps-rel", 0.1], "solver 'em' has no option --eps-rel"),
        (["--solver", "heun", "--steps", 3, "--nfe", 9], "--steps and --nfe exclude each other"),
        (["--solver", "heun", "--schedule", "cosine"], "one of time, logsnr, karras"),
        (["--solver", "restart", "--intervals", "1-2"], "text like 0.06-0.30:2x2"),
        (["--solver", "restart", "--intervals", "2-1:2x2"], "LOW must lie below HIGH"),
        (["--solver", "em", "--nfe", 1], "its shortest run takes 2"),
    ],
)
def test_invalid_solver_options_are_refused(arguments, message):
    done = ggf("sample", "--model", "mixture", *arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_progress_is_printed_to_stderr_as_plain_lines(tmp_path, monkeypatch):
    from ggf_cli import progress

    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    done = ggf("sample", *FAST, "--out", tmp_path, "--json")
    json.loads(done.stdout)
    lines = done.stderr.splitlines()
    assert len(lines) > 3
    assert all("samples · NFE" in line and line.endswith("left") for line in lines)
    assert "\x1b" not in done.stderr


def test_the_grid_is_a_png(tmp_path):
    ggf("sample", *FAST, "--out", tmp_path)
    image = Image.open(io.BytesIO((tmp_path / "grid.png").read_bytes()))
    assert image.format == "PNG"
