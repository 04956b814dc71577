"""The certificate of a sampler: the type of the JSON document of `ggf certify`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Struct

from ggf_cli.documents import Amount, Count, Number, Positive, about

Status = Literal["right", "wrong", "undecided", "not applicable"]
# Statuses from the most to the least important in a summary of several.
WORST_FIRST: tuple[Status, ...] = ("wrong", "undecided", "right", "not applicable")


# JSON has no infinity and no NaN.
HUGE = 1e30


class Measurement(Struct, frozen=True, kw_only=True):
    """A measured number, and what it is compared with."""

    name: Annotated[str, about("what is measured, with its unit")]
    value: Number
    expected: Number | None = None
    standard_error: Amount | None = None
    allowance: Annotated[
        Amount | None, about("difference from `expected` that is allowed beside chance")
    ] = None
    limit: Annotated[
        Amount | None, about("largest |value - expected| that passes: allowance and chance")
    ] = None


class Check(Struct, frozen=True, kw_only=True):
    """The result of one check on one problem."""

    name: Literal["marginals", "order", "evaluations", "start", "noise left", "batch"]
    problem: Annotated[str, about("the exact model and its SDE, such as `mixture, VP`")]
    status: Status
    summary: Annotated[str, about("the result in one line")]
    measurements: list[Measurement] = []


class Certificate(Struct, frozen=True, kw_only=True):
    """Whether a sampler is right, with every check."""

    schema: Literal["ggf-certificate/1"] = "ggf-certificate/1"
    ggf: Annotated[str, about("version of ggf")]
    sampler: str
    status: Status
    sentence: Annotated[str, about("the result in one sentence")]
    exit_code: Count
    n: Annotated[Positive, about("samples of each distribution whose marginals are tested")]
    dimension: Annotated[Positive, about("numbers of a sample")]
    seed: Count
    steps: Annotated[Positive | None, about("number of steps; null if the sampler has none")]
    claimed_order: Amount | None
    checks: list[Check]


def finite(value: float) -> float:
    """The value, or HUGE if it is larger in size or not a number."""
    return value if abs(value) < HUGE else HUGE


def worst(statuses: list[Status]) -> Status:
    """The most important of several statuses."""
    return min(statuses, key=WORST_FIRST.index, default="not applicable")
