"""Inspect a model: what its files state, what is assumed, and whether its score can be computed.

The model is loaded as for sampling, so every format that can be loaded can be inspected.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Literal

import torch
from msgspec import Struct, to_builtins
from safetensors import SafetensorError, safe_open

from ggf_cli.checkpoints.documents import ModelEntry
from ggf_cli.checkpoints.load import load_model
from ggf_cli.checkpoints.locate import local_path
from ggf_cli.checkpoints.manifest import find_model
from ggf_cli.checkpoints.stated_sde import split_sde
from ggf_cli.checkpoints.user_code import UserCode
from ggf_cli.documents import Amount, Count, Number, Positive, Sha256, about
from ggf_cli.errors import AssumptionWarning, CheckpointError, GGFError, first_line
from ggf_cli.runtime.precision import noise_at_levels
from ggf_cli.score import ScoreModel

INSPECTION_SCHEMA: Literal["ggf-inspection/1"] = "ggf-inspection/1"
# The key of `ScoreModel.provenance` that a checkpoint has and code of the user lacks.
_NETWORK = "network"


class NetworkSummary(Struct, frozen=True, kw_only=True):
    """The network of a model."""

    name: Annotated[str | None, about("a key of NETWORKS; null for code of the user")]
    parameters: Annotated[Count | None, about("null if the module is not known")]
    config: Annotated[dict[str, Any], about("the arguments of its constructor: its sizes")] = {}


class NoiseLevel(Struct, frozen=True, kw_only=True):
    """The noise level at one time, and the score there of the noise alone, x = sigma z."""

    t: Number
    alpha: Number
    sigma: Number
    score_rms: Annotated[
        Amount | None, about("root mean square of score(x, t); null if not finite or not computed")
    ] = None
    noise_rms: Annotated[
        Amount | None, about("sigma times it; 1 if the network takes all of x for noise")
    ] = None


class ScoreCheck(Struct, frozen=True, kw_only=True):
    """The result of evaluating the score at t_eps and at T."""

    finite: Annotated[bool | None, about("null: it was not evaluated")]
    seconds: Annotated[Amount, about("of the second evaluation, batch size 1")]
    device: str
    problem: Annotated[str | None, about("why it was not evaluated, or null")] = None


class Inspection(Struct, frozen=True, kw_only=True):
    """What is known about a model that can be loaded."""

    schema: Literal["ggf-inspection/1"] = INSPECTION_SCHEMA
    readable: Literal[True] = True
    name: str
    source: Annotated[str, about("embedded:FILE, hub:REPO, drive:ID, file:, folder: or code:")]
    format: Annotated[str, about("native, diffusers, score_sde_pytorch, code, ...")]
    network: NetworkSummary
    parametrization: Annotated[
        str | None, about("how the score is computed from the output; null for code of the user")
    ]
    parametrization_config: dict[str, Any]
    sde: Annotated[dict[str, Any], about("as `SDE.to_dict`")]
    sde_stated: Annotated[str | None, about("the SDE as the user states it, or null")] = None
    noise: Annotated[list[NoiseLevel], about("at t_eps and at T")]
    shape: list[Positive]
    data_range: Annotated[list[Number] | None, about("null: the samples are not images")]
    conditional: bool
    classes: Annotated[Count, about("number of class labels; 0 without, or if not stated")]
    snr: Annotated[Amount | None, about("recommended for the Langevin corrector")]
    license: Annotated[str | None, about("null if it is not stated")]
    sha256: Annotated[Sha256 | None, about("of the weights file")]
    assumptions: Annotated[list[str], about("settings that no file states, a sentence each")]
    missing: Annotated[list[str], about("what must be given with --config; here nothing")] = []
    score: ScoreCheck
    seconds: Annotated[Amount, about("to load the model, with its download")]


class Unreadable(Struct, frozen=True, kw_only=True):
    """Why a model cannot be loaded."""

    schema: Literal["ggf-inspection/1"] = INSPECTION_SCHEMA
    readable: Literal[False] = False
    name: str
    error: str
    hint: str | None
    missing: Annotated[list[str], about("what must be given with --config")]
    exit_code: Positive


def inspect_model(
    name: str | Path,
    *,
    device: str | torch.device = "auto",
    quiet: bool = False,
    config: str | None = None,
) -> Inspection:
    """Load a model, evaluate its score at t_eps and at T, and return everything known about it.

    Args:
        name: As for `load_model`. Code of your own is imported and run.
        device: As for `load_model`.
        quiet: No progress bar while downloading.
        config: As for `load_model`.

    Raises:
        UsageError: No such model, device or config.
        CheckpointError: The checkpoint is missing, corrupt, altered or not supported, or its
            score cannot be computed.
    """
    found = find_model(name)
    clock = perf_counter()
    with warnings.catch_warnings():
        # They are in the result.
        warnings.simplefilter("ignore", AssumptionWarning)
        model = load_model(name, device=device, quiet=quiet, config=config)
    seconds = perf_counter() - clock
    facts: Mapping[str, Any] = model.provenance or {}
    origin = facts.get("origin")
    # Code of the user may have any provenance.
    origin = origin if isinstance(origin, Mapping) else {}
    noise, score = _evaluate(model, facts.get("classes", 0))
    parameters = facts.get("parameters")
    if parameters is None and model.network is not None:
        parameters = sum(weight.numel() for weight in model.network.parameters())
    return Inspection(
        name=model.name,
        source=_source(found),
        format=_format(found, facts, origin),
        network=NetworkSummary(
            name=facts.get(_NETWORK),
            parameters=parameters,
            config=to_builtins(facts.get("network_config", {})),
        ),
        parametrization=facts.get("parametrization"),
        parametrization_config=to_builtins(facts.get("parametrization_config", {})),
        sde=model.sde.to_dict(),
        sde_stated=str(stated) if (stated := split_sde(config)[1]) else None,
        noise=noise,
        shape=list(model.shape),
        data_range=None if model.data_range is None else list(model.data_range),
        conditional=model.conditional,
        classes=facts.get("classes", 0),
        snr=model.recommended.get("snr"),
        license=_license(found, facts, origin),
        sha256=facts.get("sha256") or origin.get("sha256"),
        assumptions=list(facts.get("assumptions", [])),
        score=score,
        seconds=seconds,
    )


def unreadable(name: str | Path, error: GGFError) -> Unreadable:
    """The document for a model that cannot be loaded."""
    hint = error.hint
    missing = [hint] if hint and "`config`" in hint else []
    return Unreadable(
        name=str(name),
        error=error.message,
        hint=hint,
        missing=missing,
        exit_code=error.exit_code,
    )


def _evaluate(model: ScoreModel, classes: int) -> tuple[list[NoiseLevel], ScoreCheck]:
    """The noise levels at t_eps and T, with the score of noise there, one row at a time."""
    xs, ts = (rows.flip(0) for rows in noise_at_levels(model, 2))
    times = ts.to("cpu", torch.float64)
    alphas, sigmas = model.sde.alpha(times).tolist(), model.sde.sigma(times).tolist()
    labels = None
    if model.conditional and model.conditions is None:
        labels = torch.zeros(1, dtype=torch.int64, device=xs.device)
    # Only the conditions of a checkpoint are known to be class labels.
    problem = "its conditions are not known here" if labels is not None and not classes else None
    levels, seconds, finite = [], 0.0, True
    for i, (t, alpha, sigma) in enumerate(zip(times.tolist(), alphas, sigmas, strict=True)):
        rms = math.nan
        if problem is None:
            clock = perf_counter()
            rms = _score_rms(model, xs[i : i + 1], ts[i : i + 1], labels)
            seconds = perf_counter() - clock
        known = math.isfinite(rms)
        finite = finite and known
        levels.append(
            NoiseLevel(
                t=t,
                alpha=alpha,
                sigma=sigma,
                score_rms=rms if known else None,
                noise_rms=sigma * rms if known else None,
            )
        )
    return levels, ScoreCheck(
        finite=finite if problem is None else None,
        seconds=seconds,
        device=str(model.device),
        problem=problem,
    )


@torch.no_grad()
def _score_rms(
    model: ScoreModel, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor | None
) -> float:
    """The root mean square of the score of x at t, both with one row."""
    try:
        score = model.evaluate(x, t) if labels is None else model.score(x, t, labels)
        if score.shape != x.shape:
            raise ValueError(f"it has shape {tuple(score.shape)} for x of shape {tuple(x.shape)}")
        # This waits for the device.
        return float(score.double().square().mean().sqrt())
    except GGFError:
        raise
    # The user's own code can raise anything.
    except Exception as error:
        raise CheckpointError(
            f"the score of {model.name} cannot be computed: {first_line(error)}",
            hint="GGF_DEBUG=1 shows the traceback",
        ) from error


def _source(found: ModelEntry | Path | UserCode) -> str:
    if isinstance(found, UserCode):
        return f"code:{found.text}"
    if isinstance(found, Path):
        # Unlike `Path.is_dir`, this never raises.
        kind = "folder" if os.path.isdir(found) else "file"  # noqa: PTH112
        return f"{kind}:{found}"
    return f"{found.source}@{found.revision}" if found.revision else found.source


def _format(
    found: ModelEntry | Path | UserCode, facts: Mapping[str, Any], origin: Mapping[str, Any]
) -> str:
    """The format of the file. The origin of a converted file has the format that it had before."""
    path = local_path(found) if isinstance(found, ModelEntry) else found
    if isinstance(path, UserCode) or _NETWORK not in facts:
        return "code"
    before = origin.get("format")
    if path is None or path.suffix != ".safetensors":
        return before or "unknown"
    try:
        with safe_open(path, framework="pt") as file:
            native = "ggf" in (file.metadata() or {})
    except (OSError, SafetensorError):
        native = False
    if native and before:
        return f"native, from {before}"
    return "native" if native else before or "unknown"


def _license(
    found: ModelEntry | Path | UserCode, facts: Mapping[str, Any], origin: Mapping[str, Any]
) -> str | None:
    """The licence that the registry, the file or the code states."""
    listed = found.license if isinstance(found, ModelEntry) else ""
    stated = listed or origin.get("license") or facts.get("license")
    return str(stated) if stated and stated != "unknown" else None
