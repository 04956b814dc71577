"""`ggf doctor`: check this installation and print what `ggf_cli.health` finds.

Exit codes: 0 if no check failed, with or without warnings; else that of the first check that
failed: 1 a broken installation, 2 a broken registry, 3 checkpoints that are missing or altered, or
a hub that does not answer, 4 wrong samples, 5 a working folder that is not writable.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ggf_cli.cli import console
from ggf_cli.health import FAILED, OK, WARNING, Finding, examine
from ggf_cli.text import plain

SCHEMA = "ggf-doctor/2"
_STYLES = {OK: "green", WARNING: "yellow", FAILED: "bold red"}


def doctor(
    hub: Annotated[
        bool, typer.Option("--hub", help="Check the connection to the hub, too.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|PATH|FILE.py:OBJECT",
            help="Also load this model and evaluate its score.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this installation: versions, devices, files, a test run.

    ggf doctor

    ggf doctor --hub --json

    ggf doctor --model mynet.py:model
    """
    with console.busy("checking this installation", quiet=json):
        findings = dict(examine(hub=hub, model=model))
    by_status = {
        status: [name for name, finding in findings.items() if finding.status == status]
        for status in _STYLES
    }
    failed = by_status[FAILED]
    code = findings[failed[0]].exit_code if failed else 0
    if json:
        worst = next(
            status for status in (FAILED, WARNING, OK) if by_status[status] or status == OK
        )
        checks = [{"name": name, **asdict(finding)} for name, finding in findings.items()]
        console.result_json(
            {"schema": SCHEMA, "status": worst, "exit_code": code, "checks": checks}
        )
    else:
        console.show(_table(findings))
        console.result(f"\n{_conclusion(by_status)}")
    raise typer.Exit(code)


def _table(findings: dict[str, Finding]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, finding in findings.items():
        text = plain(finding.summary, lines=True)
        if finding.hint:
            text += f"\nhint: {plain(finding.hint, lines=True)}"
        table.add_row(name, Text(finding.status, style=_STYLES[finding.status]), Text(text))
    return table


def _conclusion(by_status: dict[str, list[str]]) -> str:
    if by_status[FAILED]:
        return f"failed checks: {', '.join(by_status[FAILED])}"
    if by_status[WARNING]:
        return f"all checks passed; see the hints on {', '.join(by_status[WARNING])}"
    return "all checks passed"
