"""One start of an application on one driver: builds two programs, runs them, tells what it saw.

``python start.py PLATFORM CACHE_DIRECTORY`` prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyopencl as cl

import mace_cache
from mace_cache.fingerprint import fingerprint

COUNT = 1000
SCALE = """
#include "factor.h" // a header beside the options
__kernel void scale(__global float *values)
{
    __local float scratch[10];
    const int item = get_global_id(0);
    scratch[get_local_id(0)] = values[item];
    barrier(CLK_LOCAL_MEM_FENCE);
    values[item] = FACTOR * scratch[get_local_id(0)] + OFFSET;
}
"""
ROOTS = """
__kernel void roots(__global float *values)
{
    values[get_global_id(0)] = sqrt(values[get_global_id(0)]);
}
"""


def main(platform_version: str, cache_directory: str) -> None:
    """Start once: from the cache what it has, from source the rest."""
    (platform,) = [p for p in cl.get_platforms() if platform_version in f"{p.name} {p.version}"]
    device = platform.get_devices()[0]
    context = cl.Context([device])
    queue = cl.CommandQueue(context)
    values = np.arange(COUNT, dtype=np.float32)
    buffer = cl.Buffer(context, cl.mem_flags.COPY_HOST_PTR, hostbuf=values)
    with tempfile.TemporaryDirectory() as headers:
        Path(headers, "factor.h").write_text("#define FACTOR 3.0f\n")
        with mace_cache.ProgramCache(storage_path=cache_directory) as cache:
            scale = cache.build(context, SCALE, ["-I", headers, "-DOFFSET=1.0f"])
            roots = cache.build(context, ROOTS)
            cl.Kernel(scale, "scale")(queue, (COUNT,), (10,), buffer)
            cl.Kernel(roots, "roots")(queue, (COUNT,), (10,), buffer)
            result = np.empty_like(values)
            cl.enqueue_copy(queue, result, buffer)
    right = bool(np.allclose(result, np.sqrt(3 * values + 1), rtol=1e-6))
    explanations = [cache.explain(program) for program in (scale, roots)]
    seen = {
        "right": right,
        "origins": [explanation.origin.value for explanation in explanations],
        "reasons": [explanation.reason for explanation in explanations],
        "keys": [explanation.key for explanation in explanations],
        "fingerprint": fingerprint(device).text,
    }
    sys.stdout.write(json.dumps(seen) + "\n")
    sys.stdout.flush()
    # Debian's Mesa and PyPI's PoCL carry an LLVM each, and tear down badly after one another.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
