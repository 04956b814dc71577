"""Comparisons by several processes: the same results for any number, and after crashes."""

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
from msgspec import to_builtins

from command import read_comparison, read_log
from ggf_cli.comparison.cell_runs import CellRun, draw_cell_run, plan_cell_run
from ggf_cli.comparison.observer import CellObserver, ComparisonObserver
from ggf_cli.comparison.workers import WorkerGroup, work_on_comparison
from ggf_cli.engine import Engine
from ggf_cli.errors import OutputError, SolveError
from ggf_cli.runs.distributed import Job
from ggf_cli.solvers import make_solver
from patience import PATIENCE
from problems import VE, VP, gaussian_model
from program import Program, job, until, workers

LINE_UP = "adaptive em --eps-rel 0.5 --nfe 10,20"
OPTIONS = "--model mixture -n 24 --repeats 2 --batch-size 4 --metric swd,frechet"
COMPARE = ["compare", *LINE_UP.split(), *OPTIONS.split()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a comparison by one process.

    It has one thread, like the workers of a job: with two threads, Fréchet distances differ in the
    tenth digit.
    """
    folder = tmp_path_factory.mktemp("whole")
    program = Program(*COMPARE, "--out", folder / "one", log=folder / "log")
    assert program.wait() == 0, program.stderr
    return folder / "one"


SETTINGS = ("id", "given", "options", "label", "runs")
RESULTS = ("status", "quality", "nfe", "nfe_counts", "steps", "lost", "step_sizes", "error")
ANALYSIS = ("best", "statement")


def results(folder):
    """The results that must not depend on the number of processes."""
    document = read_comparison(folder)
    names = (*SETTINGS, *RESULTS, *ANALYSIS)
    cells = [{name: cell[name] for name in names} for cell in document["cells"]]
    more = ("status", "n", "repeats", "batch_size", "metrics", "findings", "recommendation")
    return cells, {name: document[name] for name in more}


def leftovers(folder):
    """Files of runs that have not ended."""
    names = ("run.json", "samples.npz")
    return [path for path in folder.glob("cells/*/*/*") if path.name not in names]


def written(folder):
    """{sample file of a run that has ended: time of writing}."""
    files = folder.glob("cells/*/*/samples.npz")
    ended = [path for path in files if not list(path.parent.glob("journal-*"))]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in ended}


@pytest.mark.parametrize("world", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_results_do_not_depend_on_the_number_of_processes(whole, tmp_path, world):
    folder = tmp_path / "run"
    programs = job(world, [*COMPARE, "--out", folder], tmp_path / "log")
    assert [p.wait() for p in programs] == [0] * world, [p.stderr for p in programs]
    assert results(folder) == results(whole)
    assert leftovers(folder) == []
    assert "recommendation" in programs[0].stdout.lower()
    assert all(p.stdout == p.stderr == "" for p in programs[1:])
    for name in ("compare.csv", "report.html", "grids.png", "quality-vs-nfe.png"):
        assert (folder / name).exists()


def test_a_job_continues_a_completed_comparison_of_one_process(whole, tmp_path):
    """No sample is left, and nothing is drawn again."""
    folder = shutil.copytree(whole, tmp_path / "run")
    kept = written(folder)
    assert len(kept) == 6
    programs = job(2, [*COMPARE, "--out", folder], tmp_path / "log")
    assert [p.wait() for p in programs] == [0, 0], [p.stderr for p in programs]
    assert written(folder) == kept


@pytest.mark.slow
def test_every_process_draws_some_samples_of_a_run(tmp_path):
    """The comparison is then interrupted."""
    command = [*COMPARE, "-n", "400", "--repeats", "20", "--out", tmp_path / "run"]
    programs = job(2, command, tmp_path / "log")
    run = tmp_path / "run/cells/adaptive-eps_rel=0.5/0"
    until((run / "run.json").exists)
    log = read_log(run)
    assert {session["rank"] for session in log["sessions"]} == {0, 1}
    assert all(16 <= session["samples"] <= 400 - 16 for session in log["sessions"])
    for program in programs:
        program.signal(signal.SIGTERM)
    assert [p.wait() for p in programs] == [130, 130]
    assert "the same command continues" in programs[0].stderr


# tests/runs/test_distributed.py has the fast test, with a run.
@pytest.mark.slow
def test_torchrun_restarts_a_comparison_whose_process_is_killed(whole, tmp_path):
    folder = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch = ["--nproc-per-node", "2", "--max-restarts", "1", "--monitor-interval", "0.1"]
    agent = subprocess.Popen(
        [*torchrun, *launch, "-m", "ggf_cli", *COMPARE, "--out", str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: written(folder), timeout=PATIENCE)
        kept = written(folder)
        os.kill(workers(agent.pid)[1], signal.SIGKILL)
    finally:
        _, stderr = agent.communicate(timeout=PATIENCE)
    assert agent.returncode == 0, stderr
    assert kept.items() <= written(folder).items()
    assert results(folder) == results(whole)
    assert leftovers(folder) == []


# --- a worker that cannot continue ---------------------------------------------------------------


def pair(folder, model):
    """The worker group of rank 0, and rank 1 as a thread with `model`; the store is local."""
    store = torch.distributed.HashStore()
    jobs = [Job(rank=rank, world=2, local_rank=rank, restarts=0, store=store) for rank in (0, 1)]
    pool = ThreadPoolExecutor(1)
    working = pool.submit(work_on_comparison, jobs[1], model, folder, lambda: False)
    pool.shutdown(wait=False)
    return WorkerGroup(jobs[0], folder), working


def draw(model, indices, path, group=None, *, options, **limits):
    """Draw a run of a cell, alone or with a worker group; its log and samples."""
    solver = make_solver("em" if "steps" in options else "adaptive", options)
    engine = Engine(model, solver, batch_size=2, **limits)
    run = plan_cell_run(engine, indices, keep_x=True, model_argument="gaussian", config=None)
    observer = CellObserver(ComparisonObserver())
    return draw_cell_run(run, path, CellRun(), observer=observer, stop=lambda: False, group=group)


def test_a_run_is_the_same_by_one_process_and_by_two(tmp_path):
    """Also where samples are lost."""
    model, options = gaussian_model(VP), {"eps_rel": 0.3}
    group, working = pair(tmp_path, model)
    with group:
        log, samples = draw(
            model, range(10, 60), tmp_path / "a", group, options=options, max_nfe=39
        )
    assert working.result(timeout=PATIENCE) == 0
    alone_log, alone = draw(model, range(10, 60), tmp_path / "b", options=options, max_nfe=39)
    assert log.samples == alone_log.samples
    assert 0 < len(samples.index) < 50
    for name in ("index", "images", "x"):
        assert np.array_equal(getattr(samples, name), getattr(alone, name))
    for times, others in zip(samples.step_times, alone.step_times, strict=True):
        assert np.array_equal(times, others)


def test_a_run_fails_if_a_worker_fails_and_the_next_run_is_drawn(tmp_path):
    model, calls = gaussian_model(VP), []

    def breaks(x, t):
        calls.append(len(x))
        if len(calls) == 5:
            raise RuntimeError("a broken kernel")
        return model.score(x, t)

    group, working = pair(tmp_path, replace(model, score=breaks))
    with group:
        with pytest.raises(SolveError, match="rank 1: a broken kernel"):
            draw(model, range(4000), tmp_path / "a", group, options={"steps": 20})
        _, samples = draw(model, range(60), tmp_path / "b", group, options={"steps": 9})
    assert working.result(timeout=PATIENCE) == 0
    log, alone = draw(model, range(60), tmp_path / "c", options={"steps": 9})
    assert np.array_equal(samples.x, alone.x)
    assert [sample.nfe for sample in log.samples] == [10] * 60


def test_a_worker_with_another_model_is_refused(tmp_path):
    group, working = pair(tmp_path, gaussian_model(VE))
    engine = Engine(gaussian_model(VP), make_solver("em", {"steps": 20}), batch_size=2)
    run = plan_cell_run(engine, range(4), keep_x=True, model_argument="g", config=None)
    inner = group.start(run, tmp_path / "a")
    inner.broadcast({"settings": to_builtins(run.settings), "launch": 0, "left": "0-3"})
    with pytest.raises(OutputError, match=r"differ from those of rank 0: .*the SDE"):
        working.result(timeout=PATIENCE)
