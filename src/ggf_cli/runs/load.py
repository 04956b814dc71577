"""Load a finished run from its folder, its `run.json` or one of its images."""

from __future__ import annotations

import os
import shlex
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any

from ggf_cli.documents import convert, decode_json
from ggf_cli.errors import GGFError, OutputError, UsageError
from ggf_cli.files import NotAFile, open_file, sha256_of
from ggf_cli.runs.documents import RUN_SCHEMA, FileLog, RunLog
from ggf_cli.runs.history import is_there, journals
from ggf_cli.runs.layout import MAX_LOG, RUN_LOG, RUNNING
from ggf_cli.runs.pictures import PICTURES
from ggf_cli.text import plain, shortened

_PNG = b"\x89PNG\r\n\x1a\n"
_WEBP = b"RIFF"
# Bytes. A grid has 2^28 pixels at most.
MAX_IMAGE = 2**31
# The most bytes of text that are read from an image.
MAX_TEXT = 2**20
MAX_CHUNKS = 2**20
_EXPECTED = f"give the folder of a run, its {RUN_LOG} or one of its images"


@dataclass(frozen=True, kw_only=True)
class Record:
    """A run as loaded from disk.

    Attributes:
        path: Its `run.json`, or the only image that is left of it.
        command: The command that repeats it.
        versions: {package: version} of the run.
        log: The content of its `run.json`; None without one.
        document: The same as JSON data, with keys of later versions.
        image: The image that was given, as `log` lists it.
        notes: Remarks for the user.
    """

    path: Path
    command: str
    versions: Mapping[str, str]
    log: RunLog | None = None
    document: Mapping[str, Any] | None = None
    image: str | None = None
    notes: tuple[str, ...] = ()


def find_record(path: Path) -> Record:
    """Load the run of a path.

    Args:
        path: The folder of a run, its `run.json`, or one of its images.

    Raises:
        UsageError: The path does not exist, is not readable, or is not of a run.
        OutputError: The `run.json` is damaged.
    """
    try:
        path = _log_of(path) if path.is_dir() else path
        with _opened(path) as file:
            if _starts(file, _PNG) or _starts(file, _WEBP):
                return _from_image(path, file)
            content = _read(path, file)
    # ValueError: a null character in the name.
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        hint = "check its name and permissions"
        raise UsageError(f"cannot read {shortened(str(path))}: {reason}", hint=hint) from error
    return _from_json(path, content)


def _log_of(folder: Path) -> Path:
    if is_there(folder / RUN_LOG):
        return folder / RUN_LOG
    if is_there(folder / RUNNING) or journals(folder):
        raise UsageError(
            f"the run in {folder} has not ended; its {RUN_LOG} is written at the end",
            hint="wait for it; if it was killed, its command with `resume=True` continues it",
        )
    hint = _EXPECTED
    if logs := sorted(folder.glob(f"*/{RUN_LOG}"), key=lambda log: log.stat().st_mtime):
        hint = f"the newest run in it: ggf show {shlex.quote(str(logs[-1].parent))}"
    raise UsageError(f"the folder {folder} has no {RUN_LOG}", hint=hint)


def _opened(path: Path) -> BufferedReader:
    try:
        return open_file(path)
    except FileNotFoundError as error:
        raise UsageError(f"no such file or folder: {path}", hint=_EXPECTED) from error
    except NotAFile as error:
        raise UsageError(f"{path} is neither a file nor a folder", hint=_EXPECTED) from error


def _starts(file: BufferedReader, with_: bytes) -> bool:
    head = file.read(len(with_))
    file.seek(0)
    return head == with_


def _read(path: Path, file: BufferedReader) -> bytes:
    """The content of a file that may be a run log. Other files, which may be large, are refused."""
    head = file.read(len(_PNG))
    if path.suffix != ".json" and not head.lstrip().startswith(b"{"):
        raise UsageError(f"{path} is neither a {RUN_LOG} nor an image of a run", hint=_EXPECTED)
    if (size := os.fstat(file.fileno()).st_size) <= MAX_LOG:
        content = head + file.read(size + 1)
        if len(content) <= MAX_LOG:
            return content
    raise UsageError(
        f"{path} has more than {MAX_LOG:,} bytes, too much for a {RUN_LOG}", hint=_EXPECTED
    )


def _from_json(path: Path, content: bytes) -> Record:
    hint = "restore it from a copy, or draw again with ggf sample"
    for picture in map(path.with_name, PICTURES):
        if os.path.isfile(picture):  # noqa: PTH113 - does not raise
            hint = f"ggf show {shlex.quote(str(picture))} prints the command of the run"
    try:
        document = decode_json(content)
    except (ValueError, RecursionError) as error:
        raise OutputError(f"{path} is not JSON: {plain(error)}", hint=hint) from error
    found = document.get("schema") if isinstance(document, dict) else None
    if found != RUN_SCHEMA:
        what = f"of schema {shortened(found)}" if found else "JSON, but not a log of ggf sample"
        raise UsageError(f"{path} is {what}", hint=f"ggf show reads {RUN_SCHEMA}")
    try:
        log = convert(document, RunLog)
    except ValueError as error:
        raise OutputError(f"{path} is damaged: {plain(error)}", hint=hint) from error
    return Record(path=path, command=log.command, versions=log.versions, log=log, document=document)


def _from_image(path: Path, image: BufferedReader) -> Record:
    """The run whose log, beside the image or one folder up, lists it; else from its text chunks."""
    if (size := os.fstat(image.fileno()).st_size) > MAX_IMAGE:
        what = f"{path} has {size:,} bytes, too much for an image of a run"
        raise UsageError(what, hint=_EXPECTED)
    sha256 = sha256_of(image)
    notes = []
    for folder in (path.parent, path.parent.parent if path.parent.name else Path("..")):
        log = folder / RUN_LOG
        listed: list[FileLog] = []
        try:
            if log.is_file():
                with _opened(log) as file:
                    record = _from_json(log, _read(log, file))
                listed = record.log.files if record.log else []
        except (GGFError, OSError) as error:
            notes.append(f"not used: {error}")
        for entry in listed:
            if entry.sha256 == sha256:
                return replace(record, image=entry.path, notes=tuple(notes))
            if folder / entry.path == path:
                notes.append(f"{path} has changed: it is not the image that {log} lists")
    image.seek(0)
    text = _text_chunks(image) if _starts(image, _PNG) else {}
    if "ggf" not in text:
        raise UsageError(
            f"the image {path} has no command in its text, and no {RUN_LOG} beside it lists it",
            hint="; ".join(notes)
            or f"{' and '.join(PICTURES)} have the command; other images need their folder",
        )
    notes.append(f"no {RUN_LOG} beside the image lists it; this is from the text of the image")
    versions = {"ggf-cli": text["ggf-version"]} if "ggf-version" in text else {}
    return Record(path=path, command=text["ggf"], versions=versions, notes=tuple(notes))


def _text_chunks(image: BufferedReader) -> dict[str, str]:
    """The text chunks of a PNG file, {keyword: text}. PIL refuses to open the largest grids."""
    text, left = {}, MAX_TEXT
    image.seek(len(_PNG))
    for _ in range(MAX_CHUNKS):
        head = image.read(8)
        length, kind = int.from_bytes(head[:4]), head[4:]
        if len(head) < 8:
            break
        if kind not in (b"tEXt", b"iTXt") or length > left:
            image.seek(length + 4, os.SEEK_CUR)
            continue
        left -= length
        data = image.read(length)
        if zlib.crc32(kind + data) == int.from_bytes(image.read(4)):
            keyword, _, rest = data.partition(b"\0")
            # Other programs may write tEXt.
            if kind == b"tEXt":
                text[keyword.decode("latin-1")] = rest.decode("latin-1")
            # Not compressed; the text follows two names of languages.
            elif rest.startswith(b"\0"):
                words = rest[2:].split(b"\0", 2)[-1]
                text[keyword.decode("latin-1")] = words.decode(errors="replace")
    return text
