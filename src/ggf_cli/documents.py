"""Typed JSON documents: decode, check against a msgspec type, and generate the JSON schema.

Types of single documents are in `runs.documents`, `comparison.documents` and
`checkpoints.documents`; the number and text types here are what they have in common.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec
from msgspec import Meta, Struct

# Larger numbers make arithmetic on them overflow.
HUGE = 1e38

T = TypeVar("T")


def about(description: str) -> Meta:
    """The description of a key, for the JSON schema."""
    return Meta(description=description)


Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Positive = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Number = Annotated[float, Meta(ge=-HUGE, le=HUGE)]
Amount = Annotated[float, Meta(ge=0, le=HUGE)]
Share = Annotated[float, Meta(ge=0, le=1)]
EndTime = Annotated[float, Meta(gt=0, lt=1)]
# Of an SDE whose T may be above 1.
LateEndTime = Annotated[float, Meta(gt=0, le=HUGE)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
DateTime = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Outcome = Literal["done", "non_finite", "max_nfe"]
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
OptionValue = str | bool | Integer | Number | list[Number] | None


def decode_json(content: bytes, *, finite: bool = True) -> Any:
    """The JSON value of a text.

    msgspec is fast. Python's parser also reads unpaired surrogates, which file names that are not
    Unicode have.

    Args:
        content: The text.
        finite: Refuse NaN and numbers that overflow; else `violation` names their path.

    Raises:
        ValueError: The text is not JSON, or a number is not finite.
        RecursionError: It is too deeply nested.
    """
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        read = _finite if finite else float
        return json.loads(content, parse_constant=read, parse_float=read)


def _finite(text: str) -> float:
    value = float(text)
    if not abs(value) < HUGE:
        raise ValueError(f"{text[:20]} is too large or not a number")
    return value


def convert(document: object, kind: type[T]) -> T:
    """Convert a JSON document to a type. Keys that the type does not have are ignored.

    Raises:
        ValueError: The document is not of the type; the message has the path of the value.
    """
    try:
        return msgspec.convert(document, kind)
    # UnicodeEncodeError: an unpaired surrogate where a pattern or a choice is checked.
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError) as error:
        reason = re.sub(r"'(.{60})[^']+'", r"'\1…'", str(error)) or "too deeply nested"
        raise ValueError(reason) from error


def violation(document: object, kind: type[Struct] | UnionType) -> str | None:
    """Why a JSON document is not of a type, with the path of the value; None if it is."""
    try:
        convert(document, cast("type[Struct]", kind))
    except ValueError as error:
        return str(error)
    return None


def as_json(document: Struct, *, first: Sequence[str] = (), indent: int | None = 2) -> bytes:
    """Encode a document, with the keys in `first` at its beginning, and a newline at its end."""
    data = msgspec.to_builtins(document)
    data = {key: data[key] for key in first} | data
    separators = None if indent else (",", ":")
    # Not msgspec: it cannot encode unpaired surrogates, which file names may have.
    return json.dumps(data, indent=indent, separators=separators).encode() + b"\n"


def json_schema(kind: type[Struct], name: str) -> dict[str, Any]:
    """The JSON schema of a document type; stricter than its reader: no further keys."""
    schema = msgspec.json.schema(kind)
    for definition in schema["$defs"].values():
        definition["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": name,
        **schema,
    }
