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
from typing import Any, Literal

import msgspec
from msgspec import Struct

from ggf_cli.documents import OptionValue
from ggf_cli.solvers.registry import SOLVERS

FILE = files("ggf_cli.solvers") / "catalog.json"


class OptionInfo(Struct, frozen=True, kw_only=True):
    """An option of a solver, as `solvers.base.option` declares it.

    Attributes:
        type: The type of its value; "numbers" is a sequence.
        help: One line of help.
        default: Its default value.
        choices: The allowed words of a text; None: any.
        pattern: The regular expression of a text.
        above: Exclusive lower bound.
        low: Inclusive lower bound.
        high: Inclusive upper bound.
        share: Whether the value is a share, which may be written as a percentage.
    """

    type: Literal["int", "float", "bool", "text", "numbers"]
    default: OptionValue = None
    help: str
    choices: list[str] | None = None
    pattern: str | None = None
    above: int | float | None = None
    low: int | float | None = None
    high: int | float | None = None
    share: bool | None = None


class SolverInfo(Struct, frozen=True, kw_only=True):
    """A solver and its options.

    Attributes:
        summary: A few words.
        kind: "sde" (stochastic) or "ode" (probability flow).
        adaptive: Whether the step size follows the error.
        order: Order of convergence; None: see `Solver`.
        evaluations: Network evaluations of a step, as text.
        nfe: NFE of a sample with default options; None if not known beforehand.
        options: {name: option}.
    """

    summary: str
    kind: Literal["sde", "ode"]
    adaptive: bool
    order: int | float | None
    evaluations: str
    nfe: int | None
    options: dict[str, OptionInfo]


@cache
def read_catalog() -> Mapping[str, SolverInfo]:
    """Read the catalog: {solver: description}, in the order of the table."""
    return msgspec.json.decode(FILE.read_bytes(), type=dict[str, SolverInfo])


def owners(option: str) -> list[str]:
    """The solvers that have an option."""
    return [name for name, solver in read_catalog().items() if option in solver.options]


def flag(option: str) -> str:
    """The command-line flag of an option: "eps_rel" -> "--eps-rel"."""
    return "--" + option.replace("_", "-")


def as_words(options: Mapping[str, OptionValue]) -> list[str]:
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


def as_text(value: object) -> str:
    """The value of an option as a command-line argument; a sequence has commas."""
    return ",".join(map(repr, value)) if isinstance(value, list | tuple) else str(value)


def describe() -> dict[str, SolverInfo]:
    """Generate the catalog from the classes."""
    return {name: _solver(entry.summary, entry.load()) for name, entry in SOLVERS.items()}


def _solver(summary: str, cls: Any) -> SolverInfo:
    return SolverInfo(
        summary=summary,
        kind=cls.kind,
        adaptive=cls.adaptive,
        order=cls.order,
        evaluations=cls.evaluations,
        nfe=cls().expected_nfe(),
        options={f.name: _option(f) for f in fields(cls)},
    )


def _option(f: Field[Any]) -> OptionInfo:
    limits = f.metadata
    default: Any = f.default
    kind: Literal["int", "float", "bool", "text", "numbers"]
    if limits["choices"] or limits["pattern"]:
        kind = "text"
    elif limits["numbers"]:
        kind = "numbers"
    elif isinstance(f.default, bool):
        kind = "bool"
    else:
        kind = "int" if limits["whole"] else "float"
    return OptionInfo(
        type=kind,
        default=default,
        help=limits["help"],
        choices=list(limits["choices"]) or None,
        pattern=limits["pattern"] or None,
        share=limits["share"] or None,
        **{b: limits[b] for b in ("above", "low", "high") if math.isfinite(limits[b])},
    )


def catalog_text() -> str:
    """The content of the file: one line an option, nulls left out."""
    return "{\n" + ",\n".join(map(_solver_text, describe().items())) + "\n}\n"


def _solver_text(item: tuple[str, SolverInfo]) -> str:
    name, solver = item
    about = msgspec.structs.asdict(solver)
    del about["options"]
    lines = [f" {_json(key)}: {_json(value)}" for key, value in about.items()]
    options = ",\n".join(
        f"   {_json(option)}: {_json(_without_nulls(info))}"
        for option, info in solver.options.items()
    )
    inner = ",\n ".join([*lines, f' "options": {{\n{options}\n  }}'])
    return f" {_json(name)}: {{\n {inner}\n }}"


def _without_nulls(option: OptionInfo) -> dict[str, OptionValue]:
    return {k: v for k, v in msgspec.structs.asdict(option).items() if v is not None}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    text = catalog_text()
    with open(str(FILE), "w", encoding="utf-8") as file:  # noqa: PTH123 - solvers import no pathlib
        file.write(text)
