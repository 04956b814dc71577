"""One run by several processes, started by torchrun: who draws which sample, and how they hear of each other.

The processes share nothing but the folder of the run and torchrun's own key-value store, the c10d store of the job's rendezvous.
Samples are handed out by a counter in that store: a process that is faster, or whose samples need fewer evaluations,
draws more of them. No process group is made and no tensor is sent. After the death of a process torchrun starts all of them
again; what they had finished is in the folder.

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

from ggf_cli.errors import JobError

if TYPE_CHECKING:
    from ggf_cli.engine import Engine, FinishedSample, Progress

LARGEST_PORTION = 16  # samples
PORTIONS = 8  # a process, of what is left
ALL = 2**40  # more than there are samples
ASK_EVERY_S = 0.1
PATIENCE_S = 10.0  # until the others have heard that it is over
ASKS_PER_S = 1000  # of all processes that wait for a decision
PUBLISH_EVERY_S = 0.5
PUBLISH_RANKS_PER_S = 200  # so that rank 0 never reads more progress than this


@dataclass(kw_only=True)
class Job:
    """This process among those of its job.

    Attributes:
        rank: 0 .. world - 1; rank 0 leads.
        world: Number of processes.
        local_rank: Which process of its machine.
        restarts: How often torchrun has started the job again.
    """

    rank: int
    world: int
    local_rank: int
    restarts: int
    _store: Any = field(default=None, init=False, repr=False)
    _published: float = field(default=0.0, init=False, repr=False)
    _others: list[Progress] = field(default_factory=list, init=False, repr=False)

    @property
    def is_rank_0(self) -> bool:
        """Whether this is rank 0, which decides, shows progress, and writes `run.json` and the grid."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The device of this process where the user asked for `name`: of several GPUs, the one of its local rank."""
        if name in ("auto", "cuda"):
            import torch

            if torch.cuda.device_count() > 1:
                return f"cuda:{self.local_rank}"
        return name

    def within(self, name: str) -> Job:
        """The same processes, with decisions, samples and progress apart from those of other names."""
        with self._connected() as store:
            from torch import distributed

            dist: Any = distributed
            inner = replace(self)
            inner._store = dist.PrefixStore(name, store)
            return inner

    # --- deciding ----------------------------------------------------------------------------------------------

    def broadcast(self, decision: Mapping[str, Any]) -> None:
        """Send a decision of rank 0 to all workers."""
        with self._connected() as store:
            store.set("decision", _packed(decision))

    def end_workers(self, code: int) -> None:
        """Send an exit code to all workers, and wait until they have received it: rank 0 may host the store."""
        self.broadcast({"exit": code})
        self.done()
        end = monotonic() + PATIENCE_S
        self.wait_for_all(lambda: monotonic() < end)

    def receive(self, stop: Callable[[], bool] | None = None) -> dict[str, Any]:
        """Wait for a decision of rank 0; torchrun ends workers that wait for a process that died.

        Raises:
            KeyboardInterrupt: `stop`, called meanwhile, returned True.
        """
        with self._connected() as store:
            while not store.check(["decision"]):
                if stop is not None and stop():
                    raise KeyboardInterrupt
                sleep(max(ASK_EVERY_S, self.world / ASKS_PER_S))
            decision = _unpacked(store.get("decision"))
        if "exit" in decision:
            self.done()
        return decision

    # --- drawing -----------------------------------------------------------------------------------------------

    def share(
        self, engine: Engine, left: Sequence[int], on_tick: Callable[[Progress], None]
    ) -> Iterator[FinishedSample]:
        """Draw the samples of `left` that fall to this process, yield each as it finishes, and let rank 0 know how far it is."""

        def tick(progress: Progress) -> None:
            self.publish(progress)
            on_tick(progress)

        yield from engine.run(self.draw_from(left), tick, at_once=self.at_once(len(left)))
        self.publish(engine.progress, now=True)

    def draw_from(self, left: Sequence[int]) -> Iterator[int]:
        """The samples of `left` that fall to this process, a portion at a time, smaller towards the end."""
        begin = 0
        while begin < len(left):
            portion = max(1, min(LARGEST_PORTION, (len(left) - begin) // (PORTIONS * self.world)))
            with self._connected() as store:
                end = store.add("drawn", portion)
            begin = end - portion
            yield from left[begin:end]

    def at_once(self, left: int) -> int:
        """How many samples a process may draw at a time so that there are some for all; even, see `engine.EVEN`."""
        share = -(-left // self.world)
        return max(1, share + share % 2)

    # --- progress ----------------------------------------------------------------------------------------------

    def publish(self, progress: Progress, *, now: bool = False) -> None:
        """Let rank 0 know how far this process is, now and then."""
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
        """The progress of all processes, as far as rank 0 has heard."""
        return _sum([own, *self._others])

    # --- failing -----------------------------------------------------------------------------------------------

    def fail(self, why: str) -> None:
        """This process cannot go on, and what the others would draw now is of no use."""
        with self._connected() as store:
            store.set("failure", why)
            store.add("drawn", ALL)

    def failure(self) -> str | None:
        """Why a process could not go on, if one could not."""
        with self._connected() as store:
            return store.get("failure").decode() if store.check(["failure"]) else None

    # --- ending ------------------------------------------------------------------------------------------------

    def done(self) -> None:
        """This process has written everything it will."""
        with self._connected() as store:
            store.add("done", 1)

    def wait_for_all(self, idle: Callable[[], bool]) -> bool:
        """Wait until all processes are done; False if `idle`, which is asked meanwhile, says to stop waiting."""
        while True:
            with self._connected() as store:
                if store.add("done", 0) >= self.world:
                    return True
            if not idle():
                return False
            sleep(ASK_EVERY_S)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        try:
            if self._store is None:
                from torch import distributed

                dist: Any = distributed

                store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(minutes=10)))
                self._store = dist.PrefixStore(f"ggf/{self.restarts}", store)
            yield self._store
        except (RuntimeError, ConnectionError) as error:  # DistError is a RuntimeError
            raise JobError(
                f"lost touch with the other processes of the job: {str(error).splitlines()[0]}",
                hint="what is finished is kept; the same command with --resume goes on",
            ) from error


def find_job() -> Job | None:
    """This process's place in its job, if torchrun has started it. Imports no torch."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT")
    if "TORCHELASTIC_RUN_ID" not in os.environ or any(name not in os.environ for name in names):
        return None
    rank, world, local_rank, restarts = (int(os.environ[name]) for name in names)
    return Job(rank=rank, world=world, local_rank=local_rank, restarts=restarts)


def _packed(document: Mapping[str, Any]) -> Any:
    """As the store takes it; it may be long."""
    return zlib.compress(json.dumps(document).encode(), 1)


def _unpacked(value: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(zlib.decompress(value))
    return document


def _progress(value: bytes) -> Progress:
    from ggf_cli.engine import Progress

    told = _unpacked(value)
    fields: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items()}
    return Progress(**fields)


def _sum(parts: Sequence[Progress]) -> Progress:
    """Counts added, lists of running samples one after the other."""
    from ggf_cli.engine import Progress

    documents = [asdict(part) for part in parts]
    total: dict[str, Any] = documents[0]
    for document in documents[1:]:
        total = {key: total[key] + document[key] for key in total}
    return Progress(**total)
