"""Several processes draw one comparison: the same figures for any number of them, whichever dies."""

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from ggf_cli.comparison.team import Team, follow

from command import read_comparison
from ggf_cli.comparison import pieces
from ggf_cli.engine import Engine
from ggf_cli.errors import OutputError, SolveError
from ggf_cli.runs.distributed import Job
from ggf_cli.solvers import make_solver
from patience import PATIENCE
from problems import VE, VP, gaussian_model
from program import Program, job, until, workers

WORDS = ["adaptive", "em", "--eps-rel", "0.5", "--nfe", "10,20", "--model", "mixture", "-n", "24", "--repeats", "2",
         "--batch-size", "4", "--metric", "swd,frechet"]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Of one process, with one thread as the others: Fréchet distances of two differ in the tenth digit."""
    folder = tmp_path_factory.mktemp("whole")
    program = Program("compare", *WORDS, "--out", folder / "one", log=folder / "log")
    assert program.wait() == 0, program.stderr
    return folder / "one"


def figures(folder):
    """What must not depend on who drew what."""
    document = read_comparison(folder)
    names = ("id", "given", "options", "label", "status", "quality", "nfe", "nfe_counts", "steps", "lost",
             "step_sizes", "best", "tied", "pieces", "error")  # fmt: skip
    cells = [{name: cell[name] for name in names} for cell in document["cells"]]
    more = ("status", "n", "repeats", "batch_size", "metrics", "findings", "recommendation")
    return cells, {name: document[name] for name in more}


def leftovers(folder):
    return [path for path in folder.glob("samples/*") if path.suffix != ".npz"]


@pytest.mark.parametrize("world", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_figures_do_not_depend_on_the_number_of_processes(whole, tmp_path, world):
    folder = tmp_path / "run"
    programs = job(world, ["compare", *WORDS, "--out", folder], tmp_path / "log")
    assert [p.wait() for p in programs] == [0] * world, [p.stderr for p in programs]
    assert figures(folder) == figures(whole)
    assert leftovers(folder) == []
    assert "Recommendation" in programs[0].stdout
    assert all(p.stdout == p.stderr == "" for p in programs[1:])
    for name in ("compare.csv", "report.html", "grids.png", "quality-vs-nfe.png"):
        assert (folder / name).exists()


def test_one_process_goes_on_where_a_job_has_ended(whole, tmp_path):
    """And a job where one process has: with nothing left to draw, the others have nothing to do."""
    folder = shutil.copytree(whole, tmp_path / "run")
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("samples/*")}
    programs = job(2, ["compare", *WORDS, "--out", folder], tmp_path / "log")
    assert [p.wait() for p in programs] == [0, 0], [p.stderr for p in programs]
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("samples/*")} == kept


def test_every_process_draws_some_of_a_piece(tmp_path):
    words = [*WORDS, "-n", "400", "--repeats", "20", "--out", tmp_path / "run"]
    programs = job(2, ["compare", *words], tmp_path / "log")
    share = tmp_path / "run/samples/.parts/1.npz"
    until(share.exists)
    with np.load(share) as file:
        assert 16 <= len(file["index"]) <= 400 - 16
    for program in programs:
        program.signal(signal.SIGTERM)
    assert [p.wait() for p in programs] == [130, 130]
    assert "the same command goes on" in programs[0].stderr
    assert leftovers(tmp_path / "run") == []


@pytest.mark.slow  # test_distributed.py has that of a run
def test_torchrun_restarts_a_comparison_whose_process_is_killed(whole, tmp_path):
    folder = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch = ["--nproc-per-node", "2", "--max-restarts", "1", "--monitor-interval", "0.1"]
    agent = subprocess.Popen(
        [*torchrun, *launch, "-m", "ggf_cli", "compare", *WORDS, "--out", str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: list(folder.glob("samples/*.npz")), timeout=PATIENCE)
        kept = {path: path.stat().st_mtime_ns for path in folder.glob("samples/*.npz")}
        os.kill(workers(agent.pid)[1], signal.SIGKILL)
    finally:
        _, stderr = agent.communicate(timeout=PATIENCE)
    assert agent.returncode == 0, stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert figures(folder) == figures(whole)
    assert leftovers(folder) == []


def test_a_piece_is_the_same_in_any_shares():
    """Also where samples are lost, in one share or in all."""
    model = gaussian_model(VP, dtype=torch.float32)

    def engine():
        return Engine(model, make_solver("adaptive", {"eps_rel": 0.3}), batch_size=2, max_nfe=39)

    def share(indices):
        return pieces.draw_share(engine(), indices, keep_x=True, on_tick=lambda progress: None)

    whole = pieces.draw(engine(), range(10, 22), keep_x=True, on_tick=lambda progress: None)
    assert 0 < whole.lost < 12
    for parts in ([range(10, 22, 2), range(11, 22, 2)], [range(16, 22), range(10, 16), range(0)]):
        got = pieces.together([share(part) for part in parts])
        assert torch.equal(got.images, whole.images)
        assert torch.equal(got.x, whole.x)
        assert torch.equal(got.nfe, whole.nfe)
        assert (got.lost, got.accepted, got.rejected) == (
            whole.lost,
            whole.accepted,
            whole.rejected,
        )


# --- one process cannot go on --------------------------------------------------------------------------------


def pair(folder, model):
    """Rank 0's team, and a thread that follows with a model; the store is in this process."""
    store = torch.distributed.HashStore()
    jobs = [Job(rank=rank, world=2, local_rank=rank, restarts=0) for rank in range(2)]
    for member in jobs:
        member._store = store
    (folder / "compare.json").write_text("{}")
    pool = ThreadPoolExecutor(1)
    following = pool.submit(follow, jobs[1], model, folder, lambda: False)
    pool.shutdown(wait=False)
    return Team(jobs[0], folder), following


def em(model, steps=20):
    return Engine(model, make_solver("em", {"steps": steps}), batch_size=2)


def test_a_piece_that_one_process_cannot_draw_fails_and_the_rest_goes_on(tmp_path):
    model, calls = gaussian_model(VP), []

    def breaks(x, t):
        calls.append(len(x))
        if len(calls) == 5:
            raise RuntimeError("a broken kernel")
        return model.score(x, t)

    team, following = pair(tmp_path, replace(model, score=breaks))
    arguments = {"keep_x": True, "on_tick": lambda progress: None}
    with team:
        with pytest.raises(SolveError, match="rank 1: a broken kernel"):
            team.draw(em(model), range(40_000), {"steps": 20}, **arguments)
        piece = team.draw(em(model, 9), range(60), {"steps": 9}, **arguments)
    assert following.result(timeout=PATIENCE) == 0
    alone = pieces.draw(em(model, 9), range(60), **arguments)
    assert torch.equal(piece.x, alone.x)
    assert piece.nfe.tolist() == [10] * 60


def test_a_process_with_another_model_is_told(tmp_path):
    other = gaussian_model(VE)
    team, following = pair(tmp_path, other)
    team._job.within("piece/0").broadcast(
        {"given": {"steps": 20}, "batch_size": 2, "keep_x": True,
         "settings": pieces.settings_of(em(gaussian_model(VP)), range(4))}
    )  # fmt: skip
    with pytest.raises(OutputError, match="not those of rank 0: sde"):
        following.result(timeout=PATIENCE)
