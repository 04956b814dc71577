"""The engine: the sampling loop, its batch slots, and the counts of evaluations and steps.

The engine keeps a batch of slots, one row in each. A tick is one step of the solver: one network
call on all slots. Rows that finish leave in the same tick and the next samples take their slots. So
every call runs on a full batch until no samples are left to start; then the batch shrinks.

When memory runs out, the tick is undone and the run continues with half the slots. Rows that lose
their slot are kept on the host and continue later.

The engine uses no files and no progress bars. It yields samples in the order in which they finish,
and its state is a `Progress`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import SupportsIndex, TypeVar

import torch
from torch import Tensor

from ggf_cli.counted_score import CountedScore
from ggf_cli.errors import SolveError
from ggf_cli.noise import Noise
from ggf_cli.per_sample import PerSampleLike, as_per_sample
from ggf_cli.prior import PriorStates
from ggf_cli.results import FinishedSample, Outcome, Progress, Step
from ggf_cli.runtime.compilation import batch_sizes
from ggf_cli.runtime.memory import fewer, out_of_memory, release
from ggf_cli.scalars import as_indices, as_int
from ggf_cli.score import ScoreModel
from ggf_cli.slots import Slots, WaitingSample
from ggf_cli.solvers.base import Rows, Solver, expected_nfe

__all__ = ["EVEN", "MAX_NFE", "Engine", "FinishedSample", "Outcome", "Progress", "Step"]

T = TypeVar("T")

MAX_NFE = 10_000

# On a CPU with one or two threads, float32 convolutions give a row the same bits in any even batch
# (tests/core/test_engine.py). So the batch keeps a finished row where that makes its size even, and
# a sample is the same to the bit in any subset, or resumed run, of the same even batch size (or 1).
# In bfloat16 this holds for any number of threads.
EVEN = 2


class Engine:
    """Draw a set of samples from a model with a solver.

    Args:
        model: The model to sample from.
        solver: The solver.
        seed: The random seed of all samples, 0 <= seed < 2^63.
        batch_size: Number of slots, which is the number of rows in a network call.
        max_nfe: Stop a sample after this many evaluations. Default: the evaluations that the solver
            needs if their number is fixed, twice as many with guidance, else 10,000.
        prior: The states at T from which samples start, in place of draws from the prior: a tensor
            (N, *shape), whose entry i belongs to sample index i, or a function of the indices.

    Each argument is an attribute: `solver` has every option filled in, `max_nfe` has its default
    filled in, and `batch_size` becomes smaller when memory runs out. `expected_nfe` is the number
    of evaluations of a sample, None if it is not known beforehand.
    """

    def __init__(
        self,
        model: ScoreModel,
        solver: Solver,
        *,
        seed: int = 0,
        batch_size: int = 16,
        max_nfe: int | None = None,
        prior: PerSampleLike | None = None,
    ) -> None:
        seed = as_int(seed, "seed")
        batch_size = as_int(batch_size, "batch size", low=1, high=2**20)
        if max_nfe is not None:
            max_nfe = as_int(max_nfe, "max NFE", low=1, high=2**31 - 1)
        model.require_conditions()
        self.model = model
        self.solver = solver.advised(model.recommended).resolved(model.sde)
        self.seed = seed
        self.batch_size = batch_size
        self.expected_nfe, most = expected_nfe(self.solver, model.guidance)
        self.max_nfe = max_nfe or most or MAX_NFE
        self._sizes = batch_sizes(model, batch_size)
        self._device = torch.device(model.device)
        self._noise = Noise(seed=seed, shape=model.shape, dtype=model.state_dtype)
        given = None if prior is None else as_per_sample(prior, "prior")
        self.prior = PriorStates(model, self._noise, given)
        self._score = CountedScore(model, self._rows_for)
        self._finished = self._nfe_finished = self._accepted = self._rejected = 0
        self._slots = Slots()
        # Samples without a slot; they get one before new samples do.
        self._aside: list[WaitingSample] = []
        self._on_step: Callable[[Step], None] | None = None

    def run(
        self,
        indices: SupportsIndex | Iterable[SupportsIndex],
        on_tick: Callable[[Progress], None] | None = None,
        *,
        on_step: Callable[[Step], None] | None = None,
        at_once: int | None = None,
    ) -> Iterator[FinishedSample]:
        """Yield each sample as it finishes.

        Args:
            indices: As `as_indices` accepts them, in any order. The indices of an iterator are
                checked when they are drawn, all others at once.
            on_tick: Called after every tick.
            on_step: Called in every tick with the running rows, before finished ones leave.
            at_once: Draw at most this many samples at a time; the rest is for other processes.

        Raises:
            SolveError: There is no memory for a single row.
            UsageError: A sample index is out of range.
        """
        room = as_int(self.batch_size if at_once is None else at_once, "at_once", low=1)
        self._on_step, self._score.keep_last = on_step, on_step is not None
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
            if self._on_step is not None:
                self._on_step(self._running_step(rows))
            finished = self._leave(rows)
            yield from finished
            if finished:
                rows = self._refill(rows, waiting)
            if on_tick is not None:
                on_tick(self.progress)

    @property
    def progress(self) -> Progress:
        """The present state of the run."""
        slots = self._slots
        seated = zip(slots.index, self._score.nfe.tolist(), slots.state, strict=True)
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

    # --- slots ------------------------------------------------------------------------------------

    def _open(self, waiting: Iterator[int], room: int) -> Rows | None:
        """Start the first batch: as many samples as fit; None if there are no samples."""
        while first := self._next(waiting, min(room, self.batch_size)):
            padding = self._rows_for(len(first)) - len(first)
            rows = self._attempt(len(first) + padding, self._start, first + first[:1] * padding)
            if rows is None:
                self._aside = first + self._aside
                continue
            self._slots.open(len(rows), (self.model.sde.T, 0, 0))
            self._score.open_slots(len(rows), self._device)
            self._seat(range(len(first)), first)
            return rows
        return None

    def _refill(self, rows: Rows, waiting: Iterator[int]) -> Rows | None:
        """Start waiting samples in the free slots, or shrink the batch if there are none."""
        while (free := self._slots.free()) and (fresh := self._next(waiting, len(free))):
            filled = self._attempt(len(rows), self._fill, rows, free, fresh)
            if filled is None:
                self._aside = fresh + self._aside
                rows = self._put_aside(rows)
                continue
            rows = filled
            self._score.reset_slots(torch.tensor(free[: len(fresh)]))
            self._seat(free, fresh)
        free, running = self._slots.free(), len(self._slots.running())
        if not running:
            return None
        needed = self._rows_for(running)
        return rows if needed >= len(rows) else self._keep(rows, free[: needed - running])

    def _next(self, waiting: Iterator[int], room: int) -> list[WaitingSample]:
        """Take the next samples: first those that lost their slot, then new ones."""
        samples, self._aside = self._aside[:room], self._aside[room:]
        start = (self.model.sde.T, 0, 0)
        new = [WaitingSample(index=i, state=start) for i in islice(waiting, room - len(samples))]
        for entries in (self.model.conditions, self.prior.given):
            if entries is not None:
                entries.check(sample.index for sample in new)
        return samples + new

    def _seat(self, slots: Sequence[int], samples: list[WaitingSample]) -> None:
        """Record which sample each slot holds."""
        self._slots.seat(slots, samples)
        for slot, sample in zip(slots, samples, strict=False):
            self._score.nfe[slot] = sample.nfe

    def _keep(self, rows: Rows, free: list[int]) -> Rows:
        """Drop the slots without a sample, except those in `free`."""
        slots = torch.tensor(self._slots.keep(free))
        self._score.keep_slots(slots)
        return rows.take(slots.to(self._device))

    # --- memory -----------------------------------------------------------------------------------

    def _attempt(self, size: int, step: Callable[..., T], *arguments: object) -> T | None:
        """Call `step(*arguments)`; if memory runs out, reduce the batch size and return None.

        Raises:
            SolveError: Memory ran out and the batch size is 1.
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
        # Only after the handler, because the traceback holds the tensors of the step.
        self._score.nfe = nfe
        self.batch_size = fewer(size)
        self._sizes = batch_sizes(self.model, self.batch_size)
        release(self._device, compiled=self.model.compiled)
        return None

    def _put_aside(self, rows: Rows) -> Rows:
        """Reduce the slots to the batch size; move the samples that lose theirs to the host."""
        running = self._slots.running()
        for slot in running[self.batch_size :]:
            index, state = self._slots.leave(slot), self._slots.state[slot]
            row = rows.take(torch.tensor([slot], device=self._device)).to("cpu")
            nfe = int(self._score.nfe[slot])
            self._aside.append(WaitingSample(index=index, state=state, nfe=nfe, rows=row))
        free = max(0, self.batch_size - len(running))
        return self._keep(rows, self._slots.free()[:free])

    # --- a tick -----------------------------------------------------------------------------------

    @torch.no_grad()
    def _start(self, samples: list[WaitingSample]) -> Rows:
        """Make rows of samples: prior states, or rows from the host."""
        index = torch.tensor([s.index for s in samples], dtype=torch.int64, device=self._device)
        rows: Rows = self.solver.start(self.prior(index), index, self.model.sde)
        for place, sample in enumerate(samples):
            if sample.rows is not None:
                at = torch.tensor([place], device=self._device)
                rows = rows.put(at, sample.rows.to(self._device))
        return rows

    def _fill(self, rows: Rows, free: list[int], samples: list[WaitingSample]) -> Rows:
        """Put samples into free slots."""
        slots = torch.tensor(free[: len(samples)], device=self._device)
        return rows.put(slots, self._start(samples))

    def _rows_for(self, running: int) -> int:
        """The batch size for a number of running samples."""
        if self.model.compiled:
            return next(size for size in self._sizes if size >= running)
        return max(running, min(self.batch_size, running + running % EVEN))

    @torch.no_grad()
    def _tick(self, rows: Rows) -> Rows:
        if self.model.conditions is not None:
            self._score.conditions = self.model.conditions(rows.index)
        moved: Rows = self.solver.step(rows, self._score, self._noise, self.model.sde)
        return moved

    def _running_step(self, rows: Rows) -> Step:
        """The rows of the running samples, with the point of the last evaluation."""
        slots = torch.tensor(self._slots.running())
        on_device = slots.to(self._device)
        assert self._score.last is not None
        x, t, score = (values[on_device] for values in self._score.last)
        return Step(
            index=rows.index[on_device],
            x=rows.x[on_device],
            t=rows.t[on_device],
            done=rows.done[on_device],
            nfe=self._score.nfe[slots],
            evaluated_x=x,
            evaluated_t=t,
            score=score,
            sde=self.model.sde,
        )

    def _leave(self, rows: Rows) -> list[FinishedSample]:
        """Return the samples that this tick finished or stopped, and free their slots."""
        # The only wait for the device in a tick, except for the pixels of finished samples.
        columns = (rows.t, rows.accepted, rows.rejected, rows.done, self._score.finite)
        table = torch.stack([c.to(rows.t.dtype) for c in columns]).tolist()
        self._slots.state = [(t, int(a), int(r)) for t, a, r in zip(*table[:3], strict=True)]
        done, finite = table[3:]
        nfe = self._score.nfe.tolist()

        leaving: dict[int, Outcome] = {}
        for slot in self._slots.running():
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
        """Free the slot of a sample, add up its counts, and make its result."""
        index, (t, accepted, rejected) = self._slots.leave(slot), self._slots.state[slot]
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
            image=None if self.model.data_range is None else self.model.sde.to_unit_range(x),
            nfe=nfe,
            accepted=accepted,
            rejected=rejected,
            t=t,
            outcome=outcome,
        )
