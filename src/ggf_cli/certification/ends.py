"""Checks c and d: the evaluations of a sample, and the noise that is left in it.

The noise left is measured on data that lie on a line: the deviation across the line, in units of
sigma / alpha at t_eps. A sampler that stops at t_eps without denoising leaves 1.
"""

from __future__ import annotations

import torch

from ggf_cli.certification.documents import Check, Measurement, Status, finite
from ggf_cli.certification.problems import levels, line
from ggf_cli.certification.samplers import Drawn, Sampler, draw
from ggf_cli.sde import SDE

ROWS = 512
# Noise left, in units of sigma / alpha at t_eps: none up to CLEAN, too much from NOISY on. Its
# relative standard error with 512 rows is 3 %.
CLEAN, NOISY = 0.25, 0.5


def check_noise_left(sampler: Sampler, sde: SDE, *, seed: int) -> Check:
    """Measure the noise that is left in samples of data on a line."""
    problem = line(sde)
    drawn = draw(sampler, problem, torch.arange(ROWS), seed=seed)
    alpha, sigma = levels(sde, sde.t_eps)
    across = drawn.x[:, 1].square().mean().sqrt().item()
    left = across / (sigma / alpha)
    status: Status = "right" if left <= CLEAN else "undecided" if left < NOISY else "wrong"
    return Check(
        name="noise left",
        problem=problem.title,
        status=status,
        summary=f"{left:.2g} times the noise of t_eps, {CLEAN:g} allowed",
        measurements=[
            Measurement(
                name="noise left, in units of sigma / alpha at t_eps",
                value=finite(left),
                expected=0.0,
                limit=NOISY,
            )
        ],
    )


def check_evaluations(sampler: Sampler, title: str, drawn: Drawn) -> Check:
    """Compare the evaluations that were counted with the claim."""
    claim = sampler.nfe(sampler.steps)
    status: Status = "not applicable" if claim is None else "right"
    text = f"{drawn.calls:.6g} a sample"
    if claim is not None:
        text += f", {claim} claimed"
        if abs(drawn.calls - claim) > 1e-9:
            status = "wrong"
    return Check(
        name="evaluations",
        problem=title,
        status=status,
        summary=text,
        measurements=[
            Measurement(
                name="evaluations of a sample, on average", value=drawn.calls, expected=claim
            )
        ],
    )
