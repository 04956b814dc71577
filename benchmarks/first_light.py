"""What sampling from the embedded model costs on this machine, and what the engine saves.

    python benchmarks/first_light.py [--repeats 3] [--out FILE]

Prints one table and writes the same as JSON. Three questions:

1. 64 samples of fashion-vp at eps_rel 0.02, by the engine and by the authors' loop, interleaved: rows evaluated and
   wall time.
2. The share of sampling time that is not the network: noise, and solver + engine + noise together.
3. Utilisation at n = 8 x batch size, eps_rel 0.05.
"""

import argparse
import json
import platform
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

import ggf_cli
from authors_loop import sample_batch
from ggf_cli.engine import Engine
from ggf_cli.output.runlog import nfe_statistics, peak_memory
from ggf_cli.score import ScoreModel

BATCH_SIZE = 16


class Stopwatch:
    """Adds up the time spent in the functions it wraps, and the rows they were given."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.rows = 0

    def wrap(self, function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def timed(*args: Any) -> torch.Tensor:
            start = perf_counter()
            result = function(*args)
            self.seconds += perf_counter() - start
            self.rows += len(result)
            return result

        return timed


def by_engine(model: ScoreModel, n: int, eps_rel: float) -> dict[str, Any]:
    """Draw n samples by the engine."""
    network, noise = Stopwatch(), Stopwatch()
    solver = ggf_cli.solvers.Adaptive(eps_rel=eps_rel)
    engine = Engine(replace(model, score=network.wrap(model.score)), solver, batch_size=BATCH_SIZE)
    engine._noise = noise.wrap(engine._noise)
    start = perf_counter()
    finished = list(engine.run(range(n)))
    seconds = perf_counter() - start
    return {
        "seconds": seconds,
        "rows": network.rows,
        "nfe": nfe_statistics([f.nfe for f in finished]),
        "accepted": engine.progress.accepted,
        "rejected": engine.progress.rejected,
        "utilisation": engine.progress.utilisation,
        "evaluations_per_s": network.rows / seconds,
        "noise_share": noise.seconds / seconds,
        "overhead_share": 1 - network.seconds / seconds,
        "images": {f.index: f.x for f in finished},
    }


def by_authors_loop(model: ScoreModel, n: int, eps_rel: float) -> dict[str, Any]:
    """Draw n samples batch after batch."""
    network = Stopwatch()
    model = replace(model, score=network.wrap(model.score))
    images = {}
    start = perf_counter()
    for first in range(0, n, BATCH_SIZE):
        indices = list(range(first, min(first + BATCH_SIZE, n)))
        x = sample_batch(model, indices, seed=0, eps_rel=eps_rel)
        images.update(zip(indices, x, strict=True))
    return {"seconds": perf_counter() - start, "rows": network.rows, "images": images}


def median(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)

    model = ggf_cli.load_model("fashion-vp")
    by_engine(model, 2, 0.5)  # warm up
    ours, theirs = [], []
    for _ in range(args.repeats):
        ours.append(by_engine(model, 64, 0.02))
        theirs.append(by_authors_loop(model, 64, 0.02))
    same = max(
        float((ours[0]["images"][i] - theirs[0]["images"][i]).abs().max()) for i in range(64)
    )
    tail = by_engine(model, 8 * BATCH_SIZE, 0.05)

    first = ours[0]
    rows = median(theirs, "rows") / median(ours, "rows")
    time = statistics.median(t["seconds"] / o["seconds"] for o, t in zip(ours, theirs, strict=True))
    report = {
        "machine": f"{platform.processor() or platform.machine()}, {args.threads} threads",
        "torch": torch.__version__,
        "batch_size": BATCH_SIZE,
        "repeats": args.repeats,
        "eps_rel 0.02, 64 samples": {
            "nfe": first["nfe"],
            "accepted": first["accepted"],
            "rejected": first["rejected"],
            "utilisation": first["utilisation"],
            "seconds": [run["seconds"] for run in ours],
            "evaluations_per_s": median(ours, "evaluations_per_s"),
            "noise_share": median(ours, "noise_share"),
            "solver_engine_noise_share": median(ours, "overhead_share"),
            "peak_memory_bytes": peak_memory(torch.device("cpu")),
        },
        "authors' loop, the same samples": {
            "largest_difference": same,
            "rows_evaluated": theirs[0]["rows"],
            "rows_ratio": rows,
            "seconds": [run["seconds"] for run in theirs],
            "time_ratio": time,
        },
        "eps_rel 0.05, n = 8 x batch size": {
            "utilisation": tail["utilisation"],
            "nfe": tail["nfe"],
        },
    }
    text = json.dumps(report, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
