"""Measure the evaluations per second and the NFE of each cell, to plan a time budget."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import torch

from ggf_cli.comparison.lineup import Cell
from ggf_cli.engine import Engine
from ggf_cli.errors import GGFError
from ggf_cli.per_sample import repeated_labels
from ggf_cli.score import ScoreModel
from ggf_cli.solvers import make_solver
from ggf_cli.solvers.base import Solver

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
        known = _known_nfe(solver, model)
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


def solver_nfe(cell: Cell, nfe: int, model: ScoreModel) -> int:
    """The option `nfe` of a fixed-step solver with which a sample costs at most `nfe` evaluations.

    A solver counts a guided evaluation once, the run counts two.

    Args:
        cell: A cell of the solver.
        nfe: Evaluations of a sample, guided ones counted twice.
        model: The model.
    """
    if model.guidance is None:
        return nfe
    low, high = 1, nfe
    while low < high:
        middle = (low + high + 1) // 2
        try:
            found = _known_nfe(make_solver(cell.solver, {**cell.given, "nfe": middle}), model)
        # Fewer evaluations than the shortest run of the solver.
        except GGFError:
            found = 0
        low, high = (middle, high) if (found or 0) <= nfe else (low, middle - 1)
    return low


def _known_nfe(solver: Solver, model: ScoreModel | None) -> int | None:
    """Evaluations of a sample, if they do not depend on the score; counted with a score of 0."""
    if solver.expected_nfe() is None or model is None or model.guidance is None:
        return solver.expected_nfe()
    free = ScoreModel(
        score=lambda x, t, conditions: torch.zeros_like(x),
        sde=model.sde,
        shape=(1,),
        conditional=True,
        null_condition=0,
        recommended=model.recommended,
        conditions=repeated_labels([0], "0"),
        guidance=model.guidance,
    )
    (sample,) = Engine(free, solver, batch_size=1).run(1)
    return sample.nfe
