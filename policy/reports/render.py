"""Draw rows as Markdown, as CSV and on the console."""

from __future__ import annotations

import csv
import io

import rich.table
from rich.console import Console

from reconverge.policy.reports.rows.cells import Table


def markdown(table: Table) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *_texts(table)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def comma_separated(table: Table) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([list(table.columns), *_texts(table)])
    return text.getvalue()


def print_table(console: Console, table: Table) -> None:
    """Print the rows under their caption, numbers to the right."""
    drawn = rich.table.Table()
    for i, column in enumerate(table.columns):
        right = i > 0 and any(row[i].value is not None for row in table.rows)
        drawn.add_column(column, justify="right" if right else "left")
    for texts in _texts(table):
        drawn.add_row(*texts)
    console.print(table.caption, highlight=False)
    console.print(drawn)


def _texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]
