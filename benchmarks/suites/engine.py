"""The engine against the authors' loop on the same samples, and what is not the network."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import torch

from authors_loop import sample_batch
from ggf_cli import load_model
from ggf_cli.compilation import compiled
from ggf_cli.engine import Engine
from ggf_cli.precision import in_precision
from ggf_cli.score import ScoreModel
from ggf_cli.solvers import make_solver
from measure import Row, interleaved

BATCH_SIZE, EPS_REL = 8, 0.05
SHARES_FLOAT32 = ("em", "adaptive-multistep")
SHARES = ("em", "adaptive", "adaptive-multistep", "dpmpp-2m-sde", "heun")


def measure(runs: int) -> Iterator[Row]:
    """All rows."""
    plain = load_model("fashion-vp")
    model = in_precision(plain, "auto")
    yield from against_the_authors_loop(plain, model, runs)
    for measured, solvers in ((plain, SHARES_FLOAT32), (model, SHARES)):
        for solver in solvers:
            shares = [share_outside(measured, solver) for _ in range(runs)]
            what = f"{solver}, {measured.precision}: share of the time that is not the network, batch 64"
            yield Row(suite="engine", what=what, unit="%", ours=shares, theirs=[])


def against_the_authors_loop(plain: ScoreModel, model: ScoreModel, runs: int) -> Iterator[Row]:
    """n = 8 x batch size, the same noise: on the same network, and each as it comes (theirs in float32)."""
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
        yield Row(suite="engine", what=f"{what}: rows evaluated", unit="rows", ours=counts[name], theirs=counts["same"], note=note)  # fmt: skip
        yield Row(suite="engine", what=f"{what}: time on the same network", unit="s", ours=seconds[name], theirs=seconds["same"], note=note)  # fmt: skip
        for way in ways:
            yield Row(suite="engine", what=f"{name}{way} against the authors' loop in float32: time", unit="s",
                      ours=seconds[name + way], theirs=seconds["float32"], note=note)  # fmt: skip


def share_outside(model: ScoreModel, solver: str) -> float:
    """Percent of sampling time spent in solver, engine and noise; a fixed solver takes 30 steps."""
    inside = Counted()
    options = {} if solver.startswith("adaptive") else {"steps": 30}
    counted = replace(model, score=inside.wrap(model.score))
    engine = Engine(counted, make_solver(solver, options), batch_size=64)
    start = perf_counter()
    list(engine.run(range(64)))
    return 100 * (1 - inside.seconds / (perf_counter() - start))


class Counted:
    """Adds up the rows and the time of the scores that it wraps."""

    def __init__(self) -> None:
        self.seconds, self.rows = 0.0, 0

    def wrap(self, score: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        """The same score, watched."""

        def watched(*args: Any) -> torch.Tensor:
            start = perf_counter()
            value = score(*args)
            self.seconds += perf_counter() - start
            self.rows += len(value)
            return value

        return watched

    def of(self, function: Callable[[], None]) -> int:
        """Rows of one call of a function."""
        before = self.rows
        function()
        return self.rows - before
