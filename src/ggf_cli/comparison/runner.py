"""Draw, evaluate and record the cells of a comparison.

Repeat by repeat, the run of every cell is drawn and evaluated, and `compare.json` is written anew.
So an interrupted comparison has all its cells, with fewer repeats, and the same plan continues it
sample by sample. A cell that fails has its error in the document; the other cells are drawn.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ggf_cli.comparison import compare_log
from ggf_cli.comparison.analysis import MARGIN, summarise
from ggf_cli.comparison.cell_runs import draw_cell_run, find_cell_run, plan_cell_run
from ggf_cli.comparison.cost_sentences import cost_sentences
from ggf_cli.comparison.documents import COMPARE_SCHEMA
from ggf_cli.comparison.evaluation_costs import FLOOR_DRAWS
from ggf_cli.comparison.folder import CELLS, check_same_comparison, locked
from ggf_cli.comparison.lineup import Cell
from ggf_cli.comparison.observer import CellObserver, ComparisonObserver
from ggf_cli.comparison.plan import ComparisonPlan
from ggf_cli.comparison.repeat import PICTURED, Evaluation, Repeat, evaluate, make_repeat
from ggf_cli.comparison.report import COMPARISON
from ggf_cli.comparison.speed import solver_nfe
from ggf_cli.comparison.time_keeper import TimeKeeper
from ggf_cli.comparison.workers import WorkerGroup
from ggf_cli.engine import Engine
from ggf_cli.errors import GGFError, JobError, OutputError, SolveError, first_line
from ggf_cli.metrics.evaluator import Evaluator
from ggf_cli.runs.history import batch_size_of
from ggf_cli.runs.layout import write_atomically
from ggf_cli.runs.load_samples import RunSamples
from ggf_cli.runs.pictures import picture_of
from ggf_cli.solvers import make_solver
from ggf_cli.solvers.catalog import as_text, as_words, read_catalog

# Characters of an option's value in a label.
MAX_VALUE = 24


class Comparison:
    """Draws a planned comparison.

    Args:
        plan: The comparison.
        group: The workers of a job, if several processes draw the comparison.
        margin: The share of the baseline's value by which a setting may be worse.

    Raises:
        UsageError: An option is out of range, or a solver cannot solve the model's SDE.
        OutputError: The folder holds another comparison, or cannot be written to.
    """

    def __init__(
        self,
        plan: ComparisonPlan,
        group: WorkerGroup | None = None,
        *,
        margin: float = MARGIN,
    ) -> None:
        self._plan, self._margin = plan, margin
        self._group = group
        self._observer = ComparisonObserver()
        self._stop: Callable[[], bool] = lambda: False
        self._batch_size = plan.batch_size
        self._repeats: dict[str, list[Repeat]] = {cell.id: [] for cell in plan.cells}
        # The evaluation of each metric, repeat by repeat.
        self._evaluations: dict[str, list[dict[str, Evaluation]]] = {c.id: [] for c in plan.cells}
        self._errors: dict[str, str] = {}
        self._keeper = TimeKeeper(plan, lambda sentence: self._observer.warn(sentence))
        # Options given and all options of the cells that were begun.
        self._options: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        # Options out of range fail before anything is drawn.
        for cell in plan.cells:
            Engine(plan.model, make_solver(cell.solver, cell.given))
        self._settings = self._describe(datetime.now().astimezone())
        cells = [self._cell_log(cell) for cell in plan.cells]
        started_at = check_same_comparison(plan.folder, self._settings, cells)
        self._settings["started_at"] = started_at or self._settings["started_at"]

    @property
    def folder(self) -> Path:
        """The folder of the comparison."""
        return self._plan.folder

    def run(
        self,
        observer: ComparisonObserver | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> dict[str, Any]:
        """Draw all repeats; return the content of `compare.json`.

        Args:
            observer: Callbacks.
            stop: Called at every engine tick; True interrupts the comparison.

        Raises:
            OutputError: A file cannot be written.
            JobError: The other processes of the job cannot be reached.
            KeyboardInterrupt: The comparison was interrupted; `result` has what was drawn.
        """
        self._observer, self._stop = observer or self._observer, stop or self._stop
        with locked(self._plan.folder), self._group or nullcontext():
            result = self._write()
            for repeat in range(self._plan.repeats):
                for cell in self._plan.cells:
                    self._keeper.before(cell, repeat)
                    drawn = cell in self._keeper.cells and repeat < self._keeper.repeats
                    if drawn and cell.id not in self._errors:
                        self._add_repeat(cell, repeat)
                    result = self._write()
        return result

    def result(self) -> dict[str, Any]:
        """The content of `compare.json` so far."""
        cells = [self._cell_log(cell) for cell in self._keeper.cells]
        ended = all(c["error"] or len(c["runs"]) == self._keeper.repeats for c in cells)
        return compare_log.with_analysis(
            self._settings
            | self._keeper.time()
            | {
                "status": "completed" if ended else "interrupted",
                "finished_at": datetime.now().astimezone().isoformat(timespec="seconds"),
                "repeats": self._keeper.repeats,
                "notes": [*self._settings["notes"], *self._keeper.notes],
                "cells": cells,
            }
        )

    def with_time(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Write the time that the comparison took, with its report, into the document."""
        if self._plan.time is None:
            return dict(document)
        document = {**document, **self._keeper.time()}
        document["costs"] = cost_sentences(document)
        content = json.dumps(document, indent=2, allow_nan=False)
        write_atomically(self._plan.folder / COMPARISON, content.encode() + b"\n")
        return document

    def pictures(self) -> dict[str, Tensor]:
        """The first samples of each cell, {cell id: (k, *shape)}; images are float32 in [0, 1]."""
        first = {name: drawn[0].pictures for name, drawn in self._repeats.items() if drawn}
        return {
            name: samples.float() / 255 if samples.dtype == torch.uint8 else samples
            for name, samples in first.items()
        }

    def reference(self) -> Tensor | None:
        """Samples of the reference, (k, *shape), to be pictured beside those of the cells.

        None for images, and if no metric compares the samples themselves.
        """
        model = self._plan.model
        picture = picture_of(model.shape, model.data_range is not None)
        for evaluator in self._plan.evaluators if picture not in (None, "grid") else ():
            if evaluator.sample_form == "x":
                features = evaluator.features.space.reference.samples(PICTURED[picture])
                return features.reshape(-1, *model.shape)
        return None

    # --- drawing --------------------------------------------------------------------------------

    def _add_repeat(self, cell: Cell, number: int) -> None:
        """Draw and evaluate a repeat. An error of the cell itself is recorded in its entry."""
        try:
            repeat, samples = self._draw(cell, number)
            self._repeats[cell.id].append(repeat)
            if samples is None:
                raise SolveError(f"none of {repeat.lost} samples reached the end")
            self._evaluations[cell.id].append(evaluate(samples, self._plan.evaluators))
        # A full disk fails every cell.
        except (OutputError, JobError):
            raise
        except KeyboardInterrupt:
            if not self._keeper.late or self._stop():
                raise
            self._keeper.give_up(cell, number)
        except (GGFError, RuntimeError, MemoryError) as error:
            self._errors[cell.id] = first_line(error)
            self._observer.end(cell, None)
        else:
            self._observer.end(cell, repeat.mean_nfe)
            self._keeper.after(cell)

    def _draw(self, cell: Cell, number: int) -> tuple[Repeat, RunSamples | None]:
        plan, given = self._plan, self._given(cell)
        name = f"{CELLS}/{cell.id}/{number}"
        path = plan.folder / name
        # The batch size of a run stays, though memory ran out since.
        batch_size = batch_size_of(path) or self._batch_size
        solver = make_solver(cell.solver, given)
        engine = Engine(plan.model, solver, seed=plan.seed, batch_size=batch_size)
        self._options[cell.id] = given, engine.solver.options()
        run = plan_cell_run(
            engine,
            range(number * plan.n, (number + 1) * plan.n),
            keep_x=any(evaluator.sample_form == "x" for evaluator in plan.evaluators),
            model_argument=plan.model_argument,
            config=plan.config,
            label=plan.label,
        )
        found = find_cell_run(run, path)
        if found.reason:
            self._observer.warn(f"the run in {path} is drawn again: {found.reason}")
        self._observer.begin(cell, self._label(cell), number, kept=found.log is not None)
        log, samples = found.log, found.samples
        if log is None:
            # The workers of a job are stopped between runs only.
            watch = (lambda _: None) if self._group else partial(self._keeper.watch, cell, number)
            observer = CellObserver(self._observer, watch)

            def stop() -> bool:
                return self._keeper.late or self._stop()

            log, samples = draw_cell_run(
                run, path, found, observer=observer, stop=stop, group=self._group
            )
            self._batch_size = observer.batch_size or self._batch_size
        return make_repeat(name, log, samples), samples

    def _given(self, cell: Cell) -> dict[str, Any]:
        """The options of a cell. A matched cell has the NFE of the other cell's first repeat."""
        if cell.matches is None:
            return dict(cell.given)
        drawn = self._repeats[cell.matches]
        if not drawn:
            raise SolveError(f"the cell whose NFE it matches, {cell.matches}, has failed")
        nfe = solver_nfe(cell, round(drawn[0].mean_nfe), self._plan.model)
        return {**cell.given, "nfe": nfe}

    # --- the document ---------------------------------------------------------------------------

    def _describe(self, started_at: datetime) -> dict[str, Any]:
        """The entries of the document that do not depend on samples."""
        plan = self._plan
        assumed = (plan.model.provenance or {}).get("assumptions", ())
        return {
            "schema": COMPARE_SCHEMA,
            "command": plan.command,
            "started_at": started_at.isoformat(timespec="seconds"),
            "model": compare_log.compared_model(plan.model, plan.summary),
            **compare_log.device_and_versions(plan.model),
            "precision": plan.model.precision,
            "compiled": plan.model.compiled,
            "batch_size": plan.batch_size,
            **compare_log.conditions_and_guidance(plan.model),
            "seed": plan.seed,
            "n": plan.n,
            "repeats": plan.repeats,
            "budget_s": plan.budget_s,
            "margin": self._margin,
            "preset": plan.preset,
            "notes": list(dict.fromkeys([*plan.notes, *assumed])),
            "metrics": [
                compare_log.metric_log(evaluator, plan.n, self._floor(evaluator))
                for evaluator in plan.evaluators
            ],
            "files": [],
        }

    def _floor(self, evaluator: Evaluator) -> dict[str, Any] | None:
        floors = self._plan.floors
        if evaluator.name in floors:
            floor = floors[evaluator.name]
        else:
            floor = evaluator.floor(self._plan.n, FLOOR_DRAWS)
        if floor is None:
            return None
        summary = summarise(floor.values)
        return {key: summary[key] for key in ("values", "mean", "se")} | {"what": floor.what}

    def _cell_log(self, cell: Cell) -> dict[str, Any]:
        repeats = self._keeper.repeats
        drawn, error = self._repeats[cell.id][:repeats], self._errors.get(cell.id)
        evaluations = self._evaluations[cell.id][:repeats]
        quality = {
            name: compare_log.quality_log([repeat[name] for repeat in evaluations])
            for name in (evaluations or [{}])[0]
        }
        given, options = self._options.get(cell.id) or (
            dict(cell.given),
            make_solver(cell.solver, cell.given).options(),
        )
        return compare_log.cell_log(
            cell,
            drawn,
            quality,
            label=self._label(cell),
            options=options,
            adaptive=read_catalog()[cell.solver].adaptive,
            status="failed" if error else "done" if drawn else "pending",
            error=error,
            command=self._sample_command(cell, given),
            published=dict(self._plan.published.get(cell.id, {})) or None,
        )

    def _label(self, cell: Cell) -> str:
        """The label of a cell: "adaptive eps-rel 0.05", of a matched cell with its NFE."""
        words = [f"{key.replace('_', '-')} {_value(value)}" for key, value in cell.given.items()]
        if cell.matches is not None and (drawn := self._repeats[cell.matches]):
            words.append(f"nfe {drawn[0].mean_nfe:.0f}")
        return " ".join([cell.solver, *words])

    def _sample_command(self, cell: Cell, given: Mapping[str, Any]) -> str:
        words = ["ggf", "sample", "--model", self._plan.model_argument]
        guidance = self._plan.model.guidance
        about = {
            "config": self._plan.config,
            "label": self._plan.label,
            "guidance": guidance.scale if guidance else None,
            "guidance-interval": list(guidance.interval or ()) or None if guidance else None,
        }
        return shlex.join([*words, *as_words(about), "--solver", cell.solver, *as_words(given)])

    def _write(self) -> dict[str, Any]:
        result = self.result()
        content = (json.dumps(result, indent=1) + "\n").encode()
        write_atomically(self._plan.folder / COMPARISON, content)
        return result


def _value(value: Any) -> str:
    """The value of an option in a label."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = as_text(value)
    if len(text) <= MAX_VALUE:
        return text
    return f"{text[: MAX_VALUE // 2]}…{text[-MAX_VALUE // 4 :]}"
