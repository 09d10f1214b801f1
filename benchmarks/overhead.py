"""What the cache adds to a driver's own time: for warm builds, memory hits and misses.

Run as ``python benchmarks/overhead.py [--platform TEXT] [--json FILE]``; ``README.md`` beside it
says what the figures mean. Every platform that is found is a driver.
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

PROGRAMS = 20
ROUNDS = 9
PAIRS = 60
WAYS = ("floor", "cache", "pyopencl")
AIMS = {
    "ratio": 1.10,  # of the floor, where the floor is LONG or more
    "added": 0.25e-3,  # seconds over the floor, elsewhere
    "share": 0.5,  # of what pyopencl's cache adds
    "memory_hit": 20e-6,  # seconds
    "miss": 1.02,  # of a plain build
}
LONG = 2e-3

_PROCESS = str(Path(__file__).with_name("_overhead_process.py"))


class Driver:
    """One driver's processes, and the directory that they share."""

    def __init__(self, platform: int, directory: Path) -> None:
        self._platform = platform
        self._directory = directory
        self._processes = 0

    def run(self, task: str, number: int) -> Any:
        """Run a process, with the driver's own caches empty or off, and give its answer."""
        self._processes += 1
        caches = self._directory / f"driver-caches-{self._processes}"
        environment = clean_environment(caches, self._directory / "bytecode")
        arguments = [_PROCESS, str(self._platform), str(self._directory), task, str(number)]
        return json.loads(run_python(arguments, environment))


def measure(platform: int, programs: int, rounds: int, pairs: int) -> dict[str, Any]:
    """Measure a driver.

    Args:
        platform: the number of the platform.
        programs: how many programs.
        rounds: in how many processes each of the ways is taken.
        pairs: how many cold builds are compared, at most.
    """
    with tempfile.TemporaryDirectory(prefix="mace-cache-overhead-") as directory:
        driver = Driver(platform, Path(directory))
        prepared = driver.run("prepare", programs)
        taken: dict[str, list[Any]] = {way: [] for way in WAYS}
        for turn in range(rounds):
            for number in range(len(WAYS)):  # by turns: noise hits all alike
                way = WAYS[(turn + number) % len(WAYS)]
                taken[way].append(driver.run(way, turn))
        missed = driver.run("miss", pairs)
    for number, program in enumerate(prepared):
        for way in WAYS:
            times = [one["seconds"][number] for one in taken[way]]
            program[way] = statistics.median(times)
    first = {
        way: statistics.median(
            one["first"] - floor["first"]
            for one, floor in zip(taken[way], taken["floor"], strict=True)
        )
        for way in ("cache", "pyopencl")
    }
    hit = statistics.median(one["memory_hit"] for one in taken["cache"])
    misses = {
        "plain": statistics.median(plain for plain, _ in missed["pairs"]),
        "cache": statistics.median(cached for _, cached in missed["pairs"]),
        "ratio": statistics.median(cached / plain for plain, cached in missed["pairs"]),
        "added": statistics.median(cached - plain for plain, cached in missed["pairs"]),
        "pairs": len(missed["pairs"]),
        "flush": missed["flush"],
    }
    figures = {"programs": prepared, "first_added": first, "memory_hit": hit, "miss": misses}
    return {**figures, "summary": summarise(figures)}


def summarise(figures: dict[str, Any]) -> dict[str, Any]:
    """Work out what the aims speak of: medians over the programs, and how many hold by themselves.

    A figure is None where no program has a floor of that length.
    """
    programs = figures["programs"]
    ratios = [one["cache"] / one["floor"] for one in programs if one["floor"] >= LONG]
    added = [one["cache"] - one["floor"] for one in programs if one["floor"] < LONG]
    ours = statistics.median(one["cache"] - one["floor"] for one in programs)
    theirs = statistics.median(one["pyopencl"] - one["floor"] for one in programs)
    found = {
        "ratio": statistics.median(ratios) if ratios else None,
        "added": statistics.median(added) if added else None,
        "share": ours / theirs,
        "memory_hit": figures["memory_hit"],
        "miss": figures["miss"]["ratio"],
    }
    holding = sum(ratio <= AIMS["ratio"] for ratio in ratios)
    holding += sum(difference <= AIMS["added"] for difference in added)
    return {
        **found,
        "programs_holding": holding,
        "missed": [name for name, value in found.items() if value and value > AIMS[name]],
    }


def show(driver: dict[str, Any]) -> None:
    """Print a driver's table."""
    print(f"\n{driver['platform']}, {driver['version']}\n{driver['device']}\n")
    titles = f"{'KiB':>6}{'floor':>9}{'cache':>9}{'ratio':>7}{'added':>8}{'pyopencl':>10}"
    print(f"{'program':24}{titles}")
    for one in sorted(driver["programs"], key=lambda program: program["floor"]):
        floor, cache, theirs = (one[way] * 1e3 for way in WAYS)
        print(
            f"{one['name']:24}{one['binary_bytes'] / 1024:6.0f}{floor:9.3f}{cache:9.3f}"
            f"{cache / floor:7.2f}{cache - floor:8.3f}{theirs - floor:10.3f}"
        )
    print("times in ms; added and pyopencl: over the floor\n")
    summary, miss, first = driver["summary"], driver["miss"], driver["first_added"]
    rows = [
        (f"of a floor of {LONG * 1e3:g} ms or more", "ratio", 1, ""),
        ("over a shorter floor", "added", 1e3, " ms"),
        ("of what pyopencl's cache adds", "share", 1, ""),
        ("memory hit", "memory_hit", 1e6, " us"),
        ("miss, of a plain build", "miss", 1, ""),
    ]
    for label, name, scale, unit in rows:
        value, aim = summary[name], AIMS[name] * scale
        if value is not None:
            verdict = "MISSED" if name in summary["missed"] else "holds"
            print(f"{label:32}{value * scale:9.3f}{unit:3}  aim {aim:g}{unit}: {verdict}")
    count = len(driver["programs"])
    print(f"{summary['programs_holding']} of {count} programs hold by themselves")
    print(
        f"a process's first build, with opening: {first['cache'] * 1e3:.2f} ms over the floor's "
        f"(pyopencl's cache: {first['pyopencl'] * 1e3:.2f} ms)"
    )
    print(
        f"plain build {miss['plain'] * 1e3:.1f} ms, miss {miss['added'] * 1e3:+.2f} ms, "
        f"flush later {miss['flush'] * 1e3:.1f} ms a program"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print tables, and tell by the exit code whether the aims are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--platform", default="", metavar="TEXT", help="part of a platform's name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--programs", type=int, default=PROGRAMS, help="how many (%(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="processes (%(default)s a way)")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="cold builds (%(default)s)")
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
            **measure(number, options.programs, options.rounds, options.pairs),
        }
        show(driver)
        drivers.append(driver)
    report = {"machine": machine, "aims": AIMS, "long": LONG, "drivers": drivers}
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return int(not drivers or any(driver["summary"]["missed"] for driver in drivers))


if __name__ == "__main__":
    sys.exit(main())
