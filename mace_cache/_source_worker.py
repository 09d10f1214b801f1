"""What runs in a process that builds sources, so that the driver's own cache has them.

It takes nothing but the standard library and the loader that pyopencl is linked with: a worker
that had to import pyopencl and numpy first would come too late for a model of a few programs.
Run as a script; it reads a message a line and answers each with a line.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import signal
import sys
from typing import Any

__all__ = ["main"]

_ALL_DEVICES = ctypes.c_uint64(0xFFFFFFFF)  # CL_DEVICE_TYPE_ALL, cl.h
_Handle = ctypes.c_void_p


def main() -> None:
    """Answer each message with the status of its build, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupted application shows its own trace
    # Drivers and their compilers write to the standard output as they like.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(f"{_build(json.loads(line))}\n")
        answers.flush()


def _build(message: dict[str, Any]) -> int:
    """Build a source (OpenCL specification, 5.8.1 and 5.8.2) and let go of it."""
    source, options = (message[name].encode("latin-1") for name in ("source", "options"))
    opencl, context, devices = _open(
        message["library"], message["platform"], tuple(message["devices"])
    )
    sources, sizes = (ctypes.c_char_p * 1)(source), (ctypes.c_size_t * 1)(len(source))
    program = _Handle(opencl.clCreateProgramWithSource(context, 1, sources, sizes, None))
    status: int = opencl.clBuildProgram(program, len(devices), devices, options, None, None)
    opencl.clReleaseProgram(program)
    return status


@functools.cache
def _open(
    library: str, platform: int, numbers: tuple[int, ...]
) -> tuple[ctypes.CDLL, ctypes.c_void_p, ctypes.Array[ctypes.c_void_p]]:
    """Give a context on devices named by their place in the lists of the loader (4.1 to 4.4)."""
    opencl = ctypes.CDLL(library)
    opencl.clCreateContext.restype = opencl.clCreateProgramWithSource.restype = _Handle
    count = ctypes.c_uint32()
    opencl.clGetPlatformIDs(0, None, ctypes.byref(count))
    platforms = (_Handle * count.value)()
    opencl.clGetPlatformIDs(count, platforms, None)
    chosen = _Handle(platforms[platform])
    opencl.clGetDeviceIDs(chosen, _ALL_DEVICES, 0, None, ctypes.byref(count))
    listed = (_Handle * count.value)()
    opencl.clGetDeviceIDs(chosen, _ALL_DEVICES, count, listed, None)
    devices = (_Handle * len(numbers))(*[listed[number] for number in numbers])
    context = opencl.clCreateContext(None, len(devices), devices, None, None, None)
    if not context:
        sys.exit("no context could be made")
    return opencl, _Handle(context), devices


if __name__ == "__main__":
    main()
