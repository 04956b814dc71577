"""What is compared: the solvers that the user names, each at one setting or several.

    adaptive                       at each tolerance of --eps-rel
    em                             at the NFE that each of those took (--nfe match), at each of --nfe 50,100, or as it
                                   comes (--nfe default)
    dpmpp-2m-sde:nfe=50            at this setting alone
    adaptive:norm=linf             with this option, at each tolerance

A *cell* is one solver at one setting; cells that differ in the swept setting alone are a *series*, one line in the figure.
Euler–Maruyama with 1000 steps is the reference beside which the paper measures all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ggf_cli.errors import UsageError
from ggf_cli.files import sha256_of
from ggf_cli.registry import did_you_mean, lookup
from ggf_cli.solvers.catalog import read_catalog

DEFAULT = ("adaptive", "em", "dpmpp-2m-sde:nfe=50")
EPS_REL = (0.01, 0.02, 0.05, 0.1)
REFERENCE = ("em", {"steps": 1000})
MATCH, DEFAULTS = "match", "default"
ORDER = ("contender", "matched", "reference")
BUDGETS = ("steps", "nfe", "times")  # options that set what a sample costs
LONGEST = 80  # characters of an id


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A solver as the user names it, with the options that were given."""

    solver: str
    given: Mapping[str, Any]

    def __str__(self) -> str:
        return spell(self.solver, self.given)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One solver at one setting.

    Attributes:
        id: Unique, fit for a file name.
        series: The solver with what is not swept.
        solver: Its name.
        given: The options that are not left at their default; a matched cell gets its `nfe` when it is known.
        role: "contender"; "matched": at the mean NFE of another cell; "reference".
        matches: The id of that other cell.
    """

    id: str
    series: str
    solver: str
    given: Mapping[str, Any]
    role: Literal["contender", "matched", "reference"] = "contender"
    matches: str | None = None


def parse_contender(text: str) -> Contender:
    """ "adaptive:eps-rel=0.05,norm=linf" -> the solver and its options, typed as the catalog says.

    Raises:
        UsageError: No such solver or option, or not a value of its type. Ranges are checked where the solver is made.
    """
    name, _, rest = text.partition(":")
    catalog = read_catalog()
    options = lookup(catalog, name, "solver", f"solvers: {', '.join(catalog)}")["options"]
    parts: list[str] = []
    for part in rest.split(",") if rest else []:
        # the value of restart's --intervals has commas of its own
        if "=" in part or not parts:
            parts.append(part)
        else:
            parts[-1] += f",{part}"
    given: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        option = key.strip().removeprefix("--").replace("-", "_")
        if not equals:
            raise UsageError(
                f"{text!r}: {part!r} is not OPTION=VALUE", hint="like adaptive:eps-rel=0.05"
            )
        if option not in options:
            known = f"{name} has {', '.join(o.replace('_', '-') for o in options)}"
            raise UsageError(
                f"{text!r}: solver '{name}' has no option {key!r}",
                hint=did_you_mean(option, options, known),
            )
        given[option] = _typed(text, key, value.strip(), options[option]["type"])
    return Contender(solver=name, given=given)


def _typed(text: str, key: str, value: str, kind: str) -> Any:
    words = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
    try:
        if kind == "bool":
            return words[value.lower()]
        return {"int": int, "float": float, "text": str}[kind](value)
    except (KeyError, ValueError) as error:
        wanted = {"bool": "yes or no", "int": "a whole number", "float": "a number"}[kind]
        raise UsageError(f"{text!r}: {key} is {value!r}, it must be {wanted}") from error


def spell(solver: str, given: Mapping[str, Any]) -> str:
    """ "adaptive:eps-rel=0.05,norm=linf": what `parse_contender` reads."""
    words = {True: "yes", False: "no"}
    options = (
        f"{key.replace('_', '-')}={words[value] if isinstance(value, bool) else value}"
        for key, value in given.items()
    )
    return ":".join(filter(None, (solver, ",".join(options))))


def make_cells(
    contenders: Sequence[Contender],
    *,
    eps_rel: Sequence[float] = EPS_REL,
    nfe: Sequence[int] | str = MATCH,
    reference: tuple[str, Mapping[str, Any]] = REFERENCE,
) -> list[Cell]:
    """The cells of a comparison, in the order in which they are drawn.

    Args:
        contenders: What the user names; those that say the same count once.
        eps_rel: Tolerances of adaptive stochastic solvers that bring none of their own.
        nfe: Budgets of fixed-step solvers that bring none; "match": the mean NFE of each cell of the first adaptive
            solver; "default", or without an adaptive one: their own.
        reference: Left out where budgets are given, and if it is among the cells anyway.

    Raises:
        UsageError: Nothing to compare: one cell alone.
    """
    catalog = read_catalog()
    cells: list[Cell] = []
    for contender in contenders:
        about = catalog[contender.solver]
        swept = "eps_rel" if about["adaptive"] else "nfe"
        own = any(option in contender.given for option in (swept, *BUDGETS))
        if about["adaptive"] and about["kind"] == "sde" and not own:
            cells += [_cell(contender, swept, value) for value in eps_rel]
        elif not about["adaptive"] and not own and not isinstance(nfe, str):
            cells += [_cell(contender, swept, value) for value in nfe]
        else:
            cells.append(_cell(contender))
    if nfe == MATCH:
        cells = _match(cells)
    if isinstance(nfe, str):
        cells.append(_reference(*reference))
    unique: dict[tuple[Any, ...], Cell] = {}
    for cell in cells:
        options = {
            name: about["default"] for name, about in catalog[cell.solver]["options"].items()
        }
        key = (cell.solver, tuple((options | dict(cell.given)).items()), cell.matches)
        unique.setdefault(key, cell)
        if cell.role == "reference":  # whoever named it, it is the reference
            unique[key] = cell
    # Adaptive ones first: the others wait for their NFE.
    cells = sorted(unique.values(), key=lambda cell: ORDER.index(cell.role))
    if len(cells) < 2:
        raise UsageError(
            f"{cells[0].id if cells else 'nothing'} alone cannot be compared",
            hint="name another solver, or several settings: --nfe 50,100 or --eps-rel 0.02,0.05",
        )
    return cells


def _cell(contender: Contender, option: str = "", value: Any = None) -> Cell:
    given = {**contender.given, **({option: value} if option else {})}
    fixed = {k: v for k, v in given.items() if k not in ("eps_rel", *BUDGETS)}
    return Cell(
        id=_slug(contender.solver, given),
        series=spell(contender.solver, fixed),
        solver=contender.solver,
        given=given,
    )


def _match(cells: list[Cell]) -> list[Cell]:
    """Fixed-step solvers without a budget, at the NFE of each cell of the first adaptive series."""
    catalog = read_catalog()
    adaptive = [cell for cell in cells if catalog[cell.solver]["adaptive"]]
    models = [cell for cell in adaptive if cell.series == adaptive[0].series]
    result = []
    for cell in cells:
        free = "nfe" in catalog[cell.solver]["options"] and not set(BUDGETS) & set(cell.given)
        if not free or not models:
            result.append(cell)
            continue
        result += [
            replace(cell, id=f"{cell.id}-at-{model.id}", role="matched", matches=model.id)
            for model in models
        ]
    return result


def _reference(solver: str, given: Mapping[str, Any]) -> Cell:
    return Cell(
        id=_slug(solver, given), series=solver, solver=solver, given=given, role="reference"
    )


def _slug(solver: str, given: Mapping[str, Any]) -> str:
    words = [f"{key}={value}" for key, value in given.items()]
    name = "-".join([solver, *words]).replace("/", "_").replace(":", "_")
    if len(name) <= LONGEST:
        return name
    digest = sha256_of(name.encode())[:12]
    return f"{name[: LONGEST - 13]}-{digest}"
