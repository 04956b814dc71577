"""Every solver at its default settings on an exact model: what is wrong then is the solver's own.

    python benchmarks/exact.py [fashion-mixture] [--n 10000] [--cells adaptive em:steps=300 ...] [--out runs/exact]

For each cell: NFE, Fréchet distance to the exact mean and covariance, sliced Wasserstein distance to exact samples, and
what n exact samples get. A finished cell is kept (JSON) and not drawn again. Prints a markdown table.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import torch

import ggf_cli
from embedded import parse_cell
from ggf_cli.metrics import make_judges
from ggf_cli.metrics.judge import Judge
from ggf_cli.output.folder import write_atomically
from ggf_cli.output.runlog import nfe_statistics
from ggf_cli.score import ScoreModel
from ggf_cli.solvers import SOLVERS
from ggf_cli.solvers.base import Solver


def measure(
    model: ScoreModel, solver: Solver, judges: list[Judge], n: int, batch_size: int
) -> dict[str, Any]:
    """Draw n samples and judge those that reached the end, by Fréchet and sliced Wasserstein distance."""
    frechet, swd = judges
    start = monotonic()
    finished = list(ggf_cli.stream(model, range(n), solver=solver, batch_size=batch_size))
    seconds = monotonic() - start
    ended = [f for f in finished if f.outcome is ggf_cli.Outcome.DONE]
    x = torch.stack([f.x for f in ended])
    return {
        "nfe": nfe_statistics([f.nfe for f in finished]),
        "rejected": sum(f.rejected for f in finished),
        "failed": n - len(ended),
        "seconds": seconds,
        "frechet": frechet.judge(x),
        "sliced_wasserstein": swd.judge(x),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="fashion-mixture")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--cells", nargs="+", default=list(SOLVERS), metavar="SOLVER:OPTION=VALUE")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("runs/exact"))
    args = parser.parse_args()
    model = ggf_cli.load_model(args.model)
    judges = make_judges(["frechet", "swd"], model)

    print(f"| {args.model}, {args.n} samples | NFE mean | p95 | Fréchet | sliced W | seconds |")
    print("|---|---|---|---|---|---|")
    floors = [judge.floor(args.n, 1).values[0] for judge in judges]
    print(f"| exact samples | – | – | {floors[0]:.3f} | {floors[1]:.4f} | – |")
    for cell in args.cells:
        solver = parse_cell(cell)
        settings = {
            "model": args.model, "n": args.n, "batch_size": args.batch_size, "solver": solver.name,
            "options": solver.options(), "torch": torch.__version__,
        }  # fmt: skip
        path = args.out / (re.sub(r"[^\w=.]+", "-", f"{args.model} {cell} n={args.n}") + ".json")
        found = json.loads(path.read_text()) if path.is_file() else {}
        if found.get("settings") != settings:
            print(cell, file=sys.stderr, flush=True)
            found = {
                "settings": settings,
                **measure(model, solver, judges, args.n, args.batch_size),
            }
            write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())
        print(
            f"| {cell} | {found['nfe']['mean']:.1f} | {found['nfe']['p95']:.0f} | {found['frechet']:.3f}"
            f" | {found['sliced_wasserstein']:.4f} | {found['seconds']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
