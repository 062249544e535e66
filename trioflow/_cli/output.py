"""How commands print: for people, in colour where that is wanted, or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

__all__ = [
    "STATUS_STYLES",
    "as_json",
    "console",
    "place",
    "print_id",
    "print_json",
    "print_json_line",
    "print_table",
    "shown",
    "time_of",
]

STATUS_STYLES = {
    "running": "cyan",
    "completed": "green",
    "failed": "bold red",
    "cancelled": "yellow",
    "terminated": "yellow",
    "suspended": "bold magenta",
}

_GAP = 2
_NARROW = 8  # columns of a table do not get narrower than this many cells

# What a terminal would obey instead of showing it, and what changes the direction of text.
_HIDDEN = [*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_ESCAPES = {number: ascii(chr(number))[1:-1] for number in _HIDDEN}


def console(*, stderr: bool = False) -> Console:
    """Return what to print on.

    It is made anew, so that it prints where the process prints now. There are colours on a
    terminal, unless ``NO_COLOR`` is set; ``FORCE_COLOR`` gives them elsewhere, too.
    """
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def shown(text: str) -> str:
    """Return a text of a user's on one line, without what a terminal would obey."""
    return text.translate(_ESCAPES)


def time_of(seconds: float | None, timespec: str = "seconds") -> str:
    """Return a time as people read it, in UTC."""
    if seconds is None:
        return ""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError):  # further away than the calendar goes
        return f"{seconds:.0f}"
    return moment.replace(tzinfo=None).isoformat(" ", timespec) + "Z"


def place(line: str) -> str:
    """Return a place in a source file, relative to the present folder if it is below that."""
    path, colon, number = line.rpartition(":")
    try:
        return f"{Path(path).relative_to(Path.cwd())}{colon}{number}"
    except ValueError:
        return line


def as_json(value: Any) -> str:
    """Return a value as JSON on one line."""
    return msgspec.json.encode(value).decode()


def print_json(value: Any) -> None:
    """Print a value as JSON, as readable as can be, and nothing else."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    sys.stdout.write(text + "\n")


def print_id(id: str, *, as_json: bool) -> None:
    """Print the id of what was started, alone on its line or as JSON."""
    if as_json:
        print_json({"id": id})
    else:
        click.echo(shown(id))


def print_json_line(value: Any) -> None:
    """Print a value as one line of JSON, at once, for those who read a stream of them."""
    sys.stdout.write(as_json(value) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: on a terminal as wide as that at most, elsewhere as wide as it is.

    A cell is a text of one line. A row may have a status, whose colour it gets.
    """
    out = console()
    table = [list(columns), *([shown(cell) for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    if out.is_terminal:
        widths = _fitting(widths, out.width)
    for number, row in enumerate(table):
        line = Text(style="bold" if number == 0 else "")
        for cell, width in zip(row, widths, strict=True):
            line.append(_cell(cell, width), STATUS_STYLES.get(cell, ""))
            line.append(" " * _GAP)
        line.rstrip()
        out.print(line)


def _fitting(widths: list[int], most: int) -> list[int]:
    """Take from the widest columns what there is too much; from the first, the ids, at last."""
    widths = [*widths]
    for _ in range(sum(widths) + _GAP * (len(widths) - 1) - most):
        wide = [number for number, width in enumerate(widths) if width > _NARROW]
        if not wide:
            break
        widths[max(wide, key=lambda number: (number > 0, widths[number]))] -= 1
    return widths


def _cell(text: str, width: int) -> str:
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    return set_cell_size(text, width)
