"""Measure the speed of ggf and of alternatives on this machine: a table, a JSON file and a plot.

    python benchmarks/bench.py [SUITE ...] [--runs 7] [--threads N] [--out runs/bench]

Everything that is compared runs in this process, interleaved, so that other load on the machine
affects all alike, and with the memory settings of `ggf` (`ggf_cli.runtime.memory.keep_freed`). A
row has the median of the runs and their quartiles. Alternatives are installed by
`pip install -r benchmarks/requirements.txt`; rows without theirs are skipped. Use a quiet machine,
and do not set OMP_WAIT_POLICY=PASSIVE, which halves the speed of small batches.
"""

import argparse
import importlib
import json
import platform
from collections.abc import Iterator
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ggf_cli.runtime.memory import keep_freed
from measure import Row, Skipped

SUITES = ("engine", "output", "network", "job", "startup", "scaling")


def rows_of(suite: str, runs: int, console: Console) -> Iterator[Row]:
    """Yield the rows of a suite, and print each."""
    for row in importlib.import_module(f"suites.{suite}").measure(runs):
        if isinstance(row, Skipped):
            console.print(f"skipped: {row.what}: {row.why}", markup=False)
        else:
            console.print(f"{row.suite}: {row.what}: {row.text()}", markup=False)
            yield row


def as_table(rows: list[Row]) -> Table:
    """Format the rows as a table for the terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("suite", "what", "ggf", "other", "ggf ÷ other"):
        table.add_column(column, justify="left" if column in ("suite", "what") else "right")
    for row in rows:
        ratio = f"{row.ratio:.3g}" if row.ratio is not None else ""
        table.add_row(row.suite, row.what, row.format(row.ours), row.format(row.theirs), ratio)
    return table


def plot(rows: list[Row], path: Path) -> None:
    """Plot the ratios on a logarithmic axis: left of 1, ggf is faster, or needs less memory."""
    rows = [row for row in rows if row.ratio is not None][::-1]
    if not rows:
        return
    figure = Figure(figsize=(8, 0.9 + 0.28 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.barh([f"{row.suite}: {row.what}" for row in rows], [row.ratio for row in rows], height=0.6)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="ggf ÷ other (median of interleaved runs)")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="*", default=SUITES, metavar="SUITE", help=" ".join(SUITES))
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    keep_freed()
    console = Console()
    rows = [row for suite in args.suites for row in rows_of(suite, args.runs, console)]
    console.print(as_table(rows))
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": args.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "runs": args.runs,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine, "rows": [row.document() for row in rows]}
    (args.out / "bench.json").write_text(json.dumps(report, indent=1) + "\n")
    plot(rows, args.out / "bench.png")
    console.print(str(args.out / "bench.json"))


if __name__ == "__main__":
    main()
