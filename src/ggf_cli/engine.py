"""The sampling loop: batch slots, refill, and the accounts.

The engine keeps a batch of slots, one row in each. A tick is one step of the solver, that is one network call
on all slots. Rows that finish leave in the same tick and their slots take the next samples, so every call
runs on a full batch until no samples are left to start; then the batch shrinks with them.

When memory runs out, the tick is undone and the run goes on with half the slots. Rows without a slot wait on the host and go on from
where they were.

The engine knows no files and no progress bars: it yields samples as they finish, in that order, and shows
its state as a `Progress`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import SupportsIndex, TypeVar

import torch
from torch import Tensor

from ggf_cli.errors import SolveError, UsageError
from ggf_cli.noise import Noise
from ggf_cli.results import FinishedSample, Outcome, Progress
from ggf_cli.runtime.compilation import batch_sizes
from ggf_cli.runtime.memory import fewer, out_of_memory, release
from ggf_cli.scalars import as_indices, as_int
from ggf_cli.score import CountedScore, ScoreModel
from ggf_cli.solvers.base import Rows, Solver

__all__ = ["EVEN", "MAX_NFE", "Engine", "FinishedSample", "Outcome", "Progress"]

T = TypeVar("T")

MAX_NFE = 10_000

# On a CPU, float32 convolutions on one or two threads give a row the same bits in any batch of an even number of rows
# (tests/core/test_engine.py checks the embedded network); other batches take other kernels or divide the work within a row. So
# the last rows of a run keep a finished neighbour, and a sample is the same to the bit in any subset drawn at the same batch size,
# also when a run is resumed, if that size is even (or 1).
# More threads divide a row even so; bfloat16 convolutions never do.
EVEN = 2


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """A sample that has no slot: not started yet, or put aside when memory ran out.

    Attributes:
        index: Its sample index.
        state: Its time, steps taken and attempts thrown away.
        nfe: Evaluations so far.
        rows: Its row, on the host; None if it is not started.
    """

    index: int
    state: tuple[float, int, int]
    nfe: int = 0
    rows: Rows | None = None


class Engine:
    """One run over a set of sample indices.

    Args:
        model: What to sample from.
        solver: How.
        seed: The seed that all sample indices belong to, 0 <= seed < 2^63.
        batch_size: Number of slots: rows evaluated together.
        max_nfe: A sample that has not finished after this many evaluations is given up; default: what the
            solver needs if it knows, else 10,000.

    The arguments are attributes too; `solver` has every option filled in, `max_nfe` is the one in force, and `batch_size` becomes
    smaller when memory runs out.
    """

    def __init__(
        self,
        model: ScoreModel,
        solver: Solver,
        *,
        seed: int = 0,
        batch_size: int = 16,
        max_nfe: int | None = None,
    ) -> None:
        seed = as_int(seed, "seed")
        batch_size = as_int(batch_size, "batch size", low=1, high=2**20)
        if max_nfe is not None:
            max_nfe = as_int(max_nfe, "max NFE", low=1, high=2**31 - 1)
        if model.sde.name not in solver.sdes:
            raise UsageError(
                f"solver '{solver.name}' does not solve the SDE of {model.name} ({model.sde.name})",
                hint=f"it solves {', '.join(solver.sdes)}",
            )
        self.model = model
        self.solver = solver.advised(model.recommended).resolved(model.sde)
        self.seed = seed
        self.batch_size = batch_size
        self.max_nfe = max_nfe or solver.expected_nfe() or MAX_NFE
        self._sizes = batch_sizes(model, batch_size)
        self._device = torch.device(model.device)
        self._noise = Noise(seed=seed, shape=model.shape, dtype=model.state_dtype)
        self._score = CountedScore(model.score, model.dtype)
        self._finished = self._nfe_finished = self._accepted = self._rejected = 0
        # Host copies of what a tick reads from the device, one entry a slot; index None = no sample.
        self._slots: list[int | None] = []
        self._state: list[tuple[float, int, int]] = []
        self._aside: list[_Sample] = []  # these come before new ones

    def run(
        self,
        indices: SupportsIndex | Iterable[SupportsIndex],
        on_tick: Callable[[Progress], None] | None = None,
        *,
        at_once: int | None = None,
    ) -> Iterator[FinishedSample]:
        """Yield each sample as it finishes.

        Args:
            indices: As `as_indices` takes them, in any order; those of an iterator are checked when they are taken, all others now.
            on_tick: Called after every tick.
            at_once: Draw at most so many samples at a time, where others want some of `indices` too.

        Raises:
            SolveError: There is no memory for a single row.
            UsageError: A sample index is out of range.
        """
        room = as_int(self.batch_size if at_once is None else at_once, "at_once", low=1)
        return self._run(iter(as_indices(indices)), room, on_tick)

    def _run(
        self, waiting: Iterator[int], room: int, on_tick: Callable[[Progress], None] | None
    ) -> Iterator[FinishedSample]:
        rows = self._open(waiting, room)
        while rows is not None:
            moved = self._attempt(len(rows), self._tick, rows)
            if moved is None:
                rows = self._put_aside(rows)
                continue
            rows = moved
            finished = self._leave(rows)
            yield from finished
            if finished:
                rows = self._refill(rows, waiting)
            if on_tick is not None:
                on_tick(self.progress)

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        seated = zip(self._slots, self._score.nfe.tolist(), self._state, strict=True)
        running = [(index, nfe, state) for index, nfe, state in seated if index is not None]
        running += [(s.index, s.nfe, s.state) for s in self._aside if s.rows is not None]
        indices, nfe, states = zip(*running, strict=True) if running else ((), (), ())
        return Progress(
            finished=self._finished,
            nfe_finished=self._nfe_finished,
            running=indices,
            running_nfe=nfe,
            running_t=tuple(t for t, _, _ in states),
            accepted=self._accepted + sum(accepted for _, accepted, _ in states),
            rejected=self._rejected + sum(rejected for _, _, rejected in states),
            network_calls=self._score.calls,
            rows_evaluated=self._score.rows_evaluated,
        )

    # --- slots ---------------------------------------------------------------------------------------------

    def _open(self, waiting: Iterator[int], room: int) -> Rows | None:
        """The first batch: a row for each sample there is room for, or None if there are no samples."""
        while first := self._next(waiting, min(room, self.batch_size)):
            padding = self._rows_for(len(first)) - len(first)
            rows = self._attempt(len(first) + padding, self._start, first + first[:1] * padding)
            if rows is None:
                self._aside = first + self._aside
                continue
            self._slots = [None] * len(rows)
            self._state = [(self.model.sde.T, 0, 0)] * len(rows)
            self._score.open_slots(len(rows), self._device)
            self._seat(range(len(first)), first)
            return rows
        return None

    def _refill(self, rows: Rows, waiting: Iterator[int]) -> Rows | None:
        """Start waiting samples in the free slots; when none wait, shrink the batch to what still runs."""
        while (free := self._free()) and (fresh := self._next(waiting, len(free))):
            filled = self._attempt(len(rows), self._fill, rows, free, fresh)
            if filled is None:
                self._aside = fresh + self._aside
                rows = self._put_aside(rows)
                continue
            rows = filled
            self._score.reset_slots(torch.tensor(free[: len(fresh)]))
            self._seat(free, fresh)
        free = self._free()
        running = len(self._slots) - len(free)
        if not running:
            return None
        needed = self._rows_for(running)
        return rows if needed >= len(rows) else self._keep(rows, free[: needed - running])

    def _next(self, waiting: Iterator[int], room: int) -> list[_Sample]:
        """The samples that are to start or to go on."""
        samples, self._aside = self._aside[:room], self._aside[room:]
        start = (self.model.sde.T, 0, 0)
        new = islice(waiting, room - len(samples))
        return samples + [_Sample(index=index, state=start) for index in new]

    def _seat(self, slots: Iterable[int], samples: list[_Sample]) -> None:
        """Note who sits where."""
        for slot, sample in zip(slots, samples, strict=False):
            self._slots[slot], self._state[slot] = sample.index, sample.state
            self._score.nfe[slot] = sample.nfe

    def _free(self) -> list[int]:
        return [slot for slot, index in enumerate(self._slots) if index is None]

    def _keep(self, rows: Rows, free: list[int]) -> Rows:
        """Drop the slots without a sample but for these."""
        keep = [s for s, index in enumerate(self._slots) if index is not None or s in free]
        slots = torch.tensor(keep)
        self._score.keep_slots(slots)
        self._slots = [self._slots[slot] for slot in keep]
        self._state = [self._state[slot] for slot in keep]
        return rows.take(slots.to(self._device))

    # --- memory --------------------------------------------------------------------------------------------

    def _attempt(self, size: int, step: Callable[..., T], *arguments: object) -> T | None:
        """What a step makes; None if memory has run out, all accounts are as before, and the batch size is smaller.

        Raises:
            SolveError: It cannot be smaller.
        """
        nfe = self._score.nfe.clone()
        try:
            return step(*arguments)
        except Exception as error:
            if not out_of_memory(error):
                raise
            if size == 1:
                reason = (str(error) or "no more to be had").splitlines()[0]
                raise SolveError(
                    f"out of memory ({self.model.name}, batch size 1): {reason}",
                    hint="use another device, or free its memory: one row alone does not fit",
                ) from error
        # Only now is the error gone, whose traceback holds what the step had made.
        self._score.nfe = nfe
        self.batch_size = fewer(size)
        self._sizes = batch_sizes(self.model, self.batch_size)
        release(self._device, compiled=self.model.compiled)
        return None

    def _put_aside(self, rows: Rows) -> Rows:
        """As many slots as the batch size is now; samples that have none wait on the host."""
        running = [slot for slot, index in enumerate(self._slots) if index is not None]
        for slot in running[self.batch_size :]:
            index, self._slots[slot] = self._slots[slot], None
            assert index is not None
            row = rows.take(torch.tensor([slot], device=self._device)).to("cpu")
            nfe = int(self._score.nfe[slot])
            aside = _Sample(index=index, state=self._state[slot], nfe=nfe, rows=row)
            self._aside.append(aside)
        free = max(0, self.batch_size - len(running))
        return self._keep(rows, self._free()[:free])

    # --- a tick --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _start(self, samples: list[_Sample]) -> Rows:
        """Rows of these samples: from the prior draws, block 0 of each one's noise, or from where they were."""
        index = torch.tensor([s.index for s in samples], dtype=torch.int64, device=self._device)
        sde = self.model.sde
        x = sde.prior_sampling(self._noise(index, torch.zeros_like(index)))
        rows = self.solver.start(x, index, sde)
        for place, sample in enumerate(samples):
            if sample.rows is not None:
                at = torch.tensor([place], device=self._device)
                rows = rows.put(at, sample.rows.to(self._device))
        return rows

    def _fill(self, rows: Rows, free: list[int], samples: list[_Sample]) -> Rows:
        """The rows with these samples in free slots."""
        slots = torch.tensor(free[: len(samples)], device=self._device)
        return rows.put(slots, self._start(samples))

    def _rows_for(self, running: int) -> int:
        """Rows of a call that so many running samples need."""
        if self.model.compiled:
            return next(size for size in self._sizes if size >= running)
        return max(running, min(self.batch_size, running + running % EVEN))

    @torch.no_grad()
    def _tick(self, rows: Rows) -> Rows:
        moved: Rows = self.solver.step(rows, self._score, self._noise, self.model.sde)
        return moved

    def _leave(self, rows: Rows) -> list[FinishedSample]:
        """The samples that are finished or given up after this tick; their slots are free."""
        # The tick's only wait for the device, but for the pixels of what has finished.
        columns = (rows.t, rows.accepted, rows.rejected, rows.done, self._score.finite)
        table = torch.stack([c.to(rows.t.dtype) for c in columns]).tolist()
        self._state = [(t, int(a), int(r)) for t, a, r in zip(*table[:3], strict=True)]
        done, finite = table[3:]
        nfe = self._score.nfe.tolist()

        leaving: dict[int, Outcome] = {}
        for slot, index in enumerate(self._slots):
            if index is None:
                continue
            if not finite[slot]:
                leaving[slot] = Outcome.NON_FINITE
            elif done[slot]:
                leaving[slot] = Outcome.DONE
            elif nfe[slot] >= self.max_nfe:
                leaving[slot] = Outcome.MAX_NFE
        if not leaving:
            return []
        pixels = rows.x[torch.tensor(list(leaving), device=self._device)].cpu()
        return [
            self._finish(slot, x, outcome)
            for (slot, outcome), x in zip(leaving.items(), pixels, strict=True)
        ]

    def _finish(self, slot: int, x: Tensor, outcome: Outcome) -> FinishedSample:
        """Close the accounts of one sample."""
        index, self._slots[slot] = self._slots[slot], None
        assert index is not None
        t, accepted, rejected = self._state[slot]
        nfe = int(self._score.nfe[slot])
        self._finished += 1
        self._nfe_finished += nfe
        self._accepted += accepted
        self._rejected += rejected
        if outcome is Outcome.DONE and not torch.isfinite(x).all():
            outcome = Outcome.NON_FINITE
        return FinishedSample(
            index=index,
            x=x,
            image=self.model.sde.to_unit_range(x),
            nfe=nfe,
            accepted=accepted,
            rejected=rejected,
            t=t,
            outcome=outcome,
        )
