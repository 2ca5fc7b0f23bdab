"""Tables and lines for a person at a terminal, or for a log file: no colour codes unless it is a terminal.

Cells are foreign text: they pass through `printable.one_line` and are never read as markup.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.printable import one_line

_LOG_WIDTH = 120  # columns where there is no terminal
_LEAST_WIDTH = 60
_CELL_LIMIT = 400
_GAP = 3  # columns of space between cells
_LEAST_WIDE = 12
_STYLES = {"right": "green", "wrong": "red", "missed": "yellow"}  # besides the word


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Args:
        wide: takes the room that is left and is cut to it; the others keep their width.
    """

    title: str
    align: Literal["left", "right"] = "left"
    wide: bool = False


def print_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, file: TextIO | None = None
) -> None:
    """Print a table, one line a row; on a terminal as wide as it is.

    Raises:
        ValueError: a row has another number of cells than there are columns.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    if any(len(row) != len(columns) for row in rows):
        raise ValueError(f"a row does not have the table's {len(columns)} cells")
    cells = [[_cell(text) for text in row] for row in rows]
    console = _console(file or sys.stdout)
    widths = _widths(columns, cells, console.width)
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            Text(column.title), justify=column.align, no_wrap=True, overflow="ellipsis", width=width
        )
    for row in cells:
        table.add_row(*row)
    console.print(table)


def print_heading(title: str, *, file: TextIO | None = None) -> None:
    """Print a line that begins a section."""
    _console(file or sys.stdout).print(Text(f"\n{one_line(title)}", style="bold"))


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[Text]], total: int) -> list[int]:
    """As wide as its widest cell, except that wide columns share what the others leave."""
    needed = [
        max(len(column.title), *(row[place].cell_len for row in cells)) if cells else len(column.title)
        for place, column in enumerate(columns)
    ]
    wide = [place for place, column in enumerate(columns) if column.wide]
    left = (
        total - _GAP * len(columns) - sum(needed[place] for place in range(len(columns)) if place not in wide)
    )
    for place in wide:
        needed[place] = min(needed[place], max(left // len(wide), _LEAST_WIDE))
    return needed


def _cell(text: str) -> Text:
    clean = one_line(text, _CELL_LIMIT)
    return Text(clean, style=_STYLES.get(clean, ""))


def _console(file: TextIO) -> Console:
    width = shutil.get_terminal_size((_LOG_WIDTH, 24)).columns if file.isatty() else _LOG_WIDTH
    return Console(file=file, width=max(width, _LEAST_WIDTH), markup=False, highlight=False, emoji=False)
