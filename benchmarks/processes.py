"""Measure images per second of a `ggf sample` job in one and in several processes.

    python benchmarks/processes.py [--runs 5] [--n 256] [--processes 2] [-- OPTIONS OF ggf sample]

Each process has one thread. The jobs run in turn, and their images must be the same. Rates are with
and without start-up (loading Python, torch and the model, and torchrun).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from measure import Row

JOB = ["--model", "fashion-vp", "--solver", "adaptive-multistep", "--batch-size", "32"]


def draw(processes: int, words: list[str], n: int, folder: Path) -> tuple[float, float]:
    """Run the job; return images per second without and with start-up."""
    alone = [sys.executable, "-m", "ggf_cli"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    together = [*torchrun, "--nproc-per-node", str(processes), "-m", "ggf_cli"]
    job = ["sample", *words, "-n", str(n), "--out", str(folder), "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    start = perf_counter()
    command = [*(alone if processes == 1 else together), *job]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    wall = perf_counter() - start
    log = json.loads((folder / "run.json").read_text())
    return n / log["timing"]["sample_s"], n / wall


def files(folder: Path) -> list[dict[str, str]]:
    """Return [{"path", "sha256"}] of a run without the grid, whose text has the command."""
    log = json.loads((folder / "run.json").read_text())
    return [file for file in log["files"] if file["path"] != "grid.png"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("words", nargs="*", help="options of ggf sample, after --")
    args = parser.parse_args()
    rates: dict[int, list[tuple[float, float]]] = {args.processes: [], 1: []}
    with tempfile.TemporaryDirectory() as folder:
        for run in range(args.runs):
            for processes, found in rates.items():
                out = Path(folder) / f"{processes}-{run}"
                found.append(draw(processes, args.words or JOB, args.n, out))
            several, one = (Path(folder) / f"{processes}-{run}" for processes in rates)
            if files(several) != files(one):
                sys.exit(f"run {run}: the images of {args.processes} processes differ")
    for place, what in enumerate(("without start-up", "with start-up")):
        ours, theirs = ([rate[place] for rate in found] for found in rates.values())
        row = Row(suite="processes", what=what, unit="images/s", ours=ours, theirs=theirs)
        print(f"{args.processes} processes beside 1, {what}: {row.text()}")
    print(f"all images of {args.runs} runs are the same")


if __name__ == "__main__":
    main()
