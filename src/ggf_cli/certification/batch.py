"""Check e: whether a sample depends on the other samples of its batch."""

from __future__ import annotations

import torch

from ggf_cli.certification.documents import Check, Measurement, Status, finite
from ggf_cli.certification.problems import Problem, covariances
from ggf_cli.certification.samplers import Sampler, draw

BATCH, ALONE = 8, 3
# Differences of the rounding of float32 inside a sampler pass; in standard deviations of the data.
ROUND_OFF = 1e-4


def check_batch(sampler: Sampler, problem: Problem, *, seed: int) -> Check:
    """Draw samples in a batch and alone, with the same noise, and compare them."""
    together = draw(sampler, problem, torch.arange(BATCH), seed=seed)
    again = draw(sampler, problem, torch.arange(BATCH), seed=seed, global_seed=1)
    alone = torch.cat(
        [draw(sampler, problem, torch.tensor([i]), seed=seed).x for i in range(ALONE)]
    )
    unit = float(covariances(problem.mixture).diagonal(dim1=1, dim2=2).min().sqrt())
    own_noise = float((again.x - together.x).abs().max()) / unit
    difference = float((alone - together.x[:ALONE]).abs().max()) / unit
    status: Status = "right" if difference <= ROUND_OFF else "wrong"
    summary = f"alone and in a batch of {BATCH}: the same sample"
    if difference > 0:
        summary += f", to {difference:.1g} standard deviations"
    if status == "wrong":
        apart = f"alone it differs by {difference:.2g} standard deviations"
        summary = f"a sample depends on its batch: {apart}"
    if not own_noise <= ROUND_OFF:
        status = "undecided"
        summary = "the sampler draws noise of its own, not from `noise`"
    return Check(
        name="batch",
        problem=problem.title,
        status=status,
        summary=summary,
        measurements=[
            Measurement(
                name="difference of samples alone and in a batch, in standard deviations",
                value=finite(difference),
                expected=0.0,
                limit=ROUND_OFF,
            )
        ],
    )
