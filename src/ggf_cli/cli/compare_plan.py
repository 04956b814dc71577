"""Show the plan of a comparison before it is drawn, and ask whether it may take too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.prompt import Confirm

from ggf_cli.cli import console
from ggf_cli.cli.tables import Column, table
from ggf_cli.comparison.durations import as_duration

if TYPE_CHECKING:
    from ggf_cli.comparison.plan import ComparisonPlan

REST = "start, measuring, evaluation, report"


def asking(yes: bool) -> Callable[[str], bool]:
    """The question whether a comparison may exceed its budget: on a terminal only.

    Args:
        yes: Answer it with yes.
    """

    def may_exceed(sentence: str) -> bool:
        terminal = console.stderr()
        if yes or not terminal.is_terminal:
            return yes
        console.note(sentence)
        return Confirm.ask("draw it nevertheless?", console=terminal, default=False)

    return may_exceed


def print_plan(plan: ComparisonPlan) -> None:
    """Print what will be drawn, how long it takes, and how wide error bars will be, on stderr."""
    costs = plan.costs
    if costs is None or plan.time is None:
        return
    terminal = console.stderr()
    drawing = [plan.repeats * costs.drawing(cell, plan.n) for cell in plan.cells]
    evaluations = [plan.repeats * plan.n * costs.nfe[cell.id] for cell in plan.cells]
    planned = plan.time["planned_s"]
    rest = max(0.0, planned - sum(drawing))
    samples = f"{plan.n:,}" if plan.repeats == 1 else f"{plan.repeats} × {plan.n:,}"
    about = {cell.id: "~" if cell.id in costs.estimated else "" for cell in plan.cells}
    width = terminal.width if terminal.is_terminal else console.WIDE
    columns = [
        Column(
            title="plan",
            cells=[
                *(cell.id for cell in plan.cells),
                REST,
                "all",
            ],
        ),
        Column(
            title="NFE",
            cells=[*(f"{about[c.id]}{costs.nfe[c.id]:,.0f}" for c in plan.cells), "", ""],
            justify="right",
        ),
        Column(
            title="samples", cells=[*(samples for _ in plan.cells), "", ""], justify="right", rank=2
        ),
        Column(
            title="evaluations",
            cells=[*(f"{e:,.0f}" for e in evaluations), "", f"{sum(evaluations):,.0f}"],
            justify="right",
            rank=3,
        ),
        Column(
            title="time",
            cells=[*map(as_duration, drawing), as_duration(rest), as_duration(planned)],
            justify="right",
        ),
    ]
    terminal.print(table(columns, width), soft_wrap=not terminal.is_terminal)
    for evaluator in plan.evaluators[:1]:
        bar = _error_bar(plan, evaluator.name, evaluator.digits)
        console.note(f"expected error bar of {evaluator.title}: {bar}")
    for sentence in plan.notes:
        console.note(sentence)


def _error_bar(plan: ComparisonPlan, metric: str, digits: int) -> str:
    from ggf_cli.comparison.time_plan import error_bar

    return error_bar(plan.floors.get(metric), plan.repeats, digits)
