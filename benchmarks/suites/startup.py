"""Start-up times: help, the list of models, the first image."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from measure import Row

COMMANDS = {
    "ggf --help": ["--help"],
    "ggf list-models": ["list-models"],
    "ggf list-solvers": ["list-solvers"],
    "ggf sample --help": ["sample", "--help"],
}
FIRST_IMAGE = ["sample", "--n", "1", "--solver", "dpmpp-2m", "--quiet", "--out"]


def measure(runs: int) -> Iterator[Row]:
    """Yield all rows, beside an interpreter that does nothing or imports torch."""
    for what, words in COMMANDS.items():
        seconds = [_time([sys.executable, "-m", "ggf_cli", *words]) for _ in range(runs)]
        nothing = [_time([sys.executable, "-c", "pass"]) for _ in range(runs)]
        yield Row(
            suite="startup",
            what=f"{what} beside python -c pass",
            unit="s",
            ours=seconds,
            theirs=nothing,
        )
    first, torch_alone = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            out = str(Path(folder) / "run")
            first.append(_time([sys.executable, "-m", "ggf_cli", *FIRST_IMAGE, out]))
        torch_alone.append(_time([sys.executable, "-c", "import torch"]))
    yield Row(
        suite="startup",
        what="first image (dpmpp-2m, 21 NFE) beside import torch",
        unit="s",
        ours=first,
        theirs=torch_alone,
    )


def _time(command: list[str]) -> float:
    start = perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return perf_counter() - start
