"""Out of memory: the batch becomes smaller, the samples stay the same. Freed memory is kept."""

import itertools
import os
import platform
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import ggf_cli
from command import ggf
from ggf_cli import batch_size
from ggf_cli import engine as engine_module
from ggf_cli.engine import Engine
from ggf_cli.errors import SolveError
from ggf_cli.noise import Noise
from ggf_cli.runs.history import batch_size_of
from ggf_cli.runtime.compilation import batch_sizes, compiled, warm_up
from ggf_cli.runtime.memory import fewer, out_of_memory
from ggf_cli.solvers import SOLVERS, make_solver
from problems import VP, gaussian_model, quick_options

PLAIN = gaussian_model(VP, dtype=torch.float32)
N = 9

# One solver for each kind of state that rows carry. The others run nightly.
KINDS = ("em", "adaptive", "adaptive-multistep", "ode-rk45", "pc")
every_solver = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in KINDS else pytest.mark.nightly) for name in SOLVERS],
)


def quick(name):
    options = quick_options(name)
    return make_solver(name, {"steps": 6} if "steps" in options else {"eps_rel": 0.5})


class Memory:
    """A function that is out of memory above `rows` rows, after its first `after` calls."""

    def __init__(self, function, rows, after=0):
        self.function, self.rows, self.after = function, rows, after
        self.calls, self.sizes, self.refused = 0, [], 0

    def __call__(self, x, t):
        self.calls += 1
        if self.calls > self.after and len(x) > self.rows:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 GiB\nmore")
        self.sizes.append(len(x))
        return self.function(x, t)


def counts(samples):
    return {s.index: (s.nfe, s.accepted, s.rejected, s.t, s.outcome) for s in samples}


def assert_same(samples, expected):
    assert counts(samples) == counts(expected)
    states = {sample.index: sample.x for sample in expected}
    assert all(torch.equal(sample.x, states[sample.index]) for sample in samples)


def at(solver, batch_size):
    return list(Engine(PLAIN, solver, seed=5, batch_size=batch_size).run(range(N)))


@every_solver
def test_samples_equal_those_of_a_small_batch_wherever_memory_runs_out(name):
    """At the first call, in an adaptive step, or later: no sample is lost, repeated or changed."""
    solver = quick(name)
    expected = at(solver, 2)
    for rows, after in [(3, 0), (4, 5), (1, 9)]:
        score = Memory(PLAIN.score, rows, after)
        engine = Engine(replace(PLAIN, score=score), solver, seed=5, batch_size=8)
        progress = []
        assert_same(list(engine.run(range(N), progress.append)), expected)
        assert score.refused
        assert engine.batch_size <= rows
        assert engine.progress.rows_evaluated == sum(score.sizes)
        assert engine.progress.network_calls == len(score.sizes)
        # Samples that wait for a slot in the smaller batch are counted as running.
        assert all(p.finished + len(p.running) >= min(8, N - p.finished) for p in progress)
        assert max(len(p.running) for p in progress) <= 8


@every_solver
def test_a_step_that_fails_after_the_network_call_is_repeated(name, monkeypatch):
    """The evaluation of the failed step is not in the NFE of any sample."""
    solver = quick(name)
    expected = at(solver, 2)
    noise = Memory(Noise(seed=5, shape=PLAIN.shape, dtype=PLAIN.state_dtype), 4, after=3)
    monkeypatch.setattr(engine_module, "Noise", lambda **settings: noise)
    engine = Engine(PLAIN, solver, seed=5, batch_size=8)
    step = type(solver).step
    failed = []

    def broken(self, rows, *arguments):
        moved = step(self, rows, *arguments)
        if len(rows) > 4 and engine.progress.network_calls > 6:
            failed.append(len(rows))
            raise MemoryError
        return moved

    monkeypatch.setattr(type(solver), "step", broken)
    samples = list(engine.run(range(N)))
    assert_same(samples, expected)
    assert failed or noise.refused
    assert engine.progress.rows_evaluated >= sum(sample.nfe for sample in samples)


@pytest.mark.parametrize("after", [0, 1])
def test_starting_samples_can_run_out_of_memory(after, monkeypatch):
    """Samples of `em` finish together, then as many start: their prior draws run out of memory."""
    solver = make_solver("em", {"steps": 3})
    expected = at(solver, 8)
    engine = Engine(PLAIN, solver, seed=5, batch_size=8)
    starts = itertools.count()
    start = type(solver).start

    def broken(self, x, *arguments):
        if next(starts) >= after and len(x) > 2:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory: "
                "you tried to allocate 9 bytes."
            )
        return start(self, x, *arguments)

    monkeypatch.setattr(type(solver), "start", broken)
    assert_same(list(engine.run(range(N), at_once=6)), expected)
    assert engine.batch_size == 2


def test_one_row_that_does_not_fit_is_an_error_and_finished_samples_are_kept():
    score = Memory(PLAIN.score, 0, after=20)
    engine = Engine(replace(PLAIN, score=score), make_solver("em", {"steps": 8}), batch_size=4)
    finished = []

    def drawn():
        for sample in engine.run(range(16)):
            finished.append(sample.index)

    message = r"size 1\): CUDA out of memory. Tried to allocate 7 GiB$"
    with pytest.raises(SolveError, match=message) as error:
        drawn()
    assert "device" in error.value.hint
    assert sorted(finished) == list(range(8))
    assert score.sizes == [4] * 20


def test_the_result_holds_the_reduced_batch_size():
    model = replace(PLAIN, score=Memory(PLAIN.score, 5))
    result = ggf_cli.sample(model, 9, solver="em", steps=3, batch_size=8)
    assert result.batch_size == 4
    assert ggf_cli.sample(PLAIN, 9, solver="em", steps=3, batch_size=8).batch_size == 8


def test_other_errors_are_raised_unchanged():
    def score(x, t):
        raise RuntimeError("no kernel image")

    with pytest.raises(RuntimeError, match="no kernel"):
        ggf_cli.sample(replace(PLAIN, score=score), 4, solver="em", steps=3, batch_size=4)


def test_smaller_batch_sizes_are_even_or_1():
    sizes = [128]
    while sizes[-1] > 1:
        sizes.append(fewer(sizes[-1]))
    assert sizes == [128, 64, 32, 16, 8, 4, 2, 1]
    assert [fewer(rows) for rows in (3, 5, 6, 7, 10, 31)] == [2, 4, 4, 4, 6, 16]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 4 bytes. Error code 12 (Cannot allocate memory)"
            ),
            True,
        ),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory: "
                "you tried to allocate 4 bytes."
            ),
            True,
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 18.00 GB)"), True),
        (
            RuntimeError(
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
            ),
            True,
        ),
        (MemoryError(), True),
        (RuntimeError("an illegal memory access was encountered"), False),
        (RuntimeError("channels_last memory format is not supported"), False),
        (SolveError("out of memory"), False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_out_of_memory_errors_are_recognised(error, expected):
    assert out_of_memory(error) is expected


def test_the_error_of_the_real_cpu_allocator_is_recognised():
    """Allocate 2^62 bytes, more than the address space of any machine."""
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**59, dtype=torch.float64)
    assert out_of_memory(error.value)


def test_the_network_is_compiled_again_for_smaller_batches(monkeypatch):
    score = Memory(PLAIN.score, 10, after=6)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    model = compiled(replace(PLAIN, score=score))
    released = []
    monkeypatch.setattr(
        engine_module, "release", lambda device, compiled: released.append(compiled)
    )
    engine = Engine(model, quick("adaptive"), seed=5, batch_size=16)
    expected = at(engine.solver, 2)
    assert_same(list(engine.run(range(N))), expected)
    assert (engine.batch_size, released) == (8, [True])
    assert set(score.sizes) == {16, *batch_sizes(model, 8)} == {16, 2, 8}


def test_warm_up_raises_no_out_of_memory_error(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    # The run that follows reduces its batch size.
    warm_up(compiled(replace(PLAIN, score=Memory(PLAIN.score, 4))), 8)


# --- automatic batch size -------------------------------------------------------------------------


def fastest(monkeypatch, cost, most, memory=10**9):
    """The chosen batch size, and those tried, if an evaluation takes cost(rows) seconds."""
    clock = [0.0]

    def score(x, t):
        clock[0] += cost(len(x))
        return x

    monkeypatch.setattr(batch_size, "perf_counter", lambda: clock[0])
    limited = Memory(score, memory)
    chosen = batch_size.fastest_batch_size(replace(PLAIN, score=limited), most)
    return chosen, sorted(set(limited.sizes))


def test_the_batch_size_doubles_while_the_rate_improves(monkeypatch):
    def cost(rows):
        # A device that computes up to 64 rows in parallel.
        return 1.0 + max(0, rows - 64)

    assert fastest(monkeypatch, cost, 10_000) == (64, [8, 16, 32, 64, 128])
    assert fastest(monkeypatch, cost, 50) == (50, [8, 16, 32, 50])
    assert fastest(monkeypatch, lambda rows: 1.0, 10_000)[0] == batch_size.MOST
    assert fastest(monkeypatch, lambda rows: rows, 10_000) == (8, [8, 16])
    # There is no choice, so nothing is measured.
    assert fastest(monkeypatch, cost, 8) == (8, [])


def test_out_of_memory_ends_the_search(monkeypatch):
    assert fastest(monkeypatch, lambda rows: 1.0, 10_000, memory=40)[0] == 32
    # The run will reduce its batch size.
    assert fastest(monkeypatch, lambda rows: 1.0, 10_000, memory=1)[0] == 8


def test_a_resumed_run_keeps_the_automatic_batch_size(tmp_path, monkeypatch):
    """A second measurement could choose another batch size."""
    words = ["sample", "--model", "mixture", "--n", "12", "--eps-rel", "0.5"]
    words += ["--format", "none", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(batch_size, "choose_batch_size", lambda model, n: 6)
    assert ggf(*words).exit_code == 0
    assert batch_size_of(tmp_path / "run") == 6
    monkeypatch.setattr(batch_size, "choose_batch_size", lambda model, n: 4)
    done = ggf(*words, "--resume")
    assert done.exit_code == 0
    assert "there is nothing left to draw" in done.stderr
    assert batch_size_of(tmp_path) is None


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's default")
@pytest.mark.parametrize("kept", [False, True])
def test_freed_memory_is_kept_for_the_next_allocation(kept):
    # 64 MiB, 16,384 pages. The heap settles within the first ten evaluations.
    evaluate = "torch.ones(2**24)"
    program = f"""
import resource, torch
from ggf_cli.runtime.memory import keep_freed
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
if {kept}: keep_freed()
for _ in range(30): {evaluate}
before = faults()
for _ in range(3): {evaluate}
print(faults() - before)
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "LD_"))}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert (int(done.stdout) < 1000) == kept
