"""The whole kernel library, made ready: from source, from the cache, and by ``warm_cache()``.

    python benchmarks/library.py [--platform TEXT] [--repeats 3] [--json FILE] [--write]

Each start is a process of its own with the driver's own caches empty: it builds every program of
the bundled manifest in every variant that the device can build, and launches each kernel once. The
first start of a driver finds an empty cache; the others find what it left. ``warm_cache()`` then
fills an empty cache of its own, with a process a core. ``--write`` makes README.md's table of all
that ``results/library-*.json`` hold, which are of several machines.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from _common import clean_environment, describe_machine, replace_marked, run_python, shown_seconds

ROOT = Path(__file__).parents[1]
PROCESS = str(Path(__file__).with_name("_library_process.py"))


def main() -> None:
    """Measure, print the table, and write what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--platform", default="", help="only platforms with this in their names")
    parser.add_argument("--repeats", type=int, default=3, help="starts from the cache: %(default)s")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    parser.add_argument("--write", action="store_true", help="make README.md's table anew")
    arguments = parser.parse_args()
    names = json.loads(run_python([PROCESS, "platforms"], dict(os.environ)))
    drivers = [measure(name, arguments.repeats) for name in names if arguments.platform in name]
    print(make_table(drivers))
    if arguments.json:
        document = {"machine": describe_machine(), "drivers": drivers}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if arguments.write:
        replace_marked(ROOT / "README.md", "library", make_table(read_results()))


def read_results() -> list[dict[str, Any]]:
    """Collect the drivers of every file of figures, the slowest from source last."""
    files = Path(__file__).with_name("results").glob("library-*.json")
    found = [driver for file in files for driver in json.loads(file.read_text())["drivers"]]
    return sorted(found, key=lambda driver: float(driver["from_source"]))


def measure(platform: str, repeats: int) -> dict[str, Any]:
    """Start once from source and some times from the cache, then warm another cache.

    Args:
        platform: the platform's name and version.
        repeats: how many starts from the cache there are.

    Returns:
        Counts, and medians in seconds.
    """
    print(f"{platform} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="mace-cache-library-") as name:
        scratch = Path(name)

        def start(number: int, task: str, cache: str) -> dict[str, Any]:
            environment = clean_environment(scratch / f"driver-{number}", scratch / "bytecode")
            command = [PROCESS, task, platform, str(scratch / cache)]
            told: dict[str, Any] = json.loads(run_python(command, environment))
            return told

        source = start(0, "start", "cache")
        loaded = [start(number + 1, "start", "cache") for number in range(repeats)]
        warmed = start(repeats + 1, "warm", "warmed")
    if warmed["refused"] != source["refused"]:
        raise SystemExit(f"{platform}: {warmed['refused']} programs failed")
    if any(told["from_source"] for told in loaded) or not source["from_source"]:
        raise SystemExit(f"{platform}: a start had its programs from elsewhere")
    return {
        "platform": platform,
        "programs": source["programs"],
        "kernels": source["kernels"],
        "from_source": source["seconds"],
        "from_cache": statistics.median(told["seconds"] for told in loaded),
        "warm_cache": warmed["seconds"],
        "megabytes": warmed["megabytes"],
    }


def make_table(drivers: list[dict[str, Any]]) -> str:
    """Give the figures as a Markdown table."""
    lines = [
        "| driver | programs | kernels | from source | from the cache | | `warm_cache()` |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {driver['platform'].removeprefix('3.0 ').strip()} "
        f"| {driver['programs']} | {driver['kernels']} "
        f"| {shown_seconds(driver['from_source'])} | {shown_seconds(driver['from_cache'])} "
        f"| **{driver['from_source'] / driver['from_cache']:.0f}x** "
        f"| {shown_seconds(driver['warm_cache'])}, {driver['megabytes']:.1f} MB |"
        for driver in drivers
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
