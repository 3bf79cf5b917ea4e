"""How rows reach standard output: as a table for people, JSON or CSV for programs.

JSON is one row per line, keys in a fixed order and ASCII only, so that equal rows are equal bytes and two outputs can be
compared with ``diff``. CSV has a header; what is nested in JSON is JSON text in its cell.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from crdtledger.edge.cli.options import OutputFormat

Row = Mapping[str, Any]

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_UNBOUNDED = 10_000


def emit(rows: Sequence[Row], columns: Sequence[str], format: OutputFormat) -> None:
    """Print ``rows``; ``columns`` come first and are there even without a row, other keys follow."""
    if format == "json":
        _write_json(rows)
        return
    extra = dict.fromkeys(key for row in rows for key in row if key not in columns)
    wanted = [*columns, *extra]
    if format == "csv":
        _write_csv(rows, wanted)
    else:
        _print_table(rows, wanted)


def emit_one(row: Row, format: OutputFormat) -> None:
    """Print a single thing: an object in JSON, one row in CSV, a line per field as a table."""
    if format == "json":
        sys.stdout.write(json.dumps(row) + "\n")
    elif format == "csv":
        _write_csv([row], list(row))
    else:
        width = max(map(len, row), default=0)
        for key, value in row.items():
            sys.stdout.write(f"{key.replace('_', ' '):<{width}}  {text(value)}\n".rstrip() + "\n")


def _write_json(rows: Sequence[Row]) -> None:
    lines = ",\n".join(json.dumps(row) for row in rows)
    sys.stdout.write(f"[\n{lines}\n]\n" if rows else "[]\n")


def _write_csv(rows: Sequence[Row], columns: Sequence[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])


def _cell(value: Any) -> Any:
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value


def _print_table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        numeric = bool(rows) and all(_NUMBER.fullmatch(text(row.get(column))) for row in rows)
        table.add_column(column.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(text(row.get(column)) for column in columns))
    console().print(table)


def text(value: Any) -> str:
    """A value as people read it."""
    if value is None or value == "" or value == [] or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value))
    return str(value)


def console(stderr: bool = False) -> Console:
    """A console that keeps whole lines where nobody looks at a screen, and interprets no markup in data."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _UNBOUNDED
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def say(line: str) -> None:
    """One line for whoever watches, on standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
