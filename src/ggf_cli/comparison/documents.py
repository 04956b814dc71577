"""The document of a comparison as types: `compare.json`.

The types are the one definition: reading checks against them, and the JSON schema in
`ggf_cli/schemas` is generated from them (`python -m ggf_cli.comparison.documents`). A reader
ignores keys that it does not have, since a later version may write more.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from ggf_cli.documents import (
    Amount,
    Count,
    DateTime,
    Number,
    OptionValue,
    Positive,
    Share,
    about,
    json_schema,
)
from ggf_cli.runs.documents import (
    FileLog,
    GuidanceSettings,
    ModelSettings,
    NFEStatistics,
    Steps,
)

COMPARE_SCHEMA = "ggf-compare/2"
# There `pieces` counts the repeats, with samples in `samples/*.npz`; `tied` is indistinguishable.
FORMER_SCHEMA = "ggf-compare/1"

Values = Annotated[list[Number], Meta(min_length=1)]


class ComparedModel(ModelSettings, kw_only=True):
    """The model of a comparison."""

    exact: Annotated[bool, about("its score and its distribution are known exactly")]
    summary: str | None


class FloorLog(Struct, kw_only=True):
    """The metric of as many real or exact samples."""

    values: Values
    mean: Number
    se: Amount | None
    what: str


class MetricLog(Struct, kw_only=True):
    """A metric of a comparison."""

    name: str
    title: str
    summary: str
    lower_is_better: bool
    digits: Annotated[int, Meta(ge=0, le=12, description="decimals to print")]
    floor: FloorLog | None
    dimensions: Annotated[
        Count | UnsetType,
        about("number of features; from n = twice as many, values are extrapolated in 1 / n"),
    ] = UNSET
    notes: list[str]


class StatementLog(Struct, kw_only=True):
    """What a comparison shows about the difference of a setting and the baseline."""

    baseline: Annotated[str, about("id of a cell: the reference, else that with the highest NFE")]
    claim: Annotated[
        Literal["better", "equivalent", "not worse", "worse", "undecided"],
        about("equivalent: the interval lies within the margin; not worse: below it"),
    ]
    difference: Annotated[
        Number, about("of the first metric, for n -> infinity if known; negative: better")
    ]
    half: Annotated[
        Amount | None,
        about("half-width of the interval; all of a comparison hold together with 95 %"),
    ]
    margin: Amount
    samples: Annotated[Count | None, about("about as many would decide; null if decided")]


class Quality(Struct, kw_only=True):
    """A metric of a cell."""

    values: Annotated[Values, about("one for each repeat")]
    groups: Annotated[
        Values,
        about("numbers for groups of samples, with the mean and the variance of the value"),
    ]
    mean: Number
    se: Annotated[Amount | None, about("standard error; null for one group")]
    excess: Annotated[
        Values | UnsetType,
        about("how much each value exceeds its limit for n -> infinity, on average"),
    ] = UNSET


class StepSizes(Struct, kw_only=True):
    """Percentiles of accepted step sizes in bins of t; null in a bin without steps."""

    t: Annotated[list[Number], about("bin centres, falling")]
    p10: list[Number | None]
    p50: list[Number | None]
    p90: list[Number | None]


class Published(Struct, kw_only=True):
    """The numbers of the paper for a setting."""

    nfe: Amount | None
    fid: Amount | None


class CellLog(Struct, kw_only=True):
    """A cell: one solver with one set of options. Measured fields are null unless it is done."""

    id: Annotated[str, about("unique; the name of its folder in `cells`")]
    label: str
    series: Annotated[str, about("cells of one series are one line in the plots")]
    solver: str
    options: Annotated[dict[str, OptionValue], about("every option of the solver")]
    given: Annotated[dict[str, OptionValue], about("the options that are not at their defaults")]
    adaptive: bool
    role: Annotated[
        Literal["contender", "matched", "reference"],
        about("matched: run at the mean NFE of the cell that `matches` names"),
    ]
    matches: Annotated[str | None, about("id of a cell")]
    status: Literal["done", "failed", "pending"]
    error: str | None
    command: Annotated[str, about("draws samples with this setting")]
    runs: Annotated[
        list[str] | UnsetType, about("the folder of the run of each repeat that was drawn")
    ] = UNSET
    pieces: Annotated[Count | UnsetType, about(f"{FORMER_SCHEMA}: repeats drawn")] = UNSET
    quality: Annotated[dict[str, Quality], about("by the name of the metric")]
    nfe: NFEStatistics | None
    nfe_counts: Annotated[dict[str, Count] | None, about("{NFE: number of samples with it}")]
    steps: Steps | None
    lost: Annotated[Count | None, about("samples that did not reach the end")]
    utilisation: Annotated[Share | None, about("evaluations that a sample needed / rows_evaluated")]
    rows_evaluated: Annotated[Count | None, about("rows over all network calls")]
    network_calls: Count | None
    seconds: Amount | None
    images_per_s: Amount | None
    evaluations_per_s: Amount | None
    peak_memory_bytes: Annotated[
        Count | None,
        about("of the device's allocator on CUDA, of the whole process elsewhere"),
    ]
    step_sizes: StepSizes | None
    published: Published | None
    best: Annotated[bool, about("best mean of the first metric")]
    statement: Annotated[
        StatementLog | UnsetType | None, about("null for the baseline and without a value")
    ] = UNSET
    indistinguishable: Annotated[
        bool | UnsetType,
        about("of an earlier version: no significant difference from the best"),
    ] = UNSET


class Recommendation(Struct, kw_only=True):
    """The cheapest setting that is shown to be at most a margin worse than the baseline."""

    overall: Annotated[str | None, about("id of a cell; null if none is shown to be")]
    by_series: dict[str, str]
    within: Annotated[Amount, about("the margin, a share of the value of the baseline")]
    text: str


class TimeLog(Struct, kw_only=True):
    """The planned and the taken time, in seconds, from the start of the command."""

    planned_s: Annotated[Amount, about("as planned before anything was drawn")]
    measuring_s: Annotated[Amount, about("of it, to measure speed and NFE")]
    taken_s: Annotated[Amount, about("until this document was written, over all launches")]


class CompareLog(Struct, kw_only=True):
    """compare.json of ggf compare"""

    schema: Literal["ggf-compare/2", "ggf-compare/1"]
    status: Annotated[
        Literal["completed", "interrupted"], about("interrupted: some cells are pending")
    ]
    command: Annotated[str, about("repeats the comparison, with every default spelled out")]
    started_at: DateTime
    finished_at: DateTime
    model: ComparedModel
    device: str
    precision: str
    compiled: bool
    batch_size: Positive
    conditions: Annotated[
        str | UnsetType, about("the conditions of the samples of a conditional model")
    ] = UNSET
    guidance: GuidanceSettings | UnsetType = UNSET
    versions: dict[str, str]
    seed: Count
    n: Annotated[Positive, about("samples of one repeat of one cell")]
    repeats: Annotated[
        Positive,
        about("repeat r has the sample indices r n .. r n + n - 1 of the seed, in every cell"),
    ]
    budget_s: Annotated[Amount | None, about("time that n was chosen for")]
    margin: Annotated[Amount | UnsetType, about("of equivalence, a share")] = UNSET
    statements: Annotated[
        Count | UnsetType, about("number of statements whose intervals hold together with 95 %")
    ] = UNSET
    time: TimeLog | UnsetType = UNSET
    threads: Annotated[Positive | UnsetType, about("threads of the CPU that evaluates")] = UNSET
    preset: str | None
    notes: list[str]
    metrics: Annotated[
        list[MetricLog], about("the first one decides; empty where the model has no reference")
    ]
    cells: list[CellLog]
    findings: list[str]
    costs: Annotated[
        list[str] | UnsetType, about("seconds and images/s of the settings, a sentence each")
    ] = UNSET
    recommendation: Annotated[Recommendation | None, about("null without metrics")]
    files: list[FileLog]


def main() -> None:
    """Write the schema file of the package."""
    path = Path(__file__).parents[1] / "schemas/compare-2.json"
    path.write_text(json.dumps(json_schema(CompareLog, COMPARE_SCHEMA), indent=1) + "\n")


if __name__ == "__main__":
    main()
