"""How good an embedded Fashion-MNIST model is, solver by solver.

    python benchmarks/embedded.py fashion-vp [--n 2000] [--cells em:steps=1000 adaptive:eps_rel=0.02] [--precision bf16]

MODEL is a registered name or a file. Each cell is a solver with its options. It draws n samples, keeps them (8-bit npz), a
grid of the first 64, and what was measured (JSON): FFD, network evaluations, classes, distance to the training images. Each
cell is kept as soon as it is drawn; a repeated command measures again but draws nothing that was drawn with the same settings
and weights. Prints a markdown table at the end, with what real images get at the same n (needs Debian's package
`dataset-fashion-mnist`; without it floor and distances are left out).

"bf16" evaluates the network in bfloat16 where torch.autocast does, with the state in float32.
"""

import argparse
import json
import math
import re
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ggf_cli
from ggf_cli.errors import UsageError
from ggf_cli.metrics.ffd import FFD
from ggf_cli.metrics.nearest import nearest_distances
from ggf_cli.output.folder import write_atomically
from ggf_cli.output.images import grid, png
from ggf_cli.output.runlog import describe_device, nfe_statistics
from ggf_cli.score import ScoreModel
from ggf_cli.solvers import make_solver
from ggf_cli.solvers.base import Solver

sys.path.append(str(Path(__file__).parents[1] / "training"))
from fashion_mnist import FOLDER, load
from floors import subset_distances

CELLS = ("em:steps=1000", *(f"adaptive:eps_rel={e}" for e in ("0.01", "0.02", "0.05", "0.1")))
FLOOR_SEEDS = 5
PROGRESS_EVERY_S = 30.0


def parse_cell(text: str) -> Solver:
    """ "adaptive:eps_rel=0.02,h_init=0.1" -> the solver."""
    name, _, options = text.partition(":")
    pairs = (option.partition("=") for option in options.split(",") if option)
    return make_solver(name, {key: json.loads(value) for key, _, value in pairs})


def in_bfloat16(model: ScoreModel) -> ScoreModel:
    """The model with its network under autocast; state, times and noise stay as they are."""
    kind = torch.device(model.device).type

    def score(x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(kind, torch.bfloat16):
            return model.score(x, t).float()

    return replace(model, score=score)


def draw(model: ScoreModel, solver: Solver, n: int, seed: int, batch_size: int) -> dict[str, Any]:
    """n samples as they are kept: images (n, 1, 28, 28) uint8, and (n,) of each count."""
    start = told = monotonic()
    done: list[ggf_cli.Finished] = []
    for finished in ggf_cli.stream(
        model, range(n), solver=solver, seed=seed, batch_size=batch_size
    ):
        done.append(finished)
        if monotonic() - told > PROGRESS_EVERY_S:
            told = monotonic()
            print(f"  {len(done)}/{n} samples, {told - start:.0f} s", file=sys.stderr, flush=True)
    seconds = monotonic() - start
    done.sort(key=lambda finished: finished.index)
    images = torch.stack([f.image for f in done]).nan_to_num()  # those that failed are marked
    return {
        "images": (images * 255).round().to(torch.uint8).numpy(),
        "ok": np.array([f.outcome is ggf_cli.Outcome.DONE for f in done]),
        "nfe": np.array([f.nfe for f in done]),
        "accepted": np.array([f.accepted for f in done]),
        "rejected": np.array([f.rejected for f in done]),
        "seconds": np.array(seconds),
    }


def measure(samples: dict[str, Any], ffd: FFD, training: Tensor | None) -> dict[str, Any]:
    """What is said of the samples; training (M, 1, 28, 28) in [-1, 1]."""
    images = torch.from_numpy(samples["images"][samples["ok"]]).float() / 255
    described = ffd.describe(images)
    histogram = described.histogram()
    ratios = [len(histogram) * count / len(images) for count in histogram]
    report = {
        "ffd": ffd.distance(described.features),
        "failed": int((~samples["ok"]).sum()),
        "nfe": nfe_statistics(samples["nfe"].tolist()),
        "accepted": int(samples["accepted"].sum()),
        "rejected": int(samples["rejected"].sum()),
        "seconds": float(samples["seconds"]),
        "classes": dict(zip(ffd.class_names, histogram, strict=True)),
        "class_ratio": {"least": min(ratios), "most": max(ratios)},  # to a tenth of the samples
    }
    if training is not None:
        distances = nearest_distances(2 * images - 1, training)
        report["nearest"] = {
            "median": float(distances.median()),
            "p1": float(distances.quantile(0.01)),
        }
    return report


def table(results: dict[str, dict[str, Any]], n: int) -> str:
    """The results as markdown."""
    lines = [
        f"| {n} images | FFD | NFE mean | p95 | rejected | classes, least–most | nearest, median | 1 % | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cell, r in results.items():
        rejected = r["rejected"] / max(1, r["accepted"] + r["rejected"])
        near = r.get("nearest", dict.fromkeys(("median", "p1"), math.nan))
        lines.append(
            f"| {cell} | {r['ffd']:.2f} | {r['nfe']['mean']:.1f} | {r['nfe']['p95']:.0f} | {rejected:.1%}"
            f" | {r['class_ratio']['least']:.2f}–{r['class_ratio']['most']:.2f}"
            f" | {near['median']:.2f} | {near['p1']:.2f} | {r['seconds']:.0f} |"
        )
    return "\n".join(lines)


def kept(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Samples drawn before with these settings."""
    if not path.is_file():
        return None
    with np.load(path) as file:
        samples = dict(file)
    return samples if json.loads(str(samples.pop("settings"))) == settings else None


def keep(path: Path, settings: dict[str, Any], samples: dict[str, Any]) -> None:
    """Write samples with what they were drawn with, and the first 64 as a picture beside them."""
    buffer = BytesIO()
    np.savez_compressed(buffer, settings=np.array(json.dumps(settings)), **samples)
    first = torch.from_numpy(samples["images"][:64]).float() / 255
    picture = png(grid(list(first), 8, 8), {"settings": json.dumps(settings)})
    write_atomically(path.with_suffix(".png"), picture)
    write_atomically(path, buffer.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--cells", nargs="+", default=CELLS, metavar="SOLVER:OPTION=VALUE")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/embedded"))
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    if args.n < FFD.min_images:
        parser.error(f"--n must be at least {FFD.min_images}")

    solvers = {cell: parse_cell(cell) for cell in args.cells}
    model = ggf_cli.load_model(args.model, device=args.device)
    if args.precision == "bf16":
        model = in_bfloat16(model)
    ffd = FFD(device=model.device)
    training = load()[0] if FOLDER.is_dir() else None

    results = {}
    for cell, solver in solvers.items():
        settings = {
            "model": model.name,
            "sha256": (model.provenance or {}).get("sha256"),
            "solver": solver.name,
            "options": solver.options(),
            "n": args.n,
            "seed": args.seed,
            "precision": args.precision,
            "batch_size": args.batch_size,
            "device": describe_device(torch.device(model.device)),
            "torch": torch.__version__,
        }
        name = f"{Path(model.name).stem} {cell} {args.precision} n={args.n} seed={args.seed}"
        path = args.out / (re.sub(r"[^\w=.]+", "-", name) + ".npz")
        if (samples := kept(path, settings)) is None:
            print(name, file=sys.stderr, flush=True)
            samples = draw(model, solver, args.n, args.seed, args.batch_size)
            keep(path, settings, samples)
        try:
            results[cell] = measure(samples, ffd, training)
        except UsageError as error:  # hardly a sample ended well: no reason to lose the other cells
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            continue
        document = {"settings": settings, **results[cell]}
        write_atomically(
            path.with_suffix(".json"), (json.dumps(document, indent=2) + "\n").encode()
        )
        print(f"{name}: FFD {results[cell]['ffd']:.2f}", file=sys.stderr, flush=True)
    print(table(results, args.n))
    if training is not None and args.n < 10_000:
        features = ffd.describe((load(train=False)[0] + 1) / 2).features
        mean, std = subset_distances(ffd, features, args.n, FLOOR_SEEDS)
        print(
            f"\nFloor: FFD of {args.n} test images is {mean:.2f} ± {std:.2f} ({FLOOR_SEEDS} draws)."
        )


if __name__ == "__main__":
    main()
