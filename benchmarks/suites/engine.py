"""The engine against the authors' loop, the time outside of the network, and the cost of noise."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import torch

from authors_loop import sample_batch
from ggf_cli import load_model
from ggf_cli.engine import Engine
from ggf_cli.noise.box_muller import standard_normal
from ggf_cli.noise.philox import random_words
from ggf_cli.runtime.compilation import compiled
from ggf_cli.runtime.precision import in_precision
from ggf_cli.score import ScoreModel
from ggf_cli.solvers import make_solver
from measure import Row, interleaved

BATCH_SIZE, EPS_REL = 8, 0.05
NOISE = ((64, (1, 28, 28)), (16, (3, 32, 32)), (4, (3, 256, 256)), (2, (2,)))
SHARES_FLOAT32 = ("em", "adaptive-multistep")
SHARES = ("em", "adaptive", "adaptive-multistep", "dpmpp-2m-sde", "heun")


def measure(runs: int) -> Iterator[Row]:
    """Yield all rows."""
    plain = load_model("fashion-vp", device="cpu")
    model = in_precision(plain, "auto")
    yield from against_the_authors_loop(plain, model, runs)
    for measured, solvers in ((plain, SHARES_FLOAT32), (model, SHARES)):
        for solver in solvers:
            shares = [share_outside(measured, solver) for _ in range(runs)]
            what = (
                f"{solver}, {measured.precision}: share of the time outside the network, batch 64"
            )
            yield Row(suite="engine", what=what, unit="%", ours=shares, theirs=[])
    yield from noise(runs)


def against_the_authors_loop(plain: ScoreModel, model: ScoreModel, runs: int) -> Iterator[Row]:
    """Compare with the authors' loop, on the same network and theirs in float32.

    The noise is the same, n is 8 x batch size.
    """
    n, rows = 8 * BATCH_SIZE, Counted()
    ways = {"": model, " --compile": compiled(model)}
    settings = {"adaptive": EPS_REL, "adaptive-multistep": 0.02}

    def ours(model: ScoreModel, name: str) -> None:
        counted = replace(model, score=rows.wrap(model.score))
        solver = make_solver(name, {"eps_rel": settings[name]})
        list(Engine(counted, solver, batch_size=BATCH_SIZE).run(range(n)))

    def theirs(model: ScoreModel) -> None:
        counted = replace(model, score=rows.wrap(model.score))
        for first in range(0, n, BATCH_SIZE):
            sample_batch(counted, list(range(first, first + BATCH_SIZE)), seed=0, eps_rel=EPS_REL)

    functions: dict[str, Callable[[], None]] = {
        name + way: partial(ours, ways[way], name) for name in settings for way in ways
    }
    functions |= {"same": partial(theirs, model), "float32": partial(theirs, plain)}
    counts = {name: [float(rows.of(functions[name]))] for name in (*settings, "same")}
    seconds = interleaved(functions, runs)
    note = f"{n} samples of fashion-vp, batch size {BATCH_SIZE}, {model.precision}"
    for name in settings:
        what = f"{name} against the authors' loop"
        yield Row(
            suite="engine",
            what=f"{what}: rows evaluated",
            unit="rows",
            ours=counts[name],
            theirs=counts["same"],
            note=note,
        )
        yield Row(
            suite="engine",
            what=f"{what}: time on the same network",
            unit="s",
            ours=seconds[name],
            theirs=seconds["same"],
            note=note,
        )
        for way in ways:
            yield Row(
                suite="engine",
                what=f"{name}{way} against the authors' loop in float32: time",
                unit="s",
                ours=seconds[name + way],
                theirs=seconds["float32"],
                note=note,
            )


def noise(runs: int) -> Iterator[Row]:
    """Time the noise of a block of rows, beside log, sin and cos of the maths library.

    The latter give other bits on other machines.
    """
    for rows, shape in NOISE:
        index, draw = torch.arange(rows), torch.zeros(rows, dtype=torch.int64)
        words = partial(random_words, 0, index, draw, -(-math.prod(shape) // 4))
        ways = {
            "ours": lambda words=words: standard_normal(words()),
            "library": lambda words=words: by_maths_library(words()),
        }
        seconds = interleaved(ways, 20 * runs)
        yield Row(
            suite="engine",
            what=f"noise of {rows} x {'x'.join(map(str, shape))}, beside the maths library's",
            unit="s",
            ours=seconds["ours"],
            theirs=seconds["library"],
        )


def by_maths_library(words: torch.Tensor) -> torch.Tensor:
    """Box and Muller's formula by torch's functions."""
    half = words.shape[1] // 2
    radius = torch.sqrt(-2 * torch.log((words[:, :half].float() + 0.5) * 2.0**-32))
    angle = words[:, half:].float() * (2 * math.pi * 2.0**-32)
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)


def share_outside(model: ScoreModel, solver: str) -> float:
    """Percentage of the sampling time in solver, engine and noise; fixed-step solvers: 30 steps."""
    inside = Counted()
    options = {} if solver.startswith("adaptive") else {"steps": 30}
    counted = replace(model, score=inside.wrap(model.score))
    engine = Engine(counted, make_solver(solver, options), batch_size=64)
    start = perf_counter()
    list(engine.run(range(64)))
    return 100 * (1 - inside.seconds / (perf_counter() - start))


class Counted:
    """Count the rows and the time of the scores that it wraps."""

    def __init__(self) -> None:
        self.seconds, self.rows = 0.0, 0

    def wrap(self, score: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        """Wrap a score function."""

        def counted(*args: Any) -> torch.Tensor:
            start = perf_counter()
            value = score(*args)
            self.seconds += perf_counter() - start
            self.rows += len(value)
            return value

        return counted

    def of(self, function: Callable[[], None]) -> int:
        """Count the rows of one call of a function."""
        before = self.rows
        function()
        return self.rows - before
