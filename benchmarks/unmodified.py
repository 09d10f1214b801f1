"""An unmodified program: every function of pyopencl that builds programs, without a cache and with.

    python benchmarks/unmodified.py [--platform NAME] [--function NAME ...] [--json FILE]

Three processes, each with the driver's own caches off: without any cache, under ``mace-cache run``
with an empty cache, and again with what that one left. Their results must be the same to the last
bit. The drivers where this is quick are NVIDIA's and Oclgrind.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from _common import clean_environment, describe_machine, shown_seconds  # noqa: E402 (the path comes first)

from tests.dropin.functions import FUNCTIONS  # noqa: E402 (the root is on it now)
from tests.dropin.running import assert_same, finish, start  # noqa: E402 (as above)

PROGRAM = Path("tests", "dropin", "functions.py")
NEED_MORE = ("notebook", "loops")  # IPython and loopy


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the figures, and write what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--platform", default="NVIDIA CUDA", help="its name: %(default)s")
    parser.add_argument("--function", action="append", choices=FUNCTIONS, help="only some")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    options = parser.parse_args(arguments)
    names = options.function or [name for name in FUNCTIONS if name not in NEED_MORE]
    starts = measure(options.platform, names)
    for start_of in starts:
        print(
            f"{start_of['start']:15} {shown_seconds(start_of['seconds']):>9} {start_of['builds']}"
        )
    if options.json:
        document = {
            "machine": describe_machine(),
            "platform": options.platform,
            "functions": len(names),
            "starts": starts,
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def measure(platform: str, names: list[str]) -> list[dict[str, Any]]:
    """Start the program three times, and compare what it computed.

    Args:
        platform: the platform's name.
        names: the functions that are called.

    Returns:
        Of each start its name, its seconds and how often each outcome of a build was told.

    Raises:
        AssertionError: a start failed, or computed something else.
    """
    starts = []
    with tempfile.TemporaryDirectory(prefix="mace-cache-unmodified-") as name:
        scratch = Path(name)
        for number, (title, hooked) in enumerate(
            {"without a cache": False, "the first": True, "the next": True}.items()
        ):
            environment = clean_environment(scratch / f"driver-{number}", scratch / "bytecode")
            environment |= {
                "MACE_CACHE_DIR": str(scratch / "cache"),
                "MACE_CACHE_TRACE": "1",
                "PYOPENCL_NO_CACHE": "false" if hooked else "true",
                "PYTHONPATH": str(ROOT),
            }
            began = time.perf_counter()
            results = scratch / f"results-{number}.npz"
            process = start(
                PROGRAM, platform, results, *names, environment=environment, hooked=hooked
            )
            builds = finish(process)
            seconds = time.perf_counter() - began
            assert_same(results, scratch / "results-0.npz")
            starts.append({"start": title, "seconds": seconds, "builds": dict(builds)})
    return starts


if __name__ == "__main__":
    sys.exit(main())
