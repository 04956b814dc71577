"""Ten time budgets of `ggf compare`, from 30 s to 15 min: the planned and the taken time.

    python benchmarks/budgets.py                  about an hour
    python benchmarks/budgets.py --up-to 60       the shortest ones

Each comparison is a process of its own. "wall" is its time from start to end; a budget that is too
small for the fewest samples is refused, with the time that they need. Other load on the machine
shows in the results.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Seconds, model, solvers.
BUDGETS = [
    (30, "mixture", "em adaptive"),
    (45, "fashion-mixture-ve", "em adaptive"),
    (60, "fashion-mixture", "em adaptive dpmpp-2m-sde:nfe=50"),
    (90, "fashion-vp", "em adaptive"),
    (120, "mixture", "em adaptive heun"),
    (180, "fashion-ve", "em adaptive:eps-rel=0.1"),
    (240, "fashion-subvp", "adaptive-multistep em"),
    (300, "fashion-mixture-subvp", "em adaptive"),
    (600, "fashion-vp", "em adaptive"),
    (900, "fashion-vp", "em adaptive dpmpp-2m-sde:nfe=50"),
]


def measure(seconds: int, model: str, solvers: str, folder: Path) -> str:
    """Run one comparison; a line of the table."""
    command = [sys.executable, "-m", "ggf_cli", "compare", *solvers.split(), "--model", model]
    start = time.monotonic()
    done = subprocess.run(
        [*command, "--budget", f"{seconds}s", "--out", str(folder), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.monotonic() - start
    line = f"{seconds:6} {model:22} {solvers:34}"
    if done.returncode:
        reason = next((s for s in done.stderr.splitlines() if s.startswith("error")), "")
        return f"{line} refused after {wall:.0f} s: {reason}"
    document = json.loads(done.stdout)
    spent, notes = document["time"], document["notes"]
    planned, taken = spent["planned_s"], spent["taken_s"]
    return (
        f"{line} {planned:7.1f} {taken:7.1f} {taken / planned - 1:+6.0%} {wall:7.1f}"
        f" {wall / seconds - 1:+6.0%} {document['n']:6} {len(document['cells']):5} {len(notes):5}"
    )


def main() -> None:
    """Print the table, line by line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--up-to", type=float, default=1e9, help="largest budget in seconds")
    limit = parser.parse_args().up_to
    print(
        f"{'budget':6} {'model':22} {'solvers':34} planned   taken   diff    wall   diff      n"
        " cells notes"
    )
    with tempfile.TemporaryDirectory() as folder:
        for place, (seconds, model, solvers) in enumerate(BUDGETS):
            if seconds <= limit:
                print(measure(seconds, model, solvers, Path(folder, str(place))), flush=True)


if __name__ == "__main__":
    main()
