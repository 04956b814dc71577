"""`ggf show`: show a run or a comparison, check its files, or repeat the run.

Exit codes: 2 if the path is not a run (missing, not readable, a file of another program); 5 if it
is a damaged one (a `run.json` that is cut or invalid, a file that is missing or altered).
"""

from __future__ import annotations

import errno
import itertools
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import UNSET
from rich.table import Table
from rich.text import Text

from ggf_cli.checkpoints.user_code import parse_user_code
from ggf_cli.cli import console
from ggf_cli.cli.comparison_summary import find_comparison, print_comparison
from ggf_cli.errors import GGFError, OutputError, UsageError
from ggf_cli.files import NotAFile, sha256
from ggf_cli.runs.documents import FileLog
from ggf_cli.runs.histogram import histogram
from ggf_cli.runs.layout import RUN_LOG
from ggf_cli.runs.load import Record, find_record
from ggf_cli.runs.summary import run_summary, version_summary
from ggf_cli.text import plain, shortened

# Bytes. No file of a run or a comparison is larger, see SHARD_BYTES and MAX_IMAGE.
MAX_FILE = 2**31
_ASCII = str.maketrans({"×": "x", "–": "-", "·": ","})


_Run = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        readable=False,
        help="Folder of a run or comparison, its JSON, or an image of a run.",
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Check = Annotated[
    bool, typer.Option("--check", help="Print which files of the run are missing or altered.")
]
_Repeat = Annotated[bool, typer.Option("--repeat", help="Draw the run again, into a new folder.")]
_Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Output folder of --repeat.",
        show_default="runs/NAME-again",
    ),
]


_AllowCode = Annotated[
    bool,
    typer.Option("--allow-code", help="Let --repeat run the Python code that the run names."),
]


def show(
    context: typer.Context,
    run: _Run,
    json: _Json = False,
    check: _Check = False,
    repeat: _Repeat = False,
    out: _Out = None,
    allow_code: _AllowCode = False,
) -> None:
    """Show a run or a comparison, check its files, or repeat the run.

    ggf show runs/em

    ggf show runs/em --check

    ggf show grid.png --repeat --out runs/again
    """
    if check and repeat:
        raise UsageError("--check and --repeat exclude each other")
    if out is not None and not repeat:
        raise UsageError("--out is the output folder of --repeat", hint="add --repeat")
    if found := find_comparison(run):
        _show_comparison(*found, check=check, repeat=repeat, as_json=json)
        return
    record = find_record(run)
    for note in record.notes:
        console.note(note)
    if check:
        if record.log is None:
            raise UsageError(
                f"no {RUN_LOG} has the sha256 of {record.path}",
                hint="--check needs the run's folder",
            )
        folder = record.path.parent
        again = f"ggf show {shlex.quote(str(folder))} --repeat draws them into a new folder"
        _check(folder, record.log.files, again, as_json=json)
    elif repeat:
        _repeat(context, record, out, as_json=json, allow_code=allow_code)
    elif json:
        alone = {"command": record.command, "versions": record.versions}
        console.result_json(record.document or alone)
    else:
        _print(record)


# --- check and repeat ---------------------------------------------------------------------------


def _check(folder: Path, files: Sequence[FileLog], hint: str, *, as_json: bool) -> None:
    """Check that the files of a folder are those that its log lists."""
    states = {file.path: _state(folder, file) for file in files}
    wrong = {name: state for name, state in states.items() if state != "intact"}
    if as_json:
        console.result_json({"folder": str(folder), "files": states})
    else:
        for name, state in wrong.items():
            console.result(f"{state:10} {plain(name)}")
        console.result(f"{len(states) - len(wrong)} of {len(states)} files intact")
    if wrong:
        raise OutputError(
            f"{len(wrong)} of the {len(states)} files of {folder} are missing or altered",
            hint=hint,
        )


def _state(folder: Path, file: FileLog) -> str:
    path = folder / file.path
    try:
        # An untrusted log may list any path, of any size.
        if not path.resolve().is_relative_to(folder.resolve()):
            return "outside"
        found = sha256(path, MAX_FILE)
    except FileNotFoundError:
        return "missing"
    except NotAFile:
        return "altered"
    except OSError as error:
        return "altered" if error.errno == errno.EFBIG else "unreadable"
    # A null character; a link to itself.
    except (ValueError, RuntimeError):
        return "unreadable"
    return "intact" if found == file.sha256 else "altered"


def _repeat(
    context: typer.Context, record: Record, out: Path | None, *, as_json: bool, allow_code: bool
) -> None:
    """Run the command of a run in this process, without a shell, if it is `ggf sample`."""
    try:
        words = shlex.split(record.command)
    # An unclosed quotation.
    except ValueError:
        words = []
    if words[:2] != ["ggf", "sample"]:
        raise UsageError(
            f"the command of {record.path} is not ggf sample: {shortened(record.command)}",
            hint="only ggf sample can be repeated",
        )
    if record.log and record.log.prior is not UNSET:
        raise UsageError(
            f"the run of {record.path} started from states that were given in Python",
            hint="repeat it from Python, with the same `prior`",
        )
    name = (record.path.absolute().parent.name if record.log else record.path.stem)[:80]
    names = (f"{name}-again{i if i > 1 else ''}" for i in itertools.count(1))
    folder = out or next(
        f for f in (Path("runs") / name for name in names) if not os.path.lexists(f)
    )
    # It does not exist yet, or the error is reported where it is opened.
    with suppress(OSError):
        if any(folder.iterdir()):
            raise OutputError(f"the folder {folder} is not empty", hint="give another with --out")
    for name, then in record.versions.items():
        if (now := _installed(name)) != then:
            console.note(plain(f"{name} is {now}, it was {then}: the samples may differ"))
    root: Any = context.find_root().command
    sample = root.commands["sample"]
    with sample.make_context("sample", words[2:], parent=context.parent) as inner:
        if (code := parse_user_code(inner.params["model"])) and not allow_code:
            raise UsageError(
                f"repeating the run would import and run code: {shortened(code.text)}",
                hint="read that code; if you trust it, add --allow-code",
            )
        console.note(f"running {plain(record.command)}")
        # An untrusted command may have any --out, --force and --resume.
        inner.params.update(out=folder, force=False, resume=False, quiet=False, json=as_json)
        sample.invoke(inner)
    again = find_record(folder).log
    if record.log and again:
        same = len(set(again.files).intersection(record.log.files))
        console.note(f"{same} of the {len(record.log.files)} files are identical to the run's")
        if again.model.sha256 != record.log.model.sha256:
            console.note("the weights of the model differ from those of the run")


def _installed(name: str) -> str:
    """The version of an installed package."""
    # Imported here: it takes 10 ms, and all commands import this module.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return platform.python_version() if name == "python" else version(name)
    except (PackageNotFoundError, ValueError):
        return "not installed"


def _show_comparison(
    folder: Path, comparison: Mapping[str, Any], *, check: bool, repeat: bool, as_json: bool
) -> None:
    from ggf_cli.comparison.documents import FORMER_SCHEMA

    command = plain(comparison["command"])
    if repeat:
        raise UsageError(f"{folder} is a comparison; its command repeats it", hint=command)
    if check:
        files = [FileLog(**file) for file in comparison["files"]]
        # The former version recorded no sha256 of its samples.
        if comparison["schema"] != FORMER_SCHEMA:
            files += _files_of_runs(folder, comparison)
        _check(folder, files, f"the command writes them again: {command}", as_json=as_json)
    elif as_json:
        console.result_json(comparison)
    else:
        print_comparison(comparison)
        console.result(f"\n{command}")


def _files_of_runs(folder: Path, comparison: Mapping[str, Any]) -> Iterator[FileLog]:
    """The files of the runs of a comparison. A `run.json` that cannot be read has no sha256."""
    for name in (name for cell in comparison["cells"] for name in cell["runs"]):
        run = folder / name
        try:
            # An untrusted document may list any path.
            inside = run.resolve().is_relative_to(folder.resolve()) and run.is_dir()
            log = find_record(run).log if inside else None
        except (GGFError, OSError, ValueError, RuntimeError):
            log = None
        if log is None:
            yield FileLog(path=f"{name}/{RUN_LOG}", sha256="")
            continue
        for file in log.files:
            yield FileLog(path=f"{name}/{file.path}", sha256=file.sha256)


# --- print --------------------------------------------------------------------------------------


def _print(record: Record) -> None:
    """Print the summary of a run, a histogram of its NFE, and its command."""
    log, encoding = record.log, getattr(sys.stdout, "encoding", None) or "utf-8"
    ascii_only = "█▏" not in "█▏".encode(encoding, "replace").decode(encoding)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    facts = run_summary(log, record.image) if log else version_summary(record.versions)
    for key, text in [("file", str(record.path)), *facts]:
        table.add_row(key, Text(plain(text).translate(_ASCII if ascii_only else {})))
    console.show(table)
    if log and (nfe := [sample.nfe for sample in log.samples]):
        width = max(10, min(60, shutil.get_terminal_size().columns - 30))
        console.result(f"\nNFE of {len(nfe)} sample{'s' * (len(nfe) > 1)}")
        console.result("\n".join(histogram(nfe, width=width, plain=ascii_only)))
    console.result(f"\n{plain(record.command)}")
