"""One start of a program that knows nothing of the cache, in the forms that drivers have died of.

``python adopted.py PLATFORM CACHE_DIRECTORY`` prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import warnings

import numpy as np
import pyopencl as cl

import mace_cache

SOURCE = "kernel void fill(global int *x) { x[0] = FACTOR; }"
INCLUDING = '#include "h.h"\nkernel void other(global int *x) { x[0] = FACTOR; }'


def main(platform_version: str, cache_directory: str) -> None:
    """Build a program, another wrapper of it, a user of it, one of no source, one built twice."""
    (platform,) = [p for p in cl.get_platforms() if platform_version in f"{p.name} {p.version}"]
    context = cl.Context(platform.get_devices()[:1])
    asked = context.devices[0], cl.program_build_info.OPTIONS
    with mace_cache.installed(cache := mace_cache.ProgramCache(storage_path=cache_directory)):
        program = cl.Program(context, SOURCE).build("-DFACTOR=3")
        origin = mace_cache.explain(program).origin.value
        cache.flush()  # the driver would build it anew in its place
        wrapper = cl.Program.from_int_ptr(program.int_ptr)
        told = [wrapper.source, wrapper.get_build_info(*asked)]
        warnings.simplefilter("ignore", UserWarning)  # pyopencl's own: `compile` isn't cached
        cl.Program(context, INCLUDING).compile("-DFACTOR=3", headers=[("h.h", wrapper)])
        wrapper.build("-DFACTOR=4")
        nothing = cl.Program(context, "").build()
        again = cl.Program(context, SOURCE).build("-DFACTOR=5").build("-DFACTOR=6")
        told.append(again.get_build_info(*asked))
        log = nothing.get_build_info(context.devices[0], cl.program_build_info.LOG)
    # In the place of the loaded one the wrapper has a program of its own.
    filled = [_fill(context, one) for one in (wrapper, program, again)]
    seen = {"origin": origin, "filled": filled, "log": log, "told": told}
    sys.stdout.write(json.dumps(seen) + "\n")
    sys.stdout.flush()
    os._exit(0)  # as in start.py


def _fill(context: cl.Context, program: cl.Program) -> int:
    queue = cl.CommandQueue(context)
    number = np.zeros(1, np.int32)
    buffer = cl.Buffer(context, cl.mem_flags.COPY_HOST_PTR, hostbuf=number)
    cl.Kernel(program, "fill")(queue, (1,), None, buffer)
    cl.enqueue_copy(queue, number, buffer)
    return int(number[0])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
