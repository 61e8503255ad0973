"""The one place that prints: results on standard output, progress and complaints on standard error.

Whatever comes from a file, a name or an engine's message, is made printable here, and nothing in it is markup.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, Final

import click
from rich.cells import cell_len

from nnapi.errors import printable

GAP: Final = 2
"""Columns between those of a table."""
NARROW: Final = 12
"""Columns that text of a table needs; where there are fewer, a row becomes a paragraph."""
_KEPT: Final = re.compile(r"(?<=\d) (?=[^\W\d])|(?<=\d [kMG]) (?=\w)|(?<=\bpip) (?=install )|(?<=\bpip install) ")
"""Blanks between a number and what it counts, and in what people copy: no line ends there."""


def json_option(function: Any) -> Any:
    """The option `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def say(line: object, *, err: bool = False) -> None:
    """One line; on a terminal, folded between words to its width."""
    text = printable(str(line))
    stream = sys.stderr if err else sys.stdout
    width = _width(stream)
    indent = " " * (len(text) - len(text.lstrip()) + 4)
    lines = [text] if width is None else _folded(text, width, indent, break_long_words=False)
    _write(lines, stream)


def print_text(text: str, *, err: bool = False) -> None:
    """Lines as they are, for other programs; what is not printable is escaped."""
    _write(map(printable, text.split("\n")), sys.stderr if err else sys.stdout)


def print_json(value: Any) -> None:
    """`value` on standard output, indented."""
    _write([json.dumps(value, indent=2, default=str)], sys.stdout)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: str = "") -> None:
    """A plain table, no wider than the terminal; columns named in `right` (separated by blanks) are aligned right."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    width = _width(sys.stdout)
    head, *lines = _table([*map(printable, columns)], cells, {*right.split()}, width)
    _write([head if width is None else click.style(head, bold=True), *lines], sys.stdout)


@contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """Show on standard error that `what` is going on, and how far it is by the function that comes back.

    Nothing is shown where that is no terminal.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda how_far: None
        return
    shown = Text(printable(what), no_wrap=True, overflow="ellipsis")
    with console.status(shown, spinner="dots" if console.encoding.startswith("utf") else "line") as status:
        yield lambda how_far: status.update(shown + f": {printable(how_far)}")


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


def _write(lines: Iterable[str], stream: IO[str] | None) -> None:
    if stream is None:
        return
    with contextlib.nullcontext() if stream is sys.stdout else contextlib.suppress(OSError):  # nobody hears complaints
        stream.write("".join(f"{line}\n" for line in lines))
        stream.flush()


def _width(stream: IO[str] | None) -> int | None:
    """Columns of a terminal; None where there is none: what another program reads is not folded."""
    try:
        if stream is None or not stream.isatty():
            return None
        given = os.environ.get("COLUMNS", "")
        return (int(given) if given.isdecimal() else os.get_terminal_size(stream.fileno()).columns) or 80
    except (OSError, ValueError):
        return 80


def _folded(text: str, width: int, indent: str = "", *, break_long_words: bool = True) -> list[str]:
    """`text` in lines of at most `width`, never between a number and its unit."""
    if cell_len(text) <= width:
        return [text]
    if cell_len(text) > len(text):  # characters of two columns count twice, and one may be cut in its middle
        text, width = "".join(f"{c}\0" if cell_len(c) > 1 else c for c in text), width - 1
    lines = textwrap.wrap(
        _KEPT.sub("\xa0", text), max(width, len(indent) + 1), subsequent_indent=indent,
        break_long_words=break_long_words, break_on_hyphens=False,
    )  # fmt: skip
    return [line.replace("\xa0", " ").replace("\0", "") for line in lines] or [""]


def _table(columns: list[str], rows: list[list[str]], right: set[str], width: int | None) -> Iterator[str]:
    """The lines of a table: text is folded where it must be, numbers never."""
    widths = [max(map(cell_len, cells)) for cells in zip(columns, *rows)]
    loose = [k for k, name in enumerate(columns) if name not in right]
    if width is not None:
        room = width - GAP * (len(columns) - 1) - sum(w for k, w in enumerate(widths) if k not in loose)
        limit = max((w for w in range(width + 1) if sum(min(widths[k], w) for k in loose) <= room), default=0)
        if any(widths[k] > limit and limit < NARROW for k in loose) or room < 0:
            yield from _paragraphs(columns, rows, width)
            return
        for k in loose:
            widths[k] = min(widths[k], limit)
    for row in (columns, *rows):
        folded = [_folded(cell, w) if k in loose else [cell] for k, (cell, w) in enumerate(zip(row, widths))]
        for n in range(max(map(len, folded))):
            parts = [cell[n] if n < len(cell) else "" for cell in folded]
            padded = [
                part + " " * (w - cell_len(part)) if k in loose else " " * (w - cell_len(part)) + part
                for k, (part, w) in enumerate(zip(parts, widths))
            ]
            yield (" " * GAP).join(padded).rstrip()


def _paragraphs(columns: list[str], rows: list[list[str]], width: int) -> Iterator[str]:
    """Rows for which a terminal is too narrow: each cell in lines of its own, after its column's name."""
    yield from _folded(", ".join(filter(None, columns)), width)
    for row in rows:
        yield from _folded(row[0], width)
        for name, cell in zip(columns[1:], row[1:]):
            if cell:
                yield from _folded(f"  {name}: {cell}" if name else f"  {cell}", width, "    ")
