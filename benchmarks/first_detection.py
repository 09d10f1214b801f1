"""Time to the first detected face, from source and from the cache: the table that opens the README.

    python benchmarks/first_detection.py [--repeats 5] [--json FILE] [--write]

Every start is a process of its own with the driver's own caches empty; the two kinds of start
alternate. ``--write`` puts the table into README.md. Each OpenCL device of the machine gets a row;
``OCL_ICD_VENDORS`` chooses the drivers.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _common import replace_marked

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "face_detection.py"
README = ROOT / "README.md"
LIST_DEVICES = (
    "import json, pyopencl as cl; print(json.dumps([f'{d.name.strip()}, {p.name} {p.version}'"
    " for p in cl.get_platforms() for d in p.get_devices()]))"
)


def main() -> None:
    """Measure, print the table, and write what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="starts of each kind: %(default)s")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    arguments = parser.parse_args()
    output = subprocess.run(
        [sys.executable, "-c", LIST_DEVICES], capture_output=True, text=True, check=True
    ).stdout
    rows = [
        {"device": shorten(name), **measure(number, arguments.repeats)}
        for number, name in enumerate(json.loads(output))
    ]
    table = make_table(rows)
    print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    if arguments.write:
        replace_marked(README, "first detection", table)


def shorten(name: str) -> str:
    """Leave out of a device's name what says nothing: how the driver was compiled, and for what."""
    name = re.sub(r"Portable Computing Language |OpenCL [\d.]+ ?|  .*", "", name)
    return name.strip()


def measure(device: int, repeats: int) -> dict[str, float]:
    """Give the median seconds from source, from the cache, and once running.

    Args:
        device: the number of the OpenCL device.
        repeats: how many starts of each kind there are.
    """
    starts: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(repeats):
            for from_source in (True, False):
                own = Path(scratch, f"{repeat}-{from_source}")
                own.mkdir()
                starts[from_source].append(start(device, Path(scratch), own, from_source))

    def median(kind: bool, what: str) -> float:
        return statistics.median(float(seen[what]) for seen in starts[kind])

    return {
        "from_source": median(True, "first_seconds"),
        "from_cache": median(False, "first_seconds"),
        "once_running": median(False, "again_seconds"),
    }


def start(device: int, scratch: Path, own: Path, from_source: bool) -> dict[str, Any]:
    """Run the example once in a process of its own.

    Args:
        device: the number of the OpenCL device.
        scratch: where the cache is.
        own: an empty directory for this start alone.
        from_source: whether all is compiled, and the cache written again.
    """
    environment = {
        **os.environ,
        "MACE_CACHE_RECACHE": str(int(from_source)),
        "PYOPENCL_NO_CACHE": "1",
        "POCL_CACHE_DIR": str(own),
        "CUDA_CACHE_DISABLE": "1",
        "MESA_SHADER_CACHE_DISABLE": "1",
        "NEO_CACHE_PERSISTENT": "0",
    }
    command = [sys.executable, str(EXAMPLE), "--once", "--device", str(device)]
    command += ["--cache-directory", str(scratch / "cache")]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seen: dict[str, Any] = json.loads(output.stdout)
    expected = {"source"} if from_source else {"storage"}
    if set(seen["origins"]) != expected:
        raise SystemExit(f"programs came from {seen['origins']}, not all from {expected}")
    return seen


def make_table(rows: list[dict[str, Any]]) -> str:
    """Give the figures as a Markdown table."""
    lines = [
        "| device | from source | from the cache | | once running |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row['device']} | {row['from_source']:.2f} s | **{row['from_cache']:.3f} s** "
        f"| {row['from_source'] / row['from_cache']:.0f} x | {row['once_running']:.3f} s |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
