"""Simulate a run of a million images on 8 to 1,024 GPUs, by `ggf sample` under torchrun.

    python benchmarks/scale_out.py [RUN ...] [--n 1000000] [--gpus 8,64,256,1024] [--tick-ms 66]

A discrete-event simulation. It uses the program itself where possible: indices are distributed by
`ggf_cli.runs.distributed.Job`, with a store that counts and queues requests. The cost of a request
to a TCPStore, of a written sample and of a line of `run.json` at the end is measured first, on this
machine and its disk. The NFE of samples is that of the `run.json` of the given runs, by default
that of nfe.json in this folder. Assumed, not measured: the time of a network call (`--tick-ms`, of
a full batch), that a call with few rows takes at least `--floor` of it, the round trip of the
network, and that all processes write at the speed of this disk.
"""

import argparse
import heapq
import json
import math
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from time import perf_counter

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ggf_cli.runs.distributed import PUBLISH_EVERY_S, PUBLISH_RANKS_PER_S, Job
from ggf_cli.runs.writer import WAITING

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Costs:
    """The costs of a run other than network calls, in seconds.

    Attributes:
        round_trip: From a process to the store and back.
        add: Time of the store's only thread for an `add`.
        set: The same for a `set`.
        get: The same for each key of a `get`.
        write: Time of a process's writer thread, a sample.
        end: Time of rank 0 after the last sample is drawn, a sample.
    """

    round_trip: float = 0.0
    add: float = 0.0
    set: float = 0.0
    get: float = 0.0
    write: float = 0.0
    end: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a simulated run.

    Shares are of the GPU time until rank 0 has written the last file. Those of `utilisation`,
    `idle`, `writing`, `asking` and `ending` sum to 1.

    Attributes:
        gpus: The number of processes.
        draw_s: Seconds until the last sample is drawn and written.
        tail_s: Seconds from the first GPU without a new sample to the last sample.
        end_s: Seconds in which only rank 0 works.
        utilisation: Share in which GPUs evaluate rows that samples need.
        idle: Share of GPUs with too few samples: in the tail, or if there are too few for all.
        writing: Share in which GPUs wait for files: the queue is full, or the run ends.
        asking: Share in which GPUs wait for the store.
        ending: Share in which GPUs wait for rank 0.
        requests: Requests to the store, a second.
        peak: The most requests in one second.
        busy: Share of the time in which the store works.
        files: Files written a second, which is also the number of journal lines.
    """

    gpus: int
    draw_s: float
    tail_s: float
    end_s: float
    utilisation: float
    idle: float
    writing: float
    asking: float
    ending: float
    requests: float
    peak: int
    busy: float
    files: float


class Store:
    """The key-value store of the job: one thread that serves requests in turn.

    `now` is the time of the process whose request is served.
    """

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self.now = self.free = self.busy = self.waited = 0.0
        self.value = self.requests = 0
        self.seconds: Counter[int] = Counter()

    def add(self, key: str, amount: int) -> int:
        self.serve(self._costs.add)
        self.value += amount
        return self.value

    def serve(self, work: float) -> None:
        """Serve a request; the process waits for the answer."""
        begin = max(self.now + self._costs.round_trip / 2, self.free)
        self.requests += 1
        self.seconds[int(begin)] += 1
        self.free, self.busy = begin + work, self.busy + work
        end = self.free + self._costs.round_trip / 2
        self.waited += end - self.now
        self.now = end


class Writer:
    """The writer thread of a process, with a queue of limited length."""

    def __init__(self, seconds: float, room: int) -> None:
        self._seconds, self._room = seconds, room
        # For each sample in the queue, the time at which it will be written.
        self._ends: deque[float] = deque()
        self.end = 0.0

    def put(self, now: float) -> float:
        """Put a sample into the queue; return the time at which there is room for it."""
        while self._ends and self._ends[0] <= now:
            self._ends.popleft()
        # The queue has room for `_room` samples besides the one that is being written.
        if len(self._ends) > self._room:
            now = self._ends.popleft()
        self.end = max(now, self.end) + self._seconds
        self._ends.append(self.end)
        return now


class Rank:
    """One process with its GPU; a tick is one evaluation of all its rows."""

    def __init__(
        self, rank: int, world: int, store: Store, n: int, batch: int, writer: Writer
    ) -> None:
        self.writer = writer
        job = Job(rank=rank, world=world, local_rank=0, restarts=0, store=store)
        self.source = job.claim(range(n))
        # The tick in which each row ends.
        self.rows: list[int] = []
        self.tick = 0
        self.published = 0.0
        # The time from which there are no new samples.
        self.starved = math.inf
        # The number of free slots.
        self.wanted = min(batch, job.at_once(n))
        # The number of finished samples that are not in the queue of the writer.
        self.ended = 0


def simulate(
    nfe: Sequence[int],
    gpus: int,
    batch: int,
    *,
    tick: float,
    floor: float,
    costs: Costs,
    room: int = WAITING,
) -> Outcome:
    """Simulate a run.

    Args:
        nfe: NFE of each sample.
        gpus: The number of processes.
        batch: Batch size of each.
        tick: Seconds of a network call with a full batch.
        floor: The least time of a call, with few rows, as a share of `tick`.
        costs: Costs of all other operations.
        room: Length of the queue of samples to write.
    """
    store = Store(costs)
    ranks = [
        Rank(rank, gpus, store, len(nfe), batch, Writer(costs.write, room)) for rank in range(gpus)
    ]
    every = max(PUBLISH_EVERY_S, gpus / PUBLISH_RANKS_PER_S)
    events = [(0.0, number) for number in range(gpus)]
    draw_s = writing = 0.0
    # An event has at most one request to the store, so that requests of processes interleave.
    while events:
        store.now, number = heapq.heappop(events)
        rank, asked = ranks[number], store.requests
        if rank.ended:
            begin = store.now
            for _ in range(rank.ended):
                store.now = rank.writer.put(store.now)
            writing += store.now - begin
            rank.wanted, rank.ended = rank.ended, 0
        # The program publishes its progress at any tick.
        elif store.now - rank.published >= every:
            rank.published = store.now
            store.serve(costs.set + (costs.get * (gpus - 1) if number == 0 else 0.0))
        elif rank.wanted:
            while rank.wanted and store.requests == asked:
                index = next(rank.source, None)
                if index is None:
                    rank.starved, rank.wanted = min(rank.starved, store.now), 0
                else:
                    heapq.heappush(rank.rows, rank.tick + int(nfe[index]))
                    rank.wanted -= 1
        elif rank.rows:
            running, end = len(rank.rows), rank.rows[0]
            store.now += (end - rank.tick) * tick * max(floor, running / batch)
            rank.tick = end
            while rank.rows and rank.rows[0] == end:
                heapq.heappop(rank.rows)
                rank.ended += 1
        else:
            end = max(store.now, rank.writer.end)
            draw_s, writing = max(draw_s, end), writing + end - store.now
            continue
        heapq.heappush(events, (store.now, number))
    end_s = len(nfe) * costs.end
    total = gpus * (draw_s + end_s)
    needed = float(np.sum(nfe)) * tick / batch
    idle = gpus * draw_s - needed - writing - store.waited
    return Outcome(
        gpus=gpus,
        draw_s=draw_s,
        tail_s=draw_s - min(rank.starved for rank in ranks),
        end_s=end_s,
        utilisation=needed / total,
        idle=idle / total,
        writing=writing / total,
        asking=store.waited / total,
        ending=gpus * end_s / total,
        requests=store.requests / draw_s,
        peak=max(store.seconds.values()),
        busy=store.busy / draw_s,
        files=len(nfe) / draw_s,
    )


# --- measurement ---------------------------------------------------------------------------------


def measure_costs(round_trip: float, format: str) -> Costs:
    """Measure the cost of requests and files on this machine.

    The time of the store is that of its slowest part, client or server.
    """
    return Costs(round_trip=round_trip, **measure_store(), **measure_files(format))


def measure_store(clients: int = 4, requests: int = 2000) -> dict[str, float]:
    """Measure the seconds of a request, with several clients at once."""
    from torch import distributed

    server = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    stores = [
        distributed.TCPStore("127.0.0.1", server.port, is_master=False) for _ in range(clients)
    ]
    # As long as the progress of 64 samples.
    progress = b"x" * 700
    keys = [f"progress/{rank}" for rank in range(256)]
    for key in keys:
        server.set(key, progress)

    def rate(request: Callable[[distributed.TCPStore], object]) -> float:
        def ask(store: distributed.TCPStore) -> None:
            for _ in range(requests):
                request(store)

        threads = [threading.Thread(target=ask, args=[store]) for store in stores]
        start = perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (perf_counter() - start) / (clients * requests)

    start = perf_counter()
    for _ in range(20):
        stores[0].multi_get(keys)
    get = (perf_counter() - start) / (20 * len(keys))
    return {
        "add": rate(lambda s: s.add("drawn", 1)),
        "set": rate(lambda s: s.set("p", progress)),
        "get": get,
    }


def measure_files(format: str, samples: int = 2000) -> dict[str, float]:
    """Measure the seconds a sample to write it with its journal line, and to end the run."""
    import torch

    from ggf_cli import load_model
    from ggf_cli.engine import Engine, FinishedSample, Outcome
    from ggf_cli.runs.history import read_history
    from ggf_cli.runs.run_log import encode_log, run_log, run_settings
    from ggf_cli.runs.writer import RunWriter
    from ggf_cli.solvers import make_solver

    engine = Engine(load_model("fashion-mixture", device="cpu"), make_solver("adaptive"))
    more = {"command": "", "started_at": datetime.now().astimezone(), "grid": (1, 1)}
    settings = run_settings(engine, range(samples), format=format, **more)
    image = torch.rand(engine.model.shape)
    account = {"nfe": 240, "accepted": 119, "rejected": 1, "t": 1e-3, "outcome": Outcome.DONE}
    with tempfile.TemporaryDirectory() as folder:
        writer = RunWriter(
            Path(folder), range(samples), settings, spent=lambda: (1, 1, 1.0), alone=False
        )
        start = perf_counter()
        for index in range(samples):
            writer.add(FinishedSample(index=index, x=image, image=image, **account), (1, 1, 1.0))
        writer.end()
        middle = perf_counter()
        writer.collect(read_history(Path(folder)))
        files = writer.close({})
        log = run_log(
            settings,
            status="completed",
            sessions=writer.sessions(),
            running_nfe=0,
            load_s=0.0,
            samples=writer.samples,
            files=files,
            device=torch.device("cpu"),
        )
        (Path(folder) / "run.json").write_bytes(encode_log(log))
        end = perf_counter()
    return {"write": (middle - start) / samples, "end": (end - middle) / samples}


# --- output --------------------------------------------------------------------------------------


def distributions(runs: Sequence[Path]) -> dict[str, dict[int, int]]:
    """Read {name: {NFE: number of samples}} from runs, or from nfe.json."""
    if not runs:
        stored = json.loads((HERE / "nfe.json").read_text())
        return {name: {int(k): v for k, v in counts.items()} for name, counts in stored.items()}
    found = {}
    for run in runs:
        log = json.loads((run / "run.json").read_text())
        name = f"{log['model']['name']}, {log['solver']['name']}"
        if "eps_rel" in log["solver"]["options"]:
            name += f" {log['solver']['options']['eps_rel']:g}"
        found[name] = dict(sorted(Counter(s["nfe"] for s in log["samples"]).items()))
    return found


def draws(counts: dict[int, int], n: int, seed: int = 0) -> np.ndarray:
    """Draw the NFE of n samples from a distribution {NFE: number of samples}, (n,)."""
    values, weights = np.array(list(counts)), np.array(list(counts.values()), dtype=float)
    return np.random.default_rng(seed).choice(values, n, p=weights / weights.sum())


def as_table(title: str, outcomes: Sequence[Outcome]) -> Table:
    """Format the results of one distribution of NFE, a row for each number of GPUs."""
    table = Table(title=title, box=None, header_style="bold")
    columns = (
        "GPUs",
        "drawing",
        "tail",
        "rank 0's end",
        "utilisation",
        "lost: idle",
        "writing",
        "asking",
        "end",
        "requests/s (peak)",
        "store busy",
        "files/s",
    )
    for column in columns:
        table.add_column(column, justify="right")
    for o in outcomes:
        shares = (o.utilisation, o.idle, o.writing, o.asking, o.ending)
        table.add_row(
            f"{o.gpus:,}",
            *(f"{s:,.1f} s" for s in (o.draw_s, o.tail_s, o.end_s)),
            *(f"{s:.1%}" for s in shares),
            f"{o.requests:,.0f} ({o.peak:,})",
            f"{o.busy:.2%}",
            f"{o.files:,.0f}",
        )
    return table


def plot(found: dict[str, list[Outcome]], path: Path) -> None:
    """Plot the utilisation against the number of GPUs."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, outcomes in found.items():
        axes.plot([o.gpus for o in outcomes], [o.utilisation for o in outcomes], "o-", label=name)
    axes.set(xscale="log", xlabel="GPUs", ylabel="utilisation, the end included", ylim=(0, 1.02))
    axes.legend()
    figure.savefig(path, dpi=120)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folders of ggf sample")
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--gpus", default="8,64,256,1024")
    parser.add_argument("--batch", type=int, default=64, help="rows of a call")
    parser.add_argument(
        "--tick-ms", type=float, default=66.0, help="of a call; default: fashion-vp, 2 CPU cores"
    )
    parser.add_argument("--floor", type=float, default=0.3)
    parser.add_argument("--round-trip-ms", type=float, default=0.2)
    parser.add_argument("--format", default="png", choices=("png", "npz", "none"))
    parser.add_argument("--out", type=Path, help="a folder for scale-out.json and scale-out.png")
    args = parser.parse_args(words)
    console = Console(width=160)
    costs = measure_costs(args.round_trip_ms / 1000, args.format)
    console.print(", ".join(f"{k} {1e6 * v:.0f} µs" for k, v in asdict(costs).items()))
    found: dict[str, list[Outcome]] = {}
    for name, counts in distributions(args.runs).items():
        nfe = draws(counts, args.n)
        found[name] = [
            simulate(
                nfe, int(gpus), args.batch, tick=args.tick_ms / 1000, floor=args.floor, costs=costs
            )
            for gpus in args.gpus.split(",")
        ]
        title = (
            f"{name}: NFE {nfe.mean():.1f}, standard deviation {nfe.std():.1f}, {args.n:,} images,"
            f" {args.tick_ms:g} ms a call of {args.batch}"
        )
        console.print(as_table(title, found[name]))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        runs = {name: [asdict(o) for o in outcomes] for name, outcomes in found.items()}
        report = {"costs": asdict(costs), "runs": runs}
        (args.out / "scale-out.json").write_text(json.dumps(report, indent=1) + "\n")
        plot(found, args.out / "scale-out.png")


if __name__ == "__main__":
    main()
