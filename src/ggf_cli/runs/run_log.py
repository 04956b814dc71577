"""Assemble `run.json`: everything needed to understand and to repeat a run.

Its type is `documents.RunLog`; the JSON schema in `ggf_cli/schemas` is generated from it.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version

import numpy as np
import torch
from msgspec import UNSET

import ggf_cli
from ggf_cli.adapters import weights_sha256
from ggf_cli.documents import as_json, convert
from ggf_cli.engine import Engine
from ggf_cli.guidance import Guidance
from ggf_cli.noise import STREAM
from ggf_cli.runs.documents import (
    RUN_SCHEMA,
    FileLog,
    GuidanceSettings,
    ModelSettings,
    NFEStatistics,
    RunLog,
    RunSettings,
    RunStatus,
    SampleLog,
    SessionLog,
    SolverSettings,
    Steps,
    Timing,
    WorkerSession,
)
from ggf_cli.runs.sample_files import ExtraArray, Format
from ggf_cli.score import ScoreModel


def run_settings(
    engine: Engine,
    indices: Sequence[int],
    *,
    command: str,
    started_at: datetime,
    format: Format,
    grid: tuple[int, int] | None,
    arrays: Sequence[ExtraArray] = (),
    trajectory: int | None = None,
) -> RunSettings:
    """The settings of a run: the part of `run.json` that is known at the start."""
    model, solver = engine.model, engine.solver
    return RunSettings(
        command=command,
        started_at=started_at.isoformat(timespec="seconds"),
        model=model_settings(model),
        solver=SolverSettings(name=solver.name, options=solver.options()),
        t_eps=model.sde.t_eps,
        max_nfe=engine.max_nfe,
        seed=engine.seed,
        conditions=model.conditions.description if model.conditions else UNSET,
        guidance=guidance_settings(model.guidance) if model.guidance else UNSET,
        prior=engine.prior.given.description if engine.prior.given else UNSET,
        noise=STREAM,
        num_samples=len(indices),
        indices=as_ranges(indices),
        batch_size=engine.batch_size,
        device=describe_device(torch.device(model.device)),
        dtype=str(model.dtype).removeprefix("torch."),
        precision=model.precision,
        compiled=model.compiled,
        format=format,
        grid=list(grid) if grid else UNSET,
        arrays=list(arrays) if arrays else UNSET,
        trajectory=trajectory or UNSET,
        versions=versions("torch", "numpy", "pillow", "safetensors"),
    )


def guidance_settings(guidance: Guidance) -> GuidanceSettings:
    """The description of guidance in a log."""
    interval = UNSET if guidance.interval is None else list(guidance.interval)
    return GuidanceSettings(scale=guidance.scale, interval=interval)


def run_log(
    settings: RunSettings,
    *,
    status: RunStatus,
    sessions: Sequence[WorkerSession],
    running_nfe: int,
    load_s: float,
    samples: Sequence[SampleLog],
    files: Sequence[FileLog],
    device: torch.device,
) -> RunLog:
    """Assemble the content of `run.json`. `documents.RunLog` describes its keys.

    Args:
        settings: The settings of the run.
        status: "completed", "interrupted" or "failed".
        sessions: The session of each process.
        running_nfe: Evaluations of the samples that were unfinished at an interruption.
        load_s: Seconds from the start to the first evaluation.
        samples: The line of each finished sample.
        files: Path and sha256 of each written file.
        device: The device whose peak memory is recorded.
    """
    done = sum(sample.status == "done" for sample in samples)
    nfe = [sample.nfe for sample in samples]
    needed = sum(nfe) + running_nfe
    calls = sum(session.spent[0] for session in sessions)
    rows = sum(session.spent[1] for session in sessions)
    sample_s = _wall_time(sessions)
    return RunLog(
        **{name: getattr(settings, name) for name in RunSettings.__struct_fields__},
        schema=RUN_SCHEMA,
        status=status,
        finished_at=datetime.now().astimezone().isoformat(timespec="seconds"),
        nfe=nfe_statistics(nfe),
        steps=Steps(
            accepted=sum(sample.accepted for sample in samples),
            rejected=sum(sample.rejected for sample in samples),
        ),
        network_calls=calls,
        rows_evaluated=rows,
        utilisation=min(1.0, needed / rows) if rows else 1.0,
        timing=Timing(
            load_s=load_s,
            sample_s=sample_s,
            images_per_s=done / sample_s if sample_s else 0.0,
            evaluations_per_s=rows / sample_s if sample_s else 0.0,
        ),
        peak_memory_bytes=peak_memory(device),
        sessions=[_session_log(session) for session in sessions],
        samples=list(samples),
        files=sorted(files, key=lambda file: file.path),
    )


def encode_log(log: RunLog) -> bytes:
    """Encode a run log as the content of `run.json`."""
    return as_json(log, first=("schema", "status"))


def _session_log(session: WorkerSession) -> SessionLog:
    _, rows, seconds = session.spent
    return SessionLog(
        started_at=session.started_at,
        launch=session.launch,
        rank=session.rank,
        device=session.device,
        samples=session.samples,
        seconds=seconds,
        rows_evaluated=rows,
    )


def _wall_time(sessions: Sequence[WorkerSession]) -> float:
    """Seconds of sampling: the sum over launches of the slowest process of each."""
    slowest: dict[int, float] = {}
    for session in sessions:
        seconds = float(session.spent[2])
        slowest[session.launch] = max(slowest.get(session.launch, 0.0), seconds)
    return sum(slowest.values())


def as_ranges(indices: Sequence[int]) -> str:
    """Write indices as ranges, [9, 2, 3] -> "9,2-3", the form of `ggf sample --indices`."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and index == parts[-1][-1] + 1:
            parts[-1][1:] = [index]
        else:
            parts.append([index])
    return ",".join("-".join(map(str, part)) for part in parts)


def from_ranges(text: str) -> list[int]:
    """Read ranges, "9,2-3" -> [9, 2, 3]: the inverse of `as_ranges`."""
    bounds = (part.partition("-")[::2] for part in text.split(",") if part)
    return [i for first, last in bounds for i in range(int(first), int(last or first) + 1)]


# Entries of the provenance that a log has only if they are there.
_STATED = ("config", "code", "assumptions")


def model_settings(model: ScoreModel) -> ModelSettings:
    """The description of a model in a log."""
    provenance = model.provenance or {}
    sde = {"data_range": list(model.sde.data_range)}
    return convert(
        {
            "name": model.name,
            "source": provenance.get("file"),
            "sha256": provenance.get("sha256"),
            "sde": model.sde.to_dict() | sde,
            "shape": list(model.shape),
            "parameters": provenance.get("parameters"),
            **({"images": False} if model.data_range is None else {}),
            **_own_weights(model),
            **{key: provenance[key] for key in _STATED if provenance.get(key)},
        },
        ModelSettings,
    )


def _own_weights(model: ScoreModel) -> dict[str, str]:
    """The hash of the weights of the user's own network; those of a checkpoint are in its file."""
    provenance = model.provenance or {}
    if model.network is None or ("sha256" in provenance and "code" not in provenance):
        return {}
    return {"weights": weights_sha256(model.network)}


def versions(*packages: str) -> dict[str, str]:
    """The versions of ggf-cli, Python and the given packages."""
    return {
        "ggf-cli": ggf_cli.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def nfe_statistics(nfe: Sequence[int]) -> NFEStatistics:
    """Mean, minimum, median, 95th percentile, maximum and sum; None without samples."""
    if not nfe:
        return NFEStatistics(mean=None, min=None, p50=None, p95=None, max=None, total=0)
    p50, p95 = np.percentile(nfe, [50, 95])
    return NFEStatistics(
        mean=float(np.mean(nfe)),
        min=min(nfe),
        p50=float(p50),
        p95=float(p95),
        max=max(nfe),
        total=sum(nfe),
    )


def describe_device(device: torch.device) -> str:
    """Describe a device, such as "cpu (2 threads)" or "cuda:0 (NVIDIA H100)"."""
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def peak_memory(device: torch.device) -> int | None:
    """Peak bytes of the device's allocator on CUDA, of the process elsewhere; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    # Windows.
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
