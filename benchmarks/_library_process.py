"""One start for ``library.py``: ``platforms``, ``start PLATFORM CACHE`` or ``warm PLATFORM CACHE``.

Prints JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyopencl as cl

import mace_cache
from mace_cache.library import build_options, launch_once, load_manifest

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Do as the arguments say."""
    task, *arguments = sys.argv[1:]
    answers: dict[str, Callable[..., Any]]
    answers = {"platforms": platforms, "start": start, "warm": warm}
    print(json.dumps(answers[task](*arguments)))


def platforms() -> list[str]:
    """Name every platform that has a device."""
    return [describe(platform) for platform in cl.get_platforms() if platform.get_devices()]


def describe(platform: cl.Platform) -> str:
    """Give the name and version of a platform, short."""
    words = platform.version.replace("OpenCL ", "").split(",", maxsplit=1)[0].split("  ")[0]
    return f"{platform.name} {words}".replace("Portable Computing Language ", "")


def find(platform: str) -> cl.Device:
    """Find the first device of the platform with that description."""
    (found,) = [each for each in cl.get_platforms() if describe(each) == platform]
    device: cl.Device = found.get_devices()[0]
    return device


def start(platform: str, directory: str) -> dict[str, Any]:
    """Build every program in every variant that the device can build, launch each kernel once."""
    began = time.perf_counter()
    context = cl.Context([find(platform)])
    queue = cl.CommandQueue(context)
    origins = []
    kernels = refused = 0
    with mace_cache.ProgramCache(storage_path=directory) as cache:
        for specification in load_manifest().programs:
            source = specification.read_source()
            for variant in specification.variants:
                options = build_options(specification, variant)
                try:
                    program = cache.build(context, source, options)
                except cl.RuntimeError:  # a driver may refuse halves
                    refused += 1
                    continue
                origins.append(cache.explain(program).origin.value)
                kernels += len(specification.launches)
                for launch in specification.launches:
                    launch_once(program, queue, launch)
        seconds = time.perf_counter() - began
    return {
        "programs": len(origins),
        "kernels": kernels,
        "refused": refused,
        "from_source": origins.count("source"),
        "seconds": seconds,
    }


def warm(platform: str, directory: str) -> dict[str, Any]:
    """Make an empty cache ready as at install time."""
    began = time.perf_counter()
    with mace_cache.ProgramCache(storage_path=directory) as cache:
        report = mace_cache.warm_cache(devices=[find(platform)], cache=cache, progress=False)
    seconds = time.perf_counter() - began
    failed = [result.program for result in report.results if result.status == "failed"]
    stored = sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file())
    return {"seconds": seconds, "refused": len(failed), "megabytes": stored / 1e6}


if __name__ == "__main__":
    main()
