"""Typed JSON documents: decode, check against a msgspec type, and generate the JSON schema.

Types of single documents are in `runs.documents`, `comparison.documents` and
`checkpoints.documents`; the number and text types here are what they have in common.
"""

from __future__ import annotations

import json
import re
from types import UnionType
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

# Larger numbers make arithmetic on them overflow.
HUGE = 1e38


def about(description: str) -> Meta:
    """The description of a key, for the JSON schema."""
    return Meta(description=description)


Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Positive = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Number = Annotated[float, Meta(ge=-HUGE, le=HUGE)]
Amount = Annotated[float, Meta(ge=0, le=HUGE)]
Share = Annotated[float, Meta(ge=0, le=1)]
EndTime = Annotated[float, Meta(gt=0, lt=1)]
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


def violation(document: Any, kind: type[Struct] | UnionType) -> str | None:
    """Why a JSON document is not of a type, with the path of the value; None if it is."""
    try:
        msgspec.convert(document, kind)
    # UnicodeEncodeError: an unpaired surrogate where a pattern or a choice is checked.
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError) as error:
        return re.sub(r"'(.{60})[^']+'", r"'\1…'", str(error)) or "too deeply nested"
    return None


def json_schema(kind: type[Struct], name: str) -> dict[str, Any]:
    """The JSON schema of a document type; stricter than its reader: no further keys."""
    schema = msgspec.json.schema(kind)
    definitions = schema["$defs"]
    for title, definition in definitions.items():
        # The parameters of an SDE depend on the SDE.
        if title != "SDESettings":
            definition["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": name,
        **schema,
    }
