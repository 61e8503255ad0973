"""What subcommands print with: JSON on standard output, tables for people, progress on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.table import Table


def json_option(function: Any) -> Any:
    """The option `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def console() -> Console:
    """Where tables go: standard output; 80 columns where it is no terminal."""
    width = None if sys.stdout.isatty() else 80
    return Console(width=width, highlight=False, soft_wrap=False)


def print_json(value: Any) -> None:
    """`value` on standard output, indented."""
    click.echo(json.dumps(value, indent=2, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "", right: str = "") -> None:
    """A plain table; columns named in `right` (separated by blanks) are aligned right."""
    table = Table(title=title or None, box=None, pad_edge=False, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in right.split() else "left",
            overflow="fold",
            no_wrap=column in right.split(),
        )
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console().print(table)


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Show that `what` is going on, on standard error, while it lasts; nothing where that is no terminal."""
    error = Console(stderr=True, highlight=False)
    if not error.is_terminal:
        yield
        return
    with error.status(what):
        yield


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds with three digits that mean something.

    >>> milliseconds(0.0123456), milliseconds(0.0000123)
    ('12.3 ms', '0.0123 ms')
    """
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds * 1e3:.0f} ms"


def size(count: float) -> str:
    """Bytes for people.

    >>> size(14_000_000)
    '14.0 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.1f} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    raise AssertionError("unreachable")
