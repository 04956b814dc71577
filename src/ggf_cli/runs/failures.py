"""The errors of runs: samples that did not reach the end, and memory that ran out."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from ggf_cli.engine import Engine
from ggf_cli.errors import SolveError
from ggf_cli.runs.documents import RunLog, SampleLine, SampleLog
from ggf_cli.runtime.memory import out_of_memory


def failure_of_log(log: RunLog) -> Exception | None:
    """The error of a run that ended with lost samples, from its log."""
    lost = [sample for sample in log.samples if sample.status != "done"]
    return lost_samples(lost, log.num_samples, log.solver.name) if lost else None


def lost_samples(lost: Sequence[SampleLine | SampleLog], wanted: int, solver: str) -> SolveError:
    """The error for samples that did not reach the end."""
    reasons = {
        "non_finite": "met a score or a state that is not finite",
        "max_nfe": "ran out of evaluations",
    }
    kinds = sorted({sample.status for sample in lost})
    first = min(lost, key=lambda sample: sample.index)
    t = first.t if isinstance(first, SampleLine) else UNSET
    reached = "after" if t is UNSET else f"at t={t:.3f} after"
    reason = " or ".join(reasons[kind] for kind in kinds)
    return SolveError(
        f"{len(lost)} of {wanted} samples {reason}, by {solver};"
        f" the first is index {first.index}, {reached} {first.nfe} evaluations",
        hint="raise `max_nfe` or loosen the tolerance"
        if kinds == ["max_nfe"]
        else "take smaller steps: a smaller `eps_rel`, or more `steps`",
    )


def explained(error: Exception, engine: Engine) -> Exception:
    """The error for the user. The engine handles memory errors of the network itself."""
    if not out_of_memory(error):
        return error
    where = f"{engine.model.name}, batch size {engine.batch_size}"
    return SolveError(
        f"out of memory ({where}): {(str(error) or 'no more to be had').splitlines()[0]}",
        hint="a smaller `batch_size`",
    )
