"""Measure the evaluations per second and the NFE of each cell, to plan a time budget."""

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
# The assumed NFE where none could be measured: about that of the paper's solver.
UNKNOWN = 250.0


def measure_rate(model: ScoreModel, batch_size: int) -> float:
    """Measure network evaluations per second in full batches."""
    solver = make_solver("em", {"steps": STEPS})
    warm_up = Engine(model, solver, batch_size=batch_size)
    list(warm_up.run(range(batch_size)))
    # The batch size that fits into memory.
    batch_size = warm_up.batch_size
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
    """The expected NFE of each cell, by id. Without a model, adaptive solvers have `UNKNOWN`."""
    result: dict[str, float] = {}
    # Cells that match the NFE of another cell come after it.
    for cell in cells:
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
            # The cell will fail in the same way, and its row of the table has the error.
            except (GGFError, RuntimeError):
                continue
            result[cell.id] = sum(counts) / len(counts)
    return result
