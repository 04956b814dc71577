"""The content of `run.json`: everything needed to understand and to repeat a run.

The JSON schema of "ggf-run/1" is `ggf_cli/schemas/run-1.json`.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

import ggf_cli
from ggf_cli.engine import Engine
from ggf_cli.score import ScoreModel

SCHEMA = "ggf-run/1"


def run_log(
    engine: Engine,
    *,
    status: str,
    command: str,
    started_at: datetime,
    num_samples: int,
    load_s: float,
    sample_s: float,
    samples: Sequence[dict[str, Any]],
    files: Sequence[dict[str, str]],
) -> dict[str, Any]:
    """Assemble the document; see the schema for what each key means."""
    model, solver, progress = engine.model, engine.solver, engine.progress
    done = sum(sample["status"] == "done" for sample in samples)
    return {
        "schema": SCHEMA,
        "status": status,
        "command": command,
        "started_at": started_at.isoformat(timespec="seconds"),
        "finished_at": datetime.now().astimezone().isoformat(timespec="seconds"),
        "model": describe_model(model),
        "solver": {"name": solver.name, "options": solver.options()},
        "t_eps": model.sde.t_eps,
        "seed": engine.seed,
        "num_samples": num_samples,
        "batch_size": engine.batch_size,
        "device": describe_device(torch.device(model.device)),
        "dtype": str(model.dtype).removeprefix("torch."),
        "precision": model.precision,
        "compiled": model.compiled,
        "versions": versions("torch", "numpy", "pillow", "safetensors"),
        "nfe": nfe_statistics([sample["nfe"] for sample in samples]),
        "steps": {
            "accepted": sum(sample["accepted"] for sample in samples),
            "rejected": sum(sample["rejected"] for sample in samples),
        },
        "network_calls": progress.network_calls,
        "rows_evaluated": progress.rows_evaluated,
        "utilisation": progress.utilisation,
        "timing": {
            "load_s": load_s,
            "sample_s": sample_s,
            "images_per_s": done / sample_s if sample_s else 0.0,
            "evaluations_per_s": progress.rows_evaluated / sample_s if sample_s else 0.0,
        },
        "peak_memory_bytes": peak_memory(torch.device(model.device)),
        "samples": list(samples),
        "files": sorted(files, key=lambda file: file["path"]),
    }


def describe_model(model: ScoreModel) -> dict[str, Any]:
    """What a log says of a model."""
    provenance = model.provenance or {}
    return {
        "name": model.name,
        "source": provenance.get("file"),
        "sha256": provenance.get("sha256"),
        "sde": model.sde.to_dict(),
        "shape": list(model.shape),
        "parameters": provenance.get("parameters"),
    }


def versions(*packages: str) -> dict[str, str]:
    """Of this program, of Python, and of packages."""
    return {
        "ggf-cli": ggf_cli.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def nfe_statistics(nfe: Sequence[int]) -> dict[str, float | int | None]:
    """Mean, minimum, median, 95th percentile, maximum and sum; None where there are no samples."""
    if not nfe:
        return dict.fromkeys(("mean", "min", "p50", "p95", "max"), None) | {"total": 0}
    p50, p95 = np.percentile(nfe, [50, 95])
    return {
        "mean": float(np.mean(nfe)),
        "min": min(nfe),
        "p50": float(p50),
        "p95": float(p95),
        "max": max(nfe),
        "total": sum(nfe),
    }


def describe_device(device: torch.device) -> str:
    """ "cpu (2 threads)" or "cuda:0 (NVIDIA H100)"."""
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def peak_memory(device: torch.device) -> int | None:
    """Peak bytes of the device's allocator, else of the whole process; None where nobody knows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
