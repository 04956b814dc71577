"""Hash a small run of each solver, to check that a change leaves every sample bit-identical.

    python benchmarks/sample_hashes.py > before.json        # then change the code
    python benchmarks/sample_hashes.py --against before.json

Compare on one machine only: networks and elementary functions round differently on others
(docs/reference/reproducibility.md).
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch

import ggf_cli
from ggf_cli.errors import GGFError
from ggf_cli.solvers import make_solver
from ggf_cli.solvers.catalog import read_catalog

MODELS = ("mixture", "fashion-mixture", "fashion-vp", "fashion-ve", "fashion-subvp")
# Evaluations a sample, of solvers with a fixed number of steps.
BUDGET = 24
SEED, SAMPLES, BATCH_SIZE = 7, 3, 2


def sample_hashes() -> dict[str, str]:
    """Run all solvers; return {"model solver": sha256 of states and NFE}."""
    result = {}
    for name in MODELS:
        model = ggf_cli.load_model(name, device="cpu")
        for solver, about in read_catalog().items():
            options = {} if about.adaptive or "nfe" not in about.options else {"nfe": BUDGET}
            options |= {"eps_rel": 0.1} if "eps_rel" in about.options else {}
            digest = hashlib.sha256()
            try:
                samples = ggf_cli.stream(
                    model,
                    range(SAMPLES),
                    solver=make_solver(solver, options),
                    seed=SEED,
                    batch_size=BATCH_SIZE,
                )
                for sample in sorted(samples, key=lambda sample: sample.index):
                    digest.update(sample.x.numpy().tobytes())
                    digest.update(f"{sample.nfe} {sample.accepted} {sample.rejected}".encode())
            except GGFError as error:
                result[f"{name} {solver}"] = str(error)
            else:
                result[f"{name} {solver}"] = digest.hexdigest()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="JSON file of an earlier call")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = sample_hashes()
    if args.against is None:
        print(json.dumps(found, indent=1))
        return
    before = json.loads(args.against.read_text())
    changed = [name for name in before if found.get(name) != before[name]]
    print(f"{len(before) - len(changed)} of {len(before)} runs are bit-identical")
    if changed:
        raise SystemExit(f"changed: {', '.join(changed)}")


if __name__ == "__main__":
    main()
