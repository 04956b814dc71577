"""The time that sampling waits for a sample to be written, with and without a writer thread."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

import torch

from ggf_cli import VPSDE, ScoreModel
from ggf_cli.engine import Engine, FinishedSample, Outcome
from ggf_cli.runs.background import background
from ggf_cli.runs.plan import plan_run
from ggf_cli.runs.writer import RunWriter
from ggf_cli.solvers import make_solver
from measure import Row

SAMPLES = 32
# {shape of a sample: seconds between samples}, enough to write a sample.
CASES = {(1, 28, 28): 0.05, (3, 256, 256): 0.1}


def measure(runs: int) -> Iterator[Row]:
    """Yield all rows."""
    for shape, pause in CASES.items():
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(runs):
            for queued, means in seconds.items():
                means.append(waiting(shape, pause, queued=queued))
        size = "x".join(map(str, shape))
        what = f"a PNG of {size}: time that sampling waits, against no writer thread"
        ours, theirs = ([1e3 * s for s in seconds[queued]] for queued in (True, False))
        yield Row(
            suite="output", what=what, unit="ms", ours=ours, theirs=theirs, note="fsync included"
        )


def waiting(shape: tuple[int, ...], pause: float, *, queued: bool) -> float:
    """Measure the mean seconds a sample for which the sampling thread waits."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, *shape, generator=generator)
    # Smooth, like photographs.
    image = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)[0]
    model = ScoreModel(score=lambda x, t: x, sde=VPSDE(), shape=shape)
    settings = plan_run(Engine(model, make_solver("em")), range(SAMPLES), grid=(1, 1)).settings
    times = []
    with TemporaryDirectory() as folder:
        writer = RunWriter(Path(folder), range(SAMPLES), settings, spent=lambda: (0, 0, 0.0))
        with background(writer.add, writer.room) if queued else nullcontext() as queue:
            put = queue.put if queue else writer.add
            for index in range(SAMPLES):
                sample = FinishedSample(
                    index=index,
                    x=image,
                    image=image,
                    nfe=1,
                    accepted=1,
                    rejected=0,
                    t=0.0,
                    outcome=Outcome.DONE,
                )
                start = perf_counter()
                put(sample, writer.spent())
                times.append(perf_counter() - start)
                sleep(pause)
        writer.end()
    return fmean(times)
