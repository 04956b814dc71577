"""Distribute a run over the workers of a torchrun job.

The workers share the folder of the run and the key-value store of torchrun's rendezvous (a c10d
store), nothing else. A counter in the store distributes the samples: a worker that is faster, or
whose samples need fewer evaluations, draws more of them. There is no process group, and no tensor
is sent. If a worker dies, torchrun starts all of them again; the samples they had finished are in
the folder.

Reference for the sizes of the portions: Polychronopoulos and Kuck 1987, "Guided self-scheduling".
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from ggf_cli.errors import JobError, first_line

if TYPE_CHECKING:
    from ggf_cli.engine import Engine, FinishedSample, Progress, Step

# The most samples that a worker claims at once.
LARGEST_PORTION = 16
# A worker claims 1 / PORTIONS of its share of the samples that are left.
PORTIONS = 8
# Larger than any number of samples.
ALL = 2**40
POLL_EVERY_S = 0.1
# Requests per second of all workers that wait for a decision.
POLLS_PER_S = 1000
# How long rank 0 waits until all workers have received an exit code.
EXIT_TIMEOUT_S = 10.0
PUBLISH_EVERY_S = 0.5
# The most progress reports that rank 0 reads per second.
PUBLISH_RANKS_PER_S = 200


@dataclass(kw_only=True)
class Job:
    """A torchrun job, seen from one of its workers.

    Attributes:
        rank: The rank of this worker, 0 .. world - 1. Rank 0 decides for all.
        world: Number of workers.
        local_rank: The rank of this worker on its machine.
        restarts: The number of times that torchrun has restarted the job.
        store: The key-value store that all workers share, a `torch.distributed.Store`. None: that
            of torchrun's rendezvous, to which the first use connects.
    """

    rank: int
    world: int
    local_rank: int
    restarts: int
    store: Any = field(default=None, repr=False)
    _published: float = field(default=0.0, init=False, repr=False)
    _others: list[Progress] = field(default_factory=list, init=False, repr=False)

    @property
    def is_rank_0(self) -> bool:
        """Whether this is rank 0, which shows progress and writes `run.json` and the grid."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The device of this worker for a requested device: one GPU for each local rank."""
        if name in ("auto", "cuda"):
            import torch

            if torch.cuda.device_count() > 1:
                return f"cuda:{self.local_rank}"
        return name

    def scoped(self, name: str) -> Job:
        """The same workers, with decisions, samples and progress under a name of their own."""
        with self._connected() as store:
            from torch import distributed

            dist: Any = distributed
            return replace(self, store=dist.PrefixStore(name, store))

    # --- decisions ----------------------------------------------------------------------------

    def broadcast(self, decision: Mapping[str, Any]) -> None:
        """Send a decision of rank 0 to all workers."""
        with self._connected() as store:
            store.set("decision", _packed(decision))

    def end_workers(self, code: int) -> None:
        """Send an exit code and wait until all workers have it: rank 0 may host the store."""
        self.broadcast({"exit": code})
        self.done()
        end = monotonic() + EXIT_TIMEOUT_S
        self.wait_for_all(lambda: monotonic() < end)

    def receive(self, stop: Callable[[], bool] | None = None) -> dict[str, Any]:
        """Wait for a decision of rank 0. If rank 0 dies, torchrun ends the waiting workers.

        Raises:
            KeyboardInterrupt: `stop`, called meanwhile, returned True.
        """
        with self._connected() as store:
            while not store.check(["decision"]):
                if stop is not None and stop():
                    raise KeyboardInterrupt
                sleep(max(POLL_EVERY_S, self.world / POLLS_PER_S))
            decision = _unpacked(store.get("decision"))
        if "exit" in decision:
            self.done()
        return decision

    # --- samples ------------------------------------------------------------------------------

    def draw(
        self,
        engine: Engine,
        left: Sequence[int],
        on_tick: Callable[[Progress], None],
        on_step: Callable[[Step], None] | None = None,
    ) -> Iterator[FinishedSample]:
        """Claim samples of `left`, draw them, yield each as it finishes; publish the progress."""

        def tick(progress: Progress) -> None:
            self.publish(progress)
            on_tick(progress)

        at_once = self.at_once(len(left))
        yield from engine.run(self.claim(left), tick, on_step=on_step, at_once=at_once)
        self.publish(engine.progress, now=True)

    def claim(self, left: Sequence[int]) -> Iterator[int]:
        """Claim samples of `left` for this worker, in portions that get smaller towards the end."""
        begin = 0
        while begin < len(left):
            portion = max(1, min(LARGEST_PORTION, (len(left) - begin) // (PORTIONS * self.world)))
            with self._connected() as store:
                end = store.add("drawn", portion)
            begin = end - portion
            yield from left[begin:end]

    def at_once(self, left: int) -> int:
        """The largest batch of a worker that leaves samples for all; even, see `engine.EVEN`."""
        share = -(-left // self.world)
        return max(1, share + share % 2)

    # --- progress -----------------------------------------------------------------------------

    def publish(self, progress: Progress, *, now: bool = False) -> None:
        """Publish the progress of this worker, at most every `PUBLISH_EVERY_S` unless `now`."""
        every = max(PUBLISH_EVERY_S, self.world / PUBLISH_RANKS_PER_S)
        if not now and monotonic() - self._published < every:
            return
        first, self._published = not self._published, monotonic()
        with self._connected() as store:
            store.set(
                f"progress/{self.rank}", zlib.compress(json.dumps(asdict(progress)).encode(), 1)
            )
            if first:
                store.add("reporting", 1)
            if self.is_rank_0 and store.add("reporting", 0) == self.world > 1:
                keys = [f"progress/{rank}" for rank in range(1, self.world)]
                self._others = [_progress(value) for value in store.multi_get(keys)]

    def total(self, own: Progress) -> Progress:
        """The progress of all workers, as last published."""
        return _sum([own, *self._others])

    # --- end ----------------------------------------------------------------------------------

    def fail(self, reason: str) -> None:
        """Publish that this worker cannot continue. No worker claims further samples."""
        with self._connected() as store:
            store.set("failure", reason)
            store.add("drawn", ALL)

    def failure(self) -> str | None:
        """The reason why a worker could not continue; None if all could."""
        with self._connected() as store:
            return store.get("failure").decode() if store.check(["failure"]) else None

    def done(self) -> None:
        """Publish that this worker has written all its files."""
        with self._connected() as store:
            store.add("done", 1)

    def wait_for_all(self, keep_waiting: Callable[[], bool]) -> bool:
        """Wait until all workers are done; False if `keep_waiting` returned False before."""
        while True:
            with self._connected() as store:
                if store.add("done", 0) >= self.world:
                    return True
            if not keep_waiting():
                return False
            sleep(POLL_EVERY_S)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        try:
            if self.store is None:
                from torch import distributed

                dist: Any = distributed

                store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(minutes=10)))
                self.store = dist.PrefixStore(f"ggf/{self.restarts}", store)
            yield self.store
        # torch's DistError is a RuntimeError.
        except (RuntimeError, ConnectionError) as error:
            raise JobError(
                f"lost the connection to the other workers of the job: {first_line(error)}",
                hint="finished samples are kept; the same command with `resume=True` continues",
            ) from error


def find_job() -> Job | None:
    """The job of this process; None if torchrun has not started it. Does not import torch."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT")
    if "TORCHELASTIC_RUN_ID" not in os.environ or any(name not in os.environ for name in names):
        return None
    rank, world, local_rank, restarts = (int(os.environ[name]) for name in names)
    return Job(rank=rank, world=world, local_rank=local_rank, restarts=restarts)


def _packed(document: Mapping[str, Any]) -> Any:
    """A JSON document, compressed for the store."""
    return zlib.compress(json.dumps(document).encode(), 1)


def _unpacked(value: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(zlib.decompress(value))
    return document


def _progress(value: bytes) -> Progress:
    from ggf_cli.engine import Progress

    document = _unpacked(value)
    fields: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}
    return Progress(**fields)


def _sum(parts: Sequence[Progress]) -> Progress:
    """The sum of all counts; lists of running samples are concatenated."""
    from ggf_cli.engine import Progress

    documents = [asdict(part) for part in parts]
    total: dict[str, Any] = documents[0]
    for document in documents[1:]:
        total = {key: total[key] + document[key] for key in total}
    return Progress(**total)
