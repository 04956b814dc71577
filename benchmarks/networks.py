"""Compare full-size networks with their original implementations: outputs, time and memory.

    python benchmarks/networks.py [--checkout PROGRAM=FOLDER ...] [--only NAME ...] [--out FILE]

Both networks have the same random weights. The reference is diffusers' UNet2DModel if it can
represent the model; others need a checkout of their program (`references.CHECKOUTS`), and are
skipped without, as is the loading of a .pth file. ffhq-1024 is evaluated at 256 pixels. Memory is
the peak resident size of a separate process during an evaluation, with the weights. Times are
those of the original in float32, its default, and of ggf in float32 and in bfloat16.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from ggf_cli.checkpoints.load import load_model
from ggf_cli.errors import AssumptionWarning
from ggf_cli.score import ScoreModel
from measure import interleaved
from references import CHECKOUTS, REFERENCES, Network
from song import build as build_song
from song import save as save_song


def theirs_of(name: str, module: nn.Module) -> Network:
    """The reference as a function network(x, label)."""
    call = REFERENCES[name].call
    return lambda x, label: call(module, x, label)


def loaded(name: str, path: Path) -> ScoreModel:
    """The model that ggf loads from the file of a reference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        return load_model(path, device="cpu", config=REFERENCES[name].config)


def network_of(name: str, path: Path) -> nn.Module:
    """The network that ggf loads from the file of a reference."""
    return next(modules_in(loaded(name, path).score))


def ours_of(name: str, network: nn.Module) -> Network:
    """Our network of a reference as a function network(x, label)."""
    if not REFERENCES[name].classes:
        return lambda x, label: network(x, label.double())
    return lambda x, label: network(x, label.double(), torch.zeros(len(x), dtype=torch.int64))


def modules_in(function: Any) -> Iterator[nn.Module]:
    """The modules that a function refers to, also through other functions."""
    for cell in getattr(function, "__closure__", None) or ():
        if isinstance(cell.cell_contents, nn.Module):
            yield cell.cell_contents
        else:
            yield from modules_in(cell.cell_contents)


def in_bfloat16(network: Network) -> Network:
    """The network as `--precision bf16` evaluates it."""

    def evaluate(x: Tensor, label: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(x, label).float()

    return evaluate


def compare(
    name: str, checkout: str | None, repeats: int, batch_sizes: Sequence[int]
) -> dict[str, Any]:
    """Measure relative errors, memory, and the interleaved times of evaluations."""
    reference = REFERENCES[name]
    module = reference.build(checkout)
    with tempfile.TemporaryDirectory() as folder:
        path = reference.write(module, Path(folder) / "model.safetensors")
        network = network_of(name, path)
        memory = {which: _peak(name, which, path, checkout) for which in ("ours", "theirs")}
    ours, theirs = ours_of(name, network), theirs_of(name, module)
    labels = torch.tensor(reference.labels)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(labels), *reference.shape, generator=generator)
    expected, found = theirs(x, labels), ours(x, labels)
    errors = [float((f - e).norm() / e.norm()) for f, e in zip(found, expected, strict=True)]
    del expected, found
    return {
        "program": reference.source,
        "parameters": _parameters(network),
        "parameters_theirs": _parameters(module),
        "largest_relative_error": max(errors),
        "times": [_times(name, theirs, ours, batch, repeats) for batch in batch_sizes],
        "peak_memory_ours": memory["ours"],
        "peak_memory_theirs": memory["theirs"],
    }


def _times(name: str, theirs: Network, ours: Network, batch: int, repeats: int) -> dict[str, Any]:
    """The median seconds of interleaved evaluations of a batch, after one of each."""
    x = torch.randn(batch, *REFERENCES[name].shape)
    label = torch.full((batch,), REFERENCES[name].labels[-1])
    ways = {"theirs": theirs, "ours": ours, "ours_bf16": in_bfloat16(ours)}
    times = interleaved({way: partial(call, x, label) for way, call in ways.items()}, repeats)
    return {
        "batch_size": batch,
        **{f"seconds_{way}": median(values) for way, values in times.items()},
        **{
            f"ratio_{way}": median(o / t for o, t in zip(times[way], times["theirs"], strict=True))
            for way in ("ours", "ours_bf16")
        },
    }


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _peak(name: str, which: str, path: Path, checkout: str | None) -> int:
    """Measure the peak resident bytes of a process that evaluates one image."""
    command = [sys.executable, __file__, "--only", name, "--measure", which, str(path)]
    command += ["--checkout", f"{REFERENCES[name].source}={checkout}"] if checkout else []
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(name: str, which: str, path: str, checkout: str | None) -> int:
    """Evaluate one image in this process; return its peak resident bytes."""
    reference = REFERENCES[name]
    if which == "ours":
        network = ours_of(name, network_of(name, Path(path)))
    else:
        network = theirs_of(name, reference.build(checkout))
    network(torch.randn(1, *reference.shape), torch.tensor(reference.labels[-1:]))
    return _status("VmHWM")


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return 1024 * int(line.split()[1])
    raise KeyError(key)


def load_pth(song: str) -> dict[str, Any]:
    """Measure time and memory of loading a church checkpoint of 1 GB, with optimizer state."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pth"
        save_song(build_song(song, "church"), path)
        command = [sys.executable, __file__, "--load", str(path)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return {"file_bytes": path.stat().st_size, **json.loads(out)}


def measure_load(path: str) -> dict[str, Any]:
    """Load in this process; a thread records the peak of anonymous memory."""
    torch.empty(1).normal_()
    before = peak = _status("RssAnon")
    stop = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.is_set():
            peak = max(peak, _status("RssAnon"))
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    model = load_model(path, config="church", device="cpu")
    seconds = time.perf_counter() - start
    stop.set()
    watcher.join()
    size = 4 * model.provenance["parameters"]
    return {"seconds": seconds, "model_bytes": size, "peak_over_model": (peak - before) / size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkout",
        action="append",
        default=[],
        metavar="PROGRAM=FOLDER",
        help="; ".join(f"{program}: {what}" for program, what in CHECKOUTS.items()),
    )
    parser.add_argument("--only", nargs="*", choices=REFERENCES)
    parser.add_argument("--batch", nargs="*", type=int, default=[1])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    args = parser.parse_args()
    checkouts = dict(item.split("=", 1) for item in args.checkout)
    torch.set_grad_enabled(False)
    if args.load:
        print(json.dumps(measure_load(args.load)))
        return
    if args.measure:
        name = args.only[0]
        print(measure(name, *args.measure, checkouts.get(REFERENCES[name].source)))
        return
    report: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    for name in args.only or REFERENCES:
        source = REFERENCES[name].source
        if source != "diffusers" and source not in checkouts:
            print(f"skipped without --checkout {source}=FOLDER: {name}", file=sys.stderr)
            continue
        report[name] = compare(name, checkouts.get(source), args.repeats, args.batch)
        print(name, json.dumps(report[name], indent=2), flush=True)
    song = checkouts.get("score_sde_pytorch")
    if song and not args.only:
        report["load a .pth of 1 GB"] = load_pth(song)
        print(json.dumps(report["load a .pth of 1 GB"], indent=2))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
