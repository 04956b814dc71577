"""Whether a document fits a JSON schema, as far as the schemas of this package use that language.

The package that does it all, jsonschema, is for the tests: they demand that this one knows every word in use.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ggf_cli.text import shortened

_TYPES: Mapping[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}  # fmt: skip
LIMITS = {"minimum": operator.ge, "exclusiveMinimum": operator.gt, "maximum": operator.le, "exclusiveMaximum": operator.lt}  # fmt: skip


def misfits(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    """Where a document does not fit a JSON schema, as far as ours uses that language.

    Keys that the schema does not know are let through: a later version may say more.
    """
    kinds = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", [])
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield f"{where} is {shortened(value)}, not {' or '.join(kinds)}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{where} is {shortened(value)}, not one of {', '.join(map(str, schema['enum']))}"
    elif isinstance(value, str):
        if not re.search(schema.get("pattern", ""), value):
            yield f"{where} is {shortened(value)}"
    elif isinstance(value, int | float):
        if not all(holds(value, schema[w]) for w, holds in LIMITS.items() if w in schema):
            yield f"{where} is {shortened(value)}"
    elif isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield f"{where} has {len(value)} items"
        for place, item in enumerate(value):
            yield from misfits(item, schema.get("items", {}), f"{where}[{place}]")
    elif isinstance(value, dict):
        yield from (
            f"{where} lacks {key}" for key in schema.get("required", ()) if key not in value
        )
        others = schema.get("additionalProperties") or {}
        for key, item in value.items():
            inside = key if where == "it" else f"{where}.{key}"
            yield from misfits(item, schema.get("properties", {}).get(key, others), inside)


def _is(value: Any, kind: str) -> bool:
    """Python's True is an int, JSON's is not."""
    return isinstance(value, _TYPES[kind]) and isinstance(value, bool) == (kind == "boolean")
