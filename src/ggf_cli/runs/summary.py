"""Summarise a run as (key, text) pairs, from the content of its `run.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import UNSET, structs, to_builtins

from ggf_cli.documents import OptionValue
from ggf_cli.registry import SDE_TITLES
from ggf_cli.runs.documents import GuidanceSettings, RunLog, SolverSettings
from ggf_cli.solvers.catalog import as_text, flag, read_catalog


def run_summary(log: RunLog, image: str | None = None) -> Iterator[tuple[str, str]]:
    """Summarise a run as (key, text) pairs.

    Args:
        log: The content of its `run.json`.
        image: The image of one of its samples, to be described first.
    """
    model, solver, timing = log.model, log.solver, log.timing
    accepted, rejected = log.steps.accepted, log.steps.rejected
    failed = [sample for sample in log.samples if sample.status != "done"]
    done = len(log.samples) - len(failed)
    for s in log.samples if image else ():
        if s.file == image:
            steps = f"{s.accepted:,} accepted · {s.rejected:,} rejected"
            yield "image", f"sample {s.index} · NFE {s.nfe:,} · {steps}"
    yield "run", f"{log.status} · {log.started_at} to {log.finished_at}".replace("T", " ")
    size = f" · {model.parameters:,} parameters" if model.parameters else ""
    yield "model", f"{model.name} · {'×'.join(map(str, model.shape))}{size}"
    yield "weights", f"{model.source or 'no file'} · sha256 {(model.sha256 or 'unknown')[:16]}"
    if model.code is not UNSET:
        yield "code", f"{model.code} (your own code, run when the model is loaded)"
    if model.weights is not UNSET:
        yield "own weights", f"sha256 {model.weights[:16]}"
    if model.config is not UNSET:
        yield "config", model.config
    for sentence in () if model.assumptions is UNSET else model.assumptions:
        yield "assumed", sentence
    sde = {**to_builtins(model.sde), "t_eps": log.t_eps}
    parameters = [
        f"{key} {value}"
        for key, value in sde.items()
        if key not in ("name", "data_range", "times", "alpha", "sigma")
    ]
    yield "SDE", " · ".join([SDE_TITLES[sde["name"]], *parameters])
    yield "solver", solver.name
    yield from _options(solver, model.sde.data_range)
    samples = f"{done} of {log.num_samples} · seed {log.seed} · batch size {log.batch_size}"
    yield "samples", samples
    if log.conditions is not UNSET:
        yield "conditions", log.conditions
    if log.guidance is not UNSET:
        yield "guidance", _guidance(log.guidance)
    if log.prior is not UNSET:
        yield "prior", f"given states, {log.prior}"
    if failed:
        some = [f"{s.index} ({s.status} after {s.nfe} evaluations)" for s in failed[:4]]
        some += [f"{len(failed) - 4} more"] if failed[4:] else []
        yield "failed", f"{len(failed)}: {', '.join(some)}"
    if log.samples:
        nfe = {k: v for k, v in structs.asdict(log.nfe).items() if v is not None}
        yield "NFE", " · ".join(f"{key} {_round(value)}" for key, value in nfe.items())
    share = f" ({rejected / (accepted + rejected):.1%})" if rejected else ""
    yield "steps", f"{accepted:,} accepted · {rejected:,} rejected{share}"
    calls = f"{log.network_calls:,} calls · {log.rows_evaluated:,} rows"
    yield "network", f"{calls} · utilisation {log.utilisation:.1%}"
    images, evaluations = _rate(timing.images_per_s), _rate(timing.evaluations_per_s)
    took = f"load {timing.load_s:.1f} s · sampling {timing.sample_s:.1f} s"
    yield "time", f"{took} · {images} images/s · {evaluations} evaluations/s"
    if log.noise is not UNSET:
        yield "noise", log.noise
    memory = log.peak_memory_bytes
    yield "memory", "unknown" if memory is None else f"{memory / 1e6:,.0f} MB at its peak"
    yield "device", f"{log.device} · {log.dtype}"
    yield from version_summary(log.versions)


def _guidance(guidance: GuidanceSettings) -> str:
    if guidance.interval is UNSET:
        return f"scale {guidance.scale:g}"
    low, high = guidance.interval
    return f"scale {guidance.scale:g} · sigma / alpha from {low:g} to {high:g}"


def version_summary(versions: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Summarise {package: version} as one (key, text) pair."""
    yield "versions", " · ".join(f"{name} {number}" for name, number in versions.items())


def _options(solver: SolverSettings, data_range: list[float]) -> Iterator[tuple[str, str]]:
    """The options of a solver: first those that were changed, then those at their default."""
    catalog = read_catalog()
    known = catalog[solver.name].options if solver.name in catalog else {}
    changed, same = [], []
    for name, value in solver.options.items():
        default = known[name].default if name in known else value
        if name == "eps_abs" and default is None:
            # The default of the paper, as in SDE.eps_abs.
            default = (max(data_range) - min(data_range)) / 256
        if value == default:
            same += [] if value is None else [_flag(name, value)]
        else:
            usual = "none" if default is None else _flag(name, default).split(" ")[-1]
            changed.append(f"{_flag(name, value)} (default {usual})")
    if changed:
        yield "changed", " · ".join(changed)
    if same:
        yield "default", " · ".join(same)


def _flag(name: str, value: OptionValue) -> str:
    if isinstance(value, bool):
        return flag(name if value else f"no_{name}")
    return f"{flag(name)} {as_text(value)}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _round(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")
