"""What runs in a child process to see whether a driver works: it may crash or hang there.

It tells what it is about to do, a line of JSON each, so that the last line says where it died.
Run as ``main(["list"])`` or ``main(["try", PLATFORM, DEVICE])``, numbers as OpenCL lists them.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
import pyopencl as cl

from mace_cache import opencl
from mace_cache.errors import MaceCacheError
from mace_cache.fingerprint import fingerprint

__all__ = ["main"]

_KERNEL = "kernel void mace_cache_doctor(global int *x) { x[get_global_id(0)] *= 3; }"


def main(arguments: list[str]) -> None:
    """Do what the arguments say, and tell it on what was the standard output."""
    # Drivers and their compilers write to the standard output as they like.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        if arguments[0] == "list":
            _list(tell)
        else:
            _try(tell, int(arguments[1]), int(arguments[2]))
    except (cl.Error, MaceCacheError, OSError) as error:
        tell(failed=" ".join(str(error).split()))
        sys.exit(0)
    tell(doing="ending its process", well=True)


def _list(tell: Any) -> None:
    tell(doing="looking for drivers")
    try:
        platforms = cl.get_platforms()
    except cl.Error:  # the loader's way to say that there is no driver
        return
    for number, platform in enumerate(platforms):
        tell(doing=f"asking {platform.name} for its devices")
        try:
            devices = platform.get_devices()
        except cl.Error:  # a driver without a device
            continue
        for index, device in enumerate(devices):
            name = f"{device.name.strip()}, {platform.name} {device.driver_version.strip()}"
            tell(device=name, platform=platform.name, place=[number, index])


def _try(tell: Any, platform: int, index: int) -> None:
    tell(doing="opening the device")
    device = cl.get_platforms()[platform].get_devices()[index]
    context = cl.Context([device])
    tell(doing="identifying the device")
    fingerprint(device)
    tell(doing="building a program")
    program, _seconds = opencl.build_from_source(context, _KERNEL)
    tell(doing="launching a kernel")
    _launch(context, program)
    tell(doing="taking the binary")
    binaries = opencl.fetch_binaries(program, [device])
    tell(doing="loading the binary back")
    options = opencl.driver_options(context, None)
    loaded = opencl.load_from_binaries(context, [device], binaries, options)
    tell(doing="launching the loaded kernel")
    _launch(context, loaded)


def _launch(context: cl.Context, program: cl.Program) -> None:
    numbers = np.arange(4, dtype=np.int32)
    flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
    with cl.CommandQueue(context) as queue:
        buffer = cl.Buffer(context, flags, hostbuf=numbers)
        cl.Kernel(program, "mace_cache_doctor")(queue, numbers.shape, None, buffer)
        found = np.empty_like(numbers)
        cl.enqueue_copy(queue, found, buffer)
    if found.tolist() != [0, 3, 6, 9]:
        raise OSError(f"the kernel's results are wrong: {found.tolist()}")
