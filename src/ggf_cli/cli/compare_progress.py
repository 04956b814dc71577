"""The progress of a comparison on stderr: the current run, the remaining time, the expected end."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING

from rich.progress import BarColumn, TaskID, TextColumn

from ggf_cli.cli import console
from ggf_cli.comparison.observer import ComparisonObserver
from ggf_cli.progress import LIVE_EVERY_S, PLAIN_EVERY_S, Bar
from ggf_cli.text import per_second, time_left

if TYPE_CHECKING:
    from ggf_cli.comparison.lineup import Cell
    from ggf_cli.comparison.plan import ComparisonPlan
    from ggf_cli.engine import Progress as EngineProgress


class Forecast:
    """The remaining work of a comparison, counted in network evaluations.

    Args:
        cells: All cells.
        nfe: Expected evaluations of a sample, by cell id; measured values replace them.
        n: Samples of a repeat.
        repeats: Repeats.
    """

    def __init__(
        self, cells: Sequence[Cell], nfe: Mapping[str, float], n: int, repeats: int
    ) -> None:
        self._nfe, self._n = dict(nfe), n
        self._left = {cell.id: repeats for cell in cells}
        self._matched = {c.id: [d.id for d in cells if d.matches == c.id] for c in cells}
        self.total, self._ended = len(cells) * repeats, 0
        # Evaluations that this process made: in all, in the current run, and with those of
        # earlier launches of the current run.
        self._spent = self._current = self._finished = 0.0
        self._time, self._since = 0.0, monotonic()
        self._measured: set[str] = set()
        self._cell = ""
        self._drawing = False

    def begin(self, cell: str, kept: bool) -> None:
        """A repeat of a cell begins; `kept`: its run has ended earlier."""
        self._cell = cell
        self._since, self._drawing = monotonic(), not kept
        self._current = self._finished = 0.0

    def tick(self, rows_evaluated: int, finished: int | None = None) -> None:
        """Update the evaluations of the current run.

        Args:
            rows_evaluated: Evaluations of this launch.
            finished: Evaluations of all launches; None: the same.
        """
        self._current = float(rows_evaluated)
        self._finished = self._current if finished is None else float(finished)

    def end(self, cell: str, nfe: float | None) -> None:
        """The repeat has ended with this mean NFE; None: the cell has failed."""
        if self._drawing:
            self._spent += self._current
            self._time += monotonic() - self._since
        self._current, self._finished, self._drawing = 0.0, 0.0, False
        self._ended += 1 if nfe is not None else self._left[cell]
        self._left[cell] = self._left[cell] - 1 if nfe is not None else 0
        if nfe is not None and cell not in self._measured:
            self._measured.add(cell)
            for name in (cell, *self._matched[cell]):
                self._nfe[name] = nfe

    @property
    def ended(self) -> int:
        """Number of runs that have ended."""
        return self._ended

    @property
    def remaining(self) -> float:
        """Evaluations that are left."""
        whole = sum(left * self._n * self._nfe[cell] for cell, left in self._left.items())
        return max(0.0, whole - self._finished)

    @property
    def current(self) -> float:
        """The finished share of the current run."""
        return min(1.0, self._finished / max(1.0, self._n * self._nfe.get(self._cell, 1.0)))

    @property
    def fraction(self) -> float:
        """The finished share of the evaluations of this process."""
        done = self._spent + self._current
        return done / max(1.0, done + self.remaining)

    @property
    def rate(self) -> float:
        """Evaluations a second; 0 before the first."""
        running = monotonic() - self._since if self._drawing else 0.0
        return (self._spent + self._current) / max(self._time + running, 1e-6)

    def left(self) -> str:
        """The remaining time as text: "3:20 left, until 14:05"."""
        if not self._spent + self._current:
            return ""
        seconds = self.remaining / self.rate
        until = datetime.now() + timedelta(seconds=round(seconds))
        return f"{time_left(seconds)}, until {until:%H:%M}"


@contextmanager
def progress_observer(plan: ComparisonPlan, *, quiet: bool) -> Iterator[ComparisonObserver]:
    """The observer of a comparison on this terminal: bars, or lines if stderr is no terminal."""
    n, repeats = plan.n, plan.repeats
    forecast = Forecast(plan.cells, plan.expected_nfe, n, repeats)
    target = console.stderr()
    if quiet:
        yield QuietObserver()
    elif not target.is_terminal:
        yield LineObserver(forecast, n, repeats)
    else:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[left]}"),
        )
        with Bar(*columns, console=target, expand=True, transient=True) as bar:
            whole = bar.add_task("comparing", total=1.0, left="")
            run = bar.add_task("", total=1.0, left="")
            yield BarObserver(forecast, n, repeats, bar, whole, run)


class QuietObserver(ComparisonObserver):
    """Prints only changes of the comparison."""

    def out_of_memory(self, batch_size: int) -> None:
        console.note(f"out of memory: continuing with batch size {batch_size}")

    def warn(self, text: str) -> None:
        console.note(text)


class ForecastObserver(QuietObserver):
    """Updates a forecast, and calls `show` at intervals."""

    interval_s = PLAIN_EVERY_S

    def __init__(self, forecast: Forecast, n: int, repeats: int) -> None:
        self.forecast, self.n, self.repeats = forecast, n, repeats
        self.description, self.finished, self._shown = "", 0, monotonic()

    def begin(self, cell: Cell, label: str, repeat: int, kept: bool) -> None:
        self.description = f"repeat {repeat + 1}/{self.repeats} · {label}"
        self.finished = 0
        self.forecast.begin(cell.id, kept)

    def tick(self, progress: EngineProgress) -> None:
        self.finished = progress.finished
        evaluations = progress.nfe_finished + sum(progress.running_nfe)
        self.forecast.tick(progress.rows_evaluated, evaluations)
        if monotonic() - self._shown >= self.interval_s:
            self._shown = monotonic()
            self.show()

    def end(self, cell: Cell, nfe: float | None) -> None:
        self.forecast.end(cell.id, nfe)

    @abstractmethod
    def show(self) -> None:
        """Print the forecast."""


class LineObserver(ForecastObserver):
    """Prints a line at intervals."""

    def show(self) -> None:
        runs = f"{self.forecast.ended}/{self.forecast.total} runs"
        speed = f"{per_second(self.forecast.rate)} evaluations/s"
        count = f"{self.finished}/{self.n} samples"
        console.note(f"{runs} · {self.description}: {count} · {speed} · {self.forecast.left()}")


class BarObserver(ForecastObserver):
    """Updates two progress bars: the comparison, and the current run."""

    interval_s = LIVE_EVERY_S

    def __init__(
        self, forecast: Forecast, n: int, repeats: int, bar: Bar, whole: TaskID, run: TaskID
    ) -> None:
        super().__init__(forecast, n, repeats)
        self._bar, self._whole, self._run = bar, whole, run

    def show(self) -> None:
        forecast = self.forecast
        self._bar.update(
            self._whole,
            completed=forecast.fraction,
            description=f"comparing, {forecast.ended}/{forecast.total} runs",
            left=forecast.left(),
        )
        self._bar.update(
            self._run,
            completed=forecast.current,
            description=self.description,
            left=f"{self.finished}/{self.n} · {per_second(forecast.rate)} evaluations/s",
        )
