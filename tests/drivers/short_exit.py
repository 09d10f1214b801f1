"""An application that ends while its driver is still asked for a binary that takes long.

Run as ``python short_exit.py PLATFORM CACHE``; prints ``ended`` last of all.
"""

from __future__ import annotations

import atexit
import sys

import pyopencl as cl

from mace_cache import ProgramCache

_KERNELS = 30


def main() -> None:
    """Build a program whose kernels PoCL compiles when it is asked for them."""
    platform, directory = sys.argv[1:]
    (chosen,) = [p for p in cl.get_platforms() if platform in f"{p.name} {p.version}"]
    context = cl.Context(chosen.get_devices()[:1])
    source = "".join(
        f"kernel void k{number}(global float *a, int n) {{ int g = get_global_id(0);"
        " for (int i = 0; i < n; i++) { barrier(CLK_LOCAL_MEM_FENCE);"
        f" a[g] = sin(a[g]) * {number} + exp(a[g]) + pow(a[g], 1.5f); }} }}\n"
        for number in range(_KERNELS)
    )
    cache = ProgramCache(storage_path=directory, exit_timeout=0.5)
    cache.build(context, source)
    atexit.register(print, "ended", flush=True)


if __name__ == "__main__":
    main()
