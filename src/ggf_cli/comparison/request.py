"""What the user asks for, and how it becomes a `Request` in which everything is decided."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggf_cli.comparison.budget import afford
from ggf_cli.comparison.lineup import EPS_REL, MATCH, REFERENCE, Cell, Contender, make_cells
from ggf_cli.comparison.presets import Preset, find_preset
from ggf_cli.errors import UsageError

if TYPE_CHECKING:
    from ggf_cli.comparison.runner import Request
    from ggf_cli.score import ScoreModel

REPEATS = 1
MAX_SAMPLES = 10_000_000
WORTH = 3  # times the fewest samples that can be judged: with less, settings are left out first


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the user asks for; nothing has been loaded yet.

    Attributes:
        contenders: Solvers, as `parse_contender` reads them; none with a preset.
        model: What --model says.
        config: What --config says.
        eps_rel: Tolerances of adaptive stochastic solvers.
        nfe: Budgets of fixed-step solvers, "match" or "default": as `make_cells`.
        preset: The name of a table of the paper.
        n: Samples a repeat; None leaves it to the budget.
        budget_s: Seconds.
        repeats: Repeats.
        seed: Of the samples.
        metrics: Names of metrics; none leaves them to the model.
        reference: Real images or their statistics.

    Raises:
        UsageError: Out of range, exclude each other, or nothing to compare.
    """

    contenders: tuple[Contender, ...]
    model: str
    eps_rel: tuple[float, ...]
    nfe: tuple[int, ...] | str
    preset: str | None
    n: int | None
    budget_s: float
    repeats: int | None
    seed: int
    metrics: tuple[str, ...]
    reference: Path | None
    config: str | None = None

    def __post_init__(self) -> None:
        if self.n is not None and not 2 <= self.n <= MAX_SAMPLES:
            raise UsageError(f"--n is {self.n}, it must lie in 2..{MAX_SAMPLES:,}")
        if self.repeats is not None and not 1 <= self.repeats <= 1000:
            raise UsageError(f"--repeats is {self.repeats}, it must lie in 1..1000")
        if not isinstance(self.nfe, str) and min(self.nfe, default=0) < 1:
            raise UsageError(
                f"--nfe is {_budgets(self.nfe) or 'empty'}, a budget must be 1 at least"
            )
        if self.preset and (self.contenders or self.eps_rel != EPS_REL or self.nfe != MATCH):
            raise UsageError(
                f"--preset {self.preset} brings its own solvers and settings",
                hint="leave out the solvers, --eps-rel and --nfe",
            )
        self.cells()

    @property
    def table(self) -> Preset | None:
        """The preset itself."""
        return find_preset(self.preset) if self.preset else None

    def cells(self) -> list[Cell]:
        """All cells that are wanted."""
        table = self.table
        return make_cells(
            table.line_up(self.model) if table else self.contenders,
            eps_rel=self.eps_rel,
            nfe=self.nfe,
            reference=table.reference if table else REFERENCE,
        )

    def tolerance(self) -> float:
        """The smallest relative tolerance of all solvers."""
        from ggf_cli.solvers import make_solver

        return min(make_solver(cell.solver, cell.given).tolerance for cell in self.cells())

    def words(self) -> str:
        """The same for the same wish."""
        said = asdict(self)
        if self.config is None:  # folders of before --config keep their names
            del said["config"]
        return repr(said)


def decide(
    wish: Wish,
    model: ScoreModel,
    evaluators: Sequence[Any],
    folder: Path,
    *,
    batch_size: int | None,
    summary: str | None,
    processes: int = 1,
) -> Request:
    """Decide what the wish leaves open: samples, repeats, settings, batch size.

    What a comparison in the folder had decided holds on.

    Args:
        wish: What the user asks for.
        model: In its precision.
        evaluators: The metrics.
        folder: Where to.
        batch_size: Rows per network call; None chooses.
        summary: One line about the model.
        processes: How many draw it, each as fast as this one.
    """
    from ggf_cli.comparison.folder import read_document
    from ggf_cli.comparison.runner import Request
    from ggf_cli.comparison.speed import expected_nfe, measure_rate
    from ggf_cli.sampling import choose_batch_size

    cells, n, repeats, notes = wish.cells(), wish.n, wish.repeats, list[str]()
    table, before = wish.table, read_document(folder)
    rows = batch_size or choose_batch_size(model, n or MAX_SAMPLES)
    if table and wish.model in table.published:
        notes.append(f"published numbers: {table.summary}, on the authors' machines")
    budget_s = wish.budget_s if n is None else None
    if before is not None and n is None:
        n, repeats, notes = before["n"], before["repeats"], before["notes"]
        kept = {cell["id"] for cell in before["cells"]}
        cells = [cell for cell in cells if cell.id in kept]
        budget_s = before["budget_s"]
    expected = expected_nfe(cells)
    if n is None:
        expected = expected_nfe(cells, model, seed=wish.seed, batch_size=rows)
        plan = afford(
            cells,
            expected,
            rate=processes * measure_rate(model, rows),
            seconds=wish.budget_s,
            repeats=repeats or REPEATS,
            min_samples=WORTH * max((evaluator.min_samples for evaluator in evaluators), default=2),
        )
        cells, n, repeats = plan.cells, plan.n, plan.repeats
        notes += plan.notes
    rows = min(rows, n)
    return Request(
        model=model,
        cells=cells,
        evaluators=evaluators,
        n=n,
        repeats=repeats or REPEATS,
        seed=wish.seed,
        batch_size=rows,
        folder=folder,
        command=_command(
            wish, cells, n, repeats or REPEATS, evaluators, rows, model, several=processes > 1
        ),
        model_argument=wish.model,
        config=wish.config,
        expected_nfe=expected,
        budget_s=budget_s,
        preset=wish.preset,
        published=table.numbers(wish.model, cells) if table else {},
        summary=summary,
        notes=notes,
    )


def _budgets(nfe: tuple[int, ...] | str) -> str:
    return nfe if isinstance(nfe, str) else ",".join(map(str, nfe))


def _command(
    wish: Wish,
    cells: Sequence[Cell],
    n: int,
    repeats: int,
    evaluators: Sequence[Any],
    rows: int,
    model: ScoreModel,
    *,
    several: bool,
) -> str:
    """The command line that repeats the comparison, every default spelled out."""
    words = ["ggf", "compare", *map(str, wish.contenders), "--model", wish.model]
    words += ["--config", wish.config] if wish.config else []
    if wish.preset:
        words += ["--preset", wish.preset]
    else:
        left = {cell.given.get("eps_rel") for cell in cells}
        if tolerances := [f"{eps_rel:g}" for eps_rel in wish.eps_rel if eps_rel in left]:
            words += ["--eps-rel", ",".join(tolerances)]
        words += ["--nfe", _budgets(wish.nfe)]
    words += ["--n", str(n), "--repeats", str(repeats), "--seed", str(wish.seed)]
    words += ["--metric", ",".join(evaluator.name for evaluator in evaluators)]
    if wish.reference:
        words += ["--reference", str(wish.reference)]
    words += ["--precision", model.precision, *(["--compile"] if model.compiled else [])]
    words += ["--batch-size", str(rows), "--device"]
    # which of several GPUs a process of a job has does not matter
    words += [str(model.device).split(":")[0] if several else str(model.device)]
    return shlex.join(words)
