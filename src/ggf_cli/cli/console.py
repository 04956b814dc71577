"""Write to the terminal: results to stdout, everything else to stderr."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from ggf_cli.errors import GGFError, OptionError, OutputError
from ggf_cli.solvers.catalog import flag
from ggf_cli.text import plain

# The width of tables in files and pipes.
WIDE = 200


def stderr() -> Console:
    """A console for progress, notes and errors."""
    return Console(stderr=True, highlight=False)


def result(text: str) -> None:
    """Print a line of result to stdout, unformatted.

    Raises:
        OutputError: stdout cannot be written to.
    """
    try:
        if sys.stdout is not None:
            encoding = sys.stdout.encoding or "utf-8"
            sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
            sys.stdout.flush()
    # The reader has closed the pipe. Discard further output for the rest of the process.
    except BrokenPipeError:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    except OSError as error:
        raise OutputError(f"cannot write to stdout: {error.strerror}") from error


def result_json(document: Any) -> None:
    """Print the JSON document of a command with --json."""
    result(json.dumps(document, indent=2))


def width() -> int:
    """The width of stdout in characters; of a file or pipe COLUMNS, or `WIDE` without it."""
    terminal = Console()
    if terminal.is_terminal:
        return terminal.width
    columns = os.environ.get("COLUMNS", "")
    return max(int(columns), 1) if re.fullmatch("[0-9]{1,4}", columns) else WIDE


def show(renderable: RenderableType, *, columns: int | None = None) -> None:
    """Print a table on stdout.

    Args:
        renderable: The table.
        columns: Its width; by default that of the terminal, or `WIDE` if stdout is none.
    """
    terminal = Console()
    if columns is None:
        columns = terminal.width if terminal.is_terminal else WIDE
    buffer = io.StringIO()
    Console(file=buffer, highlight=False, force_terminal=terminal.is_terminal, width=columns).print(
        renderable
    )
    result("\n".join(line.rstrip() for line in buffer.getvalue().splitlines()))


def result_prose(text: str) -> None:
    """Print sentences on stdout; on a terminal, they wrap at words."""
    terminal = Console()
    for line in plain(text, lines=True).split("\n"):
        for part in _lines(line, terminal):
            result(part)


def note(text: str) -> None:
    """Print a remark on stderr, with options spelled as flags."""
    _say("", "", with_flags(text))


def warn(text: str) -> None:
    """Print a warning on stderr: results may be wrong."""
    _say("warning:", "bold yellow", with_flags(text))


def _say(title: str, style: str, text: str) -> None:
    """Print text for people on stderr, after a title; on a terminal it wraps at words."""
    console = stderr()
    start = f"{title} " if title else ""
    first, *rest = plain(text, lines=True).split("\n")
    lines = _lines(start + first, console)
    for line in rest:
        lines += _lines(line, console)
    out = Text("\n".join(lines))
    out.stylize(style, 0, len(title))
    console.print(out, soft_wrap=True)


def _lines(line: str, console: Console) -> list[str]:
    """The lines of a text on a terminal: wrapped at words, but not a command, which is copied."""
    if not console.is_terminal or re.search(r"\bggf [a-z]|https?://", line):
        return [line]
    return textwrap.wrap(line, console.width, break_on_hyphens=False, break_long_words=False) or [
        ""
    ]


@contextmanager
def busy(what: str, *, quiet: bool) -> Iterator[None]:
    """Show an activity that takes a while: a spinner on a terminal, else a line."""
    console = stderr()
    if quiet:
        yield
    elif console.is_terminal:
        with console.status(what):
            yield
    else:
        note(what)
        yield


def show_error(error: GGFError, *, prefix: str = "", hint: str | None = None) -> None:
    """Print the message and the hint of an error, with options spelled as flags.

    Args:
        error: The error.
        prefix: Text before the message.
        hint: The hint if the error has none.
    """
    options = error.options if isinstance(error, OptionError) else ()
    message = with_flags(prefix + error.message, options)
    hint = with_flags(error.hint or hint or "", options)
    _say("error:", "bold red", message)
    if hint:
        _say("hint:", "bold cyan", hint)


def with_flags(text: str, options: Iterable[str] = ()) -> str:
    """Replace the names of options in a text by their flags.

    Names in backticks, "`out`" -> "--out" and "`resume=True`" -> "--resume"; and the first
    occurrence of each name in `options`, "eps_rel is -1" -> "--eps-rel is -1". Other quoted words
    are values and stay.
    """
    text = re.sub(r"`([a-z][a-z_]*)(?:=True)?`", lambda match: flag(match[1]), text)
    for option in options:
        name = rf"(?<![\w'\"-]){re.escape(option)}(?![\w'\"-])"
        text = re.sub(name, flag(option), text, count=1)
    return text
