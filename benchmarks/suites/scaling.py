"""Time and memory against the number of samples and the batch size."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ggf_cli import load_model
from ggf_cli.engine import Engine
from ggf_cli.runtime.precision import in_precision
from ggf_cli.solvers import make_solver
from measure import Row, interleaved

SAMPLES = (16, 256, 4096)
BATCHES = (1, 4, 16, 64, 128, 256)


def measure(runs: int) -> Iterator[Row]:
    """Yield all rows."""
    yield from against_samples(runs)
    yield from against_batch_size(runs)


def against_samples(runs: int) -> Iterator[Row]:
    """Measure time a sample and peak memory of `ggf sample`, beside those of n = 16."""
    found: dict[int, list[tuple[float, float]]] = {n: [] for n in SAMPLES}
    for _ in range(runs):
        for n in SAMPLES:
            found[n].append(_run(n))
    for n in SAMPLES[1:]:
        for place, what, unit in ((0, "time a sample", "ms"), (1, "peak memory", "MB")):
            ours = [run[place] for run in found[n]]
            theirs = [run[place] for run in found[SAMPLES[0]]]
            yield Row(
                suite="scaling",
                what=f"{what}, n = {n:,} beside n = {SAMPLES[0]}",
                unit=unit,
                ours=ours,
                theirs=theirs,
                note="dpmpp-2m, 10 steps, batch size 16, npz",
            )


def _run(n: int) -> tuple[float, float]:
    """Run a job; return milliseconds a sample, and peak megabytes."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = [
            "sample",
            "--n",
            str(n),
            "--solver",
            "dpmpp-2m",
            "--steps",
            "10",
            "--batch-size",
            "16",
        ]
        words += ["--format", "npz", "--out", str(out), "--quiet"]
        subprocess.run([sys.executable, "-m", "ggf_cli", *words], check=True, capture_output=True)
        log = json.loads((out / "run.json").read_text())
    return 1000 * log["timing"]["sample_s"] / n, log["peak_memory_bytes"] / 1e6


def against_batch_size(runs: int) -> Iterator[Row]:
    """Measure milliseconds an evaluation, beside batch size 16."""
    model = in_precision(load_model("fashion-vp", device="cpu"), "auto")

    def draw(batch: int) -> None:
        list(Engine(model, make_solver("dpmpp-2m", {"steps": 5}), batch_size=batch).run(range(256)))

    functions = {str(batch): (lambda batch=batch: draw(batch)) for batch in BATCHES}
    seconds = interleaved(functions, runs)
    per_row = {name: [1000 * s / (256 * 6) for s in values] for name, values in seconds.items()}
    for name in map(str, BATCHES):
        if name != "16":
            yield Row(
                suite="scaling",
                what=f"an evaluation, batch {name} beside batch 16",
                unit="ms",
                ours=per_row[name],
                theirs=per_row["16"],
            )
