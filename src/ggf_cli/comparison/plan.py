"""The plan of a comparison: model, cells, metrics and number of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ggf_cli.comparison.costs import Costs
from ggf_cli.comparison.deadline import Deadline
from ggf_cli.comparison.lineup import Cell
from ggf_cli.metrics.evaluator import Evaluator, Floor
from ggf_cli.score import ScoreModel


@dataclass(frozen=True, kw_only=True)
class ComparisonPlan:
    """A comparison before it is drawn.

    Attributes:
        model: The model, in its precision.
        cells: The cells, in the order in which they are drawn.
        evaluators: The metrics; the first one decides.
        n: Samples of a repeat.
        repeats: Repeats. Repeat r has the sample indices r n .. r n + n - 1.
        seed: Random seed.
        batch_size: Batch size.
        folder: The folder of the comparison.
        command: The command that repeats the comparison.
        model_argument: The value of `ggf sample --model`.
        expected_nfe: Expected evaluations of a sample, by cell id.
        budget_s: The time budget that `n` was chosen for; None without one.
        preset: The name of the preset; None without one.
        published: {cell id: {"nfe", "fid"}}, the numbers of the paper.
        summary: One line about the model.
        config: The value of `ggf sample --config`; None without one.
        label: The value of `ggf sample --label`; None without one.
        notes: Decisions made while planning, a sentence each.
        floors: The floors that are computed already, by metric.
        costs: The measured costs; None if they were not measured.
        time: The entry `time` of compare.json; None if the time was not planned.
        started: When the command began, `time.monotonic`; None if it does not matter.
        deadline: The end of the time budget; None without one.
    """

    model: ScoreModel
    cells: Sequence[Cell]
    evaluators: Sequence[Evaluator]
    n: int
    repeats: int
    seed: int
    batch_size: int
    folder: Path
    command: str
    model_argument: str
    expected_nfe: Mapping[str, float] = field(default_factory=dict)
    budget_s: float | None = None
    preset: str | None = None
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    summary: str | None = None
    config: str | None = None
    label: str | None = None
    notes: Sequence[str] = ()
    floors: Mapping[str, Floor | None] = field(default_factory=dict)
    costs: Costs | None = None
    time: Mapping[str, float] | None = None
    started: float | None = None
    deadline: Deadline | None = None
