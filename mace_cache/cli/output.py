"""What commands print: tables, properties, JSON and complaints; and quantities in words.

All text goes through `safe`, since names, options and logs come from files and drivers: a terminal
must not obey what stands in them.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "Column",
    "complain",
    "confirm",
    "print_json",
    "print_line",
    "print_lines",
    "print_properties",
    "print_table",
    "safe",
    "spoken_age",
    "spoken_moment",
    "spoken_number",
    "spoken_seconds",
    "spoken_size",
]

_WIDE = 1_000_000  # columns: what reads from a pipe wants lines whole
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_LONGEST_COMPLAINT = 2000
_KIBI = 1024


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: its heading.
        right: whether its cells stand at its right edge.
        flexible: whether it is the one to be shortened where the terminal is too narrow.
    """

    name: str
    right: bool = False
    flexible: bool = False


def safe(text: str) -> str:
    """Escape what a terminal could obey or not show: control characters, surrogates, breaks."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def print_json(value: Any) -> None:
    """Print a value as JSON, in ASCII."""
    click.echo(json.dumps(value, indent=2))


def print_line(text: str = "", style: str = "") -> None:
    """Print one line."""
    print_lines([(text, style)])


def print_lines(lines: Iterable[tuple[str, str]]) -> None:
    """Print lines, each with a style of rich."""
    console = _console()
    for text, style in lines:
        console.print(Text(safe(text), style), soft_wrap=True)


def print_properties(pairs: Iterable[tuple[str, str]], indent: int = 0) -> None:
    """Print names and values; the lines of a value stand below each other."""
    pairs = list(pairs)
    width = max((len(safe(name)) for name, _value in pairs), default=0)
    console = _console()
    for name, value in pairs:
        heading = f"{' ' * indent}{safe(name):{width}}  "
        for line in value.split("\n"):
            text = Text(heading, "bold").append(safe(line), "not bold")
            text.rstrip()
            console.print(text, soft_wrap=True)
            heading = " " * len(heading)


def print_table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    styles: Iterable[str] = (),
    title: str | None = None,
) -> None:
    """Print a table.

    Args:
        columns: its columns.
        rows: a text a column each.
        styles: a style of rich a row; none where it ends early.
        title: a line above it.
    """
    if title is not None:
        print_line(title, "bold")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(
            column.name,
            justify="right" if column.right else "left",
            no_wrap=not column.flexible,
        )
    styles = iter(styles)
    for row in rows:
        cells = [Text(safe(text), no_wrap=True, overflow="ellipsis") for text in row]
        table.add_row(*cells, style=next(styles, None))
    _console().print(table)


def complain(message: str) -> None:
    """Print one line to the standard error."""
    text = safe(" ".join(message.split()))
    if len(text) > _LONGEST_COMPLAINT:
        text = text[:_LONGEST_COMPLAINT] + "..."
    click.echo(f"mace-cache: {text}", err=True)


def confirm(question: str) -> bool:
    """Ask a person, who is at the standard input.

    Raises:
        Abort: the input ended, or was interrupted.
    """
    return click.confirm(safe(question), err=True)


def spoken_size(size: int) -> str:
    """Give a number of bytes as ``12.3 KiB``."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < _KIBI:
            return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= _KIBI
    return f"{amount:.1f} TiB"


def spoken_seconds(seconds: float) -> str:
    """Give a time that something took, as ``1.24 s``."""
    return f"{seconds:.2f} s" if seconds < _KIBI else f"{seconds:.4g} s"


def spoken_age(moment: float) -> str:
    """Give the time since a moment, in seconds since 1970, as ``3 d``."""
    age = max(0.0, time.time() - moment)
    for unit, seconds in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if age >= seconds:
            return f"{age // seconds:.0f} {unit}"
    return f"{age:.0f} s"


def spoken_moment(moment: float) -> str:
    """Give a moment, in seconds since 1970, as a date and time."""
    try:
        return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return f"{moment!r} s since 1970"


def spoken_number(number: int, noun: str) -> str:
    """Give a count as ``1 program``, ``2 programs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _console() -> Console:
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return Console(markup=False, highlight=False, emoji=False, width=None if terminal else _WIDE)
