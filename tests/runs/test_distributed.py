"""Runs of several processes: the same files for any number of processes, and after crashes."""

import json
import os
import signal
import subprocess
import sys

import jsonschema
import pytest

from command import RUN_SCHEMA, ggf
from ggf_cli.runs.distributed import LARGEST_PORTION, Job, find_job
from patience import PATIENCE
from program import RUN, content, job, lines, until, workers


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """{format: folder} of runs of one process."""
    folder = tmp_path_factory.mktemp("whole")
    for kind in ("png", "npz"):
        assert ggf(*RUN, "--format", kind, "--out", folder / kind).exit_code == 0
    return folder


def codes(programs):
    return [program.wait() for program in programs]


def journals(folder):
    return sorted(path.name for path in folder.glob("journal-*"))


# --- the same files ------------------------------------------------------------------------------


@pytest.mark.parametrize(("world", "kind"), [(1, "png"), (2, "npz"), (3, "png")])
def test_files_do_not_depend_on_the_number_of_processes(whole, tmp_path, world, kind):
    folder = tmp_path / "run"
    programs = job(world, [*RUN, "--format", kind, "--out", folder], tmp_path / "log")
    assert codes(programs) == [0] * world, [p.stderr for p in programs]
    assert content(folder) == content(whole / kind)
    log = json.loads((folder / "run.json").read_text())
    jsonschema.validate(log, RUN_SCHEMA)
    assert sorted(session["rank"] for session in log["sessions"]) == list(range(world))
    assert all(session["samples"] for session in log["sessions"])
    assert sum(session["samples"] for session in log["sessions"]) == 36
    assert log["rows_evaluated"] == sum(session["rows_evaluated"] for session in log["sessions"])
    assert "36 samples of mixture" in programs[0].stdout
    assert all(p.stdout == p.stderr == "" for p in programs[1:])


def all_at_work(folder, world):
    """Whether every process has finished a sample; until then it may lack a signal handler."""
    paths = [folder / f"journal-{rank}.jsonl" for rank in range(world)]
    return all(path.exists() and b'"index"' in path.read_bytes() for path in paths)


def test_a_job_continues_after_one_process_is_killed(whole, tmp_path):
    """As under torchrun: all other processes get SIGTERM, then all start with the same command."""
    folder, command = tmp_path / "run", [*RUN, "--out", tmp_path / "run"]
    programs = job(3, command, tmp_path / "log")
    until(lambda: all_at_work(folder, 3))
    programs[1].process.kill()
    for program in (programs[0], programs[2]):
        program.signal(signal.SIGTERM)
    assert codes(programs) == [130, -signal.SIGKILL, 130]
    kept = lines(folder)
    again = job(3, command, tmp_path / "again", restarts=1)
    assert codes(again) == [0, 0, 0], [p.stderr for p in again]
    assert f"resuming: {kept} of 36 samples" in again[0].stderr
    assert content(folder) == content(whole / "png")
    assert journals(folder) == []


LABELLED = """
import ggf_cli, time, torch

MEANS, sde = torch.linspace(-0.9, 0.9, 10), ggf_cli.VPSDE()

def score(x, t, label):
    time.sleep(0.002)
    alpha, sigma = (f(t).reshape(-1, 1, 1, 1) for f in (sde.alpha, sde.sigma))
    mean = MEANS[label].reshape(-1, 1, 1, 1)
    return (-(x - alpha * mean) / (alpha**2 * 0.01 + sigma**2)).to(x.dtype)

model = ggf_cli.ScoreModel(score=score, sde=sde, shape=(1, 4, 4), conditional=True)
"""


def test_labels_follow_their_samples_through_a_job_that_is_killed(tmp_path):
    """200 samples of 10 classes by two processes, killed once, equal an uninterrupted run."""
    (tmp_path / "labelled.py").write_text(LABELLED)
    command = ["sample", "--model", str(tmp_path / "labelled.py:model"), "--label", "0-9"]
    command += ["--n", "200", "--eps-rel", "0.3", "--batch-size", "8", "--precision", "fp32"]
    assert ggf(*command, "--out", tmp_path / "whole").exit_code == 0
    folder = tmp_path / "run"
    programs = job(2, [*command, "--out", folder], tmp_path / "log")
    until(lambda: all_at_work(folder, 2))
    programs[1].process.kill()
    programs[0].signal(signal.SIGTERM)
    assert codes(programs) == [130, -signal.SIGKILL]
    assert lines(folder) < 200
    again = job(2, [*command, "--out", folder], tmp_path / "again", restarts=1)
    assert codes(again) == [0, 0], [p.stderr for p in again]
    assert content(folder) == content(tmp_path / "whole")


def test_a_job_stopped_by_sigterm_can_be_resumed_by_another_number_of_processes(whole, tmp_path):
    folder, command = tmp_path / "run", [*RUN, "--format", "npz", "--out", tmp_path / "run"]
    programs = job(2, command, tmp_path / "log")
    until(lambda: all_at_work(folder, 2))
    for program in programs:
        program.signal(signal.SIGTERM)
        # Launchers may send it twice.
        program.signal(signal.SIGTERM)
    assert codes(programs) == [130, 130]
    assert "--resume continues" in programs[0].stderr
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert journals(folder) == ["journal-0.jsonl", "journal-1.jsonl"]
    assert ggf(*command, "--resume").exit_code == 0
    assert content(folder) == content(whole / "npz")
    assert journals(folder) == []
    ended = job(2, [*command, "--resume"], tmp_path / "ended")
    assert codes(ended) == [0, 0]
    assert "nothing left to draw" in ended[0].stderr


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_torchrun_restarts_a_process_that_is_killed(tmp_path):
    folder = tmp_path / "run"
    run = ["sample", "--model", "mixture", "--eps-rel", "0.2", "-n", "60", "--batch-size", "6"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch = ["--nproc-per-node", "2", "--max-restarts", "1", "--monitor-interval", "0.1"]
    agent = subprocess.Popen(
        [*torchrun, *launch, "-m", "ggf_cli", *run, "--out", str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: lines(folder) > 4, timeout=PATIENCE)
        os.kill(workers(agent.pid)[1], signal.SIGKILL)
    finally:
        stdout, stderr = agent.communicate(timeout=PATIENCE)
    assert agent.returncode == 0, stderr
    assert "resuming:" in stderr
    assert "60 samples of mixture" in stdout
    assert ggf(*run, "--out", tmp_path / "whole").exit_code == 0
    assert content(folder) == content(tmp_path / "whole")


# --- refused jobs --------------------------------------------------------------------------------


def test_a_process_with_other_settings_or_another_folder_is_refused(tmp_path):
    command = [*RUN, "--n", "2000", "--out", tmp_path / "run"]
    for changed, message in [
        (["--seed", 1], "rank 1: the settings differ from those of rank 0: --seed was 0, is 1"),
        (["--out", tmp_path / "other"], "is not the folder of rank 0"),
    ]:
        programs = job(2, [*command, "--force"], tmp_path / "log", different=(1, changed))
        assert programs[1].wait() == 5
        programs[0].process.kill()
        programs[0].wait()
        assert message in programs[1].stderr


def test_a_job_needs_a_named_folder(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    for name in ("RANK", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = ggf(*RUN)
    assert done.exit_code == 2
    assert "rank 0: under torchrun the run needs an output folder" in done.stderr
    monkeypatch.setenv("LOCAL_RANK", "1")
    # One process of each machine prints it.
    assert ggf(*RUN).stderr == ""


def test_without_torchrun_there_is_no_job(monkeypatch):
    # Some clusters set these for every shell.
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert find_job() is None


# --- portions ------------------------------------------------------------------------------------


class Counter:
    """A store with the one method of a job's store that drawing uses."""

    def __init__(self):
        self.value, self.calls = 0, 0

    def add(self, key, amount):
        self.value += amount
        self.calls += 1
        return self.value


def members(world, store):
    return [
        Job(rank=rank, world=world, local_rank=rank, restarts=0, store=store)
        for rank in range(world)
    ]


@pytest.mark.parametrize(("world", "left"), [(1, 1), (3, 2), (3, 100), (8, 5000)])
def test_every_sample_is_drawn_by_exactly_one_process(world, left):
    store = Counter()
    waiting = [member.claim(range(1000, 1000 + left)) for member in members(world, store)]
    drawn, turn = [], 0
    while waiting:
        source = waiting[turn % len(waiting)]
        index = next(source, None)
        if index is None:
            waiting.remove(source)
        else:
            drawn.append(index)
            # Some processes take samples more often than the rest.
            turn += 1 + index % 2
    assert sorted(drawn) == list(range(1000, 1000 + left))


def test_portions_are_large_at_first_and_small_at_the_end():
    store = Counter()
    (member,) = members(1, store)
    list(member.claim(range(10_000)))
    assert store.calls < 2 * 10_000 / LARGEST_PORTION
    last = Counter()
    (other,) = members(1, last)
    source, sizes = other.claim(range(100)), []
    for _ in range(100):
        next(source)
        sizes.append(last.value)
    assert sizes[-1] - sizes[-2] in (0, 1)


@pytest.mark.parametrize(
    ("left", "world", "share"), [(16, 2, 8), (10, 2, 6), (1, 8, 2), (1000, 3, 334)]
)
def test_a_process_draws_at_once_at_most_its_share_rounded_up_to_even(left, world, share):
    member = Job(rank=0, world=world, local_rank=0, restarts=0)
    assert member.at_once(left) == share
