"""The line-up of a comparison: solvers, each at one or several settings.

    adaptive                at each tolerance of --eps-rel
    em                      at the NFE of each of these (--nfe match), at each of --nfe 50,100, or
                            at its own default (--nfe default)
    dpmpp-2m-sde:nfe=50     at this setting only
    adaptive:norm=linf      with this option, at each tolerance

A *cell* is one solver at one setting. Cells that differ in the tolerance or the budget only are a
*series*, one line in the figure. The reference is Euler–Maruyama with 1000 steps, as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ggf_cli.errors import UsageError
from ggf_cli.files import sha256_of
from ggf_cli.numerals import read_real, read_whole
from ggf_cli.solvers.catalog import OptionInfo, as_text, read_catalog
from ggf_cli.solvers.refusals import find_solver, instead

DEFAULT = ("adaptive", "em", "dpmpp-2m-sde:nfe=50")
EPS_REL = (0.01, 0.02, 0.05, 0.1)
REFERENCE = ("em", {"steps": 1000})
MATCH, DEFAULTS = "match", "default"
ORDER = ("contender", "matched", "reference")
# Options that set the number of evaluations a sample.
BUDGETS = ("steps", "nfe", "times")
_WORDS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
# Characters of a cell's id.
MAX_ID_LENGTH = 80


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A solver of the command line, with the options given for it."""

    solver: str
    given: Mapping[str, Any]

    def __str__(self) -> str:
        return format_contender(self.solver, self.given)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One solver at one setting.

    Attributes:
        id: Unique, and valid as a file name.
        series: The solver with its options other than tolerance and budget.
        solver: The name of the solver.
        given: The options that are given. The `nfe` of a matched cell is added once it is measured.
        role: "contender"; "matched": at the mean NFE of another cell; "reference".
        matches: The id of that other cell; None if the role is not "matched".
    """

    id: str
    series: str
    solver: str
    given: Mapping[str, Any]
    role: Literal["contender", "matched", "reference"] = "contender"
    matches: str | None = None


def parse_contender(text: str) -> Contender:
    """Parse "adaptive:eps-rel=0.05,norm=linf" into the solver and its options.

    Values are converted to the types in the catalog of solvers.

    Raises:
        UsageError: Unknown solver or option, or a value of another type. Ranges are checked when
            the solver is made.
    """
    name, _, rest = text.partition(":")
    options = find_solver(name).options
    parts: list[str] = []
    for part in rest.split(",") if rest else []:
        # The value of `intervals` of the solver restart may have commas.
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
            raise UsageError(
                f"{text!r}: solver '{name}' has no option {key!r}",
                hint=instead(name, option, options, lambda o: o.replace("_", "-")),
            )
        given[option] = _typed(text, key, value.strip(), options[option])
    return Contender(solver=name, given=given)


def _typed(text: str, key: str, value: str, option: OptionInfo) -> Any:
    """Convert the value of an option to its type."""
    name = f"{text!r}: {key}"
    if option.type == "bool":
        if value.lower() not in _WORDS:
            raise UsageError(f"{name} is {value!r}, it must be yes or no")
        return _WORDS[value.lower()]
    if option.type == "int":
        return read_whole(value, name)
    if option.type == "float":
        return read_real(value, name, share=bool(option.share))
    if option.type == "numbers":
        return tuple(read_real(part, name) for part in value.split(","))
    return value


def format_contender(solver: str, given: Mapping[str, Any]) -> str:
    """Format a solver and its options for `parse_contender`: "adaptive:eps-rel=0.05,norm=linf"."""
    words = {True: "yes", False: "no"}
    options = (
        f"{key.replace('_', '-')}={words[value] if isinstance(value, bool) else as_text(value)}"
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
    """Make the cells of a comparison, in the order in which they are drawn.

    Args:
        contenders: The solvers with their options; duplicates are dropped.
        eps_rel: Tolerances of adaptive stochastic solvers without one among their options.
        nfe: Budgets of fixed-step solvers without one among their options. "match": the mean NFE of
            each cell of the first adaptive solver, or the default budget if there is none.
            "default": the default budget of the solver.
        reference: Solver and options of the reference. There is none if budgets are given.

    Raises:
        UsageError: Fewer than two cells.
    """
    catalog = read_catalog()
    cells: list[Cell] = []
    for contender in contenders:
        about = catalog[contender.solver]
        swept = "eps_rel" if about.adaptive else "nfe"
        own = any(option in contender.given for option in (swept, *BUDGETS))
        if about.adaptive and about.kind == "sde" and not own:
            cells += [_cell(contender, swept, value) for value in eps_rel]
        elif not about.adaptive and not own and not isinstance(nfe, str):
            cells += [_cell(contender, swept, value) for value in nfe]
        else:
            cells.append(_cell(contender))
    if nfe == MATCH:
        cells = _match(cells)
    if isinstance(nfe, str):
        cells.append(_reference(*reference))
    unique: dict[tuple[Any, ...], Cell] = {}
    for cell in cells:
        options = {name: about.default for name, about in catalog[cell.solver].options.items()}
        key = (cell.solver, tuple((options | dict(cell.given)).items()), cell.matches)
        unique.setdefault(key, cell)
        # The same setting may also be among the contenders.
        if cell.role == "reference":
            unique[key] = cell
    # Contenders first: matched cells need their NFE.
    cells = sorted(unique.values(), key=lambda cell: ORDER.index(cell.role))
    if len(cells) < 2:
        raise UsageError(
            f"{cells[0].id if cells else 'nothing'} alone cannot be compared",
            hint="add another solver, or several settings: `nfe` 50,100 or `eps_rel` 0.02,0.05",
        )
    return cells


def without_reference(cells: Sequence[Cell]) -> list[Cell]:
    """The cells without the reference.

    Raises:
        UsageError: One cell is left.
    """
    kept = [cell for cell in cells if cell.role != "reference"]
    if len(kept) < 2:
        raise UsageError(
            f"{kept[0].id} alone cannot be compared", hint="add another solver, or the baseline"
        )
    return kept


def _cell(contender: Contender, option: str = "", value: float | None = None) -> Cell:
    """A contender at one value of the swept option."""
    given = {**contender.given, **({option: value} if option else {})}
    fixed = {k: v for k, v in given.items() if k not in ("eps_rel", *BUDGETS)}
    return Cell(
        id=_cell_id(contender.solver, given),
        series=format_contender(contender.solver, fixed),
        solver=contender.solver,
        given=given,
    )


def _match(cells: list[Cell]) -> list[Cell]:
    """Match fixed-step solvers without a budget to each cell of the first adaptive series."""
    catalog = read_catalog()
    adaptive = [cell for cell in cells if catalog[cell.solver].adaptive]
    targets = [cell for cell in adaptive if cell.series == adaptive[0].series]
    result = []
    for cell in cells:
        free = "nfe" in catalog[cell.solver].options and not set(BUDGETS) & set(cell.given)
        if not free or not targets:
            result.append(cell)
            continue
        result += [
            replace(cell, id=f"{cell.id}-at-{target.id}", role="matched", matches=target.id)
            for target in targets
        ]
    return result


def _reference(solver: str, given: Mapping[str, Any]) -> Cell:
    return Cell(
        id=_cell_id(solver, given), series=solver, solver=solver, given=given, role="reference"
    )


def _cell_id(solver: str, given: Mapping[str, Any]) -> str:
    """An id that is valid as a file name: long ones end with a hash."""
    words = [f"{key}={as_text(value)}" for key, value in given.items()]
    name = "-".join([solver, *words]).replace("/", "_").replace(":", "_")
    if len(name) <= MAX_ID_LENGTH:
        return name
    digest = sha256_of(name.encode())[:12]
    return f"{name[: MAX_ID_LENGTH - 13]}-{digest}"
