"""The table of the campaign, written into ``docs/faults.md``."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.faults.faults import Outcome

__all__ = ["make_table", "write_table"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
_BEGIN, _END = "<!-- campaign -->\n", "<!-- end -->\n"


def make_table(outcomes: Sequence[Outcome]) -> str:
    """Give the table: a row a group of faults; and a last line that sums it up."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.fault.group, []).append(outcome)
    rows = [_row(name, groups[name]) for name in groups]
    failed = sum(bool(outcome.problem) for outcome in outcomes)
    sum_ = f"{len(outcomes) - failed} passed, {failed} failed"
    return "\n".join([*_head(outcomes), *rows, "", sum_]) + "\n"


def _head(outcomes: Sequence[Outcome]) -> Iterator[str]:
    drivers = sorted({outcome.fault.driver for outcome in outcomes})
    yield f"Drivers: {', '.join(drivers)}."
    yield f"Linux {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}."
    yield ""
    yield "| fault | tries | right | next hits | next builds | with a warning | failed |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"


def _row(name: str, outcomes: Sequence[Outcome]) -> str:
    hits = sum(outcome.hit for outcome in outcomes)
    numbers = [
        len(outcomes),
        sum(outcome.right for outcome in outcomes),
        hits,
        len(outcomes) - hits,
        sum(bool(outcome.warned) for outcome in outcomes),
        sum(bool(outcome.problem) for outcome in outcomes),
    ]
    return " | ".join([f"| {name}", *map(str, numbers)]) + " |"


def write_table(table: str) -> None:
    """Put the table in its place."""
    text = DOCUMENT.read_text()
    before, rest = text.split(_BEGIN, 1)
    DOCUMENT.write_text(before + _BEGIN + table + _END + rest.split(_END, 1)[1])
