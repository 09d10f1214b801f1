"""What `build_many` takes beside a loop of `build`, with empty caches and with all stored.

Run as ``python benchmarks/many.py [--platform TEXT] [--json FILE [--write]]``; ``README.md`` beside
it says what the figures mean. Every platform that is found is a driver.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import many_report
import pyopencl as cl
from _common import clean_environment, describe_machine, run_python

from mace_cache._driver_family import family_of

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS = 9
WAYS = ("loop", "many")
PROCESSES = 2
FORMS = 3  # of each program, in the model of three times as many
AIM = 0.65  # of the loop: cold, on PoCL, the face detection's programs once

_PROCESS = str(Path(__file__).with_name("_many_process.py"))


class Driver:
    """One driver's processes, and the directory that they share.

    Args:
        platform: the number of the platform.
        directory: for all files.
        most: how many programs are enough.
    """

    def __init__(self, platform: int, directory: Path, most: int) -> None:
        self._platform = platform
        self._directory = directory
        self._most = most
        self._processes = 0

    def run(self, way: str, times: int, cache: Path | None = None) -> dict[str, Any]:
        """Run a process, with the driver's own caches empty, and an empty cache if none is given.

        Args:
            way: ``loop``, ``many`` or ``fill``.
            times: how often each program is wanted, each time in another form.
            cache: the cache directory.
        """
        self._processes += 1
        directory = self._directory / str(self._processes)
        environment = clean_environment(directory / "driver", self._directory / "bytecode")
        # The drivers that can be told only to keep nothing, keep it in an empty directory.
        del environment["CUDA_CACHE_DISABLE"]
        environment["CUDA_CACHE_PATH"] = str(directory / "driver")
        environment["MACE_CACHE_DIR"] = str(cache or directory / "cache")
        arguments = [_PROCESS, str(self._platform), way, str(times), str(self._most)]
        answer: dict[str, Any] = json.loads(run_python(arguments, environment))
        expected = ["source"] if cache is None or way == "fill" else ["storage"]
        if answer["origins"] != expected:  # the figures would mean nothing
            raise RuntimeError(f"programs came from {answer['origins']}, not from {expected}")
        return answer


def measure(platform: int, rounds: int, most: int) -> dict[str, Any]:
    """Measure a driver.

    Args:
        platform: the number of the platform.
        rounds: in how many processes each of the ways is taken.
        most: how many programs are enough.
    """
    with tempfile.TemporaryDirectory(prefix="mace-cache-many-") as directory:
        driver = Driver(platform, Path(directory), most)
        filled = Path(directory, "filled")
        driver.run("fill", 1, filled)
        return {
            "cold": _by_turns(driver, rounds, 1, None),
            "cold, more programs": _by_turns(driver, rounds, FORMS, None),
            "warm": _by_turns(driver, rounds, 1, filled),
        }


def _by_turns(driver: Driver, rounds: int, times: int, cache: Path | None) -> dict[str, Any]:
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    singly = []
    for turn in range(rounds):
        for number in range(len(WAYS)):  # by turns: noise hits all alike
            way = WAYS[(turn + number) % len(WAYS)]
            answer = driver.run(way, times, cache)
            taken[way].append(answer["seconds"])
            if way == "loop":
                singly.append(answer["each"])
    medians = {way: statistics.median(taken[way]) for way in WAYS}
    each = [statistics.median(seconds) for seconds in zip(*singly, strict=True)]
    return {
        "programs": len(each),
        **medians,
        "ratio": medians["many"] / medians["loop"],
        "bound": _bound(each) / sum(each) if cache is None else None,
        "each": each,
        "seconds": taken,
    }


def _bound(each: list[float]) -> float:
    """Give the time that no two processes that compile can go below.

    What the first build takes longer than the others is what a process needs once: each does.
    """
    first, *others = each
    once = max(first - statistics.median(others or each), 0.0)
    return once + (sum(each) - once) / PROCESSES


def show(driver: dict[str, Any]) -> None:
    """Print a driver's table."""
    print(f"\n{driver['platform']}, {driver['version']}\n{driver['device']}, {driver['driver']}\n")
    print(f"{'':22}{'programs':>9}{'loop':>10}{'many':>10}{'ratio':>7}{'bound':>7}")
    for name, figures in driver["starts"].items():
        loop, many = (figures[way] * 1e3 for way in WAYS)
        line = f"{name:22}{figures['programs']:9}{loop:10.1f}{many:10.1f}{figures['ratio']:7.2f}"
        line += "" if figures["bound"] is None else f"{figures['bound']:7.2f}"
        has_aim = driver["aim"] is not None and name == "cold"
        verdict = "MISSED" if driver["missed"] else "holds"
        print(f"{line}  aim {driver['aim']}: {verdict}" if has_aim else line)
    print("times in ms")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print tables, and tell by the exit code whether the aim is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--platform", default="", metavar="TEXT", help="part of a platform's name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--write", action="store_true", help="what is kept, into the READMEs")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="processes (%(default)s a way)")
    parser.add_argument("--programs", type=int, default=sys.maxsize, help="how many are enough")
    options = parser.parse_args(arguments)
    machine = describe_machine()
    print("; ".join(f"{name}: {value}" for name, value in machine.items()))
    drivers = []
    for number, platform in enumerate(cl.get_platforms()):
        devices = platform.get_devices()
        if options.platform not in platform.name or not devices:
            continue
        starts = measure(number, options.rounds, options.programs)
        aim = AIM if "Portable Computing Language" in platform.name else None
        driver = {
            "platform": platform.name,
            "version": platform.version,
            "device": devices[0].name.strip(),
            "driver": devices[0].driver_version,
            "family": family_of(platform.name, platform.vendor),
            "starts": starts,
            "aim": aim,
            "missed": aim is not None and starts["cold"]["ratio"] > aim,
        }
        show(driver)
        drivers.append(driver)
    if options.json:
        report = {"machine": machine, "drivers": drivers}
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.write:
        many_report.write(many_report.read_results())
    return int(not drivers or any(driver["missed"] for driver in drivers))


if __name__ == "__main__":
    sys.exit(main())
