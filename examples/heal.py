"""The library alone: build a program, damage its file on disk, build again: it heals."""

import tempfile
from pathlib import Path

import numpy as np
import pyopencl as cl

import mace_cache

SOURCE = "kernel void twice(global float *x) { x[get_global_id(0)] *= 2; }"


def run(title: str, directory: str) -> None:
    """Do what an application does from its start to its end."""
    context = cl.create_some_context(interactive=False)
    queue = cl.CommandQueue(context)
    x = cl.Buffer(context, cl.mem_flags.COPY_HOST_PTR, hostbuf=np.full(4, 21, np.float32))
    result = np.empty(4, np.float32)
    with mace_cache.ProgramCache(storage_path=directory) as cache:
        program = cache.build(context, SOURCE)
        cl.Kernel(program, "twice")(queue, result.shape, None, x)
        cl.enqueue_copy(queue, result, x)
        print(f"{title}: {result[0]:.0f}, {cache.explain(program)}")


with tempfile.TemporaryDirectory() as directory:
    run("first start", directory)
    run("second start", directory)
    (file,) = Path(directory).rglob("*.mclp")
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    run("one bit damaged", directory)
    run("healed", directory)
