"""Tables that fit the width of the terminal: columns are left out by name, cells are never cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ggf_cli.cli import console

# Characters between two columns.
GAP = 2
# The widest column that does not wrap; a longer cell is continued on the next line.
WIDEST = 32


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        title: The title.
        cells: The texts of all rows.
        rank: Columns of a higher rank are left out first; those of rank 0 never.
        justify: The alignment of the cells.
        wraps: The least width of a column of prose; None: cells wrap only above `WIDEST`.
    """

    title: str
    cells: Sequence[str]
    rank: int = 0
    justify: Literal["left", "right"] = "left"
    wraps: int | None = None

    @property
    def full(self) -> int:
        """The width of the longest cell."""
        return max(map(cell_len, [self.title, *self.cells]))

    @property
    def least(self) -> int:
        """The smallest width in which the column is readable."""
        return min(self.full, self.wraps or WIDEST)


def fit(columns: Sequence[Column], width: int) -> tuple[list[Column], list[Column]]:
    """Choose the columns for a width: those shown, and those left out, in their order."""
    shown: set[str] = set()
    free = width + GAP
    for column in sorted(columns, key=lambda column: column.rank):
        if column.rank == 0 or column.least + GAP <= free:
            shown.add(column.title)
            free -= column.least + GAP
    return (
        [column for column in columns if column.title in shown],
        [column for column in columns if column.title not in shown],
    )


def show(columns: Sequence[Column], *, groups: Sequence[tuple[str, int]] = ()) -> None:
    """Print a table in the width of stdout; see `table`."""
    width = console.width()
    console.show(table(columns, width, groups=groups), columns=width)


def table(
    columns: Sequence[Column], width: int, *, groups: Sequence[tuple[str, int]] = ()
) -> RenderableType:
    """A table, followed by a line that names the columns for which the width is too small.

    Args:
        columns: The columns, whose cells are plain text.
        width: The width in characters.
        groups: Headings, each with its number of rows; none: one group without a heading.
    """
    shown, left_out = fit(columns, width)
    widths = _widths(shown, width)
    rows = list(zip(*(column.cells for column in shown), strict=True))
    parts: list[RenderableType] = [_grid(shown, widths, [], titles=True)]
    for heading, count in groups or [("", len(rows))]:
        group, rows = rows[:count], rows[count:]
        if heading:
            parts += ["", Text(heading, style="italic")]
        parts.append(_grid(shown, widths, group))
    if left_out:
        names = ", ".join(column.title for column in left_out)
        parts += ["", Text(f"not shown in {width} columns: {names} (--json has them)")]
    return Group(*parts)


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    """The width of each column: what is left over goes to those that would wrap."""
    free = width + GAP - sum(column.least + GAP for column in columns)
    widths = {column.title: column.least for column in columns}
    # Columns of prose come last: they wrap well.
    for column in sorted(columns, key=lambda column: column.wraps is not None):
        more = max(0, min(free, column.full - column.least))
        widths[column.title] += more
        free -= more
    return list(widths.values())


def _grid(
    columns: Sequence[Column],
    widths: Sequence[int],
    rows: Sequence[Sequence[str]],
    *,
    titles: bool = False,
) -> Table:
    grid = Table(box=None, pad_edge=False, show_header=titles, header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        # "fold": a word that is longer than the column is continued, not cut.
        grid.add_column(column.title, justify=column.justify, width=width, overflow="fold")
    for row in rows:
        # As plain text: "MIT [modified]" is not markup.
        grid.add_row(*map(Text, row))
    return grid
