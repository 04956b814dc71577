"""How fast this machine evaluates the model, and how many evaluations each setting takes: a few seconds that a budget is planned by."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from ggf_cli.comparison.lineup import Cell
from ggf_cli.engine import Engine
from ggf_cli.errors import GGFError
from ggf_cli.score import ScoreModel
from ggf_cli.solvers import make_solver

SAMPLES = 8
STEPS = 8
SECONDS = 2.0
UNKNOWN = 250.0  # where nothing could be measured: what the paper's solver takes, give or take


def measure_rate(model: ScoreModel, batch_size: int) -> float:
    """Network evaluations a second in full batches."""
    solver = make_solver("em", {"steps": STEPS})
    warm_up = Engine(model, solver, batch_size=batch_size)
    list(warm_up.run(range(batch_size)))
    batch_size = warm_up.batch_size  # what memory lets through
    start, rows = perf_counter(), 0
    while perf_counter() - start < SECONDS:
        engine = Engine(model, solver, batch_size=batch_size)
        list(engine.run(range(batch_size)))
        rows += engine.progress.rows_evaluated
    return rows / (perf_counter() - start)


def expected_nfe(
    cells: Sequence[Cell],
    model: ScoreModel | None = None,
    *,
    seed: int = 0,
    batch_size: int = SAMPLES,
) -> dict[str, float]:
    """Evaluations a sample of each cell, by id. Without a model, adaptive ones are guessed."""
    result: dict[str, float] = {}
    for cell in cells:  # those that are matched come later
        if cell.matches is not None:
            result[cell.id] = result.get(cell.matches, UNKNOWN)
            continue
        solver = make_solver(cell.solver, cell.given)
        known = solver.expected_nfe()
        result[cell.id] = known or UNKNOWN
        if known is None and model is not None:
            engine = Engine(model, solver, seed=seed, batch_size=batch_size)
            try:
                counts = [sample.nfe for sample in engine.run(range(SAMPLES))]
            except (GGFError, RuntimeError):  # its row will say so
                continue
            result[cell.id] = sum(counts) / len(counts)
    return result
