"""Show the progress of a run on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from ggf_cli.text import per_second, time_left

if TYPE_CHECKING:
    from ggf_cli.engine import Progress

Report = Callable[["Progress"], None]

PLAIN_EVERY_S = 10.0
LIVE_EVERY_S = 0.1


@contextmanager
def reporter(
    num_samples: int, expected_nfe: int | None, *, quiet: bool = False
) -> Iterator[Report]:
    """Yield the function to call after every tick of the engine. It prints nothing if `quiet`."""
    if quiet:
        yield lambda progress: None
        return
    forecast = Forecast(num_samples, expected_nfe)
    target = Console(stderr=True, highlight=False)
    if not target.is_terminal:
        yield _throttle(
            PLAIN_EVERY_S,
            lambda p: target.print(forecast.update(p).line(p), markup=False, soft_wrap=True),
        )
        return
    with _LiveBar(target) as bar:
        task = bar.add_task("sampling", total=1.0, count=f"0/{num_samples}", left="")

        def show(progress: Progress) -> None:
            forecast.update(progress)
            bar.details = forecast.details(progress)
            bar.update(
                task,
                completed=forecast.fraction,
                count=f"{progress.finished}/{num_samples}",
                left=forecast.left(),
            )

        live = _throttle(LIVE_EVERY_S, show)

        def report(progress: Progress) -> None:
            (show if progress.finished == num_samples else live)(progress)

        yield report


class Forecast:
    """Estimate the evaluations that are left of a run.

    The NFE of a sample is estimated by the mean of the finished ones. Before one has finished, it
    is extrapolated from the running ones: after the fraction p of [T, t_eps] an adaptive solver has
    used about p^0.7 of its evaluations (within a factor 1.8 early on and 1.3 later, for VP and VE
    at eps_rel 0.02 and 0.1).

    Args:
        num_samples: Samples of the run.
        expected_nfe: Evaluations of a sample; None if they are not fixed in advance.
    """

    def __init__(self, num_samples: int, expected_nfe: int | None) -> None:
        self._num_samples = num_samples
        self._expected_nfe = expected_nfe
        # The largest time seen, which is close to T where T is above 1.
        self._start = 1.0
        self._history: deque[tuple[float, int]] = deque([(monotonic(), 0)])
        self.fraction = 0.0
        self._remaining = 0.0

    def update(self, progress: Progress) -> Forecast:
        """Update the estimate after a tick."""
        self._history.append((monotonic(), progress.rows_evaluated))
        while len(self._history) > 2 and self._history[-1][0] - self._history[0][0] > 20:
            self._history.popleft()

        self._start = max(self._start, *progress.running_t, 0.0)
        total = self._nfe_of_a_sample(progress)
        waiting = self._num_samples - progress.finished - len(progress.running_nfe)
        # A sample with more evaluations than the mean still needs some.
        running = sum(max(total - nfe, 0.02 * total) for nfe in progress.running_nfe)
        self._remaining = waiting * total + running
        spent = progress.nfe_finished + sum(progress.running_nfe)
        self.fraction = spent / max(spent + self._remaining, 1.0)
        return self

    def _nfe_of_a_sample(self, progress: Progress) -> float:
        if self._expected_nfe is not None:
            return self._expected_nfe
        if progress.finished:
            return progress.nfe_finished / progress.finished
        done = [
            nfe / math.pow(max(1 - t / self._start, 1e-3), 0.7)
            for nfe, t in zip(progress.running_nfe, progress.running_t, strict=True)
        ]
        return sum(done) / max(len(done), 1)

    @property
    def rate(self) -> float:
        """Rows evaluated per second, over the last 20 s."""
        (start, before), (end, after) = self._history[0], self._history[-1]
        return (after - before) / max(end - start, 1e-6)

    def left(self) -> str:
        """ "0:42 left"."""
        return time_left(self._remaining / max(self.rate, 1e-6))

    def details(self, progress: Progress) -> str:
        """Mean NFE, speed, where the rows stand, and how many attempts are accepted."""
        if progress.finished:
            nfe = f"NFE {progress.nfe_finished / progress.finished:.1f} mean"
        else:
            nfe = f"NFE {_mean(progress.running_nfe):.0f} so far"
        parts = [nfe, f"{per_second(self.rate)} evaluations/s"]
        if progress.running_t:
            parts.append(f"t {max(progress.running_t):.2f}–{min(progress.running_t):.2f}")
        if attempts := progress.accepted + progress.rejected:
            parts.append(f"{progress.accepted / attempts:.0%} accepted")
        return " · ".join(parts)

    def line(self, progress: Progress) -> str:
        """Count, details and remaining time as one plain line."""
        count = f"{progress.finished}/{self._num_samples} samples"
        return f"{count} · {self.details(progress)} · {self.left()}"


class Bar(RichProgress):
    """A progress bar that leaves a clean screen behind, also after Ctrl-C.

    Its lines end before the edge of the terminal. Otherwise the ^C that a terminal writes behind
    the last line starts a further line, and the first line of the bar stays on the screen.
    """

    def get_renderable(self) -> RenderableType:
        return _Narrower(super().get_renderable())


@dataclass(frozen=True)
class _Narrower:
    """Something with room for ^C^C at its right."""

    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.inner, options.update(width=max(options.max_width - 4, 1)))


class _LiveBar(Bar):
    """A progress bar with a line of details below."""

    def __init__(self, target: Console) -> None:
        self.details = ""
        super().__init__(
            TextColumn("{task.description} {task.fields[count]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[left]}"),
            console=target,
            expand=True,
            transient=True,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.details, style="dim", no_wrap=True, overflow="ellipsis")


def _throttle(seconds: float, show: Report) -> Report:
    """A function that calls `show` at most once every `seconds`, first after `seconds`."""
    last = monotonic()

    def report(progress: Progress) -> None:
        nonlocal last
        if monotonic() - last >= seconds:
            last = monotonic()
            show(progress)

    return report


def _mean(values: tuple[int, ...]) -> float:
    return sum(values) / max(len(values), 1)
