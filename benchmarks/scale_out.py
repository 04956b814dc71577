"""How a run of a million images would go on 8 to 1,024 GPUs: a discrete-event simulation of `ggf sample` under torchrun.

    python benchmarks/scale_out.py [RUN ...] [--n 1000000] [--gpus 8,64,256,1024] [--tick-ms 66]

What is simulated is the program itself where that is possible: indices are handed out by `ggf_cli.runs.distributed.Job`, with a
store that counts and queues. What one request to a TCPStore, one written sample and, in the end, one line of `run.json` cost is measured
here first, on this machine and its disk. How many evaluations samples take comes from the `run.json` of the runs named, by default
from nfe.json beside this file. Assumed, not measured: the time of a network call (`--tick-ms`, of a full batch), that a call with few rows takes
`--floor` of that at least, a network's round trip, and that all processes write at the speed of this disk.
"""

import argparse
import heapq
import json
import math
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Sequence
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
    """Seconds. `round_trip`: to the store and back; `add`, `set`, `get`: of the store's one thread, `get` a key; `write`: of a
    process's second thread, a sample; `end`: of rank 0, a sample, when all are drawn."""

    round_trip: float = 0.0
    add: float = 0.0
    set: float = 0.0
    get: float = 0.0
    write: float = 0.0
    end: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of a run. Shares are of the GPU time until rank 0 has written the last file; with `utilisation` they sum to 1.

    Attributes:
        gpus: Processes.
        draw_s: Until the last sample is drawn and written.
        tail_s: From the first GPU that found nothing to draw to the last sample.
        end_s: In which rank 0 alone is busy.
        utilisation: Share in which GPUs do what samples need.
        idle: Share of GPUs with too few samples: in the tail, or because there are none for all.
        writing: Share in which GPUs wait for files: with no room for more, or at their end.
        asking: Share in which GPUs wait for the store.
        ending: Share in which GPUs wait for rank 0.
        requests: To the store, a second.
        peak: The most in one second.
        busy: Share of the time in which the store works.
        files: Written a second, as many as lines of journals.
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
    """The key-value store of the job: one thread that serves requests in turn. `now` is the clock of the process that asks."""

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
        """A request; the process waits for the answer."""
        begin = max(self.now + self._costs.round_trip / 2, self.free)
        self.requests += 1
        self.seconds[int(begin)] += 1
        self.free, self.busy = begin + work, self.busy + work
        end = self.free + self._costs.round_trip / 2
        self.waited += end - self.now
        self.now = end


class Writer:
    """The thread of a process that writes its samples, in turn."""

    def __init__(self, seconds: float, room: int) -> None:
        self._seconds, self._room = seconds, room
        self._ends: deque[float] = deque()  # when each that waits is written
        self.end = 0.0

    def put(self, now: float) -> float:
        """Have a sample written; when there is room for it."""
        while self._ends and self._ends[0] <= now:
            self._ends.popleft()
        if len(self._ends) > self._room:  # one of them is being written
            now = self._ends.popleft()
        self.end = max(now, self.end) + self._seconds
        self._ends.append(self.end)
        return now


class Rank:
    """One process with its GPU: its rows move on together, one evaluation a tick."""

    def __init__(
        self, rank: int, world: int, store: Store, n: int, batch: int, writer: Writer
    ) -> None:
        self.writer = writer
        job = Job(rank=rank, world=world, local_rank=0, restarts=0)
        job._store = store
        self.source = job.draw_from(range(n))
        self.rows: list[int] = []  # the tick in which each ends
        self.tick = 0
        self.published = 0.0
        self.starved = math.inf  # since when there was nothing to draw
        self.wanted = min(batch, job.at_once(n))  # samples that it has room for
        self.ended = 0  # samples that are to be written


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
    """Draw samples that take so many evaluations, index by index.

    Args:
        nfe: Of each sample.
        gpus: Processes.
        batch: Slots of each.
        tick: Seconds of a network call with a full batch.
        floor: A call with few rows takes this share of it at least.
        costs: Of everything else.
        room: How many samples may wait to be written.
    """
    store = Store(costs)
    ranks = [
        Rank(rank, gpus, store, len(nfe), batch, Writer(costs.write, room)) for rank in range(gpus)
    ]
    every = max(PUBLISH_EVERY_S, gpus / PUBLISH_RANKS_PER_S)
    events = [(0.0, number) for number in range(gpus)]
    draw_s = writing = 0.0
    # One request to the store at most in each event, so that those of others come in between.
    while events:
        store.now, number = heapq.heappop(events)
        rank, asked = ranks[number], store.requests
        if rank.ended:
            begin = store.now
            for _ in range(rank.ended):
                store.now = rank.writer.put(store.now)
            writing += store.now - begin
            rank.wanted, rank.ended = rank.ended, 0
        elif store.now - rank.published >= every:  # the program does so at any tick
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


# --- measuring -------------------------------------------------------------------------------------------------


def measure_costs(round_trip: float, format: str) -> Costs:
    """What requests and files cost on this machine; the store's time is that of its slowest part, client or server."""
    return Costs(round_trip=round_trip, **measure_store(), **measure_files(format))


def measure_store(clients: int = 4, requests: int = 2000) -> dict[str, float]:
    """Seconds of a request, many clients asking at once."""
    from torch import distributed

    server = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    stores = [distributed.TCPStore("127.0.0.1", server.port, is_master=False) for _ in range(clients)]  # fmt: skip
    progress = b"x" * 700  # as long as that of 64 samples
    keys = [f"progress/{rank}" for rank in range(256)]
    for key in keys:
        server.set(key, progress)

    def rate(request) -> float:  # noqa: ANN001
        def ask(store) -> None:  # noqa: ANN001
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
    return {"add": rate(lambda s: s.add("drawn", 1)), "set": rate(lambda s: s.set("p", progress)), "get": get}  # fmt: skip


def measure_files(format: str, samples: int = 2000) -> dict[str, float]:
    """Seconds a sample: to write it with its line of the journal; and for rank 0 to end the run."""
    import torch

    from ggf_cli import load_model
    from ggf_cli.engine import Engine, FinishedSample, Outcome
    from ggf_cli.runs.history import read_history
    from ggf_cli.runs.run_log import as_json, run_log, run_settings
    from ggf_cli.runs.writer import RunWriter
    from ggf_cli.solvers import make_solver

    engine = Engine(load_model("fashion-mixture"), make_solver("adaptive"))
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
        log = run_log(settings, status="completed", sessions=writer.sessions(), running_nfe=0, load_s=0.0,
                      samples=writer.samples, files=files, device=torch.device("cpu"))  # fmt: skip
        (Path(folder) / "run.json").write_bytes(as_json(log))
        end = perf_counter()
    return {"write": (middle - start) / samples, "end": (end - middle) / samples}


# --- telling ---------------------------------------------------------------------------------------------------


def distributions(runs: Sequence[Path]) -> dict[str, dict[int, int]]:
    """{what: {NFE: samples}}, of runs, or of the file beside this one."""
    if not runs:
        stored = json.loads((HERE / "nfe.json").read_text())
        return {what: {int(k): v for k, v in counts.items()} for what, counts in stored.items()}
    found = {}
    for run in runs:
        log = json.loads((run / "run.json").read_text())
        name = f"{log['model']['name']}, {log['solver']['name']}"
        if "eps_rel" in log["solver"]["options"]:
            name += f" {log['solver']['options']['eps_rel']:g}"
        found[name] = dict(sorted(Counter(s["nfe"] for s in log["samples"]).items()))
    return found


def draws(counts: dict[int, int], n: int, seed: int = 0) -> np.ndarray:
    """(n,) evaluations, drawn from a distribution."""
    values, weights = np.array(list(counts)), np.array(list(counts.values()), dtype=float)
    return np.random.default_rng(seed).choice(values, n, p=weights / weights.sum())


def as_table(what: str, outcomes: Sequence[Outcome]) -> Table:
    table = Table(title=what, box=None, header_style="bold")
    for column in ("GPUs", "drawing", "tail", "rank 0's end", "utilisation", "lost: idle", "writing", "asking", "end",
                   "requests/s (peak)", "store busy", "files/s"):  # fmt: skip
        table.add_column(column, justify="right")
    for o in outcomes:
        shares = (o.utilisation, o.idle, o.writing, o.asking, o.ending)
        table.add_row(f"{o.gpus:,}", *(f"{s:,.1f} s" for s in (o.draw_s, o.tail_s, o.end_s)), *(f"{s:.1%}" for s in shares),
                      f"{o.requests:,.0f} ({o.peak:,})", f"{o.busy:.2%}", f"{o.files:,.0f}")  # fmt: skip
    return table


def plot(found: dict[str, list[Outcome]], path: Path) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for what, outcomes in found.items():
        axes.plot([o.gpus for o in outcomes], [o.utilisation for o in outcomes], "o-", label=what)
    axes.set(xscale="log", xlabel="GPUs", ylabel="utilisation, the end included", ylim=(0, 1.02))
    axes.legend()
    figure.savefig(path, dpi=120)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folders of ggf sample")
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--gpus", default="8,64,256,1024")
    parser.add_argument("--batch", type=int, default=64, help="rows a call")
    parser.add_argument("--tick-ms", type=float, default=66.0, help="of a call; the default: fashion-vp on 2 CPU cores")  # fmt: skip
    parser.add_argument("--floor", type=float, default=0.3)
    parser.add_argument("--round-trip-ms", type=float, default=0.2)
    parser.add_argument("--format", default="png", choices=("png", "npz", "none"))
    parser.add_argument("--out", type=Path, help="a folder for scale-out.json and scale-out.png")
    args = parser.parse_args(words)
    console = Console(width=160)
    costs = measure_costs(args.round_trip_ms / 1000, args.format)
    console.print(", ".join(f"{k} {1e6 * v:.0f} µs" for k, v in asdict(costs).items()))
    found: dict[str, list[Outcome]] = {}
    for what, counts in distributions(args.runs).items():
        nfe = draws(counts, args.n)
        found[what] = [
            simulate(
                nfe, int(gpus), args.batch, tick=args.tick_ms / 1000, floor=args.floor, costs=costs
            )
            for gpus in args.gpus.split(",")
        ]
        title = f"{what}: NFE {nfe.mean():.1f} ± {nfe.std():.1f}, {args.n:,} images, {args.tick_ms:g} ms a call of {args.batch}"
        console.print(as_table(title, found[what]))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        report = {"costs": asdict(costs), "runs": {w: [asdict(o) for o in os] for w, os in found.items()}}  # fmt: skip
        (args.out / "scale-out.json").write_text(json.dumps(report, indent=1) + "\n")
        plot(found, args.out / "scale-out.png")


if __name__ == "__main__":
    main()
