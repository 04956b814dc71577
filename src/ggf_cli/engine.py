"""The sampling loop: batch slots, refill, and the accounts.

The engine keeps a batch of slots, one row in each. A tick is one step of the solver, that is one network call
on all slots. Rows that finish leave in the same tick and their slots take the next samples, so every call
runs on a full batch until no samples are left to start; then the batch shrinks with them.

The engine knows no files and no progress bars: it yields samples as they finish, in that order, and shows
its state as a `Progress`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

import torch
from torch import Tensor

from ggf_cli.compilation import batch_sizes
from ggf_cli.errors import UsageError
from ggf_cli.noise import Noise
from ggf_cli.score import CountedScore, ScoreModel
from ggf_cli.solvers.base import Rows, Solver

MAX_NFE = 10_000

# On a CPU, float32 convolutions on one or two threads give a row the same bits in any batch of an even number of rows
# (tests/test_engine.py checks the embedded network); other batches take other kernels or divide the work within a row. So
# the last rows of a run keep a finished neighbour, and a sample is the same to the bit in any subset drawn at the same batch size,
# also when a run is resumed, if that size is even (or 1).
# More threads divide a row even so; bfloat16 convolutions never do.
EVEN = 2


class Outcome(StrEnum):
    """How a sample ended."""

    DONE = "done"
    NON_FINITE = "non_finite"
    MAX_NFE = "max_nfe"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A sample that left the batch.

    Attributes:
        index: Its sample index.
        x: The state it ended with, (C, H, W) on the host, in the range of the data; denoised if `DONE`.
        image: The same as float32 in [0, 1].
        nfe: Evaluations it took, the denoising one included.
        accepted: Steps it took.
        rejected: Attempts thrown away.
        t: The time it reached.
        outcome: How it ended.
    """

    index: int
    x: Tensor
    image: Tensor
    nfe: int
    accepted: int
    rejected: int
    t: float
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands after a tick.

    Attributes:
        finished: Samples that have left the batch.
        nfe_finished: Evaluations they took, in all.
        running: Sample index of each running sample.
        running_nfe: Evaluations so far of each running sample.
        running_t: Time of each running sample, from T down to t_eps.
        accepted: Steps taken, in all.
        rejected: Attempts thrown away, in all.
        network_calls: Network calls so far.
        rows_evaluated: Rows over all calls.
    """

    finished: int
    nfe_finished: int
    running: tuple[int, ...]
    running_nfe: tuple[int, ...]
    running_t: tuple[float, ...]
    accepted: int
    rejected: int
    network_calls: int
    rows_evaluated: int

    @property
    def utilisation(self) -> float:
        """Evaluations that a sample needed ÷ rows evaluated; padding lowers it."""
        needed = self.nfe_finished + sum(self.running_nfe)
        return needed / self.rows_evaluated if self.rows_evaluated else 1.0


class Engine:
    """One run over a set of sample indices.

    Args:
        model: What to sample from.
        solver: How.
        seed: The seed that all sample indices belong to, 0 <= seed < 2^63.
        batch_size: Number of slots: rows evaluated together.
        max_nfe: A sample that has not finished after this many evaluations is given up; default: what the
            solver needs if it knows, else 10,000.

    The arguments are attributes too; `solver` has every option filled in, `max_nfe` is the one in force.
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
        if not 1 <= batch_size <= 2**20:
            raise UsageError(f"batch size is {batch_size}, it must lie in 1..2^20")
        if max_nfe is not None and not 1 <= max_nfe < 2**31:
            raise UsageError(f"max NFE is {max_nfe}, it must lie in 1..2^31 - 1")
        if not 0 <= seed < 2**63:
            raise UsageError(f"seed is {seed}, it must lie in [0, 2^63)")
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
        self._noise = Noise(seed=seed, shape=model.shape, dtype=model.dtype)
        self._score = CountedScore(model.score)
        self._finished = self._nfe_finished = self._accepted = self._rejected = 0
        # Host copies of what a tick reads from the device, one entry a slot; index None = no sample.
        self._slots: list[int | None] = []
        self._state: list[tuple[float, int, int]] = []

    def run(
        self,
        indices: Iterable[int],
        on_tick: Callable[[Progress], None] | None = None,
        *,
        at_once: int | None = None,
    ) -> Iterator[Finished]:
        """Yield each sample as it finishes.

        Args:
            indices: Sample indices, each 0 <= index < 2^63, in any order.
            on_tick: Called after every tick.
            at_once: Draw at most so many samples at a time, where others want some of `indices` too.
        """
        waiting = iter(indices)
        rows = self._open(waiting, min(at_once or self.batch_size, self.batch_size))
        while rows is not None:
            rows = self._tick(rows)
            free, finished = self._leave(rows)
            yield from finished
            if free:
                rows = self._refill(rows, free, waiting)
            if on_tick is not None:
                on_tick(self.progress)

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        indices = {slot: index for slot, index in enumerate(self._slots) if index is not None}
        running = list(indices)
        return Progress(
            finished=self._finished,
            nfe_finished=self._nfe_finished,
            running=tuple(indices.values()),
            running_nfe=tuple(int(self._score.nfe[slot]) for slot in running),
            running_t=tuple(self._state[slot][0] for slot in running),
            accepted=self._accepted + sum(self._state[slot][1] for slot in running),
            rejected=self._rejected + sum(self._state[slot][2] for slot in running),
            network_calls=self._score.calls,
            rows_evaluated=self._score.rows_evaluated,
        )

    def _open(self, waiting: Iterator[int], room: int) -> Rows | None:
        """The first batch: a row for each sample there is room for, or None if there are no samples."""
        first = list(islice(waiting, room))
        if not first:
            return None
        padding = self._rows_for(len(first)) - len(first)
        rows = self._start(first + first[:1] * padding)
        self._slots = [*first, *[None] * padding]
        self._state = [(self.model.sde.T, 0, 0)] * len(rows)
        self._score.open_slots(len(rows), self._device)
        return rows

    @torch.no_grad()
    def _start(self, indices: list[int]) -> Rows:
        """Fresh rows from the prior draws, block 0 of each sample's noise."""
        if not 0 <= min(indices) <= max(indices) < 2**63:
            raise UsageError("a sample index must lie in [0, 2^63)")
        index = torch.tensor(indices, device=self._device)
        sde = self.model.sde
        x = sde.prior_sampling(self._noise(index, torch.zeros_like(index)))
        return self.solver.start(x, index, sde)

    def _rows_for(self, running: int) -> int:
        """Rows of a call that so many running samples need."""
        if self.model.compiled:
            return next(size for size in self._sizes if size >= running)
        return max(running, min(self.batch_size, running + running % EVEN))

    @torch.no_grad()
    def _tick(self, rows: Rows) -> Rows:
        moved: Rows = self.solver.step(rows, self._score, self._noise, self.model.sde)
        return moved

    def _leave(self, rows: Rows) -> tuple[list[int], list[Finished]]:
        """The slots whose sample is finished or given up after this tick, and those samples."""
        # The tick's only wait for the device, but for the pixels of what has finished.
        columns = (rows.t, rows.accepted, rows.rejected, rows.done, self._score.finite)
        table = torch.stack([c.to(rows.t.dtype) for c in columns]).tolist()
        self._state = [(t, int(a), int(r)) for t, a, r in zip(*table[:3], strict=True)]
        done, finite = table[3:]

        leaving: dict[int, Outcome] = {}
        for slot, index in enumerate(self._slots):
            if index is None:
                continue
            if not finite[slot]:
                leaving[slot] = Outcome.NON_FINITE
            elif done[slot]:
                leaving[slot] = Outcome.DONE
            elif self._score.nfe[slot] >= self.max_nfe:
                leaving[slot] = Outcome.MAX_NFE
        if not leaving:
            return [], []
        pixels = rows.x[torch.tensor(list(leaving), device=self._device)].cpu()
        finished = [
            self._finish(slot, x, outcome)
            for (slot, outcome), x in zip(leaving.items(), pixels, strict=True)
        ]
        return list(leaving), finished

    def _finish(self, slot: int, x: Tensor, outcome: Outcome) -> Finished:
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
        return Finished(
            index=index,
            x=x,
            image=self.model.sde.to_unit_range(x),
            nfe=nfe,
            accepted=accepted,
            rejected=rejected,
            t=t,
            outcome=outcome,
        )

    def _refill(self, rows: Rows, free: list[int], waiting: Iterator[int]) -> Rows | None:
        """Start waiting samples in the free slots; when none wait, shrink the batch to what still runs."""
        fresh = list(islice(waiting, len(free)))
        if fresh:
            slots = torch.tensor(free[: len(fresh)])
            rows = rows.put(slots.to(self._device), self._start(fresh))
            self._score.reset_slots(slots)
            for slot, index in zip(free, fresh, strict=False):
                self._slots[slot] = index
                self._state[slot] = (self.model.sde.T, 0, 0)
        if len(fresh) == len(free):
            return rows

        running = [slot for slot, index in enumerate(self._slots) if index is not None]
        if not running:
            return None
        parked = [slot for slot, index in enumerate(self._slots) if index is None]
        padding = self._rows_for(len(running)) - len(running)
        keep = sorted(running + parked[:padding])
        slots = torch.tensor(keep)
        self._score.keep_slots(slots)
        self._slots = [self._slots[slot] for slot in keep]
        self._state = [self._state[slot] for slot in keep]
        return rows.take(slots.to(self._device))
