"""How results are shown: a table on a terminal, plain lines in a pipe, JSON for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any


def print_json(value: Any) -> None:
    """Print a value as JSON; what JSON does not know, such as a time, is printed as text."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their header; in a pipe each row is one line, however long."""
    if sys.stdout.isatty():
        _print_rich_table(header, rows)
    else:
        print(plain_table(header, rows))


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text; a column of numbers alone is aligned to the right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    right = _columns_of_numbers(header, rows)
    lines = []
    for row in (header, *rows):
        cells = zip(row, widths, right, strict=True)
        text = "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in cells)
        lines.append(text.rstrip())
    return "\n".join(lines)


def _print_rich_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    right = _columns_of_numbers(header, rows)
    for title, numeric in zip(header, right, strict=True):
        table.add_column(title, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    # A cell is never folded: a URI must stay in one piece, so that it can be copied.
    widest = max(map(len, plain_table(header, rows).splitlines()))
    console = Console()
    console.width = max(console.width, widest + 2)
    console.print(table)


def _columns_of_numbers(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[bool]:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    return [bool(column) and all(map(_is_number, column)) for column in columns]


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).replace("-", "", 1).rstrip("%").strip().isdigit()
