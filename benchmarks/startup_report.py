"""What ``startup.py`` has found, as Markdown: times, ratios beside the aims, and why one is missed.

    python benchmarks/startup_report.py [--write]

Prints the tables of all ``results/startup*.json``; ``--write`` puts them into the two READMEs and
draws the chart, ``results/startup.svg``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from _common import replace_marked, shown_seconds
from _startup_aims import TITLES, WAYS, label_of, median, misses, ratios, title_of
from _startup_reasons import reason_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _startup_aims import Driver, Ratio

BENCHMARKS = Path(__file__).parent
RESULTS = BENCHMARKS / "results"
CHART = RESULTS / "startup.svg"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; the exit code tells whether all aims are met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="into the READMEs, with the chart")
    options = parser.parse_args(arguments)
    drivers = read_results()
    print(make_report(drivers))
    if options.write:
        write(drivers)
    return int(not drivers or any(misses(driver) for driver in drivers))


def read_results() -> list[Driver]:
    """Give the drivers of all kept results, in the order of their titles."""
    reports = [json.loads(path.read_text()) for path in RESULTS.glob("startup*.json")]
    drivers = [driver for report in reports for driver in report["drivers"]]
    return sorted(drivers, key=lambda driver: title_of(driver).lower())


def write(drivers: Sequence[Driver]) -> None:
    """Put the tables into the READMEs and draw the chart."""
    from _startup_chart import draw  # noqa: PLC0415 (measuring needs no matplotlib)

    replace_marked(BENCHMARKS.parent / "README.md", "startup", make_ratios(drivers))
    replace_marked(BENCHMARKS / "README.md", "startup", make_report(drivers))
    draw(drivers, CHART)


def make_report(drivers: Sequence[Driver]) -> str:
    """Give all that was found: times, ratios and reasons."""
    times = [_make_times(drivers, workload) for workload in TITLES]
    return "\n".join([*times, make_ratios(drivers)])


def make_ratios(drivers: Sequence[Driver]) -> str:
    """Give the ratios, and why aims are missed."""
    tables = [_make_ratios(drivers, workload) for workload in TITLES]
    return "\n".join([*tables, _make_notes(drivers)])


def _make_times(drivers: Sequence[Driver], workload: str) -> str:
    rows = [
        [label + state.replace("empty", "").replace("hot", ", hot")]
        + [_shown_times(driver, workload, way, state) for driver in drivers]
        for way, label in WAYS.items()
        for state in (("empty",) if way == "cold" else ("empty", "hot"))
    ]
    return _make_table(TITLES[workload], drivers, rows)


def _make_ratios(drivers: Sequence[Driver], workload: str) -> str:
    columns = [ratios(driver, workload) for driver in drivers]
    rows = [
        [label_of(*pair), *(_shown_ratio(column[pair]) for column in columns)]
        for pair in columns[0]
    ]
    return _make_table(TITLES[workload], drivers, rows)


def _make_table(corner: str, drivers: Sequence[Driver], rows: list[list[str]]) -> str:
    head = [corner, *map(title_of, drivers)]
    lines = [head, ["---", *["---:"] * len(drivers)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _make_notes(drivers: Sequence[Driver]) -> str:
    """Say why aims are missed, once for all drivers and workloads of one reason."""
    said: dict[tuple[str, str], list[str]] = {}
    for driver in drivers:
        for workload, *pair in misses(driver):
            why = label_of(*pair), reason_of(driver["family"], *pair)
            said.setdefault(why, []).append(_shown_place(driver, workload, *pair))
    lines = ["Bold misses its aim:\n\n" if said else "No measured aim is missed.\n\n"]
    lines += [f"- {label}, {', '.join(where)}: {why}\n" for (label, why), where in said.items()]
    lines += [
        f"- {TITLES[workload]}, {title_of(driver)}: not measured: {measured['missing']}\n"
        for driver in drivers
        for workload, measured in driver["workloads"].items()
        if "missing" in measured
    ]
    return "".join(lines)


def _shown_place(driver: Driver, workload: str, way: str, against: str) -> str:
    """Name a driver and a workload, with what the floor reaches there instead of the cache."""
    floor = median(driver, workload, "floor", "empty", "first")
    theirs = median(driver, workload, against, "empty", "first")
    if way == "cold" or against == "floor" or not (floor and theirs):
        return f"{title_of(driver)} ({workload})"
    return f"{title_of(driver)} ({workload}; the floor: {_shown_part(floor / theirs)})"


def _shown_times(driver: Driver, workload: str, way: str, state: str) -> str:
    first = median(driver, workload, way, state, "first")
    builds = median(driver, workload, way, state, "builds")
    return f"{shown_seconds(first)} ({shown_seconds(builds)})" if first and builds else ""


def _shown_ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return ""
    value = _shown_part(ratio.value) + (" of builds" if ratio.figure == "builds" else "")
    aim = "" if ratio.aim is None else f" (aim {_shown_part(ratio.aim)})"
    return f"**{value}**{aim}" if ratio.missed else value + aim


def _shown_part(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"1/{math.floor(1 / value + 1e-9)}"


if __name__ == "__main__":
    sys.exit(main())
