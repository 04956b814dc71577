"""The documents of a run as types: `run.json` and the lines of its journals.

The types are the one definition of these documents: reading checks against them, and the JSON
schema in `ggf_cli/schemas` is generated from them (`python -m ggf_cli.runs.documents`). A reader
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
    LateEndTime,
    Number,
    OptionValue,
    Outcome,
    Positive,
    Sha256,
    Share,
    about,
    json_schema,
)
from ggf_cli.runs.sde_settings import AnySDESettings

RUN_SCHEMA: Literal["ggf-run/1"] = "ggf-run/1"
JOURNAL_SCHEMA = "ggf-journal/1"
RunStatus = Literal["completed", "interrupted", "failed"]

# Network calls, rows and seconds.
Spent = tuple[int, int, float]


class ModelSettings(Struct, kw_only=True):
    """The model of a run."""

    name: str
    source: Annotated[str | None, about("name of the weights file")]
    sha256: Sha256 | None
    sde: AnySDESettings
    shape: list[Positive]
    parameters: Count | None
    images: Annotated[
        bool | UnsetType,
        about("false: the model has no data range, so its samples are stored as states"),
    ] = UNSET
    config: Annotated[str | UnsetType, about("--config: what the checkpoint does not state")] = (
        UNSET
    )
    code: Annotated[
        str | UnsetType, about("the user's own code that was run: FILE.py:OBJECT; sha256 is its")
    ] = UNSET
    weights: Annotated[
        Sha256 | UnsetType, about("of the weights of the user's own network, if it is known")
    ] = UNSET
    assumptions: Annotated[
        list[str] | UnsetType,
        about("what neither the checkpoint nor --config states, and was assumed"),
    ] = UNSET


class SolverSettings(Struct, kw_only=True):
    """The solver of a run, with every option."""

    name: str
    options: dict[str, OptionValue]


class GuidanceSettings(Struct, kw_only=True):
    """Classifier-free guidance."""

    scale: Annotated[Amount, about("1 would have no effect")]
    interval: Annotated[
        Annotated[list[Amount], Meta(min_length=2, max_length=2)] | UnsetType,
        about("smallest and largest noise level sigma / alpha with guidance; absent: all"),
    ] = UNSET


class RunSettings(Struct, kw_only=True):
    """What is decided when a run starts: the first part of `run.json`, and line 1 of a journal."""

    command: Annotated[str, about("repeats the run, with every default spelled out")]
    started_at: DateTime
    model: ModelSettings
    solver: SolverSettings
    t_eps: LateEndTime
    max_nfe: Annotated[
        Positive | UnsetType, about("evaluations after which a sample is given up")
    ] = UNSET
    seed: Count
    conditions: Annotated[
        str | UnsetType, about("the conditions of the samples of a conditional model")
    ] = UNSET
    guidance: Annotated[
        GuidanceSettings | UnsetType, about("a guided evaluation counts as two")
    ] = UNSET
    prior: Annotated[
        str | UnsetType, about("the given states at T; absent: draws from the prior")
    ] = UNSET
    noise: Annotated[
        str | UnsetType,
        about(
            "the noise stream: one name, the same bits on every CPU and CUDA GPU; absent from runs "
            "whose noise came from the maths library of their machine. The arithmetic of network "
            "and solver may differ from machine to machine in its last bits"
        ),
    ] = UNSET
    num_samples: Annotated[Positive, about("samples asked for")]
    indices: Annotated[
        Annotated[str, Meta(pattern="^[0-9,-]+$")] | UnsetType,
        about("the samples asked for, in the order of the grid: 0-63,70"),
    ] = UNSET
    batch_size: Positive
    device: str
    dtype: Annotated[str, about("of the network's input; states are kept in float32 at least")]
    precision: Annotated[str, about("of the network's arithmetic")]
    compiled: bool
    format: Literal["png", "npz", "none"] | UnsetType = UNSET
    arrays: Annotated[
        list[Literal["x", "times"]] | UnsetType,
        about(
            "stored beside the images of .npz files: x, the states; times, the step times of the "
            "first samples"
        ),
    ] = UNSET
    grid: Annotated[
        Annotated[list[Positive], Meta(min_length=2)] | UnsetType,
        about("rows and columns; absent from runs without a grid"),
    ] = UNSET
    trajectory: Annotated[
        Positive | UnsetType,
        about("noise levels of the strips and the animation of the samples on the grid"),
    ] = UNSET
    versions: dict[str, str]


class NFEStatistics(Struct, kw_only=True):
    """Network evaluations per sample, the denoising one included."""

    mean: Number | None
    min: Count | None
    p50: Number | None
    p95: Number | None
    max: Count | None
    total: Count


class Steps(Struct, kw_only=True):
    """Accepted and rejected attempts of all samples."""

    accepted: Count
    rejected: Count


class Timing(Struct, kw_only=True):
    """Seconds and rates."""

    load_s: Amount
    sample_s: Amount
    images_per_s: Amount
    evaluations_per_s: Amount


class SessionLog(Struct, kw_only=True):
    """One process of a run."""

    started_at: DateTime
    launch: Count
    rank: Count
    device: str
    samples: Annotated[Count, about("finished by it")]
    seconds: Annotated[Amount, about("up to its last finished sample, if it was killed")]
    rows_evaluated: Annotated[Count, about("likewise")]


class SampleLog(Struct, kw_only=True):
    """One sample of a run."""

    index: Count
    nfe: Count
    accepted: Count
    rejected: Count
    status: Outcome
    file: str | None


class FileLog(Struct, kw_only=True, frozen=True):
    """One file of a run."""

    path: str
    sha256: Sha256


class RunLog(RunSettings, kw_only=True):
    """run.json of ggf sample"""

    schema: Literal["ggf-run/1"]
    status: Annotated[
        RunStatus,
        about("failed: a sample did not finish, or the run was cut short by an error"),
    ]
    finished_at: DateTime
    nfe: NFEStatistics
    steps: Steps
    network_calls: Annotated[Count, about("of all sessions, as are rows_evaluated and timing")]
    rows_evaluated: Annotated[Count, about("rows over all network calls")]
    utilisation: Annotated[Share, about("evaluations that a sample needed / rows_evaluated")]
    timing: Timing
    peak_memory_bytes: Annotated[
        Count | None,
        about("of the device's allocator on CUDA, of the whole process elsewhere"),
    ]
    sessions: Annotated[
        list[SessionLog] | UnsetType,
        about("the processes that drew the run: launches if it was resumed, ranks under torchrun"),
    ] = UNSET
    samples: list[SampleLog]
    files: list[FileLog]


# --- journal --------------------------------------------------------------------------------

JournalCount = Annotated[int, Meta(ge=0, le=2**53)]
Spending = tuple[JournalCount, JournalCount, Annotated[float, Meta(ge=0, le=2**53)]]


class SettingsLine(RunSettings, kw_only=True):
    """Line 1 of a journal: the settings of the run."""

    schema: Literal["ggf-journal/1"] = "ggf-journal/1"


class Session(Struct, kw_only=True):
    """The process that wrote the next lines."""

    started_at: str
    launch: Annotated[int, Meta(ge=0, le=2**31)]
    rank: Annotated[int, Meta(ge=0, le=2**31)]
    device: str


class WorkerSession(Session, kw_only=True):
    """A session with the lines that follow it.

    Attributes:
        samples: The number of samples that it has finished.
        spent: Network calls, rows and seconds so far.
    """

    samples: int = 0
    spent: Spent = (0, 0, 0.0)


class SessionLine(Struct, kw_only=True):
    """A process starts."""

    session: Session


class ShardLine(Struct, kw_only=True):
    """An .npz file is complete."""

    shard: str
    sha256: Sha256


class SampleLine(Struct, kw_only=True):
    """A sample is finished and on the disk."""

    index: Count
    nfe: JournalCount
    accepted: JournalCount
    rejected: JournalCount
    status: Outcome
    sha256: Sha256 | None
    strip: Annotated[Sha256 | UnsetType, about("sha256 of its strip")] = UNSET
    t: Annotated[float, Meta(ge=-1e9, le=1e9)] | UnsetType = UNSET
    spent: Spending | UnsetType = UNSET


class SpentLine(Struct, kw_only=True):
    """A session ends in good order."""

    spent: Spending


# The types of the lines after the first, by the key that each kind has.
JOURNAL_LINES: dict[str, type[Struct]] = {
    "session": SessionLine,
    "shard": ShardLine,
    "index": SampleLine,
    "spent": SpentLine,
}


def main() -> None:
    """Write the schema files of the package."""
    path = Path(__file__).parents[1] / "schemas/run-1.json"
    path.write_text(json.dumps(json_schema(RunLog, RUN_SCHEMA), indent=1) + "\n")


if __name__ == "__main__":
    main()
