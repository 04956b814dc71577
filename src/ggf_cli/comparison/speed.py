"""Measure the NFE and the time of network calls of each cell, to plan a time budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import fmean
from time import perf_counter

import torch

from ggf_cli.comparison.costs import CallCost, Costs
from ggf_cli.comparison.evaluation_costs import MOST_EVALUATED, measure_evaluation
from ggf_cli.comparison.lineup import Cell
from ggf_cli.engine import Engine, Progress
from ggf_cli.errors import GGFError
from ggf_cli.metrics.evaluator import Evaluator
from ggf_cli.per_sample import repeated_labels
from ggf_cli.score import ScoreModel
from ggf_cli.solvers import make_solver
from ggf_cli.solvers.base import Solver
from ggf_cli.trace import Trace

# Pilot samples of an adaptive solver, and the most calls of a measurement.
SAMPLES = 8
CALLS = 50
# The NFE of a matched solver in a measurement.
STEPS = 20
# Shares of the time for measuring: network calls, NFE of adaptive solvers; the rest: evaluation.
CALLS_SHARE, NFE_SHARE = 0.3, 0.5
# The assumed NFE where none could be measured: about that of the paper's solver.
UNKNOWN = 250.0
# The NFE of an adaptive solver grows about like tolerance^-EXPONENT; the paper's solver has
# TYPICAL[1] at the tolerance TYPICAL[0].
EXPONENT, TYPICAL = 0.6, (0.1, 100.0)
# Tolerances for which that holds.
COARSE = 1e-3


class Stopwatch:
    """The time since its start, and what is left of a limit."""

    def __init__(self, limit: float) -> None:
        self._limit, self._start = limit, perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return perf_counter() - self._start

    @property
    def left(self) -> float:
        """Seconds until the limit; negative after it."""
        return self._limit - self.seconds


def known_nfe(cells: Sequence[Cell], model: ScoreModel | None = None) -> dict[str, float]:
    """The expected NFE of each cell, by id; `UNKNOWN` of adaptive solvers and their matches."""
    result: dict[str, float] = {}
    # Cells that match the NFE of another cell come after it.
    for cell in cells:
        if cell.matches is not None:
            result[cell.id] = result.get(cell.matches, UNKNOWN)
        else:
            known = _known_nfe(make_solver(cell.solver, cell.given), model)
            result[cell.id] = known or UNKNOWN
    return result


def measure_costs(
    cells: Sequence[Cell],
    model: ScoreModel,
    evaluators: Sequence[Evaluator],
    *,
    batch_size: int,
    seconds: float,
    seed: int = 0,
    processes: int = 1,
    samples: int | None = None,
) -> Costs:
    """Measure the costs of a comparison for about `seconds`, at least one call of each solver.

    Args:
        cells: The cells.
        model: The model, in its precision.
        evaluators: The metrics.
        batch_size: Batch size.
        seconds: The time for measuring.
        seed: The random seed of the pilot samples.
        processes: Number of processes that draw.
        samples: The number of samples to be evaluated; None: it depends on the costs.
    """
    watch = Stopwatch(seconds)
    series = {cell.series: cell for cell in cells if cell.matches is None}
    matched = {cell.series: cell for cell in cells if cell.matches is not None}
    calls: dict[str, CallCost] = {}
    for name, cell in (matched | series).items():
        share = CALLS_SHARE * seconds / len(matched | series)
        calls[name], batch_size = _call_cost(model, cell, batch_size, share, first=not calls)
    by_cell = {cell.id: calls[cell.series] for cell in cells}
    nfe, estimated = expected_nfe(
        cells,
        model,
        calls=by_cell,
        batch_size=batch_size,
        seed=seed,
        seconds=min(NFE_SHARE * seconds, watch.left),
    )
    drawing = Costs(nfe=nfe, calls=by_cell, batch_size=batch_size, processes=processes)
    evaluation, floors = measure_evaluation(
        evaluators, model, seconds=max(watch.left, 0.0), most=samples or MOST_EVALUATED
    )
    return replace(drawing, evaluation=evaluation, floors=floors, estimated=estimated)


def expected_nfe(
    cells: Sequence[Cell],
    model: ScoreModel,
    *,
    calls: Mapping[str, CallCost] | None = None,
    batch_size: int = SAMPLES,
    seed: int = 0,
    seconds: float = math.inf,
) -> tuple[dict[str, float], list[str]]:
    """The expected NFE of each cell, by id, and the ids of those that are estimated only.

    Adaptive solvers draw a few pilot samples at each tolerance, the largest first. Those that would
    take too long are estimated from the one before.

    Args:
        cells: The cells.
        model: The model.
        calls: The time of a network call, by cell id; None: any time is short enough.
        batch_size: The batch size of a compiled network.
        seed: Random seed.
        seconds: The time for pilot samples.
    """
    result, estimated = known_nfe(cells, model), list[str]()
    watch = Stopwatch(seconds)
    # {series: (tolerance, NFE) of the cell before}.
    before: dict[str, tuple[float, float]] = {}
    unknown = [c for c in cells if c.matches is None and _is_unknown(c, model)]
    for cell in sorted(unknown, key=_tolerance, reverse=True):
        tolerance = _tolerance(cell)
        guess = UNKNOWN
        if cell.series in before or tolerance >= COARSE:
            larger, nfe = before.get(cell.series, TYPICAL)
            guess = nfe * (larger / tolerance) ** EXPONENT if tolerance else nfe
        cost = calls[cell.id] if calls else CallCost(row=0.0)
        rows = SAMPLES
        while rows > 2 and guess * (cost.call + cost.row * rows) > watch.left:
            rows //= 2
        found = None
        if cell.series not in before or guess * (cost.call + cost.row * rows) <= watch.left:
            found = _pilot(model, cell, seed, rows, batch_size, max(watch.left, 0.0))
        if found is None:
            estimated.append(cell.id)
        result[cell.id] = found or guess
        before[cell.series] = (tolerance, result[cell.id])
    for cell in cells:
        if cell.matches is not None:
            result[cell.id] = result.get(cell.matches, UNKNOWN)
            estimated += [cell.id] if cell.matches in estimated else []
    return result, estimated


def _pilot(
    model: ScoreModel, cell: Cell, seed: int, rows: int, batch_size: int, seconds: float
) -> float | None:
    """The mean NFE of a few samples; None if they take too long, or fail."""
    watch = Stopwatch(seconds)

    def on_tick(progress: Progress) -> None:
        if watch.left < 0:
            raise TimeoutError

    solver = make_solver(cell.solver, cell.given)
    # Another batch size would be compiled anew.
    engine = Engine(model, solver, seed=seed, batch_size=batch_size if model.compiled else rows)
    try:
        counts = [sample.nfe for sample in engine.run(range(rows), on_tick)]
    # A cell that fails will fail in the same way, and its row of the table has the error.
    except (GGFError, RuntimeError, TimeoutError):
        return None
    return sum(counts) / len(counts)


def _call_cost(
    model: ScoreModel, cell: Cell, batch_size: int, seconds: float, *, first: bool
) -> tuple[CallCost, int]:
    """The time of a network call of a cell's solver, and the batch size that fits into memory."""
    given = {**cell.given, "nfe": STEPS} if cell.matches is not None else cell.given
    solver = make_solver(cell.solver, given)
    try:
        if first:
            # The first call takes longer, and finds out whether memory suffices.
            _, batch_size = _seconds_a_call(model, solver, batch_size, 0.0, calls=1)
        many, batch_size = _seconds_a_call(model, solver, batch_size, 0.8 * seconds)
        rows = min(SAMPLES, batch_size)
        # Another batch size would be compiled anew.
        if model.compiled:
            return CallCost(row=many / batch_size), batch_size
        few, _ = _seconds_a_call(model, solver, rows, 0.2 * seconds)
    # The cell will fail in the same way.
    except (GGFError, RuntimeError):
        return CallCost(row=0.0), batch_size
    return CallCost.through((rows, few), (batch_size, many)), batch_size


def _seconds_a_call(
    model: ScoreModel, solver: Solver, rows: int, seconds: float, *, calls: int = CALLS
) -> tuple[float, int]:
    """The mean time of a network call with its solver step, and the batch size."""
    engine = Engine(model, solver, batch_size=rows)
    device, times = torch.device(model.device), list[float]()
    trace = Trace(range(rows), model.sde.T)
    watch, last = Stopwatch(seconds), perf_counter()

    def on_tick(progress: Progress) -> None:
        nonlocal last
        # As a run does.
        trace.update(progress)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = perf_counter()
        times.append(now - last)
        last = now
        if len(times) >= calls or watch.left < times[-1]:
            raise TimeoutError

    with suppress(TimeoutError):
        list(engine.run(range(rows), on_tick))
    # The first time includes the prior states. The mean, not the median: a run takes the sum.
    return fmean(times[1:] or times), engine.batch_size


def _is_unknown(cell: Cell, model: ScoreModel) -> bool:
    return _known_nfe(make_solver(cell.solver, cell.given), model) is None


def _tolerance(cell: Cell) -> float:
    """The tolerance of a cell of an adaptive solver."""
    return float(make_solver(cell.solver, cell.given).tolerance)


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
