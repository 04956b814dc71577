"""Check that a model can be loaded, and that its score is what solvers expect."""

from __future__ import annotations

import torch
from torch import Tensor

from ggf_cli.checkpoints.load import load_model
from ggf_cli.errors import SolveError
from ggf_cli.health import FAILED, OK, WARNING, Finding
from ggf_cli.runtime.precision import noise_at_levels

# Rows of the batch, at as many noise levels.
ROWS = 4
# A row of a network may differ by rounding from the same row alone, relative to its norm.
ROUNDING = 1e-3


def model(name: str) -> Finding:
    """Load a model and evaluate its score at several noise levels, in a batch and row by row."""
    found = load_model(name, device="auto", quiet=True)
    if found.conditional and found.conditions is None:
        summary = f"{found.name}: needs conditions; its score was not evaluated"
        hint = "give the model conditions, or draw a sample with --label"
        return Finding(summary=summary, status=WARNING, hint=hint)
    x, t = noise_at_levels(found, ROWS)
    with torch.no_grad():
        batch = found.score(x, t)
        problem = _problem(batch, x)
        if problem is None:
            alone = torch.cat([found.score(x[i : i + 1], t[i : i + 1]) for i in range(ROWS)])
    facts = {"name": found.name, "shape": list(found.shape), "device": str(found.device)}
    if problem:
        return Finding(
            summary=f"{found.name}: {problem}",
            facts=facts,
            status=FAILED,
            hint="score(x, t) must return the gradient of log p_t at x, for each row",
            exit_code=SolveError.exit_code,
        )
    difference = float(
        ((batch - alone).flatten(1).norm(dim=1) / alone.flatten(1).norm(dim=1)).max()
    )
    depends = not difference <= ROUNDING
    shape = "×".join(map(str, found.shape))
    return Finding(
        summary=f"{found.name}: shape {shape}, {found.sde}, score finite at {ROWS} noise levels"
        + (f"; a row differs by {difference:.1%} from the row alone" if depends else ""),
        facts={**facts, "difference_alone": difference},
        status=WARNING if depends else OK,
        hint="samples depend on their batch: is a layer in training mode?" if depends else None,
    )


def _problem(score: object, x: Tensor) -> str | None:
    """Why a value is not the score of x; None if it is."""
    if not isinstance(score, Tensor):
        return f"score returns a {type(score).__name__}, not a tensor"
    if score.shape != x.shape:
        return f"score has shape {tuple(score.shape)} for x of shape {tuple(x.shape)}"
    if not bool(torch.isfinite(score).all()):
        return "score is not finite"
    return None
