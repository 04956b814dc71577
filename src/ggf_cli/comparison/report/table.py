"""The table of a comparison in the terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ggf_cli.comparison.report.rows import (
    Column,
    Comparison,
    Row,
    columns,
    failures,
    legend,
    rows,
)
from ggf_cli.text import plain as printable

_ASCII = str.maketrans(
    {
        "±": "+/-",
        "≈": "~",
        "✓": "*",
        "–": "-",
        "—": "-",
        "×": "x",
        "·": ",",
        "↓": "",
        "↑": "",
        "→": "->",
        "∞": "inf",
        "−": "-",
        "\u202f": " ",
        "\xa0": " ",
    }
)
_STYLES = {"pending": "dim", "failed": "red", "reference": "italic", "floor": "italic cyan"}


def table(comparison: Comparison, *, plain: bool = False) -> RenderableType:
    """Make the table of a comparison: one row a cell, the best one bold, floors last.

    If the console is too narrow, columns on the right are left out and named below the table.

    Args:
        comparison: The content of a `compare.json`.
        plain: Use ASCII characters only.
    """
    return _ComparisonTable(comparison, plain)


@dataclass(frozen=True)
class _ComparisonTable:
    comparison: Comparison
    plain: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        found = columns(self.comparison)
        shown = list(found)
        while shown[-1].optional and self._width(shown, console, options) > options.max_width:
            shown.pop()
        yield self._table(shown)
        yield Text()
        for label, reason in failures(self.comparison):
            yield Text.assemble(("failed ", "red"), f"{self._text(label)}: {self._text(reason)}")
        legends = [*legend(self.comparison)]
        if missing := [column.title for column in found[len(shown) :]]:
            legends.append(f"The terminal is too narrow for: {', '.join(missing)}.")
        yield Text(self._text(" ".join(legends)), style="dim")

    def _width(self, shown: Sequence[Column], console: Console, options: ConsoleOptions) -> int:
        unlimited = options.update(max_width=10_000)
        return Measurement.get(console, unlimited, self._table(shown)).maximum

    def _table(self, shown: Sequence[Column]) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in shown:
            table.add_column(
                Text(self._text(column.title).strip()),
                justify="right" if column.numeric else "left",
                no_wrap=column.key != "label",
                overflow="fold",
            )
        for row in rows(self.comparison):
            if row.starts_group:
                table.add_row()
            style = _STYLES.get(row.status) or _STYLES.get(row.kind, "")
            style = f"{style} bold" if row.best else style
            table.add_row(*(self._cell_text(row, column) for column in shown), style=style)
        return table

    def _cell_text(self, row: Row, column: Column) -> RenderableType:
        text = Text(self._text(row.texts.get(column.key, "")))
        indented = column.key == "label" and row.kind == "matched"
        return Padding(text, (0, 0, 0, 2), expand=False) if indented else text

    def _text(self, text: str) -> str:
        """Remove control characters; if `plain`, replace other than ASCII characters."""
        if self.plain:
            parts = unicodedata.normalize("NFD", text.translate(_ASCII))
            text = "".join(c for c in parts if not unicodedata.combining(c))
            text = text.encode("ascii", "replace").decode()
        return printable(text).replace("\ufffd", "?") if self.plain else printable(text)
