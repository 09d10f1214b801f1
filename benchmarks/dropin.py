"""What `mace_cache.install` adds to `Program.build`: warm, in memory, and with the cache disabled.

Run as ``python benchmarks/dropin.py [--platform TEXT] [--json FILE]``; ``README.md`` beside it says
what the figures mean. Every platform that is found is a driver.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyopencl as cl
from _common import clean_environment, describe_machine, run_python

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS = 10
PROGRAMS = 20
AIMS = {"warm": 50e-6, "memory": 50e-6, "disabled": 5e-6}  # seconds more than without the hook

_PROCESS = str(Path(__file__).with_name("_dropin_process.py"))


def measure(platform: int, rounds: int, programs: int) -> dict[str, Any]:
    """Measure a driver.

    Args:
        platform: the number of the platform.
        rounds: in how many processes the two ways take turns.
        programs: how many programs.
    """
    with tempfile.TemporaryDirectory(prefix="mace-cache-dropin-") as directory:
        taken: list[dict[str, Any]] = []
        for turn in range(rounds + 1):  # the first fills the cache
            environment = clean_environment(
                Path(directory) / f"caches-{turn}", Path(directory) / "code"
            )
            arguments = [_PROCESS, str(platform), directory, str(programs), str(turn)]
            taken.append(json.loads(run_python(arguments, environment)))
    figures = {
        "warm": _of_programs([one["warm"] for one in taken[1:]], programs),
        **{name: _of_all([one[name] for one in taken[1:]]) for name in ("memory", "disabled")},
    }
    missed = [name for name in AIMS if figures[name]["added"] > AIMS[name]]
    return {"figures": figures, "missed": missed}


def _of_programs(taken: Sequence[dict[str, dict[str, float]]], programs: int) -> dict[str, float]:
    """Compare each program with itself: their files are of different sizes."""
    medians = [
        {
            way: statistics.median(one[way][str(n)] for one in taken if str(n) in one[way])
            for way in ("without", "with")
        }
        for n in range(programs)
    ]
    added = [one["with"] - one["without"] for one in medians]
    halves = {way: statistics.median(one[way] for one in medians) for way in ("without", "with")}
    return {**halves, "added": statistics.median(added)}


def _of_all(taken: Sequence[dict[str, list[float]]]) -> dict[str, float]:
    halves = {
        way: statistics.median(seconds for one in taken for seconds in one[way])
        for way in ("without", "with")
    }
    return {**halves, "added": halves["with"] - halves["without"]}


def show(driver: dict[str, Any]) -> None:
    """Print a driver's table."""
    print(f"\n{driver['platform']}, {driver['version']}\n{driver['device']}\n")
    print(f"{'in us':10}{'without':>10}{'with':>10}{'added':>10}{'aim':>8}")
    for name, one in driver["figures"].items():
        values = "".join(f"{one[column] * 1e6:10.1f}" for column in ("without", "with", "added"))
        verdict = "MISSED" if name in driver["missed"] else "holds"
        print(f"{name:10}{values}{AIMS[name] * 1e6:8.0f}  {verdict}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print tables, and tell by the exit code whether the aims are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--platform", default="", metavar="TEXT", help="part of a platform's name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="processes (%(default)s)")
    parser.add_argument("--programs", type=int, default=PROGRAMS, help="how many (%(default)s)")
    options = parser.parse_args(arguments)
    machine = describe_machine()
    print("; ".join(f"{name}: {value}" for name, value in machine.items()))
    drivers = []
    for number, platform in enumerate(cl.get_platforms()):
        devices = platform.get_devices()
        if options.platform not in platform.name or not devices:
            continue
        driver = {
            "platform": platform.name,
            "version": platform.version,
            "device": f"{devices[0].name}, driver {devices[0].driver_version}",
            **measure(number, options.rounds, options.programs),
        }
        show(driver)
        drivers.append(driver)
    report = {"machine": machine, "aims": AIMS, "drivers": drivers}
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return int(not drivers or any(driver["missed"] for driver in drivers))


if __name__ == "__main__":
    sys.exit(main())
