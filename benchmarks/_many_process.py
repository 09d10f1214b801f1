"""One process of ``many.py``: has the programs of a model in one call, or one after the other.

Run as ``python _many_process.py PLATFORM WAY TIMES PROGRAMS``; prints JSON. The cache is where
``MACE_CACHE_DIR`` says; with the way ``fill`` it is filled.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path

import pyopencl as cl
from _programs import detection_programs

from mace_cache import ProgramCache, ProgramRequest
from mace_cache.library import build_options, launch_once

_JOBS = 2


def requests(context: cl.Context, times: int, most: int) -> list[ProgramRequest]:
    """Give the face detection's programs in every variant that the device can build.

    Args:
        context: a context on the device.
        times: in how many forms each is wanted that differ for every cache.
        most: how many programs are enough, in each form.
    """
    device = context.devices[0]
    lacks_half = "cl_khr_fp16" not in device.extensions and "Oclgrind" in device.platform.name
    programs = [
        (Path(program.path).read_text(), build_options(program, variant))
        for program in detection_programs()
        for variant in program.variants
        if not (lacks_half and variant.name == "half")
    ]
    return [
        ProgramRequest(source, [*options, *([f"-DFORM={form}"] if form else [])])
        for form in range(times)
        for source, options in programs[:most]
    ]


def main() -> None:
    """Do what the arguments say."""
    platform, way, times, most = sys.argv[1:]
    warnings.simplefilter("ignore")  # drivers say something when they build: it isn't measured
    context = cl.Context(cl.get_platforms()[int(platform)].get_devices()[:1])
    wanted = requests(context, int(times), int(most))
    cache = ProgramCache(harvest_after=float("inf"))
    start = time.perf_counter()
    if way == "many":
        programs = cache.build_many(context, wanted, jobs=_JOBS)
    else:
        programs = [cache.build(context, *request) for request in wanted]
    seconds = time.perf_counter() - start
    if way == "fill":
        cache.close()
        _use_once(context, wanted)
    explained = [cache.explain(program) for program in programs]
    answer = {
        "seconds": seconds,
        "each": [explanation.seconds for explanation in explained],
        "origins": sorted({explanation.origin.value for explanation in explained}),
    }
    print(json.dumps(answer), flush=True)
    os._exit(0)  # nothing is to be harvested, or the next process would wait for it


def _use_once(context: cl.Context, wanted: list[ProgramRequest]) -> None:
    """Load everything in order and launch it: what is new is guarded, and that isn't measured."""
    queue = cl.CommandQueue(context)
    launches = {
        Path(program.path).read_text(): program.launches for program in detection_programs()
    }
    with ProgramCache(harvest_after=float("inf")) as cache:
        for request in wanted:
            program = cache.build(context, *request)
            for launch in launches[str(request.source)]:
                launch_once(program, queue, launch)


if __name__ == "__main__":
    main()
