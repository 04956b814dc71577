"""Measure the effect of each constant of `adaptive-multistep` on an exact model.

    python benchmarks/constants.py MODEL [--n 10000] [--eps-rel 0.02] [--seed 0]

The table in docs/research/adaptive-multistep.md. It prints a line for each variation: mean NFE,
Fréchet distance to the exact mean and covariance, and the variance of the samples, summed over
pixels, in units of the exact one.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from unittest.mock import patch

import torch

import ggf_cli
from ggf_cli.metrics.frechet import frechet
from ggf_cli.pilot import freeze_schedule
from ggf_cli.score import ScoreModel
from ggf_cli.sde import SDE
from ggf_cli.solvers import adaptive_multistep
from ggf_cli.solvers.adaptive_multistep import AdaptiveMultistep
from ggf_cli.solvers.schedule import times_between

CONSTANTS = [
    {},
    *({"JACOBIAN": value} for value in (0.0, 0.65, 0.75, 0.85, 0.9)),
    {"GROWTH": 1.4, "H_FIRST": 0.1},
    {"GROWTH": 1.4},
    {"GROWTH": 4.0, "H_FIRST": 1.0},
    {"EXPONENT": 0.3},
    {"EXPONENT": 0.9},
    {"SHRINK": 0.1},
]
H_MAX = (0.7, 2.0)
EQUAL_STEPS = (12, 17)
PILOTS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--eps-rel", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model = ggf_cli.load_model(args.model, device="cpu")
    solver = AdaptiveMultistep(eps_rel=args.eps_rel)

    def report(variation: str, solver: AdaptiveMultistep) -> None:
        nfe, distance, variance = measure(model, solver, args.n, args.seed)
        values = f"NFE {nfe:5.1f}  Fréchet {distance:.3f}  variance {variance:.3f}"
        print(f"{variation:40} {values}", flush=True)

    for constants in CONSTANTS:
        with patch.dict(vars(adaptive_multistep), constants):
            report(str(constants or "unchanged"), solver)
    for h_max in H_MAX:
        report(f"h_max {h_max}", replace(solver, h_max=h_max))
    for steps in EQUAL_STEPS:
        report(f"no control: {steps} equal steps", replace(solver, times=equal(model.sde, steps)))
    report(
        f"no control: the mean steps of {PILOTS} samples", freeze_schedule(model, solver, PILOTS)
    )


def measure(
    model: ScoreModel, solver: AdaptiveMultistep, n: int, seed: int
) -> tuple[float, float, float]:
    """Draw n samples; return mean NFE, Fréchet distance and relative variance."""
    drawn = list(ggf_cli.stream(model, range(n), solver=solver, seed=seed, batch_size=500))
    x = torch.stack([sample.x for sample in drawn]).flatten(1).double()
    mean, covariance = (moment.double() for moment in model.distribution.moments())
    nfe = sum(sample.nfe for sample in drawn) / n
    return nfe, frechet(x, mean, covariance), float(x.var(0).sum() / covariance.trace())


def equal(sde: SDE, steps: int) -> str:
    """Format the times of steps that are equal in lambda."""
    times = times_between(sde, sde.T, sde.t_eps, steps, "logsnr").tolist()
    return ",".join(map(repr, times))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
