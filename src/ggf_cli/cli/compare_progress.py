"""Progress of a comparison on stderr: what is drawn now, what is left, and when it ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from ggf_cli.cli import console
from ggf_cli.cli.progress import LIVE_EVERY_S, PLAIN_EVERY_S
from ggf_cli.comparison.runner import Watcher

if TYPE_CHECKING:
    from ggf_cli.comparison.lineup import Cell
    from ggf_cli.comparison.runner import Request
    from ggf_cli.engine import Progress as EngineProgress


class Forecast:
    """How much of a comparison is done, counted in evaluations.

    Args:
        cells: All cells.
        nfe: Expected evaluations a sample of each, by id; becomes what was measured as pieces end.
        n: Samples a piece.
        repeats: Pieces a cell.
    """

    def __init__(
        self, cells: Sequence[Cell], nfe: Mapping[str, float], n: int, repeats: int
    ) -> None:
        self._nfe, self._n = dict(nfe), n
        self._left = {cell.id: repeats for cell in cells}
        self._followers = {c.id: [d.id for d in cells if d.matches == c.id] for c in cells}
        self.total, self._ended = len(cells) * repeats, 0
        self._spent = self._current = 0.0  # evaluations, of what was drawn in this run
        self._time, self._since = 0.0, monotonic()
        self._measured: set[str] = set()
        self._cell = ""
        self._drawing = False

    def begin(self, cell: str, kept: bool) -> None:
        """A piece of this cell begins."""
        self._cell = cell
        self._since, self._current, self._drawing = monotonic(), 0.0, not kept

    def tick(self, rows_evaluated: int) -> None:
        """It has taken so many evaluations."""
        self._current = float(rows_evaluated)

    def end(self, cell: str, nfe: float | None) -> None:
        """The piece has ended; None: the cell is given up."""
        if self._drawing:
            self._spent += self._current
            self._time += monotonic() - self._since
        self._current, self._drawing = 0.0, False
        self._ended += 1 if nfe is not None else self._left[cell]
        self._left[cell] = self._left[cell] - 1 if nfe is not None else 0
        if nfe is not None and cell not in self._measured:
            self._measured.add(cell)
            for name in (cell, *self._followers[cell]):
                self._nfe[name] = nfe

    @property
    def ended(self) -> int:
        """Pieces that have ended."""
        return self._ended

    @property
    def remaining(self) -> float:
        """Evaluations that are still to be made."""
        whole = sum(left * self._n * self._nfe[cell] for cell, left in self._left.items())
        return max(0.0, whole - self._current)

    @property
    def piece(self) -> float:
        """How much of the present piece is done, about."""
        return min(1.0, self._current / max(1.0, self._n * self._nfe.get(self._cell, 1.0)))

    @property
    def fraction(self) -> float:
        """Of the evaluations of this run."""
        done = self._spent + self._current
        return done / max(1.0, done + self.remaining)

    @property
    def rate(self) -> float:
        """Evaluations a second of this run so far; 0 before the first."""
        running = monotonic() - self._since if self._drawing else 0.0
        return (self._spent + self._current) / max(self._time + running, 1e-6)

    def left(self) -> str:
        """ "3:20 left, until 14:05"."""
        if not self._spent + self._current:
            return ""
        seconds = self.remaining / self.rate
        until = datetime.now() + timedelta(seconds=round(seconds))
        return f"{console.time_left(seconds)}, until {until:%H:%M}"


@contextmanager
def watcher(request: Request, *, quiet: bool) -> Iterator[Watcher]:
    """Yield what a `Comparison` tells how it goes on."""
    n, repeats = request.n, request.repeats
    forecast = Forecast(request.cells, request.expected_nfe, n, repeats)
    target = console.stderr()
    if quiet:
        yield _Quiet()
    elif not target.is_terminal:
        yield _Lines(forecast, n, repeats)
    else:
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[left]}"),
            console=target, expand=True, transient=True,
        ) as bar:  # fmt: skip
            whole = bar.add_task("comparing", total=1.0, left="")
            part = bar.add_task("", total=1.0, left="")
            yield _Bars(forecast, n, repeats, bar, whole, part)


class _Quiet(Watcher):
    """Tells what changes the comparison, and nothing else."""

    def memory(self, batch_size: int) -> None:
        console.note(f"out of memory: going on with batch size {batch_size}")


class _Told(_Quiet):
    """Keeps the forecast, and calls `show` now and then."""

    every = PLAIN_EVERY_S

    def __init__(self, forecast: Forecast, n: int, repeats: int) -> None:
        self.forecast, self.n, self.repeats = forecast, n, repeats
        self.what, self.finished, self._told = "", 0, monotonic()

    def piece(self, cell: Cell, label: str, repeat: int, kept: bool) -> None:
        self.what, self.finished = f"repeat {repeat + 1}/{self.repeats} · {label}", 0
        self.forecast.begin(cell.id, kept)

    def tick(self, progress: EngineProgress) -> None:
        self.finished = progress.finished
        self.forecast.tick(progress.rows_evaluated)
        if monotonic() - self._told >= self.every:
            self._told = monotonic()
            self.show()

    def ended(self, cell: Cell, nfe: float | None) -> None:
        self.forecast.end(cell.id, nfe)

    def show(self) -> None:
        raise NotImplementedError


class _Lines(_Told):
    def show(self) -> None:
        cells = f"{self.forecast.ended}/{self.forecast.total} pieces"
        speed = f"{console.per_second(self.forecast.rate)} evaluations/s"
        count = f"{self.finished}/{self.n} samples"
        console.note(f"{cells} · {self.what}: {count} · {speed} · {self.forecast.left()}")


class _Bars(_Told):
    every = LIVE_EVERY_S

    def __init__(
        self, forecast: Forecast, n: int, repeats: int, bar: Progress, whole: TaskID, part: TaskID
    ) -> None:
        super().__init__(forecast, n, repeats)
        self._bar, self._whole, self._part = bar, whole, part

    def show(self) -> None:
        forecast = self.forecast
        self._bar.update(
            self._whole,
            completed=forecast.fraction,
            description=f"comparing, {forecast.ended}/{forecast.total} pieces",
            left=forecast.left(),
        )
        self._bar.update(
            self._part,
            completed=forecast.piece,
            description=self.what,
            left=f"{self.finished}/{self.n} · {console.per_second(forecast.rate)} evaluations/s",
        )
