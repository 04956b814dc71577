"""The real program under faults: failing networks, missing or narrow terminals, jumping clocks.

A fault is Python code that the program runs after each evaluation of the score.
"""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

import pytest

from command import ggf, read_log
from patience import PATIENCE


def nightly(*values):
    """Mark a case nightly: it starts the program (seconds), and other cases test the same code."""
    return pytest.param(*values, marks=pytest.mark.nightly)


RUN = ["sample", "--model", "mixture", "--n", "6", "--eps-rel", "0.5", "--batch-size", "3"]
FAULTY = """
import sys, torch
from dataclasses import replace
from ggf_cli.cli import model as module
from ggf_cli.cli.app import app
load, calls = module.load_model, 0

def loaded(*arguments, **options):
    model = load(*arguments, **options)
    def score(x, t):
        global calls
        calls += 1
        value = model.score(x, t)
        FAULT
        return value
    return replace(model, score=score)

module.load_model = loaded
sys.argv[0] = "ggf"
app(prog_name="ggf")
"""


def start(*words, fault=None, **options):
    """Start `ggf`; `fault` is Python code to run after each evaluation of the score."""
    program = ["-m", "ggf_cli"] if fault is None else ["-c", FAULTY.replace("FAULT", fault)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen([sys.executable, *program, *map(str, words)], **options)


def start_and_wait(*words, **options):
    process = start(*words, **options)
    process.stdout, process.stderr = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in (process.stderr or "")
    return process


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The folder of a run without faults."""
    out = tmp_path_factory.mktemp("sound") / "run"
    assert ggf(*RUN, "--out", out).exit_code == 0
    return out


# --- the network ----------------------------------------------------------------------------------

# At t = 1 a row is still its prior draw, so that the same samples are hit in every batch.
HIT = "hit = (t > 0.999) & (x.flatten(1)[:, 0] > 0)"


@pytest.mark.parametrize("number", ["nan", nightly("inf")])
def test_rows_that_become_nan_are_reported_and_other_rows_are_unchanged(
    tmp_path, reference, number
):
    fault = f"{HIT}; value = torch.where(hit[:, None, None, None], float('{number}'), value)"
    done = start_and_wait(*RUN, "--out", tmp_path / "run", fault=fault)
    assert done.returncode == 4
    log = read_log(tmp_path / "run")
    lost = [s["index"] for s in log["samples"] if s["status"] == "non_finite"]
    assert 0 < len(lost) < 6
    assert f"{len(lost)} of 6 samples met a score or a state that is not finite" in done.stderr
    kept = sorted(path.name for path in (tmp_path / "run/samples").iterdir())
    assert kept == [f"{i:06d}.png" for i in range(6) if i not in lost]
    for name in kept:
        there, here = reference / "samples" / name, tmp_path / "run/samples" / name
        assert there.read_bytes() == here.read_bytes()


OUT_OF_MEMORY = "raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 7 GiB\\nmore')"


def test_a_network_that_is_out_of_memory_continues_with_fewer_rows(tmp_path, reference):
    # The first three samples take about 40 calls.
    fault = f"\n        if calls >= 60 and len(x) > 2: {OUT_OF_MEMORY}"
    done = start_and_wait(*RUN, "--out", tmp_path / "run", fault=fault)
    assert done.returncode == 0, done.stderr
    assert "out of memory at batch size 3: continuing with 2" in done.stderr.splitlines()
    log, expected = read_log(tmp_path / "run"), read_log(reference)
    for key in ("status", "samples", "files", "nfe", "steps", "command"):
        assert log[key] == expected[key], key


def test_out_of_memory_at_one_row_is_an_error_and_finished_samples_are_kept(tmp_path, reference):
    done = start_and_wait(
        *RUN, "--out", tmp_path / "run", fault=f"\n        if calls >= 60: {OUT_OF_MEMORY}"
    )
    assert done.returncode == 4
    assert "out of memory (mixture, batch size 1): CUDA out of memory" in done.stderr
    assert "one row alone does not fit" in done.stderr
    log = read_log(tmp_path / "run")
    assert log["status"] == "failed"
    kept = [s for s in log["samples"] if s["status"] == "done"]
    assert 0 < len(kept) < 6
    for sample in kept:
        there, here = reference / sample["file"], tmp_path / "run" / sample["file"]
        assert there.read_bytes() == here.read_bytes()


def test_a_float64_score_is_converted_to_float32(tmp_path, reference):
    done = start_and_wait(*RUN, "--out", tmp_path / "run", fault="value = value.double()")
    assert done.returncode == 0
    assert [s["nfe"] for s in read_log(tmp_path / "run")["samples"]] == [
        s["nfe"] for s in read_log(reference)["samples"]
    ]
    for path in (reference / "samples").iterdir():
        assert path.read_bytes() == (tmp_path / "run/samples" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("value = value.to(torch.complex64)", "it must be a real tensor"),
        nightly("value = value.numpy()", "the score is a ndarray"),
        nightly("value = value[:1]", "a score has the shape of x"),
    ],
)
def test_an_invalid_score_is_reported(tmp_path, fault, message):
    done = start_and_wait(*RUN, "--out", tmp_path / "run", fault=fault)
    assert done.returncode == 2
    assert message in done.stderr
    assert read_log(tmp_path / "run")["status"] == "failed"


# --- output streams and terminals -----------------------------------------------------------------


@pytest.mark.parametrize("words", [["list-models"], [*RUN, "--json"]], ids=lambda words: words[0])
def test_a_closed_output_pipe_is_no_error(tmp_path, words):
    """For example `| head -1`. The run is written completely."""
    extra = ["--out", tmp_path / "run"] if "sample" in words else []
    reader, writer = os.pipe()
    os.close(reader)
    process = start(*words, *extra, stdout=writer)
    os.close(writer)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert "Exception ignored" not in stderr
    assert not extra or read_log(tmp_path / "run")["status"] == "completed"


def test_without_stdout_and_stderr_the_run_is_written(tmp_path):
    words = [sys.executable, "-m", "ggf_cli", *RUN, "--out", tmp_path / "run"]
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *map(str, words)]
    assert subprocess.run(shell, timeout=PATIENCE, check=False).returncode == 0
    assert read_log(tmp_path / "run")["status"] == "completed"


def test_no_environment_variables_are_needed(tmp_path):
    """Some schedulers start programs without a home folder, terminal, locale and search path."""
    environment = {
        key: os.environ[key] for key in ("PYTHONPATH", "OMP_NUM_THREADS") if key in os.environ
    }
    done = start_and_wait(
        *RUN, "--out", tmp_path / "run", env=environment, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "run/grid.png")


@pytest.mark.parametrize(
    "words",
    [
        [*RUN, "--out", "run"],
        ["show", "REFERENCE"],
        ["sample", "--model", "Müller"],
        nightly(["list-solvers"]),
        nightly(["list-models"]),
        nightly(["sample", "--help"]),
    ],
    ids=["sample", "show", "error", "list-solvers", "list-models", "help"],
)
def test_output_is_ascii_in_an_ascii_locale(tmp_path, reference, words):
    """The C locale without Python's UTF-8 mode, for files and for the terminal."""
    ascii_only = {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
    }
    words = [str(reference) if word == "REFERENCE" else word for word in words]
    done = start_and_wait(*words, env={**os.environ, **ascii_only}, cwd=tmp_path)
    assert done.returncode == (2 if words[-1] == "Müller" else 0), done.stderr
    assert (done.stdout + done.stderr).isascii()
    assert done.stdout or done.stderr


@pytest.mark.parametrize("columns", [20, nightly(1)])
def test_the_progress_bar_fits_a_narrow_terminal(tmp_path, columns):
    """A bar wider than its line would fill the terminal with copies of itself."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "TERM")}
    words = [*RUN, "--n", "30", "--out", tmp_path / "run"]
    process = start(*words, stderr=terminal, env=environment | {"TERM": "xterm"})
    os.close(terminal)
    seen, end = b"", time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if select.select([master], [], [], 0.2)[0]:
            try:
                seen += os.read(master, 65536)
            # The program has ended and closed the terminal.
            except OSError:
                break
        elif process.poll() is not None:
            break
    os.close(master)
    stdout, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert stdout.splitlines()[-1].endswith("grid.png")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert "Traceback" not in text
    # The bar was printed.
    assert text.strip()
    assert max(len(line) for line in re.split(r"[\r\n]+", text)) <= columns


# --- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-86_400 * 400, nightly(86_400 * 400)], ids=["back", "forth"])
def test_a_jump_of_the_wall_clock_changes_no_sample_and_no_duration(tmp_path, reference, jump):
    """Change the wall clock during a run. Durations are measured with the monotonic clock."""
    fault = f"""
        if calls == 20:
            import datetime, time
            from ggf_cli.runs import run_log as runlog
            now, jump = time.time, {jump}
            time.time = lambda: now() + jump
            class Clock(datetime.datetime):
                @classmethod
                def now(cls, tz=None):
                    return datetime.datetime.fromtimestamp(now() + jump, tz)
            runlog.datetime = Clock
"""
    done = start_and_wait(*RUN, "--out", tmp_path / "run", fault=fault)
    assert done.returncode == 0, done.stderr
    log = read_log(tmp_path / "run")
    days = (int(log["finished_at"][:4]) - int(log["started_at"][:4])) * 365
    # The jump took place.
    assert abs(days) >= 365
    assert 0 <= log["timing"]["sample_s"] < 86_400
    assert ggf("show", tmp_path / "run", "--check").exit_code == 0
    assert [f["sha256"] for f in log["files"] if "samples" in f["path"]] == [
        f["sha256"] for f in read_log(reference)["files"] if "samples" in f["path"]
    ]
