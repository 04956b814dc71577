"""`ggf_cli.run`: the function behind `ggf sample`."""

import json
from dataclasses import replace
from threading import Thread

import numpy as np
import pytest
from msgspec import to_builtins
from typer.testing import CliRunner

import ggf_cli
from ggf_cli.cli.app import app
from ggf_cli.errors import OutputError, SolveError, UsageError
from observers import Interrupt, Recorder
from problems import VP, gaussian_model

SETTINGS = {"solver": "em", "steps": 5, "seed": 3, "batch_size": 4}
OPTIONS = ["--solver", "em", "--steps", "5", "--seed", "3", "--batch-size", "4"]


def arrays(folder):
    with np.load(folder / "samples.npz") as file:
        return {name: file[name] for name in file}


def test_run_writes_the_same_files_as_ggf_sample(tmp_path, fashion):
    result = ggf_cli.run(fashion, 6, out=tmp_path / "python", **SETTINGS)
    command = ["sample", "--model", "fashion-vp", "--n", "6", *OPTIONS, "--device", "cpu"]
    command += ["--precision", "fp32", "--quiet", "--out", str(tmp_path / "command")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    log = json.loads((tmp_path / "command/run.json").read_text())
    assert result.folder == tmp_path / "python"
    assert to_builtins(result.log) == json.loads((result.folder / "run.json").read_text())
    assert result.log.command == log["command"]
    assert [to_builtins(f) for f in result.log.files if f.path != "grid.png"] == [
        f for f in log["files"] if f["path"] != "grid.png"
    ]
    assert to_builtins(result.log.samples) == log["samples"]


def test_an_interrupted_run_resumes_to_the_same_samples(tmp_path, mixture):
    whole = ggf_cli.run(mixture, 20, out=tmp_path / "whole", format="npz", **SETTINGS)
    part = {"out": tmp_path / "part", "format": "npz"}
    with pytest.raises(KeyboardInterrupt):
        ggf_cli.run(mixture, 20, observer=Interrupt(6), **part, **SETTINGS)
    log = json.loads((tmp_path / "part/run.json").read_text())
    assert log["status"] == "interrupted"
    assert 6 <= len(log["samples"]) < 20
    recorder = Recorder()
    result = ggf_cli.run(mixture, 20, resume=True, observer=recorder, **part, **SETTINGS)
    assert recorder.notes == [
        f"resuming: {len(log['samples'])} of 20 samples are finished and kept"
    ]
    assert result.log.status == "completed"
    assert result.log.samples == whole.log.samples
    for name, array in arrays(result.folder).items():
        assert np.array_equal(array, arrays(whole.folder)[name])


def test_resume_of_a_completed_run_returns_it(tmp_path, mixture):
    first = ggf_cli.run(mixture, 3, out=tmp_path / "run", format="npz", **SETTINGS)
    recorder = Recorder()
    again = ggf_cli.run(
        mixture, 3, out=tmp_path / "run", format="npz", resume=True, observer=recorder, **SETTINGS
    )
    assert again.log == first.log
    assert recorder.notes == [
        f"the run in {tmp_path / 'run'} has ended; there is nothing left to draw"
    ]


def test_resume_without_a_batch_size_takes_that_of_the_run(tmp_path, mixture):
    settings = {**SETTINGS, "batch_size": 5}
    with pytest.raises(KeyboardInterrupt):
        ggf_cli.run(mixture, 20, out=tmp_path, format="npz", observer=Interrupt(5), **settings)
    result = ggf_cli.run(
        mixture, 20, out=tmp_path, format="npz", resume=True, **{**settings, "batch_size": None}
    )
    assert result.log.batch_size == 5


def test_another_run_in_the_folder_is_refused(tmp_path, mixture):
    ggf_cli.run(mixture, 3, out=tmp_path, format="npz", **SETTINGS)
    with pytest.raises(OutputError, match="not empty"):
        ggf_cli.run(mixture, 3, out=tmp_path, format="npz", **SETTINGS)
    with pytest.raises(OutputError, match="`seed` was 3, is 4"):
        ggf_cli.run(mixture, 3, out=tmp_path, format="npz", resume=True, **{**SETTINGS, "seed": 4})
    ggf_cli.run(mixture, 3, out=tmp_path, format="npz", force=True, **{**SETTINGS, "seed": 4})


def test_lost_samples_raise_an_error_after_the_log_is_written(tmp_path, mixture):
    model = replace(mixture, score=lambda x, t: x * float("nan"))
    with pytest.raises(SolveError, match="3 of 3 samples met a score"):
        ggf_cli.run(model, 3, out=tmp_path, format="npz", **SETTINGS)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"indices": 0}, "no samples asked for"),
        ({"indices": [1, 1]}, "asked for twice"),
        ({"resume": True, "force": True}, "exclude each other"),
        ({"solver": ggf_cli.solvers.Adaptive()}, "go with a solver's name"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_written(
    tmp_path, mixture, arguments, message
):
    settings = {"indices": 3, "format": "npz", "out": tmp_path / "run", **SETTINGS, **arguments}
    with pytest.raises(UsageError, match=message):
        ggf_cli.run(mixture, settings.pop("indices"), **settings)
    assert not (tmp_path / "run").exists()


def test_samples_that_are_not_images_need_npz(tmp_path):
    model = gaussian_model(VP, (5,))
    with pytest.raises(UsageError, match="are not images"):
        ggf_cli.run(model, 3, out=tmp_path / "run", **SETTINGS)
    result = ggf_cli.run(model, 3, out=tmp_path / "run", format="npz", **SETTINGS)
    assert arrays(result.folder)["images"].shape == (3, *model.shape)


def test_a_run_works_outside_of_the_main_thread(tmp_path, mixture):
    results = []
    thread = Thread(
        target=lambda: results.append(
            ggf_cli.run(mixture, 3, out=tmp_path, format="npz", **SETTINGS)
        )
    )
    thread.start()
    thread.join()
    assert results[0].log.status == "completed"
