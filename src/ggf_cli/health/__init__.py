"""Check that this installation works: `examine` runs the checks, `ggf doctor` prints the results.

A check is a function without arguments. It returns a `Finding`, or raises the `GGFError` that a
user would get. To add a check, add a line to the table `CHECKS`. This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ggf_cli.errors import GGFError
from ggf_cli.registry import Entry

OK: Literal["ok"] = "ok"
# A feature that not everyone needs does not work, or not well.
WARNING: Literal["warning"] = "warning"
FAILED: Literal["failed"] = "failed"

CHECKS: dict[str, Entry] = {
    "versions": Entry("ggf_cli.health.software:versions", "ggf, Python, packages, system"),
    "compiler": Entry("ggf_cli.health.software:compiler", "the C++ compiler for --compile on CPUs"),
    "devices": Entry("ggf_cli.health.devices:devices", "devices on which networks can run"),
    "memory": Entry(
        "ggf_cli.health.devices:memory", "memory of the machine, limit of this process"
    ),
    "folders": Entry("ggf_cli.health.folders:folders", "write access and free disk space"),
    "package": Entry("ggf_cli.health.weights:package", "sha256 of the model files in the package"),
    "cache": Entry("ggf_cli.health.weights:cache", "sha256 of the downloaded checkpoints"),
    "hub": Entry("ggf_cli.health.hub:hub", "whether models can be downloaded (with --hub)"),
    "self-test": Entry(
        "ggf_cli.health.selftest:selftest", "samples of a model with a known distribution"
    ),
}
MODEL = Entry("ggf_cli.health.model:model", "a model can be loaded, its score is as expected")
# Checks that use the network, and run only on request.
NETWORK = {"hub"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of a check.

    Attributes:
        summary: The result in one line.
        facts: The result in detail, as JSON data.
        status: "ok", "warning" or "failed".
        hint: What the user can do, unless the status is "ok".
        exit_code: The exit code of the command, if the check failed.
    """

    summary: str
    facts: dict[str, Any] = field(default_factory=dict)
    status: Literal["ok", "warning", "failed"] = OK
    hint: str | None = None
    exit_code: int = 0


def examine(*, hub: bool = False, model: str | None = None) -> Iterator[tuple[str, Finding]]:
    """Run the checks one after the other, and yield the name and the finding of each.

    Args:
        hub: Also check the hub.
        model: Also load this model and evaluate its score: a name, a path, or the user's own code.
    """
    for name, check in CHECKS.items():
        if hub or name not in NETWORK:
            yield name, _find(check)
    if model is not None:
        yield "model", _find(MODEL, model)


def _find(check: Entry, *arguments: str) -> Finding:
    """Run a check, and turn an exception into a finding."""
    try:
        finding: Finding = check.load()(*arguments)
    except GGFError as error:
        return Finding(
            summary=error.message, status=FAILED, hint=error.hint, exit_code=error.exit_code
        )
    # For example, torch cannot be loaded.
    except Exception as error:  # noqa: BLE001
        return Finding(
            summary=f"{type(error).__name__}: {error}",
            status=FAILED,
            hint="reinstall ggf-cli and its dependencies; if the error remains, this is a bug",
            exit_code=1,
        )
    return finding
