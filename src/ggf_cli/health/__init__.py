"""Whether this installation can do what it should: `examine` looks, `ggf doctor` tells. Importing this imports no torch.

A check is a function without arguments that returns a `Finding`, or raises the `GGFError` that a user would meet. A new one is a
line in the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ggf_cli.errors import GGFError
from ggf_cli.registry import Entry

OK: Literal["ok"] = "ok"
WARNING: Literal["warning"] = (
    "warning"  # something will not work, or not well, that not everyone needs
)
FAILED: Literal["failed"] = "failed"

CHECKS: dict[str, Entry] = {
    "versions": Entry("ggf_cli.health.software:versions", "ggf, Python, packages, system"),
    "compiler": Entry("ggf_cli.health.software:compiler", "what --compile needs on CPUs"),
    "devices": Entry("ggf_cli.health.devices:devices", "what networks can run on"),
    "memory": Entry("ggf_cli.health.devices:memory", "of the machine, and what this process may use"),
    "folders": Entry("ggf_cli.health.folders:folders", "where ggf writes, and how much room is there"),
    "package": Entry("ggf_cli.health.weights:package", "sha256 of the files that ggf comes with"),
    "cache": Entry("ggf_cli.health.weights:cache", "sha256 of the downloaded checkpoints"),
    "hub": Entry("ggf_cli.health.hub:hub", "whether models can be downloaded (with --hub)"),
    "self-test": Entry("ggf_cli.health.selftest:selftest", "samples of an exactly known model"),
}  # fmt: skip
NETWORK = {"hub"}  # asked for, or left out


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found.

    Attributes:
        summary: In one line.
        facts: The same and more as JSON data.
        status: "ok", "warning" or "failed".
        hint: What helps, unless it is ok.
        exit_code: Of the command, if it failed.
    """

    summary: str
    facts: dict[str, Any] = field(default_factory=dict)
    status: Literal["ok", "warning", "failed"] = OK
    hint: str | None = None
    exit_code: int = 0


def examine(*, hub: bool = False) -> Iterator[tuple[str, Finding]]:
    """Do one check after the other, and yield its name with what it found.

    Args:
        hub: Ask the hub too.
    """
    for name, check in CHECKS.items():
        if hub or name not in NETWORK:
            yield name, _find(check)


def _find(check: Entry) -> Finding:
    try:
        finding: Finding = check.load()()
    except GGFError as error:
        return Finding(
            summary=error.message, status=FAILED, hint=error.hint, exit_code=error.exit_code
        )
    except Exception as error:  # noqa: BLE001 - torch that cannot be loaded is a finding too
        return Finding(
            summary=f"{type(error).__name__}: {error}",
            status=FAILED,
            hint="reinstall ggf-cli and what it needs; if it stays, this is a bug",
            exit_code=1,
        )
    return finding
