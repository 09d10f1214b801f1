"""What importing the package adds to importing pyopencl.

Run as ``python benchmarks/imports.py [--json FILE]``. Each import is timed in fresh interpreters,
by turns, after one that is not counted: Python's bytecode is then cached.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from _common import clean_environment, describe_machine, run_python

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS = 21
AIM = 15e-3  # seconds
STATEMENTS = ("import mace_cache", "from mace_cache import ProgramCache")

_PROGRAM = """
import time
start = time.perf_counter()
import pyopencl
middle = time.perf_counter()
{}
print(middle - start, time.perf_counter() - middle)
"""


def measure(rounds: int) -> dict[str, float]:
    """Time the imports.

    Args:
        rounds: how many interpreters time each statement.

    Returns:
        Medians in seconds: of ``import pyopencl``, and of what each statement takes after it.
    """
    times: dict[str, list[float]] = {name: [] for name in ("import pyopencl", *STATEMENTS)}
    with tempfile.TemporaryDirectory(prefix="mace-cache-imports-") as directory:
        environment = clean_environment(Path(directory, "caches"), Path(directory, "bytecode"))
        for number in range(rounds + 1):
            for statement in STATEMENTS:
                printed = run_python(["-c", _PROGRAM.format(statement)], environment)
                before, added = map(float, printed.split())
                if number:  # the first one wrote the bytecode
                    times["import pyopencl"].append(before)
                    times[statement].append(added)
    return {statement: statistics.median(taken) for statement, taken in times.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and tell by the exit code whether the aim is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="processes (%(default)s)")
    options = parser.parse_args(arguments)
    machine, seconds = describe_machine(), measure(options.rounds)
    print("; ".join(f"{name}: {value}" for name, value in machine.items()))
    for statement, taken in seconds.items():
        verdict = "" if statement not in STATEMENTS else "holds" if taken <= AIM else "MISSED"
        print(f"{statement:40}{taken * 1e3:8.1f} ms  {verdict}")
    print(f"aim: each adds at most {AIM * 1e3:g} ms to import pyopencl")
    if options.json:
        report = {"machine": machine, "seconds": seconds, "aim": AIM}
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return int(any(seconds[statement] > AIM for statement in STATEMENTS))


if __name__ == "__main__":
    sys.exit(main())
