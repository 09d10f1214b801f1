"""What ``many.py`` has found, as Markdown: a table, and a sentence for who reads no tables.

    python benchmarks/many_report.py [--write]

Prints those of ``results/many.json``; ``--write`` puts them into the two READMEs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import replace_marked, shown_seconds
from _startup_aims import title_of

if TYPE_CHECKING:
    from collections.abc import Sequence

BENCHMARKS = Path(__file__).parent
RESULTS = BENCHMARKS / "results" / "many.json"

Driver = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the exit code tells whether all aims are met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="into the READMEs")
    options = parser.parse_args(arguments)
    drivers = read_results()
    print(make_table(drivers) + "\n" + make_sentences(drivers))
    if options.write:
        write(drivers)
    return int(not drivers or any(driver["missed"] for driver in drivers))


def read_results() -> list[Driver]:
    """Give the drivers of the kept results; none where there are none."""
    if not RESULTS.exists():
        return []
    drivers: list[Driver] = json.loads(RESULTS.read_text())["drivers"]
    return drivers


def write(drivers: Sequence[Driver]) -> None:
    """Put the table and the sentence into the READMEs."""
    replace_marked(BENCHMARKS / "README.md", "many", make_table(drivers))
    replace_marked(BENCHMARKS.parent / "README.md", "many", make_sentences(drivers))


def make_table(drivers: Sequence[Driver]) -> str:
    """Give the times and their ratios; bold misses the aim."""
    if not drivers:
        return "Not measured on an idle machine yet.\n"
    head = [["`build_many` / loop", *map(title_of, drivers)], ["---", *["---:"] * len(drivers)]]
    rows = [
        [f"{name.partition(',')[0]}, {start['programs']} programs"]
        + [_make_cell(driver, name) for driver in drivers]
        for name, start in drivers[0]["starts"].items()
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in [*head, *rows])


def _make_cell(driver: Driver, name: str) -> str:
    start = driver["starts"][name]
    ratio, notes = f"{start['ratio']:.2f}", []
    if name == "cold" and driver["aim"] is not None:
        ratio = f"**{ratio}**" if driver["missed"] else ratio
        notes = [f"aim {driver['aim']}"]
    if start["bound"] is not None:
        notes.append(f"bound {start['bound']:.2f}")
    notes.append(f"{shown_seconds(start['many'])} / {shown_seconds(start['loop'])}")
    return f"{ratio} ({', '.join(notes)})"


def make_sentences(drivers: Sequence[Driver]) -> str:
    """Say of each driver with an aim what was aimed at, what was measured and why it is missed."""
    return "".join(_make_sentence(driver) for driver in drivers if driver["aim"] is not None)


def _make_sentence(driver: Driver) -> str:
    cold, more = (driver["starts"][name] for name in ("cold", "cold, more programs"))
    said = (
        f"A cold `build_many` on two cores was to take at most {driver['aim']} of the time of the "
        f"loop of `build`; with {title_of(driver)} and the face detection's {cold['programs']} "
        f"programs it takes {cold['ratio']:.2f}, with {more['programs']} programs "
        f"{more['ratio']:.2f}"
    )
    if driver["missed"]:
        said += (
            ": each process that compiles has to read the driver's own kernel library first, so "
            f"that two can't go below {cold['bound']:.2f} and {more['bound']:.2f}, and what the "
            "worker has built is then built once more by the caller, from the driver's own cache"
        )
    return said + ".\n"


if __name__ == "__main__":
    sys.exit(main())
