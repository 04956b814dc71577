"""The one place that writes to the terminal: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console, RenderableType

from ggf_cli.errors import GGFError


def stderr() -> Console:
    """A console for progress, notes and errors."""
    return Console(stderr=True, highlight=False)


def result(text: str) -> None:
    """A line of result, as it is."""
    sys.stdout.write(text + "\n")


def result_json(document: Any) -> None:
    """The one JSON object of a command with --json."""
    result(json.dumps(document, indent=2))


def show(renderable: RenderableType) -> None:
    """A table for people, on stdout; its full width where stdout is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    console.print(renderable)


def note(text: str) -> None:
    """A remark on stderr."""
    stderr().print(text, markup=False, soft_wrap=True)


def per_second(rate: float) -> str:
    """A rate for people: 373, 4.2, 0.042."""
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"


def show_error(error: GGFError) -> None:
    """An expected failure: what, and one hint."""
    console = stderr()
    console.print("[bold red]error:[/] ", end="")
    console.print(error.message, markup=False, soft_wrap=True)
    if error.hint:
        console.print("[bold cyan]hint:[/] ", end="")
        console.print(error.hint, markup=False, soft_wrap=True)
