"""Time to the first result from source, from caches, and from binaries loaded by hand.

    python benchmarks/startup.py [--platform TEXT] [--model FILE] [--output NAME] [--write]

Every start is a process of its own. Each platform that is found is a driver, and gets a column;
``OCL_ICD_VENDORS`` chooses them. ``README.md`` beside it says what the figures mean. Writes
``results/NAME.json``; ``--write`` puts the tables and the chart of all such files into the READMEs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyopencl as cl
import startup_report
from _common import caching_environment, describe_machine, run_python
from _startup_aims import WAYS, misses
from _startup_workloads import MODEL, WORKLOADS, model_or_reason
from startup_report import RESULTS

from mace_cache._driver_family import family_of

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS = 9
SECONDS = 12.0
FEWEST = 2
QUICK = "elementwise, float"  # the one program of a quick run

_PROCESS = str(Path(__file__).with_name("_startup_process.py"))


class Starts:
    """The processes of one driver and workload, and the directory that they share."""

    def __init__(self, platform: int, directory: Path, workload: str, model: Path | None) -> None:
        self._arguments = [_PROCESS, str(platform), str(directory)]
        self._directory = directory
        self._workload = workload
        self._model = str(model or "")

    def run(self, task: str, caches: Path, argument: str | None = None) -> Any:
        """Run a process and give its answer.

        Args:
            task: what it does.
            caches: where the driver keeps its own cache.
            argument: what it is told; the workload if None.
        """
        environment = caching_environment(caches, self._directory.parent / "kept")
        prepared = self._directory / "mace-cache"
        environment["MACE_CACHE_DIR"] = str(caches / "empty" if task == "cold" else prepared)
        environment[MODEL] = self._model
        told = self._workload if argument is None else argument
        return json.loads(run_python([*self._arguments, task, told], environment))

    def prepare(self, programs: str) -> dict[str, Any]:
        """Fill the caches, each from source and with the driver's own cache empty."""
        found = {}
        for task, argument in (
            ("programs", programs),
            ("cache", None),
            ("fetch", None),
            ("pyopencl", None),
        ):
            with tempfile.TemporaryDirectory(dir=self._directory) as caches:
                found[task] = self.run(task, Path(caches), argument)
        sizes = {"early": found["fetch"], "mace_cache": found["cache"]}
        names = found["programs"] if self._workload == "library" else []
        return {"programs": names, "binary_bytes": sizes}

    def start(self, way: str, *, hot: bool) -> dict[str, Any]:
        """Start with the driver's own cache empty, then *hot*: with what that start left in it."""
        with tempfile.TemporaryDirectory(dir=self._directory) as caches:
            starts = {"empty": self.run(way, Path(caches))}
            if hot:
                starts["hot"] = self.run(way, Path(caches))
        return starts


def measure(starts: Starts, programs: str, rounds: int) -> dict[str, Any]:
    """Measure a driver and a workload, the ways by turns: noise hits all alike.

    Args:
        starts: the processes.
        programs: part of the names of the library's programs.
        rounds: how often each way is taken at most; one that has taken `SECONDS` isn't any more
            after the `FEWEST` rounds.

    Returns:
        By way and driver's cache the seconds of each start, and what was prepared; or what is
        ``missing``, where the driver fails.
    """
    cells: dict[str, dict[str, dict[str, list[float]]]] = {way: {} for way in WAYS}
    spent = dict.fromkeys(WAYS, 0.0)
    try:
        prepared = starts.prepare(programs)
        for turn in range(rounds):
            first = turn % len(WAYS)
            for way in (*list(WAYS)[first:], *list(WAYS)[:first]):
                if turn >= FEWEST and spent[way] > SECONDS:
                    continue
                began = time.perf_counter()
                hot = way != "cold" and turn % 2 == 0  # no aim speaks of it
                for state, answer in starts.start(way, hot=hot).items():
                    cell = cells[way].setdefault(state, {"first": [], "builds": []})
                    cell["first"].append(answer["first"])
                    cell["builds"].append(answer["builds"])
                spent[way] += time.perf_counter() - began
    except RuntimeError as error:
        return {"missing": str(error).strip().rpartition("\n")[2]}
    return {**prepared, "seconds": cells}


def measure_driver(
    number: int, platform: cl.Platform, model: Path | None, reason: str, *, quick: bool
) -> dict[str, Any]:
    """Measure the first device of a platform.

    Args:
        number: the number of the platform.
        platform: the platform.
        model: the model's file, if it is there.
        reason: why it isn't.
        quick: whether one program and one round are enough.
    """
    device = platform.get_devices()[0]
    measured = {}
    with tempfile.TemporaryDirectory(prefix="mace-cache-startup-") as scratch:
        for workload in WORKLOADS:
            print(f"{platform.name}, {platform.version}: {workload}", file=sys.stderr)
            directory = Path(scratch, workload)
            directory.mkdir()
            starts = Starts(number, directory, workload, model)
            if workload == "detection" and (quick or model is None):
                measured[workload] = {"missing": reason or "a quick run"}
            else:
                rounds = 1 if quick else ROUNDS
                measured[workload] = measure(starts, QUICK if quick else "", rounds)
    return {
        "platform": platform.name,
        "version": platform.version,
        "device": device.name.strip(),
        "driver": device.driver_version,
        "family": family_of(platform.name, platform.vendor),
        "workloads": measured,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print tables, write JSON, and tell by the exit code whether the aims are met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--platform", default="", metavar="TEXT", help="part of a platform's name")
    parser.add_argument("--model", type=Path, metavar="FILE", help="the TFLite file or its wheel")
    parser.add_argument("--output", default="startup", metavar="NAME", help="results/NAME.json")
    parser.add_argument("--quick", action="store_true", help="one program, one round, no model")
    parser.add_argument("--write", action="store_true", help="into the READMEs, with the chart")
    options = parser.parse_args(arguments)
    model, reason = (None, "") if options.quick else model_or_reason(options.model)
    if reason:
        print(f"face detection isn't measured: {reason}", file=sys.stderr)
    drivers = [
        measure_driver(number, platform, model, reason, quick=options.quick)
        for number, platform in enumerate(cl.get_platforms())
        if options.platform in platform.name and platform.get_devices()
    ]
    report = {"machine": describe_machine(), "drivers": drivers}
    (RESULTS / f"{options.output}.json").write_text(json.dumps(report, indent=2) + "\n")
    print(startup_report.make_report(drivers))
    if options.write:
        startup_report.write(startup_report.read_results())
    return int(not drivers or any(misses(driver) for driver in drivers))


if __name__ == "__main__":
    sys.exit(main())
