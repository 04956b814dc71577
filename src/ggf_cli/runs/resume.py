"""Whether two runs are the same run: everything that samples and files depend on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from ggf_cli.errors import OutputError
from ggf_cli.runs.schema import misfits
from ggf_cli.solvers.catalog import flag

_FRAME = (
    "command", "started_at", "model", "solver", "t_eps", "seed", "num_samples", "batch_size", "device", "dtype", "precision",
    "compiled", "versions",
)  # fmt: skip
_OPTIONS = ("max_nfe", "seed", "indices", "batch_size", "precision", "format", "grid")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What makes two runs different ones, as "--seed was 0, is 1".

    Args:
        before: The frame of a run, from its journal or its `run.json`; what an earlier version did not write is let pass.
        now: The frame of the other.

    Raises:
        OutputError: The former is no frame of a run.
    """
    told = {key: value for key, value in before.items() if key != "schema"}
    if told == (now := json.loads(json.dumps(now))):
        return []
    if misfit := next(misfits(before, _frame_schema(), "it"), None):
        raise OutputError(
            f"the folder holds a run whose settings are damaged: {misfit}",
            hint="start anew with --force, or give another --out",
        )
    was, is_ = _identity(before), _identity(now)
    names = [name for name in is_ if name in was]
    if was["--solver"] == is_["--solver"]:
        names += [name for name in {**was, **is_} if (name in was) != (name in is_)]
    missing = "not there"
    return [
        f"{name} was {_short(was.get(name, missing))}, is {_short(is_.get(name, missing))}"
        for name in names
        if was.get(name, missing) != is_.get(name, missing)
        and not (name in map(flag, _OPTIONS) and name not in was)
    ]


def remarks(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What may change the last bits of a sample without making it another run."""
    noise = before.get("noise", "that of the maths library")  # as it was before it had a name
    then = {"the device": before["device"], "the noise": noise, **before["versions"]}
    today = {"the device": now["device"], "the noise": now["noise"], **now["versions"]}
    return [
        f"{name} was {then.get(name)}, is {today[name]}: samples may differ in their last bits"
        for name in today
        if then.get(name) != today[name] and name not in ("pillow", "safetensors")
    ]


@cache
def _frame_schema() -> dict[str, Any]:
    """The schema of `run.json`, as far as it is about what is known at the start."""
    schema = json.loads((files("ggf_cli") / "schemas/run-1.json").read_text(encoding="utf-8"))
    return {**schema, "required": _FRAME}


def _identity(frame: Mapping[str, Any]) -> dict[str, Any]:
    model, solver = frame["model"], frame["solver"]
    sde = {key: value for key, value in model["sde"].items() if key != "t_eps"}
    return {
        "the model": model["sha256"] or model["name"],
        "--config": model.get("config"),
        "the SDE": json.dumps(sde, sort_keys=True),
        "--solver": solver["name"],
        "--t-eps": frame["t_eps"],
        "the device": re.split("[ :(]", frame["device"])[0],
        "the dtype": frame["dtype"],
        "--compile": frame["compiled"],
        **{flag(key): frame[key] for key in _OPTIONS if key in frame},
        **{flag(name): value for name, value in solver["options"].items()},
    }


def _short(value: Any) -> str:
    if isinstance(value, list):  # a grid
        return "x".join(map(str, value))
    text = str(value)
    return text if len(text) <= 40 else f"{text[:16]}…{text[-16:]}"
