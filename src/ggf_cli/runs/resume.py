"""Resume a run: find the earlier run in its folder, and compare its settings with the new ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

from msgspec import UNSET, UnsetType, to_builtins

from ggf_cli.errors import OutputError
from ggf_cli.runs.documents import GuidanceSettings, RunLog, RunSettings
from ggf_cli.runs.history import History, is_there, journal_path, read_history, read_settings
from ggf_cli.runs.layout import RUN_LOG
from ggf_cli.runs.load import find_record
from ggf_cli.solvers.catalog import as_text

_OPTIONS = ("max_nfe", "seed", "indices", "batch_size", "precision", "format", "grid")
# Not compared with a run that does not state them.
_IF_STATED = (*(f"`{name}`" for name in _OPTIONS), "the weights")


def find_earlier_run(folder: Path, settings: RunSettings) -> History | RunLog | None:
    """Find the run to resume: its history if it has not ended, else its log; None without a run.

    Args:
        folder: The folder of the run.
        settings: The settings of the run that resumes it.

    Raises:
        OutputError: The folder holds another run, one that cannot be resumed, or a damaged one.
    """
    journal, log = journal_path(folder, 0), None
    try:
        unended = is_there(journal)
        if not unended and not is_there(folder / RUN_LOG):
            return None
    except OSError as error:
        raise OutputError(f"cannot read {folder}: {error.strerror}") from error
    if not unended:
        log = find_record(folder / RUN_LOG).log
    # Compared before all of the journal is read: that of another run may have any length.
    if different := setting_changes(log or read_settings(journal), settings):
        raise OutputError(
            f"{folder} holds a run with other settings: {'; '.join(different)}",
            hint="resume with its settings, or give another folder with `out`",
        )
    if log and len(log.samples) < log.num_samples:
        raise OutputError(
            f"the run in {folder} did not end, and its journal is missing",
            hint="draw it again with `force=True`",
        )
    return log or read_history(folder)


def setting_changes(before: RunSettings, now: RunSettings) -> list[str]:
    """Changes of settings that change the samples or their files, each as "`seed` was 0, is 1".

    Args:
        before: The settings of the earlier run, from its journal or its `run.json`. Settings that
            an earlier version did not write are not compared.
        now: The settings of the new run.
    """
    was, is_ = _compared(before), _compared(now)
    names = [name for name in is_ if name in was]
    if was["`solver`"] == is_["`solver`"]:
        names += [name for name in {**was, **is_} if (name in was) != (name in is_)]
    missing = "not given"
    return [
        f"{name} was {_short(was.get(name, missing))}, is {_short(is_.get(name, missing))}"
        for name in names
        if was.get(name, missing) != is_.get(name, missing)
        and not (name in _IF_STATED and name not in was)
    ]


def reproducibility_warnings(before: RunSettings, now: RunSettings) -> list[str]:
    """Changes of device, noise or versions, which may change the last bits of a sample."""
    # The first version did not record the noise.
    noise = "that of the maths library" if before.noise is UNSET else before.noise
    then = {"the device": before.device, "the noise": noise, **before.versions}
    today = {"the device": now.device, "the noise": now.noise, **now.versions}
    return [
        f"{name} was {then.get(name)}, is {today[name]}: samples may differ in their last bits"
        for name in today
        if then.get(name) != today[name] and name not in ("pillow", "safetensors")
    ]


def _compared(settings: RunSettings) -> dict[str, object]:
    """The settings that must not change, by the name that a message uses."""
    model, solver = settings.model, settings.solver
    sde = to_builtins(model.sde)
    del sde["t_eps"]
    given = {name: getattr(settings, name) for name in _OPTIONS}
    return {
        "the model": model.sha256 or model.name,
        **({} if model.weights is UNSET else {"the weights": model.weights}),
        "`config`": None if model.config is UNSET else model.config,
        "the SDE": json.dumps(sde, sort_keys=True),
        "`solver`": solver.name,
        "`t_eps`": settings.t_eps,
        "the device": re.split("[ :(]", settings.device)[0],
        "the dtype": settings.dtype,
        "`compile`": settings.compiled,
        **{f"`{name}`": value for name, value in given.items() if value is not UNSET},
        "the conditions": None if settings.conditions is UNSET else settings.conditions,
        "`guidance`": None if settings.guidance is UNSET else settings.guidance.scale,
        "`guidance_interval`": _interval(settings.guidance),
        "the prior": None if settings.prior is UNSET else settings.prior,
        "`trajectory`": None if settings.trajectory is UNSET else settings.trajectory,
        "the arrays": [] if settings.arrays is UNSET else settings.arrays,
        # Earlier versions wrote a sequence of numbers as text.
        **{
            f"`{name}`": as_text(value) if isinstance(value, list) else value
            for name, value in solver.options.items()
        },
    }


def _interval(guidance: GuidanceSettings | UnsetType) -> str | None:
    if guidance is UNSET or guidance.interval is UNSET:
        return None
    return as_text(guidance.interval)


def _short(value: object) -> str:
    # A grid.
    if isinstance(value, list):
        return "x".join(map(str, value))
    text = str(value)
    return text if len(text) <= 40 else f"{text[:16]}…{text[-16:]}"
