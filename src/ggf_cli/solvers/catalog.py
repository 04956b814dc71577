"""The solver catalog: properties and options of each solver as data.

It is a file, because the classes import torch. `python -m ggf_cli.solvers.catalog` generates the
file from the table of solvers; a test checks that it is current.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import Field, fields
from functools import cache
from importlib.resources import files
from typing import Any

from ggf_cli.solvers.registry import SOLVERS

FILE = files("ggf_cli.solvers") / "catalog.json"
# Keys of an option that the file leaves out where they are null.
OPTIONAL = ("default", "choices", "pattern", "above", "low", "high")


@cache
def read_catalog() -> Mapping[str, dict[str, Any]]:
    """{solver: description} in the order of the table.

    A description has: summary; kind ("sde" or "ode"); adaptive; order; evaluations (of a step, as
    text); nfe (of a sample with default options, None if not known beforehand); sdes; options
    {name: {type, default, help, choices, pattern, above, low, high}}. The type is "int", "float",
    "bool", "text" or "numbers" (a sequence); a missing limit is None.
    """
    catalog: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    absent = dict.fromkeys(OPTIONAL)
    for solver in catalog.values():
        solver["options"] = {
            name: {"type": option["type"], "help": option["help"], **absent, **option}
            for name, option in solver["options"].items()
        }
    return catalog


def owners(option: str) -> list[str]:
    """The solvers that have an option."""
    return [name for name, solver in read_catalog().items() if option in solver["options"]]


def flag(option: str) -> str:
    """The command-line flag of an option: "eps_rel" -> "--eps-rel"."""
    return "--" + option.replace("_", "-")


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Options as command-line arguments, without those that are None.

    For example ["--eps-rel", "0.05", "--no-denoise"].
    """
    words: list[str] = []
    for name, value in options.items():
        if isinstance(value, bool):
            words.append(flag(name if value else f"no_{name}"))
        elif value is not None:
            words += [flag(name), as_text(value)]
    return words


def as_text(value: Any) -> str:
    """The value of an option as a command-line argument; a sequence has commas."""
    return ",".join(map(repr, value)) if isinstance(value, list | tuple) else str(value)


def describe() -> dict[str, dict[str, Any]]:
    """Generate the catalog from the classes."""
    return {name: _solver(entry.summary, entry.load()) for name, entry in SOLVERS.items()}


def _solver(summary: str, cls: Any) -> dict[str, Any]:
    return {
        "summary": summary,
        "kind": cls.kind,
        "adaptive": cls.adaptive,
        "order": cls.order,
        "evaluations": cls.evaluations,
        "nfe": cls().expected_nfe(),
        "sdes": list(cls.sdes),
        "options": {f.name: _option(f) for f in fields(cls)},
    }


def _option(f: Field[Any]) -> dict[str, Any]:
    limits = f.metadata
    if limits["choices"] or limits["pattern"]:
        kind = "text"
    elif limits["numbers"]:
        kind = "numbers"
    elif isinstance(f.default, bool):
        kind = "bool"
    else:
        kind = "int" if limits["whole"] else "float"
    return {
        "type": kind,
        "default": f.default,
        "help": limits["help"],
        "choices": list(limits["choices"]) or None,
        "pattern": limits["pattern"] or None,
        **{b: limits[b] if math.isfinite(limits[b]) else None for b in ("above", "low", "high")},
    }


def catalog_text() -> str:
    """The content of the file: one line an option, nulls left out."""
    return "{\n" + ",\n".join(map(_solver_text, describe().items())) + "\n}\n"


def _solver_text(item: tuple[str, dict[str, Any]]) -> str:
    name, solver = item
    lines = [f" {_json(key)}: {_json(value)}" for key, value in solver.items() if key != "options"]
    options = ",\n".join(
        f"   {_json(option)}: {_json({k: v for k, v in about.items() if v is not None})}"
        for option, about in solver["options"].items()
    )
    inner = ",\n ".join([*lines, f' "options": {{\n{options}\n  }}'])
    return f" {_json(name)}: {{\n {inner}\n }}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    text = catalog_text()
    with open(str(FILE), "w", encoding="utf-8") as file:  # noqa: PTH123 - solvers import no pathlib
        file.write(text)
